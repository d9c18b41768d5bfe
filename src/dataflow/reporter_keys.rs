//! Who is current for a reporter key, and who is an orphan (F14, design section 3).
//!
//! Inventory's bulk delete removes rows with SQL and says nothing; the next report makes a new id for the same reporter
//! key. Of all ids that hold or held a key, tombstones included, the newest is current; the others are orphans of it.
//! In: changes of holders. Out: the holders by key (also the index by local id), the orphans with whom they belong to,
//! and the *pins*: an id that orphans depend on must not be forgotten while they live.

use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::{ValBatcher, ValBuilder, ValSpine};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::vec::Map;

use super::index::{Holder, ReporterKeyHash};
use super::shared_batch::{Diff, SharedSpine};
use super::upsert::{HolderUpdate, Pin};
use crate::model::{Epoch, ResourceId};

/// The arrangements by reporter key.
pub(super) struct ReporterKeys<'scope> {
    pub(super) holders: TraceAgent<SharedSpine<ReporterKeyHash, Holder>>,
    pub(super) orphans: Arranged<'scope, TraceAgent<SharedSpine<ResourceId, ResourceId>>>,
    pub(super) pins: Stream<'scope, Epoch, Vec<Pin>>,
}

/// An orphan and the id that took its place.
type OrphanOf = (ResourceId, ResourceId);

/// Arranges holders by key and finds the orphans.
pub(super) fn reporter_keys<'scope>(updates: Stream<'scope, Epoch, Vec<HolderUpdate>>) -> ReporterKeys<'scope> {
    let holders = arrange_core::<_, _, _, SharedSpine<ReporterKeyHash, Holder>>(
        updates,
        Exchange::new(|update: &HolderUpdate| (update.0).0.whole),
        "Holders",
        ValBatcher::<ReporterKeyHash, Holder, Epoch, Diff>::new,
    );
    let orphan_updates = holders
        .clone()
        .reduce_abelian::<_, ValBuilder<ReporterKeyHash, OrphanOf, Epoch, Diff>, ValSpine<ReporterKeyHash, OrphanOf, Epoch, Diff>, Vec<ReporterKeyHash>, _>(
            "Current",
            |_key, holders, orphans| {
                // Holders come in order, so the newest is last.
                if let Some(((current, _), older)) = holders.split_last() {
                    orphans.extend(older.iter().map(|(holder, _)| ((holder.id, current.id), 1)));
                }
            },
            |chunk, key, updates| {
                chunk.clear();
                chunk.extend(updates.drain(..).map(|(orphan, epoch, diff)| ((*key, orphan), epoch, diff)));
            },
        )
        .as_collection(|_key, orphan_of| *orphan_of)
        .inner;
    let orphans = arrange_core::<_, _, _, SharedSpine<ResourceId, ResourceId>>(
        orphan_updates.clone(),
        Exchange::new(|update: &(OrphanOf, Epoch, Diff)| (update.0).0.shard_hash()),
        "Orphans",
        ValBatcher::<ResourceId, ResourceId, Epoch, Diff>::new,
    );
    let pins = orphan_updates.map(|((_, current), epoch, diff)| (current, epoch, diff));
    ReporterKeys { holders: holders.trace, orphans, pins }
}
