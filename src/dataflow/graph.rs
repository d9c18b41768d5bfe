//! The dataflow of one worker, drawn: decode, upsert, reporter keys, and the loop of the pins.

use std::sync::Arc;
use std::time::Instant;

use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::TraceReader;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::{ConnectLoop, Feedback, Input};
use timely::dataflow::{InputHandle, Scope, Stream};
use timely::progress::Antichain;
use uuid::Uuid;

use super::counters::{self, Counters, IgnoredLog};
use super::cut::{Cut, Fresh, ViewCut};
use super::index::{Holder, ReporterKeyHash};
use super::listener::Listener;
use super::reporter_keys::reporter_keys;
use super::restored::Slices;
use super::resubmission;
use super::shard::{Body, Item, Shard};
use super::shared_batch::{Batch, Row, SharedSpine};
use super::upsert::{Pin, UpsertTraces, upsert};
use crate::decode::{Decoded, Decoder};
use crate::model::{Coordinates, Epoch, EventId, EventOrder, QuarantineEntry, Reject, ResourceId, State};
use crate::source::RecordBatch;

/// Where the ingest puts records.
pub(super) type RecordsInput = InputHandle<Epoch, timely::container::CapacityContainerBuilder<Vec<RecordBatch>>>;

/// Everything that a worker reads its cuts from.
pub(super) struct Traces {
    upsert: UpsertTraces,
    holders: TraceAgent<SharedSpine<ReporterKeyHash, Holder>>,
    orphans: TraceAgent<SharedSpine<ResourceId, ResourceId>>,
    fresh_states: Listener<ResourceId, Arc<State>>,
    fresh_orphans: Listener<ResourceId, ResourceId>,
    fresh_quarantine: Listener<Coordinates, Arc<QuarantineEntry>>,
    since: Epoch,
    upper: Epoch,
    /// The epoch of what was restored; nothing before is ever shown.
    restored: Epoch,
}

/// What the tables of SQL are made of.
pub(super) struct Tables {
    pub(super) states: TraceAgent<SharedSpine<ResourceId, Arc<State>>>,
    pub(super) orphans: TraceAgent<SharedSpine<ResourceId, ResourceId>>,
    pub(super) quarantine: TraceAgent<SharedSpine<Coordinates, Arc<QuarantineEntry>>>,
}

/// Builds the dataflow.
pub(super) fn build(
    scope: Scope<'_, Epoch>,
    input: &mut RecordsInput,
    decoder: Decoder,
    shard: Shard,
    restored: Slices,
    counters: Arc<Counters>,
    ignored: Arc<IgnoredLog>,
) -> Traces {
    let records = scope.input_from(input);
    let workers = scope.worker().peers();
    let items = decode(records, decoder, workers, counters);
    let restored_epoch = restored.as_slice().last().map_or(0, |(epoch, _)| *epoch);
    let (loop_end, pins) = scope.feedback::<Vec<Pin>>(1);
    let (holders, traces) = upsert(items, pins, shard, restored, ignored);
    let keys = reporter_keys(holders);
    keys.pins.connect_loop(loop_end);
    let (holders, orphans) = (keys.holders, keys.orphans.trace);
    let worker = scope.worker();
    let (fresh_states, fresh_orphans) = (Listener::new(worker, &traces.states), Listener::new(worker, &orphans));
    let fresh_quarantine = Listener::new(worker, &traces.quarantine);
    let (since, upper, restored) = (0, 0, restored_epoch);
    Traces { upsert: traces, holders, orphans, fresh_states, fresh_orphans, fresh_quarantine, since, upper, restored }
}

/// Decodes where the records are, before they are exchanged: in parallel although the topic has one partition.
fn decode<'scope>(
    records: Stream<'scope, Epoch, Vec<RecordBatch>>,
    mut decoder: Decoder,
    workers: usize,
    counters: Arc<Counters>,
) -> Stream<'scope, Epoch, Vec<Item>> {
    let mut ids = counters.event_ids.writer(workers);
    records.unary(Pipeline, "Decode", move |_capability, _info| {
        move |input, output| {
            input.for_each(|time, batches| {
                let epoch = *time.least().expect("records have an epoch");
                let mut session = output.session(&time);
                for batch in batches.drain(..) {
                    let began = Instant::now();
                    for record in batch.iter() {
                        let decoded = decoder.decode(&record);
                        if let Some(origin) = record.origin {
                            count(&counters, &decoded);
                            session.give_iterator(
                                resubmission::items(origin, record.order, decoded, &counters.resubmitted).into_iter(),
                            );
                            continue;
                        }
                        match decoded {
                            Decoded::Skip(reason) => counters::add(counters.skipped(reason), 1),
                            Decoded::Event(mut event) => {
                                event.observed_ms = observed_ms(event.observed_ms, epoch);
                                event.event_id.into_iter().for_each(|id| ids.note(id, epoch));
                                let route = event.id;
                                let order = event.order;
                                session.give(Item { route, order, body: Body::Event(Box::new(event)) });
                            }
                            Decoded::Reject(mut reject) => {
                                reject.observed_ms = observed_ms(reject.observed_ms, epoch);
                                reject.event_id.into_iter().for_each(|id| ids.note(id, epoch));
                                let route = route_of(&reject);
                                let order = reject.order;
                                session.give(Item { route, order, body: Body::Reject(Box::new(reject)) });
                            }
                        }
                    }
                    counters.stages.decode.record(began.elapsed(), 1);
                }
                ids.flush();
                for (anomaly, count) in decoder.take_anomalies() {
                    if count > 0 {
                        counters::add(counters.anomaly(anomaly), count);
                    }
                }
            });
        }
    })
}

/// Counts what is no event, where no shard does.
fn count(counters: &Counters, decoded: &Decoded) {
    match decoded {
        Decoded::Skip(reason) => counters::add(counters.skipped(*reason), 1),
        Decoded::Reject(reject) => {
            counters::add(counters.rejected(reject.reason), 1);
            counters::add(&counters.rejected_again, 1);
        }
        Decoded::Event(_) => {}
    }
}

/// The record's timestamp, or the epoch where it has none.
fn observed_ms(timestamp_ms: i64, epoch: Epoch) -> i64 {
    if timestamp_ms > 0 { timestamp_ms } else { i64::try_from(epoch).unwrap_or(i64::MAX) }
}

/// The resource of a reject, else something that is the same when the record comes again.
pub(super) fn route_of(reject: &Reject) -> ResourceId {
    let of_event = |id: EventId| ResourceId::from_uuid(id.uuid());
    let of_place =
        |order: EventOrder| ResourceId::from_uuid(Uuid::from_u64_pair(0, order.coordinates.offset.unsigned_abs()));
    reject.id.or(reject.event_id.map(of_event)).unwrap_or_else(|| of_place(reject.order))
}

/// The batches of a trace and the time up to which they are complete.
pub(super) fn batches<K: Row, V: Row>(trace: &mut TraceAgent<SharedSpine<K, V>>) -> Vec<Batch<K, V>> {
    let mut batches = Vec::new();
    trace.map_spans(|span| batches.extend(span.inner.clone()));
    batches
}

pub(super) fn upper<K: Row, V: Row>(trace: &mut TraceAgent<SharedSpine<K, V>>) -> Epoch {
    let mut upper = Antichain::new();
    trace.read_upper(&mut upper);
    upper.as_option().copied().unwrap_or(Epoch::MAX)
}

/// Lets a trace compact up to here. Costs nothing where it may already.
pub(super) fn compact<K: Row, V: Row>(trace: &mut TraceAgent<SharedSpine<K, V>>, since: Epoch, upper: Epoch) {
    let (since, upper) = (Antichain::from_elem(since), Antichain::from_elem(upper));
    if trace.get_logical_compaction() != since.borrow() {
        trace.set_logical_compaction(since.borrow());
    }
    if trace.get_physical_compaction() != upper.borrow() {
        trace.set_physical_compaction(upper.borrow());
    }
}

impl Traces {
    /// What the tables of SQL are made of.
    pub(super) fn tables(&self) -> Tables {
        Tables {
            states: self.upsert.states.clone(),
            orphans: self.orphans.clone(),
            quarantine: self.upsert.quarantine.clone(),
        }
    }

    /// The upper of the last cut.
    pub(super) fn upper(&self) -> Epoch {
        self.upper
    }

    /// Whether all arrangements have come further since the last time; compaction goes as far as `floor`.
    pub(super) fn advance(&mut self, floor: Epoch) -> bool {
        let upsert = &mut self.upsert;
        let uppers = [
            upper(&mut upsert.states),
            upper(&mut upsert.index),
            upper(&mut upsert.quarantine),
            upper(&mut self.holders),
            upper(&mut self.orphans),
            upper(&mut upsert.kept),
            upper(&mut upsert.seen_rejects),
        ];
        let Some(upper) = uppers.into_iter().min().filter(|upper| *upper > self.upper) else { return false };
        (self.upper, self.since) = (upper, floor.max(self.since));
        compact(&mut upsert.states, self.since, uppers[0]);
        compact(&mut upsert.index, self.since, uppers[1]);
        compact(&mut upsert.quarantine, self.since, uppers[2]);
        compact(&mut self.holders, self.since, uppers[3]);
        compact(&mut self.orphans, self.since, uppers[4]);
        compact(&mut upsert.kept, self.since, uppers[5]);
        compact(&mut upsert.seen_rejects, self.since, uppers[6]);
        true
    }

    /// A cut of what is complete, with these views; none before what was restored is there: whoever took that would hold
    /// batches that are merged now, and never show them.
    pub(super) fn cut(&mut self, views: impl FnOnce() -> Vec<ViewCut>) -> Option<Cut> {
        let fresh = Fresh {
            states: self.fresh_states.take(),
            orphans: self.fresh_orphans.take(),
            quarantine: self.fresh_quarantine.take(),
        };
        if self.upper <= self.restored {
            return None;
        }
        let upsert = &mut self.upsert;
        Some(Cut {
            upper: self.upper,
            since: self.since,
            states: batches(&mut upsert.states),
            index: batches(&mut upsert.index),
            holders: batches(&mut self.holders),
            orphans: batches(&mut self.orphans),
            quarantine: batches(&mut upsert.quarantine),
            kept: batches(&mut upsert.kept),
            seen_rejects: batches(&mut upsert.seen_rejects),
            views: views(),
            fresh,
            folded: std::mem::take(&mut *upsert.folded.borrow_mut()),
        })
    }
}
