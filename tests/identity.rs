//! The log's identity against librdkafka's mock cluster: the same log is read on, another one is named and met by the
//! policy, at start and while running; nothing is taken before that is decided.

use std::time::{Duration, Instant};

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tarn::source::identity::verdict::IdentityFault;
use tarn::source::identity::{Fingerprint, LogIdentity};
use tarn::source::kafka::{KafkaConfig, LostPositionPolicy};
use tarn::source::{Phase, Rewound, Source};

use crate::support::cluster::{Cluster, Reader, position};

/// Puts records into a partition that begin with `word`, so that logs differ.
fn fill(cluster: &Cluster, topic: &str, partition: i32, word: &str, count: usize) {
    let values: Vec<_> = (0..count).map(|number| format!("{word}{number}").into_bytes()).collect();
    cluster.produce(topic, partition, &values, &[]);
}

/// How to go on in `to`, which is taken for the same cluster, where a reader of another one has left off.
fn resumed(to: &Cluster, known: &LogIdentity, reader: &Reader, policy: LostPositionPolicy) -> KafkaConfig {
    let mut config = to.config(&["t"]);
    config.resume = reader.position.clone();
    config.known = LogIdentity { cluster_id: None, ..known.clone() };
    config.lost_position = policy;
    config
}

/// Reads all of `t`, of which each partition has `count` records, in two steps; what is then known of it.
fn read_all(cluster: &Cluster, partitions: i32, count: usize) -> (Reader, LogIdentity) {
    let mut reader = cluster.reader(&["t"]);
    for partition in 0..partitions {
        reader.until("its end", |reader| reader.next("t", partition) == Some(count as i64));
    }
    reader.until("a name", |reader| reader.source.identity().get().cluster_id.is_some());
    let known = reader.source.identity().known_below(&reader.position);
    (reader, known)
}

fn fault(reader: &Reader, partition: usize) -> Option<IdentityFault> {
    reader.state().partitions.get(partition).and_then(|one| one.identity_fault)
}

/// Reads until the source has halted, and says with which fault and words; nothing was taken.
fn halted(config: KafkaConfig) -> (IdentityFault, String) {
    let mut reader = Reader::new(config);
    reader.until_phase(Phase::PositionLost);
    assert!(reader.read.is_empty() && reader.rewinds.is_empty(), "{:?}", reader.read);
    let state = reader.state();
    assert_eq!((state.end_at_start, state.incomplete_since_ms), (None, None));
    let worst = state.partitions.iter().find(|one| one.phase == Phase::PositionLost).expect("one that is lost");
    let fault = worst.identity_fault.expect("it is named");
    assert_eq!(state.identity_faults.into_iter().collect::<Vec<_>>(), [(fault, 1)]);
    let error = state.last_error.expect("it is said");
    assert!(error.ends_with(&format!("({})", fault.as_str())), "{error}");
    (fault, error)
}

#[test]
fn the_same_log_is_read_on_and_fingerprints_cost_no_time() {
    let cluster = Cluster::new(&[("t", 3)]);
    for partition in 0..3 {
        fill(&cluster, "t", partition, "a", 500);
    }
    let (reader, known) = read_all(&cluster, 3, 500);
    for partition in 0..3 {
        let last = known.fingerprints("t", partition).last().expect("one").offset;
        assert_eq!((last, known.partition_count("t")), (499, Some(3)));
        fill(&cluster, "t", partition, "b", 2);
    }
    let config = KafkaConfig { known, ..resumed(&cluster, &LogIdentity::default(), &reader, LostPositionPolicy::Halt) };
    drop(reader);
    let began = Instant::now();
    let mut reader = Reader::new(config);
    for partition in 0..3 {
        reader.until_read("t", partition, 2);
        assert_eq!(reader.offsets("t", partition), [500, 501]);
    }
    let with_check = began.elapsed();
    drop(reader);
    let mut plain = cluster.config(&["t"]);
    plain.resume = position(&[("t", 0, 500), ("t", 1, 500), ("t", 2, 500)]);
    let began = Instant::now();
    let mut reader = Reader::new(plain);
    for partition in 0..3 {
        reader.until_read("t", partition, 2);
    }
    // Mostly a twentieth of a second; at times the new client sleeps for one before it connects.
    assert!(with_check < began.elapsed() + Duration::from_millis(1_500), "{with_check:?}");
    reader.until("well", |reader| reader.state().phase == Phase::Reading && reader.state().end_at_start.is_some());
    let state = reader.state();
    assert!(state.identity_faults.is_empty() && state.incomplete_since_ms.is_none() && state.last_error.is_none());
}

#[test]
fn other_records_at_the_same_offsets_are_another_log() {
    let (one, two) = (Cluster::new(&[("t", 2)]), Cluster::new(&[("t", 2)]));
    for partition in 0..2 {
        fill(&one, "t", partition, "a", 10);
        fill(&two, "t", partition, "b", 20);
    }
    let (reader, mut known) = read_all(&one, 2, 10);
    // The other partition has nothing to be known by: what holds for the topic holds for it.
    known.topics.get_mut("t").expect("known").partitions.remove(&1);
    let (fault_found, error) = halted(resumed(&two, &known, &reader, LostPositionPolicy::Halt));
    assert_eq!(fault_found, IdentityFault::Recreated);
    assert!(error.contains("the record at offset 9 was one of time"), "{error}");

    let mut again = Reader::new(resumed(&two, &known, &reader, LostPositionPolicy::Continue));
    again.until("both", |reader| reader.rewinds.len() == 2);
    let rewound = |partition| Rewound { topic: "t".into(), partition, to: 0 };
    assert_eq!(again.rewinds, [rewound(0), rewound(1)]);
    for partition in 0..2 {
        again.until("all of it", |reader| reader.offsets("t", partition).ends_with(&[17, 18, 19]));
        let offsets = again.offsets("t", partition);
        let from_start = &offsets[offsets.len() - 20..];
        assert_eq!(from_start, (0..20).collect::<Vec<_>>(), "from the start of the log");
    }
    assert_eq!((again.offsets("t", 0).len(), fault(&again, 1)), (20, Some(IdentityFault::Recreated)));
    assert!(again.state().incomplete_since_ms.is_some());
    // What is known now is the new log.
    let known = again.source.identity().known_below(&position(&[("t", 0, 20), ("t", 1, 20)]));
    assert!(known.cluster_id.is_some());
    let again_position = position(&[("t", 0, 20), ("t", 1, 20)]);
    let mut config = resumed(&two, &known, &again, LostPositionPolicy::Halt);
    (config.known, config.resume) = (known, again_position);
    drop(again);
    fill(&two, "t", 0, "b", 1);
    let mut third = Reader::new(config);
    third.until_read("t", 0, 1);
    assert_eq!((third.offsets("t", 0), fault(&third, 0)), (&[20][..], None));
}

#[test]
fn another_cluster_is_named() {
    let (one, two) = (Cluster::new(&[("t", 1)]), Cluster::new(&[("t", 1)]));
    fill(&one, "t", 0, "a", 5);
    fill(&two, "t", 0, "a", 9);
    let (reader, known) = read_all(&one, 1, 5);
    let config = |policy| KafkaConfig { known: known.clone(), ..resumed(&two, &known, &reader, policy) };
    let (fault_found, error) = halted(config(LostPositionPolicy::Halt));
    let expected = format!("cluster {} was expected", known.cluster_id.as_deref().expect("known"));
    assert!(fault_found == IdentityFault::AnotherCluster && error.contains(&expected), "{error}");
    let mut again = Reader::new(config(LostPositionPolicy::Continue));
    again.until_read("t", 0, 9);
    again.until_phase(Phase::Reading);
    assert_eq!((again.offsets("t", 0).len(), again.rewinds.len()), (9, 1));
    assert_ne!(again.source.identity().get().cluster_id, known.cluster_id);
}

#[test]
fn fewer_partitions_are_another_topic() {
    let (one, two) = (Cluster::new(&[("t", 3)]), Cluster::new(&[("t", 2)]));
    for partition in 0..3 {
        fill(&one, "t", partition, "a", 5);
    }
    fill(&two, "t", 0, "a", 3);
    let (reader, known) = read_all(&one, 3, 5);
    let (fault_found, error) = halted(resumed(&two, &known, &reader, LostPositionPolicy::Halt));
    assert_eq!(fault_found, IdentityFault::FewerPartitions);
    assert!(error.contains("3 partitions were expected, and the topic has 2"), "{error}");
    let mut again = Reader::new(resumed(&two, &known, &reader, LostPositionPolicy::Continue));
    again.until_read("t", 0, 3);
    again.until("all three", |reader| reader.rewinds.len() == 3);
    again.until("well", |reader| reader.state().phase == Phase::Reading && reader.state().end_at_start.is_some());
    assert_eq!(again.source.identity().get().partition_count("t"), Some(2));
}

#[test]
fn a_shorter_log_is_cut_and_one_that_begins_later_was_passed_by_retention() {
    let (one, two) = (Cluster::new(&[("t", 1)]), Cluster::new(&[("t", 1)]));
    fill(&one, "t", 0, "a", 10);
    fill(&two, "t", 0, "a", 5);
    let (reader, known) = read_all(&one, 1, 10);
    let config = resumed(&two, &known, &reader, LostPositionPolicy::Halt);
    let (fault_found, error) = halted(config);
    assert_eq!(fault_found, IdentityFault::Truncated);
    assert!(error.contains("offset 10 is next, and the log has 0 to 5"), "{error}");
    let mut again = Reader::new(resumed(&two, &known, &reader, LostPositionPolicy::Continue));
    again.until_read("t", 0, 5);
    assert_eq!((again.offsets("t", 0), again.rewinds.len()), (&[0, 1, 2, 3, 4][..], 1));

    let three = Cluster::new(&[("t", 1)]);
    three.cut("t");
    let mut config = resumed(&three, &known, &reader, LostPositionPolicy::Halt);
    config.resume = position(&[("t", 0, 5)]);
    let (fault_found, error) = halted(config);
    assert_eq!(fault_found, IdentityFault::RetentionPassed);
    assert!(error.contains("offset 5 is next, and the log has 7 to 12"), "{error}");
}

#[test]
fn records_that_are_gone_prove_nothing_and_older_ones_are_looked_at() {
    let cluster = Cluster::new(&[("t", 1)]);
    fill(&cluster, "t", 0, "a", 10);
    let (reader, known) = read_all(&cluster, 1, 10);
    let mut config = resumed(&cluster, &known, &reader, LostPositionPolicy::Halt);
    let real = *known.fingerprints("t", 0).last().expect("one");
    // The last one is another, an older one the same: the log was cut in between and grew again.
    let other = Fingerprint { offset: 9, checksum: !real.checksum, ..real };
    let mut small = cluster.reader(&["t"]);
    small.limit.records = 3;
    small.until_read("t", 0, 10);
    let older = small.source.identity().known_below(&position(&[("t", 0, 9)])).fingerprints("t", 0).to_vec();
    assert!(!older.is_empty());
    drop(small);
    let known_as = |fingerprints: Vec<Fingerprint>| {
        let mut known = config.known.clone();
        let topic = known.topics.get_mut("t").expect("known");
        topic.partitions.get_mut(&0).expect("known").fingerprints = fingerprints;
        known
    };
    let mixed = known_as(older.iter().copied().chain([other]).collect());
    let (fault_found, error) = halted(KafkaConfig { known: mixed, ..config.clone() });
    assert!(fault_found == IdentityFault::Truncated && error.contains("the log is the same up to"), "{error}");
    // Below the log's start, as retention leaves it: nothing to compare, and the position is there.
    let gone = Cluster::new(&[("t", 1)]);
    gone.cut("t");
    config.known = known_as(vec![Fingerprint { offset: 3, ..other }]);
    config.brokers.clone_from(&gone.brokers);
    config.resume = position(&[("t", 0, 8)]);
    let mut reader = Reader::new(config);
    reader.until_read("t", 0, 4);
    assert_eq!((reader.offsets("t", 0), fault(&reader, 0)), (&[8, 9, 10, 11][..], None));
}

#[test]
fn a_check_that_cannot_be_made_waits_for_the_cluster_and_is_then_made() {
    let (one, two) = (Cluster::new(&[("t", 1)]), Cluster::new(&[("t", 1)]));
    fill(&one, "t", 0, "a", 5);
    fill(&two, "t", 0, "b", 9);
    let (reader, known) = read_all(&one, 1, 5);
    for (cluster, ends_well) in [(&two, false), (&one, true)] {
        cluster.mock.broker_down(-1).expect("down");
        let mut again = Reader::new(resumed(cluster, &known, &reader, LostPositionPolicy::Halt));
        again.until("what is wrong", |reader| reader.state().last_error.is_some());
        assert_eq!((again.state().phase, again.state().end_at_start), (Phase::Connecting, None));
        cluster.mock.broker_up(-1).expect("up");
        if ends_well {
            again.until("its end", |reader| reader.state().end_at_start.is_some());
            assert_eq!((again.state().phase, fault(&again, 0)), (Phase::Reading, None));
        } else {
            again.until_phase(Phase::PositionLost);
            assert_eq!((again.read.len(), fault(&again, 0)), (0, Some(IdentityFault::Recreated)));
        }
    }
}

#[test]
fn a_check_that_is_not_decided_is_shown_and_nothing_is_read_meanwhile() {
    let cluster = Cluster::new(&[("t", 1)]);
    fill(&cluster, "t", 0, "a", 5);
    let (reader, known) = read_all(&cluster, 1, 5);
    let config = resumed(&cluster, &known, &reader, LostPositionPolicy::Halt);
    drop(reader);
    fill(&cluster, "t", 0, "a", 1);
    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART; 60];
    cluster.mock.request_errors(RDKafkaApiKey::ListOffsets, &refusals);
    let mut again = Reader::new(config);
    again.until("the reason", |reader| {
        let error = reader.state().partitions.first().and_then(|one| one.last_error.clone());
        error.is_some_and(|error| error.contains("not known to be the log that was read: no watermarks"))
    });
    assert_eq!((again.state().phase, again.read.len()), (Phase::Checking, 0));
    cluster.mock.clear_request_errors(RDKafkaApiKey::ListOffsets);
    again.until_read("t", 0, 1);
    again.until("well", |reader| reader.state().phase == Phase::Reading && reader.state().last_error.is_none());
    assert_eq!(again.offsets("t", 0), [5]);
}

#[test]
fn a_topic_that_went_and_came_back_is_compared_before_it_is_read_on() {
    let cluster = Cluster::new(&[("t", 1)]);
    fill(&cluster, "t", 0, "a", 5);
    let (mut reader, _) = read_all(&cluster, 1, 5);
    cluster.mock.topic_error("t", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).expect("set");
    reader.until_phase(Phase::Missing);
    cluster.mock.topic_error("t", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).expect("set");
    fill(&cluster, "t", 0, "a", 5);
    reader.until_read("t", 0, 10);
    reader.until_phase(Phase::Reading);
    assert_eq!((reader.offsets("t", 0), fault(&reader, 0)), (&(0..10).collect::<Vec<_>>()[..], None));
}

#[test]
fn another_cluster_behind_the_same_addresses_is_noticed_while_running() {
    let (one, two) = (Cluster::new(&[("t", 1)]), Cluster::new(&[("t", 1)]));
    fill(&one, "t", 0, "a", 5);
    fill(&two, "t", 0, "b", 9);
    for policy in [LostPositionPolicy::Halt, LostPositionPolicy::Continue] {
        one.mock.broker_up(-1).expect("up");
        two.mock.broker_down(-1).expect("down");
        let mut config = one.config(&["t"]);
        config.brokers = format!("{},{}", one.brokers, two.brokers);
        config.lost_position = policy;
        let mut reader = Reader::new(config);
        reader.until("its end", |reader| reader.next("t", 0) == Some(5));
        reader.until("a name", |reader| reader.source.identity().get().cluster_id.is_some());
        one.mock.broker_down(-1).expect("down");
        two.mock.broker_up(-1).expect("up");
        reader.until("the fault", |reader| fault(reader, 0) == Some(IdentityFault::AnotherCluster));
        let offsets = reader.offsets("t", 0);
        assert_eq!(&offsets[..5], [0, 1, 2, 3, 4]);
        match policy {
            LostPositionPolicy::Halt => assert_eq!(reader.state().phase, Phase::PositionLost),
            LostPositionPolicy::Rebuild => unreachable!("shown with the service"),
            LostPositionPolicy::Continue => {
                reader.until("all of the other", |reader| reader.offsets("t", 0).ends_with(&[7, 8]));
                assert!(reader.state().incomplete_since_ms.is_some());
            }
        }
    }
}
