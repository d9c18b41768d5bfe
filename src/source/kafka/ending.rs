//! How a thread beside the reader is waited for when it is to end: for so long, and no longer.
//!
//! Such a thread may be in the middle of a question to a cluster that does not answer. All are told to end before the
//! first one is waited for, and the time runs from when each was told.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

/// The end of a thread, from outside.
#[derive(Debug)]
pub(super) struct Ending {
    /// Nothing is ever sent; disconnected when the thread has ended.
    ended: Receiver<()>,
    within: Duration,
    /// Until when its end is waited for, once it was told to.
    by: Option<Instant>,
}

impl Ending {
    /// An end that is waited for so long, and what the thread drops when it comes to it.
    pub(super) fn new(within: Duration) -> (Sender<()>, Self) {
        let (ending, ended) = bounded(0);
        (ending, Self { ended, within, by: None })
    }

    /// Notes that the thread was told; only the first time counts.
    pub(super) fn begin(&mut self) {
        self.by.get_or_insert_with(|| Instant::now() + self.within);
    }

    /// Waits for the end; whether it came in time.
    pub(super) fn came(&mut self) -> bool {
        let by = *self.by.get_or_insert_with(|| Instant::now() + self.within);
        !self.ended.recv_deadline(by).is_err_and(|error| error.is_timeout())
    }
}
