//! A random history of a service: what happens to it, drawn from a seed.
//!
//! A life reads, folds, syncs and takes snapshots in any order while time passes and the disk fails now and then; it ends
//! by a stop, a kill or a power cut, at any moment or within an operation on a file. The last one is left in peace.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tarn::clock::Clock;
use tarn::dataflow::{IngestConfig, ShardConfig, WallClock};
use tarn::generate::{FaultRates, Generated, Generator, GeneratorConfig, Popularity};
use tarn::model::Position;

use super::log::{Log, SimulatedClock};
use super::oracle::{End, Oracle, check_against_the_reference};
use super::process::Process;
use crate::support::simulated_files::{Fault, SimulatedVfs};

/// The bindings are to be durable as often as this.
const SYNC_MS: u64 = 1_000;
const BEGAN_MS: u64 = 1_795_000_000_000;
/// Of one that is tried with a fault at every operation.
const ACTIONS_OF_A_LIFE: usize = 60;
const DAY_MS: u64 = 86_400_000;

/// What happens, and how often it is drawn.
#[derive(Debug, Clone, Copy)]
enum Action {
    Read,
    Work,
    Sync,
    Snapshot,
    Pass,
    SetClock,
    Retain,
    Break,
    Mend,
}

const ACTIONS: [(Action, u32); 9] = [
    (Action::Read, 30),
    (Action::Work, 25),
    (Action::Sync, 8),
    (Action::Snapshot, 8),
    (Action::Pass, 12),
    (Action::SetClock, 2),
    (Action::Retain, 3),
    (Action::Break, 6),
    (Action::Mend, 6),
];

/// A service, its log, its machine, and what it has promised.
pub struct World {
    random: StdRng,
    pub vfs: SimulatedVfs,
    clock: SimulatedClock,
    log: Log,
    shard: ShardConfig,
    ingest: IngestConfig,
    pub oracle: Oracle,
    synced_ms: u64,
    /// The last position in each generation that was finished, newest last.
    generations: Vec<(u64, Position)>,
    taken: u64,
    /// Whether anything is broken at random.
    breaks: bool,
    /// Whether to tell what happens.
    tells: bool,
    /// Whether the reference may be asked: it remembers what is deleted for ever.
    forgets_nothing: bool,
}

fn small_log(random: &mut StdRng) -> Vec<Generated> {
    let config = GeneratorConfig {
        seed: random.random(),
        resources: random.random_range(1..12),
        start_ms: BEGAN_MS,
        gap_us: [1_000, 100_000, 5_000_000][random.random_range(0..3)],
        popularity: if random.random_bool(0.5) { Popularity::Zipf(1.0) } else { Popularity::Sweep },
        faults: FaultRates {
            replays: random.random_range(0.0..0.05),
            batch_duplicates: random.random_range(0.0..0.1),
            moves: 0.2,
            deletes: random.random_range(0.0..0.3),
            revivals: random.random_range(0.0..1.0),
            ghosts: if random.random_bool(0.3) { 0.1 } else { 0.0 },
            clock_skew_ms: [0, 500, 2_000][random.random_range(0..3)],
            legacy: random.random_range(0.0..0.5),
            poison: random.random_range(0.0..0.1),
            tuples: random.random_bool(0.2),
        },
        ..GeneratorConfig::default()
    };
    let length = random.random_range(20..100);
    Generator::new(config).take(length).collect()
}

impl World {
    pub fn new(seed: u64, tells: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let log = Log::new(small_log(&mut random), random.random_bool(0.2));
        let retention_ms = [7 * DAY_MS, 7 * DAY_MS, 1_000, 60_000][random.random_range(0..4)];
        let ingest = IngestConfig {
            seal_interval: Duration::from_millis(random.random_range(0..30)),
            epoch_records_max: random.random_range(1..30),
            in_flight_epochs_max: [0, 3, 32][random.random_range(0..3)],
            ..IngestConfig::default()
        };
        Self {
            vfs: SimulatedVfs::new(random.random()),
            clock: SimulatedClock::new(BEGAN_MS),
            log,
            shard: ShardConfig { tombstone_retention_ms: retention_ms, ..ShardConfig::default() },
            ingest,
            oracle: Oracle::default(),
            synced_ms: 0,
            generations: Vec::new(),
            taken: 0,
            forgets_nothing: retention_ms == 7 * DAY_MS,
            breaks: true,
            tells,
            random,
        }
    }

    /// The whole history.
    pub fn run(mut self) {
        for _ in 0..self.random.random_range(1..6) {
            if self.random.random_bool(0.3) {
                self.break_something(150);
            }
            self.live();
            self.vfs.heal();
        }
        self.rest();
    }

    fn tell(&self, what: std::fmt::Arguments<'_>) {
        if self.tells {
            eprintln!(
                "{} ms, wall {}, operation {}: {what}",
                self.clock.elapsed_ms(),
                self.clock.now_ms(),
                self.vfs.operations()
            );
        }
    }

    /// How many operations a life has in which nothing goes wrong.
    pub fn count_operations(mut self) -> u64 {
        self.breaks = false;
        self.live_for(ACTIONS_OF_A_LIFE);
        self.vfs.operations()
    }

    /// The same life with one thing that goes wrong, then a crash, and then one that is left in peace. `kept` is the
    /// chance of what was not fsynced to be there after a power cut; with none it is a kill.
    pub fn run_with(mut self, operation: u64, fault: Fault, kept: Option<f64>) {
        self.breaks = false;
        self.vfs.fail_at(operation, fault);
        self.live_for(ACTIONS_OF_A_LIFE);
        self.end(kept);
        self.vfs.heal();
        self.rest();
    }

    /// A life that ends at some time.
    fn live(&mut self) {
        let actions = self.random.random_range(5..60);
        self.live_for(actions);
        let kept = [0.0, 0.3, 0.9, 1.0][self.random.random_range(0..4)];
        let power_cut = self.random.random_bool(0.6);
        self.end(Some(kept).filter(|_| power_cut));
    }

    fn live_for(&mut self, actions: usize) {
        let Some(mut process) = self.begin() else { return };
        for _ in 0..actions {
            self.act(&mut process);
            if self.vfs.stopped() {
                return;
            }
        }
        if self.random.random_bool(0.2) {
            self.stop(&mut process);
        }
    }

    /// The process is gone, and perhaps the power was.
    fn end(&mut self, kept: Option<f64>) {
        self.tell(format_args!("ends; kept in a power cut: {kept:?}"));
        if let Some(kept) = kept {
            self.vfs = self.vfs.after_power_cut(self.random.random(), kept);
            self.oracle.ends(End::PowerCut);
        } else {
            self.oracle.ends(End::Kill);
        }
    }

    /// Starts, if the disk lets it.
    fn begin(&mut self) -> Option<Process> {
        let errors = self.vfs.errors();
        let (clock, log, reader) = (self.clock.clone(), self.log.clone(), self.random.random());
        let started = Process::start(
            &self.vfs,
            &self.clock,
            |resume, topics| Box::new(log.reader(resume, topics, Some(clock), reader)),
            Box::new(WallClock::new(Arc::new(self.clock.clone()))),
            (self.shard, self.ingest.clone()),
            self.random.random(),
        );
        let has_failed = self.vfs.errors() > errors;
        let (mut process, beginning) = match started {
            Ok(_) if self.vfs.stopped() => return None,
            Ok(started) => started,
            Err(error) => {
                assert!(has_failed, "nothing failed, but it does not start: {error}");
                return None;
            }
        };
        self.tell(format_args!(
            "begins at {} with {:?}, incarnation {}",
            beginning.restored, beginning.bindings, beginning.incarnation
        ));
        self.oracle.begins(&beginning, has_failed);
        self.taken = 0;
        self.after_sync(&process);
        self.hear(&mut process);
        Some(process)
    }

    /// What was sealed and shown.
    fn hear(&mut self, process: &mut Process) {
        let is_told_of_trouble = process.health.get().bindings_error.is_some();
        let told = process.pipeline.told();
        if !told.bound.is_empty() || !told.shown.is_empty() {
            let shown: Vec<_> = told.shown.iter().map(|view| view.epoch()).collect();
            self.tell(format_args!("sealed {:?}, shown {shown:?}, trouble {is_told_of_trouble}", told.bound));
        }
        self.oracle.hears(told, is_told_of_trouble);
    }

    fn act(&mut self, process: &mut Process) {
        let mut drawn = self.random.random_range(0..ACTIONS.iter().map(|(_, weight)| weight).sum());
        let (action, _) = ACTIONS
            .iter()
            .find(|(_, weight)| {
                let is_it = drawn < *weight;
                drawn = drawn.saturating_sub(*weight);
                is_it
            })
            .expect("one is drawn");
        self.tell(format_args!("{action:?}"));
        match action {
            Action::Read => {
                self.log.write(self.random.random_range(0..15));
                (0..self.random.random_range(1..6)).for_each(|_| process.pipeline.step());
            }
            Action::Work => (0..self.random.random_range(1..30)).for_each(|_| process.pipeline.turn()),
            Action::Sync => {
                self.break_now_and_then();
                self.sync(process);
            }
            Action::Snapshot => {
                self.break_now_and_then();
                self.take(process);
            }
            Action::Pass => self.clock.advance(10_u64.pow(self.random.random_range(0..5))),
            Action::SetClock => {
                let ms = 10_i64.pow(self.random.random_range(2..8));
                self.clock.set_by(if self.random.random_bool(0.5) { ms } else { -ms });
            }
            Action::Retain => self.retain(),
            Action::Break => self.break_something(20),
            Action::Mend if self.breaks => self.vfs.heal(),
            Action::Mend => {}
        }
        self.hear(process);
        if self.clock.elapsed_ms() - self.synced_ms >= SYNC_MS {
            self.sync(process);
        }
    }

    /// Something fails soon.
    fn break_something(&mut self, within: u64) {
        if !self.breaks {
            return;
        }
        let fault = match self.random.random_range(0..8) {
            0 => Fault::Full(ErrorKind::StorageFull),
            1 => Fault::Error(ErrorKind::StorageFull),
            2..4 => Fault::Error(ErrorKind::Other),
            _ => Fault::Stop,
        };
        let at = self.vfs.operations() + self.random.random_range(0..within);
        self.tell(format_args!("{fault:?} at {at}"));
        self.vfs.fail_at(at, fault);
    }

    fn break_now_and_then(&mut self) {
        if self.random.random_bool(0.15) {
            self.break_something(40);
        }
    }

    fn sync(&mut self, process: &Process) {
        process.bindings.sync();
        self.after_sync(process);
    }

    fn after_sync(&mut self, process: &Process) {
        self.synced_ms = self.clock.elapsed_ms();
        if process.health.get().bindings_error.is_none() && !self.vfs.stopped() {
            self.oracle.synced(self.clock.now_ms());
        }
    }

    fn take(&mut self, process: &mut Process) {
        let errors = self.vfs.errors();
        process.snapshots.take();
        let health = process.health.get();
        assert!(health.last_error.is_none() || self.vfs.errors() > errors || health.failed > 0, "{health:?}");
        if health.taken > self.taken && !self.vfs.stopped() {
            self.taken = health.taken;
            let view = process.pipeline.view();
            self.oracle.confirmed = view.epoch();
            self.generations.retain(|(generation, _)| *generation != health.generation);
            self.generations.push((health.generation, (**view.position()).clone()));
        }
    }

    /// The log's start moves on, as far as the older of two generations allows.
    fn retain(&mut self) {
        if let [.., (_, older), _] = self.generations.as_slice()
            && !self.log.is_file
        {
            self.log.begin_at(older);
        }
    }

    /// A stop as operators do it; everything is then in a snapshot.
    fn stop(&mut self, process: &mut Process) {
        process.pipeline.stop();
        self.hear(process);
        self.take(process);
        self.sync(process);
    }

    /// A life in which nothing fails: all is read and shown, nothing is told any more, and the next one begins there.
    fn rest(mut self) {
        let mut process = self.begin().expect("nothing fails any more");
        self.log.write(usize::MAX);
        let end = self.log.end();
        while !process.pipeline.view().position().reached(&end) {
            process.pipeline.step();
            (0..10).for_each(|_| process.pipeline.turn());
            self.hear(&mut process);
            if self.clock.elapsed_ms() - self.synced_ms >= SYNC_MS {
                self.sync(&process);
            }
        }
        self.stop(&mut process);
        let (health, view) = (process.health.get(), process.pipeline.view());
        assert_eq!((health.bindings_error, health.last_error), (None, None), "nothing fails any more");
        if self.forgets_nothing {
            check_against_the_reference(&view, &self.log);
        }
        self.oracle.check_against_an_uninterrupted_run(&self.log, self.shard);
        drop(process);
        self.vfs = self.vfs.after_power_cut(0, 0.0);
        self.oracle.ends(End::PowerCut);
        let mut process = self.begin().expect("nothing fails any more");
        while process.pipeline.view().epoch() < view.epoch() {
            process.pipeline.step();
            process.pipeline.turn();
            self.hear(&mut process);
        }
        let again = process.pipeline.view();
        assert_eq!(again.position(), view.position());
    }
}
