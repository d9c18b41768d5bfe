//! Assembles cuts into read views and swaps them in.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use tokio::sync::watch;

use super::catalog::{self, Catalog, Gate, Patience, WAIT_FOR_ALL, Wanted};
use super::history::{History, HistoryLimits, NotKept, RowChanges};
use super::latency::{Arrivals, Latencies};
use super::view::ReadView;
use crate::dataflow::{Binding, Cut, CutSink, Floors, ViewId};
use crate::model::{Epoch, ResourceId};

/// What waits to be published.
struct Pending {
    cuts: Vec<Option<Cut>>,
    bindings: VecDeque<Binding>,
    gate: Gate,
    arrivals: Arrivals,
}

/// The one place where read views come from.
pub struct Publisher {
    pending: Mutex<Pending>,
    wanted: Wanted,
    view: ArcSwap<ReadView>,
    published: AtomicU64,
    history_since: AtomicU64,
    /// That of whoever takes this one's place, once it did.
    history: ArcSwap<History>,
    is_rebuilding: AtomicBool,
    /// Whether readers see what is published here.
    is_seen: AtomicBool,
    latencies: Arc<Latencies>,
    /// The newest one that shows the same views of other workers.
    beside: Mutex<Weak<Publisher>>,
    /// Since when nothing is awaited but views.
    awaits_views_since: OnceLock<Instant>,
    /// Guards nothing but the wait for the next view.
    waiters: Mutex<()>,
    news: Condvar,
    /// The same for those that wait without a thread.
    shown: watch::Sender<Epoch>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Publisher(at {})", self.published())
    }
}

impl Publisher {
    /// A publisher whose first view is empty.
    pub fn new(workers: usize, incarnation: u64) -> Self {
        Self::wanting(Wanted::default(), workers, incarnation, Patience::Fresh, HistoryLimits::NONE)
    }

    /// The same, which keeps the recent past once it is told to begin.
    pub fn keeping(self, limits: HistoryLimits) -> Self {
        self.history.store(Arc::new(History::new(limits)));
        self
    }

    /// A publisher that never shows anything without all views, however long they take, from its first epoch on.
    pub fn of_everything(workers: usize, incarnation: u64) -> Self {
        Self::wanting(Wanted::default(), workers, incarnation, Patience::Whole, HistoryLimits::NONE)
    }

    /// A publisher that shows the same views as this one, of other workers.
    pub(super) fn beside(&self, workers: usize, incarnation: u64) -> Arc<Self> {
        let (wanted, limits) = (Arc::clone(&self.wanted), self.history.load().limits());
        let mut beside = Self::wanting(wanted, workers, incarnation, Patience::Fresh, limits);
        beside.is_seen = AtomicBool::new(false);
        beside.measure_with(Arc::clone(&self.latencies));
        let beside = Arc::new(beside);
        *self.beside.lock().expect("nobody panics who looks beside") = Arc::downgrade(&beside);
        beside
    }

    fn wanting(wanted: Wanted, workers: usize, incarnation: u64, patience: Patience, limits: HistoryLimits) -> Self {
        let gate = Gate::new(Arc::clone(&wanted), patience);
        let nothing = ReadView::new(Binding::nothing(incarnation), Vec::new(), &gate, Arc::default());
        let arrivals = Arrivals::default();
        let latencies = Arc::clone(&arrivals.latencies);
        Self {
            pending: Mutex::new(Pending { cuts: vec![None; workers], bindings: VecDeque::new(), gate, arrivals }),
            wanted,
            view: ArcSwap::from_pointee(nothing),
            published: AtomicU64::new(0),
            history_since: AtomicU64::new(0),
            history: ArcSwap::from_pointee(History::new(limits)),
            is_rebuilding: AtomicBool::new(false),
            is_seen: AtomicBool::new(true),
            latencies,
            beside: Mutex::default(),
            awaits_views_since: OnceLock::new(),
            waiters: Mutex::new(()),
            news: Condvar::new(),
            shown: watch::Sender::new(0),
        }
    }

    fn measure_with(&mut self, latencies: Arc<Latencies>) {
        self.pending.get_mut().expect("no deliverer panics").arrivals.latencies = Arc::clone(&latencies);
        self.latencies = latencies;
    }

    /// How long events took until they could be seen here.
    pub fn latencies(&self) -> &Arc<Latencies> {
        &self.latencies
    }

    /// The newest read view, to keep for as long as one likes.
    pub fn view(&self) -> Arc<ReadView> {
        self.view.load_full()
    }

    /// The newest read view, for a look: no reference is counted, which readers on several threads would wait for.
    pub fn glance(&self) -> impl Deref<Target = Arc<ReadView>> + use<> {
        self.view.load()
    }

    /// Tells the epoch of every read view that is new, or of the last of some.
    pub fn news(&self) -> watch::Receiver<Epoch> {
        self.shown.subscribe()
    }

    /// The recent past.
    pub(super) fn history(&self) -> impl Deref<Target = Arc<History>> + use<> {
        self.history.load()
    }

    /// From now on the past is kept, within the limits.
    pub fn keep_history(&self) {
        self.history.load().begin();
    }

    /// The first epoch that everything can be read at, as of the newest read view.
    pub fn history_since(&self) -> Epoch {
        self.history_since.load(Ordering::Acquire)
    }

    /// Everything as it was at the last epoch at or before `epoch`.
    pub fn at(&self, epoch: Epoch) -> Result<Arc<ReadView>, NotKept> {
        let view = self.view();
        if epoch == view.epoch() {
            return Ok(view);
        }
        if epoch > view.epoch() {
            return Err(NotKept::After { shown: view.epoch() });
        }
        let binding = self.history.load().binding_at(epoch).filter(|binding| binding.epoch >= view.since());
        match binding {
            Some(binding) => Ok(Arc::new(view.at(binding))),
            None => Err(NotKept::Before { since: self.history_since() }),
        }
    }

    /// What changed in a view after one epoch until another one, which were shown, epoch by epoch: the rows that left and
    /// came, each once, with how often.
    pub fn rows_changed(&self, id: ViewId, after: Epoch, until: Epoch) -> Result<Vec<RowChanges>, NotKept> {
        self.history.load().rows_changed(id, after, until)
    }

    /// The resources of which something changed after one epoch until another one, which were shown, epoch by epoch and in
    /// order of id: their states, or whether they are orphans.
    pub fn resources_changed(&self, after: Epoch, until: Epoch) -> Result<Vec<(Epoch, Vec<ResourceId>)>, NotKept> {
        self.history.load().resources_changed(after, until)
    }

    /// Whether this is an epoch that was sealed and is remembered, not one between two.
    pub fn was_sealed(&self, epoch: Epoch) -> bool {
        self.history.load().binding_at(epoch).is_some_and(|binding| binding.epoch == epoch)
    }

    /// The views of another publisher are shown here from now on, and the past is its own.
    pub(super) fn adopt(&self, other: &Self) {
        other.is_seen.store(true, Ordering::Release);
        let history = other.history.load_full();
        history.begin();
        self.history.store(history);
    }

    /// These views are to be shown, when all of them are complete; until then those are that were shown before. When that
    /// takes too long, what is complete is shown ([`super::catalog`]).
    pub fn want(&self, catalog: Arc<Catalog>) {
        // What was wanted until now is shown already, or never will be.
        let _pending = self.pending.lock().expect("no deliverer panics");
        self.wanted.store(catalog);
    }

    /// Whether the views that are wanted are those that are shown.
    pub fn shows_what_is_wanted(&self) -> bool {
        Arc::ptr_eq(self.view().catalog(), &self.wanted.load())
    }

    /// The same, or they have been awaited for long enough since this was asked first: when nothing else is awaited.
    pub fn shows_what_is_awaited(&self, now: Instant) -> bool {
        let since = *self.awaits_views_since.get_or_init(|| now);
        self.shows_what_is_wanted() || now.duration_since(since) >= WAIT_FOR_ALL
    }

    /// The renderings that are shown, here or by whoever is about to take this one's place.
    pub fn renderings_shown(&self) -> BTreeSet<ViewId> {
        let views = self.views();
        let catalogs = views.iter().flatten().map(|view| view.catalog());
        catalogs.flat_map(|catalog| catalog.views()).map(|view| view.id).collect()
    }

    /// The renderings that will never be shown again, here or by whoever is about to take this one's place.
    pub fn renderings_suspended(&self) -> BTreeSet<ViewId> {
        let views = self.views();
        views.iter().flatten().flat_map(|view| view.suspended()).collect()
    }

    fn views(&self) -> [Option<Arc<ReadView>>; 2] {
        let beside = self.beside.lock().expect("nobody panics who looks beside").upgrade();
        [Some(self.view()), beside.map(|beside| beside.view())]
    }

    /// Whether what is shown is about to be replaced by a state that is made anew.
    pub fn is_rebuilding(&self) -> bool {
        self.is_rebuilding.load(Ordering::Acquire)
    }

    /// What is shown stays so until it is replaced by a state that is made anew ([`super::rebuilding::Rebuilding`]).
    pub fn begin_rebuilding(&self) {
        self.set_rebuilding(true);
    }

    pub(super) fn set_rebuilding(&self, is_rebuilding: bool) {
        self.is_rebuilding.store(is_rebuilding, Ordering::Release);
    }

    pub(super) fn publish(&self, view: Arc<ReadView>) {
        let before = self.published.load(Ordering::Acquire);
        assert!(view.epoch() > before, "a read view is newer than the one before: {} after {before}", view.epoch());
        let epoch = view.epoch();
        let since = self.history.load().first_from(view.since()).unwrap_or(epoch);
        self.history_since.store(since.min(epoch), Ordering::Release);
        self.view.store(view);
        self.published.store(epoch, Ordering::Release);
        drop(self.waiters.lock().expect("no waiter panics"));
        self.news.notify_all();
        self.shown.send_replace(epoch);
    }
}

impl CutSink for Publisher {
    fn bind(&self, binding: Binding) {
        let mut pending = self.pending.lock().expect("no deliverer panics");
        let last = pending.bindings.back().map_or(self.published(), |last| last.epoch);
        assert!(binding.epoch > last, "bindings come in order: {} after {last}", binding.epoch);
        pending.arrivals.seal(&binding, Instant::now());
        pending.bindings.push_back(binding);
    }

    fn deliver(&self, worker: usize, cut: Cut) {
        self.deliver_at(worker, cut, Instant::now());
    }

    fn published(&self) -> Epoch {
        self.published.load(Ordering::Acquire)
    }

    fn floors(&self) -> Arc<Floors> {
        self.history.load().floors()
    }

    fn wait_published(&self, epoch: Epoch, wait: Duration) -> bool {
        let waiters = self.waiters.lock().expect("no waiter panics");
        let (_guard, result) =
            self.news.wait_timeout_while(waiters, wait, |()| self.published() < epoch).expect("no waiter panics");
        !result.timed_out()
    }
}

impl Publisher {
    /// Looks again at what could be shown, though no worker has anything new: time alone can make a view late.
    pub fn look_again(&self) {
        self.look_at(Instant::now());
    }

    pub(super) fn look_at(&self, now: Instant) {
        self.publish_what_is_complete(&mut self.pending.lock().expect("no deliverer panics"), now);
    }

    pub(crate) fn deliver_at(&self, worker: usize, mut cut: Cut, now: Instant) {
        let mut pending = self.pending.lock().expect("no deliverer panics");
        self.history.load().hear(&mut cut);
        pending.arrivals.hear(std::mem::take(&mut cut.folded));
        pending.cuts[worker] = Some(cut);
        self.publish_what_is_complete(&mut pending, now);
    }

    fn publish_what_is_complete(&self, pending: &mut Pending, now: Instant) {
        let Pending { cuts, bindings: _, gate, arrivals } = pending;
        let Some(core) = cuts.iter().map(|cut| cut.as_ref().map(|cut| cut.upper)).min().flatten() else {
            return;
        };
        arrivals.tables(core, now);
        let before = Arc::clone(&gate.shown);
        gate.note(core, now);
        gate.promote(cuts, self.published(), now);
        let upper = gate.upper(cuts, core, self.published(), now);
        let complete = pending.bindings.partition_point(|binding| binding.epoch < upper);
        let mut bindings: Vec<Binding> = pending.bindings.drain(..complete).collect();
        pending.arrivals.tell(&mut bindings);
        let is_seen = self.is_seen.load(Ordering::Acquire);
        if let Some(binding) = bindings.last().cloned() {
            let cuts: Vec<Cut> = pending.cuts.iter().flatten().cloned().collect();
            assert!(
                cuts.iter().all(|cut| cut.since <= binding.epoch && binding.epoch < cut.upper),
                "every cut is readable"
            );
            let changed = self.history.load().show(bindings, &cuts);
            let epoch = binding.epoch;
            self.publish(Arc::new(ReadView::new(binding, cuts, &pending.gate, changed)));
            pending.arrivals.show(epoch, now, is_seen);
        } else {
            // What nobody has seen may still be taken away.
            pending.gate.shown = before;
        }
        let Pending { cuts, bindings: _, gate, arrivals } = pending;
        arrivals.follow(&gate.shown, self.published(), |id| catalog::upper(cuts, id), now, is_seen);
    }
}
