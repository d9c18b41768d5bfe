//! The rows of a view at one epoch, in order, from any row on.

use crate::dataflow::{Batch, ViewCut, ViewId};
use crate::model::Epoch;
use crate::sql::{Failure, Row};

use super::view::ReadView;

/// A walk over what some batches hold, all at once, in order.
#[derive(Debug)]
pub struct Ordered<'a, K: crate::dataflow::Row> {
    heads: Vec<(&'a Batch<K, ()>, usize)>,
    epoch: Epoch,
}

impl<'a, K: crate::dataflow::Row> Ordered<'a, K> {
    fn new(batches: impl Iterator<Item = &'a Batch<K, ()>>, epoch: Epoch, is_before: impl Fn(&K) -> bool) -> Self {
        let heads = batches.map(|batch| (batch, batch.keys().partition_point(&is_before))).collect();
        Self { heads, epoch }
    }
}

impl<'a, K: crate::dataflow::Row> Iterator for Ordered<'a, K> {
    type Item = (&'a K, usize);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let heads = self.heads.iter().filter_map(|(batch, next)| batch.keys().get(*next));
            let key = heads.min()?;
            let mut sum = 0;
            for (batch, next) in &mut self.heads {
                if batch.keys().get(*next) == Some(key) {
                    sum += batch.counted(*next, self.epoch).map(|(_, count)| count).sum::<isize>();
                    *next += 1;
                }
            }
            assert!(sum >= 0, "a row is there or it is not");
            if sum > 0 {
                return Some((key, sum.unsigned_abs()));
            }
        }
    }
}

impl ReadView {
    /// All workers' shares of a view.
    pub(super) fn shares(&self, id: ViewId) -> impl Iterator<Item = &ViewCut> {
        self.cuts().iter().flat_map(move |cut| cut.views.iter().filter(move |view| view.id == id))
    }

    /// The rows of a view from the bytes `start` on, each once with how often it is there.
    pub fn rows_from(&self, id: ViewId, start: &[u8]) -> Ordered<'_, Row> {
        let batches = self.shares(id).flat_map(|share| &share.rows);
        Ordered::new(batches, self.epoch(), |row| row.bytes() < start)
    }

    /// The rows that a view could not evaluate, each once with how often it is there.
    pub fn failures(&self, id: ViewId) -> Ordered<'_, Failure> {
        self.failures_from(id, |_| false)
    }

    /// The same without the first of them, those for which `is_before` holds.
    pub(super) fn failures_from(&self, id: ViewId, is_before: impl Fn(&Failure) -> bool) -> Ordered<'_, Failure> {
        Ordered::new(self.shares(id).flat_map(|share| &share.failures), self.epoch(), is_before)
    }

    /// Whether a view has rows that could not be evaluated.
    pub fn has_failures(&self, id: ViewId) -> bool {
        self.failures(id).next().is_some()
    }

    /// How many rows a view has. Looks at all updates that are held, but compares none: some milliseconds a million.
    pub fn count_rows(&self, id: ViewId) -> usize {
        let total: isize = self.shares(id).flat_map(|share| &share.rows).map(|batch| batch.total(self.epoch())).sum();
        usize::try_from(total).expect("a row is there or it is not")
    }

    /// How many rows a view could not evaluate.
    pub fn count_failures(&self, id: ViewId) -> usize {
        let batches = self.shares(id).flat_map(|share| &share.failures);
        usize::try_from(batches.map(|batch| batch.total(self.epoch())).sum::<isize>())
            .expect("a failure is there or it is not")
    }

    /// About how many rows a view has: outdated ones that are not merged away count too. Costs nothing.
    pub fn updates_held(&self, id: ViewId) -> usize {
        self.shares(id).flat_map(|share| &share.rows).map(Batch::updates).sum()
    }
}
