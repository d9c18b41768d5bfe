//! The checker finds what it is there to find: histories that cannot be, each beside one that can.

use serde_json::json;

use super::following::{Followed, is_the_same};
use super::rules::{Asked, Content, Epochs, Seen, Step, Told};
use super::truth::Log;
use crate::support::reports::id;
use crate::support::sse::{Event, events};

/// Hosts 0 and 3 and a cluster come, host 0 changes, host 3 goes.
fn log() -> Log {
    let mut log = Log::default();
    for (number, deletes) in [(0, false), (3, false), (1, false), (0, false), (3, true)] {
        log.append(number, deletes, 1_000);
    }
    log
}

fn told(epoch: u64, position: i64) -> Told {
    Told { epoch, position }
}

fn step(asked: Asked, told: Told, content: Content) -> Step {
    Step { life: 1, asked, told, content }
}

/// What is found in a history, if anything is.
fn found(steps: &[Step]) -> Option<String> {
    let (log, mut seen, mut epochs) = (log(), Seen::default(), Epochs::default());
    steps.iter().find_map(|step| seen.take(step, &log, &mut epochs).err())
}

fn host(number: usize, last: Option<i64>) -> Content {
    Content::Resource { number, last }
}

#[test]
fn a_history_that_can_be_is_taken_and_a_forged_one_is_found() {
    let good = [
        step(Asked::Newest, told(10, 3), host(0, Some(0))),
        step(Asked::Newest, told(10, 3), Content::ByType([2, 1, 0])),
        step(Asked::Token(told(10, 3)), told(11, 4), host(0, Some(3))),
        step(Asked::After(4), told(12, 5), host(3, None)),
        step(Asked::At(told(10, 3)), told(10, 3), Content::Query([3; 3])),
        step(Asked::AsOf(11), told(11, 4), Content::Hosts([(0, 3), (3, 1)].into())),
        step(Asked::Acknowledged(5), told(13, 5), Content::Total(2)),
        Step { life: 2, ..step(Asked::Newest, told(11, 4), Content::Instant) },
    ];
    assert_eq!(found(&good), None);
    let forged = [
        ("where it is", step(Asked::Newest, told(14, 5), host(0, Some(0)))),
        ("where it is", step(Asked::Newest, told(14, 5), host(3, Some(1)))),
        ("where it is", step(Asked::Newest, told(14, 5), Content::ByType([1, 0, 0]))),
        ("where it is", step(Asked::Newest, told(14, 5), Content::Total(3))),
        ("where it is", step(Asked::Newest, told(14, 5), Content::Query([2, 3, 2]))),
        ("where it is", step(Asked::Newest, told(14, 5), Content::Hosts([(0, 3), (3, 1)].into()))),
        ("a log that ends", step(Asked::Newest, told(14, 6), Content::Instant)),
        ("was at", step(Asked::Newest, told(13, 4), Content::Instant)),
        ("but epoch", step(Asked::Newest, told(14, 4), Content::Instant)),
        ("and then with", Step { life: 2, ..step(Asked::Newest, told(10, 3), Content::Instant) }),
        ("asked for", step(Asked::Token(told(12, 5)), told(11, 4), Content::Instant)),
        ("asked for", step(Asked::After(4), told(11, 4), Content::Instant)),
        ("asked for", step(Asked::Acknowledged(5), told(11, 4), Content::Instant)),
        ("asked for", step(Asked::At(told(10, 3)), told(11, 4), Content::Instant)),
        ("asked for", step(Asked::AsOf(12), told(11, 4), Content::Instant)),
        ("asked for", step(Asked::AsOf(10), told(11, 4), Content::Instant)),
    ];
    for (words, step) in forged {
        let history = [&good[..], std::slice::from_ref(&step)].concat();
        assert!(found(&history).is_some_and(|what| what.contains(words)), "{step:?}: {:?}", found(&history));
    }
}

fn event(name: &str, data: &serde_json::Value) -> Event {
    let epoch = &data["epoch"];
    let text = format!("event: {name}\nid: id-{epoch}\ndata: {data}\n\n");
    events(text.as_bytes()).remove(0)
}

fn row(number: usize, last: i64) -> serde_json::Value {
    json!({"resource_id": id(number), "ansible_host": format!("s{last}")})
}

fn hello(resumed: bool) -> Event {
    event("hello", &json!({ "resumed": resumed }))
}

#[test]
fn a_stream_that_can_be_is_followed_and_a_forged_one_is_found() {
    let good = [
        hello(false),
        event("snapshot", &json!({"epoch": 10, "rows": [row(0, 0)], "last": false})),
        event("snapshot", &json!({"epoch": 10, "rows": [row(3, 1)], "last": true})),
        event("progress", &json!({"epoch": 10})),
        event("changes", &json!({"epoch": 11, "left": [row(0, 0)], "came": [row(0, 3)]})),
    ];
    let after = |life: usize, more: &[Event]| {
        let mut followed = Followed::default();
        let all = good.iter().map(|event| (1, event)).chain(more.iter().map(|event| (life, event)));
        let found = all.into_iter().find_map(|(life, event)| followed.take(life, event).err());
        (found, followed)
    };
    let (found, followed) = after(1, &[hello(true), event("changes", &json!({"epoch": 12, "left": [row(3, 1)]}))]);
    assert_eq!((found, followed.hosts, followed.frames.len()), (None, log().hosts(5), 2));
    let reset = |reason: &str| event("reset", &json!({ "reason": reason }));
    let snapshot = event("snapshot", &json!({"epoch": 12, "rows": [row(0, 3)], "last": true}));
    let (found, followed) = after(2, &[hello(false), reset("retention"), snapshot.clone()]);
    assert_eq!((found, followed.hosts, followed.frames.len()), (None, log().hosts(5), 0));
    let forged = [
        ("is not there", vec![event("changes", &json!({"epoch": 12, "left": [row(3, 2)]}))]),
        ("is there as of", vec![event("changes", &json!({"epoch": 12, "came": [row(3, 4)]}))]),
        ("after epoch 11", vec![event("changes", &json!({"epoch": 11}))]),
        ("after epoch 11", vec![event("progress", &json!({"epoch": 10}))]),
        ("without a reset", vec![hello(false), snapshot.clone()]),
        ("in the midst", vec![snapshot]),
        ("is reset", vec![hello(false), reset("unknownEpoch")]),
        ("is reset", vec![hello(true), reset("retention")]),
    ];
    for (words, more) in forged {
        let (found, _) = after(1, &more);
        assert!(found.as_ref().is_some_and(|what| what.contains(words)), "{more:?}: {found:?}");
    }
    let (found, _) = after(2, &[hello(false), reset("incarnation")]);
    assert!(found.is_some_and(|what| what.contains("is reset")));
    let frames = ["a", "b", "c"].map(str::to_owned);
    assert_eq!(is_the_same(&frames, &frames[..2]), Ok(()));
    assert!(is_the_same(&frames, &frames[1..]).is_err());
}
