//! Every row that there can be comes back from its line as it was, to the last byte that a snapshot has of it.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::*;
use crate::dataflow::WHILE_PINNED;
use crate::durable::rows::ROWS_VERSION;
use crate::model::{
    Coordinates, EventId, EventOrder, Field, LastEvent, Lifecycle, QuarantineEntry, QuarantineStatus, Reject,
    RejectReason, ResourceId, SeenIds, State, Texts, Timestamp, Uncommon,
};

const EPOCH: u64 = 1_795_000_000_000;

fn resource_id(random: &mut StdRng) -> ResourceId {
    ResourceId::from_uuid(Uuid::from_u128(random.random()))
}

/// Of any version, and texts.
fn event_id(random: &mut StdRng) -> (EventId, Option<&'static str>) {
    if random.random_bool(0.2) {
        let text =
            *["", "order-17", "ü \"\\\u{0}", "{01a20728-cb89-7978-b430-a1ace1ebe8c8}"].choose(random).expect("some");
        return (EventId::of_text(text).0, Some(text));
    }
    (EventId::from_uuid(Uuid::from_u64_pair(random.random(), random.random::<u64>() | 1)).expect("not zero"), None)
}

fn event_ids(random: &mut StdRng, most: usize) -> Vec<EventId> {
    (0..random.random_range(0..=most)).map(|_| event_id(random).0).collect()
}

/// Any that a record can claim.
fn time(random: &mut StdRng) -> Option<Timestamp> {
    match random.random_range(0..5) {
        0 => None,
        1 => Some(Timestamp::from_millis(random.random())),
        2 => Some(Timestamp::from_millis(-62_135_596_800_000)),
        3 => Some(Timestamp::from_millis(*[i64::MIN, i64::MAX, 0].choose(random).expect("some"))),
        _ => Some(Timestamp::from_parts(random.random_range(0..4_000_000_000), random.random_range(0..1_000_000_000))),
    }
}

fn text(random: &mut StdRng) -> Option<&'static str> {
    *[None, Some(""), Some("host"), Some("a \"b\"\\\n\u{0}"), Some("ü\u{2028}😀")].choose(random).expect("some")
}

fn coordinates(random: &mut StdRng, topics: &Topics) -> Coordinates {
    let topic = *["outbox.event.kessel.resources", "(lines)", "t"].choose(random).expect("some");
    let topic = topics.intern(topic).expect("room");
    Coordinates { topic, partition: random.random_range(0..=i32::MAX), offset: random.random_range(0..=i64::MAX) }
}

fn state(random: &mut StdRng, topics: &Topics) -> State {
    let (id, id_text) = event_id(random);
    let has_id = random.random_bool(0.9);
    let data = [None, Some("{}"), Some(r#"{"a":"\"ü\u0000\ud83d\ude00 b","b":[1e400,-0,null,1.10]}"#)];
    let data = *data.choose(random).expect("some");
    let fields = Field::ALL.map(|field| match field {
        Field::EventIdText => id_text.filter(|_| has_id),
        Field::Data => data,
        _ => text(random),
    });
    let key = |random: &mut StdRng| {
        let fields = Field::ALL.map(|field| text(random).filter(|_| crate::model::REPORTER_KEY.contains(&field)));
        Texts::build(fields).expect("short")
    };
    let (recent, future) = (event_ids(random, 20), event_ids(random, 2));
    let floor_ms = *[0, random.random(), u64::MAX - 1].choose(random).expect("some");
    let seen = SeenIds::kept(recent, future, random.random_bool(0.5).then_some(floor_ms));
    let former_keys = (0..random.random_range(0..3)).map(|_| key(random)).collect();
    let first_met_ms = random.random_bool(0.3).then(|| random.random());
    let live = random.random_bool(0.5);
    let (one, other) = (time(random), time(random));
    State {
        id: resource_id(random),
        lifecycle: match live {
            true => Lifecycle::Live { created_at: one, updated_at: other },
            false => Lifecycle::Deleted { deleted_at: one },
        },
        texts: Texts::build(fields).expect("short"),
        last: LastEvent {
            id: has_id.then_some(id),
            coordinates: coordinates(random, topics),
            observed_ms: *[random.random(), 1_790_000_000_000, -1, 0].choose(random).expect("some"),
            epoch: random.random_range(1..=EPOCH),
        },
        seen,
        uncommon: Uncommon::of(first_met_ms, former_keys),
    }
}

fn bytes(random: &mut StdRng) -> Option<Box<[u8]>> {
    let length = random.random_range(0..40);
    random.random_bool(0.7).then(|| (0..length).map(|_| random.random::<u8>()).collect())
}

fn reject(random: &mut StdRng, topics: &Topics) -> Arc<QuarantineEntry> {
    let (id, id_text) = event_id(random);
    let has_id = random.random_bool(0.7);
    let order = EventOrder { coordinates: coordinates(random, topics), arrival: random.random() };
    let statuses = [QuarantineStatus::Open, QuarantineStatus::PartlySuperseded];
    Arc::new(QuarantineEntry {
        reject: Reject {
            id: random.random_bool(0.7).then(|| resource_id(random)),
            event_id: has_id.then_some(id),
            event_id_text: id_text.filter(|_| has_id).map(Box::from),
            order,
            observed_ms: random.random(),
            reason: *RejectReason::ALL.choose(random).expect("some"),
            detail: text(random).unwrap_or("").into(),
            key: bytes(random),
            value: bytes(random),
            headers: (0..random.random_range(0..3))
                .map(|_| (text(random).unwrap_or("h").into(), bytes(random)))
                .collect(),
            total_bytes: random.random(),
        },
        status: *statuses.choose(random).expect("some"),
        first_seen: random.random_range(1..=EPOCH),
    })
}

fn meta() -> RunMeta {
    RunMeta {
        version: ROWS_VERSION,
        epoch: EPOCH,
        position: vec![("outbox.event.kessel.resources".to_owned(), 0, 17), ("t".to_owned(), 3, 0)],
        topics: vec!["t".to_owned()],
        tombstone_retention_ms: 7,
        incarnation: u64::MAX,
        identity: Default::default(),
        incomplete_since_ms: Some(1_795_000_000_000),
        bindings_segment: 4,
    }
}

#[test]
fn a_row_comes_back_from_its_line_to_the_last_byte() {
    let (mut random, topics) = (StdRng::seed_from_u64(1), Topics::default());
    topics.intern("t");
    let mut rows = Vec::new();
    for _ in 0..5_000 {
        rows.push(Row::State(Arc::new(state(&mut random, &topics))));
        let until = *[WHILE_PINNED, random.random()].choose(&mut random).expect("some");
        rows.push(Row::Kept(resource_id(&mut random), until));
        let entry = reject(&mut random, &topics);
        let key = (entry.first_seen, entry.reject.order);
        let resource = random.random_bool(0.5).then(|| resource_id(&mut random));
        rows.push(Row::SeenReject(key, (resource, event_id(&mut random).0)));
        rows.push(Row::InQuarantine(key, entry.status));
        rows.push(Row::Rejected(entry));
    }
    let mut export = header::written(&meta());
    export.push(b'\n');
    let mut count = 1;
    for line in rows.iter().filter_map(|row| lines::written(row, &topics)) {
        export.extend([&line[..], b"\n"].concat());
        count += 1;
    }
    export.extend(lines::end(count));
    let imported = read_all(&mut &export[..], None).expect("it is an export");
    let expected: BTreeMap<_, _> = rows.iter().map(|row| (row.key(), row.value())).collect();
    assert_eq!(imported.rows.len(), expected.len());
    for ((key, row), (expected_key, expected)) in imported.rows.iter().zip(&expected) {
        assert_eq!((key, &row.value()), (expected_key, expected), "{row:?}");
    }
    let RunMeta { incarnation, .. } = imported.meta;
    let expected = RunMeta { incarnation, bindings_segment: 0, topics: topic_names(&topics), ..meta() };
    assert_eq!(imported.meta, expected);
}

#[test]
fn any_cut_and_any_byte_is_read_or_refused() {
    let (mut random, topics) = (StdRng::seed_from_u64(2), Topics::default());
    let row = Row::State(Arc::new(state(&mut random, &topics)));
    let entry = Row::Rejected(reject(&mut random, &topics));
    let lines: Vec<Vec<u8>> = [&row, &entry].into_iter().filter_map(|row| lines::written(row, &topics)).collect();
    let export = [header::written(&meta()), lines[0].clone(), lines[1].clone(), lines::end(3)].join(&b'\n');
    assert!(read_all(&mut &export[..], None).is_ok());
    for end in 0..export.len() {
        assert!(read_all(&mut &export[..end], None).is_err(), "cut off at {end}");
    }
    for _ in 0..20_000 {
        let mut damaged = export.clone();
        let place = random.random_range(0..damaged.len());
        damaged[place] = random.random();
        // Nothing panics; what is still right is nobody's to refuse.
        drop(read_all(&mut &damaged[..], None));
    }
}
