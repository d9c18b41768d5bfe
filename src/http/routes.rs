//! The table of routes: each with its scope, its parameters, what it answers and whether it counts as work.
//!
//! Routers, the checks of queries and `/openapi.json` are made from it, so that they cannot tell different things.

use std::sync::Arc;

use axum::handler;
use axum::routing::MethodRouter;

use super::admission::{Entry, entered};
use super::query::Parameter;
use super::{
    App, adhoc, difference, explanation, instant, openapi, operations, quarantine, read_points, resources,
    resubmission, states, streams, views,
};
use crate::sql::Format;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Readers.
    Read,
    /// Operators.
    Admin,
}

/// How a route is called. One that changes something takes no body: what it does stands in its path and query. Only a
/// question in SQL has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Looks.
    Get,
    /// Does something.
    Post,
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The path, as axum matches it.
    pub path: &'static str,
    /// How it is called.
    pub verb: Verb,
    /// Who may call it.
    pub scope: Scope,
    /// What it answers, for the API's description.
    pub summary: &'static str,
    /// The query parameters that it takes.
    pub parameters: &'static [Parameter],
    /// The name of what it answers with among the schemas of `/openapi.json`.
    pub schema: &'static str,
    /// What it is written as: JSON first, where it is JSON at all.
    pub media_types: &'static [&'static str],
    /// Headers that no other route has, each with what it says.
    pub headers: &'static [(&'static str, &'static str)],
    /// The name of what it is sent among the schemas, if it is sent anything.
    pub body: Option<&'static str>,
    /// Whether it counts towards the requests that are let in; health and metrics answer under any load.
    pub counted: bool,
    /// Whether its handler does without a query where there is none: handing one over would count.
    pub is_look_up: bool,
    /// The status of a good answer.
    pub status: u16,
}

/// A route's handler, once its entry is known.
pub(super) type Handler = Box<dyn FnOnce(Entry) -> MethodRouter<Arc<App>>>;

fn behind<T: 'static, H: handler::Handler<T, Arc<App>>>(handler: H) -> Handler {
    Box::new(|entry| entered(entry, handler))
}

impl Route {
    const fn read(path: &'static str, schema: &'static str, summary: &'static str) -> Self {
        Self {
            path,
            verb: Verb::Get,
            scope: Scope::Read,
            summary,
            parameters: &[],
            schema,
            media_types: &["application/json"],
            headers: &[],
            body: None,
            counted: true,
            is_look_up: false,
            status: 200,
        }
    }

    const fn act(path: &'static str, schema: &'static str, summary: &'static str) -> Self {
        Self { verb: Verb::Post, scope: Scope::Admin, ..Self::read(path, schema, summary) }
    }

    const fn ask(path: &'static str, schema: &'static str, summary: &'static str) -> Self {
        Self { verb: Verb::Post, body: Some("Query"), ..Self::read(path, schema, summary) }
    }

    const fn written_as(self, media_types: &'static [&'static str]) -> Self {
        Self { media_types, ..self }
    }

    const fn with_headers(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    const fn taking(self, parameters: &'static [Parameter]) -> Self {
        Self { parameters, ..self }
    }

    const fn for_readers(self) -> Self {
        Self { scope: Scope::Read, ..self }
    }

    const fn looked_up(self) -> Self {
        Self { is_look_up: true, ..self }
    }

    const fn making(self) -> Self {
        Self { status: 201, ..self }
    }

    const fn for_operators(self) -> Self {
        Self { scope: Scope::Admin, ..self }
    }

    const fn under_any_load(self) -> Self {
        Self { counted: false, ..self }
    }
}

/// What rows are written as.
const ROWS: [&str; Format::ALL.len()] = {
    let (mut media_types, mut place) = ([""; Format::ALL.len()], 0);
    while place < media_types.len() {
        media_types[place] = Format::ALL[place].media_type();
        place += 1;
    }
    media_types
};

/// Every route there is.
pub fn routes() -> Vec<Route> {
    handled().into_iter().map(|(route, _)| route).collect()
}

/// Every route with its handler.
pub(super) fn handled() -> Vec<(Route, Handler)> {
    let read = Route::read;
    vec![
        (
            read("/api/tarn/v1/resources/{id}", "ResourceAnswer", "One live resource.")
                .taking(instant::PARAMETERS)
                .looked_up(),
            behind(resources::one),
        ),
        (
            read("/api/tarn/v1/resources", "ResourceList", "A page of resources, in order of id.")
                .taking(resources::PARAMETERS),
            behind(resources::list),
        ),
        (
            read(
                "/api/tarn/v1/resources/{id}/history",
                "StateList",
                "The states of a resource within history, newest first.",
            )
            .taking(states::PARAMETERS),
            behind(states::states),
        ),
        (
            read("/api/tarn/v1/resources/changes", "StreamFrame", "What changes among the resources, as it does.")
                .taking(streams::RESOURCE_PARAMETERS)
                .written_as(&[streams::MEDIA_TYPE])
                .under_any_load(),
            behind(streams::of_resources),
        ),
        (
            read("/api/tarn/v1/position", "Instant", "How far the log is read and visible.")
                .taking(instant::PARAMETERS),
            behind(operations::position),
        ),
        (read("/api/tarn/v1/status", "Status", "Source, lag, counters, what is held."), behind(operations::status)),
        (
            read("/api/tarn/v1/quarantine", "QuarantineList", "Rejected records, without their bytes.")
                .taking(quarantine::PARAMETERS),
            behind(quarantine::list),
        ),
        (
            read("/api/tarn/v1/quarantine/{id}", "QuarantineAnswer", "One rejected record with its bytes.")
                .for_operators(),
            behind(quarantine::one),
        ),
        (
            Route::act(
                "/api/tarn/v1/quarantine/{id}/replay",
                "Resubmission",
                "One rejected record, read again; what became of it.",
            ),
            behind(resubmission::one),
        ),
        (
            Route::act(
                "/api/tarn/v1/quarantine/replay",
                "ResubmissionList",
                "A page of rejected records, read again; what became of each.",
            )
            .taking(resubmission::PARAMETERS),
            behind(resubmission::many),
        ),
        (
            read("/api/tarn/v1/ignored", "IgnoredList", "The last events that changed nothing, newest first."),
            behind(operations::ignored),
        ),
        (
            read("/api/tarn/v1/views", "ViewList", "The views, their columns and how they are.")
                .taking(instant::PARAMETERS),
            behind(views::list),
        ),
        (
            read("/api/tarn/v1/views/{view}", "RowList", "A page of a view's rows.")
                .taking(views::PARAMETERS)
                .written_as(&ROWS)
                .with_headers(&[
                    (views::NEXT_PAGE_TOKEN, "`nextPageToken`, where the body has no room for it."),
                    (views::HEALTH, "`health`, where the body has no room for it."),
                ]),
            behind(views::rows),
        ),
        (
            read("/api/tarn/v1/views/{view}/changes", "StreamFrame", "What changes in a view, as it does.")
                .taking(streams::VIEW_PARAMETERS)
                .written_as(&[streams::MEDIA_TYPE])
                .under_any_load(),
            behind(streams::of_view),
        ),
        (
            read("/api/tarn/v1/views/{view}/explain", "Explanation", "How a view is computed, and what that costs.")
                .taking(instant::PARAMETERS)
                .written_as(&explanation::MEDIA_TYPES),
            behind(explanation::explain),
        ),
        (
            read("/api/tarn/v1/views/{view}/errors", "FailureList", "The rows that a view could not evaluate.")
                .taking(views::ERROR_PARAMETERS),
            behind(views::errors),
        ),
        (
            read("/api/tarn/v1/views/{view}/diff", "Difference", "What changed in a view between two instants.")
                .taking(difference::PARAMETERS),
            behind(difference::difference),
        ),
        (
            Route::ask(
                "/api/tarn/v1/query",
                "QueryAnswer",
                "The answer to a SQL query over everything at one instant.",
            )
            .taking(instant::PARAMETERS)
            .written_as(&ROWS)
            .with_headers(&[
                (adhoc::TRUNCATED, "`truncated`, where the body has no room for it."),
                (adhoc::UNREAD_ROWS, "`unreadRows`, where the body has no room for it."),
            ]),
            behind(adhoc::query),
        ),
        (
            Route::act(
                "/api/tarn/v1/read-points",
                "ReadPoint",
                "An instant, kept for a while so that `at` can ask for it.",
            )
            .for_readers()
            .taking(read_points::PARAMETERS)
            .making(),
            behind(read_points::lease),
        ),
        (read("/api/tarn/v1/read-points/{id}", "ReadPoint", "An instant that is kept."), behind(read_points::one)),
        (
            Route::act("/api/tarn/v1/read-points/{id}/release", "ReadPoint", "An instant that is kept no longer.")
                .for_readers(),
            behind(read_points::release),
        ),
        (
            Route::act("/api/tarn/v1/views/reload", "ViewsReloaded", "The folder of queries, read again."),
            behind(views::reload),
        ),
        (read("/livez", "Health", "Whether the process answers.").under_any_load(), behind(operations::livez)),
        (
            read("/readyz", "Health", "Whether everything that the log had at start is visible.")
                .taking(operations::READY_PARAMETERS)
                .under_any_load(),
            behind(operations::readyz),
        ),
        (
            read("/metrics", "Metrics", "Metrics for Prometheus.")
                .written_as(&["text/plain"])
                .for_operators()
                .under_any_load(),
            behind(operations::metrics),
        ),
        (read("/openapi.json", openapi::SCHEMA, "This API, described."), behind(openapi::document)),
    ]
}
