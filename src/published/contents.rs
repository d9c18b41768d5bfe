//! All that an instant holds, for whoever keeps it: everything, or what has changed since an earlier one.
//!
//! What changed is told by the states themselves (`State::last` names the epoch that made it) and found by the times of
//! the batches: where batches were merged their times are later than the changes, never earlier. What has *gone* since
//! is not listed. Only tombstones ever go, when their time is over, and that can be seen from them and from
//! [`ReadView::kept`].

use std::sync::Arc;

use super::view::{ReadView, values};
use crate::dataflow::{KeptUntil, RejectKey, Restored, SeenReject};
use crate::model::{Epoch, ResourceId, State};

impl ReadView {
    /// The states made after the epoch `after` (0: all), live ones and tombstones, in order of id.
    pub fn states_since(&self, after: Epoch) -> Vec<Arc<State>> {
        let mut changed: Vec<&Arc<State>> = Vec::new();
        for cut in self.cuts() {
            for batch in &cut.states {
                changed.extend(batch.came(after, self.epoch()).map(|(_, state)| state));
            }
        }
        changed.retain(|state| after == 0 || state.last.epoch > after);
        changed.sort_unstable_by_key(|state| (state.id, state.last.epoch));
        changed.dedup();
        let is_current = |state: &&Arc<State>| self.state(state.id).is_some_and(|now| now == *state);
        changed.into_iter().filter(is_current).cloned().collect()
    }

    /// The tombstones that are kept beyond their time, and until when.
    pub fn kept(&self) -> Vec<(ResourceId, KeptUntil)> {
        let mut kept = Vec::new();
        for cut in self.cuts() {
            let ids = cut.kept.iter().flat_map(|batch| batch.keys().iter().copied());
            let ids: std::collections::BTreeSet<ResourceId> = ids.collect();
            for id in ids {
                kept.extend(values(&cut.kept, &id, self.epoch()).map(|until| (id, *until)));
            }
        }
        kept.sort_unstable();
        kept
    }

    /// The header ids of rejects that were first met after the epoch `after` (0: all), oldest first.
    pub fn seen_rejects_since(&self, after: Epoch) -> Vec<(RejectKey, SeenReject)> {
        let mut seen = Vec::new();
        for cut in self.cuts() {
            for (key, _) in cut.seen_rejects.iter().flat_map(|batch| batch.came(after, self.epoch())) {
                if after == 0 || key.0 > after {
                    seen.extend(values(&cut.seen_rejects, key, self.epoch()).map(|reject| (*key, *reject)));
                }
            }
        }
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    /// All of it, as the dataflow takes it back.
    pub fn contents(&self) -> Restored {
        Restored {
            epoch: self.epoch(),
            states: self.states_since(0),
            kept: self.kept(),
            quarantine: self.quarantine(),
            seen_rejects: self.seen_rejects_since(0),
        }
    }
}
