//! Lists of resources by any combination of filters, a page at a time, in order of id.
//!
//! The cursor is the last id looked at, so a page repeats or skips nothing that did not change, on whatever view it is
//! read. Each filter is served by an index; what is found is checked against the state itself, because indexes hold
//! hashes.

use std::sync::Arc;

use super::seek::{Budget, List};
use super::view::ReadView;
use crate::dataflow::{Dimension, HashKeys};
use crate::model::{Field, ResourceId, State};

/// Steps that one page may take; a page that needs more ends early with a token to go on. About 20 ms.
const STEPS_MAX: usize = 200_000;

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
    fn lets_through(&self, state: &State, orphaned: bool) -> bool {
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
        let mut items = Vec::new();
        let mut list = filter.list(self, keys);
        let mut budget = Budget { steps: STEPS_MAX, reached: ResourceId::MIN };
        let mut last = after;
        loop {
            let from = match last {
                None => Some(ResourceId::MIN),
                Some(last) => last.successor(),
            };
            let Some(from) = from else { return Page { items, next_after: None } };
            budget.reached = budget.reached.max(from);
            let Some(id) = list.seek(from, &mut budget) else {
                // Either the list is at its end, or the page has worked long enough: then the next goes on from here.
                let reached = budget.reached.predecessor();
                return Page { items, next_after: if budget.steps == 0 { reached } else { None } };
            };
            if items.len() == limit {
                return Page { items, next_after: last };
            }
            last = Some(id);
            if let Some(state) = self.state(id) {
                let orphaned_by = self.orphaned_by(id);
                if filter.lets_through(state, orphaned_by.is_some()) {
                    items.push((Arc::clone(state), orphaned_by));
                }
            }
        }
    }
}
