//! The 36 recorded records, each with what it must do (kessel-events section 4).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tarn::dataflow::counters::read;
use tarn::model::{Applied, IgnoredReason, SkipReason};

use crate::support::engine::{Given, Run, Setup, run};

fn records() -> Vec<Given> {
    let text = include_str!("fixtures/kessel-records.jsonl");
    text.lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).expect("a record");
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let headers = record["headers"].as_array().expect("a flat list");
            Given {
                topic: text(&record["topic"]).expect("a topic"),
                partition: 0,
                offset: record["offset"].as_i64().expect("an offset"),
                timestamp_ms: record["ts"].as_i64().expect("a timestamp"),
                headers: headers.chunks(2).map(|pair| (text(&pair[0]).expect("a name"), text(&pair[1]))).collect(),
                key: text(&record["key"]),
                value: text(&record["payload"]).map(String::into_bytes),
            }
        })
        .collect()
}

/// The state after the resources record at each offset, by its offset.
fn after_each() -> (Run, BTreeMap<i64, BTreeMap<String, Value>>) {
    let run = run(records(), &Setup { epoch_records_max: 1, ..Setup::default() });
    let states = run
        .views
        .iter()
        .filter_map(|view| Some((view.position().next_offset("outbox.event.kessel.resources", 0)? - 1, run.live(view))))
        .collect();
    (run, states)
}

const HOST: &str = "019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10";
const NESTED: &str = "019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a11";
const TABLE_HOST: &str = "019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a12";

#[test]
fn the_life_of_the_recorded_host() {
    let (_, after) = after_each();
    let host = |offset: i64| after[&offset].get(HOST).cloned().unwrap_or(Value::Null);
    let created = host(0);
    assert_eq!(created["resourceType"], "host");
    assert_eq!(created["workspaceId"], "a64d17d0-aec3-410a-acd0-e0b85b22c076");
    assert_eq!(created["createdAt"], "2026-11-23T06:47:23.785268Z");
    assert_eq!(created["updatedAt"], created["createdAt"]);
    assert_eq!(created["data"]["ansible_host"], "host-1");
    assert_eq!(created["reporter"]["version"], "2.7.16");
    assert_eq!(created["lastEvent"]["id"], "01a20728-cb89-7978-b430-a1ace1ebe8c8");
    assert_eq!(host(1)["workspaceId"], "1f00e06a-951d-4042-b25b-5ce7c32d833e", "moved (F7)");
    assert_eq!(host(1)["createdAt"], created["createdAt"]);
    assert_eq!(host(2)["workspaceId"], host(1)["workspaceId"], "not said, kept (F5)");
    assert_eq!(host(3)["data"], host(2)["data"], "not said, kept (F6)");
    assert_eq!(host(1)["reporter"]["version"], "2.7.16");
    assert_eq!(host(2)["reporter"]["version"], Value::Null, "data without a version clears it (F9)");
    assert_eq!(host(2)["reporter"]["consoleHref"], Value::Null, "absent is cleared (F9)");
    assert_eq!(host(3)["reporter"]["consoleHref"], "https://www.console.com/");
    assert_eq!(host(4), Value::Null, "deleted (F10)");
    assert!(!host(5).is_null(), "revived (F13)");
    assert_eq!(host(5)["createdAt"], Value::Null, "a new life whose beginning nobody tells");
    for replayed in 12..=17 {
        assert_eq!(host(replayed), host(5), "the redelivery at {replayed} changes nothing");
    }
}

#[test]
fn every_other_type_and_shape() {
    let (_, after) = after_each();
    let at = |offset: i64, id: &str| after[&offset].get(id).cloned().unwrap_or(Value::Null);
    let of = |n: u8| format!("019ba0c4-6001-7a01-8a01-00000000000{n}");
    assert_eq!(at(6, &of(1))["data"]["nodes"].as_array().map(Vec::len), Some(1));
    assert_eq!(at(7, &of(2))["data"]["nodes"].as_array().map(Vec::len), Some(100));
    assert_eq!(at(8, &of(3))["data"], json!({"disabled": true, "severity": "CRITICAL"}));
    assert_eq!(at(9, &of(4))["data"]["reporter_type"], "NOTIFICATIONS", "data keeps its case");
    assert_eq!(at(10, &of(5))["workspaceId"], Value::Null, "a service has none");
    let odd = at(11, &of(6));
    assert_eq!(odd["data"]["note"], "<a&b> žluť");
    assert_eq!(odd["data"]["nodes"][1]["zone"], Value::Null);
    assert!(at(18, NESTED)["resourceType"].is_string(), "lossy nested array");
    assert_eq!(at(19, TABLE_HOST)["workspaceId"], "ws1", "table mode");
    assert_eq!(at(20, TABLE_HOST)["data"], json!({"e": [], "v": [1, 1.5]}), "payload as a JSON string");
    assert_eq!(at(20, TABLE_HOST)["createdAt"], "2026-11-23T06:41:18.622375Z");
    for deleted in 21..=23 {
        assert_eq!(at(deleted, TABLE_HOST), Value::Null);
    }
}

#[test]
fn numbers_keep_their_form_and_every_record_is_counted() {
    let (run, _) = after_each();
    let states = run.last().all_states();
    let texts: Vec<&str> = states.iter().filter_map(|state| state.text(tarn::model::Field::Data)).collect();
    assert!(texts.iter().any(|text| text.contains("\"big\":1.0E21")), "as sent");
    assert_eq!(read(run.counters.skipped(SkipReason::Tuple)), 12);
    assert_eq!(read(run.counters.ignored(IgnoredReason::Duplicate)), 6);
    assert_eq!(read(run.counters.applied(Applied::DeletedAgain)), 2);
    assert_eq!(read(run.counters.applied(Applied::Revived)), 1);
    assert_eq!(run.last().quarantine().len(), 0);
}

#[test]
fn tuples_change_no_resource_although_their_topic_is_asked_for() {
    let topics = ["outbox.event.kessel.resources", "outbox.event.kessel.tuples"].map(str::to_owned).to_vec();
    let (expected, _) = after_each();
    // As recorded, and with every tuple event after all resources, so that its delete meets the next life.
    let mut behind = records();
    behind.sort_by_key(|record| record.topic.ends_with(".tuples"));
    for records in [records(), behind] {
        let run = run(records, &Setup { epoch_records_max: 1, topics: topics.clone(), ..Setup::default() });
        assert_eq!(run.live(run.last()), expected.live(expected.last()));
        assert_eq!(read(run.counters.skipped(SkipReason::Tuple)), 12);
        assert_eq!(read(run.counters.ignored(IgnoredReason::Duplicate)), 6);
        assert_eq!(read(run.counters.applied(Applied::DeletedAgain)), 2);
        assert_eq!(run.last().quarantine().len(), 0);
    }
}
