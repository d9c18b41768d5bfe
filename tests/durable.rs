//! What outlives the process, shown on the real binary: killed at any moment it goes on as if nothing had been; one
//! directory has one process; a directory that goes away stops nothing.
//!
//! `TARN_KILLS=10000 cargo test --test it durable` kills more often; `TARN_SEED=n` chooses the moments.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::Value;

use crate::command_line::{ANY_PORTS, Process, addresses, run, tarn, text};
use crate::property::number;
use crate::served::{eventually, get};

/// A log with replays, deletes, orphans and poison.
pub fn log(folder: &Path, events: &str) -> String {
    let path = folder.join("log.ndjson").display().to_string();
    let sizes = ["generate", "--events", events, "--resources", "500", "-o", &path];
    let faults =
        ["--replays", "0.002", "--deletes", "0.05", "--revivals", "0.5", "--ghosts", "0.02", "--poison", "0.01"];
    let output = run(&[&sizes[..], &faults].concat());
    assert!(output.status.success(), "{output:?}");
    path
}

/// A service over a log and a data directory, in small epochs so that there is a middle to be killed in.
pub fn serve(log: &str, data: &Path) -> Command {
    let mut command = tarn(&["serve"]);
    command.envs(ANY_PORTS).env("TARN_SOURCE__KIND", "log").env("TARN_SOURCE__LOG__PATH", log);
    command.env("TARN_SNAPSHOT__DIRECTORY", data).env("TARN_SNAPSHOT__INTERVAL_MS", "30");
    command.env("TARN_INGEST__EPOCH_RECORDS_MAX", "40").env("TARN_INGEST__IN_FLIGHT_EPOCHS_MAX", "1");
    command.env("TARN_HTTP__DRAIN_MS", "0");
    command
}

/// The rest of a process's log goes nowhere.
pub fn drain(mut log: impl Read + Send + 'static) {
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
}

pub fn started(command: &mut Command) -> (Process, SocketAddr) {
    let mut process = Process::start(command);
    let (readers, _, log) = addresses(&mut process);
    drain(log);
    (process, readers)
}

pub fn next_offset(readers: SocketAddr) -> i64 {
    let position = get(readers, "/api/tarn/v1/position").json();
    let partitions = position["position"].as_array().cloned().unwrap_or_default();
    let of_resources = partitions.iter().find(|one| one["topic"] == "outbox.event.kessel.resources");
    of_resources.and_then(|one| one["offset"].as_i64()).unwrap_or(0)
}

/// Every resource, by id; orphans too.
pub fn everything(readers: SocketAddr) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for orphaned in ["false", "true"] {
        let mut token = String::new();
        loop {
            let page = get(readers, &format!("/api/tarn/v1/resources?limit=500&orphaned={orphaned}{token}")).json();
            for one in page["items"].as_array().expect("a page") {
                found.insert(one["resourceId"].as_str().expect("an id").to_owned(), one.clone());
            }
            let Some(next) = page["nextPageToken"].as_str() else { break };
            token = format!("&pageToken={next}");
        }
    }
    found
}

/// The same from a replay that nothing interrupts and that keeps nothing; and its quarantine, as coordinates and status.
pub fn replayed(log: &str, folder: &Path) -> (BTreeMap<String, Value>, Vec<String>) {
    let dump = folder.join("dump");
    let output = run(&["replay", log, "--dump", &dump.display().to_string()]);
    assert!(output.status.success(), "{output:?}");
    let lines = |name: &str| -> Vec<Value> {
        let lines = std::fs::read_to_string(dump.join(name)).expect("a dump");
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let resources = lines("resources.ndjson").into_iter().chain(lines("orphaned_resources.ndjson"));
    let by_id = resources.map(|one| (one["resourceId"].as_str().expect("an id").to_owned(), one)).collect();
    (by_id, lines("quarantine.ndjson").iter().map(|entry| format!("{} {}", entry["id"], entry["status"])).collect())
}

pub fn quarantine(readers: SocketAddr) -> Vec<String> {
    let list = get(readers, "/api/tarn/v1/quarantine?limit=1000").json();
    let entries = list["items"].as_array().expect("a list");
    entries.iter().map(|entry| format!("{} {}", entry["id"], entry["status"])).collect()
}

#[test]
fn killed_at_any_moment_it_ends_as_if_nothing_had_been() {
    let seed = number("TARN_SEED").unwrap_or_else(rand::random);
    println!("TARN_SEED={seed} cargo test --test it durable");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(folder.path(), "20000");
    let data = folder.path().join("data");
    let mut reached = 0;
    // What was shown: an epoch never names another position again, whatever happens in between.
    let mut shown: BTreeMap<u64, Value> = BTreeMap::new();
    for kill in 0..number("TARN_KILLS").unwrap_or(70) {
        let mut process = Process::start(&mut serve(&log, &data));
        let killed_at = Instant::now() + Duration::from_millis(random.random_range(0..700));
        if random.random_bool(0.7) {
            let (readers, _, rest) = addresses(&mut process);
            drain(rest);
            while Instant::now() < killed_at {
                let answer = get(readers, "/api/tarn/v1/position").json();
                let epoch = answer["epoch"].as_u64().expect("an epoch");
                let before = shown.insert(epoch, answer["position"].clone());
                assert!(before.is_none_or(|before| before == answer["position"]), "epoch {epoch} was another one");
                reached = reached.max(next_offset(readers));
            }
        } else {
            std::thread::sleep(killed_at.saturating_duration_since(Instant::now()));
        }
        process.0.kill().expect("it is there");
        process.0.wait().expect("it is ours");
        assert!(data.exists() || kill < 3, "it came as far as its directory");
    }
    let (mut process, readers) = started(&mut serve(&log, &data));
    let (expected, in_quarantine) = replayed(&log, folder.path());
    eventually("the log is read", || get(readers, "/readyz").status == 200);
    assert!(reached > 0);
    let found = everything(readers);
    for (id, expected) in &expected {
        assert_eq!(found.get(id), Some(expected), "{id}");
    }
    assert_eq!(found.len(), expected.len());
    assert_eq!(quarantine(readers), in_quarantine);
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
    // Stopped before there is a new epoch.
    let (mut process, _) = started(&mut serve(&log, &data));
    process.signal(Signal::TERM);
    let stopped_at = Instant::now();
    assert_eq!(process.end(), Some(0));
    assert!(stopped_at.elapsed() < Duration::from_secs(8), "{:?}", stopped_at.elapsed());
    // What was read is read no more.
    let (_process, readers) = started(&mut serve(&log, &data));
    eventually("the log is looked through", || {
        let status = get(readers, "/api/tarn/v1/status").json();
        let counters = &status["counters"];
        let applied: u64 = counters["byReason"]["applied"]
            .as_object()
            .map_or(0, |counts| counts.values().filter_map(Value::as_u64).sum());
        assert_eq!(applied, 0, "{status}");
        counters["records"].as_u64() >= Some(20_000)
    });
    assert_eq!(everything(readers), found);
}

#[test]
fn a_directory_has_one_process_and_is_the_owners_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(folder.path(), "200");
    let data = folder.path().join("data");
    let (first, readers) = started(&mut serve(&log, &data));
    let second = serve(&log, &data).output().expect("it runs");
    assert_eq!(second.status.code(), Some(5), "{second:?}");
    let told = text(&second.stderr);
    assert!(told.contains("another tarn") && told.contains(&first.0.id().to_string()), "{told}");
    assert_eq!(get(readers, "/livez").status, 200, "the first one does not care");
    drop(first);
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    let refused = serve(&log, &data).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let generator = tarn(&["serve"])
        .env("TARN_SOURCE__KIND", "generator")
        .env("TARN_SNAPSHOT__DIRECTORY", &data)
        .output()
        .expect("it runs");
    assert_eq!(generator.status.code(), Some(2), "{generator:?}");
    assert!(text(&generator.stderr).contains("snapshot.directory"), "{generator:?}");
}

#[test]
fn a_directory_that_goes_away_stops_nothing_and_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(folder.path(), "5000");
    let data = folder.path().join("data");
    let (mut process, readers) = started(&mut serve(&log, &data));
    std::fs::rename(&data, folder.path().join("elsewhere")).expect("ours");
    eventually("the log is read", || next_offset(readers) >= 5_000);
    eventually("it is told", || {
        let status = get(readers, "/api/tarn/v1/status").json();
        let snapshots = &status["snapshots"];
        snapshots["failed"].as_u64() > Some(0) && snapshots["lastError"].is_string()
    });
    assert!(!data.exists(), "nothing is written elsewhere");
    assert_eq!(get(readers, "/api/tarn/v1/resources?limit=1").status, 200);
    // With the directory snapshots are back.
    std::fs::rename(folder.path().join("elsewhere"), &data).expect("ours");
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
    let (_process, readers) = started(&mut serve(&log, &data));
    assert!(next_offset(readers) >= 5_000, "the last snapshot was taken");
}
