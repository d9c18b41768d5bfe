//! The reference: section 4.2 of kessel-events on plain maps, one record at a time, over a log without redeliveries.
//!
//! Written from the facts, not from `fold.rs`: it knows no duplicate rule, because it is given none. Its answers are
//! JSON values in the shape of the API.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The state of one resource.
#[derive(Debug, Clone)]
struct Known {
    live: bool,
    fields: Map<String, Value>,
    key: Option<[String; 4]>,
}

/// The reference's whole state.
#[derive(Debug, Default)]
pub struct Reference {
    known: BTreeMap<String, Known>,
}

/// Takes every envelope off a value.
fn unwrap(value: &str) -> Value {
    let mut value: Value = serde_json::from_str(value).expect("the reference is given good records only");
    loop {
        value = match value {
            Value::String(text) => serde_json::from_str(&text).expect("JSON in a string"),
            Value::Object(mut fields) if fields.contains_key("payload") => fields.remove("payload").expect("is there"),
            other => return other,
        };
    }
}

/// RFC 3339 with no zeros at the end of its fraction.
fn trimmed_time(text: &Value) -> Value {
    let Some(text) = text.as_str() else { return Value::Null };
    if text.starts_with("0001-01-01T00:00:00") {
        return Value::Null;
    }
    let body = text.trim_end_matches('Z');
    let body = if body.contains('.') { body.trim_end_matches('0').trim_end_matches('.') } else { body };
    Value::from(format!("{body}Z"))
}

/// The time inside a UUID v7, as text.
fn id_time(id: &str) -> Value {
    let hex: String = id.chars().filter(|c| *c != '-').take(12).collect();
    let ms = i64::from_str_radix(&hex, 16).expect("a UUID");
    Value::from(tarn::model::Timestamp::from_millis(ms).to_string())
}

fn said(value: &Value) -> Option<Value> {
    Some(value.clone()).filter(|value| !value.is_null() && value.as_str() != Some(""))
}

impl Reference {
    /// Folds one record: resource id, operation, event id, value, where it stands.
    pub fn fold(&mut self, id: &str, operation: &str, event_id: &str, value: Option<&str>, topic: &str, offset: i64) {
        let last = json!({"id": event_id, "time": id_time(event_id), "topic": topic, "partition": 0, "offset": offset});
        let before = self.known.get(id).cloned();
        if operation == "deleted" {
            let key = before.and_then(|before| before.key);
            self.known.insert(id.to_owned(), Known { live: false, fields: Map::new(), key });
            return;
        }
        let event = unwrap(value.expect("a report has a value"));
        let (metadata, reporter) = (&event["data"]["metadata"], &event["data"]["reporter_data"]);
        let lives_on = before.filter(|before| before.live);
        let kept = |field: &str| lives_on.as_ref().map_or(Value::Null, |before| before.fields[field].clone());
        let data = said(&event["data"]["resource_data"]);
        let version = match (&data, said(&reporter["reporter_version"])) {
            (_, Some(version)) => version,
            (Some(_), None) => Value::Null,
            (None, None) => {
                lives_on.as_ref().map_or(Value::Null, |before| before.fields["reporter"]["version"].clone())
            }
        };
        let created = said(&metadata["created_at"]).map(|time| trimmed_time(&time));
        let time = said(&metadata["updated_at"]).or(said(&metadata["created_at"])).unwrap_or(event["time"].clone());
        let fields = json!({
            "resourceId": id,
            "resourceType": metadata["resource_type"],
            "workspaceId": said(&metadata["workspace_id"]).unwrap_or_else(|| kept("workspaceId")),
            "reporter": {
                "type": reporter["reporter_type"],
                "instanceId": reporter["reporter_instance_id"],
                "localResourceId": reporter["local_resource_id"],
                "apiHref": said(&reporter["api_href"]),
                "consoleHref": said(&reporter["console_href"]),
                "version": version,
            },
            "data": data.unwrap_or_else(|| kept("data")),
            "createdAt": created.unwrap_or_else(|| kept("createdAt")),
            "updatedAt": trimmed_time(&time),
            "lastEvent": last,
        });
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = [
            text(&metadata["resource_type"]),
            text(&reporter["reporter_type"]),
            text(&reporter["reporter_instance_id"]),
            text(&reporter["local_resource_id"]),
        ];
        let Value::Object(fields) = fields else { unreachable!("just made") };
        self.known.insert(id.to_owned(), Known { live: true, fields, key: Some(key) });
    }

    /// Every live resource by id; an orphan with the id that took its place (F14: the newest id holds the key).
    pub fn live(&self) -> BTreeMap<String, Value> {
        let mut current: BTreeMap<&[String; 4], &String> = BTreeMap::new();
        for (id, known) in &self.known {
            if let Some(key) = &known.key {
                // UUIDs v7 of lower case sort by their time.
                let newest = current.entry(key).or_insert(id);
                *newest = (*newest).max(id);
            }
        }
        let live = self.known.iter().filter(|(_, known)| known.live);
        live.map(|(id, known)| {
            let mut fields = known.fields.clone();
            let holder = known.key.as_ref().and_then(|key| current.get(key));
            if let Some(holder) = holder.filter(|holder| **holder != id) {
                fields.insert("orphanedBy".to_owned(), Value::from((*holder).clone()));
            }
            (id.clone(), Value::Object(fields))
        })
        .collect()
    }
}
