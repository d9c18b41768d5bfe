//! What an operator of a view does and what it holds, readable from any thread.
//!
//! Each operator writes its own meter, from one worker; whoever wants to know an operator as a whole adds up those of
//! all workers ([`Measures`] can be added). Numbers are written at the end of a turn of the operator and are never ahead
//! of one another by more than that. Bytes are those of rows with their headers and of the entries that hold them, not
//! what an allocator makes of them.

use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::ending::Ending;
use crate::sql::{Fingerprint, Row};

/// The part that makes rows as they are stored of those that a view computes.
pub const STORE: &str = "store";
/// The part that keeps a view's rows.
pub const ROWS: &str = "rows";

/// One operator of a view on one worker.
#[derive(Debug)]
pub struct Meter {
    relation: Fingerprint,
    part: &'static str,
    rows: AtomicU64,
    bytes: AtomicU64,
    updates_in: AtomicU64,
    updates_out: AtomicU64,
    steps: AtomicU64,
    busy_ns: AtomicU64,
    ending: Ending,
}

/// What meters say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measures {
    /// How many rows, groups or entries it holds.
    pub rows: u64,
    /// About how many bytes these take.
    pub bytes: u64,
    /// Updates that it was given.
    pub updates_in: u64,
    /// Updates that it made.
    pub updates_out: u64,
    /// Entries of its state that it looked at.
    pub steps: u64,
    /// How long it was at work.
    pub busy: Duration,
}

impl Add for Measures {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            bytes: self.bytes + other.bytes,
            updates_in: self.updates_in + other.updates_in,
            updates_out: self.updates_out + other.updates_out,
            steps: self.steps + other.steps,
            busy: self.busy + other.busy,
        }
    }
}

/// What an operator holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Held {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Held {
    /// One entry more of so many bytes.
    pub(super) fn add(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
    }

    /// One entry less, of as many bytes as when it came.
    pub(super) fn remove(&mut self, bytes: usize) {
        self.rows -= 1;
        self.bytes -= bytes;
    }
}

/// About how many bytes a row takes: where it is named, where its counts are, and its own.
pub(super) fn bytes_of(row: &Row) -> usize {
    size_of::<Row>() + 2 * size_of::<usize>() + row.bytes().len()
}

impl Meter {
    /// Of a part of what renders a relation.
    pub fn new(relation: Fingerprint, part: &'static str) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            relation,
            part,
            rows: zero(),
            bytes: zero(),
            updates_in: zero(),
            updates_out: zero(),
            steps: zero(),
            busy_ns: zero(),
            ending: Ending::default(),
        }
    }

    /// The same in a dataflow that may be let go.
    pub(super) fn within(self, ending: &Ending) -> Self {
        Self { ending: ending.clone(), ..self }
    }

    /// Whether the dataflow is being let go, so that nothing is to be made of what comes.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.has_begun()
    }

    /// The relation that it is a part of.
    pub fn relation(&self) -> Fingerprint {
        self.relation
    }

    /// What it does for it.
    pub fn part(&self) -> &'static str {
        self.part
    }

    /// What it has done and what it holds now.
    pub fn read(&self) -> Measures {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Measures {
            rows: read(&self.rows),
            bytes: read(&self.bytes),
            updates_in: read(&self.updates_in),
            updates_out: read(&self.updates_out),
            steps: read(&self.steps),
            busy: Duration::from_nanos(read(&self.busy_ns)),
        }
    }

    /// Notes updates that came.
    pub(super) fn took(&self, updates: usize) {
        add(&self.updates_in, updates);
    }

    /// Notes updates that went.
    pub(super) fn gave(&self, updates: usize) {
        add(&self.updates_out, updates);
    }

    /// Notes entries that were looked at.
    pub(super) fn stepped(&self, steps: usize) {
        add(&self.steps, steps);
    }

    /// Notes what is held now.
    pub(super) fn holds(&self, held: Held) {
        self.rows.store(held.rows as u64, Ordering::Relaxed);
        self.bytes.store(held.bytes as u64, Ordering::Relaxed);
    }

    /// Notes work that began then and ends now.
    pub(super) fn worked(&self, since: Instant) {
        let nanoseconds = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.busy_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

fn add(number: &AtomicU64, count: usize) {
    if count > 0 {
        number.fetch_add(count as u64, Ordering::Relaxed);
    }
}
