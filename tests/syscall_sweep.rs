//! Every system call that a checkpoint and a load make in the data directory, failing: EIO, ENOSPC, interrupted, said to
//! have been done and not done. The real binary under strace: each call of each thread, one at a time.
//!
//! A checkpoint is an import, which makes a base, verifies it and names it; a load is the start of the service. Whatever
//! fails: it goes on or ends with a code and words, never with a panic, never with a wrong answer; and without the fault
//! all is right again, in the same directory. `TARN_SWEEP=1000000` tries all of them, the default is a sample;
//! `TARN_SEED=n` chooses it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rustix::process::Signal;

use crate::command_line::{Process, run, tarn, text};
use crate::crash_points::{World, names, with_increments};
use crate::durable::{everything, serve, started};
use crate::property::number;
use crate::served::{eventually, get};
use crate::snapshot_damage::copy_tree;
use crate::support::injected::{Injection, injected, may_inject, traced};

/// The calls, and how each may fail.
const FAULTS: [(&str, &[&str]); 14] = [
    ("openat", &["error=EIO", "error=ENOSPC"]),
    ("mkdir", &["error=EIO", "error=ENOSPC"]),
    ("write", &["error=EIO", "error=ENOSPC", "error=EINTR", "retval=1"]),
    ("pwrite64", &["error=EIO", "error=ENOSPC", "error=EINTR", "retval=1"]),
    ("read", &["error=EIO", "error=EINTR", "retval=1"]),
    ("pread64", &["error=EIO", "error=EINTR", "retval=1"]),
    ("fsync", &["error=EIO", "error=ENOSPC"]),
    ("sync_file_range", &["error=EIO"]),
    ("ftruncate", &["error=EIO", "error=ENOSPC"]),
    ("rename", &["error=EIO", "error=ENOSPC"]),
    ("unlink", &["error=EIO"]),
    ("unlinkat", &["error=EIO"]),
    ("getdents64", &["error=EIO"]),
    ("flock", &["error=EIO"]),
];

/// What a trace of all those calls needs.
fn strace() -> Vec<String> {
    let calls = FAULTS.map(|(call, _)| call).join(",");
    let strace = ["-f", "-qq", "-y", "-s", "4096", "-e", "signal=none", "-e", &format!("trace={calls}")];
    strace.map(str::to_owned).to_vec()
}

/// Every fault of every call below `directory` that a trace shows, in the order of their names.
fn sweep(directory: &Path, trace: &Path) -> Vec<Injection> {
    let inside = directory.to_str().expect("UTF-8");
    let mut files: BTreeSet<PathBuf> = BTreeSet::new();
    let mut counts: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
    for line in fs::read_to_string(trace).expect("a trace").lines().filter(|line| line.contains(inside)) {
        let (thread, rest) = line.split_once(' ').expect("a thread");
        let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
        let places = arguments.match_indices(inside).map(|(place, _)| &arguments[place..]);
        files.extend(places.filter_map(|place| place.split(['"', '>']).next()).map(PathBuf::from));
        *counts.entry(call.to_owned()).or_default().entry(thread.to_owned()).or_default() += 1;
    }
    let files: Vec<PathBuf> = files.into_iter().collect();
    let mut all = Vec::new();
    for (call, faults) in FAULTS {
        let most = counts.get(call).and_then(|by_thread| by_thread.values().max()).copied().unwrap_or(0);
        for (nth, fault) in (1..=most).flat_map(|nth| faults.iter().map(move |fault| (nth, *fault))) {
            let (call, fault, when) = (call.to_owned(), fault.to_owned(), nth.to_string());
            all.push(Injection { call, fault, when, files: files.clone() });
        }
    }
    all
}

/// All of them, or as many as `TARN_SWEEP` or `default` says.
fn sample(test: &str, mut all: Vec<Injection>, default: u64) -> Vec<Injection> {
    let seed = number("TARN_SEED").unwrap_or_else(rand::random);
    let count = usize::try_from(number("TARN_SWEEP").unwrap_or(default)).unwrap_or(usize::MAX);
    println!("{} of {}: TARN_SEED={seed} cargo test --test it {test}", count.min(all.len()), all.len());
    all.shuffle(&mut StdRng::seed_from_u64(seed));
    all.truncate(count);
    all
}

/// What stands in a data directory, as lines, but for the life of the state, which an import begins anew; none where it
/// is said to be damaged.
fn exported(data: &Path) -> Option<Vec<String>> {
    let output = run(&["snapshot", "export", &data.display().to_string()]);
    if output.status.code() == Some(4) {
        return None;
    }
    assert!(output.status.success(), "{output:?}, in {:?}", names(data));
    Some(text(&output.stdout).lines().skip(1).map(str::to_owned).collect())
}

/// A data directory that a service has left, with two generations.
fn left(world: &World) -> PathBuf {
    let (data, left) = (with_increments(world), world.path("left"));
    world.assert_goes_on(&data, "before");
    fs::rename(&data, &left).expect("ours");
    left
}

/// That it ended in one of the ways that are allowed, with words.
fn assert_told(output: &Output, codes: &[i32], what: &str) {
    let code = output.status.code();
    assert!(code.is_some_and(|code| codes.contains(&code)), "{what}: {output:?}");
    let words = text(&output.stderr);
    let says = ["could not", "cannot", "damaged", "refused"].iter().any(|word| words.contains(word));
    assert!(says, "{what}: {words:?} says nothing");
    assert!(!words.contains("RUST_BACKTRACE"), "{what}: {words}");
}

#[test]
fn a_checkpoint_with_any_call_failing_is_told_and_right_afterwards() {
    if !may_inject("a_checkpoint_with_any_call") {
        return;
    }
    let world = World::new(300);
    let file = world.path("export.ndjson").display().to_string();
    let output = run(&["snapshot", "export", &left(&world).display().to_string(), &file]);
    assert!(output.status.success(), "{output:?}");
    let expected: Vec<String> = fs::read_to_string(&file).expect("a file").lines().skip(1).map(str::to_owned).collect();
    let data = world.path("imported");
    let path = data.display().to_string();
    let import = tarn(&["snapshot", "import", &file, &path]);
    let status = traced(&import, &strace(), &world.path("trace")).status().expect("it runs");
    assert!(status.success(), "without a fault: {status:?}");
    let all = sweep(&data, &world.path("trace"));
    assert_eq!(exported(&data).as_ref(), Some(&expected));
    let mut failed = 0;
    for injection in sample("a_checkpoint_with_any_call", all, 60) {
        let what = format!("{} {}, call {} of a thread", injection.call, injection.fault, injection.when);
        // Shown where it fails.
        println!("{what}");
        fs::remove_dir_all(&data).expect("it is there");
        let mut command = injected(&import, &injection, &world.path("trace"));
        let output = command.stderr(Stdio::piped()).output().expect("it runs");
        if !output.status.success() {
            failed += 1;
            // What did not verify has the code of damage.
            assert_told(&output, &[1, 4], &what);
            let again = run(&["snapshot", "import", &file, &path]);
            assert!(again.status.success(), "{what}: {again:?}");
        }
        let found = exported(&data);
        // What was said to be written and was not is met when it is read, if nobody reads it before.
        assert!(found.as_ref() == Some(&expected) || found.is_none() && injection.is_a_lie(), "{what}: {found:?}");
    }
    assert!(failed > 0, "some of them are met");
}

#[test]
fn an_import_that_was_killed_is_done_again_in_the_same_directory() {
    if !may_inject("an_import_that_was_killed") {
        return;
    }
    let world = World::new(300);
    let file = world.path("export.ndjson").display().to_string();
    let output = run(&["snapshot", "export", &left(&world).display().to_string(), &file]);
    assert!(output.status.success(), "{output:?}");
    let data = world.path("imported");
    let import = tarn(&["snapshot", "import", &file, &data.display().to_string()]);
    for (call, inside) in [
        ("mkdir", "gen.tmp-000001"),
        ("pwrite64", "gen.tmp-000001/store/db"),
        ("rename", "gen.tmp-000001"),
        ("write", "CURRENT.tmp"),
        ("rename", "CURRENT.tmp"),
    ] {
        let killed = injected(&import, &Injection::kill(call, 1, data.join(inside)), &world.path("trace")).status();
        assert_eq!(killed.expect("it runs").code(), None, "{call} {inside}");
        assert!(!names(&data).is_empty());
    }
    let again = run(&["snapshot", "import", &file, &data.display().to_string()]);
    assert!(again.status.success(), "{again:?}");
    assert_eq!(exported(&data).expect("it is good"), exported(&world.path("left")).expect("it is good"));
    let over = run(&["snapshot", "import", &file, &data.display().to_string()]);
    assert_eq!(over.status.code(), Some(2), "one that is done is not done over: {over:?}");
}

#[test]
fn a_load_with_any_call_failing_is_told_and_right_afterwards() {
    if !may_inject("a_load_with_any_call") {
        return;
    }
    let world = World::new(300);
    let original = left(&world);
    let data = world.path("data");
    copy_tree(&original, &data);
    let mut command = traced(&serve(&world.log, &data), &strace(), &world.path("trace"));
    let (mut process, readers) = started(command.stderr(Stdio::piped()));
    eventually("the log is read", || get(readers, "/readyz").status == 200);
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
    let all = sweep(&data, &world.path("trace"));
    let mut refused = 0;
    for injection in sample("a_load_with_any_call", all, 40) {
        let what = format!("{} {}, call {} of a thread", injection.call, injection.fault, injection.when);
        // Shown where it fails.
        println!("{what}");
        fs::remove_dir_all(&data).expect("it is there");
        copy_tree(&original, &data);
        let mut command = injected(&serve(&world.log, &data), &injection, &world.path("trace"));
        refused += u32::from(!serves(&world, command.stderr(Stdio::piped()), &what));
        // An error of the disk is no damage, and nothing is condemned for it; unless sled has met it, which believes it.
        let condemned = names(&data).iter().any(|name| name.starts_with("condemned"));
        let is_of_sled = injection.call == "pread64" || injection.call == "read";
        assert!(!condemned || is_of_sled || injection.is_a_lie(), "{what}: {:?}", names(&data));
        world.assert_goes_on(&data, &what);
    }
    println!("{refused} were refused");
}

/// Starts a service that may end at once; whether it serves, which must then be right.
fn serves(world: &World, command: &mut Command, what: &str) -> bool {
    let mut process = Process::start(command);
    let mut log = std::io::BufReader::new(process.0.stderr.take().expect("a pipe"));
    let mut words = String::new();
    loop {
        let read = std::io::BufRead::read_line(&mut log, &mut words).expect("a log");
        let line = words.lines().last().unwrap_or_default();
        if read == 0 {
            let status = process.0.wait().expect("it is ours");
            assert_told(&Output { status, stdout: Vec::new(), stderr: words.into_bytes() }, &[1, 4], what);
            return false;
        }
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        if let Some(readers) = line["fields"]["address"].as_str().and_then(|address| address.parse().ok()) {
            crate::durable::drain(log);
            eventually(&format!("{what}: the log is read"), || get(readers, "/readyz").status == 200);
            assert!(!everything(readers).is_empty());
            world.assert_right(readers, what);
            return true;
        }
    }
}
