//! A resource as it is shown: by id, on a page, in a dump.
//!
//! Written straight into the bytes of the answer. Most of what a look-up costs beside the connection is this text, and
//! with a struct for serde every time and id in it would be a string of its own first. The tests hold that it is what
//! serde would write of that struct.

use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::model::{Field, Lifecycle, ResourceId, State, Timestamp, Topics};

/// Appends a live state as it is shown, a JSON object; an orphan with the id that took its place.
pub fn write_resource(out: &mut Vec<u8>, state: &State, orphaned_by: Option<ResourceId>, topics: &Topics) {
    let (created_at, updated_at) = match state.lifecycle {
        Lifecycle::Live { created_at, updated_at } => (created_at, updated_at),
        Lifecycle::Deleted { .. } => (None, None),
    };
    write_id(out, r#"{"resourceId":"#, state.id.uuid());
    for (name, field) in [
        (r#","resourceType":"#, Field::ResourceType),
        (r#","workspaceId":"#, Field::WorkspaceId),
        (r#","reporter":{"type":"#, Field::ReporterType),
        (r#","instanceId":"#, Field::ReporterInstanceId),
        (r#","localResourceId":"#, Field::LocalResourceId),
        (r#","apiHref":"#, Field::ApiHref),
        (r#","consoleHref":"#, Field::ConsoleHref),
        (r#","version":"#, Field::ReporterVersion),
    ] {
        write_text(out, name, state.text(field));
    }
    append(out, r#"},"data":"#);
    // The decoder made it from JSON that it had checked, so it stands here as it is.
    append(out, state.text(Field::Data).unwrap_or("null"));
    write_time(out, r#","createdAt":"#, created_at);
    write_time(out, r#","updatedAt":"#, updated_at);
    write_last_event(out, state, topics);
    if let Some(id) = orphaned_by {
        write_id(out, r#","orphanedBy":"#, id.uuid());
    }
    out.push(b'}');
}

/// The event that made the state.
fn write_last_event(out: &mut Vec<u8>, state: &State, topics: &Topics) {
    let name = r#","lastEvent":{"id":"#;
    match (state.text(Field::EventIdText), state.last.id) {
        (None, Some(id)) => write_id(out, name, id.uuid()),
        (text, _) => write_text(out, name, text),
    }
    let at = state.last.coordinates;
    write_time(out, r#","time":"#, Some(state.last.time()));
    write_text(out, r#","topic":"#, Some(&topics.name(at.topic)));
    write_number(out, r#","partition":"#, at.partition.into());
    write_number(out, r#","offset":"#, at.offset);
    out.push(b'}');
}

fn append(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// `name` is what stands before the value, here and below.
fn write_text(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    append(out, name);
    match text {
        None => append(out, "null"),
        Some(text) if is_plain(text) => {
            out.push(b'"');
            append(out, text);
            out.push(b'"');
        }
        Some(text) => serde_json::to_writer(out, text).expect("memory takes any write"),
    }
}

/// Whether a text stands in JSON as it is. Looks at a block at once, without a branch for every byte.
fn is_plain(text: &str) -> bool {
    let escaped = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    text.as_bytes().chunks(32).all(|block| !block.iter().fold(false, |any, byte| any | escaped(byte)))
}

fn write_id(out: &mut Vec<u8>, name: &str, id: Uuid) {
    append(out, name);
    out.push(b'"');
    append(out, id.as_hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]));
    out.push(b'"');
}

fn write_time(out: &mut Vec<u8>, name: &str, time: Option<Timestamp>) {
    append(out, name);
    let Some(time) = time else { return append(out, "null") };
    out.push(b'"');
    time.append_to(out);
    out.push(b'"');
}

fn write_number(out: &mut Vec<u8>, name: &str, number: i64) {
    append(out, name);
    serde_json::to_writer(out, &number).expect("memory takes any write");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};
    use serde::Serialize;
    use serde_json::value::RawValue;

    use super::*;
    use crate::model::{Coordinates, EventId, LastEvent, SeenIds, Texts};

    /// A resource as serde would write it.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ResourceJson<'a> {
        resource_id: String,
        resource_type: Option<&'a str>,
        workspace_id: Option<&'a str>,
        reporter: ReporterJson<'a>,
        data: Option<&'a RawValue>,
        created_at: Option<String>,
        updated_at: Option<String>,
        last_event: LastEventJson,
        #[serde(skip_serializing_if = "Option::is_none")]
        orphaned_by: Option<String>,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ReporterJson<'a> {
        #[serde(rename = "type")]
        reporter_type: Option<&'a str>,
        instance_id: Option<&'a str>,
        local_resource_id: Option<&'a str>,
        api_href: Option<&'a str>,
        console_href: Option<&'a str>,
        version: Option<&'a str>,
    }

    #[derive(Serialize)]
    struct LastEventJson {
        id: Option<String>,
        time: String,
        topic: Arc<str>,
        partition: i32,
        offset: i64,
    }

    fn expected(state: &State, orphaned_by: Option<ResourceId>, topics: &Topics) -> Vec<u8> {
        let (created_at, updated_at) = match state.lifecycle {
            Lifecycle::Live { created_at, updated_at } => (created_at, updated_at),
            Lifecycle::Deleted { .. } => (None, None),
        };
        let at = state.last.coordinates;
        let id_text = state.text(Field::EventIdText).map(str::to_owned);
        let resource = ResourceJson {
            resource_id: state.id.to_string(),
            resource_type: state.text(Field::ResourceType),
            workspace_id: state.text(Field::WorkspaceId),
            reporter: ReporterJson {
                reporter_type: state.text(Field::ReporterType),
                instance_id: state.text(Field::ReporterInstanceId),
                local_resource_id: state.text(Field::LocalResourceId),
                api_href: state.text(Field::ApiHref),
                console_href: state.text(Field::ConsoleHref),
                version: state.text(Field::ReporterVersion),
            },
            data: state.text(Field::Data).and_then(|text| serde_json::from_str(text).ok()),
            created_at: created_at.map(|at| at.to_string()),
            updated_at: updated_at.map(|at| at.to_string()),
            last_event: LastEventJson {
                id: id_text.or_else(|| state.last.id.map(|id| id.to_string())),
                time: state.last.time().to_string(),
                topic: topics.name(at.topic),
                partition: at.partition,
                offset: at.offset,
            },
            orphaned_by: orphaned_by.map(|id| id.to_string()),
        };
        serde_json::to_vec(&resource).expect("a resource is JSON")
    }

    /// Texts of any kind: each sign that could be escaped, alone and at any place of a longer text.
    fn text(random: &mut StdRng) -> String {
        let signs: Vec<char> = (0..=0x80).filter_map(char::from_u32).chain("ü\u{2028}\u{ffff}😀".chars()).collect();
        let mut text = "0123456789".repeat(random.random_range(0..8));
        for _ in 0..random.random_range(0..3) {
            let place = random.random_range(0..=text.len());
            if text.is_char_boundary(place) {
                text.insert(place, *signs.choose(random).expect("there are signs"));
            }
        }
        text
    }

    fn time(random: &mut StdRng) -> Option<Timestamp> {
        let edges = [
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:01Z",
            "1969-12-31T23:59:59.999999999Z",
            "2024-02-29T12:00:00.5Z",
            "9999-12-31T23:59:59.999999999Z",
        ];
        match random.random_range(0..4) {
            0 => None,
            1 => Timestamp::parse(edges.choose(random).expect("there are edges")).expect("valid"),
            2 => Some(Timestamp::from_millis(random.random())),
            _ => Some(Timestamp::from_millis(random.random_range(0..4_000_000_000_000))),
        }
    }

    fn state(random: &mut StdRng, topics: &Topics) -> State {
        let data = [None, Some("{}"), Some(r#"{"a":"\"ü\u0000\ud83d\ude00","b":[1e400,-0,null]}"#)];
        let [event_id, other] = [(); 2].map(|()| random.random_bool(0.7).then(|| text(random)));
        let texts: Vec<Option<String>> = (0..8).map(|_| random.random_bool(0.8).then(|| text(random))).collect();
        let mut fields = [None; Field::ALL.len()];
        for (field, text) in fields.iter_mut().zip(&texts) {
            *field = text.as_deref();
        }
        let uuid = ["01a20728-cb89-7978-b430-a1ace1ebe8c8", "bd0fe82a-e709-11f1-ac9f-0242ac110002"];
        let uuid = uuid.choose(random).expect("there are ids").to_string();
        let event_id = event_id.filter(|_| random.random_bool(0.5)).map_or(uuid, |text| text);
        let (id, is_text) = EventId::of_text(&event_id);
        fields[Field::EventIdText as usize] = is_text.then_some(event_id.as_str());
        fields[Field::Data as usize] = *data.choose(random).expect("there are data");
        let topic = topics.intern(other.as_deref().unwrap_or("t")).expect("room");
        let [created_at, updated_at, deleted_at] = [(); 3].map(|()| time(random));
        let live = random.random_bool(0.9);
        State {
            id: ResourceId::from_uuid(Uuid::from_u128(random.random())),
            lifecycle: if live {
                Lifecycle::Live { created_at, updated_at }
            } else {
                Lifecycle::Deleted { deleted_at }
            },
            texts: Texts::build(fields).expect("short"),
            last: LastEvent {
                id: random.random_bool(0.9).then_some(id),
                coordinates: Coordinates { topic, partition: random.random(), offset: random.random() },
                observed_ms: random.random(),
                epoch: 1,
            },
            seen: SeenIds::default(),
            uncommon: None,
        }
    }

    #[test]
    fn a_resource_is_written_as_serde_would_write_it() {
        let (mut random, topics) = (StdRng::seed_from_u64(1), Topics::default());
        for _ in 0..20_000 {
            let state = state(&mut random, &topics);
            let orphaned_by = random.random_bool(0.3).then(|| ResourceId::from_uuid(Uuid::from_u128(random.random())));
            let mut written = b"before ".to_vec();
            write_resource(&mut written, &state, orphaned_by, &topics);
            let expected = [&b"before "[..], &expected(&state, orphaned_by, &topics)].concat();
            assert_eq!(String::from_utf8(written), String::from_utf8(expected));
        }
    }
}
