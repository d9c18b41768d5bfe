//! F1 to F21 one by one, and the duplicate rule at its edges. The random comparison with an independent fold is in
//! `tests/`.

use super::*;
use crate::model::{Coordinates, EventOrder, ResourceId, Topics};

const RULES: Rules = Rules { clock_skew_tolerance_ms: 10_000 };

/// A UUID v7 with this time and a tail that tells events of one millisecond apart.
fn event_id(ms: u64, tail: u64) -> EventId {
    EventId::of_text(&format!("{:08x}-{:04x}-7000-8000-{tail:012x}", ms >> 16, ms & 0xffff)).0
}

/// A builder of events whose defaults are those of a host report.
struct Make {
    operation: Operation,
    ms: u64,
    tail: u64,
    partition: i32,
    offset: i64,
    observed_ms: Option<i64>,
    fields: Vec<(Field, Option<&'static str>)>,
    without_id: bool,
}

fn make(operation: Operation, ms: u64) -> Make {
    Make {
        operation,
        ms,
        tail: 0,
        partition: 0,
        offset: ms as i64,
        observed_ms: None,
        fields: vec![],
        without_id: false,
    }
}

impl Make {
    fn with(mut self, field: Field, text: &'static str) -> Self {
        self.fields.push((field, Some(text)));
        self
    }

    fn without(mut self, field: Field) -> Self {
        self.fields.push((field, None));
        self
    }

    fn event(self) -> Event {
        let defaults = |field| match field {
            Field::ResourceType => Some("host"),
            Field::WorkspaceId => Some("w1"),
            Field::ReporterType => Some("hbi"),
            Field::ReporterInstanceId => Some("redhat"),
            Field::LocalResourceId => Some("local"),
            Field::ApiHref => Some("https://api"),
            Field::ConsoleHref => Some("https://console"),
            Field::ReporterVersion => Some("1.0"),
            Field::Data => Some(r#"{"a":1}"#),
            Field::EventIdText => None,
        };
        let texts = Field::ALL.map(|field| {
            let changed = self.fields.iter().find(|(changed, _)| *changed == field);
            match (self.operation, changed) {
                (Operation::Deleted, _) => None,
                (_, Some((_, text))) => *text,
                (_, None) => defaults(field),
            }
        });
        let reported_at = Some(Timestamp::from_millis(self.ms as i64));
        Event {
            id: ResourceId::parse("019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10").unwrap(),
            operation: self.operation,
            event_id: (!self.without_id).then(|| event_id(self.ms, self.tail)),
            order: EventOrder {
                coordinates: Coordinates {
                    topic: Topics::default().intern("t").unwrap(),
                    partition: self.partition,
                    offset: self.offset,
                },
                arrival: 0,
            },
            observed_ms: self.observed_ms.unwrap_or(self.ms as i64),
            reported_at: (self.operation != Operation::Deleted).then_some(reported_at).flatten(),
            created_at: (self.operation == Operation::Created).then_some(reported_at).flatten(),
            texts: Texts::build(texts).unwrap(),
        }
    }
}

fn apply(state: Option<&State>, event: &Event) -> (State, Applied) {
    match fold(state, &mut event.clone(), 1, &RULES) {
        Outcome::Applied { state, applied, .. } => (state, applied),
        Outcome::Ignored(reason) => panic!("ignored: {reason:?}"),
    }
}

fn ignored(state: &State, event: &Event) -> IgnoredReason {
    match fold(Some(state), &mut event.clone(), 1, &RULES) {
        Outcome::Ignored(reason) => reason,
        Outcome::Applied { applied, .. } => panic!("applied: {applied:?}"),
    }
}

const T: u64 = 1_795_416_443_785;

#[test]
fn f1_f2_a_first_event_inserts_and_only_created_says_when_it_began() {
    let (state, applied) = apply(None, &make(Operation::Created, T).event());
    let t = Some(Timestamp::from_millis(T as i64));
    assert_eq!(applied, Applied::Created);
    assert_eq!(state.lifecycle, Lifecycle::Live { created_at: t, updated_at: t });
    assert_eq!(state.seen.floor_ms(), None);
    let (state, applied) = apply(None, &make(Operation::Updated, T).event());
    assert_eq!(applied, Applied::Met);
    assert_eq!(state.lifecycle, Lifecycle::Live { created_at: None, updated_at: t });
    assert_eq!(state.seen.floor_ms(), Some(T - 10_000));
}

#[test]
fn f4_to_f9_an_update_replaces_what_it_says_and_keeps_workspace_and_data_that_it_does_not() {
    let (first, _) = apply(None, &make(Operation::Created, T).event());
    let bare = make(Operation::Updated, T + 1)
        .without(Field::WorkspaceId)
        .without(Field::Data)
        .without(Field::ReporterVersion)
        .without(Field::ConsoleHref)
        .with(Field::ApiHref, "https://new")
        .event();
    let (second, _) = apply(Some(&first), &bare);
    let text = |state: &State, field| state.text(field).map(str::to_owned);
    assert_eq!(text(&second, Field::WorkspaceId).as_deref(), Some("w1"), "F5");
    assert_eq!(text(&second, Field::Data).as_deref(), Some(r#"{"a":1}"#), "F6");
    assert_eq!(text(&second, Field::ReporterVersion).as_deref(), Some("1.0"), "F9: goes with the data");
    assert_eq!(text(&second, Field::ConsoleHref), None, "F9: cleared");
    assert_eq!(text(&second, Field::ApiHref).as_deref(), Some("https://new"), "F4");
    let moved = make(Operation::Updated, T + 2)
        .with(Field::WorkspaceId, "w2")
        .with(Field::Data, r#"{"b":2}"#)
        .without(Field::ReporterVersion)
        .event();
    let (third, _) = apply(Some(&second), &moved);
    assert_eq!(text(&third, Field::WorkspaceId).as_deref(), Some("w2"), "F7");
    assert_eq!(text(&third, Field::Data).as_deref(), Some(r#"{"b":2}"#), "replaced, not merged");
    assert_eq!(text(&third, Field::ReporterVersion), None, "F9: data without a version clears it");
    assert!(matches!(third.lifecycle, Lifecycle::Live { created_at: Some(_), .. }));
}

#[test]
fn f10_to_f13_delete_delete_again_and_revival_from_empty() {
    let (live, _) = apply(None, &make(Operation::Created, T).event());
    let (dead, applied) = apply(Some(&live), &make(Operation::Deleted, T + 1).event());
    assert_eq!(applied, Applied::Deleted);
    let deleted_at = Some(Timestamp::from_millis(T as i64 + 1));
    assert_eq!(dead.lifecycle, Lifecycle::Deleted { deleted_at });
    assert_eq!((dead.text(Field::WorkspaceId), dead.text(Field::Data)), (Some("w1"), None));
    let again = make(Operation::Deleted, T + 2).event();
    let (dead, applied) = apply(Some(&dead), &again);
    assert_eq!((applied, dead.lifecycle), (Applied::DeletedAgain, Lifecycle::Deleted { deleted_at }));
    let bare = make(Operation::Updated, T + 3).without(Field::WorkspaceId).without(Field::Data).event();
    let (revived, applied) = apply(Some(&dead), &bare);
    assert_eq!(applied, Applied::Revived);
    assert_eq!((revived.text(Field::WorkspaceId), revived.text(Field::Data)), (None, None));
    assert!(matches!(revived.lifecycle, Lifecycle::Live { created_at: None, .. }));
    assert_eq!(ignored(&revived, &again), IgnoredReason::Duplicate, "the second delete must not kill the new life");
    let (unknown, applied) = apply(None, &make(Operation::Deleted, T).event());
    assert_eq!((applied, unknown.is_live()), (Applied::DeletedUnknown, false));
}

#[test]
fn f20_a_repeat_moves_times_and_nothing_else() {
    let (first, _) = apply(None, &make(Operation::Created, T).event());
    let (second, applied) = apply(Some(&first), &make(Operation::Updated, T + 1).event());
    assert_eq!(applied, Applied::Repeated);
    assert_eq!(second.texts, first.texts);
    assert_ne!(second.lifecycle, first.lifecycle);
    let null = make(Operation::Updated, T + 2).with(Field::Data, r#"{"b":null,"a":1}"#).event();
    let (third, applied) = apply(Some(&second), &null);
    assert_eq!((applied, third.text(Field::Data)), (Applied::Repeated, Some(r#"{"a":1}"#)), "F21");
}

#[test]
fn a_replayed_suffix_changes_nothing() {
    let events: Vec<Event> = (0..20)
        .map(|i| make(if i % 7 == 6 { Operation::Deleted } else { Operation::Updated }, T + i * 500).event())
        .collect();
    let mut state = None;
    for event in &events {
        state = Some(apply(state.as_ref(), event).0);
    }
    let state = state.unwrap();
    for event in &events {
        assert!(matches!(ignored(&state, event), IgnoredReason::Duplicate | IgnoredReason::BelowFloor));
    }
}

#[test]
fn a_floor_rises_only_to_what_was_let_go() {
    let mut state = apply(None, &make(Operation::Created, T).event()).0;
    for i in 1..9 {
        state = apply(Some(&state), &make(Operation::Updated, T + i * 60_000).event()).0;
    }
    assert_eq!(state.seen.floor_ms(), Some(T), "nine events: the first was let go");
    assert_eq!(ignored(&state, &make(Operation::Created, T).event()), IgnoredReason::BelowFloor);
    let behind = make(Operation::Updated, T + 8 * 60_000 - 9_000).event();
    apply(Some(&state), &behind);
}

#[test]
fn a_busy_resource_with_writers_two_seconds_apart_loses_nothing() {
    let mut state = apply(None, &make(Operation::Created, T).event()).0;
    for i in 1..2_000_u64 {
        let behind = if i % 2 == 0 { 2_000 } else { 0 };
        let mut event = make(Operation::Updated, T + 10_000 + i * 10 - behind);
        event.tail = i;
        state = apply(Some(&state), &event.event()).0;
        assert!(state.seen.recent.len() <= RECENT_LIMIT);
    }
}

#[test]
fn an_id_from_the_future_does_not_freeze_the_resource() {
    let mut far = make(Operation::Created, T + 86_400_000);
    far.observed_ms = Some(T as i64);
    let far = far.event();
    let mut state = apply(None, &far).0;
    for i in 1..400 {
        state = apply(Some(&state), &make(Operation::Updated, T + i * 1_000).event()).0;
        assert!(state.seen.floor_ms().is_none_or(|floor| floor < T + 400_000));
    }
    assert_eq!(ignored(&state, &far), IgnoredReason::Duplicate, "still listed");
    for i in 0..20 {
        state = apply(Some(&state), &make(Operation::Updated, T + 2 * 86_400_000 + i * 60_000).event()).0;
    }
    assert_eq!(ignored(&state, &far), IgnoredReason::BelowFloor, "its time has passed: an id like any other");
}

#[test]
fn a_backlog_of_another_partition_is_stale_when_much_older() {
    let state = apply(None, &make(Operation::Created, T).event()).0;
    let mut old = make(Operation::Updated, T - 10_001);
    old.partition = 1;
    assert_eq!(ignored(&state, &old.event()), IgnoredReason::StaleBacklog);
    let mut near = make(Operation::Updated, T - 9_999);
    near.partition = 1;
    apply(Some(&state), &near.event());
}

#[test]
fn h5_without_any_id_the_offset_decides() {
    let mut first = make(Operation::Created, T);
    first.without_id = true;
    first.offset = 5;
    let state = apply(None, &first.event()).0;
    let at = |offset| {
        let mut event = make(Operation::Updated, T + 1);
        event.without_id = true;
        event.offset = offset;
        event.event()
    };
    assert_eq!(ignored(&state, &at(5)), IgnoredReason::OffsetNotNewer);
    apply(Some(&state), &at(6));
}
