//! Chaos for as long as is asked for: `TARN_SOAK_SECONDS=3600 TARN_SEED=7 cargo test --test it -- --ignored soak`.
//!
//! Promises: after each round Tarn's answer is PostgreSQL's; and however long it goes on, what a Tarn that is not
//! killed holds of memory and file descriptors stays what it was.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use super::Pipeline;
use super::faults::{for_a_while, seeded, under_traffic};
use super::traffic::Traffic;
use crate::property::number;

/// Rounds until memory is what it stays: snapshots, history and merges have all had their turn. Tarn is killed in these
/// alone, since what it forgets with its process nobody would see grow.
const WARM_UP_ROUNDS: usize = 8;

/// History is at its longest before the end of that.
const SETTINGS: [(&str, &str); 1] = [("TARN_HISTORY__RETENTION_MS", "20000")];

/// Resident memory of a state this small may differ by so much between two moments.
const SLACK_BYTES: u64 = 96 * 1024 * 1024;

/// And file descriptors by so many: connections and files that are open at the moment.
const SLACK_FILES: usize = 24;

/// What is broken in a round.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Nothing,
    Tarn,
    Connect,
    KafkaInOrder,
    Kafka,
    KafkaAndConnect,
    Rows,
    Everyone,
}

const FAULTS: [Fault; 8] = [
    Fault::Nothing,
    Fault::Tarn,
    Fault::Connect,
    Fault::KafkaInOrder,
    Fault::Kafka,
    Fault::KafkaAndConnect,
    Fault::Rows,
    Fault::Everyone,
];

/// Breaks it and repairs it while traffic goes on.
fn break_while_traffic_goes_on(pipeline: &mut Pipeline, traffic: &mut Traffic, fault: Fault, random: &mut StdRng) {
    let Pipeline { inventory, broker, connect, tarn, postgres, .. } = pipeline;
    under_traffic(inventory, traffic, || {
        for_a_while(random, 3_000);
        match fault {
            Fault::Nothing | Fault::Rows | Fault::Everyone => (),
            Fault::Tarn => tarn.kill(),
            Fault::Connect => connect.kill(),
            Fault::KafkaInOrder => broker.stop(),
            Fault::Kafka => broker.kill(),
            Fault::KafkaAndConnect => {
                broker.kill();
                connect.kill();
            }
        }
        for_a_while(random, 2_000);
        match fault {
            Fault::Tarn => tarn.restart(&SETTINGS),
            Fault::KafkaInOrder | Fault::Kafka => broker.restart(),
            Fault::KafkaAndConnect => {
                broker.restart();
                connect.restart();
            }
            Fault::Connect => connect.restart(),
            Fault::Nothing | Fault::Rows | Fault::Everyone => (),
        }
        connect.until_reading(postgres);
        for_a_while(random, 2_000);
    });
}

/// What happens to the resources themselves after it.
fn happens_to_resources(pipeline: &mut Pipeline, traffic: &Traffic, fault: Fault, random: &mut StdRng) {
    match fault {
        Fault::Rows => {
            let some = traffic.known().into_iter().filter(|_| random.random_bool(0.1)).collect();
            pipeline.inventory.delete_in_bulk(&some);
        }
        Fault::Everyone => {
            for key in traffic.known() {
                pipeline.inventory.delete(&key);
            }
        }
        _ => return,
    }
    traffic.report_everything(&mut pipeline.inventory);
}

#[test]
#[ignore = "goes on for as long as TARN_SOAK_SECONDS says"]
fn soak() {
    let Some(mut pipeline) = Pipeline::usual("soak") else { return };
    let mut random = seeded("soak::soak");
    let until = Instant::now() + Duration::from_secs(number("TARN_SOAK_SECONDS").unwrap_or(600));
    let mut traffic = Traffic::new(random.random(), 1_000);
    let (mut rounds, mut first) = (0, None);
    pipeline.tarn.stop();
    pipeline.tarn.restart(&SETTINGS);
    while Instant::now() < until {
        let fault = match FAULTS[random.random_range(0..FAULTS.len())] {
            Fault::Tarn if rounds >= WARM_UP_ROUNDS => Fault::Nothing,
            fault => fault,
        };
        println!("round {rounds}: {fault:?}");
        break_while_traffic_goes_on(&mut pipeline, &mut traffic, fault, &mut random);
        happens_to_resources(&mut pipeline, &traffic, fault, &mut random);
        pipeline.equals_postgres();
        pipeline.nothing_is_amiss();
        rounds += 1;
        let (bytes, files) = pipeline.tarn.holds();
        println!("  {} MB, {files} files", bytes >> 20);
        if rounds < WARM_UP_ROUNDS {
            continue;
        }
        let (bytes_then, files_then) = *first.get_or_insert((bytes, files));
        assert!(bytes < bytes_then + SLACK_BYTES, "{bytes_then} bytes have become {bytes}");
        assert!(files < files_then + SLACK_FILES, "{files_then} files have become {files}");
    }
}
