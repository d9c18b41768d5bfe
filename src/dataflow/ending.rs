//! Whether a dataflow of SQL is being let go, told to all workers at once.
//!
//! When a view is removed its inputs end wherever they are: one may have been read, another one not. What its operators
//! would make of that is no state that ever was, so from then on they do nothing; those of other workers too, whose
//! inputs still go on but no longer have what this one would have sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Whether one dataflow is being let go.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending(Arc<AtomicBool>);

impl Ending {
    /// Lets it go. Before the first of its inputs ends.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is being let go.
    pub(super) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Those of the dataflows that a command makes, by what each of them is: the same on all workers that are told so.
#[derive(Debug, Clone, Default)]
pub(super) struct Endings(Arc<Mutex<BTreeMap<String, Ending>>>);

impl Endings {
    /// That of one of them.
    pub(super) fn of(&self, dataflow: &str) -> Ending {
        let mut all = self.0.lock().expect("no holder of endings panics");
        all.entry(dataflow.to_owned()).or_default().clone()
    }
}
