//! What the outside is shown: the phase, the errors, the ends, and when the log was last heard of.
//!
//! In: statistics, troubles of topics and of the client, and the partitions. Out: the [`SourceStatus`], told anew only
//! when something changed. Promises: the phase is that of the worst partition or topic, and no error outlives what it
//! was about; the end at start is told when every topic has been found and every position was seen to be in its log.
//! Not here: what is done about any of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Statistics;
use rdkafka::statistics::Broker;

use super::listener::Complaint;
use super::partition::{Figures, Partition};
use crate::clock::now_ms;
use crate::model::Position;
use crate::source::identity::verdict::IdentityFault;
use crate::source::{Phase, SourceStatus, TopicTrouble};

/// A cause that is not told again for so long is none any more; librdkafka repeats what lasts every half minute.
const TROUBLE_LASTS: Duration = Duration::from_secs(60);

/// The source's state, and what it is put together from.
pub(super) struct Shown {
    status: SourceStatus,
    silence_max: Duration,
    changed: bool,
    phase: Phase,
    troubles: BTreeMap<Arc<str>, TopicTrouble>,
    /// What the client complained of, and when it did last, until all goes well.
    trouble: Option<(Complaint, Instant)>,
    commits_failed: u64,
}

impl Shown {
    pub(super) fn new(status: SourceStatus, silence_max: Duration) -> Self {
        Self {
            status,
            silence_max,
            changed: true,
            phase: Phase::Connecting,
            troubles: BTreeMap::new(),
            trouble: None,
            commits_failed: 0,
        }
    }

    /// Something about a partition changed.
    pub(super) fn touch(&mut self) {
        self.changed = true;
    }

    /// Whether all is well.
    pub(super) fn is_reading(&self) -> bool {
        self.phase == Phase::Reading
    }

    /// A topic was found.
    pub(super) fn on_topic_well(&mut self, topic: &Arc<str>) {
        if self.troubles.remove(topic).is_some() {
            tracing::info!(topic = &**topic, "a topic can be read again");
            self.changed = true;
        }
    }

    /// A topic cannot be read.
    pub(super) fn on_topic_trouble(&mut self, topic: &Arc<str>, phase: Phase, reason: String) {
        let trouble = TopicTrouble { phase, reason };
        if self.troubles.get(topic).is_none_or(|known| known.reason != trouble.reason) {
            tracing::warn!(topic = &**topic, reason = trouble.reason, "a topic cannot be read");
            self.troubles.insert(Arc::clone(topic), trouble);
            self.changed = true;
        }
    }

    /// A client or the cluster has something to complain of.
    pub(super) fn on_trouble(&mut self, complaint: Complaint, now: Instant) {
        match &mut self.trouble {
            Some((known, told_at)) if known.reason == complaint.reason => *told_at = now,
            // That nobody is there follows from why.
            Some((known, told_at)) if known.says > complaint.says && now.duration_since(*told_at) < TROUBLE_LASTS => {}
            known => {
                // While it lasts it comes again and again, in turn with others of the same cause.
                if known.as_ref().is_none_or(|(known, _)| known.says < complaint.says) {
                    tracing::warn!(reason = complaint.reason, "the Kafka client reports an error");
                } else {
                    tracing::debug!(reason = complaint.reason, "the Kafka client reports an error");
                }
                *known = Some((complaint, now));
                self.changed = true;
            }
        }
    }

    /// So many commits have failed by now.
    pub(super) fn on_commits_failed(&mut self, count: u64) {
        self.changed |= self.commits_failed != count;
        self.commits_failed = count;
    }

    /// A log is not the one that was read, or lacks the next offset.
    pub(super) fn on_fault(&mut self, fault: IdentityFault) {
        self.status.update(|state| *state.identity_faults.entry(fault).or_default() += 1);
    }

    /// Events were lost, and answers lack them.
    pub(super) fn on_loss(&mut self, now_ms: u64) {
        self.status.update(|state| state.incomplete_since_ms = state.incomplete_since_ms.or(Some(now_ms)));
    }

    /// Records came.
    pub(super) fn on_records(&mut self) {
        let now_ms = now_ms();
        self.status.update(|state| state.last_heard_ms = state.last_heard_ms.max(now_ms));
        self.changed |= self.phase != Phase::Reading;
    }

    /// Statistics came.
    pub(super) fn on_statistics(&mut self, statistics: &Statistics, partitions: &mut [Partition], halted: bool) {
        let now = Instant::now();
        let brokers: BTreeMap<i32, &Broker> = statistics
            .brokers
            .values()
            .filter(|broker| broker.nodeid >= 0)
            .map(|broker| (broker.nodeid, broker))
            .collect();
        // Who leads is old news where nobody is left to tell.
        let any_connected = brokers.values().any(|broker| is_connected(broker, self.silence_max));
        for partition in partitions.iter_mut().filter(|_| !halted) {
            let told =
                statistics.topics.get(&*partition.topic).and_then(|topic| topic.partitions.get(&partition.number));
            let Some(told) = told else { continue };
            let broker = brokers.get(&told.broker).or_else(|| brokers.get(&told.leader));
            let figures = Figures {
                given_up: told.desired && told.fetch_state == "none",
                unknown: told.desired && told.unknown,
                leaderless: told.leader == -1 && any_connected,
                connected: broker.is_some_and(|broker| is_connected(broker, self.silence_max)),
                start: told.lo_offset,
                stable_end: told.ls_offset,
                end: told.hi_offset,
            };
            partition.on_statistics(&figures, now);
        }
        let idle = brokers.values().filter(|broker| is_up(broker) && broker.rxidle >= 0).map(|broker| broker.rxidle);
        if let Some(idle_us) = idle.min() {
            let heard_ms = now_ms().saturating_sub(idle_us.unsigned_abs() / 1_000);
            self.status.update(|state| state.last_heard_ms = state.last_heard_ms.max(heard_ms));
        }
        self.changed = true;
    }

    /// Tells the outside, if anything changed. `complete`: every topic has been found, and its partitions are these.
    pub(super) fn show(&mut self, partitions: &[Partition], complete: bool) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let worst_partition = partitions.iter().max_by_key(|partition| partition.phase());
        let worst_topic = self.troubles.iter().max_by_key(|(_, trouble)| trouble.phase);
        let phases = worst_partition.map(Partition::phase).into_iter().chain(worst_topic.map(|(_, t)| t.phase));
        self.phase = phases.max().unwrap_or(Phase::Connecting);
        if self.phase == Phase::Reading {
            self.trouble = None;
        }
        let of_topic = worst_topic.map(|(topic, trouble)| (trouble.phase, format!("{topic}: {}", trouble.reason)));
        let of_partition = worst_partition.and_then(|partition| {
            let state = partition.state();
            Some((state.phase, format!("{} [{}]: {}", state.topic, state.partition, state.last_error?)))
        });
        let worst = [of_topic, of_partition].into_iter().flatten().max_by_key(|(phase, _)| *phase);
        let last_error = match (worst, self.trouble.as_ref().map(|(complaint, _)| complaint.reason.clone())) {
            // What the client says of its connections says more than that there is none.
            (Some((Phase::Disconnected, _)) | None, Some(trouble)) => Some(trouble),
            (worst, _) => worst.map(|(_, text)| text),
        };
        let mut end = Position::default();
        let states: Vec<_> = partitions.iter().map(Partition::state).collect();
        for state in &states {
            if let Some(offset) = state.end_offset {
                end.advance(&state.topic, state.partition, offset);
            }
        }
        let end_at_start = if complete { end_at_start(partitions) } else { None };
        self.status.update(|state| {
            state.phase = self.phase;
            state.last_error = last_error;
            state.troubles.clone_from(&self.troubles);
            state.partitions = states;
            state.commits_failed = self.commits_failed;
            state.end = end;
            state.end_at_start = end_at_start.or(state.end_at_start.take());
        });
    }
}

/// The end that ready waits for; none while a position is not known to be in its log.
fn end_at_start(partitions: &[Partition]) -> Option<Position> {
    let mut end = Position::default();
    for partition in partitions.iter().filter(|partition| partition.counts_for_ready) {
        let offset = partition.end_at_start.filter(|_| partition.is_sound())?;
        end.advance(&partition.topic, partition.number, offset);
    }
    Some(end)
}

fn is_up(broker: &Broker) -> bool {
    matches!(broker.state.as_str(), "UP" | "UPDATE" | "REAUTH")
}

/// Connected, and not owing an answer for long: a connection whose other end is gone looks open for minutes.
fn is_connected(broker: &Broker, silence_max: Duration) -> bool {
    // The time since the last question counts too: nothing is asked while what was fetched waits to be polled.
    let silence = Duration::from_micros(broker.rxidle.min(broker.txidle).max(0).unsigned_abs());
    is_up(broker) && (broker.waitresp_cnt == 0 || silence <= silence_max)
}

#[cfg(test)]
mod tests {
    use super::super::listener::Says;
    use super::*;

    #[test]
    fn why_nobody_answers_is_told_rather_than_that_nobody_does() {
        let mut shown = Shown::new(SourceStatus::default(), Duration::from_secs(1));
        let told = |shown: &Shown| shown.trouble.as_ref().map(|(complaint, _)| complaint.reason.clone());
        let now = Instant::now();
        let [nobody, refused, why, unanswered] = [
            (Says::NobodyAnswers, "AllBrokersDown: 1/1 brokers are down"),
            (Says::NoConnection, "BrokerTransportFailure: kafka:9092: Connection refused"),
            (Says::Why, "Authentication: SASL authentication error"),
            (Says::NobodyAnswers, "no metadata of topic: Meta data fetch error"),
        ];
        let complaint = |(says, reason): (Says, &str)| Complaint { says, reason: reason.to_owned() };
        for (one, expected) in [(nobody, nobody), (refused, refused), (unanswered, refused), (why, why), (refused, why)]
        {
            shown.on_trouble(complaint(one), now);
            assert_eq!(told(&shown).as_deref(), Some(expected.1), "after {}", one.1);
        }
        shown.on_trouble(complaint(refused), now + TROUBLE_LASTS);
        assert_eq!(told(&shown).as_deref(), Some(refused.1), "the password is not refused any more");
    }
}
