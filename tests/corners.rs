//! The duplicate rule's corners, tombstones, orphans and the quarantine, through the whole dataflow: with any number of
//! workers and any size of epochs the same comes out.

use serde_json::Value;
use tarn::config::{Config, SourceKind};
use tarn::dataflow::ShardConfig;
use tarn::dataflow::counters::read;
use tarn::model::{IgnoredReason, Position, RejectReason};
use tarn::service::{Service, Time, start};

use crate::support::engine::{Given, Run, Setup, run};

const T: i64 = 1_795_416_443_785;
const TOPIC: &str = "outbox.event.kessel.resources";
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// A resource id made at `ms`.
fn resource(ms: i64, tail: u64) -> String {
    format!("{:08x}-{:04x}-7000-9000-{tail:012x}", ms >> 16, ms & 0xffff)
}

/// A report or delete whose id says `id_ms`, written at `ts`.
#[derive(Clone)]
struct Event {
    id: String,
    operation: &'static str,
    id_ms: i64,
    ts: i64,
    tail: u64,
    topic: &'static str,
    partition: i32,
    data: Option<String>,
    workspace: Option<&'static str>,
    local_id: String,
}

fn event(id: &str, operation: &'static str, ms: i64, said: impl ToString) -> Event {
    Event {
        id: id.to_owned(),
        operation,
        id_ms: ms,
        ts: ms,
        tail: 1,
        topic: TOPIC,
        partition: 0,
        data: Some(said.to_string()),
        workspace: Some("w"),
        local_id: format!("local-{id}"),
    }
}

impl Event {
    fn at(self, ts: i64) -> Self {
        Self { ts, ..self }
    }
    fn of(self, topic: &'static str, partition: i32) -> Self {
        Self { topic, partition, ..self }
    }
    fn keyed(self, local_id: &str) -> Self {
        Self { local_id: local_id.to_owned(), ..self }
    }

    fn given(&self) -> Given {
        let event_id = format!("{:08x}-{:04x}-7fff-8000-{:012x}", self.id_ms >> 16, self.id_ms & 0xffff, self.tail);
        let value = if self.operation == "deleted" {
            "{}".to_owned()
        } else {
            let mut metadata = serde_json::json!({"id": self.id, "resource_type": "host"});
            if let Some(workspace) = self.workspace {
                metadata["workspace_id"] = workspace.into();
            }
            let reporter = serde_json::json!({"reporter_type": "hbi", "reporter_instance_id": "i",
                "local_resource_id": self.local_id});
            let mut data = serde_json::json!({"metadata": metadata, "reporter_data": reporter});
            if let Some(said) = &self.data {
                data["resource_data"] = serde_json::json!({"said": said});
            }
            serde_json::json!({"specversion": "1.0", "data": data, "subject": "",
                "type": format!("redhat.inventory.resources.host.{}", self.operation)})
            .to_string()
        };
        Given {
            topic: self.topic.to_owned(),
            partition: self.partition,
            offset: 0,
            timestamp_ms: self.ts,
            headers: vec![("id".to_owned(), Some(event_id)), ("operation".to_owned(), Some(self.operation.to_owned()))],
            key: Some(self.id.clone()),
            value: Some(value.into_bytes()),
        }
    }
}

/// Offsets in order of arrival, a partition each.
fn numbered(records: impl IntoIterator<Item = Given>) -> Vec<Given> {
    let mut next = std::collections::BTreeMap::new();
    let with_offset = |mut record: Given| {
        let slot = next.entry((record.topic.clone(), record.partition)).or_insert(0);
        record.offset = *slot;
        *slot += 1;
        record
    };
    records.into_iter().map(with_offset).collect()
}

/// Runs the events with several numbers of workers and sizes of epochs; the last views must agree.
fn everywhere(events: &[Event], shard: ShardConfig) -> Run {
    everywhere_of(numbered(events.iter().map(Event::given)), shard)
}

fn everywhere_of(records: Vec<Given>, shard: ShardConfig) -> Run {
    let mut first: Option<Run> = None;
    for workers in [1, 2, 4] {
        for epoch_records_max in [1, 2, 3, 1_000] {
            let setup = Setup { workers, epoch_records_max, shard, ..Setup::default() };
            let run = run(records.clone(), &setup);
            let entries = |run: &Run| -> Vec<String> {
                run.last()
                    .quarantine()
                    .iter()
                    .map(|entry| format!("{:?} {:?}", entry.reject.id, entry.status))
                    .collect()
            };
            if let Some(first) = &first {
                let what = format!("{workers} workers, epochs of {epoch_records_max}");
                assert_eq!(first.live(first.last()), run.live(run.last()), "{what}");
                assert_eq!(entries(first), entries(&run), "{what}");
            } else {
                first = Some(run);
            }
        }
    }
    first.expect("several were run")
}

fn said(run: &Run, id: &str) -> Option<String> {
    let live = run.live(run.last());
    live.get(id).map(|resource| resource["data"]["said"].as_str().unwrap_or("nothing").to_owned())
}

fn ignored(run: &Run, reason: IgnoredReason) -> u64 {
    read(run.counters.ignored(reason))
}

#[test]
fn a_log_that_begins_in_the_middle_of_a_life_and_then_replays() {
    let id = resource(T - DAY, 1);
    let first_part: Vec<Event> = (0..5).map(|n| event(&id, "updated", T + n * 1_000, n)).collect();
    let again = first_part.iter().map(|event| event.clone().at(T + HOUR));
    // What comes from before the log's beginning by more than the tolerance is older than anything known.
    let older = event(&id, "updated", T - HOUR, "older").at(T + HOUR);
    let log: Vec<Event> = first_part.iter().cloned().chain(again).chain([older]).collect();
    let run = everywhere(&log, ShardConfig::default());
    assert_eq!(said(&run, &id).as_deref(), Some("4"));
    assert_eq!(ignored(&run, IgnoredReason::Duplicate), 5);
    assert_eq!(ignored(&run, IgnoredReason::BelowFloor), 1);
}

#[test]
fn an_id_from_the_future_does_not_shut_out_the_present() {
    let id = resource(T - DAY, 1);
    let mut log = vec![event(&id, "created", T, "first"), event(&id, "updated", T + 10 * DAY, "future").at(T + 1_000)];
    log.extend((2..40).map(|n| event(&id, "updated", T + n * 1_000, n)));
    let replay = log.clone();
    log.extend(replay.into_iter().map(|event| event.at(T + HOUR)));
    let run = everywhere(&log, ShardConfig::default());
    assert_eq!(said(&run, &id).as_deref(), Some("39"), "later reports count, and the replay changes nothing");
}

#[test]
fn an_id_from_the_future_that_is_met_first_does_not_shut_out_the_present() {
    let id = resource(T - DAY, 1);
    for first in ["created", "updated", "deleted"] {
        let log =
            [event(&id, first, T + 60_000, "future").at(T), event(&id, "updated", T - 1_500, "present").at(T + 500)];
        let run = everywhere(&log, ShardConfig::default());
        assert_eq!(said(&run, &id).as_deref(), Some("present"), "after {first}");
        let elsewhere = [log[0].clone(), log[1].clone().of(TOPIC, 1)];
        let run = everywhere(&elsewhere, ShardConfig::default());
        assert_eq!(said(&run, &id).as_deref(), Some("present"), "after {first}, from another partition");
    }
}

#[test]
fn timestamps_that_are_none_do_not_judge_ids() {
    let id = resource(T - DAY, 1);
    for ts in [-1, 0, 1_000] {
        let mut log = vec![event(&id, "created", T, "first").at(ts)];
        log.extend((1..71).map(|n| event(&id, "updated", T + n * 1_000, n).at(ts)));
        let replay: Vec<Event> = log[..66].to_vec();
        log.extend(replay);
        let run = everywhere(&log, ShardConfig::default());
        assert_eq!(said(&run, &id).as_deref(), Some("70"), "timestamp {ts}");
    }
    let log = [event(&id, "updated", T, "new").at(1_000), event(&id, "updated", T - HOUR, "old").at(1_000)];
    assert_eq!(said(&everywhere(&log, ShardConfig::default()), &id).as_deref(), Some("new"));
}

#[test]
fn a_partition_added_with_a_backlog_behind_it() {
    let id = resource(T - DAY, 1);
    let log = [
        event(&id, "created", T, "first"),
        event(&id, "updated", T + HOUR, "newest").of(TOPIC, 1),
        event(&id, "updated", T + 60_000, "backlog"),
        event(&id, "deleted", T + 61_000, ""),
    ];
    let run = everywhere(&log, ShardConfig::default());
    assert_eq!(said(&run, &id).as_deref(), Some("newest"));
    assert_eq!(ignored(&run, IgnoredReason::StaleBacklog), 2);
}

#[test]
fn what_two_partitions_say_does_not_depend_on_epochs() {
    let id = resource(T - DAY, 1);
    let log = [event(&id, "created", T, "older").of(TOPIC, 1), event(&id, "updated", T + 5_000, "newer")];
    assert_eq!(said(&everywhere(&log, ShardConfig::default()), &id).as_deref(), Some("newer"));
    let log = [
        event(&id, "created", T, "older").of(TOPIC, 1),
        event(&id, "deleted", T + 1_000, "").of(TOPIC, 1),
        event(&id, "updated", T + 5_000, "newer"),
    ];
    assert_eq!(said(&everywhere(&log, ShardConfig::default()), &id).as_deref(), Some("newer"));
}

#[test]
fn a_topic_that_was_renamed_begins_its_offsets_again() {
    let id = resource(T - DAY, 1);
    let old: Vec<Event> =
        (0..10).map(|n| event(&id, if n == 0 { "created" } else { "updated" }, T + n * 1_000, n)).collect();
    let copied = old.iter().map(|event| event.clone().of("renamed.resources", 0).at(T + HOUR));
    let new = event(&id, "updated", T + HOUR, "after the renaming").of("renamed.resources", 0);
    let log: Vec<Event> = old.iter().cloned().chain(copied).chain([new]).collect();
    let run = everywhere(&log, ShardConfig::default());
    assert_eq!(said(&run, &id).as_deref(), Some("after the renaming"));
    assert_eq!(ignored(&run, IgnoredReason::Duplicate), 10);
}

#[test]
fn a_busy_resource_whose_writers_clocks_are_two_seconds_apart() {
    let id = resource(T - DAY, 1);
    let mut log = vec![event(&id, "created", T, "first")];
    for n in 1..400_i64 {
        // One writer is right, the other two seconds behind; both are to be heard.
        let behind = if n % 2 == 0 { 2_000 } else { 0 };
        log.push(Event { tail: n as u64, ..event(&id, "updated", T + n * 100 - behind, n).at(T + n * 100) });
    }
    let suffix: Vec<Event> = log[200..].iter().map(|event| event.clone().at(T + HOUR)).collect();
    log.extend(suffix);
    let run = everywhere(&log, ShardConfig::default());
    assert_eq!(said(&run, &id).as_deref(), Some("399"));
    assert_eq!(ignored(&run, IgnoredReason::Duplicate) + ignored(&run, IgnoredReason::BelowFloor), 200);
}

#[test]
fn a_log_that_ends_inside_a_replay() {
    let id = resource(T - DAY, 1);
    let lives = [
        event(&id, "created", T, "first"),
        event(&id, "updated", T + 1_000, "second"),
        event(&id, "deleted", T + 2_000, ""),
        event(&id, "updated", T + 3_000, "second life"),
    ];
    for replayed in 1..4 {
        let again = lives[..replayed].iter().map(|event| event.clone().at(T + HOUR));
        let log: Vec<Event> = lives.iter().cloned().chain(again).collect();
        assert_eq!(said(&everywhere(&log, ShardConfig::default()), &id).as_deref(), Some("second life"), "{replayed}");
    }
}

#[test]
fn a_tombstone_is_forgotten_when_its_time_is_over_and_not_before() {
    let (id, other) = (resource(T - DAY, 1), resource(T - DAY, 2));
    let shard = ShardConfig { tombstone_retention_ms: 7 * DAY as u64, ..ShardConfig::default() };
    let lives = [event(&id, "created", T, "first"), event(&id, "deleted", T + 1_000, "")];
    for (later, remembered) in [(6 * DAY, true), (8 * DAY, false)] {
        let again = event(&id, "created", T, "first").at(T + later + 1_000);
        let between = event(&other, "created", T + later, "other");
        let log: Vec<Event> = lives.iter().cloned().chain([between, again]).collect();
        let run = everywhere(&log, shard);
        assert_eq!(said(&run, &id).is_none(), remembered, "a replay after {later} ms");
        assert_eq!(read(&run.counters.tombstones_expired), u64::from(!remembered));
    }
}

#[test]
fn the_newest_holder_of_a_reporter_key_is_current_also_when_it_is_deleted() {
    let (old, new) = (resource(T - 2 * DAY, 1), resource(T - DAY, 2));
    let both = [event(&old, "created", T, "old").keyed("k"), event(&new, "created", T + 1_000, "new").keyed("k")];
    let orphan_of = |run: &Run, id: &str| run.live(run.last()).get(id).and_then(|one| one.get("orphanedBy").cloned());
    let run = everywhere(&both, ShardConfig::default());
    assert_eq!(orphan_of(&run, &old), Some(Value::from(new.clone())));
    assert_eq!(orphan_of(&run, &new), None);
    let deleted: Vec<Event> = both.iter().cloned().chain([event(&new, "deleted", T + 2_000, "").keyed("k")]).collect();
    let run = everywhere(&deleted, ShardConfig::default());
    assert_eq!(orphan_of(&run, &old), Some(Value::from(new.clone())), "deleting the current one leaves none current");
    // The other order: the older id is met later.
    let run = everywhere(&[both[1].clone(), both[0].clone()], ShardConfig::default());
    assert_eq!(orphan_of(&run, &old), Some(Value::from(new)));
}

#[test]
fn who_held_a_reporter_key_stays_a_holder_of_it() {
    let (old, new) = (resource(T - 2 * DAY, 1), resource(T - DAY, 2));
    let log = [
        event(&old, "created", T, "old").keyed("k1"),
        event(&new, "created", T + 1_000, "new").keyed("k1"),
        event(&new, "updated", T + 2_000, "moved").keyed("k2"),
    ];
    let run = everywhere(&log, ShardConfig::default());
    let live = run.live(run.last());
    assert_eq!(live[&old]["orphanedBy"], Value::from(new.clone()), "never again a resource of its own");
    assert_eq!((live[&new].get("orphanedBy"), &live[&new]["data"]["said"]), (None, &Value::from("moved")));
    let revived: Vec<Event> =
        [event(&new, "deleted", T + 3_000, ""), event(&new, "updated", T + 4_000, "second life").keyed("k3")]
            .into_iter()
            .collect();
    let run = everywhere(&log.iter().cloned().chain(revived).collect::<Vec<_>>(), ShardConfig::default());
    assert_eq!(run.live(run.last())[&old]["orphanedBy"], Value::from(new));
}

#[test]
fn a_tombstone_that_orphans_depend_on_stays_until_they_are_gone() {
    let shard = ShardConfig { tombstone_retention_ms: DAY as u64, ..ShardConfig::default() };
    let (old, new) = (resource(T - 2 * DAY, 1), resource(T - DAY, 2));
    let tick = |ms: i64| event(&resource(T, 9), "updated", T + ms, ms).at(T + ms);
    let mut log = vec![
        event(&old, "created", T, "old").keyed("k"),
        event(&new, "created", T + 1_000, "new").keyed("k"),
        event(&new, "deleted", T + 2_000, "").keyed("k"),
        tick(2 * DAY),
        tick(3 * DAY),
    ];
    let run = everywhere(&log, shard);
    assert_eq!(run.live(run.last())[&old]["orphanedBy"], Value::from(new), "its tombstone is pinned");
    assert_eq!(read(&run.counters.tombstones_expired), 0);
    log.extend([
        event(&old, "deleted", T + 3 * DAY + 1_000, "").keyed("k"),
        tick(5 * DAY),
        tick(6 * DAY),
        tick(7 * DAY),
    ]);
    let run = everywhere(&log, shard);
    assert_eq!(run.last().census().deleted, 0, "both tombstones are forgotten in the end");
    assert_eq!(read(&run.counters.tombstones_expired), 2);
}

#[test]
fn records_below_the_resume_position_were_read_before() {
    let id = resource(T - DAY, 1);
    let log: Vec<Event> = (0..10).map(|n| event(&id, "updated", T + n * 1_000, n)).collect();
    let mut resume = Position::default();
    resume.advance(&TOPIC.into(), 0, 7);
    let run = run(numbered(log.iter().map(Event::given)), &Setup { resume, ..Setup::default() });
    assert_eq!(ignored(&run, IgnoredReason::AlreadyRead), 7);
    assert_eq!(said(&run, &id).as_deref(), Some("9"));
    assert_eq!(run.last().position().next_offset(TOPIC, 0), Some(10));
}

/// The same event with a value that cannot be read.
fn broken(event: &Event) -> Given {
    Given { value: Some(b"{\"specversion\":".to_vec()), ..event.given() }
}

#[test]
fn an_entry_clears_by_a_delete_or_a_whole_report_and_a_partial_one_marks_it() {
    let id = resource(T - DAY, 1);
    let good = event(&id, "updated", T + 5_000, "good");
    let partial = Event { data: None, tail: 2, ..good.clone() };
    let delete = event(&id, "deleted", T + 5_000, "");
    let open = |after: &[&Event]| -> Vec<&'static str> {
        let bad = event(&id, "updated", T, "bad");
        let records = [broken(&bad)].into_iter().chain(after.iter().map(|event| event.given()));
        let run = everywhere_of(numbered(records), ShardConfig::default());
        run.last().quarantine().iter().map(|entry| entry.status.as_str()).collect()
    };
    assert_eq!(open(&[]), ["open"]);
    assert_eq!(open(&[&partial]), ["partly superseded"]);
    assert!(open(&[&good]).is_empty() && open(&[&delete]).is_empty() && open(&[&partial, &good]).is_empty());
    let stranger = event(&resource(T - DAY, 2), "updated", T + 5_000, "other");
    assert_eq!(open(&[&stranger]), ["open"]);
}

#[test]
fn a_replayed_reject_makes_no_second_entry_and_a_damaged_redelivery_makes_none() {
    let ids: Vec<String> = (1..7).map(|tail| resource(T - DAY, tail)).collect();
    // Six records with one header id: each resource has an entry, and a replay adds none.
    let rejects: Vec<Given> = ids.iter().map(|id| broken(&event(id, "updated", T, "bad"))).collect();
    let twice = rejects.iter().chain(&rejects).cloned();
    let run = everywhere_of(numbered(twice), ShardConfig::default());
    assert_eq!(run.last().quarantine().len(), 6);
    assert_eq!(read(&run.counters.rejected_again), 6);
    let good = event(&ids[0], "created", T, "good");
    let run = everywhere_of(numbered([good.given(), broken(&good)]), ShardConfig::default());
    assert!(run.last().quarantine().is_empty(), "the event was folded before it came again in pieces");
    assert_eq!(ignored(&run, IgnoredReason::Duplicate), 1);
}

#[test]
fn rejects_of_rows_and_strings_know_whom_they_are_about() {
    let id = resource(T - DAY, 1);
    let good = event(&id, "updated", T + 5_000, "good");
    let row_id = "01a20728-cb89-7978-b430-a1ace1ebe8c8";
    let row = format!(
        r#"{{"id":"{row_id}","aggregatetype":"kessel.resources","aggregateid":"{id}","operation":"updated","payload":"{{\"specversion\":\"1.0\"}}"}}"#
    );
    let event = serde_json::json!({"id": row_id, "specversion": "2.0", "data": {"metadata": {"id": id}}}).to_string();
    let string = Value::from(event.clone()).to_string();
    let table = serde_json::json!({"schema": {"name": "io.debezium.data.Json"}, "payload": event}).to_string();
    for value in [row, string, table] {
        let bad = Given { headers: vec![], key: None, value: Some(value.clone().into_bytes()), ..good.given() };
        let run = everywhere_of(numbered([bad.clone(), bad.clone()]), ShardConfig::default());
        let entries = run.last().quarantine();
        assert_eq!(entries.len(), 1, "{value}");
        let reject = &entries[0].reject;
        assert_eq!(reject.id.map(|id| id.to_string()).as_deref(), Some(&*id), "{value}");
        assert_eq!(reject.event_id.map(|id| id.to_string()).as_deref(), Some(row_id), "{value}");
        let run = everywhere_of(numbered([bad, good.given()]), ShardConfig::default());
        assert!(run.last().quarantine().is_empty(), "a later good event clears it: {value}");
    }
}

/// A log of these records, replayed; `order` puts the fields of a line. A `¤` becomes the bytes `broken`.
fn replayed(records: &[Given], order: fn(&Value) -> String, broken: &[u8]) -> Service {
    let mut log = Vec::new();
    for record in numbered(records.iter().cloned()) {
        let headers: Vec<Value> = record
            .headers
            .iter()
            .flat_map(|(name, value)| [Value::from(name.as_str()), value.clone().into()])
            .collect();
        let payload = record.value.map(|value| String::from_utf8(value).expect("text"));
        let line = serde_json::json!({"topic": record.topic, "partition": record.partition, "offset": record.offset,
            "ts": record.timestamp_ms, "headers": headers, "key": record.key, "payload": payload});
        let line = order(&line);
        for (index, part) in line.split('¤').enumerate() {
            log.extend_from_slice(if index > 0 { broken } else { &[] });
            log.extend_from_slice(part.as_bytes());
        }
        log.push(b'\n');
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.ndjson");
    std::fs::write(&path, log).expect("room");
    let mut config = Config::default();
    config.views.directory.clear();
    config.source.kind = SourceKind::Log;
    config.source.log.path = path.display().to_string();
    let (service, running) = start(config, Time::Log, tarn::snapshot::Verification::OnThread).expect("it starts");
    running.join().expect("it ends");
    service
}

fn as_kcat_does(line: &Value) -> String {
    let fields = ["topic", "partition", "offset", "ts", "headers", "key", "payload"];
    let fields = fields.map(|name| format!("\"{name}\":{}", line[name]));
    format!("{{{}}}", fields.join(","))
}

#[test]
fn a_broken_byte_in_a_line_hides_neither_its_key_nor_its_header_id() {
    let id = resource(T - DAY, 1);
    let good = event(&id, "updated", T, "good").given();
    let delete = event(&id, "deleted", T + 5_000, "").given();
    let in_payload = event(&id, "updated", T, "a¤b").given();
    let mut in_header = good.clone();
    in_header.headers.insert(0, ("other".to_owned(), Some("¤".to_owned())));
    let in_key = Given { key: Some(format!("{id}¤")), ..good.clone() };
    for (bad, is_readable) in [(&in_payload, true), (&in_header, true), (&in_key, false)] {
        for broken in [b"\xff".as_slice(), b"\xc0\xaf", b"\xe2\x82", b"\\ud800"] {
            for order in [as_kcat_does, Value::to_string] {
                let what = format!("{broken:x?} in {bad:?}");
                let service = replayed(&[bad.clone(), bad.clone()], order, broken);
                let entries = service.publisher.view().quarantine();
                assert_eq!(entries.len(), 1, "{what}");
                let reject = &entries[0].reject;
                assert_eq!(reject.reason, RejectReason::InvalidText, "{what}");
                assert_eq!(reject.id.map(|id| id.to_string()), is_readable.then(|| id.clone()), "{what}");
                let event_id = reject.event_id.map(|id| id.to_string());
                assert_eq!(event_id, good.headers[0].1, "{what}");
                assert_eq!(read(&service.counters.rejected_again), 1, "{what}");
                let service = replayed(&[bad.clone(), delete.clone()], order, broken);
                assert_eq!(service.publisher.view().quarantine().is_empty(), is_readable, "{what}");
            }
        }
    }
}
