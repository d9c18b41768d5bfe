//! A log that turned out to be another one, under the policy `rebuild`: what was shown is served until the new state is
//! complete, which is then what the log alone says; what is gone is counted, and kept aside.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tarn::config::Config;
use tarn::generate::{FaultRates, Generated, Generator, GeneratorConfig, RESOURCES_TOPIC};
use tarn::http::write_resource;
use tarn::published::ReadView;
use tarn::service::{Running, Service, Time, start};
use tarn::snapshot::Verification;
use tarn::source::kafka::LostPositionPolicy;

use crate::support::cluster::{Cluster, PATIENCE};

fn log(count: usize) -> Vec<Generated> {
    let faults = FaultRates { deletes: 0.1, revivals: 0.3, ghosts: 0.02, poison: 0.01, ..FaultRates::default() };
    let config = GeneratorConfig { seed: 7, resources: 150, faults, ..GeneratorConfig::default() };
    Generator::new(config).take(count).collect()
}

fn produce(cluster: &Cluster, events: &[Generated]) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &cluster.brokers).create().expect("a producer");
    for event in events {
        let headers = event
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
        let mut record = BaseRecord::to(RESOURCES_TOPIC).partition(0).timestamp(event.timestamp_ms).headers(headers);
        record.key = event.key.as_deref();
        record.payload = event.value.as_deref();
        producer.send(record).map_err(|(error, _)| error).expect("room");
    }
    producer.flush(PATIENCE).expect("the cluster takes it");
}

fn served(brokers: &str, data: Option<&Path>) -> (Service, Running) {
    let mut config = Config::default();
    config.views.directory.clear();
    config.dataflow.workers = 2;
    config.ingest.idle_seal_interval_ms = 20;
    config.source.kafka.brokers = brokers.to_owned();
    config.source.kafka.topics = vec![RESOURCES_TOPIC.to_owned()];
    config.source.kafka.lost_position = LostPositionPolicy::Rebuild;
    for (name, value) in [("statistics.interval.ms", "100"), ("reconnect.backoff.max.ms", "200")] {
        config.source.kafka.properties.insert(name.to_owned(), value.to_owned());
    }
    config.source.kafka.discovery_interval_ms = 200;
    config.snapshot.interval_ms = 100;
    config.snapshot.directory = data.map(|data| data.display().to_string()).unwrap_or_default();
    start(config, Time::Wall, Verification::OnThread).expect("it starts")
}

fn until(what: &str, service: &Service, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} not in time: {:#?}", service.status.get());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn end(running: Running) {
    running.stop();
    running.join().expect("it stops");
}

/// Every live resource as it is shown, by id, and whether it is an orphan; with the quarantine.
fn shown(service: &Service, view: &ReadView) -> (BTreeMap<String, String>, Vec<String>) {
    let states = view.all_states();
    let live = states.iter().filter(|state| state.is_live()).map(|state| {
        let mut json = Vec::new();
        write_resource(&mut json, state, view.orphaned_by(state.id), &service.topics);
        (state.id.to_string(), String::from_utf8(json).expect("UTF-8"))
    });
    let quarantine = view.quarantine();
    let rejected = quarantine.iter().map(|entry| format!("{:?} {:?}", entry.coordinates(), entry.status));
    (live.collect(), rejected.collect())
}

/// What a service shows that knows nothing but the log.
fn fresh(cluster: &Cluster) -> (BTreeMap<String, String>, Vec<String>) {
    let (service, running) = served(&cluster.brokers, None);
    until("the end", &service, || service.is_ready());
    let found = shown(&service, &service.publisher.view());
    end(running);
    found
}

/// Follows what is shown until the state has been made anew; everything before is the former state, or not older.
fn follow(service: &Service, former: Option<&BTreeMap<String, String>>) -> Arc<ReadView> {
    let incarnation = service.publisher.view().incarnation();
    until("the new state", service, || {
        let view = service.publisher.view();
        if view.incarnation() != incarnation {
            return true;
        }
        let is_served = former.is_none_or(|former| shown(service, &view).0 == *former);
        assert!(is_served, "what was shown is served until then");
        false
    });
    service.publisher.view()
}

#[test]
fn another_log_makes_the_state_anew_and_what_was_is_kept_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let events = log(600);
    let (one, two) = (Cluster::new(&[(RESOURCES_TOPIC, 1)]), Cluster::new(&[(RESOURCES_TOPIC, 1)]));
    produce(&one, &events[..400]);
    // Made anew: it lacks what was first, and goes on.
    produce(&two, &events[250..]);
    let (service, running) = served(&one.brokers, Some(&data));
    until("the end", &service, || service.is_ready());
    let (former, _) = shown(&service, &service.publisher.view());
    end(running);

    let expected = fresh(&two);
    let gone = former.keys().filter(|id| !expected.0.contains_key(*id)).count() as u64;
    assert!(gone > 0 && !expected.0.is_empty(), "{gone}");
    let (service, running) = served(&two.brokers, Some(&data));
    let view = follow(&service, Some(&former));
    assert_eq!(shown(&service, &view), expected, "the first that is shown is complete");
    until("what is gone is counted", &service, || service.status.get().rebuilds.gone == gone);
    let state = service.status.get();
    assert_eq!((state.rebuilds.finished, state.rebuilds.running_since_ms, state.incomplete_since_ms), (1, None, None));
    let kept = || {
        let entries = std::fs::read_dir(&data).expect("a directory").flatten();
        entries.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("before-rebuild-"))
    };
    until("a copy of what was", &service, || kept().is_some_and(|path| path.extension().is_none()));
    until("a snapshot", &service, || {
        service.snapshots.as_ref().is_some_and(|health| health.get().epoch >= Some(view.epoch()))
    });
    end(running);
    // The copy is a data directory with the former state; the directory itself has the new one.
    let copy = kept().expect("a copy");
    let (service, running) = served(&one.brokers, Some(&copy));
    assert_eq!(shown(&service, &service.publisher.view()).0, former);
    end(running);
    let (service, running) = served(&two.brokers, Some(&data));
    assert_eq!(shown(&service, &service.publisher.view()), expected);
    until("the end", &service, || service.is_ready());
    assert_eq!(service.status.get().rebuilds.finished, 0, "it is the same log now");
    end(running);
}

#[test]
fn a_log_that_becomes_another_one_while_it_is_read_is_read_from_its_beginning() {
    let events = log(600);
    let (one, two) = (Cluster::new(&[(RESOURCES_TOPIC, 1)]), Cluster::new(&[(RESOURCES_TOPIC, 1)]));
    produce(&one, &events[..300]);
    produce(&two, &events[200..]);
    let expected = fresh(&two);
    two.mock.broker_down(-1).expect("down");
    let (service, running) = served(&format!("{},{}", one.brokers, two.brokers), None);
    until("the end", &service, || service.is_ready());
    until("a name", &service, || {
        service.status.get().partitions.first().is_some_and(|one| one.end_offset == Some(300))
    });
    one.mock.broker_down(-1).expect("down");
    two.mock.broker_up(-1).expect("up");
    // Some records of the other one may come before it is noticed; in the new state they are what they are.
    let view = follow(&service, None);
    assert_eq!(shown(&service, &view), expected);
    // And it is read on.
    produce(&two, &events[..5]);
    until("more", &service, || service.publisher.view().position().next_offset(RESOURCES_TOPIC, 0) == Some(405));
    end(running);
}
