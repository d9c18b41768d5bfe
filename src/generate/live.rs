//! The generator as a source: a live stream at a steady rate, without a Kafka.

use std::time::{Duration, Instant};

use super::{Generator, GeneratorConfig, RESOURCES_TOPIC, TUPLES_TOPIC};
use crate::clock::now_ms;
use crate::model::{Coordinates, Position, TopicId, Topics};
use crate::source::{Limit, Phase, Polled, RecordBatch, Source, SourceError, SourceStatus};

/// A live stream of generated events.
#[derive(Debug)]
pub struct LiveGenerator {
    generator: Generator,
    events_per_second: f64,
    /// Of those that are not sent at once, by the log's clock: it must not run ahead of the wall clock.
    gap_us: u64,
    began: Instant,
    sent: u64,
    /// Sent at once, so that there is something to see.
    preload: u64,
    /// No more than this, if set.
    events_max: Option<u64>,
    resources: TopicId,
    tuples: TopicId,
    status: SourceStatus,
    position: Position,
}

impl LiveGenerator {
    /// A stream of `events_per_second`, after `preload` events at once.
    pub fn new(
        config: GeneratorConfig,
        events_per_second: f64,
        preload: u64,
        events_max: Option<u64>,
        topics: &Topics,
        status: SourceStatus,
    ) -> Result<Self, SourceError> {
        let too_many = || SourceError::Setup("too many topics".to_owned());
        status.update(|state| state.phase = Phase::Reading);
        let gap_us = config.gap_us.min((500_000.0 / events_per_second.max(0.001)) as u64);
        Ok(Self {
            gap_us,
            generator: Generator::new(config),
            events_per_second,
            began: Instant::now(),
            sent: 0,
            preload,
            events_max,
            resources: topics.intern(RESOURCES_TOPIC).ok_or_else(too_many)?,
            tuples: topics.intern(TUPLES_TOPIC).ok_or_else(too_many)?,
            status,
            position: Position::default(),
        })
    }

    fn due(&self) -> u64 {
        let due = self.preload + (self.began.elapsed().as_secs_f64() * self.events_per_second) as u64;
        self.events_max.map_or(due, |most| due.min(most))
    }
}

impl Source for LiveGenerator {
    fn poll(&mut self, batch: &mut RecordBatch, wait: Duration, limit: Limit) -> Result<Polled, SourceError> {
        // What was made is all there is.
        if let Some(question) = self.status.end_of_log().take() {
            self.status.end_of_log().answer(question, Ok(self.position.clone()));
        }
        if self.events_max.is_some_and(|most| self.sent >= most) {
            self.status.update(|state| state.phase = Phase::Ended);
            self.status.end_of_log().has_ended(self.position.clone());
            return Ok(Polled::End);
        }
        // Not when all that is due is sent: a rate beyond what this machine can do would never let it be ready.
        if self.sent >= self.preload && self.status.look(|state| state.end_at_start.is_none()) {
            let position = self.position.clone();
            self.status.update(|state| state.end_at_start = Some(position));
        }
        if self.sent >= self.due() {
            let until_next = Duration::from_secs_f64(1.0 / self.events_per_second.max(0.001));
            // Not after every event of a fast stream: what is due comes together.
            std::thread::sleep(wait.min(until_next.max(Duration::from_millis(2))));
        }
        if self.sent >= self.preload {
            self.generator.advance_clock_to(now_ms());
            self.generator.set_gap_us(self.gap_us);
        }
        let due = self.due();
        while self.sent < due && !limit.reached(batch) {
            let Some(record) = self.generator.next() else { break };
            let topic = if record.topic == TUPLES_TOPIC { self.tuples } else { self.resources };
            let coordinates = Coordinates { topic, partition: 0, offset: record.offset };
            let headers = record.headers.iter().map(|(name, value)| (*name, value.as_deref().map(str::as_bytes)));
            let key = record.key.as_deref().map(str::as_bytes);
            let value = record.value.as_deref().map(str::as_bytes);
            batch.push_wire(coordinates, record.timestamp_ms, key, value, headers);
            self.sent += 1;
        }
        if batch.is_empty() {
            return Ok(Polled::Nothing);
        }
        self.status.update(|state| state.last_heard_ms = now_ms());
        Ok(Polled::Records)
    }

    fn note_ends(&mut self, position: &mut Position) {
        if self.position != *position {
            self.position.clone_from(position);
            let position = position.clone();
            self.status.update(|state| state.end = position);
        }
    }

    fn has_reproducible_order(&self) -> bool {
        true
    }
}
