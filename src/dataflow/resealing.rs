//! Epochs that were sealed before a crash, sealed again with exactly what they held.
//!
//! In: their bindings, in order, and the records that are read again. Out: the records of each epoch, once every
//! partition has been read as far as its binding says. A record belongs to the first binding whose position is beyond
//! it. What is beyond all of them is held until the last one is sealed. Not here: sealing (`ingest`).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::{Coordinates, Epoch, Position, Topics};
use crate::source::RecordBatch;

/// The epochs that are still to be sealed again.
#[derive(Debug, Default)]
pub(super) struct Resealing {
    due: VecDeque<Due>,
    /// Records beyond the last binding.
    beyond: Vec<RecordBatch>,
    /// Bytes of all records that are held.
    held_bytes: usize,
}

/// An epoch, the position that it sealed, and those of its records that were read again.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) epoch: Epoch,
    pub(super) position: Arc<Position>,
    pub(super) batches: Vec<RecordBatch>,
}

impl Resealing {
    /// The bindings in order of epoch.
    pub(super) fn new(bindings: Vec<(Epoch, Arc<Position>)>) -> Self {
        assert!(bindings.is_sorted_by(|a, b| a.0 < b.0), "bindings stand in order of epoch, each once");
        let due = |(epoch, position)| Due { epoch, position, batches: Vec::new() };
        Self { due: bindings.into_iter().map(due).collect(), beyond: Vec::new(), held_bytes: 0 }
    }

    /// Whether nothing is left to seal again.
    pub(super) fn is_done(&self) -> bool {
        self.due.is_empty()
    }

    /// About how many bytes are held: a partition that stays away keeps all others waiting.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// How many epochs are left.
    pub(super) fn left(&self) -> usize {
        self.due.len()
    }

    /// Takes records that were read; each goes to its epoch.
    pub(super) fn take(&mut self, batch: RecordBatch, topics: &Topics) {
        let places: Vec<usize> = batch.coordinates().map(|at| self.place(at, topics)).collect();
        let mut distinct = places.clone();
        distinct.sort_unstable();
        distinct.dedup();
        for place in distinct {
            let part = batch.part(|index| places[index] == place);
            self.held_bytes += part.bytes();
            match self.due.get_mut(place) {
                Some(due) => due.batches.push(part),
                None => self.beyond.push(part),
            }
        }
    }

    /// Which of the due epochs a record belongs to; none of them where it is beyond the last.
    fn place(&self, Coordinates { topic, partition, offset }: Coordinates, topics: &Topics) -> usize {
        let name = topics.name(topic);
        self.due.partition_point(|due| due.position.next_offset(&name, partition).is_none_or(|next| next <= offset))
    }

    /// The next epoch, if everything that it sealed was read again.
    pub(super) fn next_reached(&mut self, read: &Position) -> Option<Due> {
        let due = self.due.pop_front_if(|due| read.reached(&due.position))?;
        let bytes: usize = due.batches.iter().map(RecordBatch::bytes).sum();
        self.held_bytes -= bytes;
        Some(due)
    }

    /// Gives up: what was read, in order, for whatever epoch comes next.
    pub(super) fn into_records(self) -> impl Iterator<Item = RecordBatch> {
        self.due.into_iter().flat_map(|due| due.batches).chain(self.beyond)
    }
}
