//! A whole service on one thread over files, clocks and dice that a test has: ingest, fold, bindings and snapshots, with
//! every fault of a disk, at every operation.
//!
//! `TARN_SIMULATION_SEEDS=1000000 cargo test --test it simulation::lives` runs more; `TARN_SIMULATION_SEED=n` one.

mod log;
mod oracle;
mod process;
mod world;

use std::ops::Range;

use crate::property::number;
use world::World;

fn seeds() -> Range<u64> {
    match number("TARN_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TARN_SIMULATION_SEEDS").unwrap_or(2_000),
    }
}

fn check(seed: u64) {
    if let Err(panic) = std::panic::catch_unwind(|| World::new(seed, number("TARN_SIMULATION_SEED").is_some()).run()) {
        eprintln!("seed {seed}; again: TARN_SIMULATION_SEED={seed} cargo test --test it simulation::lives");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn lives_that_end_badly_lose_nothing_and_change_nothing_that_was_shown() {
    seeds().for_each(check);
}
