//! The upsert operator: a timely shell around [`Shard`] that calls it in order of time and writes its arrangements.
//!
//! Frontiers: it acts at an epoch once both inputs have passed it: the events, and the pins, which come back from the
//! reporter keys one millisecond later than the changes that made them. It holds a capability at the earliest epoch at
//! which it could still act: the next epoch with events, the next tombstone that is due, the frontier of the events, and
//! while a tombstone waits for its pin, the earliest at which that could be released.
//! Its arrangements (states, index, quarantine, what is kept beyond its time, ids of rejects) are written here directly,
//! sorted by the order in which the shard works anyway; only the holders go on by exchange.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::operators::arrange::TraceAgent;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OperatorInfo;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::progress::Antichain;
use timely::progress::frontier::MutableAntichain;

use super::arrangement::Arrangement;
use super::counters::IgnoredLog;
use super::folded::FoldedSoFar;
use super::index::{Holder, IndexKey, ReporterKeyHash};
use super::ledger::{RejectKey, SeenReject};
use super::restored::Slices;
use super::shard::{Deltas, Item, KeptUntil, RELEASE_DELAY_MS, Shard};
use super::shared_batch::{Diff, SharedSpine, Update};
use crate::model::{Coordinates, Epoch, QuarantineEntry, ResourceId, State};

/// The traces that the operator writes.
pub(super) struct UpsertTraces {
    pub(super) states: TraceAgent<SharedSpine<ResourceId, Arc<State>>>,
    pub(super) index: TraceAgent<SharedSpine<IndexKey, ResourceId>>,
    pub(super) quarantine: TraceAgent<SharedSpine<Coordinates, Arc<QuarantineEntry>>>,
    pub(super) kept: TraceAgent<SharedSpine<ResourceId, KeptUntil>>,
    pub(super) seen_rejects: TraceAgent<SharedSpine<RejectKey, SeenReject>>,
    pub(super) folded: FoldedSoFar,
}

/// A change of who holds a reporter key.
pub(super) type HolderUpdate = Update<ReporterKeyHash, Holder>;
/// A resource and by how many its pins change.
pub(super) type Pin = (ResourceId, Epoch, Diff);

/// The arrangements that the operator writes.
struct Arrangements {
    states: Arrangement<ResourceId, Arc<State>>,
    index: Arrangement<IndexKey, ResourceId>,
    quarantine: Arrangement<Coordinates, Arc<QuarantineEntry>>,
    kept: Arrangement<ResourceId, KeptUntil>,
    seen_rejects: Arrangement<RejectKey, SeenReject>,
}

impl Arrangements {
    fn new(scope: Scope<'_, Epoch>, info: &OperatorInfo) -> (UpsertTraces, Self) {
        let (states_trace, states) = Arrangement::new(scope, info);
        let (index_trace, index) = Arrangement::new(scope, info);
        let (quarantine_trace, quarantine) = Arrangement::new(scope, info);
        let (kept_trace, kept) = Arrangement::new(scope, info);
        let (seen_rejects_trace, seen_rejects) = Arrangement::new(scope, info);
        let traces = UpsertTraces {
            states: states_trace,
            index: index_trace,
            quarantine: quarantine_trace,
            kept: kept_trace,
            seen_rejects: seen_rejects_trace,
            folded: FoldedSoFar::default(),
        };
        (traces, Self { states, index, quarantine, kept, seen_rejects })
    }

    /// Ends a batch of each with these changes at `upper`.
    fn seal(&mut self, deltas: &mut Deltas, upper: Option<Epoch>) {
        let upper: Antichain<Epoch> = upper.into_iter().collect();
        self.states.seal(&mut deltas.states, &upper);
        self.index.seal(&mut deltas.index, &upper);
        self.quarantine.seal(&mut deltas.quarantine, &upper);
        self.kept.seal(&mut deltas.kept, &upper);
        self.seen_rejects.seal(&mut deltas.seen_rejects, &upper);
    }

    fn exert(&mut self) {
        self.states.exert();
        self.index.exert();
        self.quarantine.exert();
        self.kept.exert();
        self.seen_rejects.exert();
    }
}

/// Events and pins that wait for their epoch.
#[derive(Default)]
struct Waiting {
    items: BTreeMap<Epoch, Vec<Item>>,
    pins: BTreeMap<Epoch, Vec<(ResourceId, Diff)>>,
}

impl Waiting {
    /// The earliest epoch at which an event or a reject waits.
    fn next_items(&self) -> Option<Epoch> {
        self.items.first_key_value().map(|(epoch, _)| *epoch)
    }

    /// The earliest epoch at which a pin waits.
    fn next_pins(&self) -> Option<Epoch> {
        self.pins.first_key_value().map(|(epoch, _)| *epoch)
    }

    /// Acts on everything before `until`, in order of time; within an epoch pins, then tombstones, then events.
    /// Tombstones that are due at `end` or later stay: when the events have ended, time has too.
    fn act(&mut self, shard: &mut Shard, until: Option<Epoch>, end: Epoch, deltas: &mut Deltas) {
        loop {
            let (next_items, next_pins) = (self.next_items(), self.next_pins());
            let due = shard.next_due().filter(|due| *due < end);
            let Some(epoch) = [next_items, next_pins, due].into_iter().flatten().min() else { return };
            if until.is_some_and(|until| epoch >= until) {
                return;
            }
            for (id, diff) in self.pins.remove(&epoch).unwrap_or_default() {
                shard.pin(epoch, id, diff, deltas);
            }
            if due == Some(epoch) {
                shard.expire(epoch, deltas);
            }
            if let Some(mut items) = self.items.remove(&epoch) {
                shard.fold_epoch(epoch, &mut items, deltas);
            }
        }
    }
}

/// The least element of a frontier of a totally ordered time; none when it is empty.
fn least(frontier: &MutableAntichain<Epoch>) -> Option<Epoch> {
    frontier.frontier().first().copied()
}

/// The earlier of two frontiers, where none is the end of time.
fn earlier(a: Option<Epoch>, b: Option<Epoch>) -> Option<Epoch> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Whether a frontier is beyond another, where none is the end of time.
fn beyond(a: Option<Epoch>, b: Option<Epoch>) -> bool {
    match (a, b) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(a), Some(b)) => a > b,
    }
}

/// What goes on to the reporter keys, an epoch at a time.
fn by_epoch(updates: &mut Vec<HolderUpdate>) -> BTreeMap<Epoch, Vec<HolderUpdate>> {
    let mut by_epoch: BTreeMap<Epoch, Vec<HolderUpdate>> = BTreeMap::new();
    for update in updates.drain(..) {
        by_epoch.entry(update.1).or_default().push(update);
    }
    by_epoch
}

/// Builds the operator. What was restored is written before anything else, up to and including its epoch: a slice at a
/// step, so that the reporter keys take what one gives before the next one is there too.
pub(super) fn upsert<'scope>(
    items: Stream<'scope, Epoch, Vec<Item>>,
    pins: Stream<'scope, Epoch, Vec<Pin>>,
    mut shard: Shard,
    mut restored: Slices,
    ignored: Arc<IgnoredLog>,
) -> (Stream<'scope, Epoch, Vec<HolderUpdate>>, UpsertTraces) {
    let scope = items.scope();
    let mut builder = OperatorBuilder::new("Upsert".to_owned(), scope);
    let info = builder.operator_info();
    let mut items_input = builder.new_input(items, Exchange::new(|item: &Item| item.route.shard_hash()));
    let mut pins_input = builder.new_input(pins, Exchange::new(|pin: &Pin| pin.0.shard_hash()));
    let (holders_output, holders) = builder.new_output::<Vec<HolderUpdate>>();
    let mut holders_output = OutputBuilder::from(holders_output);

    let (traces, mut arrangements) = Arrangements::new(scope, &info);
    let folded = Rc::clone(&traces.folded);
    let activator = scope.activator_for(Rc::clone(&info.address));

    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop();
        let waiting = RefCell::new(Waiting::default());
        let mut deltas = Deltas::default();
        // How far the arrangements are complete, and how far was acted: what was restored is ahead.
        let (mut sealed, mut acted): (Option<Epoch>, Option<Epoch>) = (Some(0), Some(0));
        // The last frontier of the events before they ended.
        let mut end = 0;
        move |frontiers| {
            if let Some((epoch, slice)) = restored.next() {
                shard.restore(slice, epoch, &mut deltas);
                let capability = capability.as_mut().expect("nothing was let go yet");
                capability.downgrade(&epoch);
                holders_output.activate().session(&capability).give_container(&mut deltas.holders);
                sealed = Some(epoch + 1);
                arrangements.seal(&mut deltas, sealed);
                folded.borrow_mut().append(&mut deltas.folded);
                // Nothing is said at an epoch before. Held any longer, pins would be waited for from the beginning of time.
                capability.downgrade(&(epoch + 1));
                // A slice is larger than an epoch will be.
                deltas = Deltas::default();
                activator.activate();
            }
            items_input.for_each(|time, data| {
                let epoch = *time.least().expect("an item has an epoch");
                waiting.borrow_mut().items.entry(epoch).or_default().append(data);
            });
            pins_input.for_each(|time, data| {
                let epoch = *time.least().expect("a pin has an epoch");
                let mut waiting = waiting.borrow_mut();
                waiting.pins.entry(epoch).or_default().extend(data.drain(..).map(|(id, _, diff)| (id, diff)));
            });
            let events_frontier = least(&frontiers[0]);
            let pins_frontier = least(&frontiers[1]);
            end = events_frontier.unwrap_or(end);
            // The pins' frontier ends when nothing but ourselves could still produce any.
            let until = earlier(events_frontier, pins_frontier);
            if restored.len() == 0 && acted.is_some() && until != acted {
                let mut waiting = waiting.borrow_mut();
                waiting.act(&mut shard, until, end, &mut deltas);
                if !deltas.holders.is_empty() {
                    let capability = capability.as_ref().expect("held while there is anything to act on");
                    let mut output = holders_output.activate();
                    for (epoch, mut updates) in by_epoch(&mut deltas.holders) {
                        output.session(&capability.delayed(&epoch)).give_container(&mut updates);
                    }
                }
                ignored.note(std::mem::take(&mut deltas.ignored));
                folded.borrow_mut().append(&mut deltas.folded);
                if beyond(until, sealed) {
                    arrangements.seal(&mut deltas, until);
                    sealed = until;
                }
                acted = until;
                // Hold on to the earliest epoch at which something may have to be said. A pin says nothing at its own,
                // which may be before that: what it releases is forgotten later.
                let due = shard.next_due().filter(|due| *due < end);
                let release = [waiting.next_pins(), pins_frontier]
                    .into_iter()
                    .flatten()
                    .min()
                    .filter(|_| shard.has_overdue())
                    .map(|pin| pin.saturating_add(RELEASE_DELAY_MS))
                    .filter(|release| *release < end);
                match [events_frontier, waiting.next_items(), due, release].into_iter().flatten().min() {
                    Some(hold) => {
                        let capability = capability.as_mut().expect("held until there is nothing left to do");
                        // The events' frontier may still be before what was restored.
                        let hold = hold.max(*capability.time());
                        capability.downgrade(&hold);
                    }
                    None => capability = None,
                }
            }
            arrangements.exert();
        }
    });
    (holders, traces)
}
