//! Logs and metrics: the only module that sets them up.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LoggingSection};
use crate::dataflow::counters::read;
use crate::service::Service;

/// Begins to log, to standard error: human on a terminal, JSON otherwise.
pub fn start_logging(section: &LoggingSection) -> Result<(), String> {
    let filter = EnvFilter::try_new(&section.filter).map_err(|error| format!("`log.filter`: {error}"))?;
    let human = match section.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if human { builder.try_init() } else { builder.json().try_init() };
    started.map_err(|error| error.to_string())
}

/// Begins to record metrics.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let seconds = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
    let recorder = PrometheusBuilder::new().set_buckets(&seconds)?.build_recorder();
    let handle = recorder.handle();
    // A second recorder in one process (tests) is none the worse for not being the global one.
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("metrics were set up before");
    }
    Ok(handle)
}

/// Brings the counters of the pipeline to the recorder; called when metrics are asked for.
pub fn export(service: &Service) {
    for (family, label, count) in service.counters.labelled() {
        let name = match family {
            "applied" => "tarn_events_applied_total",
            "ignored" => "tarn_events_ignored_total",
            "skipped" => "tarn_records_skipped_total",
            "anomaly" => "tarn_anomalies_total",
            _ => "tarn_records_rejected_total",
        };
        metrics::counter!(name, "reason" => label).absolute(count);
    }
    let counters = &service.counters;
    let plain = [
        ("tarn_records_total", &counters.records),
        ("tarn_record_bytes_total", &counters.record_bytes),
        ("tarn_epochs_sealed_total", &counters.epochs_sealed),
        ("tarn_ids_let_go_within_tolerance_total", &counters.let_go_within_tolerance),
        ("tarn_tombstones_expired_total", &counters.tombstones_expired),
        ("tarn_rejected_again_total", &counters.rejected_again),
        ("tarn_quarantine_evicted_total", &counters.quarantine_evicted),
        ("tarn_quarantine_cleared_total", &counters.quarantine_cleared),
    ];
    for (name, counter) in plain {
        metrics::counter!(name).absolute(read(counter));
    }
    let view = service.publisher.view();
    let state = service.status.get();
    metrics::gauge!("tarn_published_epoch_ms").set(view.epoch() as f64);
    metrics::gauge!("tarn_ready").set(f64::from(u8::from(service.is_ready())));
    metrics::gauge!("tarn_incomplete").set(f64::from(u8::from(state.incomplete_since_ms.is_some())));
    for lag in state.lags(view.position()) {
        let labels = [("topic", lag.state.topic.to_string()), ("partition", lag.state.partition.to_string())];
        if let Some(records) = lag.lag {
            metrics::gauge!("tarn_lag_records", &labels).set(records as f64);
        }
        metrics::gauge!("tarn_partition_reading", &labels).set(f64::from(u8::from(!lag.state.phase.is_trouble())));
    }
    metrics::counter!("tarn_commits_failed_total").absolute(state.commits_failed);
    for (name, updates, batches) in view.holdings() {
        metrics::gauge!("tarn_arrangement_updates", "arrangement" => name).set(updates as f64);
        metrics::gauge!("tarn_arrangement_batches", "arrangement" => name).set(batches as f64);
    }
}
