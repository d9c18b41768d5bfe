//! Records that are read again out of the quarantine, as one more topic with positions of its own.
//!
//! In: entries of the quarantine with the numbers that they got ([`ResubmittedQueue::push`]; whoever gives the numbers
//! keeps the records for as long as a restart may need them). Out: batches of records at the coordinates
//! `(resubmitted):0:number`, byte for byte as they first came, each with its [`Origin`]. Promises: in order, each once.
//! Not here: whether they are superseded (`dataflow`), and keeping them (`durable`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use super::line;
use super::record::RecordBatch;
use crate::model::{Coordinates, Epoch, EventOrder, QuarantineEntry, Reject, RejectReason, TopicId, Topics};

/// So many bytes make a batch.
const BATCH_BYTES: usize = 256 * 1024;

/// Where a record stood when it was rejected.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its entry of the quarantine.
    pub entry: Arc<QuarantineEntry>,
    /// Its number among all that were ever submitted again.
    pub number: i64,
    /// Whether the state that reads it again has met it where it first stood. One that is made anew from the log has to
    /// meet it there first.
    pub is_met: bool,
}

impl Origin {
    /// By what the entry is told from all others.
    pub fn key(&self) -> (Epoch, EventOrder) {
        (self.entry.first_seen, self.entry.reject.order)
    }
}

/// What waits to be read, shared between whoever submits and the ingest.
#[derive(Debug, Clone, Default)]
pub struct ResubmittedQueue(Arc<Mutex<VecDeque<Origin>>>);

impl ResubmittedQueue {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Origin>> {
        self.0.lock().expect("no holder of the queue of re-submitted records panics")
    }

    /// Adds records, in order of their numbers.
    pub fn push(&self, resubmitted: impl IntoIterator<Item = Origin>) {
        self.waiting().extend(resubmitted);
    }

    /// Puts records back that were taken and not folded, before all others.
    pub fn give_back(&self, batch: RecordBatch) {
        let mut waiting = self.waiting();
        batch.into_origins().into_iter().rev().for_each(|origin| waiting.push_front(origin));
    }

    /// From here on another state reads, which has met none of them.
    pub fn begin_anew(&self) {
        self.waiting().iter_mut().for_each(|origin| origin.is_met = false);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next records, up to the first one that the state has not met and whose place was not read.
    pub fn take(&self, topics: &Topics, is_read: impl Fn(Coordinates) -> bool) -> Option<RecordBatch> {
        let mut waiting = self.waiting();
        let is_next = |origin: &mut Origin| origin.is_met || is_read(origin.entry.coordinates());
        if !waiting.front_mut().is_some_and(is_next) {
            return None;
        }
        let topic = topics.intern(Topics::RESUBMITTED).expect("the name was taken when the process began");
        let mut batch = RecordBatch::new();
        while batch.bytes() < BATCH_BYTES
            && let Some(origin) = waiting.pop_front_if(is_next)
        {
            append(&mut batch, topic, origin, topics);
        }
        Some(batch)
    }
}

/// Adds the record as it first came.
fn append(batch: &mut RecordBatch, topic: TopicId, origin: Origin, topics: &Topics) {
    let coordinates = Coordinates { topic, partition: 0, offset: origin.number };
    let reject = &origin.entry.reject;
    match as_line(reject, topics) {
        Some((text, rest_at)) => {
            let line = batch.append(text);
            match rest_at {
                Some(rest_at) => batch.push_line_at(coordinates, reject.observed_ms, line, rest_at),
                None => batch.push_broken_at(coordinates, line),
            }
        }
        None => {
            let headers = reject.headers.iter().map(|(name, value)| (&**name, value.as_deref()));
            let (key, value) = (reject.key.as_deref(), reject.value.as_deref());
            batch.push_wire(coordinates, reject.observed_ms, key, value, headers);
        }
    }
    batch.set_origin(origin);
}

/// The line of a log, if what was rejected is one as a whole, and where its fields after the coordinates begin if it has
/// any.
fn as_line<'a>(reject: &'a Reject, topics: &Topics) -> Option<(&'a [u8], Option<usize>)> {
    let text = reject.value.as_deref()?;
    match line::frame(text) {
        Ok(frame) => {
            let at = reject.order.coordinates;
            let is_its_own =
                (frame.partition, frame.offset) == (at.partition, at.offset) && *frame.topic == *topics.name(at.topic);
            (is_its_own && reject.headers.is_empty()).then_some((text, Some(frame.rest_at)))
        }
        Err(_) => (reject.reason == RejectReason::NotALogLine).then_some((text, None)),
    }
}

/// Whether an entry has all bytes of its record; they are capped at `reject_bytes_max`.
pub fn is_whole(reject: &Reject, reject_bytes_max: usize, topics: &Topics) -> bool {
    let held = |bytes: &Option<Box<[u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
    if as_line(reject, topics).is_some() {
        return held(&reject.value) == reject.total_bytes;
    }
    let header_is_whole = |(name, value): &(Box<str>, Option<Box<[u8]>>)| {
        name.len() < Reject::HEADER_NAME_BYTES_MAX && held(value) < (reject_bytes_max as u64).max(1)
    };
    held(&reject.key) + held(&reject.value) == reject.total_bytes
        && reject.headers.len() < Reject::HEADERS_MAX
        && reject.headers.iter().all(header_is_whole)
}
