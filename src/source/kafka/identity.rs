//! Holding the log to be the one that was read: when it is compared, and what follows when it is another one.
//!
//! In: what the scout and the partitions say, and evidence. Out: partitions that are read, or read from the start of
//! their log, or a source that has halted, as the policy says. Promises: a partition of which anything is known is
//! read when its log was compared, and not before; what is wrong is named, counted and logged once; what holds for a
//! whole topic or cluster holds for every partition of it. Not here: the comparison (`checker`, `identity::verdict`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;

use super::check::Outcome;
use super::checker::{Evidence, Inquiry};
use super::{KafkaSource, LostPositionPolicy, Partition};
use crate::clock::now_ms;
use crate::model::Position;
use crate::source::identity::verdict::{Expected, Finding, IdentityFault, Observed, is_proven, judge};
use crate::source::{Phase, Rewound, SourceError};

impl KafkaSource {
    /// Whether there are records to know a partition again by.
    pub(super) fn has_fingerprints(&self, index: usize) -> bool {
        let Partition { topic, number, .. } = &self.partitions[index];
        self.identity.with(|known| !known.fingerprints(topic, *number).is_empty())
    }

    /// The cluster named itself: another one than before is a reason to look at everything.
    pub(super) fn on_cluster(&mut self, id: &str) {
        let known = self.identity.with(|known| known.cluster_id.clone());
        match known {
            Some(known) if known == id => {}
            Some(known) => {
                tracing::warn!(known, found = id, "another cluster answers; its records are compared");
                self.want_checks(|_| true);
            }
            None if self.partitions.iter().any(|partition| partition.check.is_open()) => {}
            None => self.identity.on_cluster(id),
        }
    }

    /// A topic has so many partitions: it may grow, but fewer than before is a reason to look at it.
    pub(super) fn on_partition_count(&mut self, topic: &Arc<str>, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match self.identity.with(|known| known.partition_count(topic)) {
            Some(known) if known > count => self.want_checks(|partition| partition.topic == *topic),
            Some(known) if known == count => {}
            _ => {
                // Of a topic that is to be compared first, this is told when it has been.
                let mut partitions = self.partitions.iter().filter(|partition| partition.topic == *topic).peekable();
                if partitions.peek().is_some() && partitions.all(|partition| !partition.check.is_open()) {
                    self.identity.on_topic(topic, count);
                }
            }
        }
    }

    /// The cluster does not know a topic: when it is back it may be another one.
    pub(super) fn on_topic_missing(&mut self, topic: &Arc<str>) {
        self.want_checks(|partition| partition.topic == *topic);
    }

    /// Has partitions compared before anything more is taken from them.
    pub(super) fn want_checks(&mut self, concerns: impl Fn(&Partition) -> bool) {
        let now = Instant::now();
        if !self.halted {
            self.partitions.iter_mut().filter(|one| concerns(one)).for_each(|one| {
                one.check.want(now);
            });
            self.shown.touch();
        }
    }

    /// Asks for the evidence that is due.
    pub(super) fn ask_for_evidence(&mut self, now: Instant) -> Result<(), SourceError> {
        let mut together = Vec::new();
        for partition in &mut self.partitions {
            if partition.can_be_asked_about() && partition.check.takes_inquiry(now) {
                let (topic, number) = (Arc::clone(&partition.topic), partition.number);
                let fingerprints = self.identity.with(|known| known.fingerprints(&topic, number).to_vec());
                together.push(Inquiry { topic, partition: number, fingerprints });
            }
        }
        if together.is_empty() {
            return Ok(());
        }
        self.shown.touch();
        match self.checker.ask(together) {
            true => Ok(()),
            false => Err(SourceError::Setup("the thread that looks at the log has ended".to_owned())),
        }
    }

    /// Hears what the checker has seen.
    pub(super) fn serve_checker(&mut self) {
        let evidence: Vec<Evidence> = self.checker.evidence().collect();
        for Evidence { topic, partition: number, observed } in evidence {
            let now = Instant::now();
            let position = |known: &Partition| known.topic == topic && known.number == number;
            let Some(index) = self.partitions.iter().position(position) else { continue };
            if self.halted || !self.partitions[index].check.is_open() {
                continue;
            }
            self.shown.touch();
            match observed {
                Err(reason) => {
                    if self.partitions[index].check.on_undecided(reason.clone(), now) {
                        tracing::warn!(topic = &*topic, partition = number, reason, "a log cannot be compared yet");
                    }
                }
                Ok(observed) => self.on_observed(index, &observed, now),
            }
        }
    }

    fn on_observed(&mut self, index: usize, observed: &Observed, now: Instant) {
        let partition = &mut self.partitions[index];
        let expected = self.identity.with(|known| Expected {
            cluster_id: known.cluster_id.clone(),
            partition_count: known.partition_count(&partition.topic),
            next: partition.next,
            fingerprints: known.fingerprints(&partition.topic, partition.number).to_vec(),
            suspected: partition.check.suspected().cloned(),
        });
        let finding = judge(&expected, observed);
        if finding.is_none() && !is_proven(&expected, observed) && self.is_another_to_be_heard(index) {
            return self.partitions[index].check.defer(now);
        }
        let partition = &mut self.partitions[index];
        match partition.check.on_evidence(finding, now) {
            Outcome::LookAgain => {}
            Outcome::Passed => {
                let compared = observed.records.len();
                tracing::info!(
                    topic = &*partition.topic,
                    partition = partition.number,
                    compared,
                    "the log is the same"
                );
                self.identity.on_same(&partition.topic, partition.number, observed);
                let offset = partition.on_same(observed.start, observed.end);
                self.assign_anew(index, offset);
            }
            Outcome::Fault(finding) => {
                let is_first = expected.suspected.as_ref() != Some(&finding);
                self.on_fault(index, &finding, observed, is_first);
            }
        }
    }

    /// Whether another partition of the same topic may yet tell what this one cannot.
    fn is_another_to_be_heard(&self, index: usize) -> bool {
        let topic = &self.partitions[index].topic;
        let mut others =
            self.partitions.iter().enumerate().filter(|(other, one)| *other != index && one.topic == *topic);
        others.any(|(_, one)| one.check.is_to_be_heard())
    }

    /// The log is another one, or does not have the next offset. `is_first`: found in this partition, not spread to it.
    fn on_fault(&mut self, index: usize, finding: &Finding, observed: &Observed, is_first: bool) {
        let Finding { fault, detail } = finding;
        let partition = &mut self.partitions[index];
        tracing::error!(
            topic = &*partition.topic,
            partition = partition.number,
            fault = fault.as_str(),
            next = partition.next,
            start = observed.start,
            end = observed.end,
            policy = ?self.config.lost_position,
            detail,
            "the log is not the one that was read, or lacks the next offset"
        );
        partition.fault = Some(*fault);
        self.shown.on_fault(*fault);
        match self.config.lost_position {
            LostPositionPolicy::Halt => {
                let reason = format!("{detail} ({})", fault.as_str());
                self.halt(index, Phase::PositionLost, reason);
            }
            LostPositionPolicy::Rebuild => {
                self.shown.on_loss(now_ms());
                // What comes until then would be of neither log.
                self.partitions.iter_mut().for_each(|partition| partition.end(Phase::Stopped, None));
                self.halted = true;
                self.another_log = Some(format!("{detail} ({})", fault.as_str()));
            }
            LostPositionPolicy::Continue => self.read_from_start(index, finding, observed, is_first),
        }
    }

    /// Stops reading everything, and says why.
    pub(super) fn halt(&mut self, index: usize, phase: Phase, reason: String) {
        self.halted = true;
        tracing::error!(reason, phase = phase.as_str(), "reading has stopped");
        if let Some(consumer) = &self.consumer {
            let mut list = TopicPartitionList::new();
            for partition in &self.partitions {
                list.add_partition(&partition.topic, partition.number);
            }
            if let Err(error) = consumer.incremental_unassign(&list) {
                tracing::warn!(%error, "partitions that are no longer read are still fetched");
            }
        }
        for (at, partition) in self.partitions.iter_mut().enumerate() {
            match at == index {
                true => partition.end(phase, Some(reason.clone())),
                false => partition.end(Phase::Stopped, None),
            }
        }
        self.shown.touch();
    }

    /// Goes on at the start of a log, whose records have nothing to do with those that were read.
    fn read_from_start(&mut self, index: usize, finding: &Finding, observed: &Observed, is_first: bool) {
        let partition = &mut self.partitions[index];
        let topic = Arc::clone(&partition.topic);
        if let Some(next) = partition.next {
            if observed.start != next {
                self.rewinds.push(Rewound {
                    topic: Arc::clone(&topic),
                    partition: partition.number,
                    to: observed.start,
                });
            }
            self.shown.on_loss(now_ms());
        }
        partition.go_on_from(observed.start, observed.end);
        self.identity.on_another(&topic, partition.number, observed);
        self.assign_anew(index, observed.start);
        match finding.fault {
            _ if !is_first => {}
            IdentityFault::AnotherCluster => self.spread(index, finding, |_| true),
            IdentityFault::FewerPartitions | IdentityFault::Recreated => {
                self.spread(index, finding, |partition| partition.topic == topic);
            }
            IdentityFault::Truncated | IdentityFault::RetentionPassed => {}
        }
        self.let_go(&topic, observed.partition_count);
    }

    /// What was found in one partition is likely to hold in others.
    fn spread(&mut self, from: usize, finding: &Finding, concerns: impl Fn(&Partition) -> bool) {
        let now = Instant::now();
        let others = self.partitions.iter_mut().enumerate().filter(|(index, one)| *index != from && concerns(one));
        others.for_each(|(_, one)| one.check.suspect(finding.clone(), now));
    }

    /// Forgets partitions that a topic no longer has; should it grow, they are new.
    fn let_go(&mut self, topic: &Arc<str>, partition_count: u32) {
        let is_gone = |name: &str, number: i32| {
            name == &**topic && u32::try_from(number).is_ok_and(|number| number >= partition_count)
        };
        let mut gone: BTreeSet<i32> = BTreeSet::new();
        let mut resume = Position::default();
        for (name, number, next) in self.config.resume.iter() {
            if is_gone(name, number) {
                gone.insert(number);
            } else {
                resume.advance(&name.into(), number, next);
            }
        }
        self.config.resume = resume;
        let mut list = TopicPartitionList::new();
        for partition in self.partitions.extract_if(.., |one| is_gone(&one.topic, one.number)) {
            list.add_partition(topic, partition.number);
            gone.insert(partition.number);
        }
        if list.count() > 0
            && let Some(consumer) = &self.consumer
            && let Err(error) = consumer.incremental_unassign(&list)
        {
            tracing::debug!(%error, "partitions that are no more could not be given back");
        }
        let rewinds = gone.into_iter().map(|partition| Rewound { topic: Arc::clone(topic), partition, to: 0 });
        self.rewinds.extend(rewinds);
    }
}
