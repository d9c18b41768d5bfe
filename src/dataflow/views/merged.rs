//! Reading the batches of an arrangement from the first key to the last, a slice at a time, as of one epoch.

use crate::dataflow::shared_batch::{Batch, Diff, Row};
use crate::model::Epoch;

/// A walk over the keys of some batches, all at once, in order.
pub(in crate::dataflow) struct Merged<K: Row, V: Row> {
    batches: Vec<(Batch<K, V>, usize)>,
    epoch: Epoch,
}

impl<K: Row, V: Row> Merged<K, V> {
    /// A walk over what is there at `epoch`.
    pub(in crate::dataflow) fn new(batches: Vec<Batch<K, V>>, epoch: Epoch) -> Self {
        Self { batches: batches.into_iter().map(|batch| (batch, 0)).collect(), epoch }
    }

    /// About how many updates it walks over.
    pub(in crate::dataflow) fn updates(&self) -> usize {
        self.batches.iter().map(|(batch, _)| batch.updates()).sum()
    }

    /// The next `count` keys with every value that is there, as often as it is; whether there are more.
    pub(in crate::dataflow) fn next(&mut self, count: usize, mut each: impl FnMut(&K, &V, Diff)) -> bool {
        let mut values: Vec<(V, Diff)> = Vec::new();
        for _ in 0..count {
            let heads = self.batches.iter().filter_map(|(batch, next)| batch.keys().get(*next));
            let Some(key) = heads.min().cloned() else { return false };
            values.clear();
            for (batch, next) in &mut self.batches {
                if batch.keys().get(*next) != Some(&key) {
                    continue;
                }
                let counted = batch.counted(*next, self.epoch);
                add_up(&mut values, counted.map(|(value, count)| (value.clone(), count)));
                *next += 1;
            }
            for (value, count) in &values {
                if *count != 0 {
                    each(&key, value, *count);
                }
            }
        }
        true
    }

    /// The greatest value that a key has. Keys are asked for in order.
    pub(in crate::dataflow) fn greatest_of(&mut self, key: &K) -> Option<V> {
        let mut values = Vec::new();
        for (batch, next) in &mut self.batches {
            let keys = batch.keys();
            while keys.get(*next).is_some_and(|passed| passed < key) {
                *next += 1;
            }
            if keys.get(*next) == Some(key) {
                add_up(&mut values, batch.counted(*next, self.epoch));
            }
        }
        greatest(values).cloned()
    }
}

/// Adds counts of values to those that are known.
pub(super) fn add_up<V: PartialEq>(values: &mut Vec<(V, Diff)>, counted: impl Iterator<Item = (V, Diff)>) {
    for (value, count) in counted {
        match values.iter_mut().find(|(known, _)| *known == value) {
            Some((_, sum)) => *sum += count,
            None => values.push((value, count)),
        }
    }
}

/// The greatest value that is there.
pub(super) fn greatest<V: Ord>(values: Vec<(V, Diff)>) -> Option<V> {
    values.into_iter().filter(|(_, count)| *count > 0).map(|(value, _)| value).max()
}
