//! What happens every day: traffic, deletes and revivals, deletes that no event tells of, more partitions, passwords and
//! packed batches.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use super::broker::{Security, TOPIC};
use super::inventory::{Inventory, message};
use super::traffic::Traffic;
use super::truth::{shown, truth};
use super::{Pipeline, patiently};
use crate::served::get;

/// A record as `kcat -J` tells it, but for where and when.
#[derive(Debug, PartialEq)]
struct Wire {
    headers: Vec<(String, Option<String>)>,
    key: String,
    value: String,
}

impl Wire {
    /// Of a line of the recorded ones.
    fn of_line(line: &Value) -> Self {
        let headers = line["headers"].as_array().expect("a list");
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            headers: headers.chunks(2).map(|pair| (text(&pair[0]).expect("a name"), text(&pair[1]))).collect(),
            key: text(&line["key"]).expect("a key"),
            value: text(&line["payload"]).expect("a value"),
        }
    }

    /// The message that Inventory wrote for it.
    fn message(&self) -> String {
        let payload = |text: &str| serde_json::from_str::<Value>(text).expect("JSON")["payload"].clone();
        let header =
            |wanted: &str| self.headers.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| value.clone());
        let [id, operation, txid] = ["id", "operation", "txid"].map(|name| header(name).expect("it is there"));
        let key = payload(&self.key);
        message(id, "kessel.resources", key.as_str().expect("an id"), &operation, &txid, &payload(&self.value))
    }
}

/// All that a partition of the topic holds.
fn records(pipeline: &Pipeline, partition: i32) -> Vec<Wire> {
    let consumer: BaseConsumer = pipeline.broker.client().set("group.id", "tests").create().expect("a client");
    let (begin, end) = pipeline.broker.watermarks()[usize::try_from(partition).expect("a number")];
    let mut assigned = TopicPartitionList::new();
    assigned.add_partition_offset(TOPIC, partition, Offset::Offset(begin)).expect("an offset");
    consumer.assign(&assigned).expect("assigned");
    let mut records = Vec::new();
    patiently("the records come", || {
        while let Some(record) = consumer.poll(std::time::Duration::from_millis(100)) {
            let record = record.expect("a record");
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
            let headers = record.headers().expect("headers").iter();
            records.push(Wire {
                headers: headers.map(|one| (one.key.to_owned(), one.value.map(text))).collect(),
                key: text(record.key().expect("a key")),
                value: text(record.payload().expect("a value")),
            });
        }
        records.len() as i64 == end - begin
    });
    records
}

/// The recorded records are those that this pipeline makes, byte for byte: it is the one that they were recorded from. But
/// for those that Connect's converter loses a part of: which part, a hash decides.
#[test]
fn what_is_on_the_wire_is_what_was_recorded() {
    let Some(mut pipeline) = Pipeline::usual("what_is_on_the_wire") else { return };
    let lines = include_str!("../fixtures/kessel-records.jsonl").lines();
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let of_messages = |line: &Value| {
        let variant = line["variant"].as_str().expect("a name");
        line["topic"] == TOPIC && variant.starts_with("wal/") && !variant.contains("lossy")
    };
    let recorded: Vec<Wire> = lines.filter(of_messages).map(|line| Wire::of_line(&line)).collect();
    assert!(recorded.len() >= 12, "{}", recorded.len());
    for record in &recorded {
        pipeline.inventory.emit("kessel.resources", &record.message());
    }
    patiently("they are written", || pipeline.broker.watermarks()[0].1 >= recorded.len() as i64);
    for (made, recorded) in records(&pipeline, 0).iter().zip(&recorded) {
        assert_eq!(made, recorded);
    }
}

#[test]
fn steady_traffic_of_two_writers() {
    let Some(mut pipeline) = Pipeline::usual("steady_traffic") else { return };
    // The same reports at once, so that transactions fail and are tried again.
    let mut other = Inventory::beside(pipeline.postgres.client());
    std::thread::scope(|scope| {
        scope.spawn(|| Traffic::new(1, 200).happen(&mut other, 600));
        Traffic::new(1, 200).happen(&mut pipeline.inventory, 600);
        Traffic::new(2, 300).happen(&mut pipeline.inventory, 900);
    });
    println!("  {} transactions were tried again", other.tried_again() + pipeline.inventory.tried_again());
    pipeline.equals_postgres();
    pipeline.nothing_is_amiss();
}

#[test]
fn deleted_and_revived() {
    let Some(mut pipeline) = Pipeline::usual("deleted_and_revived") else { return };
    let mut traffic = Traffic::new(3, 150);
    traffic.happen(&mut pipeline.inventory, 400);
    for round in 0..3 {
        let before = truth(pipeline.inventory.client());
        for key in traffic.known() {
            pipeline.inventory.delete(&key);
            // Inventory says nothing of it a second time.
            assert!(!pipeline.inventory.delete(&key));
        }
        if round == 1 {
            pipeline.catch_up();
            let live = shown(pipeline.tarn.readers(), false);
            assert_eq!(live.len(), 1, "the marker alone: {live:?}");
        }
        traffic.report_everything(&mut pipeline.inventory);
        let after = truth(pipeline.inventory.client());
        assert!(before.keys().all(|id| after.contains_key(id)), "they live again, under the same ids");
        traffic.happen(&mut pipeline.inventory, 200);
    }
    pipeline.equals_postgres();
    pipeline.nothing_is_amiss();
}

/// Inventory's job deletes rows and says nothing. What is reported again gets a new id, and the old one is an orphan.
#[test]
fn deleted_in_bulk_without_events() {
    let Some(mut pipeline) = Pipeline::usual("deleted_in_bulk") else { return };
    let mut traffic = Traffic::new(4, 150);
    traffic.happen(&mut pipeline.inventory, 500);
    pipeline.equals_postgres();
    let before = truth(pipeline.inventory.client());
    let victims = traffic.known().into_iter().enumerate().filter(|(number, _)| number % 3 == 0).map(|(_, key)| key);
    pipeline.inventory.delete_in_bulk(&victims.collect());
    let after = truth(pipeline.inventory.client());
    let gone: BTreeMap<_, _> = before.into_iter().filter(|(id, _)| !after.contains_key(id)).collect();
    assert!(gone.len() > 20, "{}", gone.len());
    pipeline.catch_up();
    let ghosts = shown(pipeline.tarn.readers(), false);
    assert!(gone.iter().all(|(id, one)| ghosts.get(id) == Some(one)), "no event says that they are gone");
    traffic.report_everything(&mut pipeline.inventory);
    pipeline.equals_postgres();
    let orphans = shown(pipeline.tarn.readers(), true);
    assert_eq!(orphans.keys().collect::<Vec<_>>(), gone.keys().collect::<Vec<_>>());
    let live = truth(pipeline.inventory.client());
    for (id, orphan) in &orphans {
        let heir = live.get(orphan["orphanedBy"].as_str().expect("an id")).expect("it lives");
        assert_eq!(heir["reporter"]["localResourceId"], gone[id]["reporter"]["localResourceId"], "{orphan}");
    }
    // An orphan may be one of SQL's too.
    let sql = r#"{"sql": "SELECT count(*) AS orphans FROM orphaned_resources"}"#;
    let answer = crate::adhoc::ask_with(pipeline.tarn.readers(), sql).json();
    assert_eq!(answer["items"][0]["orphans"], gone.len(), "{answer}");
    pipeline.nothing_is_amiss();
}

/// The same key comes from another partition once there are more, and Tarn finds those by itself.
#[test]
fn three_partitions_and_then_five() {
    let Some(mut pipeline) = Pipeline::start("three_partitions", 3, Security::Plaintext) else { return };
    let mut traffic = Traffic::new(5, 200);
    traffic.happen(&mut pipeline.inventory, 500);
    pipeline.equals_postgres();
    pipeline.broker.add_partitions(5);
    patiently("all partitions are written to", || {
        traffic.happen(&mut pipeline.inventory, 50);
        pipeline.broker.watermarks().iter().all(|(_, end)| *end > 20)
    });
    traffic.happen(&mut pipeline.inventory, 300);
    pipeline.equals_postgres();
    pipeline.tarn.kill();
    traffic.happen(&mut pipeline.inventory, 100);
    pipeline.tarn.restart(&[]);
    pipeline.tarn.until_ready();
    pipeline.equals_postgres();
    pipeline.nothing_is_amiss();
}

#[test]
fn passwords_and_tls_as_in_production() {
    let Some(mut pipeline) = Pipeline::start("passwords_and_tls", 1, Security::Scram) else { return };
    let mut traffic = Traffic::new(6, 100);
    traffic.happen(&mut pipeline.inventory, 300);
    pipeline.equals_postgres();
    pipeline.nothing_is_amiss();
    // A wrong password is told, and Tarn waits for a right one.
    pipeline.tarn.stop();
    pipeline.tarn.restart(&[("TARN_SOURCE__KAFKA__PROPERTIES__SASL_PASSWORD", "another")]);
    let refused = pipeline.tarn.until_source("it is told why", |source| {
        source["lastError"].as_str().unwrap_or_default().contains("Authentication failed")
    });
    assert_eq!(refused["phase"], "connecting");
    assert!(!pipeline.tarn.is_ready());
    pipeline.tarn.stop();
    pipeline.tarn.restart(&[]);
    traffic.happen(&mut pipeline.inventory, 50);
    pipeline.equals_postgres();
    pipeline.nothing_is_amiss();
}

#[test]
fn packed_in_every_way_that_kafka_knows() {
    let Some(mut pipeline) = Pipeline::usual("packed_in_every_way") else { return };
    let mut traffic = Traffic::new(7, 150);
    for codec in ["zstd", "lz4", "snappy", "gzip"] {
        pipeline.broker.pack(codec);
        traffic.happen(&mut pipeline.inventory, 200);
        pipeline.equals_postgres();
    }
    assert_eq!(pipeline.broker.codecs(), BTreeSet::from([1, 2, 3, 4]), "gzip, snappy, lz4, zstd, and nothing unpacked");
    // All four behind one another, in large fetches.
    pipeline.tarn.stop();
    pipeline.tarn.forget();
    pipeline.tarn.restart(&[]);
    pipeline.equals_postgres();
    pipeline.nothing_is_amiss();
}

/// The file that users of `compose.yaml` play Inventory with.
#[test]
fn the_report_of_the_compose_file_is_shown() {
    let Some(pipeline) = Pipeline::usual("the_report_of_the_compose_file") else { return };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/compose/report.sql");
    let report = |variables: &[&str]| pipeline.postgres.run(pipeline.parts, file, variables).expect("it is taken");
    let shown = || {
        let path = "/api/tarn/v1/resources?consistency=atLeastAsAcknowledged&timeout=10s&localResourceId=web-1";
        let answer = get(pipeline.tarn.readers(), path);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["items"].as_array().cloned().expect("a list")
    };
    report(&[]);
    patiently("it is created", || shown().len() == 1);
    let created = shown().remove(0);
    report(&["workspace=elsewhere"]);
    patiently("it has moved", || shown().iter().any(|one| one["workspaceId"] == "elsewhere"));
    report(&["delete=true"]);
    patiently("it is deleted", || shown().is_empty());
    report(&[]);
    patiently("it lives again", || shown().len() == 1);
    let revived = shown().remove(0);
    let of = |resource: &Value| (resource["resourceId"].clone(), resource["workspaceId"].clone());
    assert_eq!(of(&created), of(&revived));
    pipeline.nothing_is_amiss();
}
