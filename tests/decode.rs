//! Decoding case by case: keys, headers, envelopes, legacy shapes, poison (kessel-events 4.1 and 7, faults M).

use tarn::decode::{Decoded, Decoder, Limits};
use tarn::model::{Coordinates, Event, Field, Operation, Reject, RejectReason, SkipReason, Topics};
use tarn::source::RecordBatch;

const ID: &str = "019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10";

fn decode(headers: &[(&str, Option<&[u8]>)], key: Option<&[u8]>, value: Option<&[u8]>) -> Decoded {
    let topic = Topics::default().intern("t").expect("room");
    let mut batch = RecordBatch::new();
    batch.push_wire(Coordinates { topic, partition: 0, offset: 7 }, 5, key, value, headers.iter().copied());
    let record = batch.iter().next().expect("just pushed");
    let mut decoder = Decoder::new(Limits::default());
    let first = decoder.decode(&record);
    // Once more, with whatever schema it learned: the fast road must say the same.
    assert_eq!(format!("{first:?}"), format!("{:?}", decoder.decode(&record)));
    first
}

fn payload(operation: &str) -> String {
    format!(
        r#"{{"data":{{"metadata":{{"{operation}_at":"2026-11-23T06:47:23.785268Z","id":"{ID}","resource_type":"host","workspace_id":"w"}},"reporter_data":{{"api_href":"a","local_resource_id":"L","reporter_instance_id":"I","reporter_type":"HBI"}},"resource_data":{{"x":1}}}},"id":"bd0fe82a-e709-11f1-ac9f-0242ac110002","specversion":"1.0","subject":"/resources/host/{ID}","time":"2026-11-23T06:47:23.785268Z","type":"redhat.inventory.resources.host.{operation}"}}"#
    )
}

const HEADERS: [(&str, Option<&[u8]>); 2] =
    [("id", Some(b"01a20728-cb89-7978-b430-a1ace1ebe8c8")), ("operation", Some(b"updated"))];

fn event(decoded: Decoded) -> Event {
    match decoded {
        Decoded::Event(event) => event,
        other => panic!("no event: {other:?}"),
    }
}

fn reject(decoded: Decoded) -> Reject {
    match decoded {
        Decoded::Reject(reject) => reject,
        other => panic!("no reject: {other:?}"),
    }
}

fn with_value(value: &str) -> Decoded {
    decode(&HEADERS, Some(ID.as_bytes()), Some(value.as_bytes()))
}

#[test]
fn every_envelope_of_a_report() {
    let bare = payload("updated");
    let quoted = serde_json::Value::from(bare.clone()).to_string();
    for value in [
        bare.clone(),
        format!(r#"{{"schema":{{"type":"struct"}},"payload":{bare}}}"#),
        format!(r#"{{ "payload" : {bare}, "schema":null }}"#),
        format!(r#"{{"schema":{{"name":"io.debezium.data.Json"}},"payload":{quoted}}}"#),
        quoted.clone(),
        format!(
            r#"{{"aggregatetype":"kessel.resources","aggregateid":"{ID}","operation":"updated","payload":{bare}}}"#
        ),
        format!(
            r#"{{"aggregatetype":"kessel.resources","aggregateid":"{ID}","operation":"updated","payload":{quoted}}}"#
        ),
    ] {
        let event = event(with_value(&value));
        assert_eq!((event.id.to_string().as_str(), event.operation), (ID, Operation::Updated), "{value}");
        assert_eq!(event.text(Field::ReporterType), Some("hbi"), "lower case");
        assert_eq!(event.text(Field::LocalResourceId), Some("L"), "case kept");
        assert_eq!(event.text(Field::Data), Some(r#"{"x":1}"#));
    }
}

#[test]
fn every_envelope_of_a_delete() {
    let delete: [(&str, Option<&[u8]>); 1] = [("operation", Some(b"deleted"))];
    let values: [Option<&str>; 5] = [
        Some(r#"{"schema":{"type":"struct","fields":[],"optional":true,"name":"payload"},"payload":{}}"#),
        Some(r#"{"schema":{},"payload":null}"#),
        Some("{}"),
        Some("null"),
        None,
    ];
    for value in values {
        let event = event(decode(&delete, Some(ID.as_bytes()), value.map(str::as_bytes)));
        assert_eq!(event.operation, Operation::Deleted, "{value:?}");
    }
    let full = event(decode(&[], Some(ID.as_bytes()), Some(payload("deleted").as_bytes())));
    assert_eq!((full.operation, full.text(Field::Data)), (Operation::Deleted, None), "F16: its data is ignored");
    assert_eq!(event(decode(&[], Some(ID.as_bytes()), None)).operation, Operation::Deleted, "V8");
}

#[test]
fn headers_plain_quoted_in_envelopes_doubled_and_missing() {
    let operation = |headers: &[(&str, Option<&[u8]>)]| {
        event(decode(headers, Some(ID.as_bytes()), Some(payload("updated").as_bytes()))).operation
    };
    assert_eq!(operation(&[("operation", Some(b"created"))]), Operation::Created, "H7: the header wins");
    assert_eq!(operation(&[("operation", Some(b"\"created\""))]), Operation::Created);
    assert_eq!(operation(&[("operation", Some(br#"{"schema":{},"payload":"created"}"#))]), Operation::Created);
    assert_eq!(operation(&[("operation", Some(b"deleted")), ("operation", Some(b"created"))]), Operation::Created);
    assert_eq!(operation(&[("operation", None), ("x", Some(b"\xff"))]), Operation::Updated, "H3: from the type");
    let reason = |value: &[u8]| {
        reject(decode(&[("operation", Some(value))], Some(ID.as_bytes()), Some(payload("updated").as_bytes()))).reason
    };
    assert_eq!(reason(b"upserted"), RejectReason::UnknownOperation);
    assert_eq!(reason(b"CREATED"), RejectReason::UnknownOperation);
    assert_eq!(reason(b""), RejectReason::UnknownOperation);
    assert_eq!(reason(b"\xff"), RejectReason::InvalidHeader);
}

#[test]
fn identity_comes_from_the_key_and_from_the_payload_only_without_one() {
    let bare = payload("updated");
    let with_key = |key: Option<&[u8]>| decode(&HEADERS, key, Some(bare.as_bytes()));
    for nothing in [None, Some(b"".as_slice()), Some(b"{\"x".as_slice()), Some(b"\xff".as_slice())] {
        assert_eq!(event(with_key(nothing)).id.to_string(), ID, "{nothing:?}");
    }
    let other = "019ba0c4-5f6e-7c11-9c52-0d2f6d6b7aff";
    assert_eq!(event(with_key(Some(other.as_bytes()))).id.to_string(), other, "F17: the key is the identity");
    assert_eq!(reject(with_key(Some(b"a b"))).reason, RejectReason::InvalidKey);
    assert_eq!(reject(with_key(Some(&[b'x'; 2_000]))).reason, RejectReason::InvalidKey);
    assert_eq!(reject(with_key(Some(&[b'x'; 1 << 20]))).reason, RejectReason::RecordTooLarge);
    assert_eq!(reject(decode(&HEADERS, None, Some(b"{\"specversion\":\"1.0\"}"))).reason, RejectReason::NoIdentity);
    let source = bare.replace(r#""specversion""#, r#""source":"http://s","specversion""#);
    let direct = decode(&[], Some(b"http://s"), Some(source.as_bytes()));
    assert_eq!(event(direct).id.to_string(), ID, "the direct era's key was the source");
}

#[test]
fn legacy_relationships_and_tuples_are_skipped_and_dashes_are_normal() {
    let skipped = |value: &str| match decode(&[], None, Some(value.as_bytes())) {
        Decoded::Skip(reason) => reason,
        other => panic!("not skipped: {other:?}"),
    };
    let old = r#"{"specversion":"1.0","type":"redhat.inventory.resources_relationship.k8s-policy_ispropagatedto_k8s-cluster.updated","data":{"metadata":{"id":0}}}"#;
    assert_eq!(skipped(old), SkipReason::Relationship);
    assert_eq!(skipped(&old.replace("resources_relationship", "resources-relationship")), SkipReason::Relationship);
    // Whatever its headers say: a delete of tuples deletes no resource.
    let unwrapped = r#"{"subject":{"subject":{"id":"1234"}},"relation":"workspace","resource":{"id":"4321"}}"#;
    for tuple in [
        r#"{"schema":{},"payload":{"reporter_resource_key":{},"reporter_representation_version":4}}"#.to_owned(),
        format!(r#"{{"schema":{{}},"payload":{unwrapped}}}"#),
        format!(r#"{{"schema":{{}},"payload":{}}}"#, serde_json::Value::from(unwrapped)),
        format!(r#"{{"aggregateid":"{ID}","operation":"deleted","payload":{unwrapped}}}"#),
        format!(r#"{{"aggregatetype":"kessel.tuples","aggregateid":"{ID}","operation":"deleted","payload":{{}}}}"#),
    ] {
        for operation in ["created", "deleted", "upserted"] {
            let headers = [("operation", Some(operation.as_bytes()))];
            let decoded = decode(&headers, Some(ID.as_bytes()), Some(tuple.as_bytes()));
            assert!(matches!(decoded, Decoded::Skip(SkipReason::Tuple)), "{operation} {tuple}: {decoded:?}");
        }
    }
    let dashed = payload("updated").replace("\"host\"", "\"k8s-policy\"");
    assert_eq!(event(with_value(&dashed)).text(Field::ResourceType), Some("k8s_policy"));
    let zero = payload("created").replace("2026-11-23T06:47:23.785268Z", "0001-01-01T00:00:00Z");
    let zero = event(with_value(&zero));
    assert_eq!((zero.created_at, zero.reported_at), (None, None), "F15");
}

#[test]
fn every_poison_has_its_reason() {
    use RejectReason::*;
    let good = payload("updated");
    let cases: Vec<(String, RejectReason)> = vec![
        (String::new(), EmptyValue),
        ("{}".into(), EmptyPayload),
        ("null".into(), EmptyPayload),
        ("not json".into(), NotJson),
        (good[..good.len() - 3].into(), NotJson),
        (format!("{good} x"), NotJson),
        (format!("{good}{good}"), NotJson),
        (format!("\u{feff}{good}"), NotJson),
        ("[".repeat(1_000_000), TooDeep),
        (good.replace(r#"{"x":1}"#, &format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500))), TooDeep),
        (good.replace(r#"{"x":1}"#, r#"{"x":1,"x":2}"#), DuplicateKey),
        (good.replace(r#"{"x":1}"#, r#"{"x":"\ud800"}"#), InvalidText),
        (good.replace(r#"{"x":1}"#, "[1]"), WrongType),
        (good.replace("\"L\"", "7"), WrongType),
        (good.replace("\"L\"", "\"\""), MissingField),
        (good.replace("\"a\"", &format!("\"{}\"", "h".repeat(5_000))), FieldTooLong),
        (good.replace("2026-11-23T06:47:23.785268Z", "yesterday"), InvalidTimestamp),
        (good.replace("\"1.0\"", "\"2.0\""), UnknownVersion),
        (good.replace("redhat.inventory.resources.host", "redhat.inventory.workspaces"), UnknownVersion),
        ("\0\0\0\0\u{1}avro".into(), BinaryFormat),
        ("[1,2]".into(), WrongShape),
        (r#"{"hello":"world"}"#.into(), WrongShape),
    ];
    for (value, reason) in cases {
        let shown: String = value.chars().take(60).collect();
        let reject = reject(with_value(&value));
        assert_eq!(reject.reason, reason, "{shown}: {}", reject.detail);
        assert!(!reject.detail.is_empty() && reject.id.is_some());
    }
    let invalid = decode(&HEADERS, Some(ID.as_bytes()), Some(b"{\"specversion\":\"\xff\"}"));
    assert_eq!(reject(invalid).reason, InvalidText);
    let contradiction = decode(&HEADERS, Some(ID.as_bytes()), None);
    assert_eq!(reject(contradiction).reason, ContradictoryTombstone);
    let large = reject(with_value(&format!("\"{}\"", "x".repeat(2 << 20))));
    assert_eq!((large.reason, large.value.map(|kept| kept.len())), (RecordTooLarge, Some(64 * 1024)));
}

#[test]
fn a_known_schema_makes_nothing_acceptable() {
    let good = payload("updated");
    let enveloped = |payload: &str| format!(r#"{{"schema":{{"type":"struct"}},"payload":{payload}}}"#);
    let topic = Topics::default().intern("t").expect("room");
    let deep =
        |levels: usize| good.replace(r#"{"x":1}"#, &format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels)));
    let cases = [
        (enveloped(r#"{"foo":1}"#), Some("deleted"), Some(RejectReason::WrongShape)),
        (enveloped(&format!(r#"{{"schema":{{}},"payload":{good}}}"#)), None, None),
        (enveloped(&deep(98)), None, None),
        (enveloped(&deep(99)), None, Some(RejectReason::TooDeep)),
        (enveloped(&deep(126)), None, Some(RejectReason::TooDeep)),
        (enveloped(&good.replace(r#""specversion""#, r#""extra":1e400,"specversion""#)), None, None),
        (
            enveloped(&good.replace(r#""specversion""#, r#""extra":{"a":1,"a":2},"specversion""#)),
            None,
            Some(RejectReason::DuplicateKey),
        ),
        (
            enveloped(&good.replace(r#""specversion""#, r#""extra":"\ud800","specversion""#)),
            None,
            Some(RejectReason::InvalidText),
        ),
    ];
    for (value, operation, expected) in cases {
        let headers = [("operation", operation.map(str::as_bytes))];
        let mut batch = RecordBatch::new();
        let coordinates = Coordinates { topic, partition: 0, offset: 7 };
        batch.push_wire(coordinates, 5, Some(ID.as_bytes()), Some(enveloped(&good).as_bytes()), [].into_iter());
        batch.push_wire(coordinates, 5, Some(ID.as_bytes()), Some(value.as_bytes()), headers.into_iter());
        let records: Vec<_> = batch.iter().collect();
        let reason = |decoded: Decoded| match decoded {
            Decoded::Reject(reject) => Some(reject.reason),
            _ => None,
        };
        let mut cold = Decoder::new(Limits::default());
        let mut warm = Decoder::new(Limits::default());
        warm.decode(&records[0]);
        let shown: String = value.chars().take(120).collect();
        assert_eq!(reason(cold.decode(&records[1])), expected, "cold: {shown}");
        assert_eq!(reason(warm.decode(&records[1])), expected, "warm: {shown}");
    }
}

#[test]
fn a_delete_is_a_delete_whatever_it_carries() {
    let headers: [(&str, Option<&[u8]>); 1] = [("operation", Some(b"deleted"))];
    for value in [
        r#"{"reporter_resource_key":{},"type":"redhat.inventory.resources.host.deleted"}"#,
        r#"{"specversion":"2.0","data":{}}"#,
        r#"{"specversion":"1.0","type":7}"#,
        r#"{"specversion":"1.0","type":"redhat.inventory.workspaces.x.deleted"}"#,
    ] {
        let event = event(decode(&headers, Some(ID.as_bytes()), Some(value.as_bytes())));
        assert_eq!((event.operation, event.id.to_string().as_str()), (Operation::Deleted, ID), "{value}");
    }
}

#[test]
fn where_header_and_type_disagree_the_time_is_kept() {
    let at = "2026-11-23T06:47:23.785268Z";
    let decoded = |operation: &'static str, said: &str| {
        event(decode(&[("operation", Some(operation.as_bytes()))], Some(ID.as_bytes()), Some(payload(said).as_bytes())))
    };
    let created = decoded("created", "updated");
    assert_eq!(created.reported_at.map(|time| time.to_string()).as_deref(), Some(at));
    let updated = decoded("updated", "created");
    assert_eq!(updated.reported_at.map(|time| time.to_string()).as_deref(), Some(at));
}

#[test]
fn rows_with_empty_texts_fall_back_and_their_own_key_is_no_resource() {
    let good = payload("updated");
    let row = |fields: &str| format!(r#"{{"aggregatetype":"kessel.resources",{fields},"payload":{good}}}"#);
    let header_id = "01a20728-cb89-7978-b430-a1ace1ebe8c8";
    let row_id = "01a20728-cb89-7978-b430-a1ace1ebe8ff";
    let decoded = |key: &str, fields: &str| event(decode(&HEADERS, Some(key.as_bytes()), Some(row(fields).as_bytes())));
    let empty = decoded(ID, r#""aggregateid":"","id":"","operation":"""#);
    assert_eq!(empty.event_id.map(|id| id.to_string()).as_deref(), Some(header_id));
    assert_eq!((empty.operation, empty.id.to_string().as_str()), (Operation::Updated, ID));
    let own_key = decoded(&format!(r#"{{"id":"{row_id}"}}"#), &format!(r#""aggregateid":"x","id":"{row_id}""#));
    assert_eq!(own_key.id.to_string(), ID, "from the payload, not the row's own key");
}

#[test]
fn resources_may_have_more_fields_than_we_know() {
    let good = payload("updated");
    for extra in [r#""relation":"x""#, r#""reporter_resource_key":{}"#] {
        event(with_value(&good.replace(r#""specversion""#, &format!(r#"{extra},"specversion""#))));
    }
    event(with_value(&good.replace(r#""resource_type""#, r#""relationship_type":"r","resource_type""#)));
    let numbered = good.replace(&format!("\"id\":\"{ID}\""), "\"id\":7");
    assert_eq!(reject(with_value(&numbered)).reason, RejectReason::WrongType);
}

#[test]
fn twice_in_a_key_or_header_is_refused_and_the_last_header_counts() {
    let key = format!(r#"{{"schema":{{}},"payload":"{ID}","payload":"{ID}"}}"#);
    let value = payload("updated");
    assert_eq!(
        reject(decode(&HEADERS, Some(key.as_bytes()), Some(value.as_bytes()))).reason,
        RejectReason::DuplicateKey
    );
    let header = |values: &[&'static [u8]]| {
        let headers: Vec<(&str, Option<&[u8]>)> = values.iter().map(|value| ("operation", Some(*value))).collect();
        decode(&headers, Some(ID.as_bytes()), Some(value.as_bytes()))
    };
    assert_eq!(reject(header(&[br#"{"payload":"created","payload":"deleted"}"#])).reason, RejectReason::InvalidHeader);
    assert_eq!(event(header(&[b"\xff", b"created"])).operation, Operation::Created, "H6: the last one counts");
    assert_eq!(event(header(&[br#"{"schema":{},"payload":null}"#])).operation, Operation::Updated, "null is none");
}

#[test]
fn anomalies_are_counted_once_a_record() {
    let topic = Topics::default().intern("t").expect("room");
    let mut decoder = Decoder::new(Limits::default());
    let bad = payload("updated").replace("\"1.0\"", "\"2.0\"");
    let value = format!(r#"{{"schema":{{"type":"struct"}},"payload":{bad}}}"#);
    let headers: [(&str, Option<&[u8]>); 3] = [HEADERS[0], HEADERS[1], HEADERS[1]];
    let mut batch = RecordBatch::new();
    batch.push_wire(
        Coordinates { topic, partition: 0, offset: 7 },
        5,
        Some(ID.as_bytes()),
        Some(value.as_bytes()),
        headers.into_iter(),
    );
    let record = batch.iter().next().expect("just pushed");
    for _ in 0..3 {
        decoder.decode(&record);
    }
    let counted: Vec<u64> = decoder.take_anomalies().map(|(_, count)| count).collect();
    assert_eq!(counted.iter().sum::<u64>(), 3, "a repeated header in each of three records: {counted:?}");
}

#[test]
fn data_is_kept_as_sent() {
    for data in [r#"{"n":1e400,"m":-0,"big":123456789012345678901234567890}"#, r#"{"t":"\u0000<script>\r\n${jndi:x}"}"#]
    {
        let event = event(with_value(&payload("updated").replace(r#"{"x":1}"#, data)));
        assert_eq!(event.text(Field::Data), Some(data));
    }
    let spaced = event(with_value(&payload("updated").replace(r#"{"x":1}"#, "{\n \"x\" : \" \" }")));
    assert_eq!(spaced.text(Field::Data), Some(r#"{"x":" "}"#));
}
