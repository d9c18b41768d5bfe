//! The real binary: what it prints, what it refuses, with which code it ends, and what signals and broken or hung pipes
//! do to it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::adhoc::ask_with;
use crate::served::{eventually, exchange, get};

pub fn tarn(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tarn"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn run(arguments: &[&str]) -> Output {
    tarn(arguments).output().expect("it runs")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A process that does not outlive its test.
pub struct Process(pub Child);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("it runs"))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it is there");
    }

    /// The exit code, which comes in time.
    pub fn end(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the process ends", || {
            status = self.0.try_wait().expect("it is ours");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop((self.0.kill(), self.0.wait()));
    }
}

pub const ANY_PORTS: [(&str, &str); 3] = [
    ("TARN_HTTP__LISTEN", "127.0.0.1:0"),
    ("TARN_HTTP__ADMIN_LISTEN", "127.0.0.1:0"),
    // Tests of views say which.
    ("TARN_VIEWS__DIRECTORY", ""),
];

/// The demo on free ports.
fn demo(more: &[&str]) -> Command {
    let mut command = tarn(&[&["demo", "--resources", "300"], more].concat());
    command.envs(ANY_PORTS);
    command
}

/// Where a process says in its log that it serves; and the rest of its log, which must be read on.
pub fn addresses(process: &mut Process) -> (SocketAddr, SocketAddr, BufReader<std::process::ChildStderr>) {
    let mut log = BufReader::new(process.0.stderr.take().expect("a pipe"));
    let mut before = String::new();
    loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).expect("a log") > 0, "it ended before it served: {before}");
        before.push_str(&line);
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?} is JSON"));
        let address = |name: &str| line["fields"][name].as_str().and_then(|address| address.parse().ok());
        if let (Some(readers), Some(operators)) = (address("address"), address("admin_address")) {
            return (readers, operators, log);
        }
    }
}

/// A generated log with every fault.
fn log(folder: &Path) -> String {
    let path = folder.join("log.ndjson").display().to_string();
    let faults = ["--replays", "0.005", "--poison", "0.01", "--ghosts", "0.01", "--legacy", "0.05", "--tuples"];
    let sizes = ["generate", "--events", "3000", "--resources", "400", "-o", &path];
    let output = run(&[&sizes[..], &faults].concat());
    assert!(output.status.success(), "{output:?}");
    path
}

#[test]
fn the_demo_prints_lines_that_work() {
    let mut process = Process::start(&mut demo(&["--rate", "500"]));
    let mut printed = BufReader::new(process.0.stdout.take().expect("a pipe")).lines();
    let (readers, operators, mut log) = addresses(&mut process);
    let mut tried = 0;
    while tried < 5 {
        let line = printed.next().expect("five lines to try").expect("a line");
        let Some((_, rest)) = line.split_once("curl -s 'http://") else { continue };
        let (url, rest) = rest.split_once('\'').expect("quotes");
        let (host, path) = url.split_once('/').expect("a path");
        let host = host.parse().expect("an address");
        let answer = match rest.strip_prefix(" -d '") {
            Some(body) => ask_with(host, body.trim_end_matches('\'')),
            None => get(host, &format!("/{path}")),
        };
        assert!(answer.status == 200 && answer.json()["asOf"].is_string(), "{line}: {answer:?}");
        tried += 1;
    }
    assert!(get(operators, "/metrics").body.contains("tarn_records_total"));
    let epoch = || get(readers, "/api/tarn/v1/position").json()["epoch"].as_u64().expect("an epoch");
    let before = epoch();
    eventually("time goes on", || epoch() > before);
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("a log");
    for line in rest.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line:?} is JSON");
    }
    assert!(rest.contains("SIGTERM: draining") && rest.contains("stopped"), "{rest}");
}

#[test]
fn the_demo_ends_when_its_time_is_over_and_minds_the_environment() {
    let began = Instant::now();
    let mut command = demo(&["--seconds", "1"]);
    command.env("TARN_LOG__FILTER", "warn").env("TARN_HTTP__DRAIN_MS", "0");
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(began.elapsed() < Duration::from_secs(20) && output.stderr.is_empty(), "{output:?}");
    for arguments in [
        &["demo", "--rate", "0"][..],
        &["demo", "--rate", "-5"],
        &["demo", "--rate", "nan"],
        &["demo", "--resources", "0"],
        &["demo", "--resources", "18446744073709551615"],
        &["demo", "--listen", "127.0.0.1:28099", "--admin-listen", "127.0.0.1:28099"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "said once: {output:?}");
    }
}

/// What a replay reports and dumps, without what time tells.
fn replayed(log: &str, input: Option<&str>, more: &[&str]) -> (Value, BTreeMap<String, String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let dump = folder.path().join("dump").display().to_string();
    let mut command = tarn(&[&["replay", log, "--report", "json", "--dump", &dump], more].concat());
    if let Some(input) = input {
        command.stdin(File::open(input).expect("a file"));
    }
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let mut report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let report_fields = report.as_object_mut().expect("an object");
    // And without what the way of reading tells: how bytes were held, by how many, at which epochs.
    for of_reading in ["seconds", "timeToConsistentSeconds", "eventsPerSecond", "bytes", "workers", "epoch"] {
        assert!(report_fields.remove(of_reading).is_some_and(|value| value.is_number()), "{of_reading}");
    }
    let files = fs::read_dir(&dump).expect("a dump").map(|entry| entry.expect("a file").path());
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        // When an entry was met is told by the epochs, which depend on how the log was cut into them.
        let text = fs::read_to_string(&path).expect("UTF-8");
        let lines = text.lines().map(|line| {
            let mut line: Value = serde_json::from_str(line).expect("JSON");
            line.as_object_mut().expect("an object").remove("firstSeen");
            line.to_string() + "\n"
        });
        (name, lines.collect())
    };
    (report, files.map(read).collect())
}

#[test]
fn a_replay_is_the_same_however_the_log_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = log(folder.path());
    let bytes = fs::read(&plain).expect("written");
    let (gz, zst) = (format!("{plain}.gz"), format!("{plain}.zst"));
    let mut packed = flate2::write::GzEncoder::new(File::create(&gz).expect("a file"), flate2::Compression::fast());
    packed.write_all(&bytes).and_then(|()| packed.finish().map(drop)).expect("room");
    fs::write(&zst, zstd::encode_all(&bytes[..], 1).expect("packed")).expect("room");
    let (report, dump) = replayed(&plain, None, &["--workers", "1"]);
    assert_eq!(report["bytesPerResource"], Value::Null, "too few to say");
    assert!(report["counters"]["skipped"]["tuple"].as_u64() > Some(0), "{report}");
    let names: Vec<&str> = dump.keys().map(String::as_str).collect();
    assert_eq!(names, ["orphaned_resources.ndjson", "quarantine.ndjson", "resources.ndjson"]);
    assert_eq!(dump["resources.ndjson"].lines().count() as u64, report["resources"].as_u64().expect("a number"));
    assert!(dump.values().all(|lines| !lines.is_empty()));
    let whole = (report, dump);
    for (log, input, more) in [
        (gz.as_str(), None, &["--workers", "2"][..]),
        (zst.as_str(), None, &["--epoch-records", "100"]),
        ("-", Some(plain.as_str()), &[]),
    ] {
        let (report, dump) = replayed(log, input, more);
        assert_eq!(report, whole.0, "{log}");
        for (name, lines) in &whole.1 {
            let differing = lines.lines().zip(dump[name].lines()).find(|(expected, found)| expected != found);
            assert_eq!(differing, None, "{log}: {name}");
        }
        assert!(dump == whole.1, "{log}: one dump is longer");
    }
    let human = run(&["replay", &plain]);
    assert!(human.status.success() && text(&human.stdout).contains("3"), "{human:?}");
    for (arguments, code) in [
        (&["replay", &plain, "--workers", "1000"][..], 2),
        (&["replay", &plain, "--epoch-records", "0"], 2),
        (&["replay", &plain, "--now", "tomorrow"], 2),
        (&["replay", &plain, "--now", "1970-01-01T00:00:01Z"], 2),
        (&["replay", "/nowhere/log"], 3),
        (&["replay"], 2),
    ] {
        assert_eq!(run(arguments).status.code(), Some(code), "{arguments:?}");
    }
    let nowhere = run(&["replay", &plain, "--dump", "/proc/nowhere"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere.stdout).contains("records"), "the report comes first: {nowhere:?}");
}

/// What is left of deleted resources goes with time, and `--now` says what time it is at the end.
#[test]
fn a_replay_ends_at_the_time_that_it_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("log").display().to_string();
    let sizes = ["--events", "2000", "--resources", "100", "--deletes", "0.1", "--ghosts", "0.02"];
    assert!(run(&[&["generate", "-o", &plain][..], &sizes].concat()).status.success());
    let report = |more: &[&str]| -> Value {
        let output = run(&[&["replay", &plain, "--report", "json"], more].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let (at_its_end, later) = (report(&[]), report(&["--now", "2026-12-24T00:00:00Z"]));
    assert!(at_its_end["deletedResources"].as_u64() > Some(0), "{at_its_end}");
    assert_eq!(later["epoch"], json!(1_798_070_400_000_u64));
    // A tombstone stays for as long as it keeps an orphan one.
    let (left, orphans) = (later["deletedResources"].as_u64(), later["orphanedResources"].as_u64());
    assert!(left <= orphans && left < at_its_end["deletedResources"].as_u64(), "{later}");
    assert_eq!(later["resources"], at_its_end["resources"]);
    // Half a second after the log begins: nothing later moves the time.
    let earlier = report(&["--now", "2026-11-18T11:06:40.5Z"]);
    assert!((1_795_000_000_500..1_795_000_001_000).contains(&earlier["epoch"].as_u64().unwrap_or(0)), "{earlier}");
    assert_eq!(earlier["resources"], at_its_end["resources"]);
}

#[test]
fn generating_is_deterministic_and_ends_at_every_rate() {
    let generate = |more: &[&str]| {
        let output = run(&[&["generate", "--events", "400", "--resources", "30"], more].concat());
        assert!(output.status.success(), "{more:?}: {output:?}");
        let lines = text(&output.stdout);
        assert_eq!(lines.lines().count(), 400, "{more:?}");
        lines
    };
    assert_eq!(generate(&["--seed", "7"]), generate(&["--seed", "7"]));
    assert_ne!(generate(&["--seed", "7"]), generate(&["--seed", "8"]));
    let rates =
        ["--replays", "--batch-duplicates", "--moves", "--deletes", "--revivals", "--ghosts", "--legacy", "--poison"];
    for rate in rates {
        for value in ["0", "1"] {
            generate(&[rate, value]);
        }
    }
    let all_at_once: Vec<&str> =
        rates.iter().filter(|rate| **rate != "--revivals").flat_map(|rate| [*rate, "1"]).collect();
    generate(&[&all_at_once[..], &["--revivals", "0"]].concat());
    let ones = generate(&["--seed", "1"]);
    assert!(!ones.contains("00000000-0000-4000"), "no id of zeros");
    // Who is deleted stays deleted.
    let mortal = generate(&["--revivals", "0", "--deletes", "0.3"]);
    let mut deleted = std::collections::BTreeSet::new();
    for line in mortal.lines() {
        let record: Value = serde_json::from_str(line).expect("JSON");
        let key = record["key"].as_str().expect("a key").to_owned();
        assert!(!deleted.contains(&key), "{line}");
        if record["headers"][3] == "deleted" {
            deleted.insert(key);
        }
    }
    assert!(deleted.len() > 30, "{} of 30 places", deleted.len());
    for arguments in [
        ["--replays", "1.1"],
        ["--moves", "nan"],
        ["--zipf", "11"],
        ["--resources", "0"],
        ["--resources", "18446744073709551615"],
        ["--start-ms", "18446744073709551615"],
        ["--gap-us", "18446744073709551615"],
        ["--clock-skew-ms", "18446744073709551615"],
    ] {
        let output = run(&[&["generate", "--events", "1"], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains(arguments[0]), "{output:?}");
    }
}

#[test]
fn check_tells_good_configurations_from_bad() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |file: &str, environment: &[(&str, &str)]| {
        let path = folder.path().join("tarn.toml");
        fs::write(&path, file).expect("room");
        let mut command = tarn(&["check", "--config", &path.display().to_string()]);
        let output = command.envs(environment.iter().copied()).output().expect("it runs");
        let both = text(&output.stdout) + &text(&output.stderr);
        (output.status.code(), both)
    };
    let documented = fs::read_to_string("config/tarn.toml").expect("is there");
    let kafka = |name: &'static str| [("TARN_SOURCE__KAFKA__PROPERTIES__SASL_PASSWORD", name)];
    for (file, environment) in [("", &[][..]), (&documented, &[]), ("", &kafka("hush")), ("", &ANY_PORTS)] {
        let (code, said) = check(file, environment);
        assert!(code == Some(0) && said.contains("valid") && !said.contains("hush"), "{said}");
    }
    for (file, environment, words) in [
        ("[http]\nlisten_on = 1", &[][..], "listen_on"),
        ("[http", &[], "line 1"),
        ("[http]\ntoken_secret = \"hush", &[], "line 2"),
        ("", &[("TARN_HTTP__REQUESTS_MAX", "9223372036854775807")], "http.requests_max"),
        ("", &[("TARN_HTTP__REQUESTS_MAX", "hush")], "TARN_HTTP__REQUESTS_MAX"),
        ("", &[("TARN_HTTP__TOKEN", "hush")], "TARN_HTTP__TOKEN"),
        ("", &[("TARN_HTTP__LISTEN", "127.0.0.1:8081")], "http.admin_listen"),
        ("[log]\nfilter = \"a=b=c\"", &[], "log.filter"),
    ] {
        let (code, said) = check(file, environment);
        assert!(code == Some(2) && said.contains(words) && !said.contains("hush"), "{code:?}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "said once: {said}");
    }
    let odd = std::ffi::OsStr::from_bytes(b"\xff");
    assert_eq!(tarn(&["check"]).env("OF_OTHERS", odd).env(odd, "x").output().expect("it runs").status.code(), Some(0));
    let refused = tarn(&["check"]).env("TARN_LOG__FILTER", odd).output().expect("it runs");
    assert!(refused.status.code() == Some(2) && text(&refused.stderr).contains("TARN_LOG__FILTER"), "{refused:?}");
    let missing = run(&["check", "--config", "/nowhere/tarn.toml"]);
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    assert_eq!(run(&["check", "--colour"]).status.code(), Some(2));
}

#[test]
fn serve_goes_on_after_a_log_and_ends_with_a_source_that_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = log(folder.path());
    let serve = |path: &str| {
        let mut command = tarn(&["serve"]);
        command.envs(ANY_PORTS).envs([("TARN_SOURCE__KIND", "log"), ("TARN_SOURCE__LOG__PATH", path)]);
        Process::start(command.env("TARN_HTTP__DRAIN_MS", "50"))
    };
    let mut whole = serve(&plain);
    let (readers, _, _log) = addresses(&mut whole);
    eventually("read", || get(readers, "/api/tarn/v1/status").json()["sourceState"]["phase"] == "ended");
    eventually("ready", || get(readers, "/readyz").status == 200);
    let taken = readers.to_string();
    let mut second = tarn(&["serve"]);
    second.envs([("TARN_HTTP__LISTEN", taken.as_str()), ("TARN_HTTP__ADMIN_LISTEN", "127.0.0.1:0")]);
    assert_eq!(second.output().expect("it runs").status.code(), Some(1), "the port is taken");
    whole.signal(Signal::INT);
    assert_eq!(whole.end(), Some(0));
    assert_eq!(serve("/nowhere/log").end(), Some(3));
    let bytes = fs::read(&plain).expect("written");
    let cut = folder.path().join("cut.zst");
    let packed = zstd::encode_all(&bytes[..], 1).expect("packed");
    fs::write(&cut, &packed[..packed.len() / 2]).expect("room");
    let cut = cut.display().to_string();
    let mut failing = serve(&cut);
    assert_eq!(failing.end(), Some(3));
    let mut said = String::new();
    failing.0.stderr.take().expect("a pipe").read_to_string(&mut said).expect("a log");
    assert!(said.contains("the source failed") && said.lines().all(|line| line.starts_with('{')), "{said}");
    assert_eq!(run(&["replay", &cut]).status.code(), Some(3));
}

#[test]
fn a_pipe_that_nobody_reads_is_no_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = log(folder.path());
    for arguments in [
        &["check"][..],
        &["replay", &plain],
        &["replay", &plain, "--report", "json"],
        &["generate", "--events", "5000"],
        &["--help"],
    ] {
        let mut process = Process::start(&mut tarn(arguments));
        drop(process.0.stdout.take());
        assert_eq!(process.end(), Some(0), "{arguments:?}");
    }
    // Logs and greetings that nobody takes.
    let mut process = Process::start(&mut demo(&[]));
    drop(process.0.stdout.take());
    let (readers, _, log) = addresses(&mut process);
    drop(log);
    for _ in 0..3 {
        assert_eq!(get(readers, "/api/tarn/v1/position").status, 200);
        std::thread::sleep(Duration::from_millis(50));
    }
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
}

#[test]
fn a_log_pipe_that_hangs_stops_nothing() {
    let mut process = Process::start(demo(&[]).env("TARN_LOG__FILTER", "info,tarn=debug"));
    // Held open and not read: it fills.
    let (readers, operators, _unread) = addresses(&mut process);
    let dropped = || {
        let metrics = get(operators, "/metrics").body;
        let line = metrics.lines().find_map(|line| line.strip_prefix("tarn_log_lines_dropped_total "));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0)
    };
    eventually("lines are dropped", || {
        for _ in 0..200 {
            // Each is worth a line of the log.
            exchange(readers, b"no request\r\n\r\n");
        }
        dropped() > 0
    });
    let epoch = || get(readers, "/api/tarn/v1/position").json()["epoch"].as_u64().expect("an epoch");
    let before = epoch();
    eventually("epochs are published", || epoch() > before + 500);
    let began = Instant::now();
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut process = Process::start(demo(&[]).env("TARN_HTTP__DRAIN_MS", "60000"));
    let (readers, _, _log) = addresses(&mut process);
    process.signal(Signal::TERM);
    eventually("the stop is announced", || get(readers, "/readyz").body.contains("stopping"));
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(130));
}

#[test]
fn readers_cannot_take_the_descriptors_of_operators() {
    let mut command = Command::new("sh");
    let script = "ulimit -n 64 && exec \"$0\" demo --resources 100";
    command.args(["-c", script, env!("CARGO_BIN_EXE_tarn")]).envs(ANY_PORTS);
    let mut process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    let (readers, operators, _log) = addresses(&mut process);
    let silent: Vec<TcpStream> = (0..90).map(|_| TcpStream::connect(readers).expect("it listens")).collect();
    eventually("some are refused", || get(operators, "/metrics").body.contains("tarn_http_connections_refused_total"));
    for _ in 0..5 {
        assert_eq!(get(operators, "/livez").status, 200);
    }
    drop(silent);
    eventually("readers are served again", || {
        TcpStream::connect(readers).is_ok_and(|mut stream| {
            let mut text = String::new();
            stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").is_ok()
                && stream.read_to_string(&mut text).is_ok()
                && text.contains("200 OK")
        })
    });
}
