//! The journal of records that were submitted again out of the quarantine.
//!
//! A record is in the journal, durably, before it is read again, so that whoever submitted it may rely on it and the
//! epochs that held it can be made again. Each has a number, the next one after all that were ever read; the state's
//! position says how far they have been read, and what is beyond it waits at the next start. A number is taken when its
//! record is durable: one that could not be written is written over by the next with its number. Without a data
//! directory all this is in memory, as everything else is then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::rows::Row;
use crate::model::{Coordinates, Epoch, EventOrder, Position, QuarantineEntry, Reject, Topics};
use crate::snapshot::{Journal, JournalError};
use crate::source::resubmitted::{Origin, ResubmittedQueue};

/// The journal's name in the data directory.
pub(super) const JOURNAL: &str = "resubmitted";

/// A record of the journal.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    number: i64,
    /// The name of the entry's topic, whose number may be another one in another life.
    topic: String,
    /// Key and value of the entry's row.
    row: (Vec<u8>, Vec<u8>),
}

/// What the journal says.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The entries by their numbers, and the segments in which they stand.
    entries: BTreeMap<i64, (u64, Stored)>,
}

impl Said {
    /// Reads the records of the journal, each with its segment.
    pub(super) fn read<'a>(records: impl IntoIterator<Item = (u64, &'a Vec<u8>)>) -> Self {
        let mut entries = BTreeMap::new();
        for (segment, record) in records {
            // What stands in a frame whose checksum is right is ours; an unknown record ends what can be told.
            let Ok(stored) = postcard::from_bytes::<Stored>(record) else { break };
            if Row::read(&stored.row.0, &stored.row.1).is_err() {
                break;
            }
            // From here on it was written anew.
            drop(entries.split_off(&stored.number));
            entries.insert(stored.number, (segment, stored));
        }
        Self { entries }
    }

    /// Whether it has all records from one position's next number up to another's.
    pub(super) fn covers(&self, from: &Position, to: &Position) -> bool {
        let (from, to) = (next_number(from), next_number(to));
        from >= to || self.entries.range(from..to).count() as u64 == from.abs_diff(to)
    }
}

/// The next number after those that a position has read.
fn next_number(position: &Position) -> i64 {
    position.next_offset(Topics::RESUBMITTED, 0).unwrap_or(0)
}

#[derive(Debug)]
struct State {
    journal: Option<Journal>,
    next: i64,
    /// The segments of the journal with the last number in each, in order.
    segments: BTreeMap<u64, i64>,
}

/// Where records are submitted again.
#[derive(Debug, Clone)]
pub struct Resubmissions {
    state: Arc<Mutex<State>>,
    queue: ResubmittedQueue,
    topics: Topics,
}

/// A number that a submission got.
pub type Number = i64;

impl Resubmissions {
    /// In memory alone.
    pub fn in_memory(topics: &Topics) -> Self {
        Self::new(None, Said::default(), (0, &Position::default()), topics)
    }

    /// Goes on with a journal behind a state at an epoch and its position: what it has not read waits to be.
    pub(super) fn new(
        journal: Option<Journal>,
        said: Said,
        (epoch, position): (Epoch, &Position),
        topics: &Topics,
    ) -> Self {
        topics.intern(Topics::RESUBMITTED);
        let mut segments = BTreeMap::new();
        let mut next = next_number(position);
        let queue = ResubmittedQueue::default();
        for (number, (segment, stored)) in said.entries {
            segments.insert(segment, number);
            if number >= next {
                match entry_of(&stored, topics) {
                    Some(entry) => {
                        let is_met = entry.first_seen <= epoch;
                        queue.push([Origin { entry: Arc::new(entry), number, is_met }]);
                    }
                    None => tracing::error!(number, "a record that was submitted again cannot be read"),
                }
                next = number + 1;
            }
        }
        let state = Arc::new(Mutex::new(State { journal, next, segments }));
        Self { state, queue, topics: topics.clone() }
    }

    /// What waits to be read.
    pub fn queue(&self) -> ResubmittedQueue {
        self.queue.clone()
    }

    /// Submits the records of these entries again; their numbers. When this returns they are durable.
    ///
    /// # Errors
    /// The disk's. None of them is submitted then, although some may turn up as submitted after a crash.
    pub fn submit(&self, entries: &[Arc<QuarantineEntry>]) -> Result<Vec<Number>, JournalError> {
        let mut state = self.state.lock().expect("no submitter panics");
        let numbers: Vec<Number> = (state.next..).take(entries.len()).collect();
        let mut written = BTreeMap::new();
        if let Some(journal) = &mut state.journal {
            for (number, entry) in numbers.iter().zip(entries) {
                let row = Row::Rejected(Arc::clone(entry));
                let topic = self.topics.name(entry.coordinates().topic).to_string();
                let stored = Stored { number: *number, topic, row: (row.key(), row.value()) };
                let record = postcard::to_allocvec(&stored).expect("memory takes a record of the journal");
                written.insert(journal.append(&record)?.segment, *number);
            }
            journal.sync()?;
        }
        state.segments.extend(written);
        state.next += numbers.len() as i64;
        let origins = numbers.iter().zip(entries).map(|(number, entry)| Origin {
            entry: Arc::clone(entry),
            number: *number,
            is_met: true,
        });
        // While the lock is held, so that they are read in order of their numbers.
        self.queue.push(origins);
        Ok(numbers)
    }

    /// Forgets the records that a state at `position` and all later ones have read.
    ///
    /// # Errors
    /// The disk's; it is tried again the next time.
    pub(super) fn forget_read(&self, position: &Position) -> Result<(), JournalError> {
        let mut state = self.state.lock().expect("no submitter panics");
        let State { journal: Some(journal), segments, .. } = &mut *state else { return Ok(()) };
        let next = next_number(position);
        let Some(kept) = segments.iter().find(|(_, last)| **last >= next).map(|(segment, _)| *segment) else {
            // All are read: the segment that is written to can end.
            let begun = if segments.is_empty() { None } else { Some(journal.roll()?) };
            return begun.map_or(Ok(()), |begun| forget_before(journal, segments, begun));
        };
        forget_before(journal, segments, kept)
    }
}

fn forget_before(journal: &mut Journal, segments: &mut BTreeMap<u64, i64>, kept: u64) -> Result<(), JournalError> {
    journal.remove_before(kept)?;
    *segments = segments.split_off(&kept);
    Ok(())
}

/// The entry of a record, with the number that its topic has now.
fn entry_of(stored: &Stored, topics: &Topics) -> Option<QuarantineEntry> {
    let Row::Rejected(entry) = Row::read(&stored.row.0, &stored.row.1).ok()? else { return None };
    let entry = Arc::unwrap_or_clone(entry);
    let topic = topics.intern(&stored.topic)?;
    let EventOrder { coordinates, arrival } = entry.reject.order;
    let order = EventOrder { coordinates: Coordinates { topic, ..coordinates }, arrival };
    Some(QuarantineEntry { reject: Reject { order, ..entry.reject }, ..entry })
}
