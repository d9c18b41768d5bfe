//! Sorted lists of resource ids that can be sought in: the alphabet of pages.
//!
//! Every list answers "the least id at or after this one"; unions and intersections of lists are lists again, so a page
//! of any combination of filters costs about its length times the number of lists, not the size of the state.

use crate::dataflow::{Batch, Cut, IndexKey};
use crate::model::{Epoch, ResourceId};

/// How much work a page may still do, and how far it is known to have come when there is none left.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) steps: usize,
    /// Every id before this one was ruled out or shown.
    pub(super) reached: ResourceId,
}

impl Budget {
    fn step(&mut self) -> Option<()> {
        self.steps = self.steps.checked_sub(1)?;
        Some(())
    }
}

/// A sorted list of ids.
pub(super) enum List<'a> {
    /// All states.
    All(Vec<Keys<'a>>),
    /// The ids under one key of the index.
    Index(Vec<Values<'a>>, Epoch),
    /// Ids at hand, sorted.
    Ids(Vec<ResourceId>),
    /// In any of these.
    AnyOf(Vec<List<'a>>),
    /// In all of these.
    AllOf(Vec<List<'a>>),
}

/// The keys of one batch from `at` on.
pub(super) struct Keys<'a> {
    keys: &'a [ResourceId],
    at: usize,
}

/// The values of one key of one batch from `at` on.
pub(super) struct Values<'a> {
    batch: &'a Batch<IndexKey, ResourceId>,
    key_index: usize,
    values: &'a [ResourceId],
    at: usize,
}

impl<'a> List<'a> {
    /// All ids that have or had a state.
    pub(super) fn all(cuts: &'a [Cut]) -> Self {
        let keys = cuts.iter().flat_map(|cut| &cut.states).map(|batch| Keys { keys: batch.keys(), at: 0 });
        Self::All(keys.collect())
    }

    /// The ids under `key` at `epoch`.
    pub(super) fn index(cuts: &'a [Cut], key: IndexKey, epoch: Epoch) -> Self {
        let lists = cuts.iter().flat_map(|cut| &cut.index).filter_map(|batch| {
            let key_index = batch.keys().binary_search(&key).ok()?;
            Some(Values { batch, key_index, values: batch.values(key_index), at: 0 })
        });
        Self::Index(lists.collect(), epoch)
    }

    /// The least id at or after `from`. Calls come with `from` that never goes back. Each step of work is taken from
    /// `budget`; when that is used up the answer is none as well.
    pub(super) fn seek(&mut self, from: ResourceId, budget: &mut Budget) -> Option<ResourceId> {
        budget.step()?;
        match self {
            Self::All(lists) => lists
                .iter_mut()
                .filter_map(|list| {
                    list.at = gallop(list.keys, list.at, from);
                    list.keys.get(list.at).copied()
                })
                .min(),
            Self::Index(lists, epoch) => seek_index(lists, *epoch, from, budget),
            Self::Ids(ids) => ids.get(ids.partition_point(|id| *id < from)).copied(),
            Self::AnyOf(lists) => lists.iter_mut().filter_map(|list| list.seek(from, budget)).min(),
            Self::AllOf(lists) => {
                let mut candidate = from;
                loop {
                    let before = candidate;
                    budget.reached = budget.reached.max(candidate);
                    for list in lists.iter_mut() {
                        candidate = list.seek(candidate, budget)?;
                    }
                    if candidate == before || lists.len() == 1 {
                        return Some(candidate);
                    }
                }
            }
        }
    }
}

/// The least id at or after `from` whose multiplicities sum to more than zero.
fn seek_index(lists: &mut [Values<'_>], epoch: Epoch, mut from: ResourceId, budget: &mut Budget) -> Option<ResourceId> {
    loop {
        let mut least = None;
        for list in lists.iter_mut() {
            list.at = gallop(list.values, list.at, from);
            least = [least, list.values.get(list.at).copied()].into_iter().flatten().min();
        }
        let id = least?;
        let here = lists.iter().filter(|list| list.values.get(list.at) == Some(&id));
        let count: isize = here.map(|list| list.batch.count(list.key_index, list.at, epoch)).sum();
        if count > 0 {
            return Some(id);
        }
        from = id.successor()?;
        budget.step()?;
    }
}

/// The first place at or after `start` whose id is not less than `from`.
fn gallop(ids: &[ResourceId], start: usize, from: ResourceId) -> usize {
    let mut step = 1;
    let mut low = start;
    while ids.get(low + step).is_some_and(|id| *id < from) {
        low += step;
        step *= 2;
    }
    let high = (low + step + 1).min(ids.len());
    low.min(ids.len()) + ids.get(low..high).unwrap_or(&[]).partition_point(|id| *id < from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> ResourceId {
        ResourceId::from_uuid(uuid::Uuid::from_u64_pair(0, n))
    }

    #[test]
    fn galloping_finds_what_a_scan_finds() {
        for length in 0..40 {
            let ids: Vec<ResourceId> = (0..length).map(|n| id(n * 3)).collect();
            for start in 0..=ids.len() {
                for from in 0..130 {
                    let scan = (start..ids.len()).find(|at| ids[*at] >= id(from)).unwrap_or(ids.len());
                    assert_eq!(gallop(&ids, start, id(from)), scan, "{length} {start} {from}");
                }
            }
        }
    }

    #[test]
    fn unions_and_intersections_are_sets() {
        let list = |of: u64| List::Ids((0..100).filter(|n| n % of == 0).map(id).collect());
        let collect = |mut list: List<'_>| {
            let (mut found, mut from, mut budget) =
                (vec![], Some(ResourceId::MIN), Budget { steps: 100_000, reached: ResourceId::MIN });
            while let Some(next) = from.and_then(|from| list.seek(from, &mut budget)) {
                found.push(next);
                from = next.successor();
            }
            found
        };
        let wanted = |test: &dyn Fn(u64) -> bool| (0..100).filter(|n| test(*n)).map(id).collect::<Vec<_>>();
        let both = List::AllOf(vec![list(6), List::AnyOf(vec![list(4), list(9)])]);
        assert_eq!(collect(both), wanted(&|n| n % 6 == 0 && (n % 4 == 0 || n % 9 == 0)));
        assert_eq!(collect(List::AnyOf(vec![])), vec![]);
    }
}
