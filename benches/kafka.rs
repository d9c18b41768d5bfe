//! Tarn behind a real Kafka, to the published view, against a bare consumer that only counts, in one run.
//!
//! `cargo bench --bench kafka` starts Apache Kafka on loopback (Java 17 and Maven are needed) and fills a topic with
//! wire-exact records; `TARN_BENCH_EVENTS` (2000000), `TARN_BENCH_ROUNDS` (3) and `TARN_BENCH_THREADS` (2) change it. The
//! broker shares the machine, so CPU time is that of the client's process alone. All begin at the earliest record, with the
//! same settings of librdkafka, in turns.
//!
//! Then events are written as they come, `TARN_BENCH_RATE` (10000) a second for `TARN_BENCH_SECONDS` (20), and each is timed
//! from its being handed to the producer until a bare consumer has it, or the published view holds it.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

// The Kafka of the tests of the whole pipeline.
#[path = "../tests/pipeline/broker.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod broker;
#[path = "../tests/pipeline/parts.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod parts;
#[path = "../tests/pipeline/programs.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod programs;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use broker::{Broker, Security, TOPIC};
use parts::Parts;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use support::{Spent, median, print_table, quantile, setting, spend};
use tarn::clock::now_ms;
use tarn::config::{Config, SourceKind};
use tarn::generate::{Generated, Generator, GeneratorConfig};
use tarn::service::Service;
use tarn::source::kafka::{KafkaConfig, properties};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A round that takes longer does not get on.
const ROUND_MAX: Duration = Duration::from_secs(600);

fn main() {
    let (events, rounds) = (setting("TARN_BENCH_EVENTS", 2_000_000), setting("TARN_BENCH_ROUNDS", 3));
    let parts = Parts::find().unwrap_or_else(|missing| panic!("{missing}"));
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Box::leak(Box::new(parts)), folder.path(), Security::Plaintext);
    broker.create_topic(1);
    // As old as it takes to be written by the log's clock: what is older than a week the broker would delete.
    let start_ms = now_ms() - 2 * events - 60_000;
    let config = GeneratorConfig { resources: (events / 5) as usize, start_ms, ..Default::default() };
    let mut generator = Generator::new(config);
    fill(&broker, &mut generator, events);
    let subjects = ["bare consumer", "Tarn to the published view", "Tarn with all shipped views"];
    let mut all = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        all[0].push(spend(|| count(&broker, events)));
        all[1].push(spend(|| serve(&broker, events, "", |_| ())));
        all[2].push(spend(|| serve(&broker, events, "queries", |_| ())));
    }
    let of = |spent: &[Spent], what: fn(&Spent) -> f64| -> Vec<f64> { spent.iter().map(what).collect() };
    let (wall, cpu): (fn(&Spent) -> f64, fn(&Spent) -> f64) =
        (|spent| spent.wall.as_secs_f64(), |spent| spent.cpu.as_secs_f64());
    let against = |spent: &[Spent], what| {
        let ratios = of(spent, what).into_iter().zip(of(&all[0], what)).map(|(one, bare)| one / bare);
        median(ratios.collect())
    };
    let rows = subjects.iter().zip(&all).map(|(name, spent)| {
        vec![
            (*name).to_owned(),
            format!("{:.0}", events as f64 / median(of(spent, wall))),
            format!("{:.2}", 1.0 / against(spent, wall)),
            format!("{:.2}", median(of(spent, cpu)) * 1e6 / events as f64),
            format!("{:.2}", against(spent, cpu)),
        ]
    });
    let title = format!("kafka: {events} records of one partition, median of {rounds} rounds");
    print_table(
        &title,
        &["what", "records/s", "of the bare one", "CPU µs a record", "times"],
        &rows.collect::<Vec<_>>(),
    );
    let rate = setting("TARN_BENCH_RATE", 10_000);
    let followed = [
        follow_bare(&broker, &mut generator, rate),
        follow_tarn(&broker, &mut generator, rate, ""),
        follow_tarn(&broker, &mut generator, rate, "queries"),
    ];
    let followed = subjects.iter().zip(followed).map(|(name, millis)| {
        let of_all = [0.5, 0.99, 1.0].map(|share| format!("{:.1}", quantile(&millis, share)));
        [vec![(*name).to_owned(), millis.len().to_string()], of_all.to_vec()].concat()
    });
    let title = format!("kafka: from the producer's hand until it is there, {rate} events a second");
    print_table(&title, &["what", "events", "p50 ms", "p99 ms", "max ms"], &followed.collect::<Vec<_>>());
}

/// Writes so many records, as Connect does: one batch after the other, in order.
fn fill(broker: &Broker, generator: &mut Generator, events: u64) {
    let producer = producer(broker, "20");
    let began = Instant::now();
    for record in generator.filter(|record| record.topic == TOPIC).take(events as usize) {
        write(&producer, &record);
    }
    producer.flush(ROUND_MAX).unwrap();
    assert_eq!(kept(broker), events, "the broker keeps what it was given");
    eprintln!("{events} records were written in {:.1?}", began.elapsed());
}

/// How many records the topic holds.
fn kept(broker: &Broker) -> u64 {
    let [(0, end)] = broker.watermarks()[..] else { panic!("something was deleted") };
    end as u64
}

fn producer(broker: &Broker, linger_ms: &str) -> BaseProducer {
    let mut config = broker.client();
    config.set("linger.ms", linger_ms).set("batch.size", "1000000").set("message.max.bytes", "2000000");
    config.create().unwrap()
}

/// Writes events at a steady rate; the time at which each is handed over goes to `handed` first.
fn write_live(producer: &BaseProducer, generator: &mut Generator, rate: u64, handed: &Mutex<Vec<Instant>>) {
    let all = rate * setting("TARN_BENCH_SECONDS", 20);
    let (began, mut sent) = (Instant::now(), 0);
    // By the log's clock, which must not run ahead of this machine's.
    generator.set_gap_us(500_000 / rate.max(1));
    while sent < all {
        std::thread::sleep(Duration::from_millis(1));
        generator.advance_clock_to(now_ms());
        let due = ((began.elapsed().as_secs_f64() * rate as f64) as u64).min(all);
        for record in generator.by_ref().filter(|record| record.topic == TOPIC).take((due - sent) as usize) {
            handed.lock().unwrap().push(Instant::now());
            write(producer, &record);
        }
        sent = due;
    }
    producer.flush(ROUND_MAX).unwrap();
}

/// Milliseconds until each of the events that are written meanwhile was there, by what `shown` says of the next offset.
fn follow(broker: &Broker, generator: &mut Generator, rate: u64, mut shown: impl FnMut() -> u64) -> Vec<f64> {
    let (first, handed, producer) = (kept(broker), Mutex::new(Vec::new()), producer(broker, "0"));
    let mut millis = Vec::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_live(&producer, generator, rate, &handed));
        loop {
            let (is_over, next, now) = (writer.is_finished(), shown(), Instant::now());
            let handed = handed.lock().unwrap();
            let new = &handed[millis.len()..(next.saturating_sub(first)) as usize];
            millis.extend(new.iter().map(|handed| (now - *handed).as_secs_f64() * 1e3));
            if is_over && millis.len() == handed.len() {
                break;
            }
        }
    });
    assert_eq!(kept(broker), first + millis.len() as u64, "the broker keeps what it was given");
    millis.sort_by(f64::total_cmp);
    millis
}

/// The same until a bare consumer has each.
fn follow_bare(broker: &Broker, generator: &mut Generator, rate: u64) -> Vec<f64> {
    let mut next = kept(broker);
    let consumer = bare(broker, Offset::Offset(next as i64));
    follow(broker, generator, rate, || {
        match consumer.poll(Duration::from_micros(200)) {
            Some(Ok(record)) => next = record.offset() as u64 + 1,
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => panic!("{error}"),
        }
        next
    })
}

/// The same until the published view holds each.
fn follow_tarn(broker: &Broker, generator: &mut Generator, rate: u64, views: &str) -> Vec<f64> {
    let mut millis = Vec::new();
    serve(broker, kept(broker), views, |service| {
        millis = follow(broker, generator, rate, || {
            std::thread::sleep(Duration::from_micros(200));
            service.publisher.view().position().next_offset(TOPIC, 0).unwrap() as u64
        });
    });
    millis
}

fn write(producer: &BaseProducer, record: &Generated) {
    let headers = record
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
    let mut sent = BaseRecord::<str, str>::to(TOPIC).partition(0).headers(headers).timestamp(record.timestamp_ms);
    sent = match &record.key {
        Some(key) => sent.key(key),
        None => sent,
    };
    sent = match &record.value {
        Some(value) => sent.payload(value),
        None => sent,
    };
    let mut waiting = Some(sent);
    while let Some(sent) = waiting.take() {
        match producer.send(sent) {
            Ok(()) => {}
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                producer.poll(Duration::from_millis(10));
                waiting = Some(again);
            }
            Err((error, _)) => panic!("{error}"),
        }
    }
    producer.poll(Duration::ZERO);
}

/// A consumer with Tarn's settings.
fn bare(broker: &Broker, from: Offset) -> BaseConsumer {
    let config = KafkaConfig { brokers: broker.address(), group: "bare".to_owned(), ..KafkaConfig::default() };
    let consumer: BaseConsumer = properties::reader(&config, 1).create().unwrap();
    let mut assigned = TopicPartitionList::new();
    assigned.add_partition_offset(TOPIC, 0, from).unwrap();
    consumer.assign(&assigned).unwrap();
    consumer
}

/// Takes all records and looks at none.
fn count(broker: &Broker, events: u64) {
    let consumer = bare(broker, Offset::Beginning);
    let (mut seen, mut bytes, deadline) = (0, 0, Instant::now() + ROUND_MAX);
    while seen < events {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                seen += 1;
                bytes += record.payload_len();
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => assert!(Instant::now() < deadline, "{seen} records came"),
            Some(Err(error)) => panic!("{error}"),
        }
    }
    assert!(bytes > 0);
}

/// Reads all records, folds them and shows what comes of it, views included; and does something while it runs.
fn serve(broker: &Broker, events: u64, views: &str, meanwhile: impl FnOnce(&Service)) {
    let mut config = Config::default();
    config.source.kind = SourceKind::Kafka;
    config.source.kafka.brokers = broker.address();
    config.source.kafka.heartbeat_topic = String::new();
    config.views.directory = views.to_owned();
    config.dataflow.workers = setting("TARN_BENCH_THREADS", 2) as usize;
    let (time, verification) = (tarn::service::Time::Wall, tarn::snapshot::Verification::OnThread);
    let (service, running) = tarn::service::start(config, time, verification).unwrap();
    let deadline = Instant::now() + ROUND_MAX;
    let all = i64::try_from(events).unwrap();
    let has_all = || service.publisher.view().position().next_offset(TOPIC, 0).is_some_and(|next| next >= all);
    while !(has_all() && service.is_ready()) {
        assert!(Instant::now() < deadline, "{:?}", service.publisher.view().position());
        std::thread::sleep(Duration::from_millis(5));
    }
    meanwhile(&service);
    running.stop();
    running.join().unwrap();
}
