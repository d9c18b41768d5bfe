//! Small logs over types of our own, with values of every kind: few ids, few values, so that keys meet, groups have more
//! than one row, and rows come, change and go; now and then a value of another type than declared, or a record that is
//! no event.

use serde_json::{Map, Value, json};
use tarn::generate::RESOURCES_TOPIC;
use tarn::model::{Timestamp, Topics};
use tarn::sql::Tables;
use uuid::Uuid;

use super::choices::Choices;
use crate::support::engine::Given;

/// When logs begin, ms since 1970.
pub const START_MS: u64 = 1_795_000_000_000;

/// The types, with the properties of each as a JSON Schema has them.
fn types() -> [(&'static str, Value); 4] {
    let text = || json!({"type": "string"});
    let gadget = json!({
        "colour": text(), "count": {"type": "integer"}, "enabled": {"type": "boolean"}, "parent": text(),
        "seen": {"type": "string", "format": "date-time"}, "tags": {"type": "array"}, "weight": {"type": "number"},
    });
    let part = json!({
        "gadget": text(), "label": {"type": ["string", "integer"]}, "price": {"type": "number"},
        "size": {"type": "integer"},
    });
    let host = json!({"ansible_host": text(), "insights_id": text()});
    let gauge = json!({"level": {"type": "integer"}, "text": text()});
    [("gadget", gadget), ("part", part), ("host", host), ("gauge", gauge)]
}

/// The tables over these types.
pub fn tables(topics: &Topics) -> Tables {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, properties) in types() {
        let reporter = folder.path().join("resources").join(name).join("reporters").join("test");
        std::fs::create_dir_all(&reporter).expect("a folder");
        let schema = json!({"type": "object", "properties": properties}).to_string();
        std::fs::write(reporter.join(name).with_extension("json"), schema).expect("a file");
    }
    Tables::read(Some(folder.path()), topics).expect("a schema folder")
}

/// What happens to a resource.
#[derive(Debug, Clone)]
pub struct Event {
    /// Which resource: greater ones are newer.
    pub number: u64,
    /// Its type, of one of the tables or of none.
    pub kind: String,
    /// `created`, `updated` or `deleted`.
    pub operation: String,
    /// What the reporter calls it: two resources of a type with one name are one and an orphan.
    pub local_id: String,
    /// Its workspace, if the event says it.
    pub workspace: Option<String>,
    /// Its reporter's version.
    pub version: Option<String>,
    /// Its data, if the event says it.
    pub data: Option<Value>,
    /// When it was reported, ms since 1970; nothing where the event does not say.
    pub reported_ms: Option<u64>,
    /// When its record was written.
    pub at_ms: u64,
}

impl Event {
    /// Its record; `offset` tells it from all others.
    pub fn record(&self, offset: u64) -> Given {
        let id = Uuid::from_u64_pair((START_MS + self.number) << 16 | 0x7000, 1 << 63 | self.number);
        let event_id = Uuid::from_u64_pair(self.at_ms << 16 | 0x7000 | offset & 0xfff, 1 << 63 | offset);
        let value = if self.operation == "deleted" { Value::Null } else { self.payload(id) };
        let header = |name: &str, value: String| (name.to_owned(), Some(value));
        Given {
            topic: RESOURCES_TOPIC.to_owned(),
            partition: 0,
            offset: i64::try_from(offset).expect("a small log"),
            timestamp_ms: i64::try_from(self.at_ms).expect("a time of today"),
            headers: vec![
                header("id", event_id.to_string()),
                header("operation", self.operation.clone()),
                header("txid", String::new()),
            ],
            key: Some(format!("\"{id}\"")),
            value: Some(json!({"schema": {}, "payload": value}).to_string().into_bytes()),
        }
    }

    fn payload(&self, id: Uuid) -> Value {
        let object = |fields: Vec<(&str, Option<Value>)>| {
            let said = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            Value::from(said.collect::<Map<_, _>>())
        };
        let text = |text: &str| Some(Value::from(text));
        let reported = self
            .reported_ms
            .map(|ms| Value::from(Timestamp::from_millis(i64::try_from(ms).expect("a time of today")).to_string()));
        let created = reported.clone().filter(|_| self.operation == "created");
        let metadata = object(vec![
            ("created_at", created),
            ("id", text(&id.to_string())),
            ("resource_type", text(&self.kind)),
            ("updated_at", reported),
            ("workspace_id", self.workspace.as_deref().map(Value::from)),
        ]);
        let reporter = object(vec![
            ("local_resource_id", text(&self.local_id)),
            ("reporter_instance_id", text(if self.number.is_multiple_of(3) { "north" } else { "south" })),
            ("reporter_type", text(if self.number.is_multiple_of(2) { "test" } else { "hbi" })),
            ("reporter_version", self.version.as_deref().map(Value::from)),
        ]);
        let data =
            [("metadata", Some(metadata)), ("reporter_data", Some(reporter)), ("resource_data", self.data.clone())];
        json!({
            "data": object(data.into()),
            "specversion": "1.0",
            "type": format!("redhat.inventory.resources.{}.{}", self.kind, self.operation),
        })
    }
}

/// How odd a log is.
#[derive(Debug, Clone, Copy)]
pub struct Oddities {
    /// Values that are not as declared, of a hundred.
    pub mistyped: usize,
    /// Values at the edge of their type, of a hundred.
    pub extreme: usize,
    /// Records that are no events, of a hundred.
    pub poison: usize,
}

/// A log of at most so many records.
pub fn random_log(choices: &mut Choices, records_max: usize) -> Vec<Given> {
    let odd = Oddities {
        mistyped: *choices.pick(&[0, 0, 3]),
        extreme: *choices.pick(&[0, 0, 0, 10]),
        poison: *choices.pick(&[0, 5, 10]),
    };
    log_with(choices, records_max, odd)
}

/// A log of at most so many records, so odd.
pub fn log_with(choices: &mut Choices, records_max: usize, odd: Oddities) -> Vec<Given> {
    let resources = choices.between(1, 12);
    let gap_ms = *choices.pick(&[1_u64, 0, 500, 5_000, 60_000]);
    let mut at_ms = START_MS;
    let count = choices.between(1, records_max);
    let mut records: Vec<Given> = Vec::new();
    for offset in 0..count as u64 {
        at_ms += gap_ms * choices.below(4) as u64;
        let number = choices.below(resources) as u64;
        let event = random_event(choices, number, at_ms, odd);
        let mut record = event.record(offset);
        if choices.chance(odd.poison) {
            record.value = Some(choices.pick(&["not json", "", "[1,2]"]).as_bytes().to_vec());
        } else if offset > 0 && choices.chance(3) {
            // Sent again.
            let again = records[choices.below(records.len())].clone();
            record = Given { offset: record.offset, timestamp_ms: record.timestamp_ms, ..again };
        }
        records.push(record);
    }
    records
}

fn random_event(choices: &mut Choices, number: u64, at_ms: u64, odd: Oddities) -> Event {
    let kind = ["gadget", "part", "gadget", "host", "part", "widget"][number as usize % 6];
    let operation = *["updated", "created", "deleted"].get(choices.weighted(&[70, 10, 20])).expect("one of them");
    let reported_ms = match choices.below(6) {
        0 => None,
        ago => Some(at_ms - [0, 0, 1, 1_000, 7_000][ago - 1]),
    };
    Event {
        number,
        kind: kind.to_owned(),
        operation: operation.to_owned(),
        // Some are of two resources.
        local_id: ["a", "b", "c", "d"][(number as usize / 2) % 4].to_owned(),
        workspace: choices.pick(&[None, Some("w1"), Some("w2"), Some("w3"), Some("")]).map(str::to_owned),
        version: choices.pick(&[None, Some("1.0"), Some("2.7.16")]).map(str::to_owned),
        data: if choices.chance(85) { Some(random_data(choices, kind, odd)) } else { None },
        reported_ms,
        at_ms,
    }
}

fn random_data(choices: &mut Choices, kind: &str, odd: Oddities) -> Value {
    let Some((_, properties)) = types().into_iter().find(|(name, _)| *name == kind) else {
        return json!({"anything": choices.below(3), "nested": {"list": [1, null, "x"]}});
    };
    let Value::Object(properties) = properties else { unreachable!("an object of properties") };
    let mut data = Map::new();
    for (name, schema) in properties {
        match choices.below(8) {
            0 => continue,
            1 => drop(data.insert(name, Value::Null)),
            _ if choices.chance(odd.mistyped) => drop(data.insert(name, json!([true, {"a": 1}]))),
            _ => {
                let value = random_value(choices, &name, &schema, odd);
                data.insert(name, value);
            }
        }
    }
    data.into()
}

fn random_value(choices: &mut Choices, name: &str, schema: &Value, odd: Oddities) -> Value {
    let is_extreme = choices.chance(odd.extreme);
    match schema["type"].as_str() {
        Some("integer") if is_extreme => {
            choices.pick(&[json!(i64::MAX), json!(i64::MIN), json!(9_007_199_254_740_993_i64)]).clone()
        }
        Some("integer") => json!([0, 1, 2, 3, 5, -1, 7, 10][choices.below(8)]),
        Some("number") if is_extreme => json!([1e16, -1e16, 1e308, 5e-324, -0.0][choices.below(5)]),
        Some("number") => json!([0.0, 1.0, 0.1, 0.2, 0.3, 2.5, -1.5, 100.0][choices.below(8)]),
        Some("boolean") => json!(choices.below(2) == 1),
        Some("array") => choices.pick(&[json!([]), json!(["a"]), json!(["a", "b", null]), json!([1, 2.50])]).clone(),
        Some("string") if name == "seen" => {
            let choice = choices.below(5);
            json!(
                [
                    "2026-11-18T11:06:40Z",
                    "2026-11-18T12:06:40+01:00",
                    "2026-11-18T11:07:00.25Z",
                    "2024-02-29T23:59:59Z",
                    "0001-01-01T00:00:00Z"
                ][choice]
            )
        }
        Some(_) if matches!(name, "parent" | "gadget") => json!(["a", "b", "c", "d", "e"][choices.below(5)]),
        Some(_) => json!(["red", "green", "Red", "", "r%d", "räd_", "12", "0.5"][choices.below(8)]),
        None => choices.pick(&[json!("x"), json!(1), json!("1")]).clone(),
    }
}
