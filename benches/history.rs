//! What the recent past costs: memory, and reads of now and of then, by how much of it is kept.
//!
//! `cargo bench --bench history`; `TARN_BENCH_SIZES` (100000,1000000) are the resources, `TARN_BENCH_RATE` (1000) the
//! changes a second. Kept are no past, a minute of changes and ten minutes of them; they are fed as fast as they go, and
//! all of them stay within the retention, so the time is compressed and the past is not: each line has a server of its own
//! that is measured at rest. The first line of a size has the changes of ten minutes too, and keeps none.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::feed::{Fed, Feed};
use support::server::{Connection, Server, get};
use support::{print_table, quantile, setting};

/// So many changes are made at once.
const CHUNK: u64 = 10_000;
/// Longer than any run.
const KEPT_MS: u64 = 86_400_000;
/// The view that is read.
const VIEW: &str = "/api/tarn/v1/views/workspace_resources?limit=100";
/// Requests of each kind.
const REQUESTS: usize = 5_000;

fn main() {
    let sizes = std::env::var("TARN_BENCH_SIZES").unwrap_or("100000,1000000".to_owned());
    let rate = setting("TARN_BENCH_RATE", 1_000);
    let minutes = setting("TARN_BENCH_MINUTES", 10);
    for size in sizes.split(',') {
        let resources: u64 = size.parse().unwrap();
        let lines = [("none", 0, minutes), ("1 min", KEPT_MS, 1), ("all", KEPT_MS, minutes)];
        let rows: Vec<Vec<String>> = lines
            .into_iter()
            .map(|(kept, retention_ms, minutes)| measure(resources, rate * 60 * minutes, kept, retention_ms))
            .collect();
        let head = [
            "kept",
            "changes",
            "RSS, MB",
            "most, MB",
            "updates of states",
            "look-up p50 µs",
            "p99",
            "view p50 µs",
            "p99",
            "look-up as of then p50 µs",
            "p99",
            "view as of then p50 µs",
            "p99",
        ];
        print_table(
            &format!("history: {resources} resources, {rate} changes a second, {minutes} minutes"),
            &head,
            &rows,
        );
    }
}

/// One line of the table.
fn measure(resources: u64, changes: u64, kept: &str, retention_ms: u64) -> Vec<String> {
    let settings = [
        ("TARN_SOURCE__KIND", "log".to_owned()),
        ("TARN_SOURCE__LOG__PATH", "-".to_owned()),
        ("TARN_HISTORY__RETENTION_MS", retention_ms.to_string()),
        // Nothing is let go because it is too much: what that costs is the question.
        ("TARN_HISTORY__UPDATES_MIN", (4 * changes).to_string()),
        ("TARN_HISTORY__VIEW_CHANGES_MIN", (4 * changes).to_string()),
    ];
    let mut server = Server::start(&settings, Stdio::piped());
    let input = server.child.stdin.take().unwrap();
    let (mut fed, mut feed) = (Fed { server, input }, Feed::new(resources));
    feed.create(resources, &mut fed);
    fed.server.wait_read(resources);
    // The past begins now.
    std::thread::sleep(Duration::from_secs(2));
    let then = fed.server.json("/api/tarn/v1/position")["asOf"].as_str().unwrap().to_owned();
    let mut sent = 0;
    while sent < changes {
        let lines = feed.changes(CHUNK.min(changes - sent));
        fed.input.write_all(&lines).unwrap();
        sent += CHUNK.min(changes - sent);
    }
    fed.end_of_burst();
    fed.server.wait_read(resources + changes);
    // Merges that are due, and pages that go back.
    std::thread::sleep(Duration::from_secs(10));
    let server = &fed.server;
    let updates = server.metric("tarn_arrangement_updates{arrangement=\"states\"}");
    let found = server.resources(5_000);
    let ids: Vec<&str> = found.iter().filter_map(|one| one["resourceId"].as_str()).collect();
    let look_up = |n: usize| format!("/api/tarn/v1/resources/{}", ids[n * 7_919 % ids.len()]);
    let of_then = |path: String| {
        let sign = if path.contains('?') { '&' } else { '?' };
        format!("{path}{sign}asOf={then}")
    };
    let mb = |field: &str| format!("{:.0}", server.memory_bytes(field) as f64 / 1e6);
    let head = [kept.to_owned(), changes.to_string(), mb("VmRSS"), mb("VmHWM"), format!("{updates:.0}")];
    let reads = [
        timed(server, look_up),
        timed(server, |_| VIEW.to_owned()),
        timed(server, |n| of_then(look_up(n))),
        timed(server, |_| of_then(VIEW.to_owned())),
    ];
    [head.to_vec(), reads.concat()].concat()
}

/// Microseconds that requests take, one after another: the middle one and the 99th of a hundred. None where they are not
/// answered, as what is of then is not when no past is kept.
fn timed(server: &Server, path: impl Fn(usize) -> String) -> Vec<String> {
    let first = get(server.readers, &path(0));
    if !first.starts_with("HTTP/1.1 200") {
        let body = first.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let error: Value = serde_json::from_str(body).unwrap();
        return vec![error["code"].to_string(), "-".to_owned()];
    }
    let mut connection = Connection::open(server.readers);
    let mut micros: Vec<f64> = (0..REQUESTS)
        .map(|n| {
            let path = path(n);
            let began = Instant::now();
            connection.get(&path);
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    micros.sort_by(f64::total_cmp);
    [0.5, 0.99].map(|share| format!("{:.0}", quantile(&micros, share))).to_vec()
}
