//! After-images by a key of a view's rows, and whether the key tells them apart.
//!
//! A key that two rows have at once has no after-image, so it is counted how often each is there: a wrong value is never
//! told. Keys are counted by a hash of 64 bits; that two of a million share one happens once in thirty million times, and
//! then the key is refused.

use std::hash::Hasher;

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;

use crate::dataflow::Diff;
use crate::sql::{KeyColumns, Row};

/// Several rows have one key at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("several rows have the same key")]
pub struct NotAKey;

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AfterImage {
    /// A row with the key: the one that is there now, or one that was.
    pub row: Row,
    /// Whether it is there.
    pub is_there: bool,
}

/// How often each key is there.
#[derive(Debug, Default, Clone)]
pub struct KeyCounts(HashMap<u64, Diff>);

/// What became of each key of rows that changed, in order of the keys.
pub fn after_images(columns: &KeyColumns, changed: &[(Row, Diff)]) -> Result<Vec<AfterImage>, NotAKey> {
    let rows: Vec<&Row> = changed.iter().map(|(row, _)| row).collect();
    let mut keyed: Vec<(Row, &(Row, Diff))> = columns.keys(&rows).into_iter().zip(changed).collect();
    // What came stands behind what left.
    keyed.sort_by(|one, other| (&one.0, one.1.1, &one.1.0).cmp(&(&other.0, other.1.1, &other.1.0)));
    let mut images = Vec::new();
    for same in keyed.chunk_by(|one, other| one.0 == other.0) {
        let came = same.iter().filter(|(_, (_, diff))| *diff > 0).map(|(_, (_, diff))| diff).sum::<Diff>();
        let left = same.iter().filter(|(_, (_, diff))| *diff < 0).map(|(_, (_, diff))| diff).sum::<Diff>();
        if came > 1 || left < -1 {
            return Err(NotAKey);
        }
        let (row, diff) = same[same.len() - 1].1;
        images.push(AfterImage { row: row.clone(), is_there: *diff > 0 });
    }
    Ok(images)
}

impl KeyCounts {
    /// Counts the keys of these rows, as often as they are there.
    pub fn add(&mut self, columns: &KeyColumns, rows: &[(&Row, Diff)]) {
        let each: Vec<&Row> = rows.iter().map(|(row, _)| *row).collect();
        for (key, (_, diff)) in columns.keys(&each).iter().zip(rows) {
            let hash = hash_of(key);
            let count = self.0.entry(hash).or_default();
            *count += diff;
            if *count == 0 {
                self.0.remove(&hash);
            }
        }
    }

    /// The same for rows that changed, whose keys were told apart before and must be afterwards.
    pub fn apply(&mut self, columns: &KeyColumns, changed: &[(Row, Diff)]) -> Result<(), NotAKey> {
        let rows: Vec<(&Row, Diff)> = changed.iter().map(|(row, diff)| (row, *diff)).collect();
        self.add(columns, &rows);
        let each: Vec<&Row> = rows.iter().map(|(row, _)| *row).collect();
        let is_one = |key: &Row| self.0.get(&hash_of(key)).is_none_or(|count| *count == 1);
        if columns.keys(&each).iter().all(is_one) { Ok(()) } else { Err(NotAKey) }
    }

    /// Those of the keys of these rows alone.
    pub fn of(&self, columns: &KeyColumns, changed: &[(Row, Diff)]) -> Self {
        let each: Vec<&Row> = changed.iter().map(|(row, _)| row).collect();
        let hashes = columns.keys(&each).into_iter().map(|key| hash_of(&key));
        Self(hashes.filter_map(|hash| Some((hash, *self.0.get(&hash)?))).collect())
    }

    /// The same before these rows changed.
    pub fn before(mut self, columns: &KeyColumns, changed: &[(Row, Diff)]) -> Self {
        let undone: Vec<(&Row, Diff)> = changed.iter().map(|(row, diff)| (row, -diff)).collect();
        self.add(columns, &undone);
        self
    }

    /// Whether no key is there more than once.
    pub fn are_distinct(&self) -> bool {
        self.0.values().all(|count| *count == 1)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn hash_of(key: &Row) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(key.bytes());
    hasher.finish()
}
