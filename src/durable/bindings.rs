//! The journal of bindings: which position every epoch sealed, written before the epoch is shown.
//!
//! A record is written at once, so it survives the process; a thread makes the journal durable every second and reserves
//! epochs ahead (`Ceiling`), so that after a power cut new epochs are beyond any that was shown, also where the wall clock
//! was set back. (Not where it is set ahead by more than is reserved, the power goes within that second, and it is set
//! back again.) The ingest never waits for the disk: while the journal is being made durable its records queue, and
//! while the disk does not work too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Health, position, stored_position};
use crate::clock::Clock;
use crate::dataflow::{Binding, BindingLog};
use crate::model::{Epoch, Position};
use crate::snapshot::{Journal, JournalError};

/// The journal's name in the data directory.
pub(super) const JOURNAL: &str = "bindings";
/// How often the journal is made durable.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Epochs are reserved so far ahead of the clock and of the last one that was sealed, ms.
const RESERVED_MS: u64 = 3_000;
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
}

#[derive(Debug)]
struct Shared {
    journal: Mutex<Written>,
    waiting: Mutex<Waiting>,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    stop: AtomicBool,
}

#[derive(Debug)]
struct Written {
    journal: Journal,
    /// Written since the journal was last durable.
    unsynced: Vec<Vec<u8>>,
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
        Self(Arc::new(Shared { journal, waiting, clock, health, stop }))
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

    /// Writes what waits, so many records at most. The lock of the journal is held, the other only for moments.
    fn write(&self, written: &mut Written, records_max: usize) -> Result<(), JournalError> {
        for _ in 0..records_max {
            let Some(record) = self.waiting().records.pop_front() else { break };
            match written.journal.append(&record) {
                Ok(_) => written.unsynced.push(record),
                Err(error) => {
                    self.waiting().records.push_front(record);
                    self.note_failure(written, &error);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Where records are in doubt they are written again, in order.
    fn note_failure(&self, written: &mut Written, error: &JournalError) {
        if matches!(error, JournalError::InDoubt { .. }) {
            let mut waiting = self.waiting();
            for record in std::mem::take(&mut written.unsynced).into_iter().rev() {
                waiting.records.push_front(record);
            }
        }
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
        let mut written = self.0.journal.lock().expect("no writer of bindings panics");
        // What could not be done was told.
        let _ = self.make_durable(&mut written);
    }

    fn make_durable(&self, written: &mut Written) -> Result<(), JournalError> {
        {
            let mut waiting = self.waiting();
            let ceiling = waiting.greatest.max(self.0.clock.now_ms()).saturating_add(RESERVED_MS);
            waiting.records.push_back(encoded(&Record::Ceiling(ceiling)));
        }
        self.write(written, usize::MAX)?;
        match written.journal.sync() {
            Ok(()) => {
                written.unsynced.clear();
                self.0.health.update(|health| {
                    if health.bindings_error.take().is_some() {
                        tracing::info!("bindings are written again");
                    }
                });
                Ok(())
            }
            Err(error) => {
                self.note_failure(written, &error);
                Err(error)
            }
        }
    }

    /// Begins a new segment; its number. The next record in it says everything.
    pub(super) fn roll(&self) -> Result<u64, JournalError> {
        let mut written = self.0.journal.lock().expect("no writer of bindings panics");
        let (waiting, greatest) = {
            let mut waiting = self.waiting();
            // What is noted from here on stands in the new segment, and does not lean on what may be removed.
            waiting.last = None;
            (waiting.records.len(), waiting.greatest)
        };
        self.write(&mut written, waiting)?;
        match written.journal.roll() {
            Ok(segment) => {
                written.unsynced.clear();
                written.begun.push((segment, greatest));
                Ok(segment)
            }
            Err(error) => {
                self.note_failure(&mut written, &error);
                Err(error)
            }
        }
    }

    /// Forgets the segments that say nothing of any epoch after this one. An epoch that was sealed and not shown yet when
    /// a snapshot was taken may stand in a segment from before it.
    pub(super) fn forget_to(&self, epoch: Epoch) -> Result<(), JournalError> {
        let mut written = self.0.journal.lock().expect("no writer of bindings panics");
        let unneeded = written.begun.partition_point(|(_, greatest)| *greatest <= epoch);
        let Some((segment, _)) = written.begun.drain(..unneeded).next_back() else { return Ok(()) };
        // The last word on which epochs are reserved may be in what is removed.
        self.make_durable(&mut written)?;
        written.journal.remove_before(segment)
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
                *waiting = Waiting { greatest: waiting.greatest, ..Waiting::default() };
            }
        }
        match self.0.journal.try_lock() {
            // What could not be written waits, and is told.
            Ok(mut written) => drop(self.write(&mut written, usize::MAX)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Poisoned(_)) => panic!("no writer of bindings panics"),
        }
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
