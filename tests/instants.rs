//! The instant of a read, over HTTP: what is waited for and for how long, what is refused at once, the past, and instants
//! that are leased.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tarn::clock::{Clock, now_ms};
use tarn::dataflow::WallClock;
use tarn::generate::{Generated, RESOURCES_TOPIC};
use tarn::model::Position;
use tarn::published::{ConsistencyToken, TokenKey};
use tarn::source::Phase;

use crate::adhoc::ask_at;
use crate::served::{Answer, Served, Setup, connect, eventually, get, hosts, next_answer};
use crate::support::reports::{id, report};
use crate::views_changing::post;
use crate::views_served::{is_as_described, queries, with_views, write};

const LIST: &str = "/api/tarn/v1/resources";
const READ_POINTS: &str = "/api/tarn/v1/read-points";

/// A service that keeps the past, and what it is fed by.
fn served(setup: Setup) -> (Served, Sender<Generated>) {
    let (served, feed) = Served::fed(setup);
    eventually("ready", || served.service.is_ready());
    (served, feed)
}

fn quick() -> Setup {
    let mut setup = Setup::default();
    setup.config.ingest.idle_seal_interval_ms = 20;
    setup
}

/// A host's report in some workspace.
fn host(offset: i64, number: usize, workspace: &str) -> Generated {
    report(offset, number, "host", workspace, json!({}))
}

fn event_id(offset: i64) -> String {
    format!("01a1ed39-8e00-7000-8000-{offset:012}")
}

fn workspace(at: SocketAddr, number: usize, query: &str) -> (u16, Value) {
    let answer = get(at, &format!("{LIST}/{}{query}", id(number)));
    (answer.status, answer.json()["workspaceId"].clone())
}

fn message(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}

/// The token of an instant at which so much is read of the one partition of a fed service.
fn token(epoch: u64, next: i64, incarnation: u64) -> ConsistencyToken {
    let mut position = Position::default();
    position.advance(&RESOURCES_TOPIC.into(), 0, next);
    ConsistencyToken::of(incarnation, epoch, &position)
}

fn fresh(token: &str) -> String {
    format!("?consistency=atLeastAsFresh&token={token}")
}

#[test]
fn a_token_is_waited_for_and_one_that_cannot_come_is_refused_at_once() {
    let (served, feed) = served(quick());
    let (at, key) = (served.readers, &served.service.token_key);
    feed.send(host(0, 1, "blue")).expect("fed");
    let given = get(at, &format!("{LIST}/{}?after={RESOURCES_TOPIC}:0:0", id(1))).json();
    assert_eq!(given["workspaceId"], "blue", "{given}");
    let given = given["consistencyToken"].as_str().expect("a token");
    for path in [LIST, "/api/tarn/v1/position", "/api/tarn/v1/views", "/api/tarn/v1/quarantine"] {
        let answer = get(at, &format!("{path}{}", fresh(given)));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
    let (incarnation, now) = (served.service.publisher.view().incarnation(), served.service.publisher.view().epoch());
    // What the next event makes: it is waited for.
    let next = token(now, 2, incarnation).encode(key);
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        feed.send(host(1, 1, "green")).expect("fed");
        feed
    });
    assert_eq!(workspace(at, 1, &fresh(&next)), (200, "green".into()));
    let feed = late.join().expect("no panic");
    let began = Instant::now();
    let never = token(now, 1_000, incarnation).encode(key);
    let answer = get(at, &format!("{LIST}{}&timeout=300ms", fresh(&never)));
    assert_eq!(answer.status, 504, "{}", answer.body);
    assert!((290..2_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let metadata = &answer.json()["metadata"];
    assert_eq!(metadata["position"], format!("{RESOURCES_TOPIC}:0:2"), "{}", answer.body);
    assert!(metadata["asOfEpoch"].as_u64().is_some_and(|epoch| epoch > now) && metadata["asOf"].is_string());

    let began = Instant::now();
    // By another letter than it has; not the last one, which may stand for fewer bits.
    let (before, last) = given.split_at(given.len() - 2);
    let other = if last.starts_with('A') { 'B' } else { 'A' };
    let cases = [
        ("damaged".to_owned(), 400, "damaged"),
        (format!("{before}{other}{}", &last[1..]), 400, "not made by this instance"),
        (token(now, 1, incarnation).encode(&TokenKey::from_secret("other")), 400, "not made by this instance"),
        (token(now, 1, !incarnation).encode(key), 409, "another life"),
        (token(now_ms() + 60_000, 1, incarnation).encode(key), 409, "from the future"),
    ];
    for (token, status, words) in cases {
        let answer = get(at, &format!("{LIST}{}&timeout=30s", fresh(&token)));
        assert_eq!(answer.status, status, "{words}: {}", answer.body);
        assert!(message(&answer).contains(words), "{words}: {}", answer.body);
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // A little ahead of the clock is not the future: epochs may be.
    let soon = token(now_ms() + 700, 1, incarnation).encode(key);
    assert_eq!(get(at, &format!("{LIST}{}", fresh(&soon))).status, 200);
    drop(feed);
}

/// A clock that is an hour ahead of the one that reads go by.
#[derive(Debug)]
struct Ahead;

impl Clock for Ahead {
    fn now_ms(&self) -> u64 {
        now_ms() + 3_600_000
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

#[test]
fn a_time_is_in_the_future_of_what_is_shown_not_of_the_clock() {
    // As epochs are after many restarts: each goes on beyond what was reserved before.
    let (served, feed) = Served::fed_at(quick(), WallClock::new(Arc::new(Ahead)));
    eventually("ready", || served.service.is_ready());
    let at = served.readers;
    feed.send(host(0, 1, "blue")).expect("fed");
    assert_eq!(workspace(at, 1, &format!("?after={}", event_id(0))), (200, "blue".into()));
    let soon = served.service.publisher.view().epoch() + 300;
    assert_eq!(workspace(at, 1, &format!("?asOf={soon}&timeout=10s")), (200, "blue".into()));
    let late = get(at, &format!("{LIST}?asOf={}&timeout=10s", soon + 60_000));
    assert_eq!(late.status, 400);
    assert!(message(&late).contains("in the future"), "{}", late.body);
}

#[test]
fn an_event_is_waited_for_by_place_and_by_id_and_one_that_was_let_go_is_gone() {
    let (served, feed) = served(quick());
    let at = served.readers;
    feed.send(host(0, 1, "blue")).expect("fed");
    assert_eq!(workspace(at, 1, &format!("?after={}", event_id(0))), (200, "blue".into()));
    let late = std::thread::spawn(move || {
        for offset in 1..3 {
            std::thread::sleep(Duration::from_millis(200));
            feed.send(host(offset, 1, &format!("w{offset}"))).expect("fed");
        }
        // The same event again, and a record that is no event but has an id.
        let mut duplicate = host(3, 1, "again");
        duplicate.headers = vec![("id", Some(event_id(1))), ("operation", Some("updated".to_owned()))];
        feed.send(duplicate).expect("fed");
        let mut poison = host(4, 2, "none");
        poison.value = Some("no event".to_owned());
        feed.send(poison).expect("fed");
        feed
    });
    assert_eq!(workspace(at, 1, &format!("?after={}", event_id(1))), (200, "w1".into()));
    assert_eq!(workspace(at, 1, &format!("?after={RESOURCES_TOPIC}:0:2")), (200, "w2".into()));
    let rejected = get(at, &format!("/api/tarn/v1/quarantine?after={}", event_id(4)));
    assert_eq!((rejected.status, rejected.json()["total"].as_u64()), (200, Some(1)), "{}", rejected.body);
    let feed = late.join().expect("no panic");
    let answer = get(at, &format!("{LIST}?after={}&timeout=200ms", event_id(9)));
    assert_eq!((answer.status, message(&answer).contains("the event did not come")), (504, true), "{}", answer.body);
    served.service.counters.event_ids.begin_after(0x01a1_ed39_8e00);
    let answer = get(at, &format!("{LIST}?after={}", event_id(9)));
    assert_eq!((answer.status, message(&answer).contains("no longer known")), (410, true), "{}", answer.body);
    assert_eq!(get(at, &format!("{LIST}?after={}", event_id(2))).status, 200, "it is still among the last");
    drop(feed);
}

#[test]
fn all_of_the_log_is_waited_for_where_it_ends_now() {
    let (served, feed) = served(quick());
    let at = served.readers;
    let acknowledged = format!("{LIST}?consistency=atLeastAsAcknowledged&timeout=500ms");
    let answer = get(at, &acknowledged);
    assert_eq!((answer.status, message(&answer).contains("has not told")), (504, true), "{}", answer.body);
    let status = served.service.status.clone();
    let (answers, end) = std::sync::mpsc::channel::<Result<i64, &str>>();
    std::thread::spawn(move || {
        for end in end {
            let question = loop {
                match status.end_of_log().take() {
                    Some(question) => break question,
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            let mut position = Position::default();
            let end = end.map(|next| position.advance(&RESOURCES_TOPIC.into(), 0, next)).map(|()| position);
            status.end_of_log().answer(question, end.map_err(str::to_owned));
        }
    });
    // The first answers the question of the one that gave up.
    for _ in 0..2 {
        answers.send(Err("no broker")).expect("it listens");
    }
    answers.send(Ok(0)).expect("it listens");
    assert_eq!(get(at, &acknowledged).status, 200, "after an error it is asked again");
    answers.send(Ok(1)).expect("it listens");
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        feed.send(host(0, 1, "blue")).expect("fed");
        feed
    });
    let answer = get(at, &acknowledged);
    assert_eq!((answer.status, answer.json()["items"].as_array().map(Vec::len)), (200, Some(1)), "{}", answer.body);
    answers.send(Ok(5)).expect("it listens");
    assert_eq!(get(at, &acknowledged).status, 504, "the log holds more than comes");
    answers.send(Ok(1)).expect("it listens");
    served.service.status.update(|state| state.phase = Phase::PositionLost);
    let answer = get(at, &acknowledged);
    assert_eq!((answer.status, message(&answer).contains("positionLost")), (503, true), "{}", answer.body);
    drop(late.join());
}

#[test]
fn the_past_is_read_by_time_until_where_it_is_kept() {
    let folder = queries(&[("spaces", "SELECT resource_id, workspace_id FROM host")]);
    let (served, feed) = served(with_views(folder.path()));
    let at = served.readers;
    let mut told = Vec::new();
    for (offset, workspace) in (0..).zip(["blue", "green", "red"]) {
        feed.send(host(offset, 1, workspace)).expect("fed");
        let answer = get(at, &format!("{LIST}?after={RESOURCES_TOPIC}:0:{offset}")).json();
        told.push((answer["epoch"].as_u64().expect("an epoch"), answer["asOf"].clone(), workspace));
    }
    for (epoch, as_of, space) in &told {
        for query in [format!("?asOf={epoch}"), format!("?asOf={}", as_of.as_str().expect("a time"))] {
            assert_eq!(workspace(at, 1, &query), (200, (*space).into()), "{query}");
            let rows = get(at, &format!("/api/tarn/v1/views/spaces{query}")).json();
            assert_eq!(
                (&rows["items"][0]["workspace_id"], &rows["epoch"]),
                (&(*space).into(), &(*epoch).into()),
                "{rows}"
            );
            let token = rows["consistencyToken"].as_str().expect("a token");
            let token = ConsistencyToken::decode(token, &served.service.token_key).expect("ours");
            assert_eq!(token.epoch, *epoch, "the token is that of the instant");
            let answer =
                ask_at(at, &query, "SELECT workspace_id AS w FROM spaces UNION SELECT workspace_id FROM resources");
            assert_eq!(answer.json()["items"], json!([{"w": space}]), "{}", answer.body);
            let total = get(at, &format!("/api/tarn/v1/quarantine{query}")).json();
            assert_eq!(total["epoch"], *epoch);
        }
    }
    let first = get(at, &format!("{LIST}?asOf=1000"));
    let since = first.header("tarn-history-since").expect("told").to_owned();
    assert_eq!(
        (first.status, &first.json()["metadata"]["historySince"]),
        (410, &since.as_str().into()),
        "{}",
        first.body
    );
    let newest = get(at, LIST).json();
    assert_eq!(get(at, &format!("{LIST}?asOf={}", newest["historySince"].as_str().expect("told"))).status, 200);
    // A view that came later has no rows of then.
    write(folder.path(), "later", "SELECT count(*) AS hosts FROM host");
    assert_eq!(post(served.operators, "/api/tarn/v1/views/reload").0, 200);
    eventually("it", || get(at, "/api/tarn/v1/views/later").status == 200);
    let query = format!("?asOf={}", told[0].0);
    let (rows, sql) = (format!("/api/tarn/v1/views/later{query}"), "SELECT hosts FROM later");
    let listed = get(at, &format!("/api/tarn/v1/views{query}")).json();
    assert_eq!((&listed["items"][0]["name"], &listed["items"][0]["rows"]), (&"later".into(), &Value::Null), "{listed}");
    let errors = get(at, &format!("/api/tarn/v1/views/later/errors{query}"));
    let explained = get(at, &format!("/api/tarn/v1/views/later/explain{query}"));
    for answer in [get(at, &rows), errors, explained, ask_at(at, &query, sql)] {
        let since = answer.json()["metadata"]["historySinceEpoch"].as_u64();
        assert!(answer.status == 410 && since.is_some_and(|since| since > told[2].0), "{}", answer.body);
    }
    assert_eq!(ask_at(at, &query, "SELECT workspace_id FROM spaces").status, 200, "others are read");
    // What is to come within the timeout is waited for, and what is not is refused at once.
    let soon = now_ms() + 300;
    let answer = get(at, &format!("{LIST}?asOf={soon}")).json();
    assert!(answer["epoch"].as_u64().is_some_and(|epoch| soon - 200 < epoch && epoch <= soon), "{answer}");
    let answer = get(at, &format!("{LIST}?asOf={}", now_ms() + 60_000));
    assert_eq!((answer.status, message(&answer).contains("future")), (400, true), "{}", answer.body);
}

#[test]
fn a_leased_instant_stays_as_it_is_for_its_time_and_no_longer() {
    let mut setup = quick();
    setup.config.history.retention_ms = 0;
    setup.config.history.read_points_max = 2;
    setup.config.history.read_point_ttl_max_ms = 60_000;
    let (served, feed) = served(setup);
    let at = served.readers;
    let all = hosts(50);
    let key = |record: &Generated| serde_json::from_str::<Value>(record.key.as_deref().expect("a key")).expect("JSON");
    for record in all.iter().cloned() {
        feed.send(record).expect("fed");
    }
    let last = all.last().expect("some").offset;
    let (status, point) = post(at, &format!("{READ_POINTS}?ttl=30s&after={RESOURCES_TOPIC}:0:{last}"));
    assert_eq!(status, 201, "{point}");
    is_as_described(at, "ReadPoint", &point);
    let leased = point["at"].as_str().expect("an id");
    assert_eq!(get(at, &format!("{READ_POINTS}/{leased}")).json()["expiresAt"], point["expiresAt"]);
    // All are gone by now, and there is another one.
    for (offset, record) in (last + 1..).zip(&all) {
        let number = key(record)["payload"].as_str().expect("an id").to_owned();
        let mut delete = crate::support::reports::delete(offset, 0);
        delete.key = Some(json!({"schema": {"type": "string"}, "payload": number}).to_string());
        feed.send(delete).expect("fed");
    }
    let end = last + all.len() as i64;
    let now = get(at, &format!("{LIST}?after={RESOURCES_TOPIC}:0:{end}")).json();
    assert_eq!(now["items"], json!([]), "{now}");
    let (mut ids, mut page) = (BTreeSet::new(), String::new());
    loop {
        let answer = get(at, &format!("{LIST}?at={leased}&limit=7{page}")).json();
        assert_eq!(answer["epoch"], point["epoch"]);
        ids.extend(answer["items"].as_array().expect("a list").iter().map(|one| one["resourceId"].to_string()));
        match answer["nextPageToken"].as_str() {
            Some(next) => page = format!("&pageToken={next}"),
            None => break,
        }
    }
    assert_eq!(ids.len(), all.len());
    let counted = ask_at(at, &format!("?at={leased}"), "SELECT count(*) AS n FROM resources").json();
    assert_eq!((&counted["items"], &counted["epoch"]), (&json!([{"n": all.len()}]), &point["epoch"]));
    let (status, _) = post(at, &format!("{READ_POINTS}?ttl=1s"));
    assert_eq!(status, 201);
    let (status, refused) = post(at, READ_POINTS);
    assert!(
        status == 503 && refused["message"].as_str().is_some_and(|text| text.contains("as many as may be")),
        "{refused}"
    );
    let (status, refused) = post(at, &format!("{READ_POINTS}?ttl=61s"));
    assert!(status == 400 && refused["message"].as_str().is_some_and(|text| text.contains("60000")), "{refused}");
    std::thread::sleep(Duration::from_millis(1_200));
    let (status, again) = post(at, READ_POINTS);
    assert_eq!(status, 201, "one is over: {again}");
    assert_eq!(post(at, &format!("{READ_POINTS}/{leased}/release")).0, 200);
    for path in [format!("{LIST}?at={leased}"), format!("{READ_POINTS}/{leased}"), format!("{LIST}?at=unknown")] {
        let answer = get(at, &path);
        assert_eq!((answer.status, message(&answer).contains("read point")), (410, true), "{}", answer.body);
    }
}

#[test]
fn a_wait_holds_a_place_and_ends_with_its_client_and_with_the_service() {
    let mut setup = quick();
    setup.config.http.requests_max = 4;
    let (served, feed) = served(setup);
    let at = served.readers;
    let waiting = |path: &str| {
        let mut stream = connect(at);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: tarn\r\n\r\n").expect("sent");
        stream
    };
    let long = format!("{LIST}?after={RESOURCES_TOPIC}:0:99&timeout=30s");
    let waiters: Vec<_> = (0..3).map(|_| waiting(&long)).collect();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(get(at, LIST).status, 200, "one more is let in, and lists are rendered");
    let fourth = waiting(&long);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(get(at, LIST).status, 503, "each counts as a request at work");
    drop(waiters);
    eventually("places", || get(at, LIST).status == 200);
    let began = Instant::now();
    served.app.drain();
    let answer = next_answer(&fourth).expect("an answer");
    assert_eq!((answer.status, message(&answer).contains("stops")), (503, true), "{}", answer.body);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    drop(feed);
}

#[test]
fn what_is_not_well_said_is_refused_on_every_read() {
    let (served, _feed) = served(quick());
    let at = served.readers;
    let cases = [
        ("consistency=fast", "minimizeLatency, atLeastAsFresh, atLeastAsAcknowledged"),
        ("consistency=atLeastAsFresh", "no `token`"),
        ("timeout=31s", "at most 30s"),
        ("timeout=soon", "500ms"),
        ("asOf=yesterday", "RFC 3339"),
        ("at=x&asOf=1", "one of them"),
        ("at=..", "read point"),
        ("after=other.topic:0:1&after=x", "once"),
    ];
    let one = format!("{LIST}/{}", id(1));
    for path in [LIST, one.as_str(), "/api/tarn/v1/position"] {
        for (query, words) in cases {
            let answer = get(at, &format!("{path}?{query}"));
            assert_eq!((answer.status, message(&answer).contains(words)), (400, true), "{query}: {}", answer.body);
        }
    }
}
