//! Parts that are killed while traffic goes on: each by itself, all at once, and a connector that stops over a report
//! that it cannot write. Nothing is lost and nothing counts twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::broker::HEARTBEATS;
use super::connect::settings;
use super::inventory::Inventory;
use super::traffic::Traffic;
use super::{Pipeline, patiently};
use crate::property::number;
use crate::served::get;

/// Between two reports while something is being broken.
const PACE: Duration = Duration::from_millis(3);

/// Ends the traffic, also when what is broken meanwhile fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Breaks something while traffic goes on.
pub fn under_traffic(inventory: &mut Inventory, traffic: &mut Traffic, broken: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                traffic.step(inventory);
                std::thread::sleep(PACE);
            }
        });
        let _over = Over(&over);
        broken();
    });
}

/// A seed that is told, and can be given.
pub fn seeded(test: &str) -> StdRng {
    let seed = number("TARN_SEED").unwrap_or_else(rand::random);
    println!("TARN_SEED={seed} cargo test --test it pipeline::faults::{test}");
    StdRng::seed_from_u64(seed)
}

pub fn for_a_while(random: &mut StdRng, ms_max: u64) {
    std::thread::sleep(Duration::from_millis(random.random_range(0..ms_max)));
}

/// How many events Tarn passed over since it was started, and how many it applied.
fn passed_over_and_applied(status: &Value) -> (u64, u64) {
    let sum = |family: &str| {
        let counts = status["counters"]["byReason"][family].as_object().cloned().unwrap_or_default();
        counts.values().filter_map(Value::as_u64).sum()
    };
    (sum("ignored"), sum("applied"))
}

/// Connect notes how far it is once a minute, so what it wrote since is written again.
#[test]
fn connect_is_killed_and_sends_its_suffix_again() {
    let Some(mut pipeline) = Pipeline::usual("connect_is_killed") else { return };
    let mut random = seeded("connect_is_killed_and_sends_its_suffix_again");
    let mut traffic = Traffic::new(11, 200);
    for _ in 0..2 {
        let Pipeline { inventory, connect, postgres, .. } = &mut pipeline;
        under_traffic(inventory, &mut traffic, || {
            std::thread::sleep(Duration::from_secs(1));
            for_a_while(&mut random, 2_000);
            connect.kill();
            connect.restart();
            connect.until_reading(postgres);
        });
        pipeline.equals_postgres();
    }
    let status = pipeline.tarn.status();
    let (passed_over, applied) = passed_over_and_applied(&status);
    println!("  {passed_over} of {} events came again", passed_over + applied);
    assert!(passed_over > 50, "a suffix was sent again: {status}");
    pipeline.nothing_is_amiss();
}

#[test]
fn kafka_is_restarted_in_order_and_killed() {
    let Some(mut pipeline) = Pipeline::usual("kafka_is_restarted") else { return };
    let mut random = seeded("kafka_is_restarted_in_order_and_killed");
    let mut traffic = Traffic::new(12, 200);
    for in_order in [true, false] {
        let Pipeline { inventory, broker, tarn, .. } = &mut pipeline;
        under_traffic(inventory, &mut traffic, || {
            for_a_while(&mut random, 1_500);
            if in_order {
                broker.stop()
            } else {
                broker.kill()
            }
            // Whether or not it could say before that it leads nothing any more.
            tarn.until_source("it is told", |source| source["phase"] == "disconnected");
            assert!(tarn.is_ready(), "what is known is served");
            for_a_while(&mut random, 2_000);
            broker.restart();
            for_a_while(&mut random, 1_000);
        });
        pipeline.equals_postgres();
    }
    pipeline.nothing_is_amiss();
}

#[test]
fn tarn_is_killed_ten_times() {
    let Some(mut pipeline) = Pipeline::usual("tarn_is_killed") else { return };
    let mut random = seeded("tarn_is_killed_ten_times");
    let mut traffic = Traffic::new(13, 300);
    let Pipeline { inventory, tarn, .. } = &mut pipeline;
    under_traffic(inventory, &mut traffic, || {
        for _ in 0..10 {
            for_a_while(&mut random, 1_500);
            tarn.kill();
            tarn.restart(&[]);
        }
    });
    pipeline.equals_postgres();
    // Lives may have been too short for a snapshot. This one is not, and the next one begins where it ends.
    patiently("a snapshot is taken", || pipeline.tarn.status()["snapshots"]["rows"].as_u64() > Some(0));
    pipeline.tarn.kill();
    pipeline.tarn.restart(&[]);
    pipeline.equals_postgres();
    pipeline.nothing_is_amiss();
    let (passed_over, applied) = passed_over_and_applied(&pipeline.tarn.status());
    let (met, written) = (i64::try_from(passed_over + applied).expect("few"), pipeline.broker.watermarks()[0].1);
    assert!(met < written, "it did not begin anew: {met} of {written}");
}

#[test]
fn all_three_are_killed_again_and_again() {
    let Some(mut pipeline) = Pipeline::usual("all_three") else { return };
    let mut random = seeded("all_three_are_killed_again_and_again");
    let mut traffic = Traffic::new(14, 300);
    for _ in 0..3 {
        let Pipeline { inventory, broker, connect, tarn, postgres, .. } = &mut pipeline;
        under_traffic(inventory, &mut traffic, || {
            for_a_while(&mut random, 2_000);
            broker.kill();
            for_a_while(&mut random, 500);
            tarn.kill();
            for_a_while(&mut random, 500);
            connect.kill();
            for_a_while(&mut random, 500);
            // Tarn comes back first, and finds nobody.
            tarn.restart(&[]);
            let resources = get(tarn.readers(), "/api/tarn/v1/resources?limit=1");
            assert_eq!(resources.status, 200, "what is known is served: {resources:?}");
            broker.restart();
            connect.restart();
            connect.until_reading(postgres);
        });
        pipeline.equals_postgres();
    }
    pipeline.nothing_is_amiss();
}

/// How old the newest heartbeat is that Tarn has heard; none: it heard none yet.
fn heartbeat_age_ms(pipeline: &Pipeline) -> Option<u64> {
    let status = pipeline.tarn.status();
    let heartbeats = &status["sourceState"]["heartbeats"];
    assert_eq!(heartbeats["topic"], HEARTBEATS, "{status}");
    heartbeats["newestAgeMs"].as_u64()
}

/// One report that Connect cannot write stops the whole pipeline. Nothing tells but the heartbeats, which end: of what
/// Tarn has nothing is wrong.
#[test]
fn a_report_that_connect_cannot_write_stops_the_pipeline() {
    let Some(mut pipeline) = Pipeline::usual("a_report_that_connect_cannot_write") else { return };
    let mut traffic = Traffic::new(15, 100);
    traffic.happen(&mut pipeline.inventory, 200);
    pipeline.equals_postgres();
    patiently("heartbeats are heard", || heartbeat_age_ms(&pipeline).is_some_and(|age| age < 2_500));
    let mut report = traffic.some_whole();
    let good = report.data.replace(json!({"ansible_host": "mixed", "odd": [1, "one"]}));
    pipeline.inventory.report(&report);
    patiently("the task gives up", || pipeline.connect.task() == "FAILED");
    traffic.happen(&mut pipeline.inventory, 50);
    let (end, beats) = (pipeline.broker.watermarks(), pipeline.broker.end_of(HEARTBEATS));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((pipeline.broker.watermarks(), pipeline.broker.end_of(HEARTBEATS)), (end, beats), "nothing comes");
    assert!(heartbeat_age_ms(&pipeline) > Some(2_900), "{}", pipeline.tarn.status());
    assert!(pipeline.tarn.is_ready(), "what is known is served");
    pipeline.nothing_is_amiss();

    // The operator lets the connector pass over what it cannot write, and the reporter says it again, well.
    let passing_over = settings(&[("errors.tolerance", "all")]);
    pipeline.connect.configure(&passing_over);
    pipeline.connect.until_reading(&pipeline.postgres);
    patiently("heartbeats are heard again", || heartbeat_age_ms(&pipeline).is_some_and(|age| age < 2_500));
    report.data = good;
    pipeline.inventory.report(&report);
    pipeline.equals_postgres();
    pipeline.nothing_is_amiss();
}
