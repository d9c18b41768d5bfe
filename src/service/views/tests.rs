//! What the workers are told of views that are given up: in which order they go, and that a reload brings them back. And
//! that somebody notices a view that is late while no worker has anything to say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Views;
use crate::dataflow::{CutSink, ViewCommand};
use crate::model::{Epoch, Topics};
use crate::published::{Publisher, binding, cut};
use crate::sql::{QueryFile, Tables};

/// A command, in a word.
fn told(command: &ViewCommand) -> String {
    match command {
        ViewCommand::Install(view) => format!("install {} as {}", view.plan.name, view.id.0),
        ViewCommand::Remove(id) => format!("remove {}", id.0),
    }
}

#[test]
fn what_is_given_up_goes_after_its_readers_and_a_reload_makes_it_anew() {
    let publisher = Arc::new(Publisher::new(1, 0));
    let tables = Tables::read(None, &Topics::default()).expect("tables that are always there");
    let views = Views::new(None, Arc::new(tables), Arc::clone(&publisher));
    let commands = views.log().follow();
    let all_told = || commands.try_iter().map(|command| told(&command)).collect::<Vec<_>>();
    let texts = [
        ("base", "SELECT resource_id FROM resources"),
        ("other", "SELECT count(*) AS resources FROM resources"),
        ("over", "SELECT count(*) AS rows FROM base"),
    ];
    let files = || texts.map(|(name, sql)| QueryFile::new(name, sql)).to_vec();
    views.apply(files());
    assert_eq!(all_told(), ["install base as 1", "install other as 2", "install over as 3"]);

    let began = Instant::now();
    let deliver = |epoch: Epoch, seconds: u64, given: &[(u64, Epoch)]| {
        publisher.bind(binding(epoch));
        publisher.deliver_at(0, cut(epoch, given), began + Duration::from_secs(seconds));
        views.tick();
    };
    deliver(1, 0, &[(1, 1), (2, 1), (3, 1)]);
    assert!(publisher.shows_what_is_wanted());
    for (epoch, seconds) in [(2, 1), (3, 10), (4, 20)] {
        deliver(epoch, seconds, &[(1, 1), (2, epoch), (3, 1)]);
    }
    assert!(all_told().is_empty(), "they are only detached");
    deliver(5, 100, &[(1, 1), (2, 5), (3, 1)]);
    assert_eq!(all_told(), ["remove 3", "remove 1"]);
    deliver(6, 101, &[(2, 6)]);
    assert!(all_told().is_empty(), "once");

    let reloaded = views.apply(files());
    assert_eq!(reloaded.made.iter().map(|name| &**name).collect::<Vec<_>>(), ["base", "over"]);
    assert_eq!(all_told(), ["install base as 4", "install over as 5"]);
    deliver(7, 102, &[(2, 7), (4, 7), (5, 7)]);
    assert!(publisher.shows_what_is_wanted());
    assert!(all_told().is_empty());
}

#[test]
fn a_view_that_is_late_is_noticed_though_no_worker_has_news() {
    let publisher = Arc::new(Publisher::new(1, 0));
    let tables = Tables::read(None, &Topics::default()).expect("tables that are always there");
    let views = Views::new(None, Arc::new(tables), Arc::clone(&publisher));
    let texts = [("base", "SELECT resource_id FROM resources"), ("other", "SELECT count(*) AS rows FROM resources")];
    views.apply(texts.map(|(name, sql)| QueryFile::new(name, sql)).to_vec());
    let a_minute_ago = Instant::now().checked_sub(Duration::from_secs(60)).expect("the machine is up that long");
    for (epoch, given) in [(1, [(1, 1), (2, 1)]), (2, [(1, 1), (2, 2)])] {
        publisher.bind(binding(epoch));
        publisher.deliver_at(0, cut(epoch, &given), a_minute_ago);
    }
    assert_eq!(publisher.published(), 1, "it may still come");
    let thread = views.watch(Duration::ZERO, || ()).expect("a thread");
    assert!(publisher.wait_published(2, Duration::from_secs(30)), "what waits for it for so long is shown");
    views.stop();
    thread.join().expect("it does not panic");
}
