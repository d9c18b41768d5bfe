//! Views: which there are, their rows, the rows that could not be evaluated, and how they are computed.
//!
//! Rows come as JSON objects, or as the `Accept` header asks: CSV, lines of JSON, Arrow; where there is no room for
//! `nextPageToken` in a body it stands in the header `tarn-next-page-token`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::accept::accepted;
use super::query::{Kind, Parameter, Query};
use super::resources::{LIMIT, PAGE_BYTES_MAX, PAGE_TOKEN};
use super::{ApiError, App, answer};
use crate::published::{CatalogView, ReadView, RowToken, RowsPage};
use crate::service::views::ViewHealth;
use crate::sql::{Format, OrderBy, Reading, Row};

/// The parameters of a view's rows.
pub(super) const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "orderBy",
        kind: Kind::Order,
        many: false,
        summary: "Columns separated by commas, each with a `-` before it where the greatest comes first; without it rows \
                  stand in the view's own order, which costs no sorting.",
    },
    LIMIT,
    PAGE_TOKEN,
    Parameter {
        name: "{column}",
        kind: Kind::Column,
        many: true,
        summary: "Rows with this value in this column. On the columns by which the view is sorted it is a seek.",
    },
];
/// The parameters of a view's errors.
pub(super) const ERROR_PARAMETERS: &[Parameter] = &[LIMIT];

/// So many rows are looked at for a page in the view's own order.
const LOOKS_MAX: usize = 100_000;
/// A row token holds no longer key.
const KEY_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, Serialize)]
struct ColumnJson {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ViewJson {
    name: String,
    description: String,
    columns: Vec<ColumnJson>,
    reads: Vec<String>,
    /// None while it cannot be read.
    rows: Option<usize>,
    since: Option<String>,
    health: &'static str,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PageJson {
    next_page_token: Option<String>,
}

/// `GET /api/tarn/v1/views`
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let reader = Arc::clone(&app);
    app.admission.render(PAGE_BYTES_MAX, move || Ok(listed(&reader))).await
}

fn listed(app: &App) -> Response {
    let view = app.service.publisher.view();
    let items: Vec<ViewJson> = app
        .service
        .views
        .statuses()
        .iter()
        .map(|status| {
            let shown = view.catalog().view(&status.name);
            let (health, problem) = health(&view, shown, &status.health);
            ViewJson {
                name: status.name.to_string(),
                description: shown.map(|shown| shown.plan.description.clone()).unwrap_or_default(),
                columns: shown.map(|shown| columns(shown)).unwrap_or_default(),
                reads: shown.into_iter().flat_map(|shown| &shown.plan.reads).map(|name| name.to_string()).collect(),
                rows: shown.filter(|shown| !view.is_detached(shown.id)).map(|shown| view.count_rows(shown.id)),
                since: shown.map(|shown| answer::moment(shown.since_ms)),
                health,
                problem,
            }
        })
        .collect();
    answer::answer(app, &view, &serde_json::json!({ "items": items }))
}

fn columns(view: &CatalogView) -> Vec<ColumnJson> {
    let columns = view.plan.columns.iter();
    columns.map(|column| ColumnJson { name: column.name.clone(), kind: column.kind.to_string() }).collect()
}

/// How a view is, in a word, and what is wrong with it.
fn health(view: &ReadView, shown: Option<&Arc<CatalogView>>, wanted: &ViewHealth) -> (&'static str, Option<String>) {
    match (shown, wanted) {
        (None, ViewHealth::Refused(why)) => ("refused", Some(why.clone())),
        (None, ViewHealth::Wanted) => ("hydrating", None),
        (Some(shown), _) if view.is_detached(shown.id) => {
            ("detached", Some("it is too far behind, and is not shown until it has caught up".to_owned()))
        }
        (Some(_), ViewHealth::Refused(why)) => ("outdated", Some(why.clone())),
        (Some(shown), ViewHealth::Wanted) if is_degraded(view, shown) => {
            ("degraded", Some("rows could not be evaluated, here or in a view that it reads".to_owned()))
        }
        (Some(_), ViewHealth::Wanted) => ("healthy", None),
    }
}

/// Whether rows are missing, in a view or in one that it reads.
fn is_degraded(view: &ReadView, shown: &CatalogView) -> bool {
    let reads = shown.plan.reads.iter().filter_map(|name| view.catalog().view(name));
    view.has_failures(shown.id) || reads.into_iter().any(|read| is_degraded(view, read))
}

/// The view of a name, if it can be read.
fn found(app: &App, view: &ReadView, name: &str) -> Result<Arc<CatalogView>, ApiError> {
    if let Some(shown) = view.catalog().view(name) {
        return if view.is_detached(shown.id) {
            Err(ApiError::Unavailable(format!(
                "the view `{name}` is too far behind; it comes back when it has caught up"
            )))
        } else {
            Ok(Arc::clone(shown))
        };
    }
    match app.service.views.statuses().iter().find(|status| &*status.name == name).map(|status| status.health.clone()) {
        Some(ViewHealth::Wanted) => Err(ApiError::Unavailable(format!("the view `{name}` is being made"))),
        Some(ViewHealth::Refused(why)) => Err(ApiError::Unavailable(format!("the view `{name}` is refused: {why}"))),
        None => {
            let shown: String = name.chars().take(64).collect();
            Err(ApiError::NotFound(format!("there is no view `{shown}`; /api/tarn/v1/views lists them")))
        }
    }
}

fn name_of(path: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    let Ok(Path(name)) = path else { return Err(ApiError::Invalid("the view's name is not UTF-8".to_owned())) };
    Ok(name)
}

/// `GET /api/tarn/v1/views/{view}`
pub(super) async fn rows(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    Extension(query): Extension<Arc<Query>>,
) -> Result<Response, ApiError> {
    let (name, format) = (name_of(path)?, accepted(&headers)?);
    let reader = Arc::clone(&app);
    app.admission.render(PAGE_BYTES_MAX, move || page(&reader, &name, &query, format)).await
}

fn page(app: &App, name: &str, query: &Query, format: Format) -> Result<Response, ApiError> {
    let view = app.service.publisher.view();
    let shown = found(app, &view, name)?;
    let filters = query.columns(PARAMETERS);
    let order = query.one("orderBy").map(order).unwrap_or_default();
    let reading = Reading::new(&shown.plan, &filters, &order).map_err(|error| ApiError::Invalid(error.to_string()))?;
    // The fingerprint, because a view that has changed may have other columns.
    let list = format!("{name} {:?} {filters:?} {order:?}", shown.plan.fingerprint);
    let after =
        query.page_token(|text| RowToken::decode(text, &list, &app.service.token_key))?.map(|token| token.place);
    let limit = query.limit(app.service.config.http.page_limit_max);
    let RowsPage { mut rows, mut next } = view.view_page(shown.id, &reading, after.as_ref(), limit, LOOKS_MAX);
    cut(&mut rows, &mut next, &reading, after.as_ref());
    if next.as_ref().is_some_and(|next| next.key.len() > KEY_BYTES_MAX) {
        let message = format!(
            "a row is too long to go on after it: select fewer columns in `{name}`, or ask with a greater limit"
        );
        return Err(ApiError::Unprocessable(message));
    }
    let next_page_token = next.map(|place| RowToken { place }.encode(&list, &app.service.token_key));
    let batch = reading.columns(&rows);
    let written =
        format.write(reading.schema(), &[batch]).map_err(|error| ApiError::Unprocessable(error.to_string()))?;
    if format == Format::Json {
        let mut items = answer::begin_list(written.len() + answer::USUAL_BYTES);
        items.extend_from_slice(&written);
        return Ok(answer::list(app, &view, items, &PageJson { next_page_token }));
    }
    let mut response = ([(header::CONTENT_TYPE, format.media_type())], written).into_response();
    if let Some(token) = next_page_token.and_then(|token| HeaderValue::from_str(&token).ok()) {
        response.headers_mut().insert(HeaderName::from_static("tarn-next-page-token"), token);
    }
    Ok(answer::found_on(app, &view, response))
}

/// Ends a page early when it is long enough.
fn cut(
    rows: &mut Vec<&Row>,
    next: &mut Option<crate::published::RowPlace>,
    reading: &Reading,
    after: Option<&crate::published::RowPlace>,
) {
    let mut bytes = 0;
    let Some(last) = rows.iter().position(|row| {
        bytes += row.bytes().len();
        bytes >= PAGE_BYTES_MAX
    }) else {
        return;
    };
    if last + 1 == rows.len() {
        return;
    }
    rows.truncate(last + 1);
    let key = reading.sort_keys(&rows[last..]).remove(0).bytes().to_vec();
    let before = after.filter(|after| after.key == key).map_or(0, |after| after.copies);
    let copies = before + rows.iter().rev().take_while(|row| **row == rows[last]).count() as u64;
    *next = Some(crate::published::RowPlace { key, copies });
}

/// The columns of `orderBy`.
fn order(text: &str) -> Vec<OrderBy> {
    let columns = text.split(',').map(|column| match column.strip_prefix('-') {
        Some(column) => OrderBy { column: column.to_owned(), descending: true },
        None => OrderBy { column: column.to_owned(), descending: false },
    });
    columns.collect()
}

#[derive(Debug, Serialize)]
struct FailureJson<'a> {
    input: Box<serde_json::value::RawValue>,
    expression: &'a str,
    reason: &'a str,
    count: usize,
}

/// `GET /api/tarn/v1/views/{view}/errors`
pub(super) async fn errors(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Extension(query): Extension<Arc<Query>>,
) -> Result<Response, ApiError> {
    let name = name_of(path)?;
    let limit = query.limit(app.service.config.http.page_limit_max);
    let reader = Arc::clone(&app);
    app.admission.render(PAGE_BYTES_MAX, move || failed(&reader, &name, limit)).await
}

fn failed(app: &App, name: &str, limit: usize) -> Result<Response, ApiError> {
    let view = app.service.publisher.view();
    let shown = found(app, &view, name)?;
    let json = |text: &str| serde_json::value::RawValue::from_string(text.to_owned()).unwrap_or_default();
    let items: Vec<FailureJson<'_>> = view
        .failures(shown.id)
        .take(limit)
        .map(|(failure, count)| FailureJson {
            input: json(&failure.input),
            expression: &failure.expression,
            reason: &failure.reason,
            count,
        })
        .collect();
    let total = view.failures(shown.id).count();
    Ok(answer::answer(app, &view, &serde_json::json!({ "items": items, "total": total })))
}

#[derive(Debug, Serialize)]
struct RefusedJson {
    view: Arc<str>,
    problem: String,
}

/// `POST /api/tarn/v1/views/reload`
pub(super) async fn reload(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let reader = Arc::clone(&app);
    app.admission
        .render(answer::USUAL_BYTES, move || {
            let reloaded = reader.service.views.reload().map_err(|error| {
                let folder = &reader.service.config.views.directory;
                ApiError::Unprocessable(format!("the folder of queries `{folder}` cannot be read: {error}"))
            })?;
            let refused = reloaded.refused.into_iter().map(|(view, problem)| RefusedJson { view, problem });
            let content = serde_json::json!({
                "made": reloaded.made,
                "removed": reloaded.removed,
                "refused": refused.collect::<Vec<_>>(),
            });
            Ok(answer::answer(&reader, &reader.service.publisher.view(), &content))
        })
        .await
}
