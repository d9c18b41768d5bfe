//! How each view is, in a word, for all who tell it: lists, status, metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Service;
use super::views::ViewHealth;
use crate::dataflow::ViewId;
use crate::published::{CatalogView, ReadView};

/// How a view is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It is up to date.
    Healthy,
    /// It is up to date, but for rows that could not be evaluated, here or in a view that it reads.
    Degraded,
    /// It is up to date, but its file has a text that is refused: what is shown is of the last one that was not. Where rows
    /// could not be evaluated as well, its problem says both.
    Outdated,
    /// It is being made, and cannot be read yet.
    Hydrating,
    /// It is too far behind, and cannot be read until it has caught up.
    Detached,
    /// It cannot be computed from what there is, or was too far behind for too long; or a view that it reads. So it cannot
    /// be read.
    Suspended,
    /// Its text is refused.
    Refused,
}

impl Health {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Healthy,
        Self::Degraded,
        Self::Outdated,
        Self::Hydrating,
        Self::Detached,
        Self::Suspended,
        Self::Refused,
    ];

    /// Its name over HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Outdated => "outdated",
            Self::Hydrating => "hydrating",
            Self::Detached => "detached",
            Self::Suspended => "suspended",
            Self::Refused => "refused",
        }
    }

    /// Whether it can be read.
    pub fn is_readable(self) -> bool {
        matches!(self, Self::Healthy | Self::Degraded | Self::Outdated)
    }
}

/// A view, and how it is.
#[derive(Debug, Clone)]
pub struct ViewCondition {
    /// Its name.
    pub name: Arc<str>,
    /// What is shown of it; none where there is nothing yet.
    pub shown: Option<Arc<CatalogView>>,
    /// How it is.
    pub health: Health,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// What a view has, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewNumbers {
    /// Its rows; none while it cannot be read.
    pub rows: Option<usize>,
    /// Rows that could not be evaluated; none while it is not there.
    pub errors: Option<usize>,
    /// What its operators hold, without what they share.
    pub bytes: u64,
    /// For how long it lacks what was sealed, ms, whether it is behind what is shown or all of that is behind what was read;
    /// none while it is not there.
    pub lag_ms: Option<u64>,
}

impl ViewCondition {
    /// What it has at the instant, which is `behind` what was read.
    pub fn numbers(&self, view: &ReadView, behind: Duration) -> ViewNumbers {
        let behind_ms = u64::try_from(behind.as_millis()).unwrap_or(u64::MAX);
        let shown = self.shown.as_ref().map(|shown| shown.id);
        let readable = shown.filter(|_| self.health.is_readable());
        let progress = shown.and_then(|id| view.view_progress(id));
        ViewNumbers {
            rows: readable.map(|id| view.count_rows(id)),
            errors: readable.map(|id| view.count_failures(id)),
            bytes: shown.map_or(0, |id| view.view_cost(id).own_total().bytes),
            lag_ms: progress
                .map(|(_, upper)| view.epoch().saturating_sub(upper.saturating_sub(1)).saturating_add(behind_ms)),
        }
    }
}

impl Service {
    /// How every view of the folder is at an instant, in order of name.
    pub fn view_conditions(&self, view: &ReadView) -> Vec<ViewCondition> {
        let statuses = self.views.statuses();
        let mut troubles = Troubles::default();
        statuses.iter().map(|status| condition(view, &mut troubles, &status.name, &status.health)).collect()
    }

    /// How every view is that is shown at an instant.
    pub fn shown_conditions(&self, view: &ReadView) -> Vec<ViewCondition> {
        let mut troubles = Troubles::default();
        let statuses = self.views.statuses();
        let wanted: BTreeMap<&str, &ViewHealth> =
            statuses.iter().map(|status| (&*status.name, &status.health)).collect();
        // What was removed is there until the instant at which it is not.
        let told = |shown: &Arc<CatalogView>| {
            let name = &shown.plan.name;
            condition(view, &mut troubles, name, wanted.get(&**name).copied().unwrap_or(&ViewHealth::Wanted))
        };
        view.catalog().views().map(told).collect()
    }

    /// How a view is at an instant; none where there is none of this name, or was none until now.
    pub fn view_condition(&self, view: &ReadView, name: &str) -> Option<ViewCondition> {
        let statuses = self.views.statuses();
        let status = statuses.iter().find(|status| &*status.name == name);
        // What was removed is there until the instant at which it is not.
        let told = |name: &Arc<str>, wanted: &ViewHealth| condition(view, &mut Troubles::default(), name, wanted);
        let still = || view.catalog().view(name).map(|shown| told(&shown.plan.name, &ViewHealth::Wanted));
        status.map(|status| told(&status.name, &status.health)).or_else(still)
    }
}

/// Why a view is computed no more, and what can be done.
const GIVEN_UP: &str = "was behind for more than a minute and is computed no more, so that it does not take all memory; \
                        POST /api/tarn/v1/views/reload makes it anew";

fn condition(view: &ReadView, troubles: &mut Troubles, name: &Arc<str>, wanted: &ViewHealth) -> ViewCondition {
    let shown = view.catalog().view(name).cloned();
    let (health, problem) = match (&shown, wanted) {
        (None, ViewHealth::Refused(why)) => (Health::Refused, Some(why.clone())),
        (None, ViewHealth::Wanted) if view.was_never_shown(name) => {
            let problem = format!("a view that it reads {GIVEN_UP}");
            (Health::Suspended, Some(problem))
        }
        (None, ViewHealth::Wanted) => (Health::Hydrating, None),
        (Some(shown), wanted) => of_shown(view, troubles, shown, wanted),
    };
    ViewCondition { name: Arc::clone(name), shown, health, problem }
}

fn of_shown(
    view: &ReadView,
    troubles: &mut Troubles,
    shown: &CatalogView,
    wanted: &ViewHealth,
) -> (Health, Option<String>) {
    troubles.look(view, shown);
    if view.is_detached(shown.id) {
        let problem = "it is too far behind, and is not shown until it has caught up";
        return (Health::Detached, Some(problem.to_owned()));
    }
    if let Some(problem) = troubles.suspension(shown) {
        return (Health::Suspended, Some(problem));
    }
    let problem = troubles.is_degraded(shown).then_some("rows could not be evaluated, here or in a view that it reads");
    match (wanted, problem) {
        (ViewHealth::Refused(why), None) => (Health::Outdated, Some(why.clone())),
        (ViewHealth::Refused(why), Some(problem)) => (Health::Outdated, Some(format!("{why}; and {problem}"))),
        (ViewHealth::Wanted, Some(problem)) => (Health::Degraded, Some(problem.to_owned())),
        (ViewHealth::Wanted, None) => (Health::Healthy, None),
    }
}

/// What is wrong with views, by what they read: each is looked at once, however many ways lead to it.
#[derive(Debug, Default)]
struct Troubles {
    /// Why none of a view's rows may be shown, if so.
    suspended: BTreeMap<ViewId, Option<String>>,
    /// Whether rows are missing, in a view or in one that it reads.
    degraded: BTreeMap<ViewId, bool>,
}

impl Troubles {
    fn suspension(&self, shown: &CatalogView) -> Option<String> {
        self.suspended.get(&shown.id).cloned().flatten()
    }

    fn is_degraded(&self, shown: &CatalogView) -> bool {
        self.degraded.get(&shown.id).copied().unwrap_or_default()
    }

    /// Looks at a view, after those that it reads.
    fn look(&mut self, view: &ReadView, shown: &CatalogView) {
        if self.degraded.contains_key(&shown.id) {
            return;
        }
        let reads: Vec<_> = shown.plan.reads.iter().filter_map(|name| view.catalog().view(name)).collect();
        reads.iter().for_each(|read| self.look(view, read));
        let degraded = view.has_failures(shown.id) || reads.iter().any(|read| self.is_degraded(read));
        let of_read =
            reads.iter().find_map(|read| Some(format!("it reads `{}`: {}", read.plan.name, self.suspension(read)?)));
        let suspended = if view.is_suspended(shown.id) {
            of_read.or_else(|| Some(format!("it {GIVEN_UP}")))
        } else {
            // The input of such a failure is empty, so that it stands before all others.
            let first = view.failures(shown.id).next().map(|(failure, _)| failure);
            let own = first.filter(|failure| failure.is_of_view());
            own.map(|failure| format!("{}: {}", failure.expression, failure.reason)).or(of_read)
        };
        self.degraded.insert(shown.id, degraded);
        self.suspended.insert(shown.id, suspended);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::dataflow::CutSink;
    use crate::model::Topics;
    use crate::published::{Publisher, binding, cut};
    use crate::service::views::Views;
    use crate::sql::{QueryFile, Tables};

    #[test]
    fn views_that_are_read_in_many_ways_are_looked_at_once() {
        let levels = 40;
        let files = (0..levels).flat_map(|level: usize| {
            ["a", "b"].map(|side| {
                let text = match level.checked_sub(1) {
                    None => "SELECT resource_id FROM resources".to_owned(),
                    Some(below) => {
                        format!("SELECT resource_id FROM m{below}a UNION ALL SELECT resource_id FROM m{below}b")
                    }
                };
                QueryFile::new(&format!("m{level}{side}"), &text)
            })
        });
        let publisher = Arc::new(Publisher::new(1, 0));
        let tables = Tables::read(None, &Topics::default()).expect("tables that are always there");
        let views = Views::new(None, Arc::new(tables), Arc::clone(&publisher));
        let made = views.apply(files.collect()).made.len();
        assert_eq!(made, 2 * levels);
        let ids: Vec<(u64, u64)> = (1..=made as u64).map(|id| (id, 1)).collect();
        publisher.bind(binding(1));
        publisher.deliver_at(0, cut(1, &ids), Instant::now());
        let view = publisher.view();
        let mut troubles = Troubles::default();
        // In every way that leads to the lowest this would be a million million looks.
        for name in ["m39a", "m0b", "m39b"] {
            let condition = condition(&view, &mut troubles, &name.into(), &ViewHealth::Wanted);
            assert_eq!((condition.health, condition.problem), (Health::Healthy, None), "{name}");
        }
        assert_eq!(troubles.degraded.len(), 2 * levels);
    }
}
