//! What clients and caches need not be sent again, what is sent packed, and what is computed once for all who ask for it.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::{Value, json};

use crate::served::{Answer, Served, eventually, exchange_bytes, get, parse};
use crate::support::reports::{delete, id, report};
use crate::views_served::{queries, with_views};

const POLICIES: &str = "SELECT resource_id, severity FROM k8s_policy ORDER BY resource_id";
const HOSTS: &str = "SELECT resource_id, ansible_host FROM host ORDER BY resource_id";

/// `GET path` with these lines in its head; the bytes of the body too.
fn get_with(address: SocketAddr, path: &str, lines: &[&str]) -> (Answer, Vec<u8>) {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!("GET {path} HTTP/1.1\r\nHost: tarn\r\n{lines}Connection: close\r\n\r\n");
    let bytes = exchange_bytes(address, request.as_bytes());
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let mut answer = parse(&String::from_utf8_lossy(&bytes[..end])).expect("an answer");
    answer.body = String::from_utf8_lossy(&bytes[end..]).into_owned();
    (answer, bytes[end..].to_vec())
}

/// The tag of what is at a path.
fn tag(at: SocketAddr, path: &str) -> String {
    let answer = get(at, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    let tag = answer.header("etag").unwrap_or_else(|| panic!("{path} has a tag: {}", answer.head)).to_owned();
    assert!(tag.starts_with("W/\""), "{tag} is weak");
    assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
    tag
}

/// Whether who has the answer with a tag need not be sent another one; that is then told well.
fn is_unchanged(at: SocketAddr, path: &str, tag: &str) -> bool {
    let (answer, body) = get_with(at, path, &[&format!("If-None-Match: {tag}")]);
    if answer.status == 200 {
        return false;
    }
    assert_eq!((answer.status, body.len()), (304, 0), "{path}: {}", answer.head);
    assert_eq!((answer.header("etag"), answer.header("content-type")), (Some(tag), None), "{}", answer.head);
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    for name in ["tarn-as-of", "tarn-epoch", "tarn-position", "tarn-consistency-token"] {
        assert!(answer.header(name).is_some_and(|value| !value.is_empty()), "{path}: {name} in {}", answer.head);
    }
    true
}

fn has_items(at: SocketAddr, path: &str, count: usize) {
    eventually("all items", || get(at, path).json()["items"].as_array().is_some_and(|items| items.len() == count));
}

/// Every answer that has a tag, and a part of what is told of each change, in the order in which they change.
const ROWS: &str = "/api/tarn/v1/views/policies";
const OTHERS: &str = "/api/tarn/v1/views/hosts";
const VIEWS: &str = "/api/tarn/v1/views";
const RESOURCES: &str = "/api/tarn/v1/resources";
const QUARANTINE: &str = "/api/tarn/v1/quarantine";

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let folder = queries(&[("policies", POLICIES), ("hosts", HOSTS)]);
    let (served, feed) = Served::fed(with_views(folder.path()));
    let at = served.readers;
    feed.send(report(0, 0, "k8s_policy", "blue", json!({"severity": "LOW"}))).expect("fed");
    feed.send(report(1, 1, "host", "blue", json!({"ansible_host": "a"}))).expect("fed");
    has_items(at, ROWS, 1);
    has_items(at, OTHERS, 1);
    let errors = &format!("{OTHERS}/errors");
    let (policy, host) = (&format!("{RESOURCES}/{}", id(0)), &format!("{RESOURCES}/{}", id(1)));
    let all = [ROWS, OTHERS, VIEWS, RESOURCES, QUARANTINE, errors, policy, host];
    let mut tags: Vec<String> = all.iter().map(|path| tag(at, path)).collect();
    // What changes with an event; time alone changes nothing.
    let mut changes = |what: &str, changed: &[&str], told: &dyn Fn() -> bool| {
        eventually(what, told);
        let before = get(at, ROWS).json()["epoch"].as_u64();
        eventually("time goes on", || get(at, ROWS).json()["epoch"].as_u64() > before);
        for (path, tag_before) in all.iter().zip(&mut tags) {
            let is_changed = changed.contains(path);
            assert_eq!(is_unchanged(at, path, tag_before), !is_changed, "{what}: {path}");
            let now = tag(at, path);
            assert_eq!(now != *tag_before, is_changed, "{what}: {path}");
            *tag_before = now;
        }
    };
    changes("nothing", &[], &|| true);
    feed.send(report(2, 1, "host", "blue", json!({"ansible_host": "b"}))).expect("fed");
    let rows = || get(at, OTHERS).json()["items"].clone();
    let of_host = |name: &str| json!([{"resource_id": id(1), "ansible_host": name}]);
    changes("a host", &[OTHERS, VIEWS, RESOURCES, host], &|| rows() == of_host("b"));
    // What the event columns alone change is another state, and the same row.
    feed.send(report(3, 1, "host", "blue", json!({"ansible_host": "b"}))).expect("fed");
    let offset = || get(at, host).json()["lastEvent"]["offset"].clone();
    changes("a repeat", &[RESOURCES, host], &|| offset() == json!(3));
    let mut poison = report(4, 2, "host", "blue", json!({}));
    poison.value = Some("{".to_owned());
    feed.send(poison).expect("fed");
    changes("a reject", &[QUARANTINE], &|| get(at, QUARANTINE).json()["total"] == 1);
    feed.send(report(5, 3, "host", "blue", json!({"ansible_host": 7}))).expect("fed");
    let total = || get(at, errors).json()["total"].clone();
    changes("a failure", &[OTHERS, errors, VIEWS, RESOURCES], &|| total() == 1);
    feed.send(report(6, 4, "host", "blue", json!({"ansible_host": 7}))).expect("fed");
    changes("another one", &[errors, VIEWS, RESOURCES], &|| total() == 2);
    feed.send(delete(7, 1)).expect("fed");
    eventually("it is gone", || get(at, host).status == 404);
    let (gone, _) = get_with(at, host, &["If-None-Match: *"]);
    assert_eq!((gone.status, gone.header("etag")), (404, None));
}

#[test]
fn what_a_client_has_is_compared_weakly() {
    let folder = queries(&[("policies", POLICIES)]);
    let (served, feed) = Served::fed(with_views(folder.path()));
    let at = served.readers;
    feed.send(report(0, 0, "k8s_policy", "blue", json!({"severity": "LOW"}))).expect("fed");
    has_items(at, ROWS, 1);
    for path in [ROWS.to_owned(), RESOURCES.to_owned(), format!("{RESOURCES}/{}", id(0))] {
        let tag = tag(at, &path);
        let strong = tag.trim_start_matches("W/");
        let status = |lines: &[&str]| get_with(at, &path, lines).0.status;
        for known in [&tag, strong, "*", &format!("\"a,b\", W/\"c\",{tag}")] {
            assert_eq!(status(&[&format!("If-None-Match: {known}")]), 304, "{path}: {known}");
        }
        assert_eq!(status(&["If-None-Match: \"x\"", &format!("If-None-Match: {tag}")]), 304);
        for known in ["\"x\"", strong.trim_matches('"'), "", "W/"] {
            assert_eq!(status(&[&format!("If-None-Match: {known}")]), 200, "{path}: {known}");
        }
    }
    // Another form, and another question, has another tag.
    let json = tag(at, ROWS);
    let (csv, _) = get_with(at, ROWS, &["Accept: text/csv"]);
    assert_ne!(csv.header("etag"), Some(json.as_str()));
    assert_eq!(csv.header("vary"), Some("accept, accept-encoding"));
    assert_eq!(get_with(at, ROWS, &["Accept: text/csv", &format!("If-None-Match: {json}")]).0.status, 200);
    assert_ne!(tag(at, &format!("{ROWS}?severity=LOW")), json);
    assert_eq!(tag(at, &format!("{ROWS}?severity=LOW&limit=7")), tag(at, &format!("{ROWS}?limit=7&severity=%4cOW")));
    for (path, status) in [("?colour=red", 400), ("/errors?x=1", 400)] {
        assert_eq!(get_with(at, &format!("{ROWS}{path}"), &["If-None-Match: *"]).0.status, status, "{path}");
    }
    let head = format!("HEAD {ROWS} HTTP/1.1\r\nHost: tarn\r\nIf-None-Match: {json}\r\nConnection: close\r\n\r\n");
    let head = String::from_utf8(exchange_bytes(at, head.as_bytes())).expect("UTF-8");
    assert!(head.starts_with("HTTP/1.1 304 "), "{head}");
}

fn unpacked(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).expect("gzip")),
        "zstd" => out = zstd::decode_all(bytes).expect("zstd"),
        _ => out = bytes.to_vec(),
    }
    out
}

/// A body without what is another thing each time.
fn items(bytes: &[u8]) -> Value {
    serde_json::from_slice::<Value>(bytes).expect("JSON")["items"].clone()
}

#[test]
fn long_answers_are_packed_as_the_client_wants() {
    let folder = queries(&[("hosts", HOSTS)]);
    let mut setup = with_views(folder.path());
    setup.config.ingest.idle_seal_interval_ms = 60_000;
    let (served, feed) = Served::fed(setup);
    let at = served.readers;
    for number in 0..200 {
        feed.send(report(number as i64, number, "host", "blue", json!({"ansible_host": "a host"}))).expect("fed");
    }
    has_items(at, &format!("{OTHERS}?limit=1000"), 200);
    for path in [format!("{OTHERS}?limit=200"), format!("{RESOURCES}?limit=200")] {
        let (plain, expected) = get_with(at, &path, &[]);
        assert!(plain.header("content-encoding").is_none() && expected.len() > 10_000, "{path}");
        assert!(plain.header("vary").is_some_and(|vary| vary.contains("accept-encoding")), "{}", plain.head);
        for (accept, coding) in [("gzip", "gzip"), ("br, gzip;q=0.5, zstd", "zstd"), ("*;q=0, gzip;q=0.1", "gzip")] {
            let (answer, packed) = get_with(at, &path, &[&format!("Accept-Encoding: {accept}")]);
            assert_eq!((answer.status, answer.header("content-encoding")), (200, Some(coding)), "{}", answer.head);
            assert_eq!(answer.header("content-length"), Some(packed.len().to_string().as_str()));
            assert!(packed.len() * 4 < expected.len(), "{path}: {} of {}", packed.len(), expected.len());
            assert_eq!(items(&unpacked(coding, &packed)), items(&expected), "{path}: {accept}");
            assert_eq!(answer.header("etag"), plain.header("etag"));
        }
        for accept in ["identity", "br", "gzip;q=0.2, identity"] {
            let (answer, bytes) = get_with(at, &path, &[&format!("Accept-Encoding: {accept}")]);
            assert_eq!((answer.header("content-encoding"), items(&bytes)), (None, items(&expected)), "{accept}");
        }
        let (refused, body) = get_with(at, &path, &["Accept-Encoding: br, identity;q=0"]);
        let message: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((refused.status, &message["code"]), (406, &json!(406)), "{message}");
    }
    for kind in ["text/csv", "application/x-ndjson", "application/vnd.apache.arrow.stream"] {
        let kind = &format!("Accept: {kind}");
        let (_, expected) = get_with(at, OTHERS, &[kind]);
        let (answer, packed) = get_with(at, OTHERS, &[kind, "Accept-Encoding: zstd"]);
        assert_eq!((answer.header("content-encoding"), unpacked("zstd", &packed)), (Some("zstd"), expected), "{kind}");
    }
    let sql = json!({"sql": "SELECT * FROM host"}).to_string();
    let request = format!(
        "POST /api/tarn/v1/query HTTP/1.1\r\nHost: tarn\r\nAccept-Encoding: gzip\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{sql}",
        sql.len()
    );
    let bytes = exchange_bytes(at, request.as_bytes());
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    assert!(String::from_utf8_lossy(&bytes[..end]).contains("content-encoding: gzip"));
    assert_eq!(items(&unpacked("gzip", &bytes[end..])).as_array().map(Vec::len), Some(200));
    // Short ones are not worth it, but for those who take nothing else.
    let short = format!("{OTHERS}?limit=1");
    let coding = |path: &str, accept: &str| {
        let (answer, _) = get_with(at, path, &[&format!("Accept-Encoding: {accept}")]);
        (answer.status, answer.header("content-encoding").map(str::to_owned))
    };
    assert_eq!(coding(&short, "gzip"), (200, None));
    assert_eq!(coding(&short, "gzip, identity;q=0"), (200, Some("gzip".to_owned())));
    assert_eq!(coding(&format!("{RESOURCES}/{}", id(0)), "gzip"), (200, None));
}

/// A counter of this process, which other tests count with too.
fn counter(served: &Served, name: &str) -> u64 {
    let metrics = get(served.operators, "/metrics").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    line.unwrap_or(0)
}

#[test]
fn identical_reads_at_once_are_computed_once() {
    const READERS: usize = 100;
    let folder = queries(&[("hosts", HOSTS)]);
    let mut setup = with_views(folder.path());
    // One instant for all.
    setup.config.ingest.idle_seal_interval_ms = 60_000;
    setup.config.http.queue_deadline_ms = 20_000;
    let (served, feed) = Served::fed(setup);
    let at = served.readers;
    let long = "h".repeat(20_000);
    for number in 0..150 {
        feed.send(report(number as i64, number, "host", "blue", json!({"ansible_host": long}))).expect("fed");
    }
    has_items(at, &format!("{OTHERS}?limit=1000"), 150);
    for path in [format!("{OTHERS}?limit=150"), format!("{OTHERS}?limit=150&orderBy=-resource_id")] {
        let before = counter(&served, "tarn_http_shared_answers_total");
        let barrier = Arc::new(Barrier::new(READERS));
        let readers = (0..READERS).map(|_| {
            let (barrier, path) = (Arc::clone(&barrier), path.clone());
            std::thread::spawn(move || {
                barrier.wait();
                get(at, &path)
            })
        });
        let readers: Vec<_> = readers.collect();
        let answers: Vec<Answer> = readers.into_iter().map(|reader| reader.join().expect("no panic")).collect();
        // How old the newest event is goes by the clock, so two that were computed say it differently.
        let said = |answer: &Answer| (answer.status, answer.json()["asOf"].clone(), answer.json()["items"].clone());
        let first = said(&answers[0]);
        assert_eq!((first.0, first.2.as_array().map(Vec::len)), (200, Some(150)), "{path}");
        for answer in &answers[1..] {
            assert!(said(answer) == first, "{path}: {}", answer.head);
        }
        let shared = counter(&served, "tarn_http_shared_answers_total") - before;
        assert!(shared >= READERS as u64 / 2, "{path}: {shared} of {READERS} were shared");
    }
    std::thread::sleep(Duration::from_millis(50));
}
