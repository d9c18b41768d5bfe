//! What a trace is given from now on, batch by batch.

use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::TraceReader;
use timely::progress::Antichain;
use timely::worker::Worker;

use crate::dataflow::listener::Listener;
use crate::dataflow::shared_batch::{Batch, Diff, Row, SharedSpine};
use crate::model::Epoch;

/// Follows a trace.
pub(in crate::dataflow) struct Tail<K: Row, V: Row> {
    trace: TraceAgent<SharedSpine<K, V>>,
    listener: Listener<K, V>,
    waiting: Vec<Batch<K, V>>,
    /// Everything below was taken.
    lower: Epoch,
}

impl<K: Row, V: Row> Tail<K, V> {
    /// Follows a trace from what it is given next; what it holds already is not among that.
    pub(in crate::dataflow) fn new(worker: &Worker, trace: &TraceAgent<SharedSpine<K, V>>) -> Self {
        let listener = Listener::new(worker, trace);
        let lower = listener.upper();
        Self { trace: trace.clone(), listener, waiting: Vec::new(), lower }
    }

    /// Up to where the trace is complete.
    pub(in crate::dataflow) fn upper(&self) -> Epoch {
        self.listener.upper()
    }

    /// All batches that the trace holds.
    pub(in crate::dataflow) fn batches(&self) -> Vec<Batch<K, V>> {
        let mut batches = Vec::new();
        self.trace.map_spans(|span| batches.extend(span.inner.clone()));
        batches
    }

    /// Looks at what has come; up to where it is complete now.
    pub(in crate::dataflow) fn poll(&mut self) -> Epoch {
        self.waiting.extend(self.listener.take());
        self.listener.upper()
    }

    /// Passes over what was not taken.
    pub(in crate::dataflow) fn skip(&mut self, until: Epoch) {
        if until >= self.upper() {
            self.waiting.clear();
        }
        // A batch may reach beyond it.
        self.take(until, |_, _, _, _| {});
    }

    /// The updates at epochs below `until`, which is complete, that were not taken before.
    pub(in crate::dataflow) fn take(&mut self, until: Epoch, mut each: impl FnMut(&K, &V, Epoch, Diff)) {
        let (lower, mut rest) = (self.lower, Vec::new());
        for batch in self.waiting.drain(..) {
            let mut is_done = true;
            batch.each(|key, value, epoch, diff| {
                is_done &= epoch < until;
                if (lower..until).contains(&epoch) {
                    each(key, value, epoch, diff);
                }
            });
            if !is_done {
                rest.push(batch);
            }
        }
        (self.waiting, self.lower) = (rest, until);
        // What was there just before the next update can still be asked for, and nothing earlier.
        self.trace.set_logical_compaction(Antichain::from_elem(until.saturating_sub(1)).borrow());
        self.trace.set_physical_compaction(Antichain::from_elem(self.upper()).borrow());
    }
}
