//! Random states, with data that is nearly always as the properties of their table are declared.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::model::{
    Coordinates, EventId, Field, LastEvent, Lifecycle, ResourceId, SeenIds, State, Texts, Timestamp, Topics,
};
use crate::sql::kessel_schema::{Kinds, Property};

pub(super) fn property(name: &str, kinds: Kinds) -> Property {
    Property { name: name.into(), kinds }
}

/// Properties of every kind; two are called as common columns.
pub(super) fn properties() -> Vec<Property> {
    vec![
        property("any", Kinds::ANY),
        property("array", Kinds::ARRAY),
        property("boolean", Kinds::BOOLEAN),
        property("integer", Kinds::INTEGER),
        property("integer_or_string", Kinds::INTEGER.union(Kinds::STRING)),
        property("number", Kinds::NUMBER),
        property("object", Kinds::OBJECT),
        property("string", Kinds::STRING),
        property("time", Kinds::TIME),
        property("topic", Kinds::STRING),
    ]
}

/// Nearly always a value of the property's kind.
fn random_property(random: &mut StdRng, name: &str) -> Value {
    let name = if random.random_bool(0.9) { name } else { "any" };
    let text = *["", "x", "q\"\\\u{1}ü😀", "null"].choose(random).expect("some");
    match name {
        _ if random.random_bool(0.1) => Value::Null,
        "array" => json!([text, 1, {"a": null}]),
        "boolean" => json!(random.random::<bool>()),
        "integer" => json!(random.random::<i64>()),
        "integer_or_string" if random.random() => json!(random.random::<i64>()),
        "number" if random.random() => json!(random.random_range(-1000..1000)),
        // No more digits than the tree keeps.
        "number" => json!(f64::from(random.random_range(-1_000_000..1_000_000)) / 8.0),
        "object" => json!({"a": text}),
        "time" => json!(
            *["2026-11-23T06:47:23.5Z", "0001-01-01T00:00:00Z", "1500-01-01T00:00:00Z", "now"]
                .choose(random)
                .expect("some")
        ),
        "any" => match random.random_range(0..6) {
            0 => json!(1.5),
            1 => json!(7),
            2 => json!(true),
            3 => json!([]),
            4 => json!({}),
            _ => json!(text),
        },
        _ => json!(text),
    }
}

fn random_data(random: &mut StdRng) -> Option<String> {
    let mut data = Map::new();
    for property in properties() {
        if random.random_bool(0.8) {
            let value = random_property(random, &property.name);
            data.insert(property.name.to_string(), value);
        }
    }
    data.insert("unknown".to_owned(), json!({"integer": "inside", "string": 1}));
    random.random_bool(0.9).then(|| Value::Object(data).to_string())
}

fn random_time(random: &mut StdRng) -> Option<Timestamp> {
    match random.random_range(0..20) {
        0..5 => None,
        5 => Some(Timestamp::from_millis(random.random())),
        _ => Some(Timestamp::from_millis(random.random_range(0..4_000_000_000_000))),
    }
}

pub(super) fn random_state(random: &mut StdRng, topics: &Topics) -> State {
    let texts: Vec<Option<&str>> =
        (0..9).map(|_| [None, Some(""), Some("a"), Some("ü\"")].into_iter().choose(random).flatten()).collect();
    let data = random_data(random);
    let mut fields = [None; Field::ALL.len()];
    fields[..9].copy_from_slice(&texts);
    fields[Field::ResourceType as usize] =
        [Some("host"), Some("k8s_policy"), None].into_iter().choose(random).flatten();
    fields[Field::Data as usize] = data.as_deref();
    let lifecycle = if random.random_bool(0.8) {
        Lifecycle::Live { created_at: random_time(random), updated_at: random_time(random) }
    } else {
        Lifecycle::Deleted { deleted_at: random_time(random) }
    };
    let ids = ["01a20728-cb89-7978-b430-a1ace1ebe8c8", "bd0fe82a-e709-11f1-ac9f-0242ac110002", "order-17"];
    State {
        id: ResourceId::from_uuid(Uuid::from_u128(random.random())),
        lifecycle,
        texts: Texts::build(fields).expect("short"),
        last: LastEvent {
            id: ids.choose(random).map(|text| EventId::of_text(text).0).filter(|_| random.random_bool(0.9)),
            coordinates: Coordinates {
                topic: topics.intern(["t", "u"].choose(random).expect("some")).expect("room"),
                partition: random.random_range(0..3),
                offset: random.random_range(0..3),
            },
            observed_ms: if random.random_bool(0.9) { random.random_range(0..3) } else { random.random() },
            epoch: 1,
        },
        seen: SeenIds::default(),
        uncommon: None,
    }
}

pub(super) fn random_orphaned_by(random: &mut StdRng) -> Option<ResourceId> {
    random.random_bool(0.3).then(|| ResourceId::from_uuid(Uuid::from_u128(random.random())))
}

/// A state that differs from another one of the same resource in some things.
pub(super) fn changed_state(random: &mut StdRng, before: &State, topics: &Topics) -> State {
    let other = random_state(random, topics);
    let mut after = before.clone();
    let mut fields = before.texts.fields();
    for field in Field::ALL {
        if random.random_bool(0.1) {
            fields[field as usize] = other.text(field);
        }
    }
    after.texts = Texts::build(fields).expect("short");
    if random.random_bool(0.2) {
        after.lifecycle = other.lifecycle;
    }
    if random.random_bool(0.2) {
        after.last.id = other.last.id;
    }
    if random.random_bool(0.2) {
        after.last.observed_ms = other.last.observed_ms;
    }
    if random.random_bool(0.2) {
        after.last.coordinates = other.last.coordinates;
    }
    after
}
