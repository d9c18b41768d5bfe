//! What a trace is newly given, batch by batch, before merges make its epochs one.
//!
//! A listener holds nothing back: compaction goes on without it. What it heard and nobody took waits in it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use differential_dataflow::operators::arrange::{TraceAgent, TraceReplayInstruction};
use timely::scheduling::Activator;
use timely::worker::Worker;

use super::shared_batch::{Batch, Row, SharedSpine};
use crate::model::Epoch;

type Queue<K, V> = Rc<(Activator, RefCell<VecDeque<TraceReplayInstruction<SharedSpine<K, V>>>>)>;

/// Hears what a trace is given.
pub(super) struct Listener<K: Row, V: Row> {
    queue: Queue<K, V>,
    upper: Epoch,
}

impl<K: Row, V: Row> Listener<K, V> {
    /// Hears what a trace is given next; what it holds already is not among that.
    pub(super) fn new(worker: &Worker, trace: &TraceAgent<SharedSpine<K, V>>) -> Self {
        let mut trace = trace.clone();
        let activator = worker.activator_for(Rc::clone(&trace.operator().address));
        let mut listener = Self { queue: trace.new_listener(activator), upper: 0 };
        listener.take();
        listener
    }

    /// Up to where what was taken is complete.
    pub(super) fn upper(&self) -> Epoch {
        self.upper
    }

    /// The batches that have come since they were taken last.
    pub(super) fn take(&mut self) -> Vec<Batch<K, V>> {
        let mut batches = Vec::new();
        for instruction in self.queue.1.borrow_mut().drain(..) {
            let upper = match instruction {
                TraceReplayInstruction::Frontier(upper) => upper,
                TraceReplayInstruction::Span(span, _stamp) => {
                    let upper = span.upper().clone();
                    batches.extend(span.inner);
                    upper
                }
            };
            self.upper = self.upper.max(upper.as_option().copied().unwrap_or(Epoch::MAX));
        }
        batches
    }
}
