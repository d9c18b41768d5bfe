//! Records byte for byte as the production connector writes them (kessel-events section 2).
//!
//! JsonConverter puts a schema with every field that the payload has, in the payload's order, before the payload.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::world::{Happening, Kind, spread, uuid_of};
use super::{Generated, RESOURCES_TOPIC, TUPLES_TOPIC};
use crate::model::{Operation, Timestamp};

/// The value of every delete.
pub(crate) const DELETE_VALUE: &str =
    r#"{"schema":{"type":"struct","fields":[],"optional":true,"name":"payload"},"payload":{}}"#;

/// The key of a resource.
pub(crate) fn key(id: Uuid) -> String {
    format!(r#"{{"schema":{{"type":"string","optional":true}},"payload":"{id}"}}"#)
}

/// The value of an event that is no delete: its schema, and then itself.
pub(crate) fn value(payload: &Value) -> String {
    let mut value = String::with_capacity(3_072);
    value.push_str(r#"{"schema":"#);
    write_schema(&mut value, payload, "payload", None);
    write!(value, r#","payload":{payload}}}"#).expect("memory takes any write");
    value
}

/// The record of an event.
pub(super) fn record(event: &Happening) -> Generated {
    let value = match event.operation {
        Operation::Deleted => DELETE_VALUE.to_owned(),
        Operation::Created | Operation::Updated => value(&payload(event)),
    };
    Generated {
        topic: RESOURCES_TOPIC,
        offset: 0,
        timestamp_ms: 0,
        headers: vec![
            ("id", Some(event.event_id.to_string())),
            ("operation", Some(event.operation.as_str().to_owned())),
            ("txid", Some(String::new())),
        ],
        key: Some(key(event.id)),
        value: Some(value),
        redelivery: false,
        poison: false,
    }
}

/// The record of the same transaction on the tuples topic.
pub(super) fn tuple(event: &Happening) -> Generated {
    let value = json!({"schema": {"type": "struct", "optional": true, "name": "payload"}, "payload": {
    "reporter_representation_version": event.revision,
    "reporter_resource_key": {
        "local_resource_id": local_id(event),
        "reporter": {"reporter_instance_id": instance(event), "reporter_type": event.kind.reporter_type()},
        "resource_type": event.kind.resource_type(),
    }}});
    let base = record(&Happening { operation: Operation::Deleted, ..event.clone() });
    Generated { topic: TUPLES_TOPIC, value: Some(value.to_string()), ..base }
}

fn local_id(event: &Happening) -> String {
    match event.kind {
        Kind::Service => format!("svc-{}", event.number),
        Kind::BillingAccount => format!("account-{}", event.number),
        _ => uuid_of(event.seed ^ 0x10, event.number as u64).to_string(),
    }
}

fn instance(event: &Happening) -> String {
    match event.kind {
        Kind::Host => "redhat".to_owned(),
        Kind::Service | Kind::BillingAccount => "features".to_owned(),
        _ => uuid_of(event.seed ^ 0x11, event.number as u64 % 200).to_string(),
    }
}

/// The event object, its keys in the order of the alphabet as Inventory's Go maps leave them.
pub(super) fn payload(event: &Happening) -> Value {
    let micros = event.time_us % 1_000_000;
    let time = Timestamp::from_millis(i64::try_from(event.time_us / 1_000_000 * 1_000).unwrap_or(0)).to_string();
    let time = format!("{}.{micros:06}Z", time.trim_end_matches('Z'));
    let resource_type = event.kind.resource_type();
    let mut metadata = Map::new();
    if event.operation == Operation::Created {
        metadata.insert("created_at".into(), time.clone().into());
    }
    metadata.insert("id".into(), event.id.to_string().into());
    metadata.insert("org_id".into(), "".into());
    metadata.insert("resource_type".into(), resource_type.into());
    if event.operation == Operation::Updated {
        metadata.insert("updated_at".into(), time.clone().into());
    }
    if let Some(workspace) = event.workspace {
        metadata.insert("workspace_id".into(), workspace.to_string().into());
    }
    let mut reporter = Map::new();
    reporter.insert("api_href".into(), format!("https://console.redhat.com/api/inventory/v1/{}", event.number).into());
    if event.revision % 5 != 4 {
        reporter.insert("console_href".into(), "https://www.console.com/".into());
    }
    reporter.insert("local_resource_id".into(), local_id(event).into());
    reporter.insert("reporter_instance_id".into(), instance(event).into());
    reporter.insert("reporter_type".into(), event.kind.reporter_type().into());
    let mut data = Map::new();
    data.insert("metadata".into(), metadata.into());
    if event.says_data {
        reporter.insert("reporter_version".into(), "2.7.16".into());
        data.insert("reporter_data".into(), reporter.into());
        data.insert("resource_data".into(), resource_data(event));
    } else {
        data.insert("reporter_data".into(), reporter.into());
    }
    // The UUID v1 that Inventory makes for every event: its time, in 100 ns since 1582.
    let ticks = event.time_us * 10 + 0x01B2_1DD2_1381_4000;
    let v1_high = (ticks & 0xffff_ffff) << 32 | ((ticks >> 32) & 0xffff) << 16 | 0x1000 | ((ticks >> 48) & 0xfff);
    let v1 = Uuid::from_u64_pair(
        v1_high,
        0xac9f_0242_ac11_0002 ^ (spread(event.seed, event.time_us) & 0x0fff_0000_0000_0000),
    );
    let mut payload = Map::new();
    payload.insert("data".into(), data.into());
    payload.insert("datacontenttype".into(), "application/json".into());
    payload.insert("id".into(), v1.to_string().into());
    payload.insert("source".into(), "".into());
    payload.insert("specversion".into(), "1.0".into());
    payload.insert("subject".into(), format!("/resources/{resource_type}/{}", event.id).into());
    payload.insert("time".into(), time.into());
    let operation = event.operation.as_str();
    payload.insert("type".into(), format!("redhat.inventory.resources.{resource_type}.{operation}").into());
    payload.into()
}

/// The reporter's data, which changes with the revision.
fn resource_data(event: &Happening) -> Value {
    let (number, revision) = (event.number as u64, u64::from(event.revision));
    let stable = |salt: u64| uuid_of(event.seed ^ salt, number).to_string();
    let pick = |salt: u64, choices: &[&'static str]| {
        choices[(spread(event.seed ^ salt, number ^ (revision << 32)) % choices.len() as u64) as usize]
    };
    match event.kind {
        Kind::Host => json!({
            "ansible_host": format!("host-{number}-{revision}.example.com"),
            "insights_id": stable(1),
            "satellite_id": stable(2),
            "subscription_manager_id": stable(3),
        }),
        Kind::Cluster(_) => {
            let nodes: Vec<Value> = (0..1 + spread(event.seed, number) % 12)
                .map(|node| json!({"cpu": "7500m", "memory": "30973224Ki", "name": format!("node-{node}.example.com")}))
                .collect();
            json!({
                "cloud_platform": pick(4, &["AWS_IPI", "AZURE_IPI", "GCP_IPI", "BAREMETAL_UPI", "NONE_UPI"]),
                "cluster_reason": "reflect",
                "cluster_status": pick(5, &["READY", "FAILED", "OFFLINE"]),
                "external_cluster_id": stable(6),
                "kube_vendor": pick(7, &["OPENSHIFT", "EKS", "AKS", "GKE"]),
                "kube_version": pick(8, &["1.29.4", "1.30.1", "1.31.2"]),
                "nodes": nodes,
                "vendor_version": pick(9, &["4.16.1", "4.17.9", "4.18.3"]),
            })
        }
        Kind::Policy => json!({
            "disabled": pick(12, &["", "x"]).is_empty(),
            "severity": pick(13, &["LOW", "MEDIUM", "HIGH", "CRITICAL"]),
        }),
        Kind::Integration => json!({
            "local_resource_id": stable(14),
            "reporter_instance_id": stable(15),
            "reporter_type": "NOTIFICATIONS",
        }),
        Kind::Service => json!({"allowed_workspaces": [stable(16), stable(17)], "parent": stable(18)}),
        Kind::BillingAccount => json!({"workspaces": [stable(19), uuid_of(event.seed ^ 20, revision).to_string()]}),
    }
}

/// Connect's schema of a value, named by its path as Debezium names nested structs.
fn write_schema(out: &mut String, value: &Value, path: &str, field: Option<&str>) {
    match value {
        Value::Object(fields) => {
            out.push_str(r#"{"type":"struct","fields":["#);
            for (index, (name, value)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_schema(out, value, &format!("{path}.{name}"), Some(name));
            }
            write!(out, r#"],"optional":true,"name":"{path}""#).expect("memory takes any write");
        }
        Value::Array(items) => {
            out.push_str(r#"{"type":"array","items":"#);
            write_schema(out, items.first().unwrap_or(&Value::Null), path, None);
            out.push_str(r#","optional":true"#);
        }
        Value::Bool(_) => out.push_str(r#"{"type":"boolean","optional":true"#),
        Value::Number(_) => out.push_str(r#"{"type":"int32","optional":true"#),
        Value::String(_) | Value::Null => out.push_str(r#"{"type":"string","optional":true"#),
    }
    if let Some(field) = field {
        write!(out, r#","field":"{field}""#).expect("memory takes any write");
    }
    out.push('}');
}
