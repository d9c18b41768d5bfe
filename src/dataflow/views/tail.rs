//! What a trace is given from now on, batch by batch.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use differential_dataflow::operators::arrange::{TraceAgent, TraceReplayInstruction};
use differential_dataflow::trace::TraceReader;
use timely::progress::Antichain;
use timely::scheduling::Activator;
use timely::worker::Worker;

use crate::dataflow::shared_batch::{Batch, Diff, Row, SharedSpine};
use crate::model::Epoch;

type Queue<K, V> = Rc<(Activator, RefCell<VecDeque<TraceReplayInstruction<SharedSpine<K, V>>>>)>;

/// Follows a trace.
pub(in crate::dataflow) struct Tail<K: Row, V: Row> {
    trace: TraceAgent<SharedSpine<K, V>>,
    queue: Queue<K, V>,
    waiting: Vec<Batch<K, V>>,
    /// Everything below was taken.
    lower: Epoch,
    /// Everything below is known.
    upper: Epoch,
}

impl<K: Row, V: Row> Tail<K, V> {
    /// Follows a trace from what it is given next; what it holds already is not among that.
    pub(in crate::dataflow) fn new(worker: &Worker, trace: &TraceAgent<SharedSpine<K, V>>) -> Self {
        let mut trace = trace.clone();
        let activator = worker.activator_for(Rc::clone(&trace.operator().address));
        let queue = trace.new_listener(activator);
        let mut tail = Self { trace, queue, waiting: Vec::new(), lower: 0, upper: 0 };
        tail.poll();
        tail.waiting.clear();
        tail.lower = tail.upper;
        tail
    }

    /// Up to where the trace is complete.
    pub(in crate::dataflow) fn upper(&self) -> Epoch {
        self.upper
    }

    /// All batches that the trace holds.
    pub(in crate::dataflow) fn batches(&self) -> Vec<Batch<K, V>> {
        let mut batches = Vec::new();
        self.trace.map_spans(|span| batches.extend(span.inner.clone()));
        batches
    }

    /// Looks at what has come; up to where it is complete now.
    pub(in crate::dataflow) fn poll(&mut self) -> Epoch {
        for instruction in self.queue.1.borrow_mut().drain(..) {
            let upper = match instruction {
                TraceReplayInstruction::Frontier(upper) => upper,
                TraceReplayInstruction::Span(span, _stamp) => {
                    let upper = span.upper().clone();
                    self.waiting.extend(span.inner);
                    upper
                }
            };
            self.upper = self.upper.max(upper.as_option().copied().unwrap_or(Epoch::MAX));
        }
        self.upper
    }

    /// Passes over what was not taken.
    pub(in crate::dataflow) fn skip(&mut self, until: Epoch) {
        if until >= self.upper {
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
        self.trace.set_physical_compaction(Antichain::from_elem(self.upper).borrow());
    }
}
