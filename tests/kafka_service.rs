//! The service on a Kafka that misbehaves: what it answers, when it is ready, how it stops, what a rewind does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use tarn::config::Config;
use tarn::dataflow::WallClock;
use tarn::dataflow::counters::read;
use tarn::http::server::{Caps, serve};
use tarn::http::{App, Scope, router};
use tarn::model::{Coordinates, TopicId, Topics};
use tarn::service::{Running, Service, start, start_with};
use tarn::source::kafka::{KafkaConfig, KafkaSource, LostPositionPolicy};
use tarn::source::{Limit, Polled, RecordBatch, Rewound, Source, SourceError, SourceStatus};

use crate::support::cluster::{Cluster, PATIENCE, position};

/// The service on a Kafka source.
fn serving(kafka: KafkaConfig) -> (Service, Running) {
    let (topics, status) = (Topics::default(), SourceStatus::default());
    let source = KafkaSource::new(kafka, topics.clone(), status.clone()).expect("a valid configuration");
    start_with(config(), Box::new(source), Box::<WallClock>::default(), topics, status).expect("it starts")
}

fn config() -> Config {
    let mut config = Config::default();
    config.views.directory.clear();
    config.dataflow.workers = 1;
    config.ingest.idle_seal_interval_ms = 20;
    config
}

fn until(what: &str, service: &Service, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} not in time: {:#?}", service.status.get());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a route answers.
fn get(service: &Service, path: &str) -> (u16, Value) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let address = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = tokio::sync::watch::channel(false);
        // Never stopped: the runtime ends with this function.
        std::mem::forget(stop);
        let caps = Caps { connections_max: 4, connections_per_address_max: 4 };
        tokio::spawn(serve(listener, router(App::new(service.clone(), None), Scope::Read), caps, stopped));
        address
    });
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: tarn\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn a_lost_position_leaves_the_service_alive_and_not_ready() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.fill("t", 0, 5);
    let mut kafka = cluster.config(&["t"]);
    kafka.resume = position(&[("t", 0, 999)]);
    let (service, running) = serving(kafka);
    until("the loss", &service, || get(&service, "/api/tarn/v1/status").1["sourceState"]["phase"] == "positionLost");
    let epoch = service.publisher.view().epoch();
    until("time", &service, || service.publisher.view().epoch() > epoch + 100);
    assert!(!service.is_ready() && !running.has_ended());
    let (_, status) = get(&service, "/api/tarn/v1/status");
    assert_eq!((&status["complete"], &status["source"]["connected"]), (&true.into(), &false.into()));
    let partition = &status["sourceState"]["partitions"][0];
    assert_eq!((&partition["topic"], &partition["state"]), (&"t".into(), &"positionLost".into()));
    assert!(partition["lastError"].as_str().is_some_and(|error| error.contains("offset 999 is next")), "{status}");
    assert_eq!(partition["identityFault"], "truncated");
    let (code, body) = get(&service, "/readyz");
    assert!(code == 503 && body["message"].as_str().is_some_and(|text| text.contains("positionLost")), "{body}");
    running.stop();
    running.join().expect("a halt is no failure of the process");
}

#[test]
fn a_loss_that_is_passed_over_is_shown_with_every_answer() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.fill("t", 0, 5);
    let mut kafka = cluster.config(&["t"]);
    kafka.resume = position(&[("t", 0, 999)]);
    kafka.lost_position = LostPositionPolicy::Continue;
    let (service, running) = serving(kafka);
    until("the end", &service, || service.is_ready());
    let (_, answer) = get(&service, "/api/tarn/v1/position");
    assert_eq!((&answer["complete"], &answer["position"][0]["offset"]), (&false.into(), &5.into()));
    assert!(answer["incompleteSince"].is_string());
    running.stop();
    running.join().expect("it stops");
}

#[test]
fn ready_stays_ready_and_the_status_tells_what_each_partition_does() {
    let cluster = Cluster::new(&[("t", 2)]);
    cluster.fill("t", 0, 3);
    let mut config = config();
    config.source.kafka.brokers.clone_from(&cluster.brokers);
    config.source.kafka.topics = vec!["t".to_owned()];
    config.source.kafka.properties.insert("statistics.interval.ms".to_owned(), "100".to_owned());
    let (service, running) =
        start(config, tarn::service::Time::Wall, tarn::snapshot::Verification::OnThread).expect("it starts");
    until("the end", &service, || service.is_ready());
    until("the ends", &service, || {
        let (_, status) = get(&service, "/api/tarn/v1/status");
        let lags = status["sourceState"]["partitions"].as_array().expect("a list").iter();
        let lags: Vec<_> = lags.map(|one| (one["nextOffset"].as_i64(), one["lag"].as_i64())).collect();
        lags == [(Some(3), Some(0)), (Some(0), Some(0))]
    });
    cluster.mock.broker_down(-1).expect("down");
    until("what happened", &service, || {
        let (_, status) = get(&service, "/api/tarn/v1/status");
        let source = &status["sourceState"];
        let states: Vec<_> = (0..2).map(|index| source["partitions"][index]["state"].as_str()).collect();
        source["phase"] == "disconnected" && states == [Some("disconnected"); 2] && source["lastError"].is_string()
    });
    assert!(service.is_ready(), "what was read is served");
    let began = Instant::now();
    running.stop();
    running.join().expect("it stops");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// The end of the log is asked for when it is asked about: what was written a moment ago is in the answer.
#[test]
fn all_that_kafka_holds_is_in_the_answer_and_one_that_is_away_is_told() {
    let cluster = Cluster::new(&[("t", 3)]);
    cluster.fill("t", 0, 3);
    let (service, running) = serving(cluster.config(&["t"]));
    until("the end", &service, || service.is_ready());
    let path = "/api/tarn/v1/position?consistency=atLeastAsAcknowledged&timeout=20s";
    for round in 1..4_usize {
        cluster.fill("t", 1, 50);
        cluster.fill("t", 2, 1);
        let (code, answer) = get(&service, path);
        assert_eq!(code, 200, "{answer}");
        let read = |partition: usize| answer["position"][partition]["offset"].as_u64();
        let written = [3, 50 * round as u64, round as u64].map(Some);
        assert_eq!([read(0), read(1), read(2)], written, "{answer}");
    }
    cluster.mock.broker_down(-1).expect("down");
    let began = Instant::now();
    let (code, answer) = get(&service, "/api/tarn/v1/position?consistency=atLeastAsAcknowledged&timeout=1500ms");
    assert_eq!(code, 504, "{answer}");
    assert!(answer["message"].as_str().is_some_and(|text| text.contains("the end of the log")), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    running.stop();
    running.join().expect("it stops");
}

/// A source that goes back to the beginning of its partition once.
struct GoesBack {
    topic: TopicId,
    step: usize,
    rewinds: Vec<Rewound>,
}

impl Source for GoesBack {
    fn poll(&mut self, batch: &mut RecordBatch, _wait: Duration, _limit: Limit) -> Result<Polled, SourceError> {
        self.step += 1;
        let offsets = match self.step {
            1 => 5..9,
            2 => {
                self.rewinds.push(Rewound { topic: "t".into(), partition: 0, to: 0 });
                0..2
            }
            _ => return Ok(Polled::End),
        };
        for offset in offsets {
            let coordinates = Coordinates { topic: self.topic, partition: 0, offset };
            batch.push_wire(coordinates, -1, None, Some(b"no event"), std::iter::empty());
        }
        Ok(Polled::Records)
    }

    fn take_rewinds(&mut self) -> Vec<Rewound> {
        std::mem::take(&mut self.rewinds)
    }
}

#[test]
fn a_rewind_takes_the_position_back_and_what_follows_is_read() {
    let topics = Topics::default();
    let topic = topics.intern("t").expect("room");
    let source = GoesBack { topic, step: 0, rewinds: Vec::new() };
    let mut config = config();
    config.source.kafka.topics = vec!["t".to_owned()];
    let started = start_with(config, Box::new(source), Box::<WallClock>::default(), topics, SourceStatus::default());
    let (service, running) = started.expect("it starts");
    // Time goes on over a source that has ended.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while read(&service.counters.records) < 6 {
        assert!(std::time::Instant::now() < deadline, "six records");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    running.stop();
    let end = running.join().expect("it ends");
    assert_eq!(*end.position, position(&[("t", 0, 2)]));
    let records = read(&service.counters.records);
    assert_eq!((records, service.publisher.view().position()), (6, &end.position));
}

/// A restart on a data directory reads nothing twice and has its quarantine; another log in the same place is told from
/// the one that was read, and nothing of it is taken.
#[test]
fn a_restart_goes_on_where_it_was_and_knows_its_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let started = |cluster: &Cluster| {
        let mut config = config();
        config.source.kafka.brokers.clone_from(&cluster.brokers);
        config.source.kafka.topics = vec!["t".to_owned()];
        config.snapshot.directory = folder.path().join("data").display().to_string();
        start(config, tarn::service::Time::Wall, tarn::snapshot::Verification::OnThread).expect("it starts")
    };
    let end = |running: Running| {
        running.stop();
        running.join().expect("it stops")
    };
    let held = |service: &Service| service.publisher.view().quarantine().len();
    let cluster = Cluster::new(&[("t", 2)]);
    cluster.fill("t", 0, 3);
    cluster.fill("t", 1, 2);
    let (service, running) = started(&cluster);
    until("the end", &service, || service.is_ready());
    let incarnation = service.publisher.view().incarnation();
    let token = get(&service, "/api/tarn/v1/position").1["consistencyToken"].as_str().expect("a token").to_owned();
    let fresh = format!("/api/tarn/v1/position?consistency=atLeastAsFresh&token={token}");
    assert_eq!((held(&service), *end(running).position == position(&[("t", 0, 3), ("t", 1, 2)])), (5, true));

    cluster.fill("t", 0, 2);
    let (service, running) = started(&cluster);
    let now = (held(&service), service.publisher.view().incarnation());
    assert_eq!(now, (5, incarnation), "it is there before anything is read");
    let (code, answer) = get(&service, &fresh);
    assert_eq!(code, 200, "a token outlives the process: {answer}");
    until("two more", &service, || held(&service) == 7);
    assert_eq!(read(&service.counters.records), 2, "what was read is not asked for again");
    assert_eq!(*end(running).position, position(&[("t", 0, 5), ("t", 1, 2)]));

    let other = Cluster::new(&[("t", 2)]);
    let others: Vec<Vec<u8>> = (0..9).map(|n| format!("another log's {n}").into_bytes()).collect();
    other.produce("t", 0, &others, &[]);
    other.produce("t", 1, &others, &[]);
    let (service, running) = started(&other);
    until("the other log is recognised", &service, || {
        let (_, status) = get(&service, "/api/tarn/v1/status");
        status["sourceState"]["partitions"][0]["identityFault"] == "another_cluster"
    });
    assert_eq!((held(&service), read(&service.counters.records)), (7, 0));
    end(running);
}
