//! A read view as ad-hoc SQL reads it: slices of states, rejects and rows of views.

use std::sync::Arc;

use super::view::{ReadView, values};
use crate::model::{QuarantineEntry, ResourceId, State};
use crate::sql::{Instant, Row};

impl Instant for ReadView {
    fn parts(&self) -> usize {
        self.cuts().len()
    }

    fn resources(&self, part: usize, after: Option<ResourceId>, count: usize) -> Vec<(Arc<State>, Option<ResourceId>)> {
        let Some(cut) = self.cuts().get(part) else { return Vec::new() };
        let is_before = |id: &ResourceId| after.is_some_and(|after| *id <= after);
        let mut heads: Vec<_> =
            cut.states.iter().map(|batch| (batch, batch.keys().partition_point(is_before))).collect();
        let mut resources = Vec::new();
        while resources.len() < count {
            let ids = heads.iter().filter_map(|(batch, next)| batch.keys().get(*next));
            let Some(id) = ids.min().copied() else { break };
            for (batch, next) in &mut heads {
                *next += usize::from(batch.keys().get(*next) == Some(&id));
            }
            let state = values(&cut.states, &id, self.epoch()).next().map(Arc::clone);
            resources.extend(state.map(|state| (state, values(&cut.orphans, &id, self.epoch()).max().copied())));
        }
        resources
    }

    fn rejects(&self) -> Vec<Arc<QuarantineEntry>> {
        self.quarantine()
    }

    fn rows(&self, view: &str, after: Option<&Row>, count: usize) -> Vec<(Row, usize)> {
        let Some(view) = self.catalog().view(view) else { return Vec::new() };
        let start = after.map_or(&[][..], Row::bytes);
        let rows = self.rows_from(view.id, start).filter(|(row, _)| Some(*row) != after);
        rows.take(count).map(|(row, count)| (row.clone(), count)).collect()
    }
}
