//! What snapshots cost: time and bytes of a base and of increments, the latency of reads while they are taken, the rate of
//! the ingest with them.
//!
//! `cargo bench --bench snapshot`; `TARN_BENCH_RESOURCES`, `TARN_BENCH_CHANGES` (between two snapshots),
//! `TARN_BENCH_SECONDS` (a turn of the reads) and `TARN_BENCH_EVENTS` (of the log of the ingest) change its size;
//! `TARN_BENCH_INGEST_ALONE=1` measures the ingest and nothing else, `TARN_BENCH_READS_ALONE=1` the reads. Its log is a file; all other records come by a pipe
//! from a generator in this process, and changes are made before anything is measured: of every fourth resource, so that
//! neighbours are not packed together. Sizes and times are those of `/api/tarn/v1/status`.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::data::{self, NEVER_MS, copy, generation, mb, settings, tree_bytes};
use support::feed::{Fed, Feed, Taken};
use support::server::{Connection, Server};
use support::{log, median, print_table, quantile, setting};

/// Each way is measured so often, in turns.
const ROUNDS: usize = 5;
const SECOND_MS: u64 = 1_000;
/// What was fed by a turn is in a snapshot after this.
const SETTLED: Duration = Duration::from_millis(2_500);
/// Changes a second while reads are measured, and how often some are written.
const CHANGES_A_SECOND: u64 = 10_000;
const CHUNKS_A_SECOND: u64 = 100;
const LOOKUP_CONNECTIONS: usize = 4;
/// A look-up every so often on each connection: 1,000 a second; and 100 pages a second.
const LOOKUP_EVERY: Duration = Duration::from_millis(4);
const PAGE_EVERY: Duration = Duration::from_millis(10);

fn main() {
    if std::env::var_os("TARN_BENCH_INGEST_ALONE").is_some() {
        return ingest();
    }
    let resources = setting("TARN_BENCH_RESOURCES", 1_000_000);
    let folder = data::folder();
    let (on, off) = (folder.path().join("on"), folder.path().join("off"));
    let mut feed = Feed::new(resources);
    let mut loading = Fed::start(&on, NEVER_MS, &[]);
    feed.create(resources, &mut loading);
    loading.server.wait_read(resources);
    loading.server.stop();
    copy(&on, &off);

    // Another retention of tombstones, so that the first snapshot is a base: the old one could not be added to.
    let mut on_server = Fed::start(&on, SECOND_MS, &[("TARN_FOLD__TOMBSTONE_RETENTION_MS", "604800001".to_owned())]);
    let reads_alone = std::env::var_os("TARN_BENCH_READS_ALONE").is_some();
    if reads_alone {
        on_server.after(&feed.changes(1));
    } else {
        costs(&mut feed, &mut on_server, resources);
    }
    let mut off_server = Fed::start(&off, NEVER_MS, &[]);
    latency(&mut feed, &mut on_server, &mut off_server);
    drop(off_server);
    if reads_alone {
        return;
    }
    on_server.server.stop();
    on_disk(&on, folder.path());
    drop(folder);
    ingest();
}

/// What a base and increments take, nobody reading.
fn costs(feed: &mut Feed, fed: &mut Fed, resources: u64) {
    let base = fed.after(&feed.changes(1));
    assert!(base.rows >= resources, "the first snapshot is a base");
    let seconds = |ms: f64| format!("{:.2}", ms / 1e3);
    let row = |what: String, rows: u64, median_ms: f64, most_ms: f64, bytes: u64| {
        let each = format!("{:.0}", bytes as f64 / rows as f64);
        vec![what, rows.to_string(), seconds(median_ms), seconds(most_ms), mb(bytes), each]
    };
    let base_ms = base.took_ms as f64;
    let mut rows = vec![row("a base".to_owned(), base.rows, base_ms, base_ms, base.bytes)];
    let changes = setting("TARN_BENCH_CHANGES", 10_000);
    // More than half a base in increments would be followed by another base.
    for changes in [changes / 10, changes, changes * 5].into_iter().filter(|changes| changes * 12 <= resources) {
        // Made in the order in which they are sent: what stands below the position is not read.
        let lines: Vec<[Vec<u8>; 2]> = (0..ROUNDS).map(|_| [feed.changes(1), feed.changes(changes)]).collect();
        let taken: Vec<Taken> = lines.iter().filter_map(|lines| increment(fed, lines, changes)).collect();
        assert!(!taken.is_empty(), "no increment has all {changes} changes");
        let times: Vec<f64> = taken.iter().map(|taken| taken.took_ms as f64).collect();
        let most = times.iter().copied().fold(0.0, f64::max);
        let last = taken.last().unwrap();
        let what = format!("an increment, {changes} changes ({} of them)", taken.len());
        rows.push(row(what, last.rows, median(times), most, last.bytes));
    }
    let head = ["what", "rows", "median s", "most s", "packed MB", "bytes a row"];
    print_table(&format!("snapshot: {resources} resources, nobody reads"), &head, &rows);
}

/// An increment with all of these changes; none if they were not read between two snapshots.
fn increment(fed: &mut Fed, [first, lines]: &[Vec<u8>; 2], changes: u64) -> Option<Taken> {
    // One has just been finished, so there is a second until the next.
    let before = fed.after(first);
    let taken = fed.after(lines);
    (taken.rows >= changes && taken.generation == before.generation).then_some(taken)
}

/// Reads from a server whose snapshots come every second and from one that takes none, under the same ingest.
fn latency(feed: &mut Feed, on: &mut Fed, off: &mut Fed) {
    let seconds = setting("TARN_BENCH_SECONDS", 5);
    let found = off.server.resources(20_000);
    let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
    let lookups: Vec<String> =
        found.iter().map(|one| format!("/api/tarn/v1/resources/{}", text(one, "resourceId"))).collect();
    let workspaces = found.iter().map(|one| text(one, "workspaceId")).filter(|id| !id.is_empty());
    let pages: Vec<String> =
        workspaces.map(|id| format!("/api/tarn/v1/resources?limit=100&workspaceId={id}")).collect();
    let before = on.taken();
    let mut measured = [Turns::default(), Turns::default()];
    for _ in 0..ROUNDS {
        for (turns, fed) in measured.iter_mut().zip([&mut *off, &mut *on]) {
            let chunks: Vec<Vec<u8>> =
                (0..seconds * CHUNKS_A_SECOND).map(|_| feed.changes(CHANGES_A_SECOND / CHUNKS_A_SECOND)).collect();
            turns.measure(fed, &chunks, Duration::from_secs(seconds), &lookups, &pages);
            std::thread::sleep(SETTLED);
        }
    }
    let after = on.taken();
    let [without, with] = measured;
    let rows = [("point lookup", &without.lookups, &with.lookups), ("page of 100", &without.pages, &with.pages)]
        .map(|(what, without, with)| compared(what, without, with));
    let (taken, bases) = (after.taken - before.taken, after.generation - before.generation);
    let title = format!(
        "snapshot: reads while {CHANGES_A_SECOND} events a second are ingested, snapshots off and every second \
         ({taken} in {} s, {bases} of them bases)",
        ROUNDS as u64 * seconds
    );
    let head = ["what", "p50 off, ms", "p50 on, ms", "ratio", "p99 off, ms", "p99 on, ms", "ratio"];
    print_table(&title, &head, &rows);
}

/// Milliseconds of every request, by turn.
#[derive(Debug, Default)]
struct Turns {
    lookups: Vec<Vec<f64>>,
    pages: Vec<Vec<f64>>,
}

impl Turns {
    fn measure(&mut self, fed: &mut Fed, chunks: &[Vec<u8>], time: Duration, lookups: &[String], pages: &[String]) {
        let readers = fed.server.readers;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let began = Instant::now();
                for (chunk, place) in chunks.iter().zip(0..) {
                    let due = Duration::from_secs(1) / u32::try_from(CHUNKS_A_SECOND).unwrap() * place;
                    std::thread::sleep(due.saturating_sub(began.elapsed()));
                    fed.input.write_all(chunk).unwrap();
                }
                fed.end_of_burst();
            });
            let page_client = scope.spawn(move || paced(readers, time, PAGE_EVERY, pages, 0));
            let clients: Vec<_> = (0..LOOKUP_CONNECTIONS)
                .map(|client| scope.spawn(move || paced(readers, time, LOOKUP_EVERY, lookups, client)))
                .collect();
            let millis = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
            self.lookups.push(millis);
            self.pages.push(page_client.join().unwrap());
        });
    }
}

/// Asks for a path now and then; milliseconds of each request from when it was due, so that one that waits for another
/// counts its wait.
fn paced(address: SocketAddr, time: Duration, every: Duration, paths: &[String], first: usize) -> Vec<f64> {
    let mut connection = Connection::open(address);
    let (began, mut millis, mut due) = (Instant::now(), Vec::new(), Duration::ZERO);
    while due < time {
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        connection.get(&paths[(first * 4_999 + millis.len() * 7_919) % paths.len()]);
        millis.push((began.elapsed() - due).as_secs_f64() * 1e3);
        due += every;
    }
    millis
}

/// Quantiles of all turns together, and the middle one of the ratios of turns.
fn compared(what: &str, without: &[Vec<f64>], with: &[Vec<f64>]) -> Vec<String> {
    let of = |turns: &[Vec<f64>], share: f64| {
        let mut all = turns.concat();
        all.sort_by(f64::total_cmp);
        quantile(&all, share)
    };
    let mut row = vec![what.to_owned()];
    for share in [0.5, 0.99] {
        let each = |turns: &[Vec<f64>]| -> Vec<f64> {
            turns.iter().map(|turn| of(std::slice::from_ref(turn), share)).collect()
        };
        let ratios = each(with).iter().zip(each(without)).map(|(with, without)| with / without).collect();
        row.extend([format!("{:.2}", of(without, share)), format!("{:.2}", of(with, share))]);
        row.push(format!("{:.2}", median(ratios)));
    }
    row
}

/// What is on disk after all that, and how soon a server is ready on it.
fn on_disk(data: &Path, folder: &Path) {
    let size = generation(data);
    let directory = tree_bytes(data);
    let bound = 3 * size.base_bytes + size.on_disk_bytes;
    let empty = folder.join("empty.jsonl");
    std::fs::write(&empty, "").unwrap();
    let began = Instant::now();
    let server = Server::start(&settings(&empty.display().to_string(), data, NEVER_MS), Stdio::null());
    server.wait_ready();
    let ready = format!("{:.2}", began.elapsed().as_secs_f64());
    let of_base = |bytes: u64| format!("{:.2}", bytes as f64 / size.base_bytes as f64);
    let row = |what: &str, bytes: u64| vec![what.to_owned(), mb(bytes), of_base(bytes)];
    let rows = [
        row("packed base", size.base_bytes),
        row("packed increments", size.packed_bytes - size.base_bytes),
        row("current generation on disk", size.on_disk_bytes),
        row("directory", directory),
        row("three packed bases and one generation", bound),
    ];
    let title = format!("snapshot: on disk, a base and {} increments (ready from it in {ready} s)", size.runs - 1);
    print_table(&title, &["what", "MB", "of the packed base"], &rows);
}

/// A log from a file into a server that keeps nothing, and into one with snapshots every 10 s, in turns.
fn ingest() {
    let events = setting("TARN_BENCH_EVENTS", 4_000_000);
    let rounds = setting("TARN_BENCH_ROUNDS", 3);
    let (count, resources) = (events.to_string(), (events / 5).to_string());
    let arguments = ["--seed", "1", "--events", &count, "--resources", &resources];
    let path = log(&format!("seed-1-{events}.jsonl.zst"), &arguments).display().to_string();
    let folder = data::folder();
    let (mut rates, mut micros, mut taken) = ([vec![], vec![]], [vec![], vec![]], Vec::new());
    for round in 0..rounds {
        let kept = folder.path().join(round.to_string());
        let memory = [("TARN_SOURCE__KIND", "log".to_owned()), ("TARN_SOURCE__LOG__PATH", path.clone())];
        for (way, settings) in [memory.to_vec(), settings(&path, &kept, 10_000)].iter().enumerate() {
            let began = Instant::now();
            let server = Server::start(settings, Stdio::null());
            server.wait_read(events);
            rates[way].push(events as f64 / began.elapsed().as_secs_f64());
            micros[way].push(server.cpu_time().as_secs_f64() * 1e6 / events as f64);
            taken.extend(server.json("/api/tarn/v1/status")["snapshots"]["taken"].as_f64());
        }
        // A child that verifies may still be at work; then it goes with its folder.
        let _ = std::fs::remove_dir_all(kept);
    }
    let ratio = median(rates[1].iter().zip(&rates[0]).map(|(with, without)| with / without).collect());
    let row = |what: &str, way: usize, ratio: f64, snapshots: f64| {
        let (rate, micros) = (median(rates[way].clone()), median(micros[way].clone()));
        vec![
            what.to_owned(),
            format!("{rate:.0}"),
            format!("{micros:.2}"),
            format!("{snapshots:.0}"),
            format!("{ratio:.2}"),
        ]
    };
    let rows = [row("in memory alone", 0, 1.0, 0.0), row("snapshots every 10 s", 1, ratio, median(taken))];
    let title = format!("snapshot: ingest of {events} records, median of {rounds}");
    print_table(&title, &["what", "records/s", "CPU µs a record", "snapshots", "ratio"], &rows);
}
