//! The outer world of a simulated service: clocks that a test sets, and a log that grows, and whose start moves on.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tarn::clock::Clock;
use tarn::generate::{Generated, RESOURCES_TOPIC, TUPLES_TOPIC};
use tarn::model::{Coordinates, Position, Topics};
use tarn::source::{Limit, Polled, RecordBatch, Source, SourceError};

/// Clocks that stand still until somebody moves them; clones are the same ones.
#[derive(Debug, Clone)]
pub struct SimulatedClock(Arc<Mutex<Times>>);

#[derive(Debug)]
struct Times {
    began: Instant,
    elapsed_ms: u64,
    wall_ms: u64,
}

impl SimulatedClock {
    pub fn new(wall_ms: u64) -> Self {
        Self(Arc::new(Mutex::new(Times { began: Instant::now(), elapsed_ms: 0, wall_ms })))
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().expect("nobody panics with the clock")
    }

    /// Time passes.
    pub fn advance(&self, ms: u64) {
        let mut times = self.times();
        times.elapsed_ms += ms;
        times.wall_ms += ms;
    }

    /// Somebody sets the wall clock, back or ahead.
    pub fn set_by(&self, ms: i64) {
        let mut times = self.times();
        times.wall_ms = times.wall_ms.saturating_add_signed(ms);
    }

    /// How much time has passed.
    pub fn elapsed_ms(&self) -> u64 {
        self.times().elapsed_ms
    }
}

impl Clock for SimulatedClock {
    fn now_ms(&self) -> u64 {
        self.times().wall_ms
    }

    fn instant(&self) -> Instant {
        let times = self.times();
        times.began + Duration::from_millis(times.elapsed_ms)
    }
}

/// The topics of the log, in the order of their numbers in every life.
pub const TOPICS: [&str; 2] = [RESOURCES_TOPIC, TUPLES_TOPIC];

/// Their table.
pub fn topics() -> Topics {
    let topics = Topics::default();
    for topic in TOPICS {
        topics.intern(topic).expect("few topics");
    }
    topics
}

/// A log of one partition a topic; clones are the same one.
#[derive(Clone)]
pub struct Log {
    /// By topic and offset, each with its place among all records.
    records: Arc<[Vec<(usize, Generated)>; 2]>,
    /// Another reading brings the same order across topics, as a file does; a broker does not.
    pub is_file: bool,
    state: Arc<Mutex<LogState>>,
}

#[derive(Default)]
struct LogState {
    written: usize,
    start: Position,
}

impl Log {
    pub fn new(all: Vec<Generated>, is_file: bool) -> Self {
        let mut records = [Vec::new(), Vec::new()];
        for (place, record) in all.into_iter().enumerate() {
            records[usize::from(record.topic == TUPLES_TOPIC)].push((place, record));
        }
        Self { records: Arc::new(records), is_file, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().expect("nobody panics with the log")
    }

    /// Somebody writes so many records.
    pub fn write(&self, count: usize) {
        let length: usize = self.records.iter().map(Vec::len).sum();
        let mut state = self.state();
        state.written = state.written.saturating_add(count).min(length);
    }

    /// The broker lets go of what stands below.
    pub fn begin_at(&self, start: &Position) {
        let mut state = self.state();
        for (topic, partition, next) in start.iter() {
            state.start.advance(&topic.into(), partition, next);
        }
    }

    /// The position behind everything that is written.
    pub fn end(&self) -> Position {
        let written = self.state().written;
        let mut end = Position::default();
        for (topic, records) in TOPICS.iter().zip(self.records.iter()) {
            let count = records.partition_point(|(place, _)| *place < written);
            if count > 0 {
                end.advance(&(*topic).into(), 0, i64::try_from(count).expect("a small log"));
            }
        }
        end
    }

    /// The same records with nothing let go of, all of them written.
    pub fn read_from_its_beginning(&self) -> Self {
        let state = LogState { written: usize::MAX, start: Position::default() };
        Self { state: Arc::new(Mutex::new(state)), ..self.clone() }
    }

    /// The records about resources, in order.
    pub fn resources(&self) -> impl Iterator<Item = &Generated> {
        self.records[0].iter().map(|(_, record)| record)
    }

    /// A reader from a position on, which times its polls by `clock`.
    pub fn reader(&self, resume: &Position, topics: &Topics, clock: Option<SimulatedClock>, seed: u64) -> Reader {
        let start = &self.state().start;
        let first = |topic: &str| {
            let begins = start.next_offset(topic, 0).unwrap_or(0);
            let next = if self.is_file { 0 } else { resume.next_offset(topic, 0).unwrap_or(0).max(begins) };
            usize::try_from(next).expect("offsets count")
        };
        let random = StdRng::seed_from_u64(seed);
        Reader { log: self.clone(), next: TOPICS.map(first), topics: topics.clone(), clock, random }
    }
}

/// Reads the log as a source.
pub struct Reader {
    log: Log,
    next: [usize; 2],
    topics: Topics,
    clock: Option<SimulatedClock>,
    random: StdRng,
}

impl Reader {
    /// The next record of one of these topics: the one that was written first.
    fn next_of(&mut self, topics: &[usize]) -> Option<usize> {
        let written = self.log.state().written;
        let place = |topic: &usize| Some((self.log.records[*topic].get(self.next[*topic])?.0, *topic));
        let (place, topic) = topics.iter().filter_map(place).min()?;
        (place < written).then_some(topic)
    }
}

impl Source for Reader {
    fn poll(&mut self, batch: &mut RecordBatch, wait: Duration, limit: Limit) -> Result<Polled, SourceError> {
        let mut turns = vec![vec![0, 1]];
        if !self.log.is_file {
            turns = vec![vec![0], vec![1]];
            turns.shuffle(&mut self.random);
        }
        for topics in turns {
            let mut room = self.random.random_range(1..20);
            while room > 0 && !limit.reached(batch) {
                let Some(topic) = self.next_of(&topics) else { break };
                let record = &self.log.records[topic][self.next[topic]].1;
                let headers = record.headers.iter().map(|(name, value)| (*name, value.as_deref().map(str::as_bytes)));
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                let id = self.topics.intern(record.topic).expect("few topics");
                let coordinates = Coordinates { topic: id, partition: 0, offset: record.offset };
                let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
                batch.push_wire(coordinates, record.timestamp_ms, key, value, headers);
                self.next[topic] += 1;
                room -= 1;
            }
        }
        if !batch.is_empty() {
            return Ok(Polled::Records);
        }
        if let Some(clock) = &self.clock {
            clock.advance(u64::try_from(wait.as_millis()).expect("a short wait"));
        }
        Ok(Polled::Nothing)
    }

    fn has_reproducible_order(&self) -> bool {
        self.log.is_file
    }
}
