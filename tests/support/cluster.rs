//! A Kafka in the process (librdkafka's mock cluster), records in it, and a reader of the Kafka source.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use tarn::model::{Position, Topics};
use tarn::source::kafka::{KafkaConfig, KafkaSource};
use tarn::source::{Limit, Phase, RecordBatch, Rewound, Source, SourceState, SourceStatus};

/// A test fails when what it waits for takes longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A mock cluster of one broker. It belongs to the thread that made it, and outlives its clients.
pub struct Cluster {
    pub mock: MockCluster<'static, DefaultProducerContext>,
    pub brokers: String,
}

impl Cluster {
    /// A cluster with these topics, of so many partitions each.
    pub fn new(topics: &[(&str, i32)]) -> Self {
        let mock = MockCluster::new(1).expect("a cluster");
        for (topic, partitions) in topics {
            mock.create_topic(topic, *partitions, 1).expect("a topic");
        }
        let brokers = mock.bootstrap_servers();
        Self { mock, brokers }
    }

    /// Puts records into a partition, in one batch or in one each, and waits until they are there.
    pub fn produce(&self, topic: &str, partition: i32, values: &[Vec<u8>], properties: &[(&str, &str)]) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        for (name, value) in properties {
            config.set(*name, *value);
        }
        let producer: BaseProducer = config.create().expect("a producer");
        for value in values {
            let record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(value);
            producer.send(record).map_err(|(error, _)| error).expect("room");
        }
        producer.flush(PATIENCE).expect("the cluster takes it");
    }

    /// Puts `count` small records into a partition.
    pub fn fill(&self, topic: &str, partition: i32, count: usize) {
        let values: Vec<Vec<u8>> = (0..count).map(|number| number.to_string().into_bytes()).collect();
        self.produce(topic, partition, &values, &[]);
    }

    /// Makes a log that begins at 7 and ends at 12: a partition of the mock keeps five megabytes.
    pub fn cut(&self, topic: &str) {
        let large = vec![vec![b'x'; 900_000]; 12];
        self.produce(topic, 0, &large, &[("batch.num.messages", "1"), ("linger.ms", "0")]);
    }

    /// How to read these topics.
    pub fn config(&self, topics: &[&str]) -> KafkaConfig {
        let properties = [("statistics.interval.ms", "100"), ("reconnect.backoff.max.ms", "200")];
        KafkaConfig {
            brokers: self.brokers.clone(),
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            group: "tarn".to_owned(),
            discovery_interval: Duration::from_millis(200),
            properties: properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..KafkaConfig::default()
        }
    }

    /// A reader of these topics from their beginning.
    pub fn reader(&self, topics: &[&str]) -> Reader {
        Reader::new(self.config(topics))
    }
}

/// The position that names these offsets.
pub fn position(offsets: &[(&str, i32, i64)]) -> Position {
    let mut position = Position::default();
    for (topic, partition, next) in offsets {
        position.advance(&(*topic).into(), *partition, *next);
    }
    position
}

/// The Kafka source and what came out of it, with the position as the ingest keeps it.
pub struct Reader {
    pub source: KafkaSource,
    pub status: SourceStatus,
    pub topics: Topics,
    /// Offsets in order of arrival.
    pub read: BTreeMap<(String, i32), Vec<i64>>,
    pub position: Position,
    pub rewinds: Vec<Rewound>,
    pub limit: Limit,
}

impl Reader {
    pub fn new(config: KafkaConfig) -> Self {
        let (topics, status) = (Topics::default(), SourceStatus::default());
        let position = config.resume.clone();
        let source = KafkaSource::new(config, topics.clone(), status.clone()).expect("a valid configuration");
        let limit = Limit { bytes: 1 << 20, records: 1_000, span_ms: None };
        Self { source, status, topics, read: BTreeMap::new(), position, rewinds: Vec::new(), limit }
    }

    /// One poll, as the ingest makes it. It never waits longer than it is told, but for a busy machine.
    pub fn poll(&mut self) {
        let (mut batch, began) = (RecordBatch::new(), Instant::now());
        self.source.poll(&mut batch, Duration::from_millis(20), self.limit).expect("the source goes on");
        assert!(began.elapsed() < Duration::from_millis(900), "a poll took {:?}", began.elapsed());
        self.rewinds.append(&mut self.source.take_rewinds());
        for record in batch.iter() {
            let at = record.order.coordinates;
            let topic = self.topics.name(at.topic);
            self.position.advance(&topic, at.partition, at.offset + 1);
            self.read.entry((topic.to_string(), at.partition)).or_default().push(at.offset);
        }
        self.source.note_ends(&mut self.position);
    }

    /// Polls until `done`.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "{what} not in time: {:#?}, {:?}", self.state(), self.read);
            self.poll();
        }
    }

    /// Polls until so many records of a partition have come.
    pub fn until_read(&mut self, topic: &str, partition: i32, count: usize) {
        self.until("records", |reader| reader.offsets(topic, partition).len() >= count);
    }

    /// Polls until the source is in this phase.
    pub fn until_phase(&mut self, phase: Phase) {
        self.until(phase.as_str(), |reader| reader.state().phase == phase);
    }

    /// Goes on polling for a while.
    pub fn for_a_while(&mut self, ms: u64) {
        let until = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < until {
            self.poll();
        }
    }

    pub fn state(&self) -> SourceState {
        self.status.get()
    }

    /// What has come of a partition.
    pub fn offsets(&self, topic: &str, partition: i32) -> &[i64] {
        self.read.get(&(topic.to_owned(), partition)).map_or(&[], Vec::as_slice)
    }

    /// The next offset of a partition.
    pub fn next(&self, topic: &str, partition: i32) -> Option<i64> {
        self.position.next_offset(topic, partition)
    }
}
