//! From a data directory to what the service begins with.
//!
//! The newest generation that is good is loaded (`snapshot` verifies it and falls back by itself), its runs laid over one
//! another, tombstones left out that were forgotten by then, and the bindings after it read from the journal. Without a
//! good generation there is nothing to begin with, and the log is read from its beginning. Failure: a directory that
//! cannot be used, or that a newer version wrote, is refused before anything is touched; so is one whose generations
//! cannot be read, in contrast to damaged ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bindings::{self, Bindings, JOURNAL, Said, Syncing};
use super::machine::Machine;
use super::resubmitted::{self, Resubmissions};
use super::rows::{ROWS_VERSION, Row, RowError};
use super::taker::{Snapshots, Taker, TakerConfig, Watched};
use super::{Health, RunMeta, position};
use crate::dataflow::{KeptUntil, RejectKey, Restored, SeenReject};
use crate::model::{Epoch, Position, QuarantineEntry, QuarantineStatus, ResourceId, State, Topics};
use crate::snapshot::{
    Directory, Generations, Journal, JournalError, Loaded, Manifest, SnapshotError, Vfs, read, replace,
};
use crate::source::identity::LogIdentity;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The directory, or a generation in it, is refused.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The journal of bindings cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Rows with the right checksums that cannot be read.
    #[error("generation {generation} cannot be read: {error}")]
    Row {
        /// Which.
        generation: u64,
        /// What is wrong.
        error: RowError,
    },
    /// What stands beside the rows cannot be read.
    #[error("generation {generation} does not say what it holds: {why}")]
    Meta {
        /// Which.
        generation: u64,
        /// What is wrong.
        why: String,
    },
    /// The key of the tokens can neither be read nor made.
    #[error("the key of the tokens in {path}")]
    TokenKey {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("could not start a thread")]
    Thread(#[from] std::io::Error),
}

/// What the service begins with.
#[derive(Debug, Default)]
pub struct Recovered {
    /// What the instant held; its epoch is 0 where there was none.
    pub restored: Restored,
    /// How far the log was read at it.
    pub position: Position,
    /// The epochs to seal again, the instant's own first.
    pub bindings: Vec<(Epoch, Arc<Position>)>,
    /// New epochs are greater than this.
    pub last_epoch: Epoch,
    /// Which life of the state this is.
    pub incarnation: u64,
    /// What tells the log from another one.
    pub identity: LogIdentity,
    /// Since when events are missing that the log lost, ms since 1970.
    pub incomplete_since_ms: Option<u64>,
    /// From which the key of the tokens is made.
    pub token_secret: String,
}

impl Recovered {
    /// Nothing: a new life of the state.
    pub fn nothing() -> Self {
        Self { incarnation: rand::random(), ..Self::default() }
    }
}

/// An open data directory, between its recovery and its being written.
#[derive(Debug)]
pub struct Durable {
    pub(super) generations: Generations,
    pub(super) bindings: Bindings,
    /// None as long as nothing makes the bindings durable by itself.
    pub(super) syncing: Option<Syncing>,
    pub(super) resubmissions: Resubmissions,
    pub(super) health: Arc<Health>,
    pub(super) last: Option<RunMeta>,
    pub(super) path: PathBuf,
    pub(super) machine: Machine,
}

/// The runs of a generation, laid over one another.
#[derive(Default)]
pub(super) struct Runs {
    base: Vec<Arc<State>>,
    changed: HashMap<ResourceId, Arc<State>>,
    run: usize,
    kept: Vec<(ResourceId, KeptUntil)>,
    rejected: BTreeMap<RejectKey, Arc<QuarantineEntry>>,
    in_quarantine: Vec<(RejectKey, QuarantineStatus)>,
    seen_rejects: Vec<(RejectKey, SeenReject)>,
    error: Option<RowError>,
}

impl Runs {
    /// Takes a row, of the base first.
    pub(super) fn take(&mut self, run: usize, key: &[u8], value: &[u8]) {
        if run > self.run {
            // What every run lists anew.
            self.run = run;
            self.kept.clear();
            self.in_quarantine.clear();
        }
        match Row::read(key, value) {
            Ok(Row::State(state)) if run == 0 => self.base.push(state),
            Ok(Row::State(state)) => drop(self.changed.insert(state.id, state)),
            Ok(Row::Kept(id, until)) => self.kept.push((id, until)),
            Ok(Row::Rejected(entry)) => drop(self.rejected.insert((entry.first_seen, entry.reject.order), entry)),
            Ok(Row::InQuarantine(key, status)) => self.in_quarantine.push((key, status)),
            Ok(Row::SeenReject(key, reject)) => self.seen_rejects.push((key, reject)),
            Err(error) => self.error = self.error.take().or(Some(error)),
        }
    }

    /// Everything at the instant of the last run, and what stands beside it; topics get the numbers that they had.
    pub(super) fn finish(self, manifest: &Manifest, topics: &Topics) -> Result<(Restored, RunMeta), DurableError> {
        let generation = manifest.generation;
        let run = manifest.runs.last().expect("a generation that was loaded has a base");
        let meta = read_meta(generation, &run.meta)?;
        for name in &meta.topics {
            topics.intern(name);
        }
        let contents = self.into_contents(manifest.runs.len() - 1, &meta);
        Ok((contents.map_err(|error| DurableError::Row { generation, error })?, meta))
    }

    fn into_contents(mut self, last_run: usize, meta: &RunMeta) -> Result<Restored, RowError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if last_run > self.run {
            // The last run lists nothing.
            (self.kept, self.in_quarantine) = Default::default();
        }
        let kept: BTreeSet<ResourceId> = self.kept.iter().map(|(id, _)| *id).collect();
        let remains = |state: &Arc<State>| {
            let due = state.last.epoch.saturating_add(meta.tombstone_retention_ms);
            state.is_live() || due > meta.epoch || kept.contains(&state.id)
        };
        let mut states = self.base;
        for state in &mut states {
            if let Some(changed) = self.changed.remove(&state.id) {
                *state = changed;
            }
        }
        states.extend(self.changed.into_values());
        states.retain(remains);
        let mut quarantine = Vec::with_capacity(self.in_quarantine.len());
        for (key, status) in self.in_quarantine {
            let entry = self.rejected.remove(&key).ok_or(RowError("a quarantine entry without its record"))?;
            quarantine.push(Arc::new(QuarantineEntry { status, ..Arc::unwrap_or_clone(entry) }));
        }
        Ok(Restored { epoch: meta.epoch, states, kept: self.kept, quarantine, seen_rejects: self.seen_rejects })
    }
}

impl Durable {
    /// Opens a data directory and loads what it holds; topics get the numbers that they had. Epochs are reserved before
    /// this returns, if the disk works.
    pub fn open(path: &Path, machine: Machine, topics: &Topics) -> Result<(Self, Recovered), DurableError> {
        let directory = Directory::open(Arc::clone(&machine.vfs), path)?;
        let (token_secret, is_own) = token_secret(&machine, path)?;
        let mut generations = Generations::new(directory, machine.environment());
        let loaded = or_refuse(generations.load(Runs::default, Runs::take)?)?;
        let (resubmitted, found) = Journal::open(Arc::clone(&machine.vfs), path, resubmitted::JOURNAL)?;
        if let Some(lost) = &found.lost {
            tracing::error!(%lost, "records that were submitted again are lost");
        }
        let again = resubmitted::Said::read(found.records.iter().map(|(at, record)| (at.segment, record)));
        let (journal, found) = Journal::open(Arc::clone(&machine.vfs), path, JOURNAL)?;
        let said = bindings::read(found.records.iter().map(|(_, record)| record));
        if let Some(lost) = &found.lost {
            tracing::error!(%lost, "bindings of epochs are lost");
        }
        let incarnation = (machine.random)();
        let mut recovered = Recovered { token_secret, last_epoch: said.ceiling, incarnation, ..Recovered::default() };
        let mut last = None;
        if let Some((runs, manifest)) = loaded.contents {
            let (restored, meta) = runs.finish(&manifest, topics)?;
            recovered.restored = restored;
            recovered.position = position(&meta.position);
            recovered.identity = meta.identity.clone();
            recovered.incomplete_since_ms = meta.incomplete_since_ms;
            recovered.last_epoch = said.ceiling.max(meta.epoch);
            recovered.bindings = vec![(meta.epoch, Arc::new(recovered.position.clone()))];
            let can_be_read_again = said.bindings.last().is_none_or(|(_, end)| again.covers(&recovered.position, end));
            if let Some(after) = continued(said, &meta, found.lost.is_none() && can_be_read_again && is_own) {
                recovered.bindings.extend(after);
                recovered.incarnation = meta.incarnation;
            }
            last = Some(meta);
        } else if !loaded.fallbacks.is_empty() {
            tracing::error!("no generation is good: the state is made anew from the log");
        }
        let health = Arc::new(Health::default());
        let bindings = Bindings::new(journal, recovered.last_epoch, Arc::clone(&machine.clock), Arc::clone(&health));
        bindings.sync();
        let resubmissions =
            Resubmissions::new(Some(resubmitted), again, (recovered.restored.epoch, &recovered.position), topics);
        let durable =
            Self { generations, bindings, syncing: None, resubmissions, health, last, path: path.to_owned(), machine };
        Ok((durable, recovered))
    }

    /// Starts to make the bindings durable every second.
    pub fn sync_bindings(&mut self) -> Result<(), DurableError> {
        self.syncing = Some(self.bindings.start()?);
        Ok(())
    }

    /// Where records are submitted again.
    pub fn resubmissions(&self) -> Resubmissions {
        self.resubmissions.clone()
    }

    /// Where bindings go.
    pub fn bindings(&self) -> Bindings {
        self.bindings.clone()
    }

    /// How keeping things goes.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Starts to take snapshots of what is published.
    pub fn take_snapshots(mut self, config: TakerConfig, watched: Watched) -> Result<Taker, DurableError> {
        let syncing = self.syncing.take();
        Ok(Taker::start(config.interval, self.snapshots(config, watched), syncing)?)
    }

    /// Snapshots of what is published, taken when they are asked for.
    pub fn snapshots(self, config: TakerConfig, watched: Watched) -> Snapshots {
        Snapshots::new(config, self, watched)
    }
}

/// What is good may be in a generation that cannot be read now: without any that can, nothing is begun in its place. The
/// log may not go back as far as it does.
fn or_refuse<T>(loaded: Loaded<T>) -> Result<Loaded<T>, SnapshotError> {
    let Loaded { contents, mut fallbacks } = loaded;
    match fallbacks.iter().position(|fallback| !fallback.error.is_damage()) {
        Some(place) if contents.is_none() => Err(fallbacks.swap_remove(place).error),
        _ => Ok(Loaded { contents, fallbacks }),
    }
}

fn read_meta(generation: u64, bytes: &[u8]) -> Result<RunMeta, DurableError> {
    let meta: RunMeta =
        serde_json::from_slice(bytes).map_err(|error| DurableError::Meta { generation, why: error.to_string() })?;
    if meta.version != ROWS_VERSION {
        let why = format!("its rows have version {}, this tarn knows {ROWS_VERSION}", meta.version);
        return Err(DurableError::Meta { generation, why });
    }
    Ok(meta)
}

/// The epochs to seal again after an instant; none where epochs that were shown cannot be made again, and the state
/// begins a new life.
fn continued(said: Said, meta: &RunMeta, nothing_lost: bool) -> Option<impl Iterator<Item = (Epoch, Arc<Position>)>> {
    if !nothing_lost || said.rewound_at.is_some_and(|epoch| epoch > meta.epoch) {
        return None;
    }
    let instant = meta.epoch;
    Some(said.bindings.into_iter().filter(move |(epoch, _)| *epoch > instant))
}

/// From which tokens' keys are made: as long as the directory is, tokens are good. And whether it was there: a copy
/// of generations alone has none, and no bindings either.
fn token_secret(machine: &Machine, directory: &Path) -> Result<(String, bool), DurableError> {
    let path = directory.join("TOKEN_SECRET");
    let vfs: &dyn Vfs = &*machine.vfs;
    let told = |source| DurableError::TokenKey { path: path.display().to_string(), source };
    match read(vfs, &path) {
        Ok(bytes) if bytes.len() == 64 => Ok((String::from_utf8_lossy(&bytes).into_owned(), true)),
        // It is none: earlier versions could leave it torn by a crash, before any token was given.
        Ok(_) => {
            vfs.remove_file(&path).map_err(told)?;
            token_secret(machine, directory)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret: String = (0..4).map(|_| format!("{:016x}", (machine.random)())).collect();
            // Under its name it is on the disk: what a process that died has left there could be read and yet be lost.
            replace(vfs, &path, secret.as_bytes()).map_err(told)?;
            Ok((secret, false))
        }
        Err(error) => Err(told(error)),
    }
}
