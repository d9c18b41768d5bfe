//! What tables hold at one epoch, read in slices: for a scan that begins while everything else is at work.

use std::sync::Arc;

use super::changes::Seen;
use super::merged::{Merged, add_up, greatest};
use crate::dataflow::shared_batch::{Batch, Row};
use crate::model::{Coordinates, Epoch, QuarantineEntry, ResourceId, State};

/// The batches of what tables are made of.
pub(in crate::dataflow) struct TableBatches {
    pub(in crate::dataflow) states: Vec<Batch<ResourceId, Arc<State>>>,
    pub(in crate::dataflow) orphans: Vec<Batch<ResourceId, ResourceId>>,
    pub(in crate::dataflow) quarantine: Vec<Batch<Coordinates, Arc<QuarantineEntry>>>,
}

impl TableBatches {
    /// A walk over all resources that are remembered, in order of id.
    pub(in crate::dataflow) fn resources(self, epoch: Epoch) -> ResourceWalk {
        ResourceWalk { states: Merged::new(self.states, epoch), orphans: Merged::new(self.orphans, epoch) }
    }

    /// A walk over the quarantine.
    pub(in crate::dataflow) fn rejects(self, epoch: Epoch) -> Merged<Coordinates, Arc<QuarantineEntry>> {
        Merged::new(self.quarantine, epoch)
    }
}

/// A walk over all resources at an epoch.
pub(in crate::dataflow) struct ResourceWalk {
    states: Merged<ResourceId, Arc<State>>,
    orphans: Merged<ResourceId, ResourceId>,
}

impl ResourceWalk {
    /// About how many resources it walks over.
    pub(in crate::dataflow) fn updates(&self) -> usize {
        self.states.updates()
    }

    /// The next `count` resources; whether there are more.
    pub(in crate::dataflow) fn next(&mut self, count: usize, mut each: impl FnMut(Seen)) -> bool {
        let Self { states, orphans } = self;
        states.next(count, |id, state, _count| {
            each(Seen { state: Arc::clone(state), orphaned_by: orphans.greatest_of(id) });
        })
    }
}

/// The greatest value that a key has at `epoch`.
pub(in crate::dataflow) fn value_at<'a, V: Row>(
    batches: &'a [Batch<ResourceId, V>],
    id: &ResourceId,
    epoch: Epoch,
) -> Option<&'a V> {
    let mut values = Vec::new();
    for batch in batches {
        if let Ok(index) = batch.keys().binary_search(id) {
            add_up(&mut values, batch.counted(index, epoch));
        }
    }
    greatest(values)
}
