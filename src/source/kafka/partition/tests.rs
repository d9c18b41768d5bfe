//! A partition's life without a broker: what each piece of news leads to.

use super::*;
use crate::model::Topics;

fn partition(next: Option<i64>, now: Instant) -> Partition {
    let topic_id = Topics::default().intern("t").expect("room");
    Partition::new("t".into(), topic_id, 0, next, now)
}

fn later(now: Instant, ms: u64) -> Instant {
    now + Duration::from_millis(ms)
}

const FINE: Figures =
    Figures { given_up: false, unknown: false, leaderless: false, connected: true, start: 0, stable_end: 10, end: 10 };

#[test]
fn a_range_error_that_was_none_resumes_at_the_next_offset() {
    let now = Instant::now();
    let mut one = partition(None, now);
    assert!(one.takes_a_look(now) && !one.takes_a_look(now));
    assert_eq!(one.on_watermarks(0, 10, None, now), Verdict::Fine);
    assert!(one.on_record(4) && !one.on_record(4), "no record twice");
    assert!(one.on_error(RDKafkaErrorCode::AutoOffsetReset, "out of range", now));
    assert_eq!(one.phase(), Phase::Recovering);
    assert!(!one.on_record(6), "what comes after it is read again");
    assert!(one.takes_a_look(now), "the first attempt is made at once");
    assert_eq!(one.on_watermarks(0, 10, Some(5), now), Verdict::ReadFrom(5));
    one.on_assigned(now);
    assert_eq!(one.phase(), Phase::Reading);
    assert!(one.on_record(5) && one.state().last_error.is_none());
}

#[test]
fn attempts_are_further_and_further_apart() {
    let now = Instant::now();
    let mut one = partition(Some(5), now);
    one.ask_at = None;
    for wait in [0, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
        one.on_error(RDKafkaErrorCode::AutoOffsetReset, "out of range", now);
        assert!(wait == 0 || !one.takes_a_look(later(now, wait - 1)), "{wait}");
        assert!(one.takes_a_look(later(now, wait)), "{wait}");
        assert_eq!(one.on_watermarks(0, 10, Some(5), now), Verdict::ReadFrom(5));
        one.on_assigned(now);
    }
    one.on_end(5);
    one.on_error(RDKafkaErrorCode::AutoOffsetReset, "out of range", now);
    assert!(one.takes_a_look(now), "something was read in between");
}

#[test]
fn a_position_outside_of_the_log_is_lost_when_it_is_so_twice() {
    let now = Instant::now();
    let mut one = partition(Some(99), now);
    assert_eq!(one.on_watermarks(0, 10, Some(99), now), Verdict::Fine);
    assert!(!one.is_sound() && !one.takes_a_look(later(now, 499)) && one.takes_a_look(later(now, 500)));
    assert_eq!(one.on_watermarks(0, 10, Some(99), now), Verdict::Lost { next: 99, low: 0, high: 10 });
    one.go_on_from(0, 10);
    one.on_assigned(now);
    assert!(one.is_sound() && one.on_record(0));
}

#[test]
fn a_log_that_was_cut_is_lost_although_the_offset_is_in_range() {
    let now = Instant::now();
    let mut one = partition(Some(5), now);
    one.on_error(RDKafkaErrorCode::AutoOffsetReset, "Partition log truncation detected at 5", now);
    assert_eq!(one.on_watermarks(0, 10, Some(5), now), Verdict::Fine);
    assert_eq!(one.on_watermarks(0, 10, Some(5), now), Verdict::Lost { next: 5, low: 0, high: 10 });
}

#[test]
fn a_damaged_batch_is_tried_again_and_never_passed_over() {
    let now = Instant::now();
    let mut one = partition(Some(5), now);
    for attempt in 1..=5 {
        one.on_error(RDKafkaErrorCode::BadMessage, "failed CRC32C check", now);
        assert!(!one.on_record(8), "the batch behind it");
        let expected = if attempt < 5 { Verdict::ReadFrom(5) } else { Verdict::Corrupt };
        assert_eq!(one.on_watermarks(0, 10, Some(5), now), expected);
        one.on_assigned(now);
    }
    one.end(Phase::Corrupt, None);
    assert_eq!(one.phase(), Phase::Corrupt);
    assert!(one.state().last_error.is_some_and(|error| error.contains("CRC32C")));
}

#[test]
fn with_nothing_read_nothing_can_be_lost() {
    let now = Instant::now();
    let mut one = partition(None, now);
    one.on_error(RDKafkaErrorCode::AutoOffsetReset, "failed to query logical offset", now);
    one.on_watermarks_unknown(None, "no answer", now);
    assert!(!one.takes_a_look(now) && one.takes_a_look(later(now, 500)));
    assert_eq!(one.on_watermarks(7, 10, None, now), Verdict::ReadFrom(7));
}

#[test]
fn watermarks_that_were_asked_for_earlier_do_not_judge() {
    let now = Instant::now();
    let mut one = partition(Some(5), now);
    assert!(one.takes_a_look(now) && one.on_record(5));
    one.on_error(RDKafkaErrorCode::AutoOffsetReset, "out of range", now);
    assert_eq!(one.on_watermarks(6, 10, Some(5), now), Verdict::Fine);
    assert!(one.takes_a_look(now), "they are asked for again");
    assert_eq!(one.on_watermarks(6, 10, Some(6), now), Verdict::ReadFrom(6));
}

#[test]
fn statistics_tell_what_is_wrong_and_a_partition_that_was_given_up_is_noticed() {
    let now = Instant::now();
    let settled = later(now, 2_000);
    let mut one = partition(None, now);
    one.on_statistics(&Figures { connected: false, ..FINE }, now);
    assert_eq!(one.phase(), Phase::Reading, "too early to tell");
    assert!(one.is_sound(), "the end is known from the statistics too");
    let cases = [
        (Figures { connected: false, ..FINE }, Phase::Disconnected),
        (Figures { leaderless: true, connected: false, ..FINE }, Phase::Leaderless),
        (Figures { unknown: true, leaderless: true, ..FINE }, Phase::Missing),
        (FINE, Phase::Reading),
        (Figures { given_up: true, ..FINE }, Phase::Recovering),
    ];
    for (figures, phase) in cases {
        one.on_statistics(&figures, settled);
        assert_eq!(one.phase(), phase);
    }
    one.on_statistics(&Figures { stable_end: 10, end: 14, ..FINE }, settled);
    assert_eq!((one.state().end_offset, one.state().held_by_transaction), (Some(10), 4));
}

#[test]
fn a_refusal_is_shown_until_something_is_read_and_tried_again() {
    let now = Instant::now();
    let mut one = partition(Some(5), now);
    one.ask_at = None;
    assert!(one.on_error(RDKafkaErrorCode::TopicAuthorizationFailed, "not authorized", now));
    assert!(!one.on_error(RDKafkaErrorCode::TopicAuthorizationFailed, "not authorized", now), "no news");
    one.on_statistics(&FINE, later(now, 9_000));
    assert_eq!((one.phase(), one.takes_a_look(later(now, 9_000))), (Phase::Forbidden, false));
    one.on_statistics(&FINE, later(now, 10_000));
    assert!(one.takes_a_look(later(now, 10_000)));
    assert_eq!(one.on_watermarks(0, 10, Some(5), now), Verdict::ReadFrom(5));
    one.on_assigned(later(now, 10_000));
    assert_eq!(one.phase(), Phase::Forbidden);
    one.on_end(5);
    assert_eq!((one.phase(), one.state().last_error), (Phase::Reading, None));
}

#[test]
fn what_may_come_from_another_log_is_held_until_it_is_compared() {
    let now = Instant::now();
    let mut one = partition(Some(5), now);
    assert_eq!(one.on_watermarks(0, 10, Some(5), now), Verdict::Fine);
    assert!(one.on_record(5) && one.is_sound());
    one.on_error(RDKafkaErrorCode::UnknownTopicOrPartition, "unknown topic", now);
    assert!(one.check.is_open() && !one.is_sound(), "the topic may be made anew");
    assert_eq!(one.on_same(0, 10), 6);
    one.check.close();
    one.on_end(6);
    assert_eq!(one.phase(), Phase::Reading);
    one.on_statistics(&Figures { end: 5, stable_end: 5, ..FINE }, later(now, 1_000));
    assert!(!one.check.is_open(), "statistics may be older than the assignment");
    one.on_statistics(&Figures { end: 6, stable_end: 6, ..FINE }, later(now, 2_000));
    assert!(!one.check.is_open());
    one.on_statistics(&Figures { end: 5, stable_end: 5, ..FINE }, later(now, 2_000));
    assert!(one.check.is_open() && one.phase() == Phase::Checking, "the log ends before what was read of it");
    one.check.on_undecided("no answer".to_owned(), now);
    assert!(one.state().last_error.is_some_and(|error| error.ends_with("that was read: no answer")));
}
