//! Records that were read again out of the quarantine: on their way to the shard, and what became of them.
//!
//! Such a record is a first delivery that came late. Its event has the coordinates at which it first stood, and is
//! applied only where nothing newer of its resource was: decided by the quarantine itself where the entry and the
//! resource are in one shard, since newer events clear and mark entries; else (nobody could tell whom the record was
//! about when it was rejected) by the offset of what was applied last. Then the fold's own rules follow. What became of
//! it is noted before its epoch is published ([`Outcomes`]); what is rejected again stays where it is.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};

use super::counters;
use super::graph::route_of;
use super::ledger::{RejectKey, checksum_of};
use super::shard::{Body, Item};
use crate::decode::Decoded;
use crate::model::{Applied, Event, EventOrder, IgnoredReason, RejectReason, SkipReason};
use crate::source::resubmitted::Origin;

/// What became of a record that was read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is applied, and its entry is gone.
    Applied(Applied),
    /// It changed nothing, for this reason.
    Ignored(IgnoredReason),
    /// It is about something else, and its entry is gone.
    Skipped(SkipReason),
    /// It still cannot be read; its entry stays.
    RejectedAgain(RejectReason, Box<str>),
}

/// So many outcomes are remembered, for those who submitted.
const OUTCOMES_MAX: usize = 10_000;

/// What became of the last records that were read again, by their numbers; and how many became what.
#[derive(Debug, Default)]
pub struct Outcomes {
    last: Mutex<BTreeMap<i64, Outcome>>,
    counts: [AtomicU64; OUTCOMES.len()],
}

/// The outcomes in one word, as counters name them.
const OUTCOMES: [&str; 4] = ["applied", "ignored", "skipped", "rejected_again"];

impl Outcomes {
    /// Notes what became of a record.
    pub(super) fn note(&self, number: i64, outcome: Outcome) {
        let place = match outcome {
            Outcome::Applied(_) => 0,
            Outcome::Ignored(_) => 1,
            Outcome::Skipped(_) => 2,
            Outcome::RejectedAgain(..) => 3,
        };
        counters::add(&self.counts[place], 1);
        let mut outcomes = self.last.lock().expect("no holder of the outcomes panics");
        outcomes.insert(number, outcome);
        if outcomes.len() > OUTCOMES_MAX {
            outcomes.pop_first();
        }
    }

    /// What became of a record; none while it is not known, or not any more.
    pub fn of(&self, number: i64) -> Option<Outcome> {
        self.last.lock().expect("no holder of the outcomes panics").get(&number).cloned()
    }

    /// How many became what, in one word.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.into_iter().zip(self.counts.iter().map(counters::read))
    }
}

/// What a shard is told of a record that was read again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Resubmitted {
    pub(super) number: i64,
    /// Its entry, and by what that is known again.
    pub(super) entry: RejectKey,
    pub(super) checksum: u64,
    /// Whether the entry is in the shard that is told.
    pub(super) is_entry_here: bool,
    /// The event that it is; none where there is none, or another shard is told of it.
    pub(super) event: Option<Event>,
}

/// What is to be told of a record that was read again as `decoded`; which outcomes are known already is noted.
pub(super) fn items(origin: &Origin, order: EventOrder, decoded: Decoded, outcomes: &Outcomes) -> Vec<Item> {
    let (entry, number) = (origin.key(), origin.number);
    let entry_route = route_of(&origin.entry.reject);
    let checksum = checksum_of(&origin.entry.reject);
    let item = |route, is_entry_here, event| {
        let resubmitted = Resubmitted { number, entry, checksum, is_entry_here, event };
        Item { route, order, body: Body::Resubmitted(Box::new(resubmitted)) }
    };
    match decoded {
        Decoded::Reject(reject) => {
            outcomes.note(number, Outcome::RejectedAgain(reject.reason, reject.detail));
            Vec::new()
        }
        Decoded::Skip(reason) => {
            outcomes.note(number, Outcome::Skipped(reason));
            vec![item(entry_route, true, None)]
        }
        Decoded::Event(mut event) => {
            event.order = entry.1;
            let route = event.id;
            match route == entry_route {
                true => vec![item(route, true, Some(event))],
                false => vec![item(route, false, Some(event)), item(entry_route, true, None)],
            }
        }
    }
}
