//! Resident memory a live host: a million of them, each created and updated three times, in the running service.
//!
//! `cargo bench --bench memory`; `TARN_BENCH_RESOURCES` changes its size. The log comes by a pipe from a generator in a
//! process of its own.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::server::Server;
use support::{TARN, print_table, setting};

fn main() {
    let resources = setting("TARN_BENCH_RESOURCES", 1_000_000);
    let events = resources * 4;
    let mut generator = Command::new(TARN)
        .args(["generate", "--hosts-only", "--zipf", "0", "--deletes", "0"])
        .args(["--events", &events.to_string(), "--resources", &resources.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let settings = [("TARN_SOURCE__KIND", "log".to_owned()), ("TARN_SOURCE__LOG__PATH", "-".to_owned())];
    let server = Server::start(&settings, generator.stdout.take().unwrap().into());
    let base = server.memory_bytes("VmRSS");
    let began = Instant::now();
    let mut created = 0;
    while server.metric("tarn_records_total") < events as f64 {
        assert!(began.elapsed() < Duration::from_secs(1_200), "the log is not read in time");
        if created == 0 && server.metric("tarn_records_total") >= resources as f64 {
            created = server.memory_bytes("VmRSS");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    server.wait_ready();
    generator.wait().unwrap();
    let at_end = server.memory_bytes("VmRSS");
    std::thread::sleep(Duration::from_secs(10));
    let at_rest = server.memory_bytes("VmRSS");
    let live = server.metric("tarn_events_applied_total{reason=\"created\"}");
    assert!(live == 0.0 || live as u64 == resources, "every host is there");
    let row = |what: &str, bytes: u64| {
        let each = bytes as f64 / resources as f64;
        vec![what.to_owned(), format!("{:.0}", bytes as f64 / 1e6), format!("{each:.0}")]
    };
    let rows = [
        row("before the first record", base),
        row("when all are created", created),
        row("at the end of three updates each", at_end),
        row("ten seconds later", at_rest),
        row("at most", server.memory_bytes("VmHWM")),
    ];
    print_table(&format!("memory: {resources} live hosts"), &["when", "RSS, MB", "bytes a resource"], &rows);
}
