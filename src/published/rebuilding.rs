//! A state that is made anew beside the one that is shown, and takes its place in one step when it is complete.
//!
//! In: the bindings and cuts of the new one. Out: nothing, until it is complete; then all of it, by the publisher that
//! everybody reads from. Promises: readers see the last view of the former state or a complete one of the new state, and
//! epochs go on increasing. Not here: what makes a state be made anew, and when it is complete (`service`).

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::publisher::Publisher;
use super::view::ReadView;
use crate::dataflow::{Binding, Cut, CutSink};
use crate::model::Epoch;

/// Whether a view holds all that it should before it is shown.
pub type IsComplete = Box<dyn Fn(&ReadView) -> bool + Send + Sync>;
/// Told of the last view of the former state and the first of the new one.
pub type OnShown = Box<dyn FnOnce(Arc<ReadView>, Arc<ReadView>) + Send>;

/// Where the new state is delivered.
pub struct Rebuilding {
    hidden: Publisher,
    shown: Arc<Publisher>,
    is_complete: IsComplete,
    /// None once it is shown.
    on_shown: Mutex<Option<OnShown>>,
}

impl Debug for Rebuilding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rebuilding({:?})", self.hidden)
    }
}

impl Rebuilding {
    /// Begins to replace what `shown` shows, which was told so ([`Publisher::begin_rebuilding`]).
    pub fn new(
        shown: Arc<Publisher>,
        workers: usize,
        incarnation: u64,
        is_complete: IsComplete,
        on_shown: OnShown,
    ) -> Self {
        let hidden = shown.beside(workers, incarnation);
        Self { hidden, shown, is_complete, on_shown: Mutex::new(Some(on_shown)) }
    }

    fn is_whole(&self, view: &ReadView) -> bool {
        self.hidden.shows_what_is_wanted() && (self.is_complete)(view)
    }

    fn show(&self) {
        let mut on_shown = self.on_shown.lock().expect("nobody panics who shows a state");
        let view = self.hidden.view();
        if view.epoch() <= self.shown.published() || (on_shown.is_some() && !self.is_whole(&view)) {
            return;
        }
        let former = self.shown.view();
        self.shown.publish(Arc::clone(&view));
        if let Some(on_shown) = on_shown.take() {
            // Whoever sees that it is over sees what was noted of it.
            on_shown(former, view);
            self.shown.set_rebuilding(false);
        }
    }
}

impl CutSink for Rebuilding {
    fn bind(&self, binding: Binding) {
        self.hidden.bind(binding);
    }

    fn deliver(&self, worker: usize, cut: Cut) {
        self.hidden.deliver(worker, cut);
        self.show();
    }

    fn published(&self) -> Epoch {
        self.hidden.published()
    }

    fn wait_published(&self, epoch: Epoch, wait: Duration) -> bool {
        self.hidden.wait_published(epoch, wait)
    }
}
