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
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tarn::dataflow::{Binding, BindingLog};
use tarn::durable::{Durable, Machine};
use tarn::snapshot::StoreKind;

use crate::property::number;
use crate::served::eventually;
use crate::support::simulated_files::{Fault, SimulatedVfs};
use log::{SimulatedClock, topics};
use process::DATA;
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

#[test]
fn bindings_of_what_is_shown_outlive_the_process_also_while_an_fsync_hangs() {
    let vfs = SimulatedVfs::new(1);
    let open = |vfs: &SimulatedVfs| {
        let machine = Machine {
            vfs: Arc::new(vfs.clone()),
            store: StoreKind::Files,
            clock: Arc::new(SimulatedClock::new(1_000)),
            random: Arc::new(|| 1),
        };
        Durable::open(Path::new(DATA), machine, &topics()).expect("it opens")
    };
    let binding = |epoch| Binding {
        epoch,
        position: Arc::default(),
        incarnation: 1,
        polled_at: None,
        whole_at: None,
        newest_event: None,
    };
    let (durable, _) = open(&vfs);
    let mut bindings = durable.bindings();
    bindings.note(&binding(1_000_000));
    for (life, last) in [2_000_000, 3_000_000].into_iter().enumerate() {
        vfs.hang(true);
        let syncing = std::thread::spawn({
            let bindings = bindings.clone();
            move || bindings.sync()
        });
        eventually("an fsync hangs", || vfs.hanging() == 1);
        let begun = Instant::now();
        (last - 10..=last).for_each(|epoch| bindings.note(&binding(epoch)));
        assert!(begun.elapsed() < Duration::from_millis(500), "the ingest does not wait for it");
        // The process is killed now; the system goes on.
        let killed = vfs.after_power_cut(7, 1.0);
        let (_, recovered) = open(&killed);
        assert_eq!(recovered.last_epoch, last);
        // Or the fsync comes back, after which it fails.
        vfs.fail_at(vfs.operations(), if life == 0 { Fault::Error(ErrorKind::Other) } else { Fault::Stop });
        vfs.hang(false);
        syncing.join().expect("no panic");
        bindings.note(&binding(last + 1));
        assert_eq!(open(&vfs.after_power_cut(7, 1.0)).1.last_epoch, last + 1 - life as u64);
    }
}
