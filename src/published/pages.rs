//! Lists of resources by any combination of filters, a page at a time, in order of id.
//!
//! The cursor is the last id looked at, so a page repeats or skips nothing that did not change, on whatever view it is
//! read. A page may be short, or empty, and still have a next one: it ends where its budget does. Each filter is served by
//! an index; what is found is checked against the state itself, because indexes hold hashes.

use std::sync::Arc;

use super::seek::{Budget, List, Sought};
use super::view::ReadView;
use crate::dataflow::{Dimension, HashKeys};
use crate::model::{Field, ResourceId, State};

/// How much one page may hold and cost; one that reaches a limit ends early with a place to go on from.
#[derive(Debug, Clone, Copy)]
pub struct PageLimits {
    /// At most this many resources.
    pub items: usize,
    /// Ids looked at.
    pub steps: usize,
}

impl PageLimits {
    /// The limits of a page of so many items: about 20 ms of looking. How long it gets is for whoever renders it.
    pub fn of_items(items: usize) -> Self {
        Self { items, steps: 200_000 }
    }
}

/// Which resources to list. An empty filter lets everything through; several values mean any of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Values by dimension, in the order of [`Dimension::ALL`].
    pub dimensions: [Vec<String>; Dimension::ALL.len()],
    /// `localResourceId`.
    pub local_resource_ids: Vec<String>,
    /// Orphans instead of resources.
    pub orphaned: bool,
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// The resources, in order of id; an orphan with the id that took its place.
    pub items: Vec<(Arc<State>, Option<ResourceId>)>,
    /// Where the next page begins, after this id; none when this was the last.
    pub next_after: Option<ResourceId>,
}

impl Filter {
    /// Whether it lets a state through, as the orphan or the current one that it is.
    pub(super) fn lets_through(&self, state: &State, orphaned: bool) -> bool {
        let local = state.text(Field::LocalResourceId);
        state.is_live()
            && orphaned == self.orphaned
            && Dimension::ALL.into_iter().zip(&self.dimensions).all(|(by, values)| ReadView::matches(state, by, values))
            && (self.local_resource_ids.is_empty() || self.local_resource_ids.iter().any(|id| Some(&**id) == local))
    }

    fn list<'a>(&self, view: &'a ReadView, keys: HashKeys) -> List<'a> {
        let mut all_of = Vec::new();
        if !self.local_resource_ids.is_empty() {
            let ids = self.local_resource_ids.iter().map(|local| List::Ids(view.holders_of_local_id(keys, local)));
            all_of.push(List::AnyOf(ids.collect()));
        }
        for (by, values) in Dimension::ALL.into_iter().zip(&self.dimensions).filter(|(_, values)| !values.is_empty()) {
            let lists = values.iter().map(|value| List::index(view.cuts(), keys.index_key(by, value), view.epoch()));
            all_of.push(List::AnyOf(lists.collect()));
        }
        if all_of.is_empty() { List::all(view.cuts()) } else { List::AllOf(all_of) }
    }
}

impl ReadView {
    /// The page of at most `limit` resources after the id `after`.
    pub fn page(&self, filter: &Filter, after: Option<ResourceId>, limit: usize, keys: HashKeys) -> Page {
        self.page_within(filter, after, &PageLimits::of_items(limit), keys)
    }

    /// The page after the id `after` within these limits.
    pub fn page_within(&self, filter: &Filter, after: Option<ResourceId>, limits: &PageLimits, keys: HashKeys) -> Page {
        let mut items: Vec<(Arc<State>, Option<ResourceId>)> = Vec::new();
        let mut list = filter.list(self, keys);
        let mut budget = Budget { steps: limits.steps };
        let mut from = after.map_or(Some(ResourceId::MIN), ResourceId::successor);
        while let Some(at) = from {
            let full = items.len() >= limits.items;
            match list.seek(at, &mut budget) {
                Sought::End => break,
                // Everything before `next` was shown or ruled out; whether more follows is seen by whoever asks.
                Sought::NoneBefore(next) => from = Some(next),
                Sought::Found(id) if full => return Page { items, next_after: id.predecessor() },
                Sought::Found(id) => {
                    from = id.successor();
                    let found = self.state(id).map(|state| (state, self.orphaned_by(id)));
                    if let Some((state, orphaned_by)) = found
                        && filter.lets_through(state, orphaned_by.is_some())
                    {
                        items.push((Arc::clone(state), orphaned_by));
                    }
                }
            }
            if budget.steps == 0
                && let Some(next) = from
            {
                return Page { items, next_after: next.predecessor() };
            }
        }
        Page { items, next_after: None }
    }
}
