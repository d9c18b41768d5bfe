//! The configuration: TOML, every key with a default, unknown keys refused by name, any key overridden by the
//! environment as `TARN_SECTION__KEY`.
//!
//! `config/tarn.toml` documents every key; a test holds it to these structs. Limits are checked together here, so that
//! the rest may rely on them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::dataflow::{EngineConfig, IngestConfig, QuarantineLimits, ShardConfig};
use crate::decode::Limits;
use crate::fold::Rules;
use crate::generate::RESOURCES_TOPIC;
use crate::source::kafka::{LostPositionPolicy, properties};

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
        #[derive(Debug, Clone, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
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
        lost_position: LostPositionPolicy = LostPositionPolicy::Halt,
        /// How often new partitions are looked for, ms.
        discovery_interval_ms: u64 = 10_000,
        /// Any property of librdkafka, but for those that the source's promises rest on.
        properties: BTreeMap<String, String> = BTreeMap::new(),
    }
}

section! {
    /// `[source.log]`
    LogSection {
        /// The file; `-` for standard input.
        path: String = "-".to_owned(),
        /// Topics to read; empty for all but those known to carry something else.
        topics: Vec<String> = Vec::new(),
    }
}

section! {
    /// `[source.generator]`
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
    IngestSection {
        /// An epoch with records is sealed after this, ms.
        seal_interval_ms: u64 = 10,
        /// Without records an empty epoch is sealed after this, ms.
        idle_seal_interval_ms: u64 = 1_000,
        /// An epoch is sealed when it has this many bytes.
        epoch_bytes_max: usize = 4 * 1024 * 1024,
        /// An epoch is sealed when it has this many records.
        epoch_records_max: usize = 1_000_000,
        /// At most this many epochs are on their way.
        in_flight_epochs_max: usize = 32,
        /// At most about this many bytes are on their way.
        in_flight_bytes_max: usize = 16 * 1024 * 1024,
        /// How often the position is committed for lag tools, ms.
        commit_interval_ms: u64 = 5_000,
    }
}

section! {
    /// `[dataflow]`
    DataflowSection {
        /// How many workers; 0 for as many as there are cores.
        workers: usize = 0,
        /// Merging that an idle worker does at a time, in updates; 0 for none.
        idle_merge_effort: usize = 10_000,
    }
}

section! {
    /// `[fold]`
    FoldSection {
        /// How far the clocks of two writers may differ, ms.
        clock_skew_tolerance_ms: u64 = 10_000,
        /// How long a tombstone is kept, ms.
        tombstone_retention_ms: u64 = 7 * 86_400_000,
    }
}

section! {
    /// `[decode]`
    DecodeSection {
        /// A greater record goes to the quarantine unread.
        record_bytes_max: usize = 1024 * 1024,
        /// This much of a rejected key or value is kept.
        reject_bytes_max: usize = 64 * 1024,
    }
}

section! {
    /// `[quarantine]`
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
        /// The secret that tokens are signed with; empty for a new one at every start.
        token_secret: String = String::new(),
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
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
    LoggingSection {
        /// The form of a line.
        format: LogFormat = LogFormat::Auto,
        /// What is logged, as `tracing` filters say it.
        filter: String = "info".to_owned(),
    }
}

section! {
    /// The whole configuration.
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
        /// `[http]`
        http: HttpSection = HttpSection::default(),
        /// `[log]`
        log: LoggingSection = LoggingSection::default(),
    }
}

impl Config {
    /// Reads a file and the environment.
    pub fn load(path: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let text = match path {
            Some(path) => {
                std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?
            }
            None => String::new(),
        };
        Self::parse(&text, environment)
    }

    /// Parses a text; the environment's `TARN_SECTION__KEY` win over it.
    pub fn parse(text: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| ConfigError::Invalid(error.to_string()))?;
        for (name, value) in environment {
            let Some(path) = name.strip_prefix("TARN_").filter(|path| path.contains("__")) else { continue };
            let path: Vec<String> = path.split("__").map(str::to_lowercase).collect();
            put(&mut table, &path, &value)
                .map_err(|at| ConfigError::Invalid(format!("{name}: `{at}` is no section")))?;
        }
        let config: Self =
            table.try_into().map_err(|error: toml::de::Error| ConfigError::Invalid(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("source.kafka.discovery_interval_ms", self.source.kafka.discovery_interval_ms),
            ("ingest.seal_interval_ms", self.ingest.seal_interval_ms),
            ("ingest.idle_seal_interval_ms", self.ingest.idle_seal_interval_ms),
            ("ingest.epoch_bytes_max", self.ingest.epoch_bytes_max as u64),
            ("ingest.epoch_records_max", self.ingest.epoch_records_max as u64),
            ("ingest.in_flight_epochs_max", self.ingest.in_flight_epochs_max as u64),
            ("ingest.in_flight_bytes_max", self.ingest.in_flight_bytes_max as u64),
            ("decode.record_bytes_max", self.decode.record_bytes_max as u64),
            ("quarantine.entries_max", self.quarantine.entries_max as u64),
            ("http.connections_max", self.http.connections_max as u64),
            ("http.connections_per_address_max", self.http.connections_per_address_max as u64),
            ("http.requests_max", self.http.requests_max as u64),
            ("http.page_limit_max", self.http.page_limit_max as u64),
            ("source.generator.resources", self.source.generator.resources as u64),
        ];
        let bad = |what: String| Err(ConfigError::Invalid(what));
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return bad(format!("`{name}` is 0; it must be at least 1"));
        }
        if self.dataflow.workers > 256 {
            return bad(format!("`dataflow.workers` is {}; at most 256 are allowed", self.dataflow.workers));
        }
        if self.source.kind == SourceKind::Kafka {
            let kafka = &self.source.kafka;
            properties::check(&kafka.topics, &kafka.properties).map_err(ConfigError::Invalid)?;
        }
        let rate = self.source.generator.events_per_second;
        if !(rate.is_finite() && rate > 0.0) {
            return bad(format!("`source.generator.events_per_second` is {rate}; it must be greater than 0"));
        }
        Ok(())
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

/// Puts a value at a path; as TOML if it is, else as text. The error is what was in the way.
fn put(table: &mut toml::Table, path: &[String], value: &str) -> Result<(), String> {
    let (last, sections) = path.split_last().ok_or_else(String::new)?;
    let mut here = table;
    for section in sections {
        let next = here.entry(section.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        here = next.as_table_mut().ok_or_else(|| section.clone())?;
    }
    let parsed = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    here.insert(last.clone(), parsed.unwrap_or_else(|| toml::Value::String(value.to_owned())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(text, environment).map_err(|error| error.to_string())
    }

    #[test]
    fn unknown_keys_and_impossible_values_are_refused_by_name() {
        assert!(parse("[http]\nlisten_on = 1", &[]).unwrap_err().contains("listen_on"));
        assert!(parse("[htpp]\n", &[]).unwrap_err().contains("htpp"));
        assert!(parse("[ingest]\nseal_interval_ms = 0", &[]).unwrap_err().contains("ingest.seal_interval_ms"));
        assert!(parse("[ingest]\nseal_interval_ms = \"x\"", &[]).unwrap_err().contains("seal_interval_ms"));
        assert!(parse("[source.kafka]\ntopics = []", &[]).unwrap_err().contains("source.kafka.topics"));
        let latest = parse("[source.kafka.properties]\n\"auto.offset.reset\" = \"latest\"", &[]).unwrap_err();
        assert!(latest.contains("auto.offset.reset"), "{latest}");
        assert!(parse("", &[("TARN_HTTP__LISTEN_ON", "1")]).unwrap_err().contains("listen_on"));
    }

    #[test]
    fn the_environment_wins() {
        let environment = [
            ("TARN_DATAFLOW__WORKERS", "3"),
            ("TARN_HTTP__LISTEN", "127.0.0.1:1"),
            ("TARN_SOURCE__KAFKA__BROKERS", "a:1,b:2"),
            ("TARN_UNRELATED", "x"),
            ("HOME", "/"),
        ];
        let config = parse("[dataflow]\nworkers = 1", &environment).expect("valid");
        assert_eq!((config.workers(), config.http.listen.port()), (3, 1));
        assert_eq!(config.source.kafka.brokers, "a:1,b:2");
    }

    #[test]
    fn the_documented_file_says_the_defaults() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/tarn.toml")).expect("is there");
        let documented = parse(&text, &[]).expect("valid");
        let show = |config: &Config| format!("{config:#?}");
        assert_eq!(show(&documented), show(&Config::default()));
        // Every key of the structs stands in the file.
        for line in show(&Config::default()).lines() {
            let Some((key, _)) = line.trim().split_once(": ") else { continue };
            if key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                assert!(text.contains(key), "config/tarn.toml does not document `{key}`");
            }
        }
    }
}
