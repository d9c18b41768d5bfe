//! The header ids of the last records: the epoch in which each was read, for who waits for an event and knows only its id.
//!
//! In: what the workers decode, duplicates and rejects among it, a batch at a time under one short lock a worker. Out: the
//! epoch of an id. Ids are kept in the order in which they came and looked for one by one: writing must cost next to
//! nothing, and hardly anybody asks. Who asks again looks at what is new alone. What is let go is known by a time: a later
//! id was never let go, so that it is yet to come if it is not here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::model::{Epoch, EventId};

/// So many are kept, by all workers together: 24 bytes each.
pub const IDS_KEPT: usize = 1_000_000;
/// They are let go in pieces of this.
const CHUNK_IDS: usize = 4_096;

/// An id, and the epoch of the record that had it.
#[derive(Debug, Clone, Copy)]
struct Noted {
    id: EventId,
    epoch: Epoch,
}

impl Noted {
    /// The time by which it is remembered to be gone: one that is ahead of its record tells nothing of those after it.
    fn time(self) -> u64 {
        self.id.time_ms().map_or(0, |time_ms| time_ms.min(self.epoch))
    }
}

/// The ids that all workers keep.
#[derive(Debug, Default)]
pub struct EventIds {
    kept: Mutex<Vec<Arc<Kept>>>,
    /// Of workers that are no more, and of what was read before this process began.
    gone_until: AtomicU64,
}

/// The ids that one worker keeps.
#[derive(Debug, Default)]
struct Kept(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    closed: VecDeque<Arc<Vec<Noted>>>,
    open: Vec<Noted>,
    /// So many came before those that are kept.
    let_go: u64,
    gone_until: u64,
}

impl Kept {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().expect("nobody panics with the ids of events")
    }
}

/// The end at which a worker puts ids in.
#[derive(Debug)]
pub(super) struct EventIdWriter {
    kept: Arc<Kept>,
    chunks_max: usize,
    batch: Vec<Noted>,
}

impl EventIdWriter {
    /// Takes an id; it is there for others after [`Self::flush`].
    pub(super) fn note(&mut self, id: EventId, epoch: Epoch) {
        self.batch.push(Noted { id, epoch });
    }

    /// Gives others what was taken. To be called before its epoch can be complete.
    pub(super) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut ring = self.kept.ring();
        let mut rest = self.batch.as_slice();
        while !rest.is_empty() {
            let room = CHUNK_IDS.saturating_sub(ring.open.len());
            let (some, others) = rest.split_at(room.min(rest.len()));
            ring.open.extend_from_slice(some);
            rest = others;
            if ring.open.len() >= CHUNK_IDS {
                let full = std::mem::replace(&mut ring.open, Vec::with_capacity(CHUNK_IDS));
                ring.closed.push_back(Arc::new(full));
            }
        }
        while ring.closed.len() > self.chunks_max {
            let Some(oldest) = ring.closed.pop_front() else { break };
            ring.let_go += oldest.len() as u64;
            let gone_until = oldest.iter().map(|noted| noted.time()).max().unwrap_or(0);
            ring.gone_until = ring.gone_until.max(gone_until);
        }
        drop(ring);
        self.batch.clear();
    }
}

impl EventIds {
    /// What was read before, up to an epoch, is not known here.
    pub fn begin_after(&self, epoch: Epoch) {
        self.gone_until.fetch_max(epoch, Ordering::Relaxed);
    }

    /// A worker's end, of so many workers.
    pub(super) fn writer(&self, workers: usize) -> EventIdWriter {
        let kept = Arc::<Kept>::default();
        self.all().push(Arc::clone(&kept));
        let chunks_max = (IDS_KEPT / workers.max(1) / CHUNK_IDS).max(1);
        EventIdWriter { kept, chunks_max, batch: Vec::new() }
    }

    /// Those of workers that there are; what others kept is let go.
    fn all(&self) -> MutexGuard<'_, Vec<Arc<Kept>>> {
        let mut all = self.kept.lock().expect("nobody panics with the ids of events");
        all.retain(|kept| {
            let is_written = Arc::strong_count(kept) > 1;
            if !is_written {
                let ring = kept.ring();
                let times =
                    ring.closed.iter().flat_map(|chunk| chunk.iter()).chain(&ring.open).map(|noted| noted.time());
                self.gone_until.fetch_max(times.max().unwrap_or(0).max(ring.gone_until), Ordering::Relaxed);
            }
            is_written
        });
        all
    }

    /// An id of a later time than this, ms since 1970, was never let go.
    pub fn gone_until(&self) -> u64 {
        let of_each = self.all().iter().map(|kept| kept.ring().gone_until).max();
        of_each.unwrap_or(0).max(self.gone_until.load(Ordering::Relaxed))
    }
}

/// A search for an id, which goes on where it was.
#[derive(Debug)]
pub struct EventSearch {
    id: EventId,
    /// How many of each worker's were looked at.
    looked_at: Vec<(Arc<Kept>, u64)>,
}

impl EventSearch {
    /// A search that has looked at nothing yet.
    pub fn new(id: EventId) -> Self {
        Self { id, looked_at: Vec::new() }
    }

    /// How many there are to be looked at.
    pub fn count(&self, ids: &EventIds) -> u64 {
        let count = |kept: &Arc<Kept>| {
            let ring = kept.ring();
            let held = ring.closed.iter().map(|chunk| chunk.len()).sum::<usize>() + ring.open.len();
            (ring.let_go + held as u64).saturating_sub(self.looked_at(kept).max(ring.let_go))
        };
        ids.all().iter().map(count).sum()
    }

    fn looked_at(&self, kept: &Arc<Kept>) -> u64 {
        let known = self.looked_at.iter().find(|(known, _)| Arc::ptr_eq(known, kept));
        known.map_or(0, |(_, count)| *count)
    }

    /// The first epoch of a record with the id, if one came that was not looked at before.
    pub fn find(&mut self, ids: &EventIds) -> Option<Epoch> {
        let all: Vec<Arc<Kept>> = ids.all().clone();
        let mut found: Option<Epoch> = None;
        let mut looked_at = Vec::with_capacity(all.len());
        for kept in all {
            let from = self.looked_at(&kept);
            // Shared chunks are looked at without the lock, for which the worker would wait.
            let (chunks, mut at, open, count) = {
                let ring = kept.ring();
                let held: u64 = ring.closed.iter().map(|chunk| chunk.len() as u64).sum();
                let open_at = ring.let_go + held;
                let skipped = usize::try_from(from.saturating_sub(open_at)).unwrap_or(usize::MAX);
                let open = ring.open.iter().skip(skipped).filter(|noted| noted.id == self.id);
                let open = open.map(|noted| noted.epoch).min();
                let chunks = if from < open_at { ring.closed.clone() } else { VecDeque::new() };
                (chunks, ring.let_go, open, open_at + ring.open.len() as u64)
            };
            let mut note = |epoch: Epoch| found = Some(found.map_or(epoch, |found| found.min(epoch)));
            open.into_iter().for_each(&mut note);
            for chunk in chunks {
                let skipped = usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX);
                chunk.iter().skip(skipped).filter(|noted| noted.id == self.id).for_each(|noted| note(noted.epoch));
                at += chunk.len() as u64;
            }
            looked_at.push((kept, count));
        }
        self.looked_at = looked_at;
        found
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(time_ms: u64, number: u64) -> EventId {
        let high = time_ms << 16 | 0x7000;
        EventId::from_uuid(Uuid::from_u64_pair(high, 1 << 63 | number)).expect("an id")
    }

    #[test]
    fn an_id_is_found_at_its_first_epoch_and_a_search_looks_at_nothing_twice() {
        let ids = EventIds::default();
        let (mut one, mut other) = (ids.writer(2), ids.writer(2));
        let mut search = EventSearch::new(id(7, 7));
        assert_eq!(search.find(&ids), None);
        for number in 0..10_000 {
            one.note(id(5, number), 100 + number / 1_000);
        }
        one.flush();
        assert_eq!((search.count(&ids), search.find(&ids), search.count(&ids)), (10_000, None, 0));
        other.note(id(7, 7), 120);
        one.note(id(7, 7), 119);
        assert_eq!(search.find(&ids), None, "it is not given to others yet");
        other.flush();
        one.flush();
        assert_eq!((search.count(&ids), search.find(&ids)), (2, Some(119)));
        assert_eq!(search.find(&ids), None, "it was looked at");
        assert_eq!(EventSearch::new(id(5, 4_097)).find(&ids), Some(104));
        assert_eq!(EventSearch::new(id(5, 9_999)).find(&ids), Some(109));
    }

    #[test]
    fn what_is_let_go_is_known_by_its_time() {
        let ids = EventIds::default();
        ids.begin_after(50);
        let mut writer = ids.writer(1);
        assert_eq!(ids.gone_until(), 50);
        // The first is from the future: it must not make all others look as if they were gone.
        writer.note(id(1_000_000_000, 1), 60);
        writer.note(id(70, 2), 80);
        writer.flush();
        let total = (IDS_KEPT + 3 * CHUNK_IDS) as u64;
        for number in 0..total {
            writer.note(id(100 + number / CHUNK_IDS as u64, number), 1_000 + number);
            if number % 1_000 == 0 {
                writer.flush();
            }
        }
        writer.flush();
        let gone_until = ids.gone_until();
        assert!((100..105).contains(&gone_until), "{gone_until}");
        assert_eq!(EventSearch::new(id(70, 2)).find(&ids), None);
        let last = EventSearch::new(id(100 + (total - 1) / CHUNK_IDS as u64, total - 1)).find(&ids);
        assert_eq!(last, Some(1_000 + total - 1));
        // A worker that ends leaves the time of what it kept.
        drop(writer);
        assert_eq!(ids.gone_until(), 100 + (total - 1) / CHUNK_IDS as u64);
        assert_eq!(EventSearch::new(id(100, 0)).count(&ids), 0);
    }
}
