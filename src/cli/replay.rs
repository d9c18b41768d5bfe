//! `tarn replay`: a log folded as fast as it goes, views maintained meanwhile, with a progress bar, a report and a dump.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tarn::config::{Config, SourceKind};
use tarn::dataflow::counters::read;
use tarn::http::{quarantine_json, write_resource};
use tarn::model::{Timestamp, plausible_ms};
use tarn::published::{CatalogView, ReadView};
use tarn::service::view_health::ViewCondition;
use tarn::service::{Service, Time, view_tests};
use tarn::snapshot::Verification;
use tarn::sql::{Format, Reading, Row};

use super::{Refused, load, say};

/// So many rows of a view are written at a time.
const DUMPED_ROWS: usize = 4_096;
/// With fewer resources, what the process itself takes says nothing about them.
const RESOURCES_TO_MEASURE: usize = 10_000;

/// Arguments of `tarn replay`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The log: plain, .gz or .zst; `-` for standard input.
    log: PathBuf,
    /// Write what the state ended in to this folder.
    #[arg(long)]
    dump: Option<PathBuf>,
    /// A folder of SQL views to maintain; none without it.
    #[arg(long)]
    queries: Option<PathBuf>,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = Report::Human)]
    report: Report,
    /// How many workers; 0 for as many as there are cores.
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// An epoch has at most this many records.
    #[arg(long)]
    epoch_records: Option<usize>,
    /// The time at which the log ends, in RFC 3339, so that what expires by time is the same on any day. Records that
    /// claim to be later do not move the time.
    #[arg(long, value_parser = parse_time)]
    now: Option<u64>,
    /// The configuration, for limits and tolerances.
    #[arg(long)]
    config: Option<PathBuf>,
}

pub(super) fn parse_time(text: &str) -> Result<u64, String> {
    let time = Timestamp::parse(text).ok().flatten().and_then(|time| plausible_ms(time.millis()));
    time.ok_or_else(|| "it must be a time after 2015, such as 2026-11-23T06:47:23Z".to_owned())
}

#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
enum Report {
    /// For people.
    Human,
    /// For machines.
    Json,
}

/// Replays the log.
pub fn run(arguments: Arguments) -> Result<()> {
    let mut config = load(arguments.config.as_deref())?;
    config.source.kind = SourceKind::Log;
    config.source.log.path = arguments.log.display().to_string();
    if arguments.workers > 0 {
        config.dataflow.workers = arguments.workers;
    }
    if let Some(records) = arguments.epoch_records {
        config.ingest.epoch_records_max = records;
    }
    config.check()?;
    with_queries(&mut config, arguments.queries.as_deref())?;
    let time = arguments.now.map_or(Time::Log, Time::LogUntil);
    tarn::telemetry::start_logging(&config.log).map_err(anyhow::Error::msg)?;
    let bytes_before = resident_bytes();
    let began = Instant::now();
    let (service, running) = tarn::service::start(config, time, Verification::OnThread)?;
    let bar = progress_bar();
    while !running.has_ended() {
        bar.set_position(read(&service.counters.records));
        std::thread::sleep(Duration::from_millis(20));
    }
    running.join().context("the replay ended early")?;
    let elapsed = began.elapsed();
    bar.finish_and_clear();
    let report = report(&service, elapsed, bytes_before);
    say(&match arguments.report {
        Report::Json => format!("{report}\n"),
        Report::Human => human(&report),
    })?;
    if let Some(folder) = &arguments.dump {
        dump(&service, folder).with_context(|| format!("could not write the dump to {}", folder.display()))?;
    }
    all_readable(&service)
}

/// Whether every view came to its rows; after the report and the dump, which have the others.
fn all_readable(service: &Service) -> Result<()> {
    let conditions = service.view_conditions(&service.publisher.view());
    let others: Vec<String> = conditions
        .iter()
        .filter(|condition| !condition.health.is_readable())
        .map(|ViewCondition { name, health, problem, .. }| {
            format!("`{name}` is {}: {}", health.as_str(), problem.as_deref().unwrap_or("it is not complete"))
        })
        .collect();
    ensure!(others.is_empty(), "views without rows: {}", others.join("; "));
    Ok(())
}

/// Maintains the views of a folder alone, as they are now; a query that is refused is not passed over in silence.
fn with_queries(config: &mut Config, folder: Option<&Path>) -> Result<()> {
    config.views.directory = folder.map(|folder| folder.display().to_string()).unwrap_or_default();
    config.views.watch_interval_ms = 0;
    let Some(folder) = folder else { return Ok(()) };
    let planned = view_tests::plan(config, folder)?;
    if planned.is_good() { Ok(()) } else { Err(Refused(planned.refusals.join("; ")).into()) }
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} records, {per_sec}, {elapsed}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// Resident memory of this process, where the system tells.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn report(service: &Service, elapsed: Duration, bytes_before: u64) -> Value {
    let view = service.publisher.view();
    let census = view.census();
    let records = read(&service.counters.records);
    let mut families = serde_json::Map::new();
    for (family, label, count) in service.counters.labelled() {
        let family = families.entry(family).or_insert_with(|| json!({}));
        family[label] = json!(count);
    }
    let views: Vec<Value> = service.view_conditions(&view).iter().map(|one| view_report(one, &view)).collect();
    let held = resident_bytes().saturating_sub(bytes_before);
    let live = census.resources + census.orphaned;
    json!({
        "records": records,
        "bytes": read(&service.counters.record_bytes),
        "seconds": elapsed.as_secs_f64(),
        "timeToConsistentSeconds": elapsed.as_secs_f64(),
        // Nothing is shown before all views have it, so the last of them is complete when everything is.
        "timeToLastViewSeconds": (!views.is_empty()).then_some(elapsed.as_secs_f64()),
        "eventsPerSecond": records as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
        "epoch": view.epoch(),
        "resources": census.resources,
        "orphanedResources": census.orphaned,
        "deletedResources": census.deleted,
        "quarantine": view.quarantine().len(),
        "bytesPerResource": (live >= RESOURCES_TO_MEASURE).then(|| held / live as u64),
        "workers": service.config.workers(),
        "views": views,
        "counters": families,
    })
}

fn view_report(condition: &ViewCondition, view: &ReadView) -> Value {
    let numbers = condition.numbers(view, Duration::ZERO);
    json!({
        "name": condition.name,
        "health": condition.health.as_str(),
        "problem": condition.problem,
        "rows": numbers.rows,
        "errors": numbers.errors,
        "bytesHeld": numbers.bytes,
    })
}

fn human(report: &Value) -> String {
    let number = |name: &str| report[name].as_f64().unwrap_or(0.0);
    let mut text = format!(
        "{:.0} records in {:.2} s: {:.0} a second\n",
        number("records"),
        number("seconds"),
        number("eventsPerSecond")
    );
    text += &format!(
        "{:.0} resources, {:.0} orphaned, {:.0} deleted, {:.0} in quarantine",
        number("resources"),
        number("orphanedResources"),
        number("deletedResources"),
        number("quarantine"),
    );
    if report["bytesPerResource"].is_u64() {
        text += &format!("; about {:.0} bytes a resource", number("bytesPerResource"));
    }
    text.push('\n');
    let views = report["views"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !views.is_empty() {
        text += &format!("{} views, the last complete after {:.2} s\n", views.len(), number("timeToLastViewSeconds"));
    }
    for view in views {
        let shown = |name: &str| view[name].as_u64().map_or_else(|| "no".to_owned(), |count| count.to_string());
        let name = view["name"].as_str().unwrap_or_default();
        let (health, bytes) = (view["health"].as_str().unwrap_or_default(), shown("bytesHeld"));
        text += &format!("  {name}: {} rows, {} errors, {bytes} bytes, {health}\n", shown("rows"), shown("errors"));
    }
    for (family, counts) in report["counters"].as_object().into_iter().flatten() {
        let counts = counts.as_object().into_iter().flatten().filter(|(_, count)| count.as_u64() != Some(0));
        let counts: Vec<String> = counts.map(|(label, count)| format!("{label} {count}")).collect();
        if !counts.is_empty() {
            text += &format!("{family}: {}\n", counts.join(", "));
        }
    }
    text
}

/// What the state ended in, a row a line, sorted.
fn dump(service: &Service, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let view = service.publisher.view();
    let create = |name: &str| -> Result<BufWriter<File>> { Ok(BufWriter::new(File::create(folder.join(name))?)) };
    let mut resources = create("resources.ndjson")?;
    let mut orphans = create("orphaned_resources.ndjson")?;
    let mut line = Vec::new();
    for state in view.all_states().iter().filter(|state| state.is_live()) {
        let orphaned_by = view.orphaned_by(state.id);
        let out = if orphaned_by.is_some() { &mut orphans } else { &mut resources };
        line.clear();
        write_resource(&mut line, state, orphaned_by, &service.topics);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    let mut quarantine = create("quarantine.ndjson")?;
    for entry in view.quarantine() {
        serde_json::to_writer(&mut quarantine, &quarantine_json(&entry, &service.topics))?;
        quarantine.write_all(b"\n")?;
    }
    for mut file in [resources, orphans, quarantine] {
        file.flush()?;
    }
    let conditions = service.view_conditions(&view);
    remove_views(&folder.join("views"))?;
    if !conditions.is_empty() {
        fs::create_dir_all(folder.join("views"))?;
    }
    // What cannot be read is told in the report, and has no file rather than an empty one.
    let readable = conditions.into_iter().filter(|condition| condition.health.is_readable());
    for shown in readable.filter_map(|condition| condition.shown) {
        let mut file = create(&format!("views/{}.ndjson", shown.plan.name))?;
        dump_view(&view, &shown, &mut file)?;
        file.flush()?;
    }
    Ok(())
}

/// Removes what an earlier dump wrote of its views: not all of them need be written again.
fn remove_views(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ndjson") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The rows of a view, in its order.
fn dump_view(view: &ReadView, shown: &CatalogView, out: &mut impl Write) -> Result<()> {
    let reading = Reading::new(&shown.plan, &[], &[]).expect("nothing is asked for");
    let mut rows = view.rows_from(shown.id, &[]).flat_map(|(row, count)| std::iter::repeat_n(row, count));
    loop {
        let some: Vec<&Row> = rows.by_ref().take(DUMPED_ROWS).collect();
        if some.is_empty() {
            return Ok(());
        }
        out.write_all(&Format::JsonLines.write(reading.schema(), &[reading.columns(&some)])?)?;
    }
}
