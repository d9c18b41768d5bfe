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
                for (value, count) in batch.counted(*next, self.epoch) {
                    match values.iter_mut().find(|(known, _)| known == value) {
                        Some((_, sum)) => *sum += count,
                        None => values.push((value.clone(), count)),
                    }
                }
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
}
