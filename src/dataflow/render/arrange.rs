//! Rows arranged by a key, so that joins find them, and readers on other threads do.
//!
//! The same as differential's own operator for a time that is totally ordered, but that it keeps a meter and that what
//! it arranges takes turns in merging with everything else that is large.

use std::sync::Arc;
use std::time::Instant;

use differential_dataflow::ExchangeData;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use super::in_order::Waiting;
use crate::dataflow::arrangement::Arrangement;
use crate::dataflow::meter::{Held, Meter};
use crate::dataflow::shared_batch::{Batch, Diff, SharedSpine, Update};
use crate::model::Epoch;

/// Arranges updates by their keys. `route` says which worker has a key, `bytes` what an entry takes.
pub(in crate::dataflow) fn arrange<'scope, K, V>(
    updates: Stream<'scope, Epoch, Vec<Update<K, V>>>,
    name: &str,
    meter: Arc<Meter>,
    route: impl Fn(&K) -> u64 + 'static,
    bytes: impl Fn(&K, &V) -> usize + 'static,
) -> Arranged<'scope, TraceAgent<SharedSpine<K, V>>>
where
    K: ExchangeData + Send + Sync,
    V: ExchangeData + Send + Sync,
{
    let scope = updates.scope();
    let by_key = Exchange::new(move |update: &Update<K, V>| route(&update.0.0));
    let mut reader = None;
    let reader_made = &mut reader;
    let stream = updates.unary_frontier(by_key, name, move |_first, info| {
        let (trace, mut arrangement) = Arrangement::new(scope, &info);
        *reader_made = Some(trace);
        let mut waiting = Waiting::new();
        let mut capability = None;
        let (mut sealed, mut kept) = (0, Kept::default());
        move |(input, frontier), output| {
            let began = Instant::now();
            input.for_each(|time, updates| {
                meter.took(updates.len());
                waiting.put(updates);
                if let Some(least) = time.least()
                    && capability.as_ref().is_none_or(|held: &Capability<Epoch>| least < held.time())
                {
                    capability = time.retain_least(0);
                }
            });
            // Nobody reads it any more, and sorting what waits may be much work.
            if meter.is_ending() {
                waiting = Waiting::new();
            }
            let upper = frontier.frontier().to_owned();
            let until = upper.as_option().copied().unwrap_or(Epoch::MAX);
            if until != sealed {
                let mut chunks = waiting.chunks_until(until);
                for ((key, value), _, count) in chunks.iter().flatten() {
                    kept.add(*count, bytes(key, value));
                }
                if let Some(span) = arrangement.seal_sorted(&mut chunks, &upper) {
                    meter.gave(span.inner.as_ref().map_or(0, Batch::updates));
                    output.session(capability.as_ref().expect("held while updates wait")).give(span);
                }
                match (waiting.next(), &mut capability) {
                    (Some(next), Some(capability)) => capability.downgrade(&next),
                    _ => capability = None,
                }
                sealed = until;
                meter.holds(kept.held());
            }
            arrangement.exert();
            meter.worked(began);
        }
    });
    Arranged { stream, trace: reader.expect("made with the operator") }
}

/// What the updates so far add up to.
#[derive(Default)]
struct Kept {
    rows: Diff,
    bytes: Diff,
}

impl Kept {
    fn add(&mut self, count: Diff, bytes: usize) {
        self.rows += count;
        self.bytes += count * Diff::try_from(bytes).unwrap_or(Diff::MAX);
    }

    fn held(&self) -> Held {
        let positive = |number| usize::try_from(number).unwrap_or(0);
        Held { rows: positive(self.rows), bytes: positive(self.bytes) }
    }
}
