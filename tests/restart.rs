//! A restart anywhere: what an instant held, taken back, and the log read on. Epochs that were sealed before the restart
//! are sealed again with the same contents, to the last id that is remembered; the end is the same in any case.
//!
//! `TARN_CASES=20000 cargo test --test it restart` runs more; `TARN_SEED=n` runs one case.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tarn::dataflow::ShardConfig;
use tarn::generate::{FaultRates, Generator, GeneratorConfig};
use tarn::model::{Epoch, Position};
use tarn::published::ReadView;

use crate::property::{number, random_log};
use crate::support::engine::{Given, Run, Setup, run};

/// Everything that a view holds, as text.
fn everything(view: &ReadView) -> String {
    let orphans: Vec<_> = view.all_states().iter().map(|state| (state.id, view.orphaned_by(state.id))).collect();
    let contents = view.contents();
    format!("{:#?}\n{orphans:#?}\n{contents:#?}", view.position())
}

/// What people see of the last view, without when it was met.
fn seen(run: &Run) -> (BTreeMap<String, serde_json::Value>, Vec<String>) {
    let entries = run.last().quarantine();
    let quarantine = entries.iter().map(|entry| format!("{:?} {:?}", entry.coordinates(), entry.status));
    (run.live(run.last()), quarantine.collect())
}

fn check_case(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let log: Vec<Given> = random_log(&mut random).iter().map(Given::from).collect();
    let workers = |random: &mut StdRng| [1, 2, 4][random.random_range(0..3)];
    let retention_ms = [7 * 86_400_000, 1_000, 60_000, 3_600_000][random.random_range(0..4)];
    let shard = ShardConfig { tombstone_retention_ms: retention_ms, ..ShardConfig::default() };
    let epoch_records_max = random.random_range(1..60);
    let before = Setup { workers: workers(&mut random), epoch_records_max, shard, ..Setup::default() };
    let whole = run(log.clone(), &before);
    // The first may be the empty one from before the first epoch.
    let shown: Vec<&Arc<ReadView>> = whole.views.iter().filter(|view| view.epoch() > 0).collect();
    let kept = random.random_range(0..shown.len());
    let last = if random.random_bool(0.5) { shown.len() - 1 } else { random.random_range(kept..shown.len()) };
    let (view, sealed) = (shown[kept], &shown[kept..=last]);
    let after = Setup {
        workers: workers(&mut random),
        epoch_records_max: random.random_range(1..60),
        shard,
        resume: (**view.position()).clone(),
        in_flight_epochs_max: 0,
        topics: Vec::new(),
        restored: view.contents(),
        slice_states: random.random_range(1..20),
        bindings: sealed.iter().map(|view| (view.epoch(), Arc::clone(view.position()))).collect(),
        ..Setup::default()
    };
    let restarted = run(log, &after);
    let views: BTreeMap<Epoch, &Arc<ReadView>> = restarted.views.iter().map(|view| (view.epoch(), view)).collect();
    for expected in sealed {
        let found = views.get(&expected.epoch()).unwrap_or_else(|| panic!("{} is not sealed again", expected.epoch()));
        let (expected, found) = (everything(expected), everything(found));
        if expected != found {
            let differing = expected.lines().zip(found.lines()).enumerate().find(|(_, (a, b))| a != b);
            panic!("sealed again with other contents: {differing:?}");
        }
    }
    assert_eq!(restarted.last().position(), whole.last().position());
    if retention_ms > 3_600_000 {
        assert_eq!(seen(&restarted), seen(&whole));
    }
}

#[test]
fn a_restart_anywhere_seals_the_same_and_ends_the_same() {
    if let Some(seed) = number("TARN_SEED") {
        return check_case(seed);
    }
    for seed in 0..number("TARN_CASES").unwrap_or(300) {
        let failed = std::panic::catch_unwind(|| check_case(seed)).is_err();
        assert!(!failed, "seed {seed}; run: TARN_SEED={seed} cargo test --test it restart");
    }
}

/// While a partition stays away, what comes of the others waits, but not without end.
#[test]
fn what_waits_for_a_partition_that_stays_away_is_bounded() {
    let config = GeneratorConfig { resources: 20, ..GeneratorConfig::default() };
    let mut log: Vec<Given> = Generator::new(config).take(201).map(|record| Given::from(&record)).collect();
    let topic: Arc<str> = log[0].topic.as_str().into();
    let late = log.last_mut().expect("many");
    (late.partition, late.offset) = (1, 0);
    let position = |offsets: &[(i32, i64)]| {
        let mut position = Position::default();
        offsets.iter().for_each(|(partition, next)| position.advance(&topic, *partition, *next));
        Arc::new(position)
    };
    let bindings = vec![(5, position(&[])), (9, position(&[(0, 3), (1, 1)]))];
    for (resealing_bytes_max, epochs, incarnation_stays) in [(usize::MAX, [5, 9], true), (50_000, [5, 9], false)] {
        let setup = Setup { bindings: bindings.clone(), resealing_bytes_max, ..Setup::default() };
        let run = run(log.clone(), &setup);
        assert_eq!(run.last().position(), &position(&[(0, 200), (1, 1)]));
        let sealed = run.views.iter().filter(|view| epochs.contains(&view.epoch())).count();
        assert_eq!((sealed, run.last().incarnation() == 0), (if incarnation_stays { 2 } else { 1 }, incarnation_stays));
    }
}

/// News of orphans come back at epochs that are over, in whatever order the workers get on: that many of them, over a log
/// whose time goes on, leaves the same as one worker does.
#[test]
fn orphans_come_and_go_over_many_epochs_with_any_number_of_workers() {
    let faults = FaultRates { ghosts: 0.2, deletes: 0.1, revivals: 0.5, ..FaultRates::default() };
    for (seed, gap_us) in [(1, 20_000_000), (2, 60_000_000), (3, 1_000)] {
        let config = GeneratorConfig { seed, resources: 100, gap_us, faults, ..GeneratorConfig::default() };
        let log: Vec<Given> = Generator::new(config).take(3_000).map(|record| Given::from(&record)).collect();
        let runs = [(1, 2_000), (2, 1), (4, 2), (4, 7)].map(|(workers, epoch_records_max)| {
            run(log.clone(), &Setup { workers, epoch_records_max, in_flight_epochs_max: 32, ..Setup::default() })
        });
        for other in &runs[1..] {
            assert_eq!(seen(other), seen(&runs[0]), "seed {seed}");
        }
    }
}
