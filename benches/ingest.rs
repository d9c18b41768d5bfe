//! A wire-exact log through the whole dataflow to the published view, against `speed_of_light` in the same run.
//!
//! `cargo bench --bench ingest`; `TARN_BENCH_EVENTS` and `TARN_BENCH_THREADS` change its size.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::path::Path;

use support::reference::{Depth, read};
use support::{ingest_log, median, print_table, setting, spend};
use tarn::config::{Config, SourceKind};
use tarn::service::Service;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let (path, events) = ingest_log();
    let threads = setting("TARN_BENCH_THREADS", 2);
    let rounds = setting("TARN_BENCH_ROUNDS", 3);
    let (mut light, mut ingest) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    let mut resources = 0;
    for _ in 0..rounds {
        let spent = spend(|| assert_eq!(read(&path, threads, Depth::Everything), events));
        light.0.push(events as f64 / spent.wall.as_secs_f64());
        light.1.push(spent.cpu.as_secs_f64() * 1e6 / events as f64);
        let mut replayed = None;
        let spent = spend(|| replayed = Some(replay(&path, threads as usize)));
        resources = replayed.expect("just replayed").publisher.view().census().resources;
        ingest.0.push(events as f64 / spent.wall.as_secs_f64());
        ingest.1.push(spent.cpu.as_secs_f64() * 1e6 / events as f64);
    }
    let ratios: Vec<f64> = ingest.0.iter().zip(&light.0).map(|(ingest, light)| ingest / light).collect();
    let row = |name: &str, rates: &[f64], micros: &[f64], ratio: f64| {
        let rate = median(rates.to_vec());
        vec![name.to_owned(), format!("{rate:.0}"), format!("{:.2}", median(micros.to_vec())), format!("{ratio:.2}")]
    };
    let rows = [
        row("speed of light (parse everything)", &light.0, &light.1, 1.0),
        row("ingest to the published view", &ingest.0, &ingest.1, median(ratios)),
    ];
    let title = format!("ingest: {events} records, {resources} resources, {threads} workers, median of {rounds}");
    print_table(&title, &["what", "records/s", "CPU µs a record", "ratio"], &rows);
}

/// Replays the log to its end, when everything is visible.
fn replay(path: &Path, workers: usize) -> Service {
    let mut config = Config::default();
    config.views.directory.clear();
    config.source.kind = SourceKind::Log;
    config.source.log.path = path.display().to_string();
    config.dataflow.workers = workers;
    let (service, running) =
        tarn::service::start(config, tarn::service::Time::Log, tarn::snapshot::Verification::OnThread)
            .expect("the log is there");
    running.join().expect("the replay goes through");
    service
}
