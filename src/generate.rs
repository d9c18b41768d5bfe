//! The generator: a seeded Inventory behind a seeded Debezium, writing what Kessel's topic would carry.
//!
//! Promises: the same configuration gives the same records, byte for byte; keys, headers and values are those of the
//! production connector (`wire`), for all types and reporters; faults come at the rates asked for. Used as a source of
//! its own ([`live`]), to write logs (`tarn generate`), and by tests and benches, which learn from
//! [`Generated::redelivery`] and [`Generated::poison`] what a reference must pass over.
//! Not here: what the records mean.

mod faults;
pub mod live;
pub(crate) mod wire;
mod world;

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use world::World;

/// The topic that it writes.
pub const RESOURCES_TOPIC: &str = "outbox.event.kessel.resources";
/// Where the pipeline of Kessel's production writes its heartbeats; it makes none.
pub const HEARTBEAT_TOPIC: &str = "debezium-heartbeat.kessel-inventory";
/// The sibling topic, written when asked for.
pub const TUPLES_TOPIC: &str = "outbox.event.kessel.tuples";

/// How often each fault happens, as a share of events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultRates {
    /// After an event a suffix of up to 500 records is sent again.
    pub replays: f64,
    /// After an event the last few records are sent again at once.
    pub batch_duplicates: f64,
    /// An update moves the resource to another workspace.
    pub moves: f64,
    /// A live resource is deleted.
    pub deletes: f64,
    /// A deleted resource that is drawn is reported again; at 0 none ever is.
    pub revivals: f64,
    /// A resource is removed without an event and reported again under a new id.
    pub ghosts: f64,
    /// Writers' clocks are up to this far behind, ms.
    pub clock_skew_ms: u64,
    /// An event comes in one of the shapes of earlier eras.
    pub legacy: f64,
    /// A record that is no event comes in between.
    pub poison: f64,
    /// Every event is accompanied by its event on the tuples topic.
    pub tuples: bool,
}

impl Default for FaultRates {
    fn default() -> Self {
        Self {
            replays: 0.0,
            batch_duplicates: 0.0,
            moves: 0.02,
            deletes: 0.02,
            revivals: 0.3,
            ghosts: 0.0,
            clock_skew_ms: 0,
            legacy: 0.0,
            poison: 0.0,
            tuples: false,
        }
    }
}

/// Which resource an event is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Popularity {
    /// Some much more often than others; the exponent of Zipf's law.
    Zipf(f64),
    /// One after the other, again and again.
    Sweep,
}

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorConfig {
    /// The seed.
    pub seed: u64,
    /// How many resources there are.
    pub resources: usize,
    /// When the log begins, ms since 1970.
    pub start_ms: u64,
    /// Time between two events, microseconds.
    pub gap_us: u64,
    /// Which resource an event is about.
    pub popularity: Popularity,
    /// Only hosts, instead of every type.
    pub hosts_only: bool,
    /// The faults.
    pub faults: FaultRates,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            resources: 10_000,
            start_ms: 1_795_000_000_000,
            gap_us: 1_000,
            popularity: Popularity::Zipf(1.0),
            hosts_only: false,
            faults: FaultRates::default(),
        }
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The topic.
    pub topic: &'static str,
    /// The offset, in the one partition.
    pub offset: i64,
    /// When Debezium wrote it, ms since 1970.
    pub timestamp_ms: i64,
    /// The headers.
    pub headers: Vec<(&'static str, Option<String>)>,
    /// The key.
    pub key: Option<String>,
    /// The value.
    pub value: Option<String>,
    /// Whether it was sent before.
    pub redelivery: bool,
    /// Whether it is no event.
    pub poison: bool,
}

impl Generated {
    /// Appends the record as a line of a log, in the words of `kcat -C -J`.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        let quoted = |out: &mut Vec<u8>, text: Option<&str>| {
            serde_json::to_writer(out, &text).expect("a text can always be written to memory");
        };
        write!(
            out,
            r#"{{"topic":"{}","partition":0,"offset":{},"tstype":"create","ts":{},"broker":1,"headers":["#,
            self.topic, self.offset, self.timestamp_ms
        )
        .expect("memory takes any write");
        for (index, (name, value)) in self.headers.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            quoted(out, Some(name));
            out.push(b',');
            quoted(out, value.as_deref());
        }
        out.extend_from_slice(br#"],"key":"#);
        quoted(out, self.key.as_deref());
        out.extend_from_slice(br#","payload":"#);
        quoted(out, self.value.as_deref());
        out.extend_from_slice(b"}\n");
    }
}

/// Records kept for replays.
const KEPT: usize = 500;

/// An endless log.
#[derive(Debug)]
pub struct Generator {
    config: GeneratorConfig,
    random: StdRng,
    world: World,
    next_offset: i64,
    next_tuple_offset: i64,
    now_us: u64,
    recent: VecDeque<Generated>,
    /// Whether something new was written since the last replay; else a rate of 1 would replay for ever.
    something_new: bool,
    waiting: VecDeque<Generated>,
}

impl Generator {
    /// A generator at the beginning of its log.
    pub fn new(config: GeneratorConfig) -> Self {
        let random = StdRng::seed_from_u64(config.seed);
        let world = World::new(&config);
        let now_us = config.start_ms.saturating_mul(1_000);
        Self {
            config,
            random,
            world,
            next_offset: 0,
            next_tuple_offset: 0,
            now_us,
            recent: VecDeque::new(),
            something_new: false,
            waiting: VecDeque::new(),
        }
    }

    /// Moves the log's clock forward to the wall clock, for a live stream.
    pub fn advance_clock_to(&mut self, now_ms: u64) {
        self.now_us = self.now_us.max(now_ms.saturating_mul(1_000));
    }

    /// From now on events are so far apart by the log's clock.
    pub fn set_gap_us(&mut self, gap_us: u64) {
        self.config.gap_us = gap_us;
    }

    fn write(&mut self, mut record: Generated) -> Generated {
        let next = if record.topic == TUPLES_TOPIC { &mut self.next_tuple_offset } else { &mut self.next_offset };
        record.offset = *next;
        *next += 1;
        record.timestamp_ms = i64::try_from(self.now_us / 1_000).unwrap_or(i64::MAX);
        record
    }

    fn chance(&mut self, rate: f64) -> bool {
        rate > 0.0 && self.random.random_bool(rate.min(1.0))
    }

    fn make(&mut self) {
        self.now_us = self.now_us.saturating_add(self.config.gap_us);
        let faults = self.config.faults;
        if self.something_new && (self.chance(faults.replays) || self.chance(faults.batch_duplicates)) {
            self.something_new = false;
            let most = if self.chance(0.5) { KEPT } else { 8 };
            let count = self.random.random_range(1..=most).min(self.recent.len());
            let again = self.recent.iter().skip(self.recent.len() - count).cloned();
            self.waiting.extend(again.map(|record| Generated { redelivery: true, ..record }));
            return;
        }
        if self.chance(faults.poison) {
            let poison = faults::poison(&mut self.random, &self.world, self.now_us / 1_000);
            return self.remember(poison);
        }
        let event = self.world.next_event(&mut self.random, self.now_us, &self.config);
        let mut record = wire::record(&event);
        if self.chance(faults.legacy) {
            record = faults::legacy(&mut self.random, &event, record);
        }
        self.remember(record);
        if faults.tuples {
            self.waiting.push_back(wire::tuple(&event));
        }
    }

    fn remember(&mut self, record: Generated) {
        if self.config.faults.replays > 0.0 || self.config.faults.batch_duplicates > 0.0 {
            self.recent.push_back(record.clone());
            if self.recent.len() > KEPT {
                self.recent.pop_front();
            }
            self.something_new = true;
        }
        self.waiting.push_back(record);
    }
}

impl Iterator for Generator {
    type Item = Generated;

    fn next(&mut self) -> Option<Generated> {
        while self.waiting.is_empty() {
            self.make();
        }
        let record = self.waiting.pop_front()?;
        Some(self.write(record))
    }
}
