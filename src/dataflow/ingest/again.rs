//! What the ingest reads again: epochs that were sealed before a crash, records of the quarantine, partitions that have
//! gone back.
//!
//! Epochs are sealed again with exactly what they held, or given up, told, and begun anew under another incarnation.
//! While they are, a record of the quarantine goes to its epoch as all others do. One that the state has not met (it is
//! made anew from the log) waits until its place was read, or all of the log was.

use super::{Ingest, Open};
use crate::dataflow::resealing::Resealing;
use crate::model::{Coordinates, Position};
use crate::source::{RecordBatch, Rewound};

/// Why epochs cannot be sealed again, mostly.
pub(super) const NO_LONGER_THERE: &str = "the log no longer has all that was read before";

impl Ingest {
    /// Reads what was submitted again.
    pub(super) fn take_resubmitted(&mut self, open: &mut Open) {
        let (position, topics) = (&self.position, &self.topics);
        let is_caught_up = || {
            self.places_may_be_gone
                || self.status.look(|state| state.end_at_start.as_ref().is_some_and(|end| position.reached(end)))
        };
        let is_read = |Coordinates { topic, partition, offset }| {
            position.next_offset(&topics.name(topic), partition).is_some_and(|next| next > offset) || is_caught_up()
        };
        let Some(batch) = self.resubmitted.take(topics, is_read) else { return };
        if self.resealing.is_done() {
            self.take(batch, open);
        } else {
            self.take_for_resealing(batch, open);
        }
    }

    /// Puts back what was taken out of the quarantine and belongs to no epoch that was sealed.
    pub(super) fn give_back_resubmitted(&mut self) {
        let records: Vec<RecordBatch> = std::mem::take(&mut self.resealing).into_records().collect();
        for batch in records.into_iter().rev().filter(RecordBatch::is_resubmitted) {
            self.resubmitted.give_back(batch);
        }
    }

    /// Takes records while epochs are to be sealed again.
    pub(super) fn take_for_resealing(&mut self, batch: RecordBatch, open: &mut Open) {
        let batch = self.accept(batch, self.last_epoch);
        self.resealing.take(batch, &self.topics);
        self.reseal(open);
        if self.resealing.held_bytes() > self.config.resealing_bytes_max {
            self.forsake(open, false, "a partition stays away, and memory for the others is over");
        }
    }

    /// Seals again what was sealed before and has been read again. After the last such epoch new ones may come.
    pub(super) fn reseal(&mut self, open: &mut Open) {
        while let Some(due) = self.resealing.next_reached(&self.position) {
            assert!(due.epoch > self.last_epoch, "epochs strictly increase");
            self.engine.begin(due.epoch);
            let bytes = due.batches.iter().map(RecordBatch::bytes).sum();
            for batch in due.batches.into_iter().filter(|batch| !batch.is_empty()) {
                self.engine.records(batch);
            }
            self.last_binding = due.position;
            self.close(due.epoch, None, bytes);
            if self.resealing.is_done() {
                self.end_resealing(open);
            }
            self.wait_for_room();
        }
    }

    /// Gives up sealing epochs as they were.
    pub(super) fn forsake(&mut self, open: &mut Open, stopping: bool, why: &str) {
        if self.resealing.is_done() {
            return;
        }
        if stopping {
            // They are in the journal still, and will be sealed at the next start.
            self.resealing = Resealing::default();
            return;
        }
        let epochs = self.resealing.left();
        tracing::error!(epochs, why, "epochs that were shown are not made again");
        self.binding_log.forsake();
        self.config.incarnation = rand::random();
        self.end_resealing(open);
    }

    /// Goes on with new epochs, the records that were read already first.
    fn end_resealing(&mut self, open: &mut Open) {
        self.last_epoch = self.last_epoch.max(self.config.last_epoch);
        for batch in std::mem::take(&mut self.resealing).into_records() {
            self.add(batch, open);
        }
    }

    /// Goes back in a partition: what comes is read, although it stands below what was read before.
    pub(super) fn rewind(&mut self, rewound: &Rewound, open: &mut Open) {
        // One epoch holds records of one life of a partition alone, so that their offsets order them.
        if open.began.is_some() {
            self.seal(open);
        }
        self.places_may_be_gone = true;
        self.config.incarnation = rand::random();
        self.position = set(&self.position, rewound);
        self.config.resume = set(&self.config.resume, rewound);
    }
}

/// The position with one partition moved, be it backward.
fn set(position: &Position, moved: &Rewound) -> Position {
    let mut moved_position = Position::default();
    for (topic, partition, next) in position.iter() {
        if (topic, partition) != (&*moved.topic, moved.partition) {
            moved_position.advance(&topic.into(), partition, next);
        }
    }
    moved_position.advance(&moved.topic, moved.partition, moved.to);
    moved_position
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewind_moves_one_partition_and_no_other() {
        let mut before = Position::default();
        for (topic, partition, next) in [("t", 0, 9), ("t", 1, 9), ("u", 0, 9)] {
            before.advance(&topic.into(), partition, next);
        }
        let after = set(&before, &Rewound { topic: "t".into(), partition: 1, to: 2 });
        let expected = [("t", 0, 9), ("t", 1, 2), ("u", 0, 9)];
        assert!(after.iter().eq(expected));
    }
}
