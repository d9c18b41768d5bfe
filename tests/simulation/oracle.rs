//! What a simulated service has promised so far, and whether it keeps it.
//!
//! Everything that was ever shown is remembered: an epoch names one position and one set of contents for ever. A crash
//! may forget what was shown since the journal was last made durable, and only where the power went; what was shown
//! while the service said that it could not write bindings may be forgotten by any crash. At the end all epochs of the
//! last life, with those that it continues, are made once more by a pipeline that nothing interrupts and that has no
//! disk; and what is live is compared with an independent fold of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use tarn::clock::SystemClock;
use tarn::dataflow::{IngestConfig, Restored, ShardConfig, WallClock};
use tarn::durable::rows::Row;
use tarn::http::write_resource;
use tarn::model::{Epoch, Position};
use tarn::published::ReadView;
use tarn::source::resubmitted::ResubmittedQueue;
use xxhash_rust::xxh3::Xxh3;

use super::log::{Log, TOPICS, topics};
use super::process::{Beginning, Bound, Inlets, Pipeline, Told};
use crate::property::id_in_key;
use crate::support::reference::Reference;

/// Epochs are reserved so far ahead whenever the bindings are made durable.
const RESERVED_MS: u64 = 3_000;

/// Something that somebody has seen.
struct Shown {
    view: Arc<ReadView>,
    digest: u64,
    /// The life that showed it last.
    life: usize,
    /// Whether its binding is durable.
    is_durable: bool,
    /// Whether the service said that it might be forgotten.
    is_excused: bool,
    /// Whether no later epoch may be as small: it was reserved when it was shown.
    is_reserved: bool,
    /// Whether a power cut has taken it, as it may.
    is_forgotten: bool,
}

struct Life {
    incarnation: u64,
    /// Every epoch of the state as it is in this life, whoever sealed it.
    lineage: Vec<Bound>,
    /// The epochs that may be sealed again.
    again: BTreeSet<Epoch>,
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The process died; what it wrote is there.
    Kill,
    /// What was not fsynced may be lost.
    PowerCut,
}

/// The memory of all lives.
#[derive(Default)]
pub struct Oracle {
    shown: BTreeMap<Epoch, Shown>,
    lives: Vec<Life>,
    /// The worst that has happened since a life began.
    ended: Option<End>,
    /// Epochs up to here are reserved.
    reserved: Epoch,
    /// The instant of the last snapshot that was finished.
    pub confirmed: Epoch,
}

/// All that a view holds, in as many bits as it takes to tell it from another one.
fn digest(view: &ReadView) -> u64 {
    let contents = view.contents();
    let mut hasher = Xxh3::new();
    let mut put = |row: &Row| {
        for part in [row.key(), row.value()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(&part);
        }
    };
    for entry in &contents.quarantine {
        put(&Row::Rejected(Arc::clone(entry)));
        put(&Row::InQuarantine((entry.first_seen, entry.reject.order), entry.status));
    }
    contents.kept.iter().for_each(|(id, until)| put(&Row::Kept(*id, *until)));
    contents.seen_rejects.iter().for_each(|(key, reject)| put(&Row::SeenReject(*key, *reject)));
    contents.states.iter().for_each(|state| put(&Row::State(Arc::clone(state))));
    for state in &contents.states {
        hasher.update(view.orphaned_by(state.id).map_or([0; 16], |id| *id.uuid().as_bytes()).as_slice());
    }
    hasher.digest()
}

/// Where two views begin to differ, in words.
fn difference(expected: &ReadView, found: &ReadView) -> String {
    let text = |view: &ReadView| {
        let orphans: Vec<_> = view.all_states().iter().map(|state| view.orphaned_by(state.id)).collect();
        format!("{:#?}\n{:#?}\n{orphans:#?}", view.position(), view.contents())
    };
    let (expected, found) = (text(expected), text(found));
    let differs = expected.lines().zip(found.lines()).enumerate().find(|(_, (a, b))| a != b);
    format!("{differs:?}, {} and {} lines", expected.lines().count(), found.lines().count())
}

impl Oracle {
    /// A life began, after however many that could not.
    pub fn begins(&mut self, beginning: &Beginning, may_fall_back: bool) {
        let Beginning { restored, bindings, incarnation } = beginning;
        assert!(*restored >= self.confirmed || may_fall_back, "the snapshot at {} is lost", self.confirmed);
        let mut lineage = Vec::new();
        if *restored > 0 {
            let taken = self.shown.get(restored).expect("snapshots are of what was shown");
            let life = &self.lives[taken.life];
            lineage.extend(life.lineage.iter().filter(|(epoch, _)| epoch <= restored).cloned());
            assert_eq!(life.incarnation, *incarnation, "the life of the state that the snapshot at {restored} is of");
        }
        assert!(bindings.first().is_none_or(|(epoch, _)| epoch == restored));
        let again: BTreeMap<Epoch, &Arc<Position>> =
            bindings.iter().map(|(epoch, position)| (*epoch, position)).collect();
        let power_cut = self.ended == Some(End::PowerCut);
        let lives = &self.lives;
        self.shown.retain(|epoch, shown| {
            let goes_on = epoch > restored && lives[shown.life].incarnation == *incarnation;
            match again.get(epoch) {
                _ if !goes_on || shown.is_forgotten => {}
                Some(position) => assert_eq!(*position, shown.view.position(), "the position of {epoch}"),
                None => {
                    let may_be_forgotten = shown.is_excused || (power_cut && !shown.is_durable);
                    assert!(may_be_forgotten, "{epoch} is forgotten after {:?}, and the incarnation stays", self.ended);
                    shown.is_forgotten = true;
                }
            }
            let may_come_again = !shown.is_reserved && (shown.is_excused || (power_cut && !shown.is_durable));
            !may_come_again || again.contains_key(epoch) || epoch <= restored
        });
        let again = again.into_keys().collect();
        self.lives.push(Life { incarnation: *incarnation, lineage, again });
        self.ended = None;
    }

    /// Something was sealed and shown.
    pub fn hears(&mut self, told: Told, is_told_of_trouble: bool) {
        let reserved = self.reserved;
        if is_told_of_trouble {
            // What was written since the journal was last durable is in doubt as well, until it is written again.
            self.shown.values_mut().filter(|shown| !shown.is_durable).for_each(|shown| shown.is_excused = true);
        }
        let number = self.lives.len() - 1;
        let life = self.lives.last_mut().expect("a life has begun");
        let last_shown = self.shown.last_key_value().map_or(0, |(epoch, _)| *epoch);
        for (epoch, position) in told.bound {
            let last = life.lineage.last().map_or(0, |(epoch, _)| *epoch);
            assert!(epoch > last || (epoch == last && life.again.contains(&epoch)), "{epoch} after {last}");
            assert!(life.again.contains(&epoch) || epoch > last_shown, "new epoch {epoch}, but {last_shown} was shown");
            if epoch > last {
                life.lineage.push((epoch, position));
            }
        }
        for view in told.shown {
            let digest = digest(&view);
            let before = self.shown.get(&view.epoch());
            if let Some(before) = before.filter(|before| before.digest != digest) {
                panic!("epoch {} is shown with other contents: {}", view.epoch(), difference(&before.view, &view));
            }
            let (is_durable, is_excused) = before.map_or((false, is_told_of_trouble), |before| {
                assert_eq!(before.view.position(), view.position(), "epoch {}", view.epoch());
                (before.is_durable, before.is_excused)
            });
            let is_reserved = view.epoch() <= reserved || before.is_some_and(|before| before.is_reserved);
            let shown = Shown { view, digest, life: number, is_durable, is_excused, is_reserved, is_forgotten: false };
            self.shown.insert(shown.view.epoch(), shown);
        }
    }

    /// All bindings so far are durable, at this time of the wall.
    pub fn synced(&mut self, wall_ms: u64) {
        let sealed = self.lives.last().and_then(|life| life.lineage.last()).map_or(0, |(epoch, _)| *epoch);
        self.reserved = sealed.max(wall_ms) + RESERVED_MS;
        for shown in self.shown.values_mut() {
            (shown.is_durable, shown.is_excused) = (true, false);
        }
    }

    /// The life is over, or could not begin.
    pub fn ends(&mut self, end: End) {
        self.ended = self.ended.max(Some(end));
    }

    /// Everything that belongs to the last life, made again without any disk or interruption.
    pub fn check_against_an_uninterrupted_run(&self, log: &Log, shard: ShardConfig) {
        let lineage = &self.lives.last().expect("a life has begun").lineage;
        let topics = topics();
        let ingest = IngestConfig {
            bindings: lineage.clone(),
            last_epoch: lineage.last().map_or(0, |(epoch, _)| *epoch),
            in_flight_epochs_max: 0,
            ends_with_source: false,
            ..IngestConfig::default()
        };
        let source = Box::new(log.read_from_its_beginning().reader(&Position::default(), &topics, None, 1));
        let inlets = Inlets {
            source,
            epochs: Box::<WallClock>::default(),
            binding_log: Box::new(()),
            resubmitted: ResubmittedQueue::default(),
            clock: Arc::new(SystemClock),
        };
        let mut pipeline = Pipeline::new(inlets, shard, ingest, Restored::default(), &topics, None);
        let mut left: BTreeMap<Epoch, &Shown> =
            lineage.iter().filter_map(|(epoch, _)| Some((*epoch, self.shown.get(epoch)?))).collect();
        let mut steps = 0;
        while !left.is_empty() {
            pipeline.step();
            for view in pipeline.told().shown {
                if let Some(expected) = left.remove(&view.epoch())
                    && expected.digest != digest(&view)
                {
                    panic!("epoch {} is not what it should be: {}", view.epoch(), difference(&view, &expected.view));
                }
            }
            steps += 1;
            assert!(steps < 100_000, "{} epochs cannot be made again", left.len());
        }
    }
}

/// What is live, against a fold that knows nothing of epochs, duplicates and disks.
pub fn check_against_the_reference(view: &ReadView, log: &Log) {
    let next = view.position().next_offset(TOPICS[0], 0).unwrap_or(0);
    let mut reference = Reference::default();
    for record in log.resources().take_while(|record| record.offset < next) {
        if !record.redelivery && !record.poison {
            let header = |index: usize| record.headers[index].1.as_deref().expect("a good record's headers");
            let (id, value) = (id_in_key(record), record.value.as_deref());
            reference.fold(&id, header(1), header(0), value, record.topic, record.offset);
        }
    }
    let topics = topics();
    let states = view.all_states();
    let live = states.iter().filter(|state| state.is_live()).map(|state| {
        let mut json = Vec::new();
        write_resource(&mut json, state, view.orphaned_by(state.id), &topics);
        (state.id.to_string(), serde_json::from_slice(&json).expect("a resource is JSON"))
    });
    let live: BTreeMap<String, Value> = live.collect();
    assert_eq!(live, reference.live());
}
