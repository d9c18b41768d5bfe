//! Change streams over HTTP: what they tell, cut and resumed anywhere, slow readers, many of one view, bounds and their end;
//! and on the real binary, which is killed meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::time::Duration;

use serde_json::{Value, json};
use tarn::generate::{Generated, RESOURCES_TOPIC};

use crate::command_line::Process;
use crate::durable::{log, next_offset, serve, started};
use crate::served::{Served, Setup, eventually, get};
use crate::support::reports::{delete, id, report};
use crate::support::sse::{Event, Stream};
use crate::views_changing::{RELOAD, post};
use crate::views_served::{get_as, queries, with_views, write};

/// A row a host.
const HOSTS: &str = "SELECT resource_id, workspace_id, ansible_host FROM host ORDER BY resource_id";
const CHANGES: &str = "/api/tarn/v1/views/hosts/changes";

/// What a client has: rows by id.
type Rows = BTreeMap<String, Value>;

fn list(event: &Event, name: &str) -> Vec<Value> {
    event.data[name].as_array().cloned().unwrap_or_default()
}

fn row_id(row: &Value) -> String {
    row["resource_id"].as_str().expect("an id").to_owned()
}

/// What a client makes of an event of a stream of rows.
fn apply(rows: &mut Rows, event: &Event) {
    match event.name.as_str() {
        "reset" => rows.clear(),
        "snapshot" => rows.extend(list(event, "rows").into_iter().map(|row| (row_id(&row), row))),
        "changes" => {
            for row in list(event, "left") {
                assert_eq!(rows.remove(&row_id(&row)), Some(row), "a row leaves that is there");
            }
            for row in list(event, "came") {
                assert_eq!(rows.insert(row_id(&row), row), None, "a row comes that is not there");
            }
        }
        _ => {}
    }
}

/// Reads until the rows are these many, and the one of a number is named so.
fn until_named(stream: &mut Stream, rows: &mut Rows, number: usize, name: &str) -> Vec<Event> {
    let mut seen = Vec::new();
    while rows.get(&id(number)).is_none_or(|row| row["ansible_host"] != name) {
        let event = stream.telling();
        apply(rows, &event);
        seen.push(event);
    }
    seen
}

fn host(offset: i64, number: usize, name: &str) -> Generated {
    report(offset, number, "host", ["blue", "green"][number % 2], json!({"ansible_host": name}))
}

/// A service with three hosts.
fn with_hosts(configure: impl FnOnce(&mut Setup)) -> (tempfile::TempDir, Served, Sender<Generated>) {
    let folder = queries(&[("hosts", HOSTS)]);
    let mut setup = with_views(folder.path());
    configure(&mut setup);
    let (served, feed) = Served::fed(setup);
    for number in 0..3 {
        feed.send(host(number as i64, number, "old")).expect("fed");
    }
    let at = served.readers;
    eventually("three hosts", || {
        get(at, "/api/tarn/v1/views/hosts").json()["items"].as_array().is_some_and(|rows| rows.len() == 3)
    });
    eventually("ready", || get(at, "/readyz").status == 200);
    (folder, served, feed)
}

#[test]
fn a_stream_begins_with_what_it_is_to_include() {
    let (_folder, served, feed) = with_hosts(|_| {});
    let at = served.readers;
    let known = get(at, "/api/tarn/v1/views/hosts").json()["consistencyToken"].as_str().expect("a token").to_owned();
    // Whoever wrote the event knows only where it stands.
    for (path, number) in [(CHANGES.to_owned(), 3), ("/api/tarn/v1/resources/changes".to_owned(), 4)] {
        let waiting = std::thread::spawn({
            let path = format!("{path}?after={RESOURCES_TOPIC}:0:{number}&timeout=20s");
            move || {
                let mut stream = Stream::open(at, &path, None);
                (stream.telling(), stream.telling())
            }
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished(), "it is waited for");
        feed.send(host(number, number as usize, "new")).expect("fed");
        let (hello, snapshot) = waiting.join().expect("no panic");
        assert_eq!((hello.name.as_str(), snapshot.name.as_str()), ("hello", "snapshot"));
        assert_eq!(list(&snapshot, "rows").len(), number as usize + 1, "{snapshot:?}");
    }
    let cases = [
        (format!("consistency=atLeastAsFresh&token={known}"), "200"),
        (format!("after={RESOURCES_TOPIC}:0:99&timeout=50ms"), "504"),
        ("consistency=atLeastAsFresh".to_owned(), "400"),
        ("token=x&consistency=atLeastAsFresh".to_owned(), "400"),
    ];
    for (asked, status) in cases {
        let stream = Stream::open(at, &format!("{CHANGES}?{asked}"), None);
        assert!(stream.head.contains(status), "{asked}: {}", stream.head);
    }
}

#[test]
fn a_stream_is_a_snapshot_and_what_changes() {
    let (_folder, served, feed) = with_hosts(|setup| setup.config.streams.progress_interval_ms = 50);
    let at = served.readers;
    let mut stream = Stream::open(at, CHANGES, None);
    for wanted in ["200 OK", "content-type: text/event-stream", "cache-control: no-store", "tarn-epoch: "] {
        assert!(stream.head.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase()), "{}", stream.head);
    }
    let hello = stream.event().expect("an event");
    assert_eq!((hello.name.as_str(), &hello.data["resumed"], &hello.id), ("hello", &json!(false), &None));
    assert!(hello.data["policy"]["slowClients"].is_string() && hello.text.starts_with("retry: "), "{hello:?}");
    let snapshot = stream.event().expect("an event");
    assert_eq!((snapshot.name.as_str(), list(&snapshot, "rows").len()), ("snapshot", 3));
    assert!(snapshot.data["last"] == true && snapshot.id.is_some(), "{snapshot:?}");
    let progress = stream.event().expect("an event");
    assert!(progress.name == "progress" && progress.id.is_some(), "{progress:?}");

    let mut of_blue = Stream::open(at, &format!("{CHANGES}?workspace_id=blue"), None);
    let mut by_key = Stream::open(at, &format!("{CHANGES}?envelope=upsert&key=resource_id&workspace_id=blue"), None);
    let mut resources = Stream::open(at, "/api/tarn/v1/resources/changes?resourceType=host&workspaceId=blue", None);
    for stream in [&mut of_blue, &mut by_key, &mut resources] {
        assert_eq!(stream.telling().name, "hello");
        let snapshot = stream.telling();
        assert_eq!((snapshot.name.as_str(), list(&snapshot, "rows").len()), ("snapshot", 2), "{snapshot:?}");
    }
    // One of green, one of blue, one that leaves blue, one that is gone.
    feed.send(host(10, 1, "new")).expect("fed");
    let changes = stream.telling();
    assert_eq!(list(&changes, "left")[0]["ansible_host"], "old", "{changes:?}");
    assert_eq!(list(&changes, "came")[0]["ansible_host"], "new");
    feed.send(host(11, 0, "new")).expect("fed");
    assert_eq!(list(&of_blue.telling(), "came")[0]["resource_id"], id(0));
    let image = by_key.telling();
    assert_eq!(list(&image, "changes")[0]["key"], json!({"resource_id": id(0)}), "{image:?}");
    assert_eq!(list(&image, "changes")[0]["value"]["ansible_host"], "new");
    assert_eq!(list(&resources.telling(), "changes")[0]["resource"]["data"]["ansible_host"], "new");
    feed.send(report(12, 2, "host", "green", json!({"ansible_host": "old"}))).expect("fed");
    feed.send(delete(13, 0)).expect("fed");
    for (stream, gone) in [(&mut by_key, "value"), (&mut resources, "resource")] {
        let mut left = Vec::new();
        while left.len() < 2 {
            left.extend(list(&stream.telling(), "changes"));
        }
        assert!(left.iter().all(|change| change[gone].is_null()), "{left:?}");
    }
    let mut left = 0;
    while left < 2 {
        let event = of_blue.telling();
        assert!(list(&event, "came").is_empty());
        left += list(&event, "left").len();
    }
}

#[test]
fn a_stream_that_cannot_be_is_refused_in_words() {
    let (_folder, served, _feed) = with_hosts(|_| ());
    let at = served.readers;
    for (path, status, words) in [
        (format!("{CHANGES}?envelope=upsert"), 400, "needs a `key`"),
        (format!("{CHANGES}?envelope=all"), 400, "rows or upsert"),
        (format!("{CHANGES}?key=resource_id"), 400, "`key` is for"),
        (format!("{CHANGES}?envelope=upsert&key=colour"), 400, "no column `colour`"),
        (format!("{CHANGES}?colour=red"), 400, "no column `colour`"),
        ("/api/tarn/v1/views/nothing/changes".to_owned(), 404, "there is no view"),
        ("/api/tarn/v1/resources/changes?limit=1".to_owned(), 400, "unknown parameter"),
    ] {
        let answer = get(at, &path);
        assert!(answer.status == status && answer.body.contains(words), "{path}: {} {}", answer.status, answer.body);
    }
    assert_eq!(get_as(at, CHANGES, "application/json").0.status, 406);
    let mut stream = Stream::open(at, &format!("{CHANGES}?envelope=upsert&key=workspace_id"), None);
    let mut last = Vec::new();
    while let Some(event) = stream.event() {
        last.push((event.name, event.data["reason"].clone(), event.data["final"].clone()));
    }
    assert_eq!(last.last(), Some(&("reset".to_owned(), json!("keyNotUnique"), json!(true))));
}

/// What tells something, as it came.
fn texts(events: &[Event]) -> Vec<String> {
    events.iter().filter(|event| event.name == "changes").map(|event| event.text.clone()).collect()
}

#[test]
fn a_stream_that_is_cut_anywhere_goes_on_where_it_was() {
    let (_folder, served, feed) = with_hosts(|setup| setup.config.streams.progress_interval_ms = 20);
    let at = served.readers;
    let mut whole = Stream::open(at, CHANGES, None);
    let mut rows = Rows::new();
    until_named(&mut whole, &mut rows, 2, "old");
    let (mut all, mut ids) = (Vec::new(), Vec::new());
    for step in 0..30 {
        feed.send(host(100 + step, (step % 5) as usize, &format!("step-{step}"))).expect("fed");
        let seen = until_named(&mut whole, &mut rows, (step % 5) as usize, &format!("step-{step}"));
        assert!(seen.iter().all(|event| event.name == "changes"), "{seen:?}");
        ids.extend(seen.iter().filter_map(|event| event.id.clone()).map(|id| (all.len() + 1, id)));
        all.extend(texts(&seen));
        if step % 4 == 0 {
            let mark = whole.event().expect("an event");
            assert_eq!(mark.name, "progress");
            ids.push((all.len(), mark.id.expect("an id")));
        }
    }
    assert_eq!(all.len(), 30, "an epoch each");
    for (known, last) in &ids {
        for parameter in [false, true] {
            let path = format!("{CHANGES}?lastEventId={last}");
            let mut stream = match parameter {
                true => Stream::open(at, &path, None),
                false => Stream::open(at, CHANGES, Some(last)),
            };
            let hello = stream.event().expect("an event");
            assert_eq!(hello.data["resumed"], true, "{hello:?}");
            let mut rest = Vec::new();
            while rest.len() < all.len() - known {
                rest.push(stream.telling());
            }
            assert_eq!(texts(&rest), all[*known..], "after {known}");
        }
    }
    // Of another stream, of nobody, of another service.
    let id = ids[3].1.clone();
    // By another letter than it has.
    let damaged = format!("{}{}", &id[..id.len() - 1], if id.ends_with('A') { 'B' } else { 'A' });
    for (path, id, reason) in [
        (format!("{CHANGES}?workspace_id=blue"), id.as_str(), "otherStream"),
        ("/api/tarn/v1/resources/changes".to_owned(), id.as_str(), "viewChanged"),
        (CHANGES.to_owned(), "nothing", "id"),
        (CHANGES.to_owned(), damaged.as_str(), "id"),
    ] {
        let mut stream = Stream::open(at, &path, Some(id));
        let names: Vec<Event> = (0..3).map(|_| stream.telling()).collect();
        assert_eq!([&names[0].name, &names[1].name, &names[2].name], ["hello", "reset", "snapshot"]);
        assert_eq!((&names[1].data["reason"], &names[1].id), (&json!(reason), &Some(String::new())), "{path}");
    }
}

#[test]
fn a_slow_reader_gets_what_it_missed_at_once_and_then_begins_anew() {
    // Rows so long that what a connection holds by itself is soon full.
    let long = |step: usize| format!("{step}-{}", "x".repeat(300_000));
    let (_folder, served, feed) = with_hosts(|setup| {
        setup.config.streams.buffer_bytes_max = 2_000_000;
        setup.config.history.view_changes_min = 150;
        setup.config.history.updates_min = 20;
        setup.config.history.percent_max = 0;
        setup.deadlines.write_progress = Duration::from_secs(120);
    });
    let at = served.readers;
    let mut offset = 100;
    let mut go = |steps: usize, last: &str| {
        for step in 0..steps {
            feed.send(host(offset, step % 2, &long(step))).expect("fed");
            offset += 1;
            // An epoch each, however slow the machine is.
            eventually("it is read", || next_offset(at) >= offset);
        }
        feed.send(host(offset, 2, last)).expect("fed");
        offset += 1;
        eventually("all of it", || {
            let rows = get(at, "/api/tarn/v1/views/hosts").json();
            rows["items"].as_array().is_some_and(|rows| rows.iter().any(|row| row["ansible_host"] == last))
        });
    };
    let mut slow = Stream::open(at, CHANGES, None);
    let mut rows = Rows::new();
    until_named(&mut slow, &mut rows, 2, "old");
    go(60, "coalesced");
    let seen = until_named(&mut slow, &mut rows, 2, "coalesced");
    assert!(seen.iter().all(|event| event.name == "changes"));
    let coalesced: Vec<&Event> = seen.iter().filter(|event| event.data["coalesced"] == true).collect();
    assert!(!coalesced.is_empty(), "{} events", seen.len());
    for event in coalesced {
        assert!(event.data["from"].as_u64() < event.data["to"].as_u64(), "{}", event.text);
        assert_eq!(event.data["to"], event.data["epoch"]);
    }
    go(150, "reset");
    let seen = until_named(&mut slow, &mut rows, 2, "reset");
    let resets: Vec<&Event> = seen.iter().filter(|event| event.name == "reset").collect();
    assert_eq!(resets.first().map(|event| &event.data["reason"]), Some(&json!("retention")), "{} events", seen.len());
    let now: Rows = get(at, "/api/tarn/v1/views/hosts").json()["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (row_id(row), row.clone()))
        .collect();
    assert!(rows == now, "what it has is what is there");
    assert!(get(served.operators, "/metrics").body.contains("tarn_stream_buffer_bytes"), "it is counted");
}

/// A counter of the frames of a view.
fn made(operators: SocketAddr, of: &str) -> u64 {
    let metrics = get(operators, "/metrics").body;
    let line = format!("tarn_stream_frames_made_total{{of=\"{of}\"}} ");
    metrics.lines().find_map(|known| known.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

#[test]
fn many_streams_of_a_view_are_computed_and_written_once() {
    const STREAMS: usize = 190;
    let folder = queries(&[("shared", HOSTS)]);
    let mut setup = with_views(folder.path());
    setup.caps.connections_max = 1_000;
    setup.caps.connections_per_address_max = 1_000;
    // They take no places of other requests.
    setup.config.http.requests_max = 2;
    setup.config.streams.streams_max = STREAMS;
    let (served, feed) = Served::fed(setup);
    let at = served.readers;
    eventually("the view", || get(at, "/api/tarn/v1/views/shared").status == 200);
    let path = "/api/tarn/v1/views/shared/changes";
    let mut streams: Vec<Stream> = (0..STREAMS).map(|_| Stream::open(at, path, None)).collect();
    for stream in &mut streams {
        assert_eq!(stream.telling().name, "hello");
        assert_eq!(stream.telling().name, "snapshot");
    }
    assert_eq!(get(at, path).status, 503, "one too many");
    assert_eq!(get(at, "/api/tarn/v1/views/shared").status, 200);
    let before = made(served.operators, "shared");
    for step in 0..20 {
        feed.send(host(step, step as usize, "new")).expect("fed");
        std::thread::sleep(Duration::from_millis(15));
    }
    let mut frames = Vec::new();
    for stream in &mut streams {
        let (mut came, mut texts) = (0, Vec::new());
        while came < 20 {
            let event = stream.telling();
            came += list(&event, "came").len();
            texts.push(event.text);
        }
        frames.push(texts);
    }
    assert!(frames.iter().all(|texts| *texts == frames[0]), "they are told the same");
    assert_eq!(made(served.operators, "shared") - before, frames[0].len() as u64);

    // A stop does not wait for them, and they are told when to come back.
    let took = served.stop();
    assert!(took < Duration::from_secs(2), "{took:?}");
    for stream in &mut streams {
        while stream.event().is_some() {}
        assert!(stream.comments.iter().any(|comment| comment.starts_with("retry: ")), "{:?}", stream.comments);
    }
}

#[test]
fn a_stream_outlives_its_view_or_is_told_of_its_end() {
    let (folder, served, feed) = with_hosts(|_| ());
    let (at, operators) = (served.readers, served.operators);
    let mut stream = Stream::open(at, CHANGES, None);
    let mut rows = Rows::new();
    until_named(&mut stream, &mut rows, 2, "old");
    // A comment changes nothing.
    write(folder.path(), "hosts", &format!("-- Hosts.\n{HOSTS}"));
    assert_eq!(post(operators, RELOAD).0, 200);
    feed.send(host(10, 2, "new")).expect("fed");
    let seen = until_named(&mut stream, &mut rows, 2, "new");
    assert!(seen.iter().all(|event| event.name == "changes"), "{seen:?}");
    // Other rows.
    write(folder.path(), "hosts", &HOSTS.replace("FROM host", "FROM host WHERE ansible_host = 'new'"));
    assert_eq!(post(operators, RELOAD).0, 200);
    let reset = stream.telling();
    assert_eq!((reset.name.as_str(), &reset.data["reason"]), ("reset", &json!("viewChanged")));
    let snapshot = stream.telling();
    assert_eq!((snapshot.name.as_str(), list(&snapshot, "rows").len()), ("snapshot", 1), "{snapshot:?}");
    std::fs::remove_file(folder.path().join("hosts.sql")).expect("it is there");
    assert_eq!(post(operators, RELOAD).0, 200);
    let reset = stream.telling();
    assert_eq!((reset.name.as_str(), &reset.data["reason"]), ("reset", &json!("removed")));
    assert_eq!(stream.event(), None);
}

#[test]
fn a_stream_that_nobody_takes_is_cut_and_an_idle_one_is_not() {
    let folder = queries(&[("hosts", HOSTS)]);
    let mut setup = with_views(folder.path());
    let short = Duration::from_millis(500);
    setup.deadlines.write_progress = short;
    setup.deadlines.idle = short;
    setup.config.streams.heartbeat_ms = 100;
    setup.config.streams.progress_interval_ms = 60_000;
    let (served, feed) = Served::fed(setup);
    let at = served.readers;
    eventually("the view", || get(at, "/api/tarn/v1/views/hosts").status == 200);
    let mut idle = Stream::open(at, CHANGES, None);
    let mut stuck = Stream::open(at, CHANGES, None);
    assert!(stuck.head.contains("200 OK"), "{}", stuck.head);
    // More than a connection holds by itself.
    for step in 0..80 {
        feed.send(host(step, 0, &format!("{step}-{}", "x".repeat(300_000)))).expect("fed");
        // The other one is read.
        while idle.event().expect("it is still there").name != "changes" {}
    }
    std::thread::sleep(short * 4);
    feed.send(host(80, 1, "last")).expect("fed");
    let has_last = |event: &Event| list(event, "came").iter().any(|row| row_id(row) == id(1));
    while !has_last(&idle.event().expect("it is still there")) {}
    assert!(idle.comments.iter().any(|comment| comment == ":\n\n"), "{:?}", idle.comments);
    while let Some(event) = stuck.event() {
        assert!(!has_last(&event), "it was not cut");
    }
}

/// Reads to the end of what comes: all changes, and the last id.
fn taken(stream: &mut Stream, last: &mut Option<String>, events: &mut Vec<Event>, count: usize) {
    while events.len() < count {
        let Some(event) = stream.event() else { return };
        if let Some(id) = &event.id {
            *last = Some(id.clone());
        }
        events.push(event);
    }
}

#[test]
fn a_stream_goes_on_over_restarts_without_a_gap_or_a_repeat() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = log(folder.path(), "20000");
    let data = folder.path().join("data");
    let queries = queries(&[("hosts", HOSTS)]);
    let begin = || -> (Process, SocketAddr) {
        let mut command = serve(&path, &data);
        command.env("TARN_VIEWS__DIRECTORY", queries.path()).env("TARN_STREAMS__RESUME_WAIT_MS", "30000");
        // Not so often that each restart would begin after what a client knows.
        command.env("TARN_STREAMS__PROGRESS_INTERVAL_MS", "20").env("TARN_SNAPSHOT__INTERVAL_MS", "500");
        // Something is told often, also where the log was read before anybody listened.
        command.env("TARN_INGEST__IDLE_SEAL_INTERVAL_MS", "20");
        started(&mut command)
    };
    let follow = |at: SocketAddr, last: Option<&str>| {
        eventually("it takes streams", || get(at, "/api/tarn/v1/views/hosts").status == 200 || last.is_some());
        Stream::open(at, CHANGES, last)
    };
    let (mut rows, mut last, mut resumed, mut resets) = (Rows::new(), None::<String>, 0, Vec::new());
    let mut epoch = 0;
    for kill in 0..12 {
        let (mut process, at) = begin();
        let mut stream = follow(at, last.as_deref());
        assert!(stream.head.contains("200 OK"), "{}", stream.head);
        let mut events = Vec::new();
        taken(&mut stream, &mut last, &mut events, 20 + kill * 7);
        // Before the first snapshot there is nothing that outlives the process.
        eventually("a snapshot", || data.join("CURRENT").exists());
        resumed += usize::from(events[0].data["resumed"] == true);
        for event in &events {
            resets.extend((event.name == "reset").then(|| event.data["reason"].clone()));
            apply(&mut rows, event);
            if event.name == "changes" {
                let now = event.data["epoch"].as_u64().expect("an epoch");
                assert!(now > epoch, "never a repeat");
                epoch = now;
            }
        }
        process.0.kill().expect("it is there");
        process.0.wait().expect("it is ours");
    }
    let (_process, at) = begin();
    let mut stream = follow(at, last.as_deref());
    eventually("the log is read", || next_offset(at) >= 20_000 && get(at, "/readyz").status == 200);
    let now = get(at, "/api/tarn/v1/views/hosts?limit=1000").json();
    let until = now["epoch"].as_u64().expect("an epoch");
    while epoch < until {
        let event = stream.event().expect("an event");
        apply(&mut rows, &event);
        epoch = event.data["epoch"].as_u64().unwrap_or(epoch);
    }
    let now = now["items"].as_array().expect("a list").iter().map(|row| (row_id(row), row.clone()));
    assert!(rows == now.collect::<Rows>(), "what it has is what is there");
    println!("{resumed} resumed, {resets:?}");
    // One whose epoch lies before the newest snapshot is told so.
    assert!(resumed >= 5 && resets.iter().all(|reason| reason == "retention"), "{resumed} resumed, {resets:?}");
}
