//! The Kafka source against a cluster that misbehaves: every record once, in order, whatever broke reading off; what
//! cannot be read is named.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use tarn::clock::now_ms;
use tarn::source::kafka::{KafkaConfig, LostPositionPolicy};
use tarn::source::{Limit, Phase, Rewound, Source};

use crate::support::cluster::{Cluster, PATIENCE, Reader, position};

fn all(count: i64) -> Vec<i64> {
    (0..count).collect()
}

#[test]
fn every_partition_is_read_from_its_position_and_goes_on_exactly_there() {
    let cluster = Cluster::new(&[("a", 2), ("b", 1)]);
    cluster.fill("a", 0, 10);
    cluster.fill("a", 1, 3);
    let mut config = cluster.config(&["a", "b"]);
    config.resume = position(&[("a", 0, 4)]);
    let mut reader = Reader::new(config);
    reader.until_read("a", 0, 6);
    reader.until_read("a", 1, 3);
    cluster.fill("a", 0, 2);
    cluster.fill("b", 0, 1);
    reader.until_read("a", 0, 8);
    reader.until_read("b", 0, 1);
    assert_eq!(reader.offsets("a", 0), (4..12).collect::<Vec<_>>());
    assert_eq!((reader.offsets("a", 1), reader.offsets("b", 0)), (&[0, 1, 2][..], &[0][..]));
    let resume = reader.position.clone();
    drop(reader);
    cluster.fill("a", 1, 2);
    let mut config = cluster.config(&["a", "b"]);
    config.resume = resume;
    let mut reader = Reader::new(config);
    reader.until_read("a", 1, 2);
    assert_eq!((reader.offsets("a", 1), reader.offsets("a", 0)), (&[3, 4][..], &[][..]));
}

#[test]
fn heartbeats_tell_how_old_the_newest_is_and_are_no_part_of_the_log() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.fill("t", 0, 3);
    let config = || KafkaConfig { heartbeat_topic: "beats".to_owned(), ..cluster.config(&["t"]) };
    let mut reader = Reader::new(config());
    let newest = |reader: &Reader| reader.state().heartbeats.expect("they are listened to").newest_ms;
    reader.until_read("t", 0, 3);
    assert_eq!(newest(&reader), None, "there is no such topic yet");
    cluster.mock.create_topic("beats", 2, 1).expect("a topic");
    cluster.fill("beats", 0, 5);
    reader.until("a heartbeat is heard of", |reader| newest(reader).is_some());
    std::thread::sleep(Duration::from_millis(50));
    let (before, begun_ms) = (newest(&reader), now_ms());
    cluster.fill("beats", 1, 1);
    reader.until("the next one is", |reader| newest(reader) > before);
    assert!(newest(&reader).is_some_and(|newest| newest >= begun_ms && newest <= now_ms()));
    assert_eq!(
        (reader.state().phase, reader.read.len(), &reader.position),
        (Phase::Reading, 1, &position(&[("t", 0, 3)]))
    );
    // Who comes later hears of the last one; who does not want to, of none.
    let (last, mut later) = (newest(&reader), Reader::new(config()));
    later.until("the last one is heard of", |later| newest(later) == last);
    let mut deaf = cluster.reader(&["t"]);
    deaf.until_read("t", 0, 3);
    assert_eq!(deaf.state().heartbeats, None);
}

#[test]
fn a_cluster_that_is_absent_at_start_is_waited_for() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.fill("t", 0, 5);
    cluster.mock.broker_down(-1).expect("down");
    let mut reader = cluster.reader(&["t"]);
    // Polls are short all the while: `Reader::poll` watches.
    reader.until("what is wrong", |reader| reader.state().last_error.is_some());
    assert_eq!((reader.state().phase, reader.state().end_at_start), (Phase::Connecting, None));
    cluster.mock.broker_up(-1).expect("up");
    reader.until_read("t", 0, 5);
    reader.until("well", |reader| reader.state().end_at_start.is_some() && reader.state().last_error.is_none());
    assert_eq!((reader.offsets("t", 0), reader.state().phase), (&all(5)[..], Phase::Reading));
}

#[test]
fn a_bounced_cluster_is_read_on_exactly_where_it_was() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.fill("t", 0, 5);
    let mut reader = cluster.reader(&["t"]);
    reader.until_read("t", 0, 5);
    let mut count = 5;
    for wait_for_notice in [true, false, false] {
        cluster.mock.broker_down(-1).expect("down");
        if wait_for_notice {
            reader.until_phase(Phase::Disconnected);
            assert!(reader.state().last_error.is_some(), "{:?}", reader.state());
            assert_eq!(reader.state().partitions[0].phase, Phase::Disconnected);
        } else {
            reader.for_a_while(100);
        }
        cluster.mock.broker_up(-1).expect("up");
        cluster.fill("t", 0, 5);
        count += 5;
        reader.until_read("t", 0, count);
        reader.until_phase(Phase::Reading);
        assert_eq!(reader.state().last_error, None);
    }
    assert_eq!(reader.offsets("t", 0), all(20));
}

#[test]
fn errors_of_the_cluster_lose_nothing_and_repeat_nothing() {
    use RDKafkaRespErr as Error;
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.fill("t", 0, 5);
    let mut reader = cluster.reader(&["t"]);
    reader.until("the end", |reader| reader.next("t", 0) == Some(5));
    let errors = [
        Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Error::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Error::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
        Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        Error::RD_KAFKA_RESP_ERR_UNKNOWN,
        Error::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
        Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        Error::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
    ];
    cluster.mock.request_errors(RDKafkaApiKey::Fetch, &errors);
    cluster.fill("t", 0, 5);
    reader.until_read("t", 0, 10);
    cluster.fill("t", 0, 5);
    reader.until_read("t", 0, 15);
    reader.until_phase(Phase::Reading);
    assert_eq!((reader.offsets("t", 0), reader.state().incomplete_since_ms), (&all(15)[..], None));
}

#[test]
fn an_offset_out_of_range_for_a_moment_loses_nothing() {
    let cluster = Cluster::new(&[("t", 2)]);
    cluster.fill("t", 0, 5);
    let mut reader = cluster.reader(&["t"]);
    reader.until("the ends", |reader| (reader.next("t", 0), reader.next("t", 1)) == (Some(5), Some(0)));
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE; 2];
    cluster.mock.request_errors(RDKafkaApiKey::Fetch, &errors);
    reader.until("news", |reader| reader.state().partitions.iter().any(|one| one.phase == Phase::Recovering));
    reader.until_phase(Phase::Reading);
    for partition in [0, 1] {
        cluster.fill("t", partition, 3);
    }
    reader.until_read("t", 0, 8);
    reader.until_read("t", 1, 3);
    assert_eq!((reader.offsets("t", 0), reader.offsets("t", 1)), (&all(8)[..], &all(3)[..]));
    assert!(reader.rewinds.is_empty() && reader.state().incomplete_since_ms.is_none());
}

#[test]
fn a_lost_position_halts_and_is_named() {
    let cluster = Cluster::new(&[("t", 1), ("u", 1)]);
    cluster.cut("t");
    cluster.fill("u", 0, 1);
    let mut config = cluster.config(&["t", "u"]);
    config.resume = position(&[("t", 0, 5)]);
    let mut reader = Reader::new(config);
    reader.until_phase(Phase::PositionLost);
    cluster.fill("u", 0, 1);
    reader.for_a_while(300);
    let state = reader.state();
    assert_eq!((state.phase, state.end_at_start, state.incomplete_since_ms), (Phase::PositionLost, None, None));
    let phases: Vec<_> = state.partitions.iter().map(|one| one.phase).collect();
    assert_eq!(phases, [Phase::PositionLost, Phase::Stopped]);
    let error = state.last_error.expect("it is said");
    assert!(error.contains("t [0]: offset 5 is next, and the log has 7 to 12"), "{error}");
    assert_eq!((reader.offsets("t", 0), reader.next("t", 0)), (&[][..], Some(5)));
    assert!(reader.offsets("u", 0).len() <= 1, "nothing is read once it has halted");
}

#[test]
fn a_lost_position_is_passed_over_when_told_so() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.cut("t");
    let mut config = cluster.config(&["t"]);
    config.resume = position(&[("t", 0, 5)]);
    config.lost_position = LostPositionPolicy::Continue;
    let mut reader = Reader::new(config);
    reader.until_read("t", 0, 5);
    reader.until("well", |reader| reader.state().end_at_start.is_some());
    assert_eq!(reader.offsets("t", 0), (7..12).collect::<Vec<_>>());
    let state = reader.state();
    assert!(state.incomplete_since_ms.is_some());
    assert_eq!(reader.rewinds, [Rewound { topic: "t".into(), partition: 0, to: 7 }], "what was lost was not read");
    assert_eq!((state.phase, state.last_error), (Phase::Reading, None));
}

#[test]
fn a_log_that_is_shorter_than_the_position_halts_or_is_read_anew() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.fill("t", 0, 5);
    let mut config = cluster.config(&["t"]);
    config.resume = position(&[("t", 0, 999)]);
    let mut reader = Reader::new(config.clone());
    reader.until_phase(Phase::PositionLost);
    assert_eq!((reader.next("t", 0), reader.state().end_at_start), (Some(999), None));
    assert!(reader.read.is_empty() && reader.rewinds.is_empty());
    drop(reader);
    config.lost_position = LostPositionPolicy::Continue;
    let mut reader = Reader::new(config);
    reader.until("a rewind", |reader| !reader.rewinds.is_empty());
    assert_eq!(reader.rewinds, [Rewound { topic: "t".into(), partition: 0, to: 0 }]);
    reader.until_read("t", 0, 5);
    assert_eq!(reader.offsets("t", 0), all(5));
    reader.until("its end", |reader| reader.state().end_at_start == Some(position(&[("t", 0, 5)])));
    assert!(reader.state().incomplete_since_ms.is_some());
}

#[test]
fn lag_counts_from_the_position_to_the_end() {
    let cluster = Cluster::new(&[("t", 2)]);
    cluster.fill("t", 0, 10);
    let mut reader = cluster.reader(&["t"]);
    // Nothing is read until the ends are known, and then four records.
    reader.limit = Limit { bytes: 1 << 20, records: 0, span_ms: None };
    let lags =
        |reader: &Reader| -> Vec<_> { reader.state().lags(&reader.position).iter().map(|lag| lag.lag).collect() };
    reader.until("the ends", |reader| lags(reader) == [Some(10), Some(0)]);
    reader.limit.records = 4;
    reader.until_read("t", 0, 4);
    assert_eq!(lags(&reader), [Some(6), Some(0)]);
    reader.limit.records = 100;
    reader.until_read("t", 0, 10);
    assert_eq!(lags(&reader), [Some(0), Some(0)]);
    cluster.fill("t", 1, 3);
    reader.until("more", |reader| reader.state().end.next_offset("t", 1) == Some(3));
    reader.until_read("t", 1, 3);
    assert_eq!(lags(&reader), [Some(0), Some(0)]);
}

#[test]
fn the_position_is_never_beyond_a_record_that_was_not_read() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.fill("t", 0, 2_000);
    let mut reader = cluster.reader(&["t"]);
    reader.limit = Limit { bytes: 1 << 20, records: 10, span_ms: None };
    while reader.offsets("t", 0).len() < 2_000 {
        reader.poll();
        let read = reader.offsets("t", 0).len() as i64;
        assert_eq!(reader.next("t", 0).unwrap_or(0), read, "statistics and ends overtake no record");
        // The statistics, which know the end, come many times before it is read.
        std::thread::sleep(Duration::from_millis(2));
    }
    reader.for_a_while(300);
    assert_eq!(reader.next("t", 0), Some(2_000));
}

#[test]
fn an_empty_log_and_failing_questions_end_in_a_known_end() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.fill("t", 0, 3);
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART; 3];
    cluster.mock.request_errors(RDKafkaApiKey::ListOffsets, &errors);
    let mut config = cluster.config(&["t"]);
    config.resume = position(&[("t", 0, 1)]);
    let mut reader = Reader::new(config);
    reader.until("the end at start", |reader| reader.state().end_at_start.is_some());
    assert_eq!(reader.state().end_at_start, Some(position(&[("t", 0, 3)])));
    reader.until_read("t", 0, 2);
    // From the beginning, whose offset is asked for by the reading client too.
    cluster.mock.request_errors(RDKafkaApiKey::ListOffsets, &errors);
    let mut reader = cluster.reader(&["t"]);
    reader.until_read("t", 0, 3);
    assert_eq!(reader.offsets("t", 0), all(3));
}

#[test]
fn a_missing_topic_is_named_and_read_once_it_is_there() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.fill("t", 0, 2);
    let mut reader = cluster.reader(&["t", "late"]);
    reader.until_read("t", 0, 2);
    reader.until_phase(Phase::Missing);
    let state = reader.state();
    assert!(state.troubles.contains_key("late") && state.end_at_start.is_none());
    assert!(state.last_error.is_some_and(|error| error.contains("late: UnknownTopicOrPartition")));
    cluster.mock.create_topic("late", 3, 1).expect("a topic");
    for partition in 0..3 {
        cluster.fill("late", partition, 1);
        reader.until_read("late", partition, 1);
    }
    reader.until("well", |reader| reader.state().end_at_start.is_some() && reader.state().phase == Phase::Reading);
    assert!(reader.state().troubles.is_empty() && reader.state().last_error.is_none());
}

#[test]
fn a_topic_that_is_deleted_or_forbidden_is_shown_as_that() {
    use RDKafkaRespErr as Error;
    let cluster = Cluster::new(&[("t", 1)]);
    let mut reader = cluster.reader(&["t"]);
    reader.until("the end", |reader| reader.next("t", 0) == Some(0));
    for (error, phase) in [
        (Error::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, Phase::Missing),
        (Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, Phase::Forbidden),
    ] {
        cluster.mock.topic_error("t", error).expect("set");
        reader.until_phase(phase);
        reader.for_a_while(300);
        assert_eq!(reader.state().phase, phase, "it stays so");
        cluster.mock.topic_error("t", Error::RD_KAFKA_RESP_ERR_NO_ERROR).expect("set");
        cluster.fill("t", 0, 1);
        reader.until_phase(Phase::Reading);
    }
    // Told once by librdkafka, on a fetch.
    cluster.mock.request_errors(RDKafkaApiKey::Fetch, &[Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    reader.until_phase(Phase::Forbidden);
    reader.for_a_while(300);
    assert_eq!(reader.state().partitions[0].phase, Phase::Forbidden);
    cluster.fill("t", 0, 1);
    reader.until_read("t", 0, 3);
    reader.until_phase(Phase::Reading);
    assert_eq!(reader.offsets("t", 0), all(3));
}

#[test]
fn compressed_batches_are_read() {
    let codecs = ["gzip", "snappy", "lz4", "zstd"];
    let cluster = Cluster::new(&[("t", 1)]);
    let values = vec![vec![b'x'; 10_000]; 3];
    for codec in codecs {
        cluster.produce("t", 0, &values, &[("compression.type", codec)]);
    }
    let mut reader = cluster.reader(&["t"]);
    reader.until_read("t", 0, 12);
    assert_eq!(reader.offsets("t", 0), all(12));
}

fn committed(cluster: &Cluster) -> Option<i64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &cluster.brokers)
        .set("group.id", "tarn")
        .set("session.timeout.ms", "1000")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition("t", 0);
    let list = consumer.committed_offsets(list, PATIENCE).expect("an answer");
    match list.elements()[0].offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

#[test]
fn commits_reach_the_group_and_are_never_read_back() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.fill("t", 0, 5);
    let mut reader = cluster.reader(&["t"]);
    reader.until("the end", |reader| reader.next("t", 0) == Some(5));
    reader.until_phase(Phase::Reading);
    reader.source.commit(&position(&[("t", 0, 3)]));
    // The last one, on its way when the source ends.
    reader.for_a_while(300);
    reader.source.commit(&reader.position);
    assert_eq!(reader.state().commits_failed, 0);
    drop(reader);
    assert_eq!(committed(&cluster), Some(5));
    let mut reader = cluster.reader(&["t"]);
    reader.until_read("t", 0, 5);
    assert_eq!(reader.offsets("t", 0), all(5));
}

#[test]
fn commits_that_find_no_coordinator_hold_nothing_up() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.fill("t", 0, 1);
    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE; 200];
    cluster.mock.request_errors(RDKafkaApiKey::FindCoordinator, &refusals);
    let mut reader = cluster.reader(&["t"]);
    reader.until_read("t", 0, 1);
    reader.until_phase(Phase::Reading);
    reader.source.commit(&reader.position);
    cluster.fill("t", 0, 1);
    reader.until_read("t", 0, 2);
    reader.until("a failed commit", |reader| reader.state().commits_failed > 0);
    assert_eq!((reader.state().phase, reader.state().last_error), (Phase::Reading, None));
    let began = Instant::now();
    drop(reader);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn it_stops_within_two_seconds_without_a_cluster() {
    let cluster = Cluster::new(&[("t", 1)]);
    cluster.fill("t", 0, 5);
    let mut reader = cluster.reader(&["t"]);
    reader.until_read("t", 0, 5);
    reader.until_phase(Phase::Reading);
    cluster.mock.broker_down(-1).expect("down");
    reader.source.commit(&reader.position);
    reader.for_a_while(100);
    reader.source.commit(&reader.position);
    let began = Instant::now();
    drop(reader);
    let reading = began.elapsed();
    let mut reader = cluster.reader(&["t"]);
    reader.for_a_while(300);
    let began = Instant::now();
    drop(reader);
    let (reading, connecting) = (reading.as_millis(), began.elapsed().as_millis());
    assert!(reading < 2_000 && connecting < 2_000, "{reading} ms, and {connecting} ms when nothing was read");
}
