//! Where a record stands in its log, and how far a log has been read.
//!
//! A position is the next offset of every (topic, partition); an epoch is Tarn's only timestamp, milliseconds since
//! 1970, strictly increasing, minted at ingest. Topic names are interned, because a process sees few of them.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970; the dataflow's only timestamp.
pub type Epoch = u64;

/// An interned topic name, valid in the process that interned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicId(u16);

impl TopicId {
    /// The topic at a place of the table.
    pub(crate) fn at(index: u16) -> Self {
        Self(index)
    }

    /// Its place in the table.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Where a record stands: topic, partition, offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Coordinates {
    /// The topic.
    pub topic: TopicId,
    /// The partition, 0 or greater.
    pub partition: i32,
    /// The offset, 0 or greater. For a line that could not be read as a record: its line number.
    pub offset: i64,
}

/// The table of topic names of this process; append only, cloned freely.
#[derive(Debug, Clone, Default)]
pub struct Topics(Arc<RwLock<Vec<Arc<str>>>>);

impl Topics {
    /// The topic under which lines of a log stand that name none; no record can come from it.
    pub const LINES: &'static str = "(lines)";
    /// The topic of records that are read again out of the quarantine.
    pub const RESUBMITTED: &'static str = "(resubmitted)";

    /// Whether a name is one of ours, which no cluster has: Kafka's have no parentheses.
    pub fn is_own(name: &str) -> bool {
        name == Self::LINES || name == Self::RESUBMITTED
    }

    /// The id of `name`, made on first use; none when 65,536 names are taken.
    pub fn intern(&self, name: &str) -> Option<TopicId> {
        let find = |names: &Vec<Arc<str>>| names.iter().position(|known| &**known == name);
        if let Some(index) = find(&self.0.read().expect("no holder of the topic table panics")) {
            return u16::try_from(index).ok().map(TopicId);
        }
        let mut names = self.0.write().expect("no holder of the topic table panics");
        let index = find(&names).unwrap_or_else(|| {
            names.push(name.into());
            names.len() - 1
        });
        let id = u16::try_from(index).ok().map(TopicId);
        if id.is_none() {
            names.pop();
        }
        id
    }

    /// All names, in the order of their ids.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.0.read().expect("no holder of the topic table panics").clone()
    }

    /// The name of an interned topic.
    pub fn name(&self, id: TopicId) -> Arc<str> {
        let names = self.0.read().expect("no holder of the topic table panics");
        names.get(id.index()).cloned().unwrap_or_else(|| "".into())
    }
}

/// The next offset to read of every (topic, partition).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    next: BTreeMap<(Arc<str>, i32), i64>,
}

impl Position {
    /// The next offset of a partition, none when nothing of it was seen.
    pub fn next_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        // A range avoids allocating an `Arc<str>` for the look-up.
        self.iter().find(|(t, p, _)| *t == topic && *p == partition).map(|(_, _, offset)| offset)
    }

    /// Moves a partition forward to `next`; never backward.
    pub fn advance(&mut self, topic: &Arc<str>, partition: i32, next: i64) {
        let slot = self.next.entry((Arc::clone(topic), partition)).or_insert(next);
        *slot = (*slot).max(next);
    }

    /// Every partition with its next offset, in order of topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32, i64)> {
        self.next.iter().map(|((topic, partition), next)| (&**topic, *partition, *next))
    }

    /// Whether every partition of `target` has been read at least as far as it says.
    pub fn reached(&self, target: &Position) -> bool {
        target.iter().all(|(topic, partition, wanted)| {
            wanted <= 0 || self.next_offset(topic, partition).is_some_and(|next| next >= wanted)
        })
    }

    /// How many partitions it names.
    pub fn len(&self) -> usize {
        self.next.len()
    }

    /// Whether it names no partition.
    pub fn is_empty(&self) -> bool {
        self.next.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_only_moves_forward_and_knows_when_a_target_is_reached() {
        let topic: Arc<str> = "t".into();
        let mut position = Position::default();
        let mut target = Position::default();
        target.advance(&topic, 0, 5);
        target.advance(&topic, 1, 0);
        assert!(!position.reached(&target));
        position.advance(&topic, 0, 5);
        assert!(position.reached(&target), "an empty partition needs nothing read");
        position.advance(&topic, 0, 3);
        assert_eq!(position.next_offset("t", 0), Some(5));
        assert_eq!(position.next_offset("u", 0), None);
    }

    #[test]
    fn topics_are_interned_once() {
        let topics = Topics::default();
        let a = topics.intern("a").expect("room");
        assert_eq!(topics.intern("a"), Some(a));
        let b = topics.intern("b").expect("room");
        assert_ne!(a, b);
        assert_eq!((&*topics.name(a), &*topics.name(b)), ("a", "b"));
    }
}
