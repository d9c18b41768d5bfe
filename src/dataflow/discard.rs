//! Large things are given back to the allocator by a thread that does nothing else.
//!
//! The rows of a batch are each an allocation, so dropping the last hold on a million of them takes tens of milliseconds. The
//! last to hold one is whoever finished a merge, a worker on which an epoch waits, or whoever ended a read. In: what would be
//! dropped. What there is no room for is dropped at once, so that what waits is bounded.

use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};

/// So few updates are dropped within a millisecond.
const LARGE_UPDATES: usize = 20_000;
/// How many wait at most.
const WAITING_MAX: usize = 4;

type Anything = Box<dyn Send>;

/// None where the system gives no thread.
static DISCARDED: LazyLock<Option<SyncSender<Anything>>> = LazyLock::new(|| {
    let (sender, receiver) = sync_channel::<Anything>(WAITING_MAX);
    let thread = std::thread::Builder::new().name("tarn-discard".to_owned());
    let spawned = thread.spawn(move || receiver.into_iter().for_each(drop));
    spawned.ok().map(|_| sender)
});

/// Begins the thread, which has the priority of whoever calls this first.
pub(super) fn begin() {
    LazyLock::force(&DISCARDED);
}

/// Whether what has so many updates is worth it.
pub(super) fn is_large(updates: usize) -> bool {
    updates >= LARGE_UPDATES
}

/// Drops it elsewhere if it can.
pub(super) fn discard(anything: impl Send + 'static) {
    if let Some(discarded) = &*DISCARDED {
        // What cannot be sent comes back and is dropped here.
        drop(discarded.try_send(Box::new(anything)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::thread::{ThreadId, current};

    use super::*;

    /// Tells where it is dropped.
    struct Told(Sender<ThreadId>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.send(current().id()).unwrap();
        }
    }

    #[test]
    fn things_are_dropped_elsewhere_and_all_of_them() {
        let (sender, receiver) = channel();
        discard(Told(sender.clone()));
        assert_ne!(receiver.recv().unwrap(), current().id());
        for _ in 0..1_000 {
            discard(Told(sender.clone()));
        }
        drop(sender);
        assert_eq!(receiver.into_iter().count(), 1_000);
    }
}
