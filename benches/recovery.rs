//! A restart from a snapshot: how soon it is ready, what memory it takes at most, how large the directory is.
//!
//! `cargo bench --bench recovery`; `TARN_BENCH_RESOURCES` is the largest of its sizes. The first life reads a generated
//! log (mostly live resources of every type; a third of the records are updates) by a pipe from a process of its own and
//! is stopped by SIGTERM, whose snapshot is a base of everything. The second life gets a log of a few records that all
//! lie below the position: a log file is read from its beginning, and to read the whole of it again, only to drop it,
//! would be most of what is measured. Generations are verified in a child process before they are read; its memory is
//! not in the peak, since the parent has next to nothing by then.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::data::{self, NEVER_MS, generation, mb, settings, tree_bytes};
use support::server::Server;
use support::{TARN, print_table, setting};

/// Memory that was freed goes back to the system meanwhile.
const REST: Duration = Duration::from_secs(5);
const HEAD: [&str; 11] = [
    "resources",
    "stopped, s",
    "verified, s",
    "ready, s",
    "RSS before, MB",
    "peak after, MB",
    "ratio",
    "packed rows, MB",
    "generation, MB",
    "ratio",
    "directory, MB",
];

fn main() {
    let largest = setting("TARN_BENCH_RESOURCES", 1_000_000);
    let mut sizes: Vec<u64> = [100_000, 1_000_000].into_iter().filter(|size| *size < largest).collect();
    sizes.push(largest);
    let rows: Vec<_> = sizes.into_iter().map(restarted).collect();
    print_table("recovery: a restart from a base of everything", &HEAD, &rows);
}

/// A log with these resources to standard output, the same each time as far as it goes.
fn generator(resources: u64, events: u64) -> Command {
    let mut command = Command::new(TARN);
    command.args(["generate", "--zipf", "0", "--deletes", "0.02", "--resources", &resources.to_string()]);
    command.args(["--events", &events.to_string()]);
    command
}

/// Its resident memory at the end, some of its resources, and how long its stop took.
fn first_life(resources: u64, data: &Path) -> (u64, Vec<Value>, Duration) {
    let events = resources * 3 / 2;
    let mut log: Child = generator(resources, events).stdout(Stdio::piped()).spawn().unwrap();
    let server = Server::start(&settings("-", data, NEVER_MS), log.stdout.take().unwrap().into());
    server.wait_read(events);
    log.wait().unwrap();
    std::thread::sleep(REST);
    let (resident, found) = (server.memory_bytes("VmRSS"), server.resources(2_000));
    (resident, found, server.stop())
}

fn restarted(resources: u64) -> Vec<String> {
    let folder = data::folder();
    let (data, short) = (folder.path().join("data"), folder.path().join("short.jsonl"));
    let (before, found, stopped) = first_life(resources, &data);
    assert!(generator(resources, 100).arg("-o").arg(&short).status().unwrap().success());
    let began = Instant::now();
    assert!(
        Command::new(TARN).args(["snapshot", "verify"]).arg(&data).stdout(Stdio::null()).status().unwrap().success()
    );
    let verified = began.elapsed();
    let size = generation(&data);
    assert_eq!(size.runs, 1, "the last snapshot was a base");
    let directory = tree_bytes(&data);

    let began = Instant::now();
    let server = Server::start(&settings(&short.display().to_string(), &data, NEVER_MS), Stdio::null());
    server.wait_ready();
    let ready = began.elapsed();
    std::thread::sleep(REST);
    let peak = server.memory_bytes("VmHWM");
    assert!(server.resources(2_000) == found, "it is as it was");
    let seconds = |time: Duration| format!("{:.2}", time.as_secs_f64());
    let ratio = |a: u64, b: u64| format!("{:.2}", a as f64 / b as f64);
    vec![
        resources.to_string(),
        seconds(stopped),
        seconds(verified),
        seconds(ready),
        mb(before),
        mb(peak),
        ratio(peak, before),
        mb(size.packed_bytes),
        mb(size.on_disk_bytes),
        ratio(size.on_disk_bytes, size.packed_bytes),
        mb(directory),
    ]
}
