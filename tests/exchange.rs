//! Exports and imports, on the real binary: an import is the instance that it came from, wherever the log is read on
//! from; a table counts up to its export; what is not right is refused with its line, and leaves nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::command_line::{Process, run, tarn, text};
use crate::durable::{everything, log, quarantine, replayed, serve, started};
use crate::property::number;
use crate::served::{eventually, get};

const EVENTS: usize = 6_000;

fn snapshot(arguments: &[&str]) -> Output {
    run(&[&["snapshot"], arguments].concat())
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Serves until the log is read.
fn read_whole(log: &str, data: &Path) -> (Process, SocketAddr) {
    let (process, readers) = started(&mut serve(log, data));
    let lines = fs::read_to_string(log).expect("a log").lines().count() as u64;
    eventually("the log is read", || {
        let status = get(readers, "/api/tarn/v1/status").json();
        status["counters"]["records"].as_u64() >= Some(lines) && get(readers, "/readyz").status == 200
    });
    (process, readers)
}

fn ends(mut process: Process) {
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
}

/// How many events were ignored for a reason.
fn ignored(readers: SocketAddr, reason: &str) -> u64 {
    get(readers, "/api/tarn/v1/status").json()["counters"]["byReason"]["ignored"][reason].as_u64().unwrap_or(0)
}

/// The first part of a log.
fn first_part(log: &str, folder: &Path, lines: usize) -> String {
    let path = folder.join("part-of-log.ndjson");
    let text = fs::read_to_string(log).expect("a log");
    let part: String = text.lines().take(lines).flat_map(|line| [line, "\n"]).collect();
    fs::write(&path, part).expect("room");
    shown(&path).to_owned()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a file");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn write_lines(path: &Path, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(path, text).expect("room");
}

#[track_caller]
fn assert_same(found: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>) {
    for (id, expected) in expected {
        assert_eq!(found.get(id), Some(expected), "{id}");
    }
    assert_eq!(found.len(), expected.len());
}

/// An export without what says how far the log was read.
fn without_position(export: &Path, to: &Path) {
    let text = fs::read_to_string(export).expect("an export");
    let (header, rest) = text.split_once('\n').expect("lines");
    let mut header: Value = serde_json::from_str(header).expect("JSON");
    assert_eq!(header["position"][0]["topic"], "outbox.event.kessel.resources");
    header["position"] = json!([]);
    fs::write(to, format!("{header}\n{rest}")).expect("room");
}

/// A log with every fault, over a time in which the tolerance of ten seconds is little.
fn faulty_log(folder: &Path, clock_skew_ms: &str) -> String {
    let seed = number("TARN_SEED").unwrap_or_else(rand::random).to_string();
    println!("TARN_SEED={seed} cargo test --test it exchange");
    let path = shown(&folder.join("log.ndjson")).to_owned();
    let events = EVENTS.to_string();
    let sizes = ["generate", "--seed", &seed, "--events", &events, "--resources", "500", "--gap-us", "20000"];
    let faults = ["--replays", "0.002", "--batch-duplicates", "0.005", "--moves", "0.05", "--deletes", "0.05"];
    let more = ["--revivals", "0.5", "--ghosts", "0.02", "--legacy", "0.05", "--poison", "0.01", "-o", &path];
    done(&run(&[&sizes[..], &faults, &more, &["--clock-skew-ms", clock_skew_ms]].concat()));
    path
}

#[test]
fn an_import_is_the_instance_that_it_came_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let whole = faulty_log(folder.path(), "3000");
    let (expected, in_quarantine) = replayed(&whole, folder.path());
    let part = first_part(&whole, folder.path(), EVENTS / 2);
    for (name, read_before) in [("part", &part), ("whole", &whole)] {
        let (data, export) = (at(&format!("{name}-data")), at(&format!("{name}.ndjson.zst")));
        let (process, readers) = read_whole(read_before, &data);
        let before = everything(readers);
        ends(process);
        let told = done(&snapshot(&["export", shown(&data), shown(&export)]));
        assert!(told.contains(&format!("{} resources", before.len())), "{told}");
        // Of the same instance, at once and without a file.
        let plain = at(&format!("{name}.ndjson"));
        fs::write(&plain, done(&snapshot(&["export", shown(&data)]))).expect("room");

        // What is imported is exported as it was, but for its incarnation.
        let (copy, again) = (at(&format!("{name}-copy")), at(&format!("{name}-again.ndjson")));
        done(&snapshot(&["import", shown(&export), shown(&copy)]));
        done(&snapshot(&["export", shown(&copy), shown(&again)]));
        let (first, mut second) = (lines(&plain), lines(&again));
        assert_ne!(first[0]["incarnation"], second[0]["incarnation"]);
        second[0]["incarnation"] = first[0]["incarnation"].clone();
        assert!(first == second, "the lines of an export differ after an import");
        for kind in ["resource", "tombstone", "quarantine", "seenReject", "end"] {
            assert!(first.iter().any(|line| line["kind"] == kind), "no {kind}");
        }

        // It goes on at its position.
        let (process, readers) = read_whole(&whole, &copy);
        assert_same(&everything(readers), &expected);
        assert_eq!(quarantine(readers), in_quarantine);
        let read_before = fs::read_to_string(read_before).expect("a log").lines().count() as u64;
        assert_eq!(ignored(readers, "already_read"), read_before);
        ends(process);

        // And from before it.
        let (bare, from_start) = (at(&format!("{name}-bare.ndjson")), at(&format!("{name}-from-start")));
        without_position(&plain, &bare);
        done(&snapshot(&["import", shown(&bare), shown(&from_start)]));
        let (process, readers) = read_whole(&whole, &from_start);
        assert_same(&everything(readers), &expected);
        assert_eq!(quarantine(readers), in_quarantine);
        assert_eq!(ignored(readers, "already_read"), 0);
        ends(process);
    }
}

#[test]
fn an_export_is_taken_beside_a_tarn_that_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(folder.path(), "1000");
    let data = folder.path().join("data");
    let (process, readers) = read_whole(&log, &data);
    eventually("a snapshot is taken", || {
        !get(readers, "/api/tarn/v1/status").json()["snapshots"]["lastError"].is_string()
            && data.join("CURRENT").exists()
    });
    let lines = done(&snapshot(&["export", shown(&data)]));
    assert!(lines.starts_with("{\"tarnExport\":1,") && lines.ends_with("}\n"), "{lines:.200}");
    assert_eq!(get(readers, "/livez").status, 200);
    ends(process);
    let missing = snapshot(&["export", shown(&folder.path().join("nothing"))]);
    assert!(!missing.status.success(), "{missing:?}");
    // A former export stays when there is nothing to take its place.
    let (empty, kept) = (folder.path().join("empty"), folder.path().join("kept.ndjson"));
    fs::create_dir(&empty).expect("room");
    fs::write(&kept, "what was").expect("room");
    let refused = snapshot(&["export", shown(&empty), shown(&kept)]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert_eq!(fs::read_to_string(&kept).expect("it stays"), "what was");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 4, "nothing else is left");
}

/// A folder of its own.
fn made(path: PathBuf) -> PathBuf {
    fs::create_dir(&path).expect("room");
    path
}

/// A row of the table `resources` or `orphaned_resources`.
fn live_row(resource: &Value) -> Value {
    let (reporter, last) = (&resource["reporter"], &resource["lastEvent"]);
    let mut row = json!({
        "resource_id": resource["resourceId"],
        "resource_type": resource["resourceType"],
        "workspace_id": resource["workspaceId"],
        "reporter_type": reporter["type"],
        "reporter_instance_id": reporter["instanceId"],
        "local_resource_id": reporter["localResourceId"],
        "api_href": reporter["apiHref"],
        "console_href": reporter["consoleHref"],
        "reporter_version": reporter["version"],
        "created_at": resource["createdAt"],
        "updated_at": resource["updatedAt"],
        "event_id": last["id"],
        "event_time": last["time"],
        "topic": last["topic"],
        "partition": last["partition"],
        "offset": last["offset"],
        "data": resource["data"].to_string(),
    });
    if resource["data"].is_null() {
        row["data"] = Value::Null;
    }
    if resource["orphanedBy"].is_string() {
        row["orphaned_by"] = resource["orphanedBy"].clone();
    }
    row
}

/// A row of the table `deleted_resources`.
fn deleted_row(tombstone: &Value) -> Value {
    json!({
        "resource_id": tombstone["resourceId"],
        "resource_type": tombstone["resourceType"],
        "reporter_type": tombstone["reporter"]["type"],
        "reporter_instance_id": tombstone["reporter"]["instanceId"],
        "local_resource_id": tombstone["reporter"]["localResourceId"],
        "last_workspace_id": tombstone["workspaceId"],
        "deleted_at": tombstone["deletedAt"],
        "event_id": tombstone["lastEvent"]["id"],
    })
}

/// The tables of a log that was read to its end, and when its last record was written.
fn table(log: &str, folder: &Path) -> (Vec<Value>, String) {
    let live = replayed(log, folder).0;
    let (data, export) = (folder.join("table-data"), folder.join("table-export.ndjson"));
    ends(read_whole(log, &data).0);
    done(&snapshot(&["export", shown(&data), shown(&export)]));
    let exported = lines(&export);
    let deleted = exported.iter().filter(|line| line["kind"] == "tombstone").map(deleted_row);
    let last_ms = lines(Path::new(log)).iter().filter_map(|record| record["ts"].as_i64()).max().expect("records");
    let rows: Vec<_> = live.values().map(live_row).chain(deleted).collect();
    (rows, tarn::model::Timestamp::from_millis(last_ms).to_string())
}

#[test]
fn a_table_counts_up_to_its_export_and_the_log_from_there() {
    let folder = tempfile::tempdir().expect("a folder");
    // Where clocks differ, the order of events about the floor is not known.
    let whole = faulty_log(folder.path(), "0");
    let part = first_part(&whole, folder.path(), EVENTS / 2);
    let after_part = replayed(&part, folder.path()).0;
    let after_whole = replayed(&whole, folder.path()).0;

    // What the log has before the table is older and does not count.
    let (rows, exported_at) = table(&whole, &made(folder.path().join("of-whole")));
    let (file, data) = (folder.path().join("whole-table.ndjson"), folder.path().join("whole"));
    write_lines(&file, &rows);
    done(&snapshot(&["import", shown(&file), shown(&data), "--exported-at", &exported_at]));
    let (process, readers) = read_whole(&part, &data);
    assert_same(&everything(readers), &after_whole);
    assert!(ignored(readers, "below_floor") > 1_000);
    ends(process);

    // What it has after the table is newer and does.
    let (rows, exported_at) = table(&part, &made(folder.path().join("of-part")));
    assert_ne!(after_part, after_whole);
    write_lines(&file, &rows);
    let data = folder.path().join("part");
    done(&snapshot(&["import", shown(&file), shown(&data), "--table", "--exported-at", &exported_at]));
    let (process, readers) = read_whole(&whole, &data);
    assert_same(&everything(readers), &after_whole);
    ends(process);
}

/// Imports a text from standard input.
fn import(text: &str, to: &Path, more: &[&str]) -> Output {
    let arguments = [&["snapshot", "import", "-", shown(to)], more].concat();
    let mut child = tarn(&arguments).stdin(Stdio::piped()).spawn().expect("it runs");
    // It may be refused before it is sent to its end.
    drop(child.stdin.take().expect("a pipe").write_all(text.as_bytes()));
    child.wait_with_output().expect("it ends")
}

#[test]
fn a_table_needs_little_more_than_ids() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(folder.path(), "10");
    let data = folder.path().join("data");
    let rows = "{\"resource_id\":\"019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10\"}\n\n\
                {\"resource_id\":\"6fa459ea-ee8a-4ca4-894e-db77e160355e\",\"resource_type\":\"K8s-Cluster\",\
                \"reporter_type\":\"ACM\",\"reporter_instance_id\":\"One\",\"local_resource_id\":\"A\",\
                \"event_id\":\"order-17\",\"event_time\":\"2026-01-02T03:04:05Z\",\"data\":{ \"n\": 1e400 }}";
    let output = import(rows, &data, &["--exported-at", "2026-01-03T00:00:00Z"]);
    assert!(done(&output).contains("2 resources, 0 deleted"), "{output:?}");
    let (_process, readers) = read_whole(&log, &data);
    let bare = get(readers, "/api/tarn/v1/resources/019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10").json();
    assert_eq!(bare["lastEvent"]["time"], "2026-01-03T00:00:00Z");
    assert_eq!(bare["lastEvent"]["topic"], "(table)");
    let cluster = get(readers, "/api/tarn/v1/resources/6fa459ea-ee8a-4ca4-894e-db77e160355e");
    assert!(cluster.body.contains("\"data\":{\"n\":1e400}"), "{cluster:?}");
    let cluster: Value = serde_json::from_str(&cluster.body.replace("1e400", "1")).expect("JSON");
    assert_eq!(cluster["resourceType"], "k8s_cluster");
    assert_eq!(cluster["reporter"]["instanceId"], "one");
    assert_eq!(cluster["lastEvent"]["id"], "order-17");
    assert_eq!(cluster["lastEvent"]["time"], "2026-01-02T03:04:05Z");
}

#[test]
fn what_is_not_right_is_refused_with_its_line_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(folder.path(), "300");
    let data = folder.path().join("data");
    ends(read_whole(&log, &data).0);
    let export = done(&snapshot(&["export", shown(&data)]));
    let good: Vec<&str> = export.lines().collect();
    let with_line = |number: usize, line: &str| {
        let mut lines = good.clone();
        lines[number - 1] = line;
        lines.join("\n")
    };
    let id = "{\"resource_id\":\"019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10\"";
    let at = ["--exported-at", "2026-01-03T00:00:00Z"];
    let last = good.len();
    let of_export = [
        (with_line(3, "{\"kind\":"), "line 3"),
        (with_line(3, "{\"kind\":\"view\"}"), "line 3: `kind` is \"view\"; \"resource\""),
        (with_line(2, &good[1].replacen("\"reporter\"", "\"reporters\"", 1)), "line 2: unknown field `reporters`"),
        (with_line(2, &good[1].replacen("\"time\":\"20", "\"time\":\"yesterday", 1)), "line 2: `lastEvent.time`"),
        (with_line(3, good[1]), "line 3: the resource"),
        (with_line(1, &good[0].replacen(":1,", ":2,", 1)), "line 1: it is an export of version 2"),
        (good[..last - 1].join("\n"), "cut off"),
        (good[..1].join("\n"), "cut off"),
        ([&good[..1], &good[2..]].concat().join("\n"), "lines come before it"),
        (format!("{export}{}\n", good[1]), "stands behind the line of kind \"end\""),
        (good[1..].join("\n"), "line 1: it is no header of an export"),
        ("<html>".to_owned(), "line 1: it is not JSON"),
        (String::new(), "no line"),
    ];
    let of_table = [
        (format!("{id}}}\nnot json"), "line 2: expected"),
        (format!("{id},\"workspace\":\"a\"}}"), "line 1: unknown field `workspace`, expected one of `resource_id`"),
        (format!("{id},\"created_at\":\"yesterday\"}}"), "line 1: `created_at` is \"yesterday\""),
        (format!("{id},\"partition\":0}}"), "`topic`, `partition` and `offset` go together"),
        (format!("{id},\"data\":\"[1]\"}}"), "`data` must be an object"),
        (format!("{id},\"data\":{{\"a\":1,\"a\":2}}}}"), "occurs twice"),
        (format!("{id},\"deleted_at\":\"2026-01-01T00:00:00Z\",\"api_href\":\"a\"}}"), "`api_href` must be null"),
        (format!("{id},\"last_workspace_id\":\"a\"}}"), "`last_workspace_id`"),
        (format!("{id}}}\n{id}}}"), "line 2: the resource"),
        ("{\"resource_type\":\"host\"}".to_owned(), "missing field `resource_id`"),
        ("{\"resource_id\":\"7\"}".to_owned(), "line 1: `resource_id` is \"7\": not a UUID"),
        (export.clone(), "line 1: it is the header of an export"),
    ];
    let target = folder.path().join("target");
    let cases = of_export.iter().map(|case| (case, &[][..])).chain(of_table.iter().map(|case| (case, &at[..])));
    for ((text_in, why), more) in cases {
        let output = import(text_in, &target, more);
        assert_eq!(output.status.code(), Some(2), "{why}: {output:?}");
        assert!(text(&output.stderr).contains(why), "{why}: {output:?}");
        assert!(!target.exists(), "{why}: something was left");
    }
    for time in ["yesterday", "2099-01-01T00:00:00Z", "2001-01-01T00:00:00Z"] {
        let output = import(&format!("{id}}}"), &target, &["--exported-at", time]);
        assert_eq!(output.status.code(), Some(2), "{time}: {output:?}");
    }
    assert_eq!(import(&format!("{id}}}"), &target, &["--table"]).status.code(), Some(2));
    let full = import(&export, &data, &[]);
    assert_eq!(full.status.code(), Some(2), "{full:?}");
    assert!(text(&full.stderr).contains("it is not empty"), "{full:?}");
    fs::create_dir(&target).expect("room");
    assert_eq!(import("{}", &target, &[]).status.code(), Some(2));
    assert_eq!(fs::read_dir(&target).expect("it stays").count(), 0, "nothing was put into it");
    assert!(import(&export, &target, &[]).status.success(), "an empty directory is taken");
}
