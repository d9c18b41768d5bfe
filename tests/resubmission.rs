//! Records of the quarantine, submitted again: applied as if they had come late, once, in their order; superseded ones
//! refused; none lost whenever the process is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::Value;
use tarn::durable::{Durable, Machine};
use tarn::model::{Coordinates, EventOrder, QuarantineEntry, QuarantineStatus, Reject, ResourceId, Topics};
use tarn::snapshot::StoreKind;

use crate::command_line::{Process, addresses, run};
use crate::durable::{drain, everything, log, replayed, serve};
use crate::property::number;
use crate::served::{Answer, Served, Setup, eventually, get, hosts, parse, rest};

const LIST: &str = "/api/tarn/v1/quarantine";

/// `POST path`, on a connection of its own; none when it is cut off, or nobody listens any more.
fn try_post(address: SocketAddr, path: &str) -> Option<Answer> {
    let request = format!("POST {path} HTTP/1.1\r\nHost: tarn\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    // It may be killed before it has read all of it.
    drop(std::io::Write::write_all(&mut stream, request.as_bytes()));
    parse(&rest(&stream))
}

fn post(address: SocketAddr, path: &str) -> Answer {
    try_post(address, path).unwrap_or_else(|| panic!("{path} is answered"))
}

/// Everything in the quarantine by id: whether it is open, and its resource.
fn entries(readers: SocketAddr) -> BTreeMap<String, (bool, Option<String>)> {
    let list = get(readers, &format!("{LIST}?limit=1000")).json();
    assert_eq!(list["nextPageToken"], Value::Null, "one page holds all");
    let of = |entry: &Value| {
        let resource = entry["resourceId"].as_str().map(str::to_owned);
        (entry["id"].as_str().expect("an id").to_owned(), (entry["status"] == "open", resource))
    };
    list["items"].as_array().expect("a list").iter().map(of).collect()
}

/// Submits a page after the other; what became of each.
fn post_all(operators: SocketAddr, limit: usize) -> BTreeMap<String, String> {
    let (mut became, mut token) = (BTreeMap::new(), String::new());
    loop {
        let answer = post(operators, &format!("{LIST}/replay?limit={limit}{token}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        for item in page["items"].as_array().expect("a list") {
            let text = |name: &str| item[name].as_str().expect("a text").to_owned();
            assert!(became.insert(text("id"), text("outcome")).is_none(), "each once: {item}");
        }
        let Some(next) = page["nextPageToken"].as_str() else { return became };
        token = format!("&pageToken={next}");
    }
}

/// A log, and a limit that about a third of its records are longer than.
fn log_and_limit(folder: &Path) -> (String, String) {
    let log = log(folder, "1200");
    let text = std::fs::read_to_string(&log).expect("a log");
    let mut lengths: Vec<usize> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|record| record["key"].as_str().map_or(0, str::len) + record["payload"].as_str().map_or(0, str::len))
        .collect();
    lengths.sort_unstable();
    (log, lengths[lengths.len() * 2 / 3].to_string())
}

/// A service in which records longer than a limit are rejected.
fn serve_limited(log: &str, data: &Path, limit: &str) -> Command {
    let mut command = serve(log, data);
    command.env("TARN_DECODE__RECORD_BYTES_MAX", limit);
    command
}

fn both(command: &mut Command) -> (Process, SocketAddr, SocketAddr) {
    let mut process = Process::start(command);
    let (readers, operators, rest) = addresses(&mut process);
    drain(rest);
    eventually("the log is read", || get(readers, "/readyz").status == 200);
    (process, readers, operators)
}

/// A resource, but for when it was created: that may have stood in a record that was superseded.
fn but_creation(resource: &Value) -> Value {
    let mut resource = resource.clone();
    resource["createdAt"] = Value::Null;
    resource
}

#[test]
fn what_was_rejected_is_applied_later_in_its_order_and_stays_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let (log, limit) = log_and_limit(folder.path());
    let (expected, _) = replayed(&log, folder.path());
    let (mut process, readers, operators) = both(&mut serve_limited(&log, &data, &limit));
    let rejected = entries(readers);
    let open: BTreeSet<&String> = rejected.iter().filter(|(_, (open, _))| *open).map(|(id, _)| id).collect();
    assert!(open.len() > 100 && open.len() < rejected.len(), "{} of {}", open.len(), rejected.len());
    // With the same limit they are rejected again, and stay.
    let became = post_all(operators, 1_000);
    assert_eq!(became.keys().collect::<Vec<_>>(), rejected.keys().collect::<Vec<_>>());
    let outcomes: BTreeSet<&str> = became.values().map(String::as_str).collect();
    assert_eq!(outcomes, ["rejectedAgain", "superseded"].into());
    assert_eq!(entries(readers), rejected);
    let offset = |id: &&&String| id.rsplit(':').next().and_then(|offset| offset.parse::<i64>().ok());
    let one = *open.iter().min_by_key(offset).expect("one");
    assert_eq!(post(operators, &format!("{LIST}/{one}/replay")).status, 422);
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));

    let (mut process, readers, operators) = both(&mut serve(&log, &data));
    assert_eq!(entries(readers), rejected, "the quarantine is what it was");
    let answer = post(operators, &format!("{LIST}/{one}/replay"));
    assert_eq!((answer.status, answer.json()["outcome"].as_str()), (200, Some("applied")), "{answer:?}");
    assert_eq!(post(operators, &format!("{LIST}/{one}/replay")).status, 409, "once");
    let became = post_all(operators, 7);
    let not_applied = open.iter().filter(|id| **id != one && became[**id] != "applied");
    let poison: Vec<&&String> = not_applied.inspect(|id| assert_eq!(became[**id], "rejectedAgain", "{id}")).collect();
    assert!(poison.len() < open.len() / 10, "{poison:?} are no events at all");
    let found = everything(readers);
    let mut compared = 0;
    for (_, resource) in rejected.values().filter(|(open, _)| *open) {
        let id = resource.as_deref().unwrap_or_default();
        assert_eq!(found.get(id).map(but_creation), expected.get(id).map(but_creation), "{id}");
        compared += usize::from(found.contains_key(id));
    }
    assert!(compared > 50, "{compared}");
    let after = entries(readers);
    process.0.kill().expect("it is there");
    process.0.wait().expect("it is ours");
    let (_process, readers, operators) = both(&mut serve(&log, &data));
    assert_eq!((everything(readers), entries(readers)), (found, after));
    for (path, status) in [("outbox.event.kessel.resources:0:999999", 404), ("x", 400), ("t:0:x", 400), (one, 409)] {
        assert_eq!(post(operators, &format!("{LIST}/{path}/replay")).status, status, "{path}");
    }
    assert_eq!(post(operators, &format!("{LIST}/replay?reason=hunger")).status, 400);
    assert_eq!(post(readers, &format!("{LIST}/replay")).status, 404, "operators only");
}

/// Killed again and again while records are submitted: what was answered is so for ever, and nothing else is lost.
fn submitted_while_killed(seed: u64, snapshot_interval_ms: &str) {
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let (log, limit) = log_and_limit(folder.path());
    let timed = |command: &mut Command| {
        command.env("TARN_SNAPSHOT__INTERVAL_MS", snapshot_interval_ms);
        both(command)
    };
    let (mut process, readers, _) = timed(&mut serve_limited(&log, &data, &limit));
    let rejected = entries(readers);
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
    let (expected, _) = replayed(&log, folder.path());
    let mut answered: BTreeSet<String> = BTreeSet::new();
    for _ in 0..number("TARN_KILLS").unwrap_or(8) {
        let (mut process, readers, operators) = timed(&mut serve(&log, &data));
        let there = entries(readers);
        let again: Vec<&String> = answered.iter().filter(|id| there.contains_key(*id)).collect();
        assert!(again.is_empty(), "seed {seed}: applied, and in the quarantine again: {again:?}");
        let killer = random.random_range(0..400);
        let pid = rustix::process::Pid::from_child(&process.0);
        let killing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(killer));
            rustix::process::kill_process(pid, Signal::KILL).expect("it is there");
        });
        let open: Vec<&String> = there.iter().filter(|(_, (open, _))| *open).map(|(id, _)| id).collect();
        for id in open.iter().take(random.random_range(1..40)) {
            let Some(answer) = try_post(operators, &format!("{LIST}/{id}/replay")) else { break };
            if answer.json()["outcome"] == "applied" {
                answered.insert((*id).clone());
            }
        }
        killing.join().expect("no panic");
        process.0.wait().expect("it is ours");
    }
    let (_process, readers, operators) = timed(&mut serve(&log, &data));
    let became = post_all(operators, 1_000);
    assert!(became.keys().all(|id| !answered.contains(id)), "seed {seed}: applied twice");
    let found = everything(readers);
    for (_, resource) in rejected.values().filter(|(open, _)| *open) {
        let id = resource.as_deref().unwrap_or_default();
        assert_eq!(found.get(id).map(but_creation), expected.get(id).map(but_creation), "seed {seed}: {id}");
    }
    assert!(!answered.is_empty(), "seed {seed}: some were answered");
}

#[test]
fn a_kill_loses_no_submitted_record_with_snapshots_or_without() {
    let seed = number("TARN_SEED").unwrap_or_else(rand::random);
    println!("TARN_SEED={seed} cargo test --test it resubmission");
    submitted_while_killed(seed, "30");
    submitted_while_killed(seed, "3600000");
}

#[test]
fn newer_events_supersede_and_what_is_not_whole_is_refused() {
    let mut setup = Setup::default();
    setup.config.decode.reject_bytes_max = 2_000;
    let (served, feed) = Served::fed(setup);
    let mut offset = 0;
    let mut send = |mut record: tarn::generate::Generated, break_it: bool| -> String {
        record.offset = offset;
        offset += 1;
        if break_it {
            record
                .headers
                .iter_mut()
                .filter(|(name, _)| *name == "operation")
                .for_each(|(_, value)| *value = Some("sung".to_owned()));
        }
        let id = format!("{}:0:{}", record.topic, record.offset);
        feed.send(record).expect("it listens");
        id
    };
    let made = hosts(3);
    // Cleared by a whole report.
    let cleared = send(made[0].clone(), true);
    send(made[0].clone(), false);
    // Its resource lives on, and the record is too long to be kept.
    let mut long = made[1].clone();
    long.value = long.value.map(|value| value + &" ".repeat(3_000));
    let cut = send(long, true);
    // Nobody mends it.
    let mut short = made[2].clone();
    short.value = Some("{}".to_owned());
    let broken = send(short, true);
    eventually("all is read", || served.service.publisher.view().position().next_offset(made[0].topic, 0) == Some(4));
    for (id, status, words) in [(&cleared, 409, "superseded"), (&cut, 422, "reject_bytes_max"), (&broken, 422, "again")]
    {
        let answer = post(served.operators, &format!("{LIST}/{id}/replay"));
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(words), "{answer:?}");
    }
    let page = post(served.operators, &format!("{LIST}/replay?limit=1")).json();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
    assert!(page["nextPageToken"].is_string() && page["items"][0]["outcome"] == "notWhole", "{page}");
}

/// A state that was brought from elsewhere has met its rejects, wherever the log that it reads now ends.
#[test]
fn a_record_need_not_stand_in_the_log_that_is_read_now() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, other) = (folder.path().join("data"), folder.path().join("other"));
    let (log, limit) = log_and_limit(folder.path());
    let (mut process, readers, _) = both(&mut serve_limited(&log, &data, &limit));
    let rejected = entries(readers);
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
    let export = folder.path().join("state.ndjson");
    let name = |path: &Path| path.display().to_string();
    assert!(run(&["snapshot", "export", &name(&data), &name(&export)]).status.success());
    let lines = std::fs::read_to_string(&export).expect("an export");
    let (header, rest) = lines.split_once('\n').expect("a header");
    let mut header: Value = serde_json::from_str(header).expect("JSON");
    header["position"] = Value::Array(Vec::new());
    std::fs::write(&export, format!("{header}\n{rest}")).expect("room");
    let imported = run(&["snapshot", "import", &name(&export), &name(&other)]);
    assert!(imported.status.success(), "{imported:?}");
    let short = folder.path().join("short.ndjson");
    let text = std::fs::read_to_string(&log).expect("a log");
    let first: Vec<&str> = text.lines().take(100).collect();
    std::fs::write(&short, first.join("\n") + "\n").expect("room");
    let (_process, _, operators) = both(&mut serve(&name(&short), &other));
    let beyond = |id: &&String| id.rsplit(':').next().and_then(|offset| offset.parse::<u64>().ok()) > Some(200);
    let open = rejected.iter().filter(|(_, (open, _))| *open).map(|(id, _)| id);
    for id in open.filter(beyond).take(20) {
        let answer = post(operators, &format!("{LIST}/{id}/replay"));
        assert!(matches!(answer.status, 200 | 409 | 422), "nothing waits: {answer:?}");
    }
}

/// The journal as the first version wrote it, read for ever after: `TARN_WRITE_FIXTURE=1 cargo test --test it resubmission`
/// writes it where there is none.
#[test]
fn a_journal_of_the_first_version_is_read() {
    let fixture = Path::new("tests/fixtures/resubmitted-1/resubmitted-000001.log");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let opened = || {
        let topics = Topics::default();
        // A topic that had another number then.
        topics.intern("another");
        let (durable, _) = Durable::open(&data, Machine::here(StoreKind::Files), &topics).expect("it opens");
        (durable.resubmissions(), topics)
    };
    let entry = |topics: &Topics, offset: i64| {
        let topic = topics.intern(hosts(1)[0].topic).expect("room");
        let coordinates = Coordinates { topic, partition: 3, offset };
        let reject = Reject {
            id: ResourceId::parse("019ba0c4-5f6e-7c11-9c52-000000000001").ok(),
            event_id: None,
            event_id_text: Some("an id".into()),
            order: EventOrder { coordinates, arrival: 7 },
            observed_ms: 1_795_000_000_000,
            reason: tarn::model::RejectReason::RecordTooLarge,
            detail: "too large".into(),
            key: Some(b"key".as_slice().into()),
            value: None,
            headers: vec![("name".into(), Some(b"value".as_slice().into())), ("none".into(), None)],
            total_bytes: 3,
        };
        Arc::new(QuarantineEntry { reject, status: QuarantineStatus::Open, first_seen: 1_795_000_000_009 })
    };
    if std::env::var_os("TARN_WRITE_FIXTURE").is_some() && !fixture.exists() {
        let (resubmissions, topics) = opened();
        assert_eq!(resubmissions.submit(&[entry(&topics, 10), entry(&topics, 11)]).expect("room"), [0, 1]);
        std::fs::create_dir_all(fixture.parent().expect("a folder")).expect("room");
        std::fs::copy(data.join("resubmitted-000001.log"), fixture).expect("room");
        std::fs::remove_dir_all(&data).expect("ours");
    }
    std::fs::DirBuilder::new().mode(0o700).create(&data).expect("room");
    std::fs::copy(fixture, data.join("resubmitted-000001.log")).expect("it is there");
    let (resubmissions, topics) = opened();
    let batch = resubmissions.queue().take(&topics, |_| true).expect("two records");
    let read: Vec<_> = batch.iter().map(|record| (record.order.coordinates.offset, record.origin.cloned())).collect();
    for (number, (offset, origin)) in read.iter().enumerate() {
        let origin = origin.as_ref().expect("out of the quarantine");
        assert_eq!((*offset, origin.number), (number as i64, number as i64));
        assert_eq!(origin.entry.reject, entry(&topics, 10 + number as i64).reject);
        assert_eq!(origin.entry.first_seen, 1_795_000_000_009);
    }
    assert_eq!(read.len(), 2);
    assert_eq!(resubmissions.submit(&[entry(&topics, 12)]).expect("room"), [2], "numbers go on");
}
