//! The journal of bindings: which position every epoch sealed, written before the epoch is shown.
//!
//! A record is written at once, so it survives the process; a thread makes the journal durable every second and reserves
//! epochs ahead (`Ceiling`), so that after a power cut new epochs are beyond any that was shown, also where the wall clock
//! was set back. (Not where it is set ahead by more than is reserved, the power goes within that second, and it is set
//! back again.) While the journal is being made durable it is written on; for a new segment the ingest waits, and not
//! long: where the disk hangs or does not work its records queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Health, position, stored_position};
use crate::clock::Clock;
use crate::dataflow::{Binding, BindingLog};
use crate::model::{Epoch, Position};
use crate::snapshot::{Journal, JournalError, Position as Place};

/// The journal's name in the data directory.
pub(super) const JOURNAL: &str = "bindings";
/// How often the journal is made durable.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Epochs are reserved so far ahead of the clock and of the last one that was sealed, ms.
const RESERVED_MS: u64 = 3_000;
/// The ingest waits so long for a journal that somebody else is at, and not again before something could be written.
const PATIENCE: Duration = Duration::from_secs(1);
/// More records than these do not wait for a disk that does not work; the oldest go, and the next one says everything.
const WAITING_MAX: usize = 1_000_000;

/// A record of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Record {
    /// An epoch and the whole position that it sealed.
    Whole(Epoch, Vec<(String, i32, i64)>),
    /// An epoch and what it moved of the position of the record before.
    Moved(Epoch, Vec<(String, i32, i64)>),
    /// No epoch beyond this was shown.
    Ceiling(Epoch),
}

/// What the journal says.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The bindings in order of epoch.
    pub(super) bindings: Vec<(Epoch, Arc<Position>)>,
    /// No epoch beyond this was shown.
    pub(super) ceiling: Epoch,
    /// The last epoch whose position is not beyond the one before: the log was another one from there on.
    pub(super) rewound_at: Option<Epoch>,
}

/// Reads the records of the journal.
pub(super) fn read<'a>(records: impl IntoIterator<Item = &'a Vec<u8>>) -> Said {
    let (mut bindings, mut ceiling, mut rewound_at) = (Vec::new(), 0, None);
    let mut last: Option<Position> = None;
    for record in records {
        // What stands in a frame whose checksum is right is ours; an unknown record ends what can be told.
        let Ok(record) = postcard::from_bytes::<Record>(record) else { break };
        match (record, last.take()) {
            (Record::Ceiling(epoch), before) => {
                ceiling = ceiling.max(epoch);
                last = before;
            }
            (Record::Whole(epoch, whole), before) => {
                let whole = position(&whole);
                if before.is_some_and(|before| !whole.reached(&before)) {
                    rewound_at = Some(epoch);
                }
                bindings.push((epoch, Arc::new(whole.clone())));
                last = Some(whole);
            }
            (Record::Moved(epoch, moved), Some(mut now)) => {
                for (topic, partition, next) in moved {
                    now.advance(&topic.as_str().into(), partition, next);
                }
                bindings.push((epoch, Arc::new(now.clone())));
                last = Some(now);
            }
            (Record::Moved(..), None) => {}
        }
    }
    bindings.sort_by_key(|(epoch, _)| *epoch);
    bindings.dedup_by_key(|(epoch, _)| *epoch);
    let last_epoch = bindings.last().map_or(0, |(epoch, _)| *epoch);
    Said { bindings, ceiling: ceiling.max(last_epoch), rewound_at }
}

/// What waits for the journal, in order, and what may not be durable yet.
#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Vec<u8>>,
    /// The position of the last record; none where the next one must say everything.
    last: Option<Arc<Position>>,
    /// The greatest epoch there has been: where the wall clock was set back it is ahead of it.
    greatest: Epoch,
    /// A record was taken out and is being written.
    is_writing: bool,
    /// The last write failed, or took longer than anybody waits.
    is_stuck: bool,
}

#[derive(Debug)]
struct Shared {
    journal: Mutex<Written>,
    waiting: Mutex<Waiting>,
    /// Something that waited was written, or failed.
    written: Condvar,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    stop: AtomicBool,
}

#[derive(Debug)]
struct Written {
    journal: Journal,
    /// Written since the journal was last durable.
    unsynced: Vec<(Place, Vec<u8>)>,
    /// The segments that were begun by [`Bindings::roll`], each with the greatest epoch that stands before it.
    begun: Vec<(u64, Epoch)>,
}

/// The journal, open for writing.
#[derive(Debug, Clone)]
pub struct Bindings(Arc<Shared>);

/// The thread that makes the journal durable.
#[derive(Debug)]
pub(super) struct Syncing {
    bindings: Bindings,
    thread: JoinHandle<()>,
}

impl Bindings {
    /// Goes on with a journal; new epochs are greater than `last_epoch`.
    pub(super) fn new(journal: Journal, last_epoch: Epoch, clock: Arc<dyn Clock>, health: Arc<Health>) -> Self {
        let journal = Mutex::new(Written { journal, unsynced: Vec::new(), begun: Vec::new() });
        let waiting = Mutex::new(Waiting { greatest: last_epoch, ..Waiting::default() });
        let stop = AtomicBool::new(false);
        Self(Arc::new(Shared { journal, waiting, written: Condvar::new(), clock, health, stop }))
    }

    /// Starts the thread that calls [`Self::sync`] on a timer.
    pub(super) fn start(&self) -> std::io::Result<Syncing> {
        let bindings = self.clone();
        let thread = std::thread::Builder::new().name("tarn-journal".to_owned()).spawn({
            let bindings = self.clone();
            move || {
                while !bindings.0.stop.load(Ordering::Acquire) {
                    std::thread::park_timeout(SYNC_INTERVAL);
                    bindings.sync();
                }
            }
        })?;
        Ok(Syncing { bindings, thread })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().expect("no holder of the waiting bindings panics")
    }

    /// Does something with the journal, and writes what was noted meanwhile.
    fn with_journal<R>(&self, work: impl FnOnce(&mut Written) -> R) -> R {
        let mut written = self.0.journal.lock().expect("no writer of bindings panics");
        let result = work(&mut written);
        drop(written);
        self.write_what_waits();
        result
    }

    /// Writes what waits, unless somebody else is at it, who will.
    fn write_what_waits(&self) {
        // Whoever notes a record tries the lock after that, and whoever had it looks after letting it go: none is missed.
        while !self.waiting().records.is_empty() {
            let outcome = match self.0.journal.try_lock() {
                Ok(mut written) => self.write(&mut written, usize::MAX),
                Err(TryLockError::WouldBlock) => return,
                Err(TryLockError::Poisoned(_)) => panic!("no writer of bindings panics"),
            };
            // What could not be written waits, and is told.
            if outcome.is_err() {
                return;
            }
        }
    }

    /// Writes what waits, so many records at most. The lock of the journal is held, the other only for moments.
    fn write(&self, written: &mut Written, records_max: usize) -> Result<(), JournalError> {
        for _ in 0..records_max {
            let Some(record) = self.take_waiting() else { break };
            match written.journal.append(&record) {
                Ok(position) => written.unsynced.push((position, record)),
                Err(error) => {
                    self.waiting().records.push_front(record);
                    self.note_failure(written, &error);
                    return Err(error);
                }
            }
        }
        let mut waiting = self.waiting();
        (waiting.is_writing, waiting.is_stuck) = (false, false);
        drop(waiting);
        self.0.written.notify_all();
        Ok(())
    }

    fn take_waiting(&self) -> Option<Vec<u8>> {
        let mut waiting = self.waiting();
        let record = waiting.records.pop_front();
        waiting.is_writing = record.is_some();
        record
    }

    /// Where records are in doubt they are written again, in order.
    fn note_failure(&self, written: &mut Written, error: &JournalError) {
        {
            let mut waiting = self.waiting();
            (waiting.is_writing, waiting.is_stuck) = (false, true);
            if matches!(error, JournalError::InDoubt { .. }) {
                for (_, record) in std::mem::take(&mut written.unsynced).into_iter().rev() {
                    waiting.records.push_front(record);
                }
            }
        }
        self.0.written.notify_all();
        let text = error.to_string();
        self.0.health.update(|health| {
            if health.bindings_error.is_none() {
                tracing::error!(%error, "bindings cannot be written: after a crash epochs that were shown may be missing");
            }
            health.bindings_error = Some(text);
        });
    }

    /// Makes the journal durable and reserves epochs; what fails is told and tried again the next time.
    pub fn sync(&self) {
        // The fsync, which may take long, is done without the lock.
        let unsynced = self.with_journal(|written| match self.reserve(written) {
            Ok(()) => written.journal.unsynced(),
            // What could not be done was told.
            Err(_) => None,
        });
        if let Some(unsynced) = unsynced {
            let synced = unsynced.sync();
            let _ = self.with_journal(|written| {
                let confirmed = written.journal.confirm(synced);
                self.confirmed(written, confirmed)
            });
        }
    }

    /// Reserves epochs and writes what waits.
    fn reserve(&self, written: &mut Written) -> Result<(), JournalError> {
        {
            let mut waiting = self.waiting();
            let ceiling = waiting.greatest.max(self.0.clock.now_ms()).saturating_add(RESERVED_MS);
            waiting.records.push_back(encoded(&Record::Ceiling(ceiling)));
        }
        self.write(written, usize::MAX)
    }

    fn confirmed(
        &self,
        written: &mut Written,
        confirmed: Result<Option<Place>, JournalError>,
    ) -> Result<(), JournalError> {
        let Some(end) = confirmed.inspect_err(|error| self.note_failure(written, error))? else { return Ok(()) };
        written.unsynced.retain(|(position, _)| *position >= end);
        self.0.health.update(|health| {
            if health.bindings_error.take().is_some() {
                tracing::info!("bindings are written again");
            }
        });
        Ok(())
    }

    /// Begins a new segment; its number. The next record in it says everything.
    pub(super) fn roll(&self) -> Result<u64, JournalError> {
        self.with_journal(|written| {
            let (waiting, greatest) = {
                let mut waiting = self.waiting();
                // What is noted from here on stands in the new segment, and does not lean on what may be removed.
                waiting.last = None;
                (waiting.records.len(), waiting.greatest)
            };
            self.write(written, waiting)?;
            let segment = written.journal.roll().inspect_err(|error| self.note_failure(written, error))?;
            written.unsynced.clear();
            written.begun.push((segment, greatest));
            // By us and now, so that the ingest needs not wait for the disk; if it cannot be, it is tried again.
            let _ = written.journal.begin().inspect_err(|error| self.note_failure(written, error));
            Ok(segment)
        })
    }

    /// Forgets the segments that say nothing of any epoch after this one. An epoch that was sealed and not shown yet when
    /// a snapshot was taken may stand in a segment from before it.
    pub(super) fn forget_to(&self, epoch: Epoch) -> Result<(), JournalError> {
        self.with_journal(|written| {
            let unneeded = written.begun.partition_point(|(_, greatest)| *greatest <= epoch);
            let Some((segment, _)) = written.begun.drain(..unneeded).next_back() else { return Ok(()) };
            // The last word on which epochs are reserved may be in what is removed.
            self.reserve(written)?;
            if let Some(unsynced) = written.journal.unsynced() {
                let confirmed = written.journal.confirm(unsynced.sync());
                self.confirmed(written, confirmed)?;
            }
            written.journal.remove_before(segment)
        })
    }
}

fn encoded(record: &Record) -> Vec<u8> {
    postcard::to_allocvec(record).expect("memory takes a record of the journal")
}

impl BindingLog for Bindings {
    fn note(&mut self, binding: &Binding) {
        {
            let mut waiting = self.waiting();
            let record = match &waiting.last {
                Some(last) if Arc::ptr_eq(last, &binding.position) => Record::Moved(binding.epoch, Vec::new()),
                Some(last) if binding.position.reached(last) => {
                    let mut moved = stored_position(&binding.position);
                    moved.retain(|(topic, partition, next)| last.next_offset(topic, *partition) != Some(*next));
                    Record::Moved(binding.epoch, moved)
                }
                _ => Record::Whole(binding.epoch, stored_position(&binding.position)),
            };
            waiting.records.push_back(encoded(&record));
            waiting.last = Some(Arc::clone(&binding.position));
            waiting.greatest = binding.epoch;
            if waiting.records.len() > WAITING_MAX {
                waiting.records.clear();
                waiting.last = None;
            }
        }
        self.write_what_waits();
        // Who shows an epoch must find it again after a kill: somebody else is about to write it.
        let waiting = self.waiting();
        let is_awaited =
            |waiting: &mut Waiting| (waiting.is_writing || !waiting.records.is_empty()) && !waiting.is_stuck;
        let waited = self.0.written.wait_timeout_while(waiting, PATIENCE, is_awaited);
        let (mut waiting, waited) = waited.expect("no holder of the waiting bindings panics");
        waiting.is_stuck |= waited.timed_out();
    }

    fn forsake(&mut self) {
        self.waiting().last = None;
    }
}

impl Syncing {
    /// Makes durable what was written and ends.
    pub(super) fn stop(self) {
        self.bindings.0.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().expect("the journal's thread does not panic");
    }
}
