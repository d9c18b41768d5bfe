//! A whole service on one thread over files, clocks and dice that a test has: ingest, fold, bindings and snapshots, with
//! every fault of a disk, at every operation.
//!
//! `TARN_SIMULATION_SEEDS=1000000 cargo test --test it simulation::lives` runs more; `TARN_SIMULATION_SEED=n` runs one
//! and tells what happens. `TARN_SIMULATION_HISTORIES=100 cargo test --test it simulation::every` tries more histories
//! with a fault at every operation.

mod log;
mod oracle;
mod process;
mod world;

use std::io::ErrorKind;

use crate::property::number;
use crate::support::simulated_files::Fault;
use world::World;

/// Seeds beyond the usual ones that find something: which epochs are reserved is forgotten with the segment of the
/// journal that said so.
const FOUND_SOMETHING: [u64; 1] = [2_748];

fn check(seed: u64, tells: bool) {
    if let Err(panic) = std::panic::catch_unwind(|| World::new(seed, tells).run()) {
        eprintln!("seed {seed}; again: TARN_SIMULATION_SEED={seed} cargo test --test it simulation::lives");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn lives_that_end_badly_lose_nothing_and_change_nothing_that_was_shown() {
    if let Some(seed) = number("TARN_SIMULATION_SEED") {
        return check(seed, true);
    }
    let usual = 0..number("TARN_SIMULATION_SEEDS").unwrap_or(2_000);
    usual.chain(FOUND_SOMETHING).for_each(|seed| check(seed, false));
}

#[test]
fn every_operation_may_be_the_last_or_fail() {
    for seed in 0..number("TARN_SIMULATION_HISTORIES").unwrap_or(1) {
        let operations = World::new(seed, false).count_operations();
        let wrongs = [
            (Fault::Stop, Some(0.0)),
            (Fault::Stop, Some(0.5)),
            (Fault::Stop, None),
            (Fault::Error(ErrorKind::Other), Some(0.0)),
            (Fault::Full(ErrorKind::StorageFull), None),
        ];
        for (operation, (fault, kept)) in (0..operations).flat_map(|index| wrongs.map(|wrong| (index, wrong))) {
            let result = std::panic::catch_unwind(|| World::new(seed, false).run_with(operation, fault, kept));
            if let Err(panic) = result {
                eprintln!("history {seed}, {fault:?} at operation {operation}, kept in a power cut: {kept:?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}
