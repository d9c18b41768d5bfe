//! What a worker hands over at an epoch: the batch lists of all its arrangements.
//!
//! A cut with `upper` can be read at any epoch `t` with `since <= t < upper`; its batches may hold updates beyond `t`,
//! which a reader passes over. Cuts of all workers at one `t`, with the binding of `t`, make a read view.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::folded::{Folded, NewestEvent};
use super::index::{Holder, IndexKey, ReporterKeyHash};
use super::ledger::{RejectKey, SeenReject};
use super::meter::Meter;
use super::shard::KeptUntil;
use super::shared_batch::Batch;
use crate::model::{Coordinates, Epoch, Position, QuarantineEntry, ResourceId, State};
use crate::sql::{Failure, Fingerprint, Row};

/// The batches of one worker's share of every arrangement.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Complete below this epoch.
    pub upper: Epoch,
    /// Distinctions among times below this are gone.
    pub since: Epoch,
    /// States by resource.
    pub states: Vec<Batch<ResourceId, Arc<State>>>,
    /// Live resources by dimension value.
    pub index: Vec<Batch<IndexKey, ResourceId>>,
    /// Who holds or held a reporter key.
    pub holders: Vec<Batch<ReporterKeyHash, Holder>>,
    /// Older holders of a reporter key, with the current one.
    pub orphans: Vec<Batch<ResourceId, ResourceId>>,
    /// Rejected records.
    pub quarantine: Vec<Batch<Coordinates, Arc<QuarantineEntry>>>,
    /// Tombstones that are kept beyond their time, and until when.
    pub kept: Vec<Batch<ResourceId, KeptUntil>>,
    /// The header ids of rejects.
    pub seen_rejects: Vec<Batch<RejectKey, SeenReject>>,
    /// The views that are complete up to some epoch, in no order.
    pub views: Vec<ViewCut>,
    /// What has come since the cut before.
    pub fresh: Fresh,
    /// What was folded since the cut before, an epoch each, in order; maybe of epochs that are not complete yet.
    pub folded: Vec<Folded>,
}

/// The batches that arrangements of the tables were given since the cut before, as they came: their epochs are told apart.
#[derive(Debug, Clone, Default)]
pub struct Fresh {
    /// States by resource.
    pub states: Vec<Batch<ResourceId, Arc<State>>>,
    /// Older holders of a reporter key.
    pub orphans: Vec<Batch<ResourceId, ResourceId>>,
    /// Rejected records.
    pub quarantine: Vec<Batch<Coordinates, Arc<QuarantineEntry>>>,
}

/// Names one rendering of a view: when the view changes, or what it reads, there is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId(pub u64);

/// One worker's share of a view.
#[derive(Debug, Clone)]
pub struct ViewCut {
    /// Which.
    pub id: ViewId,
    /// Complete below this epoch.
    pub upper: Epoch,
    /// Complete from this epoch on: before, it was taking what was there already.
    pub readable_from: Epoch,
    /// Distinctions among times below this are gone.
    pub since: Epoch,
    /// The batches that its rows were given since the cut before, as they came.
    pub fresh: Vec<Batch<Row, ()>>,
    /// The same of the rows that could not be evaluated.
    pub fresh_failures: Vec<Batch<Failure, ()>>,
    /// Its rows, as stored.
    pub rows: Vec<Batch<Row, ()>>,
    /// The rows that could not be evaluated.
    pub failures: Vec<Batch<Failure, ()>>,
    /// What its operators do and hold.
    pub meters: Arc<[Arc<Meter>]>,
    /// The arrangements that it shares with others, and those that they are made of.
    pub shared: Arc<[Arc<SharedUse>]>,
}

/// An arrangement that several dataflows read: views, and other such arrangements.
#[derive(Debug)]
pub struct SharedUse {
    /// Whose rows it holds.
    pub relation: Fingerprint,
    /// By which key, as SQL.
    pub key: String,
    /// What its operators do and hold; nobody else's do it again.
    pub meters: Box<[Arc<Meter>]>,
    readers: AtomicUsize,
}

impl SharedUse {
    pub(super) fn new(relation: Fingerprint, key: String, meters: Box<[Arc<Meter>]>) -> Self {
        Self { relation, key, meters, readers: AtomicUsize::new(0) }
    }

    /// How many dataflows read it now.
    pub fn readers(&self) -> usize {
        self.readers.load(Ordering::Relaxed)
    }

    /// One more reads it.
    pub(super) fn acquire(&self) {
        self.readers.fetch_add(1, Ordering::Relaxed);
    }

    /// One less reads it; how many are left. Called by the worker that it belongs to alone, as all that counts.
    pub(super) fn release(&self) -> usize {
        self.readers.fetch_sub(1, Ordering::Relaxed) - 1
    }
}

/// Which position an epoch seals.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The epoch.
    pub epoch: Epoch,
    /// The next offset of every partition after it.
    pub position: Arc<Position>,
    /// Which life of the state it is of: another one when the log went back, or no longer has what epochs held.
    pub incarnation: u64,
    /// When the first record of the epoch was polled, on the process's own clock; none for an epoch without records.
    pub polled_at: Option<Instant>,
    /// When everything that the log then had was read, as far as was known of it: at this epoch, or at the last one of
    /// which that can be said.
    pub whole_at: Option<Instant>,
    /// The newest event that was folded by then; told once the epoch is published.
    pub newest_event: Option<NewestEvent>,
}

/// Where bindings are written before anybody can see their epochs, so that a crash does not lose what they held.
pub trait BindingLog: Send {
    /// Writes a binding. Called in order, for epochs that were not sealed before; never fails, because reading goes on
    /// from memory when the disk does not work, but must say so elsewhere.
    fn note(&mut self, binding: &Binding);

    /// Epochs are about to be sealed otherwise than they were before the crash: the log no longer has what they held.
    fn forsake(&mut self);
}

/// Keeps no bindings.
impl BindingLog for () {
    fn note(&mut self, _binding: &Binding) {}

    fn forsake(&mut self) {}
}

impl Binding {
    /// What there is before anything was read.
    pub fn nothing(incarnation: u64) -> Self {
        Self { epoch: 0, position: Arc::default(), incarnation, polled_at: None, whole_at: None, newest_event: None }
    }
}

/// How far compaction may go: what is below can no longer be told apart.
#[derive(Debug, Clone, Default)]
pub struct Floors {
    /// The newest read view; what nobody keeps the history of goes as far.
    pub published: Epoch,
    /// The tables.
    pub tables: Epoch,
    /// Views; one that is not among them goes as far as what is published.
    pub views: BTreeMap<ViewId, Epoch>,
}

impl Floors {
    /// Nothing is kept but what is published.
    pub fn published(published: Epoch) -> Self {
        Self { published, tables: published, views: BTreeMap::new() }
    }

    /// That of a view.
    pub fn view(&self, id: ViewId) -> Epoch {
        self.views.get(&id).copied().unwrap_or(self.published)
    }
}

/// Whoever assembles cuts into read views.
pub trait CutSink: Send + Sync {
    /// Learns that an epoch is about to be sealed; called in order, before any worker can deliver a cut of it.
    fn bind(&self, binding: Binding);

    /// Takes a worker's cut; called by the worker's thread.
    fn deliver(&self, worker: usize, cut: Cut);

    /// The epoch of the newest read view.
    fn published(&self) -> Epoch;

    /// How far compaction may go, and no further; never lower than it was.
    fn floors(&self) -> Arc<Floors> {
        Arc::new(Floors::published(self.published()))
    }

    /// Waits until `epoch` is published, at most `wait`; whether it is.
    fn wait_published(&self, epoch: Epoch, wait: Duration) -> bool;
}
