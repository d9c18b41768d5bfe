//! One arrangement under construction: batches of updates, one after the other, and the trace that they make up.
//!
//! For operators that write their arrangements themselves, with updates that they have in some order already. Large ones
//! take turns in merging (`merging`).

use std::rc::Rc;

use differential_dataflow::batcher::merge::Sealer;
use differential_dataflow::consolidation::consolidate_updates;
use differential_dataflow::operators::arrange::{TraceAgent, TraceWriter};
use differential_dataflow::trace::{Builder as _, Description, Span, Trace};
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::OperatorInfo;
use timely::progress::{Antichain, Stamp};

use super::merging;
use super::shared_batch::{Batch, Builder, Row, SharedSpine, Update};
use crate::model::Epoch;

/// One arrangement under construction.
pub(super) struct Arrangement<K: Row, V: Row> {
    writer: TraceWriter<SharedSpine<K, V>>,
    lower: Epoch,
}

impl<K: Row, V: Row> Arrangement<K, V> {
    /// An arrangement written by an operator, and how it is read.
    pub(super) fn new(scope: Scope<'_, Epoch>, info: &OperatorInfo) -> (TraceAgent<SharedSpine<K, V>>, Self) {
        let activator = Some(scope.activator_for(Rc::clone(&info.address)));
        let mut trace = SharedSpine::<K, V>::new(info.clone(), None, activator);
        if let Some(logic) = merging::next_logic(scope.worker().config()) {
            trace.set_exert_logic(logic);
        }
        let (reader, writer) = TraceAgent::new(trace, info.clone(), None);
        (reader, Self { writer, lower: 0 })
    }

    /// Ends a batch of `updates`, which it empties, at `upper`.
    pub(super) fn seal(&mut self, updates: &mut Vec<Update<K, V>>, upper: &Antichain<Epoch>) {
        let first = updates.iter().map(|(_, epoch, _)| *epoch).min();
        consolidate_updates(updates);
        let mut builder = Builder::<K, V>::default();
        builder.push(updates);
        updates.clear();
        self.insert(first, builder.done().map(Batch::from), upper);
    }

    /// Ends a batch at `upper` of updates that are sorted and consolidated over all chunks. The batch, if there are any.
    pub(super) fn seal_sorted(
        &mut self,
        chunks: &mut Vec<Vec<Update<K, V>>>,
        upper: &Antichain<Epoch>,
    ) -> Option<Span<Epoch, Batch<K, V>>> {
        let first = chunks.iter().flatten().map(|(_, epoch, _)| *epoch).min();
        let batch = <Builder<K, V> as Sealer<_>>::seal(chunks).map(Batch::from);
        self.insert(first, batch, upper)
    }

    /// Puts a batch, whose updates are at `first` or later, behind those before.
    fn insert(
        &mut self,
        first: Option<Epoch>,
        batch: Option<Batch<K, V>>,
        upper: &Antichain<Epoch>,
    ) -> Option<Span<Epoch, Batch<K, V>>> {
        let lower = std::mem::replace(&mut self.lower, upper.as_option().copied().unwrap_or(Epoch::MAX));
        let (Some(batch), Some(first)) = (batch, first) else {
            self.writer.seal(upper.clone());
            return None;
        };
        let description = Description::new(Antichain::from_elem(lower), upper.clone(), Antichain::from_elem(0));
        let span = Span::new(description, Some(batch));
        self.writer.insert(span.clone(), Stamp::from_elem(first));
        Some(span)
    }

    /// Merges a little if there is leisure.
    pub(super) fn exert(&mut self) {
        self.writer.exert();
    }
}
