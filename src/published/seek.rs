//! Sorted lists of resource ids that can be sought in: the alphabet of pages.
//!
//! Every list answers "the least id at or after this one"; unions and intersections of lists are lists again, so a page
//! of any combination of filters costs about its length times the number of lists, not the size of the state.

use crate::dataflow::{Batch, Cut, IndexKey};
use crate::model::{Epoch, ResourceId};

/// How much work a page may still do, in ids looked at. It says when to stop asking; no answer depends on it.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) steps: usize,
}

impl Budget {
    fn spend(&mut self) {
        self.steps = self.steps.saturating_sub(1);
    }
}

/// What seeking found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sought {
    /// The least id at or after the one that was asked for.
    Found(ResourceId),
    /// There is none before this one, which lies after the one that was asked for; ask again from here.
    NoneBefore(ResourceId),
    /// There is none.
    End,
}

/// So many retracted ids are passed over in one go.
const RETRACTED_MAX: usize = 256;

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

    /// The least id at or after `from`. Calls come with `from` that never goes back, and every answer gets further, so
    /// whoever goes on asking comes to the end.
    pub(super) fn seek(&mut self, from: ResourceId, budget: &mut Budget) -> Sought {
        budget.spend();
        match self {
            Self::All(lists) => {
                let least = lists.iter_mut().filter_map(|list| {
                    list.at = gallop(list.keys, list.at, from);
                    list.keys.get(list.at).copied()
                });
                least.min().map_or(Sought::End, Sought::Found)
            }
            Self::Index(lists, epoch) => seek_index(lists, *epoch, from, budget),
            Self::Ids(ids) => ids.get(ids.partition_point(|id| *id < from)).copied().map_or(Sought::End, Sought::Found),
            Self::AnyOf(lists) => any_of(lists.iter_mut().map(|list| list.seek(from, budget))),
            Self::AllOf(lists) => seek_all(lists, from, budget),
        }
    }
}

/// The least id in any of the lists that were sought in: found only if no other list may have a lesser one.
fn any_of(answers: impl Iterator<Item = Sought>) -> Sought {
    let (mut found, mut none_before) = (None::<ResourceId>, None::<ResourceId>);
    let least = |known: Option<ResourceId>, id: ResourceId| Some(known.map_or(id, |known| known.min(id)));
    for answer in answers {
        match answer {
            Sought::Found(id) => found = least(found, id),
            Sought::NoneBefore(id) => none_before = least(none_before, id),
            Sought::End => {}
        }
    }
    match (found, none_before) {
        (Some(found), Some(other)) if other < found => Sought::NoneBefore(other),
        (Some(found), _) => Sought::Found(found),
        (None, Some(other)) => Sought::NoneBefore(other),
        (None, None) => Sought::End,
    }
}

/// The least id that is in all lists: each in turn says where the next may look.
fn seek_all(lists: &mut [List<'_>], from: ResourceId, budget: &mut Budget) -> Sought {
    let mut candidate = from;
    loop {
        let before = candidate;
        for list in lists.iter_mut() {
            match list.seek(candidate, budget) {
                Sought::Found(id) => candidate = id,
                other => return other,
            }
        }
        if candidate == before || lists.len() == 1 {
            return Sought::Found(candidate);
        }
        if budget.steps == 0 {
            return Sought::NoneBefore(candidate);
        }
    }
}

/// The least id at or after `from` whose multiplicities sum to more than zero.
fn seek_index(lists: &mut [Values<'_>], epoch: Epoch, mut from: ResourceId, budget: &mut Budget) -> Sought {
    for _ in 0..RETRACTED_MAX {
        let mut least = None;
        for list in lists.iter_mut() {
            list.at = gallop(list.values, list.at, from);
            least = [least, list.values.get(list.at).copied()].into_iter().flatten().min();
        }
        let Some(id) = least else { return Sought::End };
        let here = lists.iter().filter(|list| list.values.get(list.at) == Some(&id));
        let count: isize = here.map(|list| list.batch.count(list.key_index, list.at, epoch)).sum();
        if count > 0 {
            return Sought::Found(id);
        }
        let Some(next) = id.successor() else { return Sought::End };
        from = next;
        budget.spend();
    }
    Sought::NoneBefore(from)
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
    fn a_union_finds_nothing_that_another_list_may_precede() {
        use Sought::{End, Found, NoneBefore};
        let any = |answers: &[Sought]| any_of(answers.iter().copied());
        assert_eq!(any(&[Found(id(5)), NoneBefore(id(3)), End]), NoneBefore(id(3)));
        assert_eq!(any(&[Found(id(3)), NoneBefore(id(3))]), Found(id(3)));
        assert_eq!(any(&[NoneBefore(id(9)), NoneBefore(id(8)), End]), NoneBefore(id(8)));
        assert_eq!(any(&[End, End]), End);
    }

    #[test]
    fn unions_and_intersections_are_sets() {
        let list = |of: u64| List::Ids((0..100).filter(|n| n % of == 0).map(id).collect());
        let collect = |mut list: List<'_>, steps: usize| {
            let (mut found, mut from) = (vec![], Some(ResourceId::MIN));
            while let Some(at) = from {
                // A new budget for every question, as if each were a page of its own.
                from = match list.seek(at, &mut Budget { steps }) {
                    Sought::Found(id) => {
                        found.push(id);
                        id.successor()
                    }
                    Sought::NoneBefore(id) => Some(id).filter(|id| *id > at),
                    Sought::End => None,
                };
            }
            found
        };
        let wanted = |test: &dyn Fn(u64) -> bool| (0..100).filter(|n| test(*n)).map(id).collect::<Vec<_>>();
        for steps in [0, 1, 2, 3, 7, 100_000] {
            let both = List::AllOf(vec![list(6), List::AnyOf(vec![list(4), list(9)])]);
            assert_eq!(collect(both, steps), wanted(&|n| n % 6 == 0 && (n % 4 == 0 || n % 9 == 0)), "{steps}");
            assert_eq!(collect(List::AnyOf(vec![]), steps), vec![]);
        }
    }
}
