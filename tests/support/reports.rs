//! Events for tests that say what is in each of them.

use serde_json::{Value, json};
use tarn::generate::{Generated, RESOURCES_TOPIC};

/// A time in the log, ms since 1970.
const LOG_MS: i64 = 1_795_000_000_000;

/// The id of the resource of a number.
pub fn id(number: usize) -> String {
    format!("019ba0c4-5f6e-7c11-9c52-{number:012}")
}

fn record(offset: i64, number: usize, operation: &str, value: String) -> Generated {
    let event_id = format!("01a1ed39-8e00-7000-8000-{offset:012}");
    Generated {
        topic: RESOURCES_TOPIC,
        offset,
        timestamp_ms: LOG_MS,
        headers: vec![("id", Some(event_id)), ("operation", Some(operation.to_owned()))],
        key: Some(json!({"schema": {"type": "string"}, "payload": id(number)}).to_string()),
        value: Some(value),
        redelivery: false,
        poison: false,
    }
}

/// A report of a resource in a workspace.
pub fn report(offset: i64, number: usize, kind: &str, workspace: &str, data: Value) -> Generated {
    let id = id(number);
    let payload = json!({
        "specversion": "1.0", "source": "", "id": "", "time": "2026-11-18T09:46:40Z",
        "subject": format!("/resources/{kind}/{id}"), "type": format!("redhat.inventory.resources.{kind}.updated"),
        "data": {
            "metadata": {"id": id, "resource_type": kind, "workspace_id": workspace,
                "updated_at": "2026-11-18T09:46:40Z"},
            "reporter_data": {"local_resource_id": format!("local-{number}"), "reporter_instance_id": "redhat",
                "reporter_type": "hbi"},
            "resource_data": data,
        },
    });
    record(offset, number, "updated", json!({"schema": {}, "payload": payload}).to_string())
}

/// A delete.
pub fn delete(offset: i64, number: usize) -> Generated {
    record(offset, number, "deleted", json!({"schema": {}, "payload": {}}).to_string())
}
