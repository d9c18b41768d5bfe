//! How fresh answers are, and whether they say so: the newest event of every instant, readiness by age, what metrics count,
//! and that what was lost stays lost over a restart.

use std::time::Duration;

use tarn::config::{Config, SourceKind};
use tarn::dataflow::NewestEvent;
use tarn::generate::{Generated, Generator, GeneratorConfig, RESOURCES_TOPIC};
use tarn::model::{EventId, Position};
use tarn::published::{HistoryLimits, ReadView};
use tarn::service::{Time, start};
use tarn::snapshot::Verification;
use tarn::source::Phase;
use tarn::source::kafka::LostPositionPolicy;

use crate::served::{Served, Setup, eventually, get, hosts};
use crate::support::cluster::Cluster;
use crate::support::engine::{Given, Run, Setup as EngineSetup, run};
use crate::views_changing::{RELOAD, post};
use crate::views_served::{queries, with_views};

/// When an event happened: by its id, and no later than its record was written.
fn happened_ms(record: &Generated) -> u64 {
    let id = record.headers.iter().find(|(name, _)| *name == "id").and_then(|(_, value)| value.as_deref());
    let by_id = id.and_then(|id| EventId::of_text(id).0.time_ms()).expect("a time in its id");
    by_id.min(u64::try_from(record.timestamp_ms).expect("after 1970"))
}

/// An Inventory without replays, poison and clocks that differ: every record of a resource is applied.
fn log() -> Vec<Generated> {
    let config = GeneratorConfig { seed: 3, resources: 60, gap_us: 50_000_000, ..GeneratorConfig::default() };
    Generator::new(config).take(400).collect()
}

/// The newest of the events that a view has read.
fn newest_read(log: &[Generated], view: &ReadView) -> Option<u64> {
    let next = view.position().next_offset(RESOURCES_TOPIC, 0)?;
    let read = log.iter().filter(|record| record.topic == RESOURCES_TOPIC && record.offset < next);
    read.map(happened_ms).max()
}

fn newest(view: &ReadView) -> Option<u64> {
    view.newest_event().map(|newest| newest.happened_ms)
}

fn folded(log: &[Generated], setup: &EngineSetup) -> Run {
    run(log.iter().map(Given::from), setup)
}

#[test]
fn every_instant_knows_the_newest_event_that_it_holds() {
    let log = log();
    let all = HistoryLimits {
        retention_ms: 100 * 365 * 86_400_000,
        share: 1e6,
        instant_updates_min: usize::MAX,
        view_changes_min: usize::MAX,
    };
    for (workers, epoch_records_max) in [(1, 7), (2, 3), (4, 40)] {
        let run = folded(&log, &EngineSetup { workers, epoch_records_max, history: all, ..EngineSetup::default() });
        let shown: Vec<_> = run.views.iter().filter(|view| view.epoch() > 0).collect();
        assert!(shown.len() >= 10, "{} epochs", shown.len());
        for view in &shown {
            assert_eq!(newest(view), newest_read(&log, view), "{workers} workers, at {}", view.epoch());
            let NewestEvent { happened_ms, arrived } = view.newest_event().expect("events");
            assert!(happened_ms <= arrived && arrived <= view.epoch());
            let again = run.publisher.at(view.epoch()).expect("it is kept");
            assert_eq!(again.newest_event(), view.newest_event(), "of the past");
        }
        assert!(newest(run.last()) > newest(shown[0]));
    }
}

#[test]
fn the_newest_event_is_known_after_a_restart() {
    let log = log();
    let whole = folded(&log, &EngineSetup { epoch_records_max: 20, ..EngineSetup::default() });
    let kept = whole.views.iter().find(|view| view.epoch() > 0).expect("some");
    for workers in [1, 4] {
        let setup = EngineSetup {
            workers,
            resume: (**kept.position()).clone(),
            restored: kept.contents(),
            bindings: vec![(kept.epoch(), kept.position().clone())],
            ..EngineSetup::default()
        };
        let restarted = folded(&[], &setup);
        assert_eq!(newest(restarted.last()), newest(kept));
        assert_eq!(newest(folded(&log, &setup).last()), newest(whole.last()));
    }
}

/// A service whose epochs follow one another closely though nothing happens.
fn lively() -> Setup {
    let mut setup = Setup::default();
    setup.config.ingest.idle_seal_interval_ms = 20;
    setup
}

#[test]
fn answers_say_how_new_their_newest_event_is() {
    let (served, feed) = Served::fed(lively());
    let at = served.readers;
    eventually("ready", || get(at, "/readyz").status == 200);
    let nothing = get(at, "/api/tarn/v1/position");
    assert!(nothing.json()["newestEventAt"].is_null() && nothing.json()["newestEventAgeMs"].is_null());
    assert_eq!(nothing.header("tarn-newest-event"), None);
    let hosts = hosts(3);
    hosts[..2].iter().for_each(|host| feed.send(host.clone()).expect("fed"));
    eventually("both", || served.service.publisher.view().census().resources == 2);
    let expected = hosts[..2].iter().map(happened_ms).max().expect("two");
    let told = get(at, "/api/tarn/v1/position");
    let body = told.json();
    let time = |name: &str| tarn::model::Timestamp::parse(body[name].as_str().expect("a time")).expect("RFC 3339");
    assert_eq!(time("newestEventAt").expect("not zero").millis(), i64::try_from(expected).expect("ms"));
    assert!(time("newestEventArrivedAt") > time("newestEventAt") && time("newestEventArrivedAt") <= time("asOf"));
    let age_ms = body["newestEventAgeMs"].as_u64().expect("an age");
    let now_ms = tarn::clock::now_ms();
    assert!((now_ms - expected).abs_diff(age_ms) < 5_000, "{age_ms} at {now_ms}, of {expected}");
    assert_eq!(told.header("tarn-newest-event"), body["newestEventAt"].as_str());
    assert_eq!(told.header("tarn-newest-event-arrived"), body["newestEventArrivedAt"].as_str());
    assert_eq!(told.header("tarn-newest-event-age-ms"), Some(age_ms.to_string().as_str()));
    // It grows while nothing happens, also where nothing new is published.
    std::thread::sleep(Duration::from_millis(300));
    let later = get(at, "/api/tarn/v1/position").json()["newestEventAgeMs"].as_u64().expect("an age");
    assert!(later >= age_ms + 100, "{later} after {age_ms}");
    assert_eq!(get(at, "/livez").header("tarn-newest-event"), told.header("tarn-newest-event"));
}

#[test]
fn ready_may_mean_fresh() {
    let (served, feed) = Served::fed(lively());
    let (at, status) = (served.readers, &served.service.status);
    let asked = |max_age: &str| get(at, &format!("/readyz?maxAge={max_age}"));
    let why = |max_age: &str| {
        let answer = asked(max_age);
        (answer.status, answer.json()["message"].as_str().unwrap_or_default().to_owned())
    };
    eventually("fresh, though nothing happens", || asked("500ms").status == 200);
    assert!(asked("500ms").json()["ageMs"].is_u64());
    for bad in ["", "5", "-1s", "5.5s", "1d", "5s&maxAge=6s"] {
        assert_eq!(asked(bad).status, 400, "{bad}");
    }
    // A source that cannot be heard: what is shown grows old, although epochs go on.
    status.update(|state| state.phase = Phase::Disconnected);
    eventually("old", || why("500ms").0 == 503);
    let answer = asked("500ms");
    let (code, message) = why("500ms");
    assert!(code == 503 && message.contains("the source is disconnected"), "{message}");
    assert!(answer.json()["metadata"]["ageMs"].as_u64().is_some_and(|age_ms| age_ms >= 500), "{}", answer.body);
    assert_eq!((asked("1h").status, get(at, "/readyz").status), (200, 200), "but no older than that");
    assert!(get(at, "/api/tarn/v1/status").json()["ageMs"].as_u64().is_some_and(|age_ms| age_ms >= 500));
    status.update(|state| state.phase = Phase::Reading);
    eventually("fresh again", || asked("500ms").status == 200);
    // A log that has more than is shown, of which nothing comes.
    let topic = RESOURCES_TOPIC.into();
    let end = |next| {
        let mut end = Position::default();
        end.advance(&topic, 0, next);
        status.update(|state| state.end = end);
    };
    end(1);
    eventually("behind", || why("500ms").0 == 503);
    assert!(why("500ms").1.contains("the log has 1 records more"), "{:?}", why("500ms"));
    feed.send(hosts(1).remove(0)).expect("fed");
    eventually("caught up", || asked("500ms").status == 200);
}

/// A sample of `/metrics`.
fn sample(served: &Served, name: &str) -> Option<f64> {
    let metrics = get(served.operators, "/metrics").body;
    let line = metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn metrics_count_every_event_until_it_is_visible() {
    let folder = queries(&[("all_hosts", "SELECT count(*) AS hosts FROM host")]);
    let mut setup = with_views(folder.path());
    setup.config.ingest.idle_seal_interval_ms = 20;
    let (served, feed) = Served::fed(setup);
    eventually("the view", || get(served.readers, "/api/tarn/v1/views/all_hosts").status == 200);
    let before = tarn::clock::now_ms();
    let hosts = hosts(40);
    hosts.iter().for_each(|host| feed.send(host.clone()).expect("fed"));
    // One that is read again is no event that becomes visible.
    feed.send(Generated { offset: hosts[39].offset + 1, ..hosts[0].clone() }).expect("fed");
    let count = |name: &str, labels: &str| sample(&served, &format!("{name}_count{{{labels}}}")).unwrap_or(-1.0);
    let all = 40.0;
    eventually("all", || count("tarn_event_visible_seconds", "since=\"arrival\"") >= all);
    eventually("all in the view", || {
        count("tarn_view_event_visible_seconds", "view=\"all_hosts\",since=\"arrival\"") >= all
    });
    let view = "view=\"all_hosts\"";
    for (name, labels) in
        [("tarn_event_visible_seconds", ""), ("tarn_view_event_visible_seconds", "view=\"all_hosts\",")]
    {
        for since in ["id", "arrival"] {
            assert_eq!(count(name, &format!("{labels}since=\"{since}\"")), all, "{name} {labels} {since}");
        }
        let sum = |since: &str| sample(&served, &format!("{name}_sum{{{labels}since=\"{since}\"}}")).expect("a sum");
        // The ids are of the generator's time, which lies before.
        let happened: Vec<u64> = hosts.iter().map(happened_ms).collect();
        let (oldest, newest) = (happened.iter().min().expect("some"), happened.iter().max().expect("some"));
        let after = tarn::clock::now_ms();
        let within = (before - newest) as f64 / 1e3 * all..=(after - oldest) as f64 / 1e3 * all;
        assert!(within.contains(&sum("id")), "{name}: {} in {within:?}", sum("id"));
        let took = (after - before) as f64 / 1e3 * all;
        assert!((0.0..=took).contains(&sum("arrival")), "{name}: {} of {took}", sum("arrival"));
    }
    for stage in ["poll", "decode", "fold", "tables", "views", "publish"] {
        assert!(count("tarn_stage_seconds", &format!("stage=\"{stage}\"")) > 0.0, "{stage}");
    }
    // What is gone is no longer told.
    std::fs::remove_file(folder.path().join("all_hosts.sql")).expect("it is there");
    assert_eq!(post(served.operators, RELOAD).0, 200);
    eventually("gone", || !get(served.operators, "/metrics").body.contains(&format!("seconds_count{{{view}")));
    assert_eq!(count("tarn_event_visible_seconds", "since=\"id\""), all, "what is counted of all stays");
}

#[test]
fn what_was_lost_is_told_after_a_restart_too() {
    let (data, log) = (tempfile::tempdir().expect("a folder"), tempfile::NamedTempFile::new().expect("a file"));
    let mut lines = Vec::new();
    hosts(3).iter().for_each(|host| host.write_line(&mut lines));
    std::fs::write(log.path(), lines).expect("room");
    let mut config = Config::default();
    config.views.directory.clear();
    config.dataflow.workers = 1;
    config.snapshot.directory = data.path().display().to_string();
    config.source.kind = SourceKind::Log;
    config.source.log.path = log.path().display().to_string();
    // Lives that lose, in the middle, what is given; none of what they say at their ends.
    let life = |lost_ms: Option<u64>| {
        let (service, running) = start(config.clone(), Time::Wall, Verification::OnThread).expect("it starts");
        eventually("ready", || service.is_ready());
        let before = service.status.get().incomplete_since_ms;
        if lost_ms.is_some() {
            service.status.update(|state| state.incomplete_since_ms = lost_ms);
        }
        let view = service.publisher.view();
        // Nothing but time goes on.
        eventually("an epoch", || service.publisher.view().epoch() > view.epoch());
        running.stop();
        running.join().expect("it stops");
        before
    };
    assert_eq!([life(None), life(Some(1_795_000_000_000))], [None, None]);
    assert_eq!([life(None), life(None)], [Some(1_795_000_000_000); 2], "the state lacks what it lacked");
}

/// A Kafka that lost what was to be read next: also whoever is stopped before a snapshot can be taken of what is left.
#[test]
fn what_a_log_lost_is_found_again_or_known() {
    let cluster = Cluster::new(&[("t", 1)]);
    let data = tempfile::tempdir().expect("a folder");
    let mut config = Config::default();
    config.views.directory.clear();
    config.dataflow.workers = 1;
    config.snapshot.directory = data.path().display().to_string();
    config.source.kafka.brokers.clone_from(&cluster.brokers);
    config.source.kafka.topics = vec!["t".to_owned()];
    config.source.kafka.lost_position = LostPositionPolicy::Continue;
    config.source.kafka.properties.insert("statistics.interval.ms".to_owned(), "100".to_owned());
    let life = |next: i64| {
        let (service, running) = start(config.clone(), Time::Wall, Verification::OnThread).expect("it starts");
        let is_read = || service.publisher.view().position().next_offset("t", 0) == Some(next);
        eventually("all of it", || service.is_ready() && is_read());
        let is_incomplete = service.status.get().incomplete_since_ms.is_some();
        running.stop();
        running.join().expect("it stops");
        is_incomplete
    };
    cluster.fill("t", 0, 5);
    assert!(!life(5));
    // The log goes on, and what comes next is gone before it is read.
    cluster.cut("t");
    assert_eq!([life(17), life(17)], [true, true]);
}
