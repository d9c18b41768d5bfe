//! Whether a dataflow of SQL is being let go, told to all workers at once.
//!
//! When a view is removed its inputs end wherever they are: one may have been read, another one not. What its operators
//! would make of that is no state that ever was, so from then on they do nothing; those of other workers too, whose
//! inputs still go on but no longer have what this one would have sent. Nor does what was put off before go on: of a join
//! it may be minutes of work, which nobody waits for any more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Whether one dataflow is being let go, by itself or with all others.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    own: Arc<AtomicBool>,
    all: Arc<AtomicBool>,
}

impl Ending {
    /// Lets it go. Before the first of its inputs ends, and after whatever reads it.
    pub(super) fn begin(&self) {
        self.own.store(true, Ordering::Release);
    }

    /// Whether it is being let go.
    pub(super) fn has_begun(&self) -> bool {
        self.own.load(Ordering::Acquire) || self.all.load(Ordering::Acquire)
    }
}

/// Those of the dataflows that a command makes, by what each of them is: the same on all workers that are told so.
#[derive(Debug, Clone, Default)]
pub(super) struct Endings {
    each: Arc<Mutex<BTreeMap<String, Ending>>>,
    all: Arc<AtomicBool>,
}

impl Endings {
    /// Those of another command to the same workers.
    pub(super) fn beside(&self) -> Self {
        Self { each: Arc::default(), all: Arc::clone(&self.all) }
    }

    /// That of one of them.
    pub(super) fn of(&self, dataflow: &str) -> Ending {
        let mut each = self.each.lock().expect("no holder of endings panics");
        let new = || Ending { own: Arc::default(), all: Arc::clone(&self.all) };
        each.entry(dataflow.to_owned()).or_insert_with(new).clone()
    }

    /// Lets all dataflows go that any command to these workers has made or will make.
    pub(super) fn begin_all(&self) {
        self.all.store(true, Ordering::Release);
    }
}
