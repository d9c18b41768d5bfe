//! How a thread beside the reader is waited for when it is to end: for so long, and no longer.
//!
//! Such a thread may be in the middle of a question to a cluster that does not answer. All are told to end before the
//! first one is waited for, and the time runs from when each was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// A thread that asks the cluster and on whose end nothing depends, from outside. It is told to end when this is dropped,
/// at the latest, and waited for then.
#[derive(Debug)]
pub(super) struct Beside {
    name: &'static str,
    stop: Arc<AtomicBool>,
    ending: Ending,
}

impl Beside {
    /// Starts it. What it does takes no longer than `within` once it is told to stop, if the cluster answers.
    pub(super) fn start(
        name: &'static str,
        within: Duration,
        run: impl FnOnce(Arc<AtomicBool>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (at_end, ending) = Ending::new(within);
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // What it holds is gone by its end.
            run(told);
            drop(at_end);
        })?;
        Ok(Self { name, stop, ending })
    }

    /// Asks the thread to end, without waiting for it.
    pub(super) fn begin_stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.ending.begin();
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.begin_stop();
        // It may be in the middle of a question to a cluster that does not answer.
        if !self.ending.came() {
            tracing::debug!(thread = self.name, "a thread beside the reader ends later");
        }
    }
}
