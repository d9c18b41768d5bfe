//! How long events take until they can be seen, and where their time goes.
//!
//! In: when an epoch was polled and sealed, what workers folded in it, and how far they and the views have come. Out: how
//! new what is shown is, and histograms for whoever asks. An epoch and worker has one event speak for all of its own, and
//! the poll of an epoch's first record for all of the epoch's; so an event costs nothing here, and an epoch a few counts.
//! Epochs that were sealed before a restart count nothing: their events were visible before. Not here: who asks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::catalog::Catalog;
use crate::clock::now_ms;
use crate::dataflow::{Binding, Folded, NewestEvent, ViewId};
use crate::histogram::Histogram;
use crate::model::Epoch;

/// How long events took until they could be seen, every event once.
#[derive(Debug, Default)]
pub struct Visible {
    /// From the time in the event's id; of those that have one.
    pub since_id: Histogram,
    /// From when the first record of its epoch was polled.
    pub since_arrival: Histogram,
}

/// All that was measured since the process began.
#[derive(Debug, Default)]
pub struct Latencies {
    /// Until the event could be seen in everything that is shown.
    pub visible: Visible,
    /// From the seal of an epoch until all tables have it.
    pub tables: Histogram,
    /// From then until all views that are shown have it.
    pub views: Histogram,
    /// From then until it is shown.
    pub publish: Histogram,
    of_views: Mutex<BTreeMap<Arc<str>, Arc<Visible>>>,
}

impl Latencies {
    /// Until the event was in a view, by the view's name; of views that are shown.
    pub fn of_views(&self) -> BTreeMap<Arc<str>, Arc<Visible>> {
        self.of_views.lock().expect("nobody panics with latencies").clone()
    }
}

/// An epoch that is not seen by all yet.
#[derive(Debug)]
struct Arrived {
    epoch: Epoch,
    polled_at: Option<Instant>,
    sealed_at: Instant,
    tables_at: Option<Instant>,
    is_shown: bool,
    newest: Option<NewestEvent>,
    events: u64,
    /// Times in ids, ms since 1970, each with how many events it speaks for.
    timed: Vec<(u64, u64)>,
}

impl Arrived {
    /// Counts its events as seen at `now`, by the wall clock at `now_ms`.
    fn count(&self, visible: &Visible, now: Instant, now_ms: u64) {
        let Some(polled_at) = self.polled_at else { return };
        visible.since_arrival.record(now.saturating_duration_since(polled_at), self.events);
        for (id_time_ms, events) in &self.timed {
            visible.since_id.record(Duration::from_millis(now_ms.saturating_sub(*id_time_ms)), *events);
        }
    }
}

/// A view that is shown.
#[derive(Debug)]
struct Followed {
    id: ViewId,
    /// Epochs up to this one are counted.
    counted: Epoch,
    visible: Arc<Visible>,
}

/// More epochs do not wait for a view that is behind; what it has later is not counted.
const WAITING_MAX: usize = 10_000;

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    pub(super) latencies: Arc<Latencies>,
    waiting: VecDeque<Arrived>,
    /// Of all epochs that were shown, or taken back.
    newest: Option<NewestEvent>,
    whole_at: Option<Instant>,
    shown: Arc<Catalog>,
    views: Vec<Followed>,
}

impl Arrivals {
    /// An epoch is sealed.
    pub(super) fn seal(&mut self, binding: &Binding, now: Instant) {
        self.waiting.push_back(Arrived {
            epoch: binding.epoch,
            polled_at: binding.polled_at,
            sealed_at: now,
            tables_at: None,
            is_shown: false,
            newest: None,
            events: 0,
            timed: Vec::new(),
        });
    }

    /// A worker folded this.
    pub(super) fn hear(&mut self, folded: Vec<Folded>) {
        for Folded { epoch, newest, events, timed, timed_ms } in folded {
            // What is taken back comes in epochs of its own, before the first that is sealed.
            let place = self.waiting.partition_point(|arrived| arrived.epoch < epoch);
            let Some(arrived) = self.waiting.get_mut(place) else { continue };
            arrived.newest = NewestEvent::newer(arrived.newest, Some(newest));
            arrived.events += events;
            if timed > 0 {
                arrived.timed.push((timed_ms, timed));
            }
        }
    }

    /// The tables of all workers are complete below this epoch.
    pub(super) fn tables(&mut self, upper: Epoch, now: Instant) {
        let complete = self.waiting.partition_point(|arrived| arrived.epoch < upper);
        let new = self.waiting.range_mut(..complete).rev().take_while(|arrived| arrived.tables_at.is_none());
        new.for_each(|arrived| arrived.tables_at = Some(now));
    }

    /// These are about to be shown, in order: tells them how new what they show is.
    pub(super) fn tell(&mut self, bindings: &mut [Binding]) {
        for binding in bindings {
            let place = self.waiting.partition_point(|arrived| arrived.epoch < binding.epoch);
            let arrived = self.waiting.get(place).filter(|arrived| arrived.epoch == binding.epoch);
            self.newest = NewestEvent::newer(self.newest, arrived.and_then(|arrived| arrived.newest));
            self.whole_at = binding.whole_at.or(self.whole_at);
            (binding.newest_event, binding.whole_at) = (self.newest, self.whole_at);
        }
    }

    /// Everything up to this epoch is shown now, and had come to be so at `complete_at`. It counts where readers see it.
    pub(super) fn show(&mut self, epoch: Epoch, complete_at: Instant, is_seen: bool) {
        let shown = self.waiting.partition_point(|arrived| arrived.epoch <= epoch);
        let new = self.waiting.range_mut(..shown).rev().take_while(|arrived| !arrived.is_shown);
        let (now, now_ms, latencies) = (Instant::now(), now_ms(), &self.latencies);
        for arrived in new {
            arrived.is_shown = true;
            if !is_seen || arrived.polled_at.is_none() {
                continue;
            }
            arrived.count(&latencies.visible, now, now_ms);
            let tables_at = arrived.tables_at.unwrap_or(complete_at);
            latencies.tables.record(tables_at.saturating_duration_since(arrived.sealed_at), 1);
            latencies.views.record(complete_at.saturating_duration_since(tables_at), 1);
            latencies.publish.record(now.saturating_duration_since(complete_at), 1);
        }
    }

    /// The views of `shown` are complete below what `upper` says of each, at `now`; everything up to `published` is shown.
    pub(super) fn follow(
        &mut self,
        shown: &Arc<Catalog>,
        published: Epoch,
        upper: impl Fn(ViewId) -> Epoch,
        now: Instant,
        is_seen: bool,
    ) {
        if is_seen && !Arc::ptr_eq(&self.shown, shown) {
            self.show_views(shown, published);
        }
        let mut now_ms_known = None;
        for view in &mut self.views {
            let upper = upper(view.id);
            let first = self.waiting.partition_point(|arrived| arrived.epoch <= view.counted);
            for arrived in self.waiting.range(first..).take_while(|arrived| arrived.epoch < upper) {
                arrived.count(&view.visible, now, *now_ms_known.get_or_insert_with(now_ms));
                view.counted = arrived.epoch;
            }
        }
        let counted = self.views.iter().map(|view| view.counted).min().unwrap_or(Epoch::MAX);
        let is_done = |arrived: &Arrived| arrived.is_shown && arrived.epoch <= counted;
        while self.waiting.front().is_some_and(is_done) {
            self.waiting.pop_front();
        }
        while self.waiting.len() > WAITING_MAX && self.waiting.front().is_some_and(|arrived| arrived.is_shown) {
            self.waiting.pop_front();
        }
    }

    /// Other views are shown than before: those that came count from here on, those that went are forgotten.
    fn show_views(&mut self, shown: &Arc<Catalog>, published: Epoch) {
        let mut of_views = self.latencies.of_views.lock().expect("nobody panics with latencies");
        of_views.retain(|name, _| shown.view(name).is_some());
        let follow = |view: &Arc<super::CatalogView>| {
            let known = self.views.iter().find(|known| known.id == view.id);
            let counted = known.map_or(published, |known| known.counted);
            let visible = Arc::clone(of_views.entry(Arc::clone(&view.plan.name)).or_default());
            Followed { id: view.id, counted, visible }
        };
        self.views = shown.views().map(follow).collect();
        self.shown = Arc::clone(shown);
    }
}
