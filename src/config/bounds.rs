//! What values the service can run with: bounds by key, and what must not contradict.
//!
//! Everything that would make a thread panic, a queue grow without end or a listener fail is refused here by its key,
//! so that `tarn check` accepts nothing that `tarn serve` would die of. Not here: whether a broker answers.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tracing_subscriber::EnvFilter;

use super::{Config, SourceKind};
use crate::source::kafka::properties;

/// More resources are not generated: each costs memory.
pub const GENERATED_RESOURCES_MAX: u64 = 20_000_000;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// Key, value, least, most.
type Bound = (&'static str, u64, u64, u64);

/// The error is a sentence that names the key.
pub(super) fn check(config: &Config) -> Result<(), String> {
    for (name, value, least, most) in reading(config).into_iter().chain(serving(config)) {
        if value < least || value > most {
            return Err(format!("`{name}` is {value}; it must be from {least} to {most}"));
        }
    }
    let rate = config.source.generator.events_per_second;
    if !(rate > 0.0 && rate <= 1_000_000.0) {
        return Err(format!(
            "`source.generator.events_per_second` is {rate}; it must be greater than 0 and at most 1000000"
        ));
    }
    let kafka = &config.source.kafka;
    if config.source.kind == SourceKind::Kafka {
        if kafka.brokers.split(',').any(|broker| broker.trim().is_empty()) {
            return Err("`source.kafka.brokers` names no broker, or an empty one".to_owned());
        }
        if kafka.group.is_empty() {
            return Err("`source.kafka.group` is empty; name the group that positions are committed to".to_owned());
        }
    }
    if config.source.kind == SourceKind::Log && config.source.log.path.is_empty() {
        return Err("`source.log.path` is empty; it must be a file, or - for standard input".to_owned());
    }
    if config.source.kind == SourceKind::Generator && !config.snapshot.directory.is_empty() {
        return Err("`snapshot.directory` is set, and the generator brings another log at every start: leave it empty"
            .to_owned());
    }
    distinct("source.log.topics", &config.source.log.topics)?;
    properties::check(&kafka.topics, &kafka.properties)?;
    if overlap(config.http.listen, config.http.admin_listen) {
        let (readers, operators) = (config.http.listen, config.http.admin_listen);
        return Err(format!("`http.admin_listen` is {operators}, which `http.listen` ({readers}) takes already"));
    }
    EnvFilter::try_new(&config.log.filter).map_err(|error| format!("`log.filter`: {error}"))?;
    Ok(())
}

fn reading(config: &Config) -> Vec<Bound> {
    let (ingest, generator) = (&config.ingest, &config.source.generator);
    vec![
        ("source.kafka.discovery_interval_ms", config.source.kafka.discovery_interval_ms, 1, HOUR_MS),
        ("source.generator.resources", generator.resources as u64, 1, GENERATED_RESOURCES_MAX),
        ("source.generator.preload", generator.preload, 0, 1_000_000_000),
        ("ingest.seal_interval_ms", ingest.seal_interval_ms, 1, HOUR_MS),
        ("ingest.idle_seal_interval_ms", ingest.idle_seal_interval_ms, 1, HOUR_MS),
        ("ingest.epoch_bytes_max", ingest.epoch_bytes_max as u64, 1, GIB),
        ("ingest.epoch_records_max", ingest.epoch_records_max as u64, 1, 1_000_000_000),
        ("ingest.in_flight_epochs_max", ingest.in_flight_epochs_max as u64, 1, 100_000),
        ("ingest.in_flight_bytes_max", ingest.in_flight_bytes_max as u64, 1, 64 * GIB),
        ("ingest.commit_interval_ms", ingest.commit_interval_ms, 1, DAY_MS),
        ("dataflow.workers", config.dataflow.workers as u64, 0, 256),
        ("dataflow.idle_merge_effort", config.dataflow.idle_merge_effort as u64, 0, 1_000_000_000),
        ("fold.clock_skew_tolerance_ms", config.fold.clock_skew_tolerance_ms, 0, DAY_MS),
        ("fold.tombstone_retention_ms", config.fold.tombstone_retention_ms, 0, 36_525 * DAY_MS),
        ("decode.record_bytes_max", config.decode.record_bytes_max as u64, 1, GIB),
        ("decode.reject_bytes_max", config.decode.reject_bytes_max as u64, 0, GIB),
        ("snapshot.interval_ms", config.snapshot.interval_ms, 10, DAY_MS),
        ("quarantine.entries_max", config.quarantine.entries_max as u64, 1, 10_000_000),
        ("quarantine.bytes_max", config.quarantine.bytes_max as u64, 1, 64 * GIB),
    ]
}

fn serving(config: &Config) -> Vec<Bound> {
    let (http, query, history, streams) = (&config.http, &config.query, &config.history, &config.streams);
    vec![
        ("http.connections_max", http.connections_max as u64, 1, 1_000_000),
        ("http.connections_per_address_max", http.connections_per_address_max as u64, 1, 1_000_000),
        ("http.requests_max", http.requests_max as u64, 1, 1_000_000),
        ("http.page_limit_max", http.page_limit_max as u64, 1, 100_000),
        ("http.queue_deadline_ms", http.queue_deadline_ms, 1, HOUR_MS),
        // Less would not hold one page.
        ("http.response_bytes_max", http.response_bytes_max as u64, 16 * MIB, 64 * GIB),
        ("http.drain_ms", http.drain_ms, 0, HOUR_MS),
        ("query.timeout_ms", query.timeout_ms, 1, HOUR_MS),
        ("query.memory_bytes_max", query.memory_bytes_max as u64, MIB, 64 * GIB),
        ("query.rows_max", query.rows_max as u64, 1, 10_000_000),
        ("query.concurrent_max", query.concurrent_max as u64, 1, 64),
        ("history.retention_ms", history.retention_ms, 0, 7 * DAY_MS),
        ("history.percent_max", history.percent_max, 0, 1_000),
        ("history.updates_min", history.updates_min as u64, 0, 100_000_000),
        ("history.view_changes_min", history.view_changes_min as u64, 0, 100_000_000),
        ("streams.streams_max", streams.streams_max as u64, 0, 1_000_000),
        ("streams.distinct_max", streams.distinct_max as u64, 1, 100_000),
        // Less would not hold one frame.
        ("streams.buffer_bytes_max", streams.buffer_bytes_max as u64, 4 * MIB, 64 * GIB),
        ("streams.snapshots_max", streams.snapshots_max as u64, 1, 1_000),
        ("streams.heartbeat_ms", streams.heartbeat_ms, 10, HOUR_MS),
        ("streams.progress_interval_ms", streams.progress_interval_ms, 10, HOUR_MS),
        ("streams.resume_wait_ms", streams.resume_wait_ms, 0, HOUR_MS),
        ("history.read_points_max", history.read_points_max as u64, 0, 10_000),
        ("history.read_point_ttl_max_ms", history.read_point_ttl_max_ms, 1_000, DAY_MS),
        // 0 turns it off.
        ("views.watch_interval_ms", config.views.watch_interval_ms, 0, DAY_MS),
    ]
}

fn distinct(name: &str, texts: &[String]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for text in texts {
        if text.trim().is_empty() {
            return Err(format!("`{name}` holds an empty name"));
        }
        if !seen.insert(text) {
            return Err(format!("`{name}` names {text:?} twice"));
        }
    }
    Ok(())
}

/// Whether two listeners cannot both be had. Port 0 is any that is free.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_host
}
