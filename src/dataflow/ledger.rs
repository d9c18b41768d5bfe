//! The open rejects of one shard: what is in quarantine, what clears it, which header ids were seen.
//!
//! Decided where the events of the same resource are folded, so that "newer" has one meaning. Bounded in entries, bytes
//! and remembered ids; what is pushed out is counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::shared_batch::Update;
use crate::model::{Coordinates, Epoch, EventId, EventOrder, QuarantineEntry, QuarantineStatus, Reject, ResourceId};
use crate::source::identity::checksum;

/// The bounds of the quarantine.
#[derive(Debug, Clone, Copy)]
pub struct QuarantineLimits {
    /// At most this many entries.
    pub entries_max: usize,
    /// At most about this many bytes.
    pub bytes_max: usize,
}

impl Default for QuarantineLimits {
    fn default() -> Self {
        Self { entries_max: 10_000, bytes_max: 64 * 1024 * 1024 }
    }
}

impl QuarantineLimits {
    /// The share of one of `shards`.
    pub(super) fn share(self, shards: usize) -> Self {
        Self { entries_max: (self.entries_max / shards).max(1), bytes_max: self.bytes_max / shards }
    }
}

/// Header ids of rejects that are remembered, so that a replay makes no second entry.
const SEEN_IDS_MAX: usize = 100_000;

/// By what an entry, or the id of a reject, is told from all others, in order of time.
pub type RejectKey = (Epoch, EventOrder);
/// By which a reject is known when it comes again: ids are unique, but what cannot be read need not be right.
pub type SeenReject = (Option<ResourceId>, EventId);

/// Changes of the rejects that are remembered.
pub(super) type SeenRejectUpdates = Vec<Update<RejectKey, SeenReject>>;
/// Changes of the quarantine's arrangement.
pub(super) type QuarantineUpdates = Vec<Update<Coordinates, Arc<QuarantineEntry>>>;

/// What happened to the ledger, for the counters.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct LedgerTally {
    pub(super) again: u64,
    pub(super) evicted: u64,
    pub(super) cleared: u64,
}

/// By which a record is known again that stands at the same place: of what is kept of its key and value.
pub(super) fn checksum_of(reject: &Reject) -> u64 {
    checksum(reject.key.as_deref(), reject.value.as_deref())
}

/// The quarantine entries of one shard.
#[derive(Debug)]
pub(super) struct Ledger {
    limits: QuarantineLimits,
    entries: BTreeMap<RejectKey, Arc<QuarantineEntry>>,
    by_id: HashMap<ResourceId, BTreeSet<RejectKey>>,
    held_bytes: usize,
    seen: HashSet<SeenReject>,
    seen_in_order: VecDeque<(RejectKey, SeenReject)>,
    pub(super) tally: LedgerTally,
}

impl Ledger {
    pub(super) fn new(limits: QuarantineLimits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            by_id: HashMap::new(),
            held_bytes: 0,
            seen: HashSet::new(),
            seen_in_order: VecDeque::new(),
            tally: LedgerTally::default(),
        }
    }

    /// Takes a reject in, unless its header id was seen.
    pub(super) fn reject(
        &mut self,
        reject: Reject,
        epoch: Epoch,
        out: &mut QuarantineUpdates,
        seen: &mut SeenRejectUpdates,
    ) {
        if let Some(id) = reject.event_id
            && !self.remember((epoch, reject.order), (reject.id, id), epoch, seen)
        {
            self.tally.again += 1;
            return;
        }
        let entry = QuarantineEntry { reject, status: QuarantineStatus::Open, first_seen: epoch };
        self.admit(Arc::new(entry), epoch, out);
        while self.entries.len() > self.limits.entries_max || self.held_bytes > self.limits.bytes_max {
            let Some((&oldest, _)) = self.entries.first_key_value() else { break };
            self.remove(oldest, epoch, out);
            self.tally.evicted += 1;
        }
    }

    /// Takes an entry in as it is.
    pub(super) fn admit(&mut self, entry: Arc<QuarantineEntry>, epoch: Epoch, out: &mut QuarantineUpdates) {
        let key = (entry.first_seen, entry.reject.order);
        self.held_bytes += entry.reject.held_bytes();
        if let Some(id) = entry.reject.id {
            self.by_id.entry(id).or_default().insert(key);
        }
        self.put(key, entry, epoch, out);
    }

    /// Remembers a reject; whether it was not known. The oldest is forgotten when there are too many.
    pub(super) fn remember(
        &mut self,
        key: RejectKey,
        reject: SeenReject,
        epoch: Epoch,
        out: &mut SeenRejectUpdates,
    ) -> bool {
        if !self.seen.insert(reject) {
            return false;
        }
        self.seen_in_order.push_back((key, reject));
        out.push(((key, reject), epoch, 1));
        if self.seen_in_order.len() > SEEN_IDS_MAX
            && let Some(oldest) = self.seen_in_order.pop_front()
        {
            self.seen.remove(&oldest.1);
            out.push((oldest, epoch, -1));
        }
        true
    }

    /// Notes that an event of `id` was applied: one that says everything clears the entries of its resource, another
    /// marks them. One that was itself rejected at `rejected` does so to those that are older.
    pub(super) fn supersede(
        &mut self,
        id: ResourceId,
        says_everything: bool,
        rejected: Option<&RejectKey>,
        epoch: Epoch,
        out: &mut QuarantineUpdates,
    ) {
        let Some(keys) = self.by_id.get(&id).cloned() else { return };
        for key in keys.into_iter().filter(|key| rejected.is_none_or(|rejected| key < rejected)) {
            if says_everything {
                self.remove(key, epoch, out);
                self.tally.cleared += 1;
            } else if let Some(entry) = self.entries.get(&key).filter(|entry| entry.status == QuarantineStatus::Open) {
                let marked = QuarantineEntry { status: QuarantineStatus::PartlySuperseded, ..(**entry).clone() };
                self.put(key, Arc::new(marked), epoch, out);
            }
        }
    }

    /// The entry of a record that was rejected at `key`, perhaps in another epoch: a state that is made anew from the log
    /// meets it again.
    pub(super) fn find(&self, key: &RejectKey, checksum: u64) -> Option<(RejectKey, QuarantineStatus)> {
        let is_it = |entry: &QuarantineEntry| {
            entry.coordinates() == key.1.coordinates && checksum_of(&entry.reject) == checksum
        };
        let exact = self.entries.get_key_value(key).filter(|(_, entry)| is_it(entry));
        let found = exact.or_else(|| self.entries.iter().rev().find(|(_, entry)| is_it(entry)));
        found.map(|(key, entry)| (*key, entry.status))
    }

    /// Whether any resource has an entry, so that most epochs look no further.
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn put(&mut self, key: RejectKey, entry: Arc<QuarantineEntry>, epoch: Epoch, out: &mut QuarantineUpdates) {
        out.push(((entry.coordinates(), Arc::clone(&entry)), epoch, 1));
        if let Some(before) = self.entries.insert(key, entry) {
            out.push(((before.coordinates(), before), epoch, -1));
        }
    }

    /// Takes an entry out, if it is there.
    pub(super) fn remove(&mut self, key: RejectKey, epoch: Epoch, out: &mut QuarantineUpdates) {
        let Some(entry) = self.entries.remove(&key) else { return };
        self.held_bytes -= entry.reject.held_bytes();
        if let Some(id) = entry.reject.id
            && let Some(keys) = self.by_id.get_mut(&id)
        {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_id.remove(&id);
            }
        }
        out.push(((entry.coordinates(), entry), epoch, -1));
    }
}
