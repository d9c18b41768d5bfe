//! A state that is made anew beside the one that is shown, and takes its place in one step when it is complete.
//!
//! In: the bindings and cuts of the new one. Out: nothing, until it is complete; then all of it, by the publisher that
//! everybody reads from. Promises: readers see the last view of the former state or a complete one of the new state, and
//! epochs go on increasing. Not here: what makes a state be made anew, and when it is complete (`service`).

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::publisher::Publisher;
use super::view::ReadView;
use crate::dataflow::{Binding, Cut, CutSink, Floors};
use crate::model::Epoch;

/// Whether a view holds all that it should before it is shown.
pub type IsComplete = Box<dyn Fn(&ReadView) -> bool + Send + Sync>;
/// Told of the last view of the former state and the first of the new one.
pub type OnShown = Box<dyn FnOnce(Arc<ReadView>, Arc<ReadView>) + Send>;

/// Where the new state is delivered.
pub struct Rebuilding {
    hidden: Arc<Publisher>,
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

    fn is_whole(&self, view: &ReadView, now: Instant) -> bool {
        // Views are awaited last, so that one that never catches up is not awaited for ever.
        (self.is_complete)(view) && self.hidden.shows_what_is_awaited(now)
    }

    fn deliver_at(&self, worker: usize, cut: Cut, now: Instant) {
        self.hidden.deliver_at(worker, cut, now);
        self.show(now);
    }

    fn show(&self, now: Instant) {
        let mut on_shown = self.on_shown.lock().expect("nobody panics who shows a state");
        let view = self.hidden.view();
        if view.epoch() <= self.shown.published() || (on_shown.is_some() && !self.is_whole(&view, now)) {
            return;
        }
        let former = self.shown.view();
        if on_shown.is_some() {
            self.shown.adopt(&self.hidden);
        }
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
        if !self.shown.is_rebuilding() {
            self.shown.note_sealed(binding.epoch);
        }
        self.hidden.bind(binding);
    }

    fn deliver(&self, worker: usize, cut: Cut) {
        self.deliver_at(worker, cut, Instant::now());
    }

    fn published(&self) -> Epoch {
        self.hidden.published()
    }

    fn floors(&self) -> Arc<Floors> {
        self.hidden.floors()
    }

    fn wait_published(&self, epoch: Epoch, wait: Duration) -> bool {
        self.hidden.wait_published(epoch, wait)
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::WAIT_FOR_ALL;
    use super::super::catalog::tests::{Scripted, binding, cut, shown};
    use super::*;
    use crate::dataflow::ViewId;

    const MOMENT: Duration = Duration::from_millis(10);

    #[test]
    fn a_state_is_shown_without_a_view_that_never_catches_up() {
        let script = Scripted::new();
        script.want(&[("base", 1), ("other", 2), ("over", 3)]);
        script.publisher.bind(binding(1));
        script.publisher.deliver_at(0, cut(1, &[(1, 1), (2, 1), (3, 1)]), script.at(MOMENT));
        script.publisher.begin_rebuilding();
        let is_complete = Box::new(|view: &ReadView| view.epoch() >= 6);
        let former = Arc::clone(&script.publisher);
        let rebuilding = Rebuilding::new(former, 1, 7, is_complete, Box::new(|_, _| {}));
        let deliver = |epoch: Epoch, after: Duration, views: &[(u64, Epoch)]| {
            rebuilding.bind(binding(epoch));
            rebuilding.deliver_at(0, cut(epoch, views), script.at(after));
        };
        deliver(2, MOMENT, &[(1, 2), (2, 2)]);
        // One that changes meanwhile, twice: what is shown where nobody sees it yet is not removed.
        script.want(&[("base", 1), ("other", 4), ("over", 3)]);
        deliver(3, 2 * MOMENT, &[(1, 3), (4, 3)]);
        deliver(4, 2 * MOMENT + WAIT_FOR_ALL, &[(1, 4), (4, 4)]);
        script.want(&[("base", 1), ("other", 5), ("over", 3)]);
        deliver(5, 3 * MOMENT + WAIT_FOR_ALL, &[(1, 5), (4, 5)]);
        assert!(script.publisher.renderings_shown().contains(&ViewId(4)));
        // The log is read long after its views could have been there.
        let read = 5 * WAIT_FOR_ALL;
        deliver(6, read, &[(1, 6), (4, 6)]);
        deliver(7, read + WAIT_FOR_ALL - MOMENT, &[(1, 7), (4, 7)]);
        assert_eq!((script.publisher.published(), script.publisher.is_rebuilding()), (1, true), "the view is awaited");
        deliver(8, read + WAIT_FOR_ALL, &[(1, 8), (4, 8)]);
        let view = script.publisher.view();
        assert_eq!((view.epoch(), script.publisher.is_rebuilding()), (8, false));
        assert_eq!(shown(&view), [("base".to_owned(), 1), ("other".to_owned(), 4)]);
        deliver(9, read + WAIT_FOR_ALL + MOMENT, &[(1, 9), (3, 9), (4, 9), (5, 9)]);
        assert!(script.publisher.shows_what_is_wanted());
    }
}
