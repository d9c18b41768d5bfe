//! Logs and metrics: the only module that sets them up.
//!
//! Promises: logging never blocks and never fails whoever logs (`log_writer`); what is logged is written before the
//! process ends, if anybody takes it ([`flush_logs`]).

mod histograms;
mod log_writer;

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogFormat, LoggingSection};
use crate::dataflow::counters::read;
use crate::published::ReadView;
use crate::service::Service;
use crate::service::view_health::Health;
use crate::source::Phase;
use crate::source::identity::verdict::IdentityFault;
pub use histograms::write_histograms;
use log_writer::LogWriter;

/// How often what histograms hold is put in order; without it they keep every sample until somebody asks.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// A gauge that was not set for so long is no longer shown.
const GAUGES_KEPT: Duration = Duration::from_secs(60);

/// Where this process logs, once it does.
static LOG: OnceLock<LogWriter> = OnceLock::new();
/// What renders the metrics of this process, once they are recorded.
static METRICS: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// Begins to log, to standard error: human on a terminal, JSON otherwise.
pub fn start_logging(section: &LoggingSection) -> Result<(), String> {
    let filter = EnvFilter::try_new(&section.filter).map_err(|error| format!("`log.filter`: {error}"))?;
    let human = match section.format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let writer = LogWriter::to(io::stderr()).map_err(|error| format!("could not start the log's thread: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(human && io::stderr().is_terminal());
    let builder = builder.with_writer(writer.clone());
    let started = if human { builder.try_init() } else { builder.json().try_init() };
    started.map_err(|error| error.to_string())?;
    // Set once: a second start has failed above.
    drop(LOG.set(writer));
    Ok(())
}

/// Waits until what was logged is written; not for long, since a pipe may hang.
pub fn flush_logs() {
    if let Some(writer) = LOG.get() {
        writer.flush(Duration::from_millis(500));
    }
}

/// Says that the process cannot go on, in the log if there is one, else on standard error. Never blocks for long and
/// never panics.
pub fn say_last_words(words: &str) {
    match LOG.get() {
        Some(_) if tracing::enabled!(tracing::Level::ERROR) => tracing::error!("{words}"),
        // Even who wants no logs wants to know why there is no service any more.
        Some(log) => drop(writeln!(log.make_writer(), "tarn: {words}")),
        // Nobody may be listening.
        None => drop(writeln!(io::stderr(), "tarn: {words}")),
    }
    flush_logs();
}

/// Begins to record metrics; a second time in one process (tests) gives what the first did.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let mut started = METRICS.lock().expect("nobody panics while metrics are started");
    if let Some(handle) = &*started {
        return Ok(handle.clone());
    }
    let seconds = crate::histogram::BOUNDS_US.map(|bound_us| bound_us as f64 / 1e6);
    // All gauges are set whenever metrics are asked for; what is not is of something that is gone, as a view may be.
    let builder = PrometheusBuilder::new().idle_timeout(MetricKindMask::GAUGE, Some(GAUGES_KEPT));
    let recorder = builder.set_buckets(&seconds)?.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("another recorder was set up before");
    }
    Ok(started.insert(handle).clone())
}

/// Brings the counters of the pipeline to the recorder; called when metrics are asked for.
pub fn export(service: &Service) {
    for (family, label, count) in service.counters.labelled() {
        let name = match family {
            "applied" => "tarn_events_applied_total",
            "ignored" => "tarn_events_ignored_total",
            "skipped" => "tarn_records_skipped_total",
            "resubmitted" => "tarn_records_resubmitted_total",
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
    metrics::counter!("tarn_log_lines_dropped_total").absolute(LOG.get().map_or(0, LogWriter::dropped));
    let view = service.publisher.view();
    let state = service.status.get();
    metrics::gauge!("tarn_published_epoch_ms").set(view.epoch() as f64);
    if let Some(age) = view.age() {
        metrics::gauge!("tarn_shown_age_seconds").set(age.as_secs_f64());
    }
    if let Some(newest) = view.newest_event() {
        let age_ms = crate::clock::now_ms().saturating_sub(newest.happened_ms);
        metrics::gauge!("tarn_newest_event_age_seconds").set(age_ms as f64 / 1e3);
    }
    if let Some(newest_ms) = state.heartbeats.as_ref().and_then(|beats| beats.newest_ms) {
        let age_ms = crate::clock::now_ms().saturating_sub(newest_ms);
        metrics::gauge!("tarn_heartbeat_age_seconds").set(age_ms as f64 / 1e3);
    }
    metrics::gauge!("tarn_ready").set(f64::from(u8::from(service.is_ready())));
    metrics::gauge!("tarn_incomplete").set(f64::from(u8::from(state.incomplete_since_ms.is_some())));
    for lag in state.lags(view.position()) {
        let labels = [("topic", lag.state.topic.to_string()), ("partition", lag.state.partition.to_string())];
        if let Some(records) = lag.lag {
            metrics::gauge!("tarn_lag_records", &labels).set(records as f64);
        }
        metrics::gauge!("tarn_partition_reading", &labels).set(f64::from(u8::from(!lag.state.phase.is_trouble())));
    }
    for fault in IdentityFault::ALL {
        let count = state.identity_faults.get(&fault).copied().unwrap_or(0);
        metrics::counter!("tarn_log_identity_faults_total", "fault" => fault.as_str()).absolute(count);
    }
    metrics::gauge!("tarn_resubmissions_waiting").set(service.resubmissions.queue().len() as f64);
    let rebuilds = &state.rebuilds;
    metrics::gauge!("tarn_rebuilding").set(f64::from(u8::from(rebuilds.running_since_ms.is_some())));
    metrics::counter!("tarn_rebuilds_total").absolute(rebuilds.finished);
    metrics::counter!("tarn_rebuild_gone_resources_total").absolute(rebuilds.gone);
    let checking = state.partitions.iter().filter(|one| one.phase == Phase::Checking).count();
    metrics::gauge!("tarn_partitions_checking").set(checking as f64);
    metrics::counter!("tarn_commits_failed_total").absolute(state.commits_failed);
    if let Some(health) = service.snapshots.as_ref().map(|health| health.get()) {
        metrics::counter!("tarn_snapshots_total").absolute(health.taken);
        metrics::counter!("tarn_snapshots_failed_total").absolute(health.failed);
        let since_ms = health.finished_ms.unwrap_or(service.started_ms);
        let age_ms = crate::clock::now_ms().saturating_sub(since_ms);
        metrics::gauge!("tarn_snapshot_age_seconds").set(age_ms as f64 / 1e3);
        metrics::gauge!("tarn_snapshot_duration_seconds").set(health.took_ms as f64 / 1e3);
        metrics::gauge!("tarn_bindings_failing").set(f64::from(u8::from(health.bindings_error.is_some())));
    }
    let behind = service.publisher.behind(Instant::now());
    metrics::gauge!("tarn_published_age_seconds").set(behind.as_secs_f64());
    export_views(service, &view, behind);
    for (name, updates, batches) in view.holdings() {
        metrics::gauge!("tarn_arrangement_updates", "arrangement" => name).set(updates as f64);
        metrics::gauge!("tarn_arrangement_batches", "arrangement" => name).set(batches as f64);
    }
}

/// How the views are.
fn export_views(service: &Service, view: &ReadView, behind: Duration) {
    for condition in service.view_conditions(view) {
        let name = condition.name.to_string();
        let numbers = condition.numbers(view, behind);
        let gauge = |metric: &'static str, number: f64| metrics::gauge!(metric, "view" => name.clone()).set(number);
        let some = |metric: &'static str, number: Option<f64>| number.into_iter().for_each(|one| gauge(metric, one));
        some("tarn_view_rows", numbers.rows.map(|rows| rows as f64));
        some("tarn_view_errors", numbers.errors.map(|errors| errors as f64));
        some("tarn_view_lag_seconds", numbers.lag_ms.map(|lag_ms| lag_ms as f64 / 1e3));
        gauge("tarn_view_bytes", numbers.bytes as f64);
        for health in Health::ALL {
            let is = f64::from(u8::from(health == condition.health));
            metrics::gauge!("tarn_view_health", "view" => name.clone(), "health" => health.as_str()).set(is);
        }
    }
}
