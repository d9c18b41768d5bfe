//! Records that are odd (legacy shapes, which still mean an event) or no events at all (poison).

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use uuid::Uuid;

use super::wire::{self, DELETE_VALUE};
use super::world::{Happening, World};
use super::{Generated, RESOURCES_TOPIC};
use crate::model::Operation;

/// The same event in the shape of another era or converter; it must fold to the same.
pub(super) fn legacy(random: &mut StdRng, event: &Happening, record: Generated) -> Generated {
    let key_of_table_era = format!(r#"{{"schema":{{"type":"string","optional":false}},"payload":"{}"}}"#, event.id);
    if event.operation == Operation::Deleted {
        let value = match random.random_range(0..3) {
            0 => None,
            1 => Some(r#"{"schema":{"type":"string","optional":true,"name":"io.debezium.data.Json","version":1},"payload":null}"#.to_owned()),
            _ => Some(DELETE_VALUE.to_owned()),
        };
        return Generated { value, key: Some(key_of_table_era), ..record };
    }
    let payload = wire::payload(event);
    let (key, value) = match random.random_range(0..5) {
        0 => (format!("\"{}\"", event.id), payload.to_string()),
        1 => (event.id.to_string(), payload.to_string()),
        2 => {
            let schema = json!({"type": "string", "optional": true, "name": "io.debezium.data.Json", "version": 1});
            (key_of_table_era, json!({"schema": schema, "payload": payload.to_string()}).to_string())
        }
        3 => (key_of_table_era, Value::from(payload.to_string()).to_string()),
        _ => {
            let row = json!({"id": event.event_id.to_string(), "aggregatetype": "kessel.resources",
                "aggregateid": event.id.to_string(), "operation": event.operation.as_str(), "txid": "", "payload": payload});
            (key_of_table_era, row.to_string())
        }
    };
    Generated { key: Some(key), value: Some(value), ..record }
}

/// A record that is no event.
pub(super) fn poison(random: &mut StdRng, world: &World, now_ms: u64) -> Generated {
    let id = world.some_id(random).unwrap_or_else(|| Uuid::from_u64_pair(now_ms << 16 | 0x7000, 1 << 63));
    let tail: u64 = random.random_range(0..1 << 62);
    let event_id = Uuid::from_u64_pair(now_ms << 16 | 0x7fff, 1 << 63 | tail);
    let mut operation = Some("updated".to_owned());
    let mut key = Some(wire::key(id));
    let value = match random.random_range(0..10) {
        0 => "not json".to_owned(),
        1 => r#"{"schema":{"type":"struct","#.to_owned(),
        2 => String::new(),
        3 => DELETE_VALUE.to_owned(),
        4 => {
            operation = Some("upserted".to_owned());
            DELETE_VALUE.to_owned()
        }
        5 => r#"{"specversion":"2.0","type":"redhat.inventory.resources.host.updated","data":{}}"#.to_owned(),
        6 => r#"{"specversion":"1.0","data":{"metadata":{"resource_type":"host","resource_type":"host"}}}"#.to_owned(),
        7 => "[".repeat(10_000),
        8 => {
            key = Some("not a uuid".to_owned());
            r#"{"specversion":"1.0","data":{}}"#.to_owned()
        }
        _ => {
            r#"{"specversion":"1.0","data":{"metadata":{"resource_type":"host"},"reporter_data":{"reporter_type":7}}}"#
                .to_owned()
        }
    };
    Generated {
        topic: RESOURCES_TOPIC,
        offset: 0,
        timestamp_ms: 0,
        headers: vec![("id", Some(event_id.to_string())), ("operation", operation), ("txid", Some(String::new()))],
        key,
        value: Some(value),
        redelivery: false,
        poison: true,
    }
}
