//! The configuration: TOML, every key with a default, unknown keys refused by name, any key overridden by the
//! environment as `TARN_SECTION__KEY` (`environment`).
//!
//! `config/tarn.toml` documents every key; a test holds it to these structs. Limits are checked together (`bounds`), so
//! that the rest may rely on them. Secrets stand in no error and in no `Debug`.

mod bounds;
mod environment;
mod secrets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dataflow::{EngineConfig, IngestConfig, QuarantineLimits, SLICE_KEYS, SLICE_STATES, ShardConfig};
use crate::decode::Limits;
use crate::fold::Rules;
use crate::generate::{HEARTBEAT_TOPIC, RESOURCES_TOPIC};
use crate::published::HistoryLimits;
use crate::source::kafka::LostPositionPolicy;
pub use bounds::GENERATED_RESOURCES_MAX;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("could not read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("the configuration is not valid: {0}")]
    Invalid(String),
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

/// Which source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A Kafka cluster.
    Kafka,
    /// A log file or standard input.
    Log,
    /// The embedded generator.
    Generator,
}

section! {
    /// `[source]`
    #[derive(Debug)]
    SourceSection {
        /// Which of the three.
        kind: SourceKind = SourceKind::Kafka,
        /// `[source.kafka]`
        kafka: KafkaSection = KafkaSection::default(),
        /// `[source.log]`
        log: LogSection = LogSection::default(),
        /// `[source.generator]`
        generator: GeneratorSection = GeneratorSection::default(),
    }
}

section! {
    /// `[source.kafka]`
    KafkaSection {
        /// `host:port`, separated by commas.
        brokers: String = "localhost:9092".to_owned(),
        /// Topics to read.
        topics: Vec<String> = vec![RESOURCES_TOPIC.to_owned()],
        /// The group that commits go to.
        group: String = "tarn".to_owned(),
        /// What to do when the log no longer has the next position.
        #[serde(serialize_with = "policy_name")]
        lost_position: LostPositionPolicy = LostPositionPolicy::Halt,
        /// How often new partitions are looked for, ms.
        discovery_interval_ms: u64 = 10_000,
        /// Where the pipeline before Kafka writes heartbeats; empty where they are not listened to.
        heartbeat_topic: String = HEARTBEAT_TOPIC.to_owned(),
        /// Any property of librdkafka, but for those that the source's promises rest on; numbers and booleans are
        /// taken as they are written.
        #[serde(deserialize_with = "secrets::properties")]
        properties: BTreeMap<String, String> = BTreeMap::new(),
    }
}

section! {
    /// `[source.log]`
    #[derive(Debug)]
    LogSection {
        /// The file; `-` for standard input.
        path: String = "-".to_owned(),
        /// Topics to read; empty for all but those known to carry something else.
        topics: Vec<String> = Vec::new(),
    }
}

section! {
    /// `[source.generator]`
    #[derive(Debug)]
    GeneratorSection {
        /// The seed.
        seed: u64 = 1,
        /// How many resources there are.
        resources: usize = 10_000,
        /// Events at once when it begins.
        preload: u64 = 10_000,
        /// Events a second after that.
        events_per_second: f64 = 100.0,
    }
}

section! {
    /// `[ingest]`
    #[derive(Debug)]
    IngestSection {
        /// An epoch with records is sealed after this, ms.
        seal_interval_ms: u64 = 10,
        /// Without records an empty epoch is sealed after this, ms.
        idle_seal_interval_ms: u64 = 1_000,
        /// An epoch is sealed when it has this many bytes.
        epoch_bytes_max: usize = 16 * 1024 * 1024,
        /// An epoch is sealed when it has this many records.
        epoch_records_max: usize = 1_000_000,
        /// At most this many epochs are on their way.
        in_flight_epochs_max: usize = 32,
        /// At most about this many bytes are on their way.
        in_flight_bytes_max: usize = 64 * 1024 * 1024,
        /// How often the position is committed for lag tools, ms.
        commit_interval_ms: u64 = 5_000,
    }
}

section! {
    /// `[dataflow]`
    #[derive(Debug)]
    DataflowSection {
        /// How many workers; 0 for as many as there are cores.
        workers: usize = 0,
        /// Merging that an idle worker does at a time, in updates; 0 for none.
        idle_merge_effort: usize = 10_000,
    }
}

section! {
    /// `[fold]`
    #[derive(Debug)]
    FoldSection {
        /// How far the clocks of two writers may differ, ms.
        clock_skew_tolerance_ms: u64 = 10_000,
        /// How long a tombstone is kept, ms.
        tombstone_retention_ms: u64 = 7 * 86_400_000,
    }
}

section! {
    /// `[decode]`
    #[derive(Debug)]
    DecodeSection {
        /// A greater record goes to the quarantine unread.
        record_bytes_max: usize = 1024 * 1024,
        /// This much of a rejected key or value is kept.
        reject_bytes_max: usize = 64 * 1024,
    }
}

section! {
    /// `[snapshot]`
    #[derive(Debug)]
    SnapshotSection {
        /// The data directory; empty: the state is kept in memory alone.
        directory: String = String::new(),
        /// Between two snapshots, ms.
        interval_ms: u64 = 10_000,
    }
}

section! {
    /// `[views]`
    #[derive(Debug)]
    ViewsSection {
        /// The folder of queries; empty: no views.
        directory: String = "queries".to_owned(),
        /// The folder of Kessel's resource schemas, from which typed tables come; empty: none.
        schema_directory: String = "config/kessel-schema".to_owned(),
        /// How often the folder is looked at, ms; 0: never.
        watch_interval_ms: u64 = 1_000,
    }
}

section! {
    /// `[history]`
    #[derive(Debug)]
    HistorySection {
        /// How long the past is kept, ms; 0: not at all.
        retention_ms: u64 = 600_000,
        /// At most so much of what a table or view holds may be past, in percent.
        percent_max: u64 = 25,
        /// However little it holds, so many updates may be.
        updates_min: usize = 20_000,
        /// So many updates of a view are kept for change streams, however few rows it has.
        view_changes_min: usize = 200_000,
        /// At most so many instants are leased.
        read_points_max: usize = 32,
        /// For at most so long, ms.
        read_point_ttl_max_ms: u64 = 600_000,
    }
}

section! {
    /// `[query]`
    #[derive(Debug)]
    QuerySection {
        /// A query is ended after this, ms.
        timeout_ms: u64 = 10_000,
        /// A query may hold this much.
        memory_bytes_max: usize = 256 * 1024 * 1024,
        /// An answer has at most this many rows.
        rows_max: usize = 10_000,
        /// So many run at once; more wait, and then are sent away.
        concurrent_max: usize = 2,
    }
}

section! {
    /// `[quarantine]`
    #[derive(Debug)]
    QuarantineSection {
        /// At most this many entries.
        entries_max: usize = 10_000,
        /// At most about this many bytes.
        bytes_max: usize = 64 * 1024 * 1024,
    }
}

section! {
    /// `[http]`
    HttpSection {
        /// Where readers connect.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)),
        /// Where operators connect.
        admin_listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8081)),
        /// At most this many connections.
        connections_max: usize = 10_000,
        /// At most this many connections of one address.
        connections_per_address_max: usize = 5_000,
        /// At most this many requests at work; more are answered with 503 at once.
        requests_max: usize = 512,
        /// The greatest `limit` of a list.
        page_limit_max: usize = 1_000,
        /// How long a request may wait for its turn, ms; then it is answered with 503.
        queue_deadline_ms: u64 = 500,
        /// At most this many bytes of answers are rendered and not yet taken by their readers.
        response_bytes_max: usize = 256 * 1024 * 1024,
        /// How long a stop is announced (not ready, `connection: close`) before connections are closed, ms.
        drain_ms: u64 = 500,
        /// The secret that tokens are signed with; empty for a new one at every start.
        #[serde(deserialize_with = "secrets::secret")]
        token_secret: String = String::new(),
    }
}

section! {
    /// `[streams]`
    #[derive(Debug)]
    StreamsSection {
        /// At most this many streams of changes at once; more are answered with 503.
        streams_max: usize = 2_000,
        /// Among them at most this many that differ in what they follow, their filters or their form.
        distinct_max: usize = 200,
        /// Frames that were made and may still be asked for, over all streams.
        buffer_bytes_max: usize = 64 * 1024 * 1024,
        /// So many snapshots that are too large to be shared are under way at once; others wait.
        snapshots_max: usize = 4,
        /// A stream on which nothing was sent for so long gets a comment, ms.
        heartbeat_ms: u64 = 15_000,
        /// Where nothing changes a stream is told so this often, ms.
        progress_interval_ms: u64 = 1_000,
        /// Who comes back waits so long for what it knew to be there again, ms.
        resume_wait_ms: u64 = 20_000,
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// For machines.
    Json,
}

section! {
    /// `[log]`
    #[derive(Debug)]
    LoggingSection {
        /// The form of a line.
        format: LogFormat = LogFormat::Auto,
        /// What is logged, as `tracing` filters say it.
        filter: String = "info".to_owned(),
    }
}

section! {
    /// The whole configuration.
    #[derive(Debug)]
    Config {
        /// `[source]`
        source: SourceSection = SourceSection::default(),
        /// `[ingest]`
        ingest: IngestSection = IngestSection::default(),
        /// `[dataflow]`
        dataflow: DataflowSection = DataflowSection::default(),
        /// `[fold]`
        fold: FoldSection = FoldSection::default(),
        /// `[decode]`
        decode: DecodeSection = DecodeSection::default(),
        /// `[quarantine]`
        quarantine: QuarantineSection = QuarantineSection::default(),
        /// `[snapshot]`
        snapshot: SnapshotSection = SnapshotSection::default(),
        /// `[views]`
        views: ViewsSection = ViewsSection::default(),
        /// `[history]`
        history: HistorySection = HistorySection::default(),
        /// `[query]`
        query: QuerySection = QuerySection::default(),
        /// `[http]`
        http: HttpSection = HttpSection::default(),
        /// `[streams]`
        streams: StreamsSection = StreamsSection::default(),
        /// `[log]`
        log: LoggingSection = LoggingSection::default(),
    }
}

impl Config {
    /// Reads a file and the environment.
    pub fn load<N, V>(path: Option<&Path>, environment: impl Iterator<Item = (N, V)>) -> Result<Self, ConfigError>
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let text = match path {
            Some(path) => {
                std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?
            }
            None => String::new(),
        };
        Self::parse(&text, environment)
    }

    /// Parses a text; the environment's `TARN_SECTION__KEY` win over it.
    pub fn parse<N, V>(text: &str, environment: impl Iterator<Item = (N, V)>) -> Result<Self, ConfigError>
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let mut table: toml::Table = text.parse().map_err(|error| ConfigError::Invalid(syntax_error(text, &error)))?;
        let defaults = toml::Table::try_from(Self::default()).expect("the defaults are TOML");
        for (name, value) in environment {
            environment::put(&mut table, &defaults, &name.into(), &value.into()).map_err(ConfigError::Invalid)?;
        }
        let config: Self = table
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError::Invalid(error.to_string().trim().replace('\n', " ")))?;
        config.check()?;
        Ok(config)
    }

    /// Whether every value is one that the service can run with; for whoever changed some after loading.
    pub fn check(&self) -> Result<(), ConfigError> {
        bounds::check(self).map_err(ConfigError::Invalid)
    }

    /// How many workers to start.
    pub fn workers(&self) -> usize {
        match self.dataflow.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }

    /// The workers' part.
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            workers: self.workers(),
            limits: Limits {
                record_bytes_max: self.decode.record_bytes_max,
                reject_bytes_max: self.decode.reject_bytes_max,
            },
            shard: ShardConfig {
                rules: Rules { clock_skew_tolerance_ms: self.fold.clock_skew_tolerance_ms },
                tombstone_retention_ms: self.fold.tombstone_retention_ms,
                quarantine: QuarantineLimits {
                    entries_max: self.quarantine.entries_max,
                    bytes_max: self.quarantine.bytes_max,
                },
            },
            idle_merge_effort: (self.dataflow.idle_merge_effort > 0).then_some(self.dataflow.idle_merge_effort),
            slice_states: SLICE_STATES,
            slice_keys: SLICE_KEYS,
        }
    }

    /// How much of the past is kept.
    pub fn history(&self) -> HistoryLimits {
        HistoryLimits {
            retention_ms: self.history.retention_ms,
            share: self.history.percent_max as f64 / 100.0,
            instant_updates_min: self.history.updates_min,
            view_changes_min: self.history.view_changes_min,
        }
    }

    /// The ingest's part.
    pub fn ingest(&self) -> IngestConfig {
        let topics = match self.source.kind {
            SourceKind::Kafka => self.source.kafka.topics.clone(),
            SourceKind::Log => self.source.log.topics.clone(),
            SourceKind::Generator => Vec::new(),
        };
        IngestConfig {
            seal_interval: Duration::from_millis(self.ingest.seal_interval_ms),
            idle_seal_interval: Duration::from_millis(self.ingest.idle_seal_interval_ms),
            epoch_bytes_max: self.ingest.epoch_bytes_max,
            epoch_records_max: self.ingest.epoch_records_max,
            in_flight_epochs_max: self.ingest.in_flight_epochs_max,
            in_flight_bytes_max: self.ingest.in_flight_bytes_max,
            commit_interval: Duration::from_millis(self.ingest.commit_interval_ms),
            topics,
            ..IngestConfig::default()
        }
    }
}

/// What is wrong with the text, and where; not the line itself, which may hold a secret.
fn syntax_error(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = &text.as_bytes()[..at];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    format!("line {line}, column {column}: {}", error.message())
}

fn policy_name<S: serde::Serializer>(policy: &LostPositionPolicy, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match policy {
        LostPositionPolicy::Halt => "halt",
        LostPositionPolicy::Continue => "continue",
        LostPositionPolicy::Rebuild => "rebuild",
    })
}
