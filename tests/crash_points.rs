//! The real binary killed at named points: before one chosen system call of one file, by strace, with nothing in the
//! binary that knows of it. After every kill it is started again and shows what a replay shows that nothing interrupts.
//!
//! The names S1 to S12 say what is being done: reading and folding (S1, S2), a generation from its begin to `CURRENT`
//! (S3 to S8), the removal of what is old (S9), an opening of sled (S10), sealing again (S11), the last snapshot (S12).
//! To a process that is killed a call that was made is done, fsynced or not; what a power cut adds is asked of
//! simulated files (`snapshot_simulation`).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::command_line::{Process, addresses, run, tarn, text};
use crate::durable::{drain, everything, log, next_offset, quarantine, replayed, serve, started};
use crate::property::number;
use crate::served::{eventually, get};
use crate::snapshot_damage::copy_tree;
use crate::support::injected::{Injection, injected, may_inject};

const EVENTS: i64 = 6_000;
/// Gives the log in so many parts.
const PARTS: usize = 150;

/// A log, and what a replay that nothing interrupts makes of it.
pub struct World {
    folder: TempDir,
    pub log: String,
    expected: (BTreeMap<String, Value>, Vec<String>),
}

impl World {
    pub fn new(events: i64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = log(folder.path(), &events.to_string());
        let expected = replayed(&log, folder.path());
        Self { folder, log, expected }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Started again on what is left, with nothing in its way, it ends as if nothing had been.
    pub fn assert_goes_on(&self, data: &Path, what: &str) {
        let (mut process, readers) = started(&mut serve(&self.log, data));
        eventually(&format!("{what}: the log is read"), || get(readers, "/readyz").status == 200);
        self.assert_right(readers, what);
        process.signal(Signal::TERM);
        assert_eq!(process.end(), Some(0), "{what}");
        let newest = newest_generation(data).to_string();
        let verified = run(&["snapshot", "verify", &data.display().to_string(), "--generation", &newest]);
        assert!(verified.status.success(), "{what}: {verified:?}");
    }

    /// Begins with nothing, and is killed at a point.
    fn kill_at(&self, point: Point) {
        // There may be none yet.
        drop(fs::remove_dir_all(self.path("data")));
        self.kill_again_at(point);
    }

    /// Goes on with what is there, and is killed at a point.
    fn kill_again_at(&self, (what, call, nth, file): Point) {
        let data = self.path("data");
        let mut command = serve("-", &data);
        command.env("TARN_SNAPSHOT__INTERVAL_MS", "10");
        let mut command = injected(&command, &Injection::kill(call, nth, self.path(file)), &self.path("trace"));
        let mut process = Process::start(command.stdin(Stdio::piped()));
        feed(&mut process, &self.log, data);
        assert_killed(what, process);
    }

    /// It shows what a replay shows.
    pub fn assert_right(&self, readers: SocketAddr, what: &str) {
        let found = everything(readers);
        for (id, expected) in &self.expected.0 {
            assert_eq!(found.get(id), Some(expected), "{what}: {id}");
        }
        assert_eq!(found.len(), self.expected.0.len(), "{what}");
        assert_eq!(quarantine(readers), self.expected.1, "{what}");
    }
}

/// The generation that counts; the newest, where a kill came before any did.
pub fn newest_generation(data: &Path) -> u64 {
    let listed = run(&["snapshot", "list", "--json", &data.display().to_string()]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let generations = listed["generations"].as_array().expect("a list");
    let current = generations.iter().find(|one| one["current"] == true);
    let newest = current.or(generations.first()).expect("there is one");
    newest["number"].as_u64().expect("a number")
}

/// Gives a process the log as its standard input until it ends, a part when a snapshot of what came before was taken: so
/// there are many, however slow the machine is.
fn feed(process: &mut Process, log: &str, data: PathBuf) {
    let mut input = process.0.stdin.take().expect("a pipe");
    let bytes = fs::read(log).expect("a log");
    std::thread::spawn(move || {
        let mut before = 0;
        for some in bytes.chunks(bytes.len() / PARTS + 1) {
            // It has been killed, as it should be.
            if input.write_all(some).is_err() {
                return;
            }
            let until = Instant::now() + Duration::from_millis(400);
            while snapshots_in(&data) == before && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
            }
            before = snapshots_in(&data);
        }
        // An end of the log would end what can be met.
        std::thread::sleep(Duration::from_secs(30));
    });
}

/// Changes with every snapshot: the size of all manifests, and the newest generation.
fn snapshots_in(data: &Path) -> u64 {
    let generations = fs::read_dir(data).into_iter().flatten().flatten();
    let finished = generations.filter(|one| one.file_name().to_string_lossy().starts_with("gen-"));
    let manifests = finished.filter_map(|one| fs::metadata(one.path().join("MANIFEST")).ok()).map(|file| file.len());
    let current = fs::metadata(data.join("CURRENT")).and_then(|file| file.modified()).ok();
    let switched = current.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map_or(0, |at| at.as_millis() as u64);
    manifests.sum::<u64>().wrapping_add(switched)
}

/// Runs a command until the kill comes.
fn assert_killed(what: &str, mut process: Process) {
    let mut status = None;
    eventually(&format!("{what}: it is killed"), || {
        status = process.0.try_wait().expect("it is ours");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.signal()), Some(9), "{what}: {status:?}");
}

/// What is being done; the call before which the kill comes; the file that it is about.
type Point = (&'static str, &'static str, u32, &'static str);

const POINTS: [Point; 24] = [
    ("S1: some of the log was read", "write", 1, "data/bindings-000002.log"),
    ("S2: in the middle of what was read", "write", 1, "data/bindings-000003.log"),
    ("S3: a generation begins", "mkdir", 1, "data/gen.tmp-000002"),
    ("S3: it has a directory", "mkdir", 1, "data/gen.tmp-000002/store"),
    ("S4: the store's settings", "write", 2, "data/gen.tmp-000002/store/conf"),
    ("S4: the first rows", "pwrite64", 1, "data/gen.tmp-000002/store/db"),
    ("S4: rows are on their way to the disk", "sync_file_range", 1, "data/gen.tmp-000002/store/db"),
    ("S4: rows are written", "fsync", 1, "data/gen.tmp-000002/store/db"),
    ("S5: before the manifest", "unlink", 1, "data/gen.tmp-000002/MANIFEST.tmp"),
    ("S6: the manifest is empty", "write", 1, "data/gen.tmp-000002/MANIFEST.tmp"),
    ("S6: the manifest is not fsynced", "fsync", 1, "data/gen.tmp-000002/MANIFEST.tmp"),
    ("S6: the manifest has no name", "rename", 1, "data/gen.tmp-000002/MANIFEST.tmp"),
    ("S6: an increment's manifest is empty", "write", 1, "data/gen-000002/MANIFEST.tmp"),
    ("S6: an increment's manifest is not fsynced", "fsync", 1, "data/gen-000002/MANIFEST.tmp"),
    ("S6: an increment's manifest has no name", "rename", 1, "data/gen-000002/MANIFEST.tmp"),
    ("S7: the manifest's name is not fsynced", "fsync", 1, "data/gen.tmp-000002"),
    ("S7: the generation has no name", "rename", 1, "data/gen.tmp-000002"),
    ("S7: the generation's name is not fsynced", "fsync", 4, "data"),
    ("S7: the first CURRENT is empty", "write", 1, "data/CURRENT.tmp"),
    ("S8: CURRENT is the new one", "unlink", 1, "data/bindings-000001.log"),
    ("S9: what is old is there", "unlinkat", 1, "data/gen-000001"),
    ("S9: what is old is half removed", "unlinkat", 2, "data/gen-000001/store"),
    ("S9: what is old is nearly removed", "unlinkat", 2, "data/gen-000001"),
    ("S9: old bindings are half removed", "unlink", 1, "data/bindings-000002.log"),
];

/// The same where there are generations before.
const POINTS_OF_A_SWITCH: [Point; 3] = [
    ("S7: the next CURRENT is empty", "write", 1, "data/CURRENT.tmp"),
    ("S7: the next CURRENT is not fsynced", "fsync", 1, "data/CURRENT.tmp"),
    ("S7: CURRENT is the old one", "rename", 1, "data/CURRENT.tmp"),
];

#[test]
fn killed_at_named_points_it_ends_as_if_nothing_had_been() {
    if !may_inject("killed_at_named_points") {
        return;
    }
    let world = World::new(EVENTS);
    for (what, call, nth, file) in POINTS {
        let data = world.path("data");
        world.kill_at((what, call, nth, file));
        world.assert_goes_on(&data, what);
    }
    for point in POINTS_OF_A_SWITCH {
        let data = with_increments(&world);
        world.kill_again_at(point);
        assert_eq!(newest_generation(&data), 2, "{}", point.0);
        world.assert_goes_on(&data, point.0);
    }
}

/// Killed before the call of the last snapshot, which a signal begins.
const POINTS_OF_THE_END: [Point; 7] = [
    ("S12: the last snapshot begins", "mkdir", 1, "data/gen.tmp-000001"),
    ("S12: the last snapshot's rows", "pwrite64", 1, "data/gen.tmp-000001/store/db"),
    ("S12: the last snapshot's manifest", "rename", 1, "data/gen.tmp-000001/MANIFEST.tmp"),
    ("S12: the last snapshot's name", "rename", 1, "data/gen.tmp-000001"),
    ("S12: CURRENT is empty", "write", 1, "data/CURRENT.tmp"),
    ("S12: there is no CURRENT", "rename", 1, "data/CURRENT.tmp"),
    ("S12: the journal's end", "fsync", 1, "data/bindings-000002.log"),
];

#[test]
fn killed_in_its_last_snapshot_it_ends_as_if_nothing_had_been() {
    if !may_inject("killed_in_its_last_snapshot") {
        return;
    }
    let world = World::new(EVENTS);
    for (what, call, nth, file) in POINTS_OF_THE_END {
        let data = world.path("data");
        drop(fs::remove_dir_all(&data));
        let mut command = serve(&world.log, &data);
        command.env("TARN_SNAPSHOT__INTERVAL_MS", "3600000").env("TARN_INGEST__EPOCH_RECORDS_MAX", "1000");
        let mut command = injected(&command, &Injection::kill(call, nth, world.path(file)), &world.path("trace"));
        let mut process = Process::start(command.stderr(Stdio::piped()));
        let (readers, _, rest) = addresses(&mut process);
        drain(rest);
        eventually("the log is read", || next_offset(readers) >= EVENTS);
        process.signal(Signal::TERM);
        assert_killed(what, process);
        world.assert_goes_on(&data, what);
    }
}

#[test]
fn killed_twenty_times_while_it_comes_back_it_comes_back() {
    if !may_inject("killed_twenty_times") {
        return;
    }
    let seed = number("TARN_SEED").unwrap_or_else(rand::random);
    println!("TARN_SEED={seed} cargo test --test it killed_twenty_times");
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new(EVENTS);
    // With epochs that were shown after the snapshot, which are sealed again every time.
    world.kill_at(("S11", "write", 1, "data/bindings-000003.log"));
    let data = world.path("data");
    for _ in 0..20 {
        let mut process = Process::start(serve(&world.log, &data).env("TARN_SNAPSHOT__INTERVAL_MS", "3600000"));
        std::thread::sleep(Duration::from_millis(random.random_range(10..250)));
        process.0.kill().expect("it is there");
        process.0.wait().expect("it is ours");
    }
    world.assert_goes_on(&data, "S11");
}

/// A data directory whose newest generation has more than its sled's own snapshot says.
pub fn with_increments(world: &World) -> PathBuf {
    world.kill_at(("S10", "rename", 1, "data/gen-000002/MANIFEST.tmp"));
    world.path("data")
}

pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn killed_while_sled_opens_a_generation_it_loads_the_same_one() {
    if !may_inject("killed_while_sled_opens") {
        return;
    }
    let world = World::new(EVENTS);
    let original = with_increments(&world);
    let (mut kills, mut torn) = (0, 0);
    for (call, nth) in
        ["write", "pwrite64", "fsync", "rename"].into_iter().flat_map(|call| [1, 2, 3].map(|nth| (call, nth)))
    {
        let data = world.path("copy");
        drop(fs::remove_dir_all(&data));
        copy_tree(&original, &data);
        let generation = data.join("gen-000002");
        let open = tarn(&["snapshot", "verify-store", &generation.display().to_string()]);
        let mut injection = Injection::kill(call, nth, data.clone());
        injection.files.clear();
        let status = injected(&open, &injection, &world.path("trace")).status().expect("it runs");
        kills += u32::from(status.signal() == Some(9));
        torn += names(&generation.join("store")).iter().filter(|name| name.ends_with(".generating")).count();
        let verified = run(&["snapshot", "verify", &data.display().to_string()]);
        let good = "generation 2 is good\ngeneration 1 is good\n";
        assert_eq!((verified.status.code(), text(&verified.stdout).as_str()), (Some(0), good), "{call} {nth}");
    }
    assert!(kills >= 5 && torn >= 3, "{kills} kills, {torn} torn files");
    world.assert_goes_on(&original, "S10");
}

#[test]
fn a_verifying_process_that_is_killed_condemns_nothing() {
    if !may_inject("a_verifying_process_that_is_killed") {
        return;
    }
    let world = World::new(EVENTS);
    let data = with_increments(&world);
    // As by whoever frees memory: every one of them, of both generations.
    let mut injection = Injection::kill("flock", 1, data.join("gen-000002/store/db"));
    injection.files.push(data.join("gen-000001/store/db"));
    let started = injected(&serve(&world.log, &data), &injection, &world.path("trace")).stderr(Stdio::piped()).output();
    let output = started.expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("SIGKILL"), "{output:?}");
    assert!(!names(&data).iter().any(|name| name.starts_with("condemned")), "{:?}", names(&data));
    world.assert_goes_on(&data, "after that");
}
