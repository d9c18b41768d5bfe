//! What librdkafka tells beside records: statistics, errors, log lines.
//!
//! In: callbacks, which librdkafka makes from within a poll of ours. Out: [`Told`], which the poller takes after the
//! poll, and the [`Bell`] that ends its wait. Promises: nothing is judged or logged twice here; an error's words are
//! kept for the poll that returns its code. Not here: what follows from any of it (`partition`, `kafka`).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::Statistics;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What librdkafka told since it was last taken.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The newest statistics.
    pub(super) statistics: Option<Statistics>,
    /// The words of the last error; its code is what the poll returns.
    pub(super) reason: Option<String>,
    /// The client has heard of another cluster than before, of which it may fetch from now on.
    pub(super) another_cluster: bool,
    /// How many calls there were; a poll that returned nothing was not idle when this changed.
    pub(super) calls: u64,
}

/// What a client complains of.
#[derive(Debug)]
pub(super) struct Complaint {
    pub(super) says: Says,
    pub(super) reason: String,
}

/// How much a complaint says of why nothing comes; a later one says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Says {
    /// That nobody answers.
    NobodyAnswers,
    /// That there is no connection.
    NoConnection,
    /// Something that the operator can act on: a password, a certificate, a name.
    Why,
}

impl Says {
    /// Librdkafka tells a cause and, by other codes and other clients, what follows from it.
    fn of(error: &KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => Self::NobodyAnswers,
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut) => Self::NoConnection,
            _ => Self::Why,
        }
    }
}

/// Receives what librdkafka has to say.
#[derive(Debug, Clone, Default)]
pub(super) struct Listener(Arc<Mutex<Told>>);

impl Listener {
    /// Does something with what was told.
    pub(super) fn with<T>(&self, take: impl FnOnce(&mut Told) -> T) -> T {
        take(&mut self.0.lock().expect("no holder of what librdkafka told panics"))
    }

    /// The words of the error whose code the last poll returned, or its code's name.
    pub(super) fn reason(&self, error: &KafkaError) -> String {
        self.with(|told| told.reason.take()).filter(|reason| !reason.is_empty()).unwrap_or_else(|| error.to_string())
    }

    /// The same with the name of its code before it.
    pub(super) fn describe(&self, error: &KafkaError) -> String {
        let reason = self.reason(error);
        match error.rdkafka_error_code() {
            Some(code) => format!("{code:?}: {reason}"),
            None => reason,
        }
    }

    /// What an error that the last poll returned complains of.
    pub(super) fn complaint(&self, error: &KafkaError) -> Complaint {
        Complaint { says: Says::of(error), reason: self.describe(error) }
    }

    /// Takes log lines and errors off the queue of a client that reads nothing.
    pub(super) fn serve(&self, client: &BaseConsumer<Self>, mut on_error: impl FnMut(Complaint)) {
        loop {
            let before = self.with(|told| told.calls);
            match client.poll(Duration::ZERO) {
                Some(Err(error)) => on_error(self.complaint(&error)),
                Some(Ok(_)) => {}
                None if self.with(|told| told.calls) == before => return,
                None => {}
            }
        }
    }
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.with(|told| {
            told.calls += 1;
            // The only way in which it tells; in its queue this stands before what it fetches there.
            told.another_cluster |= facility == "CLUSTERID";
        });
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, line, "librdkafka");
            }
            // A broken connection is of this level, and comes again as an error that is told.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(facility, line, "librdkafka");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(facility, line, "librdkafka"),
            RDKafkaLogLevel::Debug => tracing::debug!(facility, line, "librdkafka"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.with(|told| {
            told.calls += 1;
            told.statistics = Some(statistics);
        });
    }

    fn error(&self, _error: KafkaError, reason: &str) {
        self.with(|told| {
            told.calls += 1;
            told.reason = Some(reason.to_owned());
        });
    }
}

impl ConsumerContext for Listener {}

/// Ends the wait of whoever polls; rung from any thread, any number of times.
#[derive(Debug, Clone)]
pub(super) struct Bell {
    ring: Sender<()>,
    heard: Receiver<()>,
}

impl Bell {
    pub(super) fn new() -> Self {
        let (ring, heard) = bounded(1);
        Self { ring, heard }
    }

    /// Ends the present wait, else the next one.
    pub(super) fn ring(&self) {
        // Full: it has been rung already, and not been heard yet.
        let _ = self.ring.try_send(());
    }

    /// Waits for a ring, at most so long.
    pub(super) fn wait(&self, at_most: Duration) {
        let _ = self.heard.recv_timeout(at_most);
    }
}

/// The offset that an end-of-partition notice names: one after the last record, control records included.
///
/// The binding hands over the partition alone. The queue's own order matters here, so that the end is known exactly
/// when everything before it has been read; statistics overtake records.
pub(super) fn end_offset(reason: &str) -> Option<i64> {
    let (_, after) = reason.split_once("end of partition at offset ")?;
    after.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_from_its_notice() {
        let notice = "Fetch from broker 1 reached end of partition at offset 3254 (HighwaterMark 3254)";
        assert_eq!(end_offset(notice), Some(3254));
        assert_eq!(end_offset("Fetch from broker 1 failed"), None);
    }

    #[test]
    fn a_request_that_timed_out_says_no_more_than_a_connection_that_is_gone() {
        let says = |code| Says::of(&KafkaError::Global(code));
        assert_eq!(says(RDKafkaErrorCode::OperationTimedOut), Says::NoConnection);
        assert_eq!(says(RDKafkaErrorCode::BrokerTransportFailure), Says::NoConnection);
        assert_eq!(says(RDKafkaErrorCode::AllBrokersDown), Says::NobodyAnswers);
        assert_eq!(says(RDKafkaErrorCode::Authentication), Says::Why);
    }

    #[test]
    fn a_bell_is_heard_once_however_often_it_was_rung() {
        let bell = Bell::new();
        bell.ring();
        bell.ring();
        bell.wait(Duration::from_secs(60));
        assert!(bell.heard.is_empty());
    }
}
