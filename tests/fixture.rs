//! Data directories that were written by this and earlier versions load for ever after: the real binary serves each of
//! them, and everything in it is what it was when it was written.
//!
//! One folder each, `tests/fixtures/state-F.R`, F and R being the versions of the files and of the rows in them:
//!
//! - `data.zst`: the data directory, a list of names and contents in postcard's format
//! - `resources.ndjson`, `quarantine.ndjson`: what was served, orphans and the bytes of rejects included
//! - `told.json`: position and epoch of the last answer, the runs of the generation, the states in it
//! - `again.jsonl.zst`: records that were read, at new offsets; none of them may change anything
//!
//! A new version of either makes its own: `TARN_WRITE_FIXTURE=1 cargo test --test it fixture` writes the folder of the
//! current versions. One that is there is never written over, since what was given out cannot be changed any more; an
//! unpublished one is deleted by hand before.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use tarn::durable::rows::ROWS_VERSION;
use tarn::snapshot::FORMAT_VERSION;

use crate::command_line::{ANY_PORTS, Process, addresses, run, tarn};
use crate::durable::{drain, everything};
use crate::served::{eventually, get};

/// A hundred years: what is deleted is remembered whenever this runs.
const REMEMBERED_MS: &str = "3155760000000";
/// Records sent again stand so far behind those that they repeat.
const AGAIN: i64 = 1_000_000;

fn fixtures() -> PathBuf {
    PathBuf::from("tests/fixtures")
}

/// A service that takes no snapshot but its last.
fn serve(log: &Path, data: &Path) -> Command {
    let mut command = tarn(&["serve"]);
    command.envs(ANY_PORTS).env("TARN_SOURCE__KIND", "log").env("TARN_SOURCE__LOG__PATH", log);
    command.env("TARN_SNAPSHOT__DIRECTORY", data).env("TARN_SNAPSHOT__INTERVAL_MS", "86400000");
    command.env("TARN_FOLD__TOMBSTONE_RETENTION_MS", REMEMBERED_MS).env("TARN_HTTP__DRAIN_MS", "0");
    command
}

/// A process, where readers connect, and where operators do; what it had to read is read.
fn served(log: &Path, data: &Path) -> (Process, SocketAddr, SocketAddr) {
    let mut process = Process::start(&mut serve(log, data));
    let (readers, operators, rest) = addresses(&mut process);
    drain(rest);
    eventually("ready", || get(readers, "/readyz").status == 200);
    (process, readers, operators)
}

fn stop(mut process: Process) {
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
}

/// Every entry of the quarantine with its bytes, without the instant of the answer.
fn quarantine(readers: SocketAddr, operators: SocketAddr) -> Vec<Value> {
    let list = get(readers, "/api/tarn/v1/quarantine?limit=1000").json();
    let entries = list["items"].as_array().expect("a list").iter().map(|entry| {
        let id = entry["id"].as_str().expect("an id");
        let mut whole = get(operators, &format!("/api/tarn/v1/quarantine/{id}")).json();
        let fields = whole.as_object_mut().expect("an entry");
        for name in ["asOf", "epoch", "position", "consistencyToken", "source", "complete"] {
            assert!(fields.remove(name).is_some(), "{id} is found: {fields:?}");
        }
        whole
    });
    entries.collect()
}

/// States that are held, live or deleted.
fn states(readers: SocketAddr) -> Value {
    let status = get(readers, "/api/tarn/v1/status").json();
    let arrangements = status["arrangements"].as_array().expect("a list");
    arrangements.iter().find(|one| one["name"] == "states").expect("it is there")["updates"].clone()
}

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

fn ndjson(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("it is committed");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Whether everything expected is found as it was; later versions may say more.
fn assert_same(expected: &[Value], found: &[Value], key: &str) {
    for (expected, found) in expected.iter().zip(found) {
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(found.get(name), Some(value), "{name} of {}", expected[key]);
        }
    }
    assert_eq!(expected.len(), found.len(), "by {key}");
}

type Names = Vec<(String, Option<Vec<u8>>)>;

/// The names below a folder: files with their contents, folders before what is in them. The lock is nobody's state.
fn names(folder: &Path, below: &str, found: &mut Names) {
    let mut entries: Vec<_> = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries.iter().filter(|entry| entry.file_name() != "LOCK") {
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            found.push((name.clone(), None));
            names(&entry.path(), &format!("{name}/"), found);
        } else {
            found.push((name, Some(fs::read(entry.path()).expect("readable"))));
        }
    }
}

fn unpack(archive: &Path, into: &Path) {
    let packed = fs::read(archive).expect("it is committed");
    let names: Names = postcard::from_bytes(&zstd::decode_all(&packed[..]).expect("whole")).expect("a list");
    let make = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path).expect("a folder");
    make(into);
    for (name, contents) in names {
        match contents {
            Some(bytes) => fs::write(into.join(name), bytes).expect("room"),
            None => make(&into.join(name)),
        }
    }
}

#[test]
fn what_any_version_wrote_is_loaded_as_it_was() {
    let current = fixtures().join(format!("state-{FORMAT_VERSION}.{ROWS_VERSION}"));
    if std::env::var_os("TARN_WRITE_FIXTURE").is_some() {
        write(&current);
    }
    let folders = fs::read_dir(fixtures()).expect("fixtures").map(|entry| entry.expect("an entry").path());
    let of_states = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("state-"));
    let folders: Vec<PathBuf> = folders.filter(of_states).collect();
    assert!(folders.contains(&current), "the current format has no fixture: `//!` says how it is made");
    for fixture in folders {
        is_loaded(&fixture);
    }
}

fn is_loaded(fixture: &Path) {
    println!("{}", fixture.display());
    let folder = tempfile::tempdir().expect("a folder");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    unpack(&fixture.join("data.zst"), &data);
    let told: Value =
        serde_json::from_str(&fs::read_to_string(fixture.join("told.json")).expect("it is committed")).expect("JSON");
    let (resources, rejects) = (ndjson(&fixture.join("resources.ndjson")), ndjson(&fixture.join("quarantine.ndjson")));
    assert_eq!(runs(&data), told["runs"]);

    fs::write(&log, "").expect("room");
    let (process, readers, operators) = served(&log, &data);
    let is_as_told = |readers, operators| {
        let found: Vec<Value> = everything(readers).into_values().collect();
        assert_same(&resources, &found, "resourceId");
        assert_same(&rejects, &quarantine(readers, operators), "id");
    };
    is_as_told(readers, operators);
    let instant = get(readers, "/api/tarn/v1/position").json();
    assert_eq!(instant["position"], told["position"]);
    assert!(instant["epoch"].as_u64() >= told["epoch"].as_u64(), "{instant}");
    eventually("time goes on", || {
        let now = get(readers, "/api/tarn/v1/position").json();
        assert_eq!(now["position"], told["position"]);
        now["epoch"].as_u64() > instant["epoch"].as_u64()
    });
    assert_eq!(states(readers), told["states"], "tombstones are there");
    stop(process);

    // With what is remembered of events and rejects, none of them counts a second time.
    let again = zstd::decode_all(&fs::read(fixture.join("again.jsonl.zst")).expect("it is committed")[..]);
    let again = again.expect("whole");
    fs::write(&log, &again).expect("room");
    let (process, readers, operators) = served(&log, &data);
    is_as_told(readers, operators);
    let status = get(readers, "/api/tarn/v1/status").json();
    let counters = &status["counters"];
    assert_eq!(counters["records"], json!(memchr::memchr_iter(b'\n', &again).count()));
    let applied = counters["byReason"]["applied"].as_object().expect("counts");
    assert!(applied.values().all(|count| count == 0), "{applied:?}");
    stop(process);
}

/// How many runs the current generation has.
fn runs(data: &Path) -> Value {
    let output = run(&["snapshot", "list", "--json", &data.display().to_string()]);
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let generations = list["generations"].as_array().expect("a list");
    let current = generations.iter().find(|generation| generation["current"] == true).expect("one counts");
    json!(current["runs"].as_array().expect("a list").len())
}

/// Writes the fixture of the current versions: a life over half a log, whose stop makes a base, and one over all of it,
/// whose stop adds an increment.
fn write(fixture: &Path) {
    fs::create_dir(fixture).expect("a fixture is written once");
    let folder = tempfile::tempdir().expect("a folder");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let whole = folder.path().join("whole").display().to_string();
    let sizes = ["generate", "--events", "900", "--resources", "250", "--zipf", "0.7", "-o", &whole];
    let faults = ["--deletes", "0.08", "--revivals", "0.3", "--ghosts", "0.04", "--poison", "0.02", "--legacy", "0.03"];
    assert!(run(&[&sizes[..], &faults].concat()).status.success());
    let records = fs::read_to_string(&whole).expect("UTF-8");
    let half = records.lines().take(450).map(|line| format!("{line}\n")).collect::<String>() + "this is no record\n";
    let rest: Vec<&str> = records.lines().skip(450).collect();

    fs::write(&log, &half).expect("room");
    stop(served(&log, &data).0);
    fs::write(&log, format!("{half}{}\n", rest.join("\n"))).expect("room");
    let (process, readers, operators) = served(&log, &data);
    let (resources, rejects) = (everything(readers), quarantine(readers, operators));
    let instant = get(readers, "/api/tarn/v1/position").json();
    stop(process);

    let orphans = resources.values().filter(|one| !one["orphanedBy"].is_null()).count();
    let rejected: Vec<&str> = rejects.iter().filter_map(|entry| entry["id"].as_str()).collect();
    let is_rejected = |line: &str| {
        let record: Value = serde_json::from_str(line).expect("JSON");
        rejected.contains(&&*format!("{}:0:{}", record["topic"].as_str().expect("a topic"), record["offset"]))
    };
    let again: String = rest.iter().filter(|line| !is_rejected(line)).map(|line| later(line)).collect();
    let mut packed = Names::new();
    names(&data, "", &mut packed);
    fs::write(&log, "").expect("room");
    let (process, readers, _) = served(&log, &data);
    let told = json!({
        "epoch": instant["epoch"], "position": instant["position"], "runs": runs(&data), "states": states(readers),
    });
    drop(process);
    let deleted = told["states"].as_u64().expect("a number").saturating_sub(resources.len() as u64);
    println!("{} resources, {orphans} orphans, {deleted} tombstones, {} rejects", resources.len(), rejects.len());
    assert!(told["runs"] == 2 && orphans > 0 && deleted > 0 && rejects.len() > 3, "{told}");

    let packed = postcard::to_allocvec(&packed).expect("memory");
    fs::write(fixture.join("data.zst"), zstd::encode_all(&packed[..], 19).expect("memory")).expect("room");
    fs::write(fixture.join("again.jsonl.zst"), zstd::encode_all(again.as_bytes(), 19).expect("memory")).expect("room");
    let resources: Vec<Value> = resources.into_values().collect();
    fs::write(fixture.join("resources.ndjson"), lines(&resources)).expect("room");
    fs::write(fixture.join("quarantine.ndjson"), lines(&rejects)).expect("room");
    fs::write(fixture.join("told.json"), format!("{told:#}\n")).expect("room");
}

/// The same record further on in the log.
fn later(line: &str) -> String {
    let record: Value = serde_json::from_str(line).expect("JSON");
    let offset = record["offset"].as_i64().expect("a number");
    line.replacen(&format!("\"offset\":{offset},"), &format!("\"offset\":{},", offset + AGAIN), 1) + "\n"
}
