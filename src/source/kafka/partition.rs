//! One partition: what was read of it, whether librdkafka still reads it, and what to do when it does not.
//!
//! In: records, ends, errors, statistics and watermarks, in the order in which they came. Out: the next offset, a
//! [`Phase`], and a [`Verdict`] on watermarks. Promises: reading goes on at exactly the next offset, or the position
//! is named as lost. What librdkafka does of its own accord is undone: after an offset that is out of range it gives
//! the partition up for good, and after a damaged batch it goes on with the one behind. Not here: any call of
//! librdkafka; the caller asks for watermarks, assigns, and applies the policy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::RDKafkaErrorCode;

use super::check::Check;
use super::listener::Listener;
use crate::model::TopicId;
use crate::source::identity::verdict::IdentityFault;
use crate::source::{PartitionState, Phase};

/// The first wait before another attempt; it doubles up to the last.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A position outside of the log is looked at twice: a broker that has just become the leader may not know its end.
const CONFIRM_AFTER: Duration = Duration::from_millis(500);

/// A batch that cannot be read so often is damaged in the log, not on the way.
const DAMAGED_ATTEMPTS_MAX: u32 = 5;

/// Statistics say nothing about a partition that has just been assigned.
const SETTLED_AFTER: Duration = Duration::from_millis(1_500);

/// librdkafka tells a refusal once; to learn of its end the partition is assigned anew so often.
const REFUSED_RETRY: Duration = Duration::from_secs(10);

/// Whether librdkafka reads the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    On,
    /// It has given up; what comes out of its queue is let go, because reading begins again at the next offset.
    Off {
        /// Its records cannot be read (checksum, format, compression).
        damaged: bool,
        /// The log was cut and grew again, so the next offset is of another log although it is in range.
        truncated: bool,
        /// The watermarks have said once that the next offset is outside.
        outside: bool,
    },
    /// For good.
    Ended(Phase),
}

/// What the statistics say of a partition and its broker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    /// librdkafka fetches nothing, and will not.
    pub(super) given_up: bool,
    /// The cluster does not know the partition.
    pub(super) unknown: bool,
    /// The partition has no leader.
    pub(super) leaderless: bool,
    /// Its broker is connected and answers.
    pub(super) connected: bool,
    /// The first offset, the end for us, and the end with open transactions; negative when not known.
    pub(super) start: i64,
    /// As above.
    pub(super) stable_end: i64,
    /// As above.
    pub(super) end: i64,
}

/// What is to be done, now that the watermarks are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// Assign it anew, at this offset.
    ReadFrom(i64),
    /// The next offset is not in the log, which begins and ends at these.
    Lost { next: i64, low: i64, high: i64 },
    /// The record at the next offset cannot be read.
    Corrupt,
}

/// A partition that is, or is to be, read.
pub(super) struct Partition {
    pub(super) topic: Arc<str>,
    pub(super) topic_id: TopicId,
    pub(super) number: i32,
    /// Where its records come out; none once reading has stopped for good.
    pub(super) queue: Option<PartitionQueue<Listener>>,
    /// The next offset to read; none before anything was read.
    pub(super) next: Option<i64>,
    /// An end that the position has not been moved to.
    pub(super) end_to_note: Option<i64>,
    /// Known when reading began: its end is one that ready waits for.
    pub(super) counts_for_ready: bool,
    /// The end as first seen.
    pub(super) end_at_start: Option<i64>,
    /// Whether its log is the one that is known; nothing is taken while that is open.
    pub(super) check: Check,
    /// What was wrong with its log when it was last found to be another one, or without the next offset.
    pub(super) fault: Option<IdentityFault>,
    reading: Reading,
    /// How often reading was begun anew since something was read.
    attempts: u32,
    /// When watermarks are to be asked for; none while they are not needed or on their way.
    ask_at: Option<Instant>,
    found_at: Instant,
    assigned_at: Instant,
    /// What the statistics say of its broker.
    connection: Phase,
    /// What a broker refused, until something is read, and since when.
    refused: Option<(Phase, Instant)>,
    last_error: Option<String>,
    start: Option<i64>,
    end: Option<i64>,
    held_by_transaction: i64,
}

impl Partition {
    pub(super) fn new(topic: Arc<str>, topic_id: TopicId, number: i32, next: Option<i64>, now: Instant) -> Self {
        Self {
            topic,
            topic_id,
            number,
            queue: None,
            next,
            end_to_note: None,
            counts_for_ready: false,
            end_at_start: None,
            check: Check::default(),
            fault: None,
            reading: Reading::On,
            attempts: 0,
            ask_at: Some(now),
            found_at: now,
            assigned_at: now,
            connection: Phase::Reading,
            refused: None,
            last_error: None,
            start: None,
            end: None,
            held_by_transaction: 0,
        }
    }

    /// How it is doing.
    pub(super) fn phase(&self) -> Phase {
        let refused = self.refused.map_or(Phase::Reading, |(phase, _)| phase);
        let checking = if self.check.is_open() { Phase::Checking } else { Phase::Reading };
        match self.reading {
            Reading::On => self.connection.max(refused).max(checking),
            Reading::Off { .. } => self.connection.max(refused).max(checking).max(Phase::Recovering),
            Reading::Ended(phase) => phase,
        }
    }

    /// What is shown of it.
    pub(super) fn state(&self) -> PartitionState {
        PartitionState {
            topic: Arc::clone(&self.topic),
            partition: self.number,
            phase: self.phase(),
            next_offset: self.next,
            start_offset: self.start,
            end_offset: self.end,
            held_by_transaction: self.held_by_transaction,
            last_error: self.error(),
            identity_fault: self.fault,
        }
    }

    fn error(&self) -> Option<String> {
        let undecided = self.check.undecided().map(|reason| format!("not known to be the log that was read: {reason}"));
        undecided.or_else(|| self.last_error.clone()).or_else(|| self.complaint().map(str::to_owned))
    }

    /// What the statistics amount to in words.
    fn complaint(&self) -> Option<&'static str> {
        match (self.reading, self.connection) {
            (Reading::Ended(_), _) => None,
            (_, Phase::Missing) => Some("the cluster does not know the partition"),
            (_, Phase::Leaderless) => Some("the partition has no leader"),
            (_, Phase::Disconnected) => Some("its broker is not connected or does not answer"),
            _ => None,
        }
    }

    /// Whether its position is known to be in the log, or there is none to be in it.
    pub(super) fn is_sound(&self) -> bool {
        self.reading == Reading::On && self.end_at_start.is_some() && !self.check.is_open()
    }

    /// Where its log begins, as last heard.
    pub(super) fn start(&self) -> Option<i64> {
        self.start
    }

    /// Whether there may be an answer: its broker is there, or is not needed yet.
    pub(super) fn can_be_asked_about(&self) -> bool {
        self.queue.is_none() || self.connection != Phase::Disconnected
    }

    /// Whether a record cannot be read, as opposed to its place not being there.
    pub(super) fn is_damaged(&self) -> bool {
        matches!(self.reading, Reading::Off { damaged: true, .. })
    }

    /// A record came; false when it is to be let go.
    pub(super) fn on_record(&mut self, offset: i64) -> bool {
        if self.reading != Reading::On || self.next.is_some_and(|next| offset < next) {
            return false;
        }
        self.next = Some(offset + 1);
        self.on_progress();
        true
    }

    /// Everything before `offset` has been read, and there is no more.
    pub(super) fn on_end(&mut self, offset: i64) {
        if self.reading == Reading::On {
            self.next = self.next.max(Some(offset));
            self.end_to_note = self.next;
            self.on_progress();
        }
    }

    fn on_progress(&mut self) {
        self.attempts = 0;
        self.refused = None;
        if self.last_error.is_some() {
            self.last_error = None;
        }
    }

    /// An error came out of its queue; whether it is news.
    pub(super) fn on_error(&mut self, code: RDKafkaErrorCode, reason: &str, now: Instant) -> bool {
        use RDKafkaErrorCode as Code;
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                let truncated = reason.contains("truncation") || reason.contains("No epoch found");
                self.stop(false, truncated, reason, now);
                return true;
            }
            Code::BadMessage | Code::NotImplemented | Code::BadCompression => {
                self.stop(true, false, reason, now);
                return true;
            }
            Code::TopicAuthorizationFailed => self.refused = Some((Phase::Forbidden, now)),
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicId => {
                self.refused = Some((Phase::Missing, now));
                // What comes behind it may be of another topic of that name.
                self.check.want(now);
            }
            _ => {}
        }
        let news = self.last_error.as_deref() != Some(reason);
        self.last_error = Some(reason.to_owned());
        news
    }

    /// librdkafka no longer reads it, or must not.
    fn stop(&mut self, damaged: bool, truncated: bool, reason: &str, now: Instant) {
        match &mut self.reading {
            Reading::On => {
                self.reading = Reading::Off { damaged, truncated, outside: false };
                self.attempts += 1;
                self.ask_at = Some(now + backoff(self.attempts));
                self.last_error = Some(reason.to_owned());
            }
            // The same failure told in other words; what is known of it adds up.
            Reading::Off { damaged: was_damaged, truncated: was_truncated, .. } => {
                *was_damaged |= damaged;
                *was_truncated |= truncated;
            }
            Reading::Ended(_) => {}
        }
    }

    /// Reading has ended for good.
    pub(super) fn end(&mut self, phase: Phase, reason: Option<String>) {
        self.reading = Reading::Ended(phase);
        self.check.close();
        self.ask_at = None;
        self.queue = None;
        self.last_error = reason.or(self.last_error.take());
    }

    /// Statistics came.
    pub(super) fn on_statistics(&mut self, figures: &Figures, now: Instant) {
        let known = |offset: i64| (offset >= 0).then_some(offset);
        self.start = known(figures.start).or(self.start);
        self.end = known(figures.stable_end).or(self.end);
        if let (Some(end), Some(stable_end)) = (known(figures.end), known(figures.stable_end)) {
            self.held_by_transaction = (end - stable_end).max(0);
        }
        // A position to go on from is looked up first: until then nobody knows whether the log has it.
        if self.end_at_start.is_none() && self.next.is_none() && self.reading == Reading::On {
            self.end_at_start = known(figures.stable_end);
        }
        let settled = now.duration_since(self.found_at) >= SETTLED_AFTER;
        self.connection = match figures {
            _ if !settled => self.connection,
            Figures { unknown: true, .. } => Phase::Missing,
            Figures { leaderless: true, .. } => Phase::Leaderless,
            Figures { connected: false, .. } => Phase::Disconnected,
            _ => Phase::Reading,
        };
        if self.connection == Phase::Disconnected && self.queue.is_some() {
            // Whoever answers in its broker's place may be another one.
            self.check.want(now);
        }
        let (is_settled, is_on) = (now.duration_since(self.assigned_at) >= SETTLED_AFTER, self.reading == Reading::On);
        let is_shorter = known(figures.end).zip(self.next).is_some_and(|(end, next)| end < next);
        if is_shorter && is_settled && is_on {
            self.check.want(now);
        }
        if figures.given_up && is_settled && is_on {
            self.stop(false, false, "librdkafka has given the partition up", now);
        }
        if self.refused.is_some_and(|(_, since)| now.duration_since(since) >= REFUSED_RETRY)
            && self.reading == Reading::On
        {
            let reason = self.last_error.clone().unwrap_or_default();
            self.stop(false, false, &reason, now);
        }
    }

    /// Whether watermarks are to be asked for now; they are then taken to be on their way.
    pub(super) fn takes_a_look(&mut self, now: Instant) -> bool {
        self.ask_at.take_if(|at| *at <= now).is_some()
    }

    /// Watermarks could not be had.
    pub(super) fn on_watermarks_unknown(&mut self, code: Option<RDKafkaErrorCode>, reason: &str, now: Instant) {
        self.ask_at = Some(now + BACKOFF_MIN);
        if code == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
            self.refused.get_or_insert((Phase::Forbidden, now));
        }
        if self.reading != Reading::On {
            self.last_error = Some(reason.to_owned());
        }
    }

    /// Watermarks came, asked for when the next offset was `asked`.
    pub(super) fn on_watermarks(&mut self, low: i64, high: i64, asked: Option<i64>, now: Instant) -> Verdict {
        self.start = Some(low);
        self.end = Some(high);
        let inside = asked.is_none_or(|next| (low..=high).contains(&next));
        match self.reading {
            Reading::Ended(_) => Verdict::Fine,
            Reading::On if inside => {
                self.end_at_start.get_or_insert(high);
                Verdict::Fine
            }
            Reading::On => {
                self.reading = Reading::Off { damaged: false, truncated: false, outside: true };
                self.ask_at = Some(now + CONFIRM_AFTER);
                Verdict::Fine
            }
            Reading::Off { .. } if asked != self.next => {
                self.ask_at = Some(now);
                Verdict::Fine
            }
            Reading::Off { damaged: true, .. } if inside && self.attempts >= DAMAGED_ATTEMPTS_MAX => Verdict::Corrupt,
            Reading::Off { truncated: false, .. } if inside => {
                self.end_at_start.get_or_insert(high);
                Verdict::ReadFrom(asked.unwrap_or(low))
            }
            Reading::Off { damaged, truncated, outside: false } => {
                self.reading = Reading::Off { damaged, truncated, outside: true };
                self.ask_at = Some(now + CONFIRM_AFTER);
                Verdict::Fine
            }
            Reading::Off { .. } => match asked {
                Some(next) => Verdict::Lost { next, low, high },
                // Nothing was read, so nothing can be lost.
                None => Verdict::ReadFrom(low),
            },
        }
    }

    /// Its log is the one that is known, and has these ends; where to read it from.
    pub(super) fn on_same(&mut self, start: i64, end: i64) -> i64 {
        self.start = Some(start);
        self.end = Some(end);
        self.end_at_start.get_or_insert(end);
        self.ask_at = None;
        self.next.unwrap_or(start)
    }

    /// It was assigned anew.
    pub(super) fn on_assigned(&mut self, now: Instant) {
        self.reading = Reading::On;
        self.assigned_at = now;
        // Told once a refusal; if it is one still, this is when it is looked at again.
        self.refused = self.refused.map(|(phase, _)| (phase, now));
    }

    /// It is not read before its log is known to be the one that was read.
    pub(super) fn wait_for_check(&mut self, now: Instant) {
        self.ask_at = None;
        self.check.want(now);
    }

    /// It could not be assigned.
    pub(super) fn on_not_assigned(&mut self, reason: String, now: Instant) {
        self.reading = Reading::Off { damaged: false, truncated: false, outside: false };
        self.ask_at = Some(now + BACKOFF_MIN);
        self.last_error = Some(reason);
    }

    /// What was next is lost; reading goes on from the start of a log that has these ends.
    pub(super) fn go_on_from(&mut self, low: i64, high: i64) {
        self.next = Some(low);
        self.start = Some(low);
        self.end = Some(high);
        self.ask_at = None;
        self.end_to_note = None;
        self.end_at_start = Some(high);
        self.attempts = 0;
        self.last_error = None;
    }
}

/// The wait before an attempt; none before the first, which heals what was wrong for a moment only.
fn backoff(attempts: u32) -> Duration {
    match attempts {
        0 | 1 => Duration::ZERO,
        more => BACKOFF_MIN.saturating_mul(1 << (more - 2).min(8)).min(BACKOFF_MAX),
    }
}

#[cfg(test)]
mod tests;
