//! Commits to the group, for lag tools, on a thread and a client of their own.
//!
//! In: positions. Out: a count of failures. Promises: the newest position is committed, one commit at a time; whoever
//! hands one over never waits, but for a second at the end; after a failure the next waits longer and longer. They
//! stand apart because a client that has a commit on its way puts off new assignments, and without a broker its end,
//! for as long as it likes; and because the binding tells the fate of a commit only to those who wait for it. Not
//! here: when to commit. Nothing is ever read back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::ending::Ending;
use super::listener::{Bell, Listener};
use crate::model::{Position, Topics};

/// The waits after commits that failed. librdkafka keeps a note of every failure for as long as it lives.
const BACKOFF_MIN: Duration = Duration::from_secs(2);
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// The end is not waited for longer than this.
const END_WITHIN: Duration = Duration::from_secs(1);

/// How often the client's log lines and errors are taken, if nothing else happens.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// What the two sides share.
#[derive(Debug)]
struct Shared {
    wanted: Mutex<Option<Position>>,
    bell: Bell,
    stop: AtomicBool,
    failed: AtomicU64,
}

/// The thread, from outside.
#[derive(Debug)]
pub(super) struct Commits {
    shared: Arc<Shared>,
    last: Position,
    ending: Ending,
}

impl Commits {
    /// Starts the thread, which makes its client when there is something to commit.
    pub(super) fn start(client: ClientConfig) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            wanted: Mutex::new(None),
            bell: Bell::new(),
            stop: AtomicBool::new(false),
            failed: AtomicU64::new(0),
        });
        let (at_end, ending) = Ending::new(END_WITHIN);
        let inside = Arc::clone(&shared);
        std::thread::Builder::new().name("tarn-kafka-commits".to_owned()).spawn(move || {
            run(&inside, &client);
            drop(at_end);
        })?;
        Ok(Self { shared, last: Position::default(), ending })
    }

    /// Has `position` committed, instead of one that waits still.
    pub(super) fn offer(&mut self, position: &Position) {
        if self.last != *position {
            self.last.clone_from(position);
            *self.shared.wanted.lock().expect("no holder of the position panics") = Some(position.clone());
            self.shared.bell.ring();
        }
    }

    /// How many failed.
    pub(super) fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Has the thread end once the last position is committed, without waiting for it.
    pub(super) fn begin_stop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.bell.ring();
        self.ending.begin();
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.begin_stop();
        // A commit that is on its way to a broker that is gone comes back when it likes; nothing depends on it.
        if !self.ending.came() {
            tracing::warn!("the last position was not committed in time; lag tools will lag");
        }
    }
}

/// The thread's life.
fn run(shared: &Shared, config: &ClientConfig) {
    let listener = Listener::default();
    let mut client: Option<BaseConsumer<Listener>> = None;
    let (mut failed_in_a_row, mut not_before) = (0, Instant::now());
    loop {
        let stopping = shared.stop.load(Ordering::Acquire);
        let now = Instant::now();
        let wanted = match now >= not_before || stopping {
            true => shared.wanted.lock().expect("no holder of the position panics").take(),
            false => None,
        };
        match wanted {
            Some(position) => match commit(&mut client, config, &listener, &position) {
                Ok(()) => failed_in_a_row = 0,
                Err(error) => {
                    tracing::warn!(%error, "the position was not committed; lag tools will lag");
                    shared.failed.fetch_add(1, Ordering::Relaxed);
                    failed_in_a_row += 1;
                    not_before = Instant::now() + backoff(failed_in_a_row);
                }
            },
            None if stopping => return,
            None => shared.bell.wait(IDLE_INTERVAL),
        }
        if let Some(client) = &client {
            // The other clients tell of the same troubles aloud.
            listener.serve(client, |complaint| {
                tracing::debug!(reason = complaint.reason, "the client that commits reports an error");
            });
        }
    }
}

/// Commits, and waits for the answer.
fn commit(
    client: &mut Option<BaseConsumer<Listener>>,
    config: &ClientConfig,
    listener: &Listener,
    position: &Position,
) -> KafkaResult<()> {
    let client = match client {
        Some(client) => client,
        None => client.insert(config.create_with_context(listener.clone())?),
    };
    let mut list = TopicPartitionList::new();
    // A group has nothing to do with topics that no cluster has.
    for (topic, partition, next) in position.iter().filter(|(topic, ..)| !Topics::is_own(topic)) {
        list.add_partition_offset(topic, partition, Offset::Offset(next))?;
    }
    client.commit(&list, CommitMode::Sync)
}

fn backoff(failed_in_a_row: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << failed_in_a_row.saturating_sub(1).min(10)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_further_and_further_apart() {
        let waits: Vec<_> = [1, 2, 3, 9, 10, 1_000].iter().map(|failed| backoff(*failed).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 512, 600, 600]);
    }
}
