//! A new view over a million resources while events are folded: how long until it is shown, what it holds, and what reads
//! and freshness are meanwhile.
//!
//! `cargo bench --bench hydrate`; `TARN_BENCH_RESOURCES` changes its size, `TARN_BENCH_RATE` (10000) the events a second,
//! `TARN_BENCH_VIEWS=0` leaves out the shipped views. Each shipped view comes alone and goes again; the first rows are of
//! nothing that comes, for comparison. "most ms behind" is the age of what is shown, looked at as fast as it is answered.
//! RSS grows by the pages that a view takes beyond what others have left.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::server::{Connection, Server, post};
use support::{print_table, quantile, setting};

/// The query whose time is asked for: a grouping of everything.
const GROUPING: (&str, &str) = (
    "grouping",
    "SELECT workspace_id, resource_type, count(*) AS resources, max(updated_at) AS latest FROM resources GROUP BY 1, 2",
);
/// For so long nothing comes, in the first rows.
const QUIET: Duration = Duration::from_secs(4);

fn main() {
    let resources = setting("TARN_BENCH_RESOURCES", 1_000_000);
    let rate = setting("TARN_BENCH_RATE", 10_000);
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("TARN_SOURCE__KIND", "generator".to_owned()),
        ("TARN_SOURCE__GENERATOR__RESOURCES", resources.to_string()),
        // Some are reported often and some seldom: not all are there after so many events.
        ("TARN_SOURCE__GENERATOR__PRELOAD", (resources * 4).to_string()),
        ("TARN_SOURCE__GENERATOR__EVENTS_PER_SECOND", rate.to_string()),
        ("TARN_VIEWS__DIRECTORY", folder.path().display().to_string()),
        ("TARN_VIEWS__WATCH_INTERVAL_MS", "0".to_owned()),
    ];
    let server = Server::start(&settings, Stdio::null());
    server.wait_ready();
    let mut rows = vec![measured("(nothing comes)", &server, || std::thread::sleep(QUIET))];
    let file = folder.path().join("grouping.sql");
    rows.push(installed(&server, GROUPING.0, GROUPING.1, &file));
    let mut shipped: Vec<_> = fs::read_dir("queries").unwrap().map(|entry| entry.unwrap().path()).collect();
    let wanted = setting("TARN_BENCH_VIEWS", u64::MAX) > 0;
    shipped.retain(|path| wanted && path.extension().is_some_and(|extension| extension == "sql"));
    shipped.sort();
    for path in shipped {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let file = folder.path().join(format!("{name}.sql"));
        rows.push(installed(&server, name, &fs::read_to_string(&path).unwrap(), &file));
    }
    let live = server.live();
    let title = format!("hydrate: a new view over {live} live resources, {rate} events a second meanwhile");
    let head =
        ["view", "shown after s", "look-up p50 ms", "p99 ms", "most ms behind", "rows", "held MB", "RSS grew MB"];
    print_table(&title, &head, &rows);
}

/// What is seen while something happens.
fn measured(what: &str, server: &Server, happens: impl FnOnce()) -> Vec<String> {
    let found = server.resources(5_000);
    let paths: Vec<String> =
        found.iter().map(|one| format!("/api/tarn/v1/resources/{}", one["resourceId"].as_str().unwrap())).collect();
    let is_over = AtomicBool::new(false);
    let (took, mut millis, behind) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| lookups(server, &paths, &is_over));
        let watch = scope.spawn(|| most_behind(server, &is_over));
        let began = Instant::now();
        happens();
        let took = began.elapsed();
        is_over.store(true, Ordering::Relaxed);
        (took, reader.join().unwrap(), watch.join().unwrap())
    });
    millis.sort_by(f64::total_cmp);
    vec![
        what.to_owned(),
        format!("{:.2}", took.as_secs_f64()),
        format!("{:.2}", quantile(&millis, 0.5)),
        format!("{:.2}", quantile(&millis, 0.99)),
        format!("{behind:.0}"),
    ]
}

/// A thousand look-ups a second: how long each took, in ms.
fn lookups(server: &Server, paths: &[String], is_over: &AtomicBool) -> Vec<f64> {
    let mut connection = Connection::open(server.readers);
    let (began, mut millis) = (Instant::now(), Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        let due = Duration::from_millis(millis.len() as u64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let asked = began + due;
        connection.get(&paths[(millis.len() * 7_919) % paths.len()]);
        millis.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    millis
}

/// How old what is shown was at most, in ms.
fn most_behind(server: &Server, is_over: &AtomicBool) -> f64 {
    let mut most: f64 = 0.0;
    while !is_over.load(Ordering::Relaxed) {
        let epoch = server.json("/api/tarn/v1/position")["epoch"].as_u64().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        most = most.max(now.saturating_sub(epoch) as f64);
        std::thread::sleep(Duration::from_millis(5));
    }
    most
}

/// A view that comes and goes again.
fn installed(server: &Server, name: &str, sql: &str, file: &Path) -> Vec<String> {
    let before = server.memory_bytes("VmRSS");
    let mut row = measured(name, server, || {
        fs::write(file, sql).unwrap();
        reload(server);
        let deadline = Instant::now() + Duration::from_secs(600);
        while view(server, name).is_none_or(|view| view["health"] == "hydrating") {
            assert!(Instant::now() < deadline, "{name} is not shown in time");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let shown = view(server, name).unwrap();
    assert!(shown["rows"].is_u64(), "{shown}");
    let held = shown["cost"]["bytesHeld"].as_u64().unwrap() + shown["cost"]["sharedBytesHeld"].as_u64().unwrap();
    row.push(shown["rows"].to_string());
    row.push(format!("{:.1}", held as f64 / 1e6));
    row.push(format!("{:.1}", (server.memory_bytes("VmRSS") as f64 - before as f64) / 1e6));
    fs::remove_file(file).unwrap();
    reload(server);
    while view(server, name).is_some() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_secs(2));
    row
}

fn reload(server: &Server) {
    let answer = post(server.operators, "/api/tarn/v1/views/reload", "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn view(server: &Server, name: &str) -> Option<serde_json::Value> {
    let list = server.json("/api/tarn/v1/views");
    list["items"].as_array().unwrap().iter().find(|view| view["name"] == name).cloned()
}
