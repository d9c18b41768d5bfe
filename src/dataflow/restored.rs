//! What a snapshot kept, on its way back into the dataflow.
//!
//! In: everything as it was at one epoch. Out: the shares of the workers, in slices, so that no worker ever holds the
//! changes of all its arrangements for all its resources at once. A slice is an epoch of its own, before the restored
//! one, and a step of its own; nobody can see those, since nothing is published before the restored epoch is.

use std::sync::Arc;

use super::graph::route_of;
use super::ledger::{RejectKey, SeenReject};
use super::shard::KeptUntil;
use crate::model::{Epoch, QuarantineEntry, ResourceId, State};

/// So many states are taken back at a time.
pub const SLICE_STATES: usize = 50_000;
/// The slices of a share in order, each with its epoch. They are consecutive; the last one's is that of the snapshot.
pub(super) type Slices = std::vec::IntoIter<(Epoch, Restored)>;

/// Everything that one epoch held, or a share of it.
#[derive(Debug, Default, Clone)]
pub struct Restored {
    /// The epoch; 0 where there is nothing.
    pub epoch: Epoch,
    /// Live resources and tombstones, in any order.
    pub states: Vec<Arc<State>>,
    /// Tombstones that are kept beyond their time, and until when.
    pub kept: Vec<(ResourceId, KeptUntil)>,
    /// The quarantine, in order of its keys.
    pub quarantine: Vec<Arc<QuarantineEntry>>,
    /// The header ids of rejects, oldest first.
    pub seen_rejects: Vec<(RejectKey, SeenReject)>,
}

impl Restored {
    /// The shares of so many workers.
    pub(super) fn shares(self, workers: usize) -> Vec<Self> {
        let mut shares = vec![Self { epoch: self.epoch, ..Self::default() }; workers];
        let owner = |id: ResourceId| usize::try_from(id.shard_hash() % workers as u64).unwrap_or(0);
        for share in &mut shares {
            share.states.reserve_exact(self.states.len() / workers + self.states.len() / 64);
        }
        for state in self.states {
            shares[owner(state.id)].states.push(state);
        }
        for (id, until) in self.kept {
            shares[owner(id)].kept.push((id, until));
        }
        for entry in self.quarantine {
            shares[owner(route_of(&entry.reject))].quarantine.push(entry);
        }
        for (key, (id, event_id)) in self.seen_rejects {
            let route = id.unwrap_or_else(|| ResourceId::from_uuid(event_id.uuid()));
            shares[owner(route)].seen_rejects.push((key, (id, event_id)));
        }
        shares
    }

    /// Itself in slices of about so many states; none where there is nothing. Kept tombstones are in the first, because
    /// they say what becomes of states.
    pub(super) fn slices(mut self, states_each: usize) -> Slices {
        // There are not more epochs than this before its own.
        let count_max = usize::try_from(self.epoch).unwrap_or(usize::MAX);
        let count = self.states.len().div_ceil(states_each).max(1).min(count_max);
        let mut slices = Vec::with_capacity(count);
        let states_each = self.states.len().div_ceil(count.max(1));
        let mut states = self.states.into_iter();
        for before_last in (0..count).rev() {
            let states = states.by_ref().take(states_each).collect();
            let (kept, quarantine) = (std::mem::take(&mut self.kept), std::mem::take(&mut self.quarantine));
            let seen_rejects = std::mem::take(&mut self.seen_rejects);
            let slice = Self { epoch: self.epoch, states, kept, quarantine, seen_rejects };
            slices.push((self.epoch - before_last as u64, slice));
        }
        slices.into_iter()
    }
}
