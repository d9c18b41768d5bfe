//! How each view is, in a word, for all who tell it: lists, status, metrics.

use std::sync::Arc;

use super::Service;
use super::views::ViewHealth;
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
    /// How far it is behind what is shown, ms; none while it is not there.
    pub lag_ms: Option<u64>,
}

impl ViewCondition {
    /// What it has at the instant.
    pub fn numbers(&self, view: &ReadView) -> ViewNumbers {
        let shown = self.shown.as_ref().map(|shown| shown.id);
        let readable = shown.filter(|_| self.health.is_readable());
        let progress = shown.and_then(|id| view.view_progress(id));
        ViewNumbers {
            rows: readable.map(|id| view.count_rows(id)),
            errors: readable.map(|id| view.count_failures(id)),
            bytes: shown.map_or(0, |id| view.view_cost(id).own_total().bytes),
            lag_ms: progress.map(|(_, upper)| view.epoch().saturating_sub(upper.saturating_sub(1))),
        }
    }
}

impl Service {
    /// How every view of the folder is at an instant, in order of name.
    pub fn view_conditions(&self, view: &ReadView) -> Vec<ViewCondition> {
        let statuses = self.views.statuses();
        statuses.iter().map(|status| condition(view, &status.name, &status.health)).collect()
    }

    /// How a view is at an instant; none where there is none of this name, or was none until now.
    pub fn view_condition(&self, view: &ReadView, name: &str) -> Option<ViewCondition> {
        let statuses = self.views.statuses();
        let status = statuses.iter().find(|status| &*status.name == name);
        // What was removed is there until the instant at which it is not.
        let still = || view.catalog().view(name).map(|shown| condition(view, &shown.plan.name, &ViewHealth::Wanted));
        status.map(|status| condition(view, &status.name, &status.health)).or_else(still)
    }
}

/// Why a view is computed no more, and what can be done.
const GIVEN_UP: &str = "was behind for more than a minute and is computed no more, so that it does not take all memory; \
                        POST /api/tarn/v1/views/reload makes it anew";

fn condition(view: &ReadView, name: &Arc<str>, wanted: &ViewHealth) -> ViewCondition {
    let shown = view.catalog().view(name).cloned();
    let (health, problem) = match (&shown, wanted) {
        (None, ViewHealth::Refused(why)) => (Health::Refused, Some(why.clone())),
        (None, ViewHealth::Wanted) if view.was_never_shown(name) => {
            let problem = format!("a view that it reads {GIVEN_UP}");
            (Health::Suspended, Some(problem))
        }
        (None, ViewHealth::Wanted) => (Health::Hydrating, None),
        (Some(shown), wanted) => of_shown(view, shown, wanted),
    };
    ViewCondition { name: Arc::clone(name), shown, health, problem }
}

fn of_shown(view: &ReadView, shown: &CatalogView, wanted: &ViewHealth) -> (Health, Option<String>) {
    if view.is_detached(shown.id) {
        let problem = "it is too far behind, and is not shown until it has caught up";
        return (Health::Detached, Some(problem.to_owned()));
    }
    if let Some(problem) = suspension(view, shown) {
        return (Health::Suspended, Some(problem));
    }
    let problem = is_degraded(view, shown).then_some("rows could not be evaluated, here or in a view that it reads");
    match (wanted, problem) {
        (ViewHealth::Refused(why), None) => (Health::Outdated, Some(why.clone())),
        (ViewHealth::Refused(why), Some(problem)) => (Health::Outdated, Some(format!("{why}; and {problem}"))),
        (ViewHealth::Wanted, Some(problem)) => (Health::Degraded, Some(problem.to_owned())),
        (ViewHealth::Wanted, None) => (Health::Healthy, None),
    }
}

/// Why none of a view's rows may be shown, if so: it could not be computed, or a view that it reads could not.
fn suspension(view: &ReadView, shown: &CatalogView) -> Option<String> {
    let of_read = || {
        let reads = shown.plan.reads.iter().filter_map(|name| view.catalog().view(name));
        reads.into_iter().find_map(|read| Some(format!("it reads `{}`: {}", read.plan.name, suspension(view, read)?)))
    };
    if view.is_suspended(shown.id) {
        return of_read().or_else(|| Some(format!("it {GIVEN_UP}")));
    }
    // The input of such a failure is empty, so that it stands before all others.
    let failure = view.failures(shown.id).next().map(|(failure, _)| failure).filter(|failure| failure.is_of_view());
    if let Some(failure) = failure {
        return Some(format!("{}: {}", failure.expression, failure.reason));
    }
    of_read()
}

/// Whether rows are missing, in a view or in one that it reads.
fn is_degraded(view: &ReadView, shown: &CatalogView) -> bool {
    let reads = shown.plan.reads.iter().filter_map(|name| view.catalog().view(name));
    view.has_failures(shown.id) || reads.into_iter().any(|read| is_degraded(view, read))
}
