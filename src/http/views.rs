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
use crate::published::view_costs::ViewCost;
use crate::published::{CatalogView, ReadView, RowToken, RowsPage};
use crate::service::view_health::{Health, ViewCondition};
use crate::sql::{Format, OrderBy, Reading, Row, ViewPlan, type_name};

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

/// Says where a list goes on, where its body has no room for it.
pub(super) const NEXT_PAGE_TOKEN: &str = "tarn-next-page-token";

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
    errors: Option<usize>,
    since: Option<String>,
    health: &'static str,
    problem: Option<String>,
    cost: Option<CostJson>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PageJson {
    next_page_token: Option<String>,
}

/// What a view costs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CostJson {
    /// Of what it has to itself.
    bytes_held: u64,
    /// Of the arrangements that it has together with others.
    shared_bytes_held: u64,
    /// By what it has to itself, over all workers.
    seconds_spent: f64,
}

impl From<&ViewCost> for CostJson {
    fn from(cost: &ViewCost) -> Self {
        let (own, shared) = (cost.own_total(), cost.shared_total());
        Self { bytes_held: own.bytes, shared_bytes_held: shared.bytes, seconds_spent: own.busy.as_secs_f64() }
    }
}

/// `GET /api/tarn/v1/views`
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let reader = Arc::clone(&app);
    app.admission.render(PAGE_BYTES_MAX, move || Ok(listed(&reader))).await
}

fn listed(app: &App) -> Response {
    let view = app.service.publisher.view();
    let conditions = app.service.view_conditions(&view);
    let items: Vec<ViewJson> = conditions.into_iter().map(|condition| ViewJson::of(condition, &view)).collect();
    answer::answer(app, &view, &serde_json::json!({ "items": items }))
}

impl ViewJson {
    fn of(condition: ViewCondition, view: &ReadView) -> Self {
        let ViewCondition { name, shown, health, problem } = condition;
        let readable = shown.as_ref().filter(|_| health.is_readable());
        let plan = shown.as_ref().map(|shown| &shown.plan);
        Self {
            name: name.to_string(),
            description: plan.map(|plan| plan.description.clone()).unwrap_or_default(),
            columns: plan.map(|plan| columns(plan)).unwrap_or_default(),
            reads: plan.into_iter().flat_map(|plan| &plan.reads).map(|name| name.to_string()).collect(),
            rows: readable.map(|shown| view.count_rows(shown.id)),
            errors: readable.map(|shown| view.count_failures(shown.id)),
            since: shown.as_ref().map(|shown| answer::moment(shown.since_ms)),
            health: health.as_str(),
            problem,
            cost: shown.as_ref().map(|shown| CostJson::from(&view.view_cost(shown.id))),
        }
    }
}

fn columns(plan: &ViewPlan) -> Vec<ColumnJson> {
    let columns = plan.columns.iter();
    columns.map(|column| ColumnJson { name: column.name.clone(), kind: type_name(&column.kind) }).collect()
}

/// The view of a name, if it can be read.
fn found(app: &App, view: &ReadView, name: &str) -> Result<Arc<CatalogView>, ApiError> {
    let condition = known(app, view, name)?;
    match condition.shown {
        Some(shown) if condition.health.is_readable() => Ok(shown),
        _ => Err(ApiError::Unavailable(match (condition.health, condition.problem) {
            (Health::Hydrating, _) => format!("the view `{name}` is being made"),
            (health, problem) => format!("the view `{name}` is {}: {}", health.as_str(), problem.unwrap_or_default()),
        })),
    }
}

/// The view of a name, however it is.
pub(super) fn known(app: &App, view: &ReadView, name: &str) -> Result<ViewCondition, ApiError> {
    app.service.view_condition(view, name).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        ApiError::NotFound(format!("there is no view `{shown}`; /api/tarn/v1/views lists them"))
    })
}

pub(super) fn name_of(path: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
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
    app.admission.render(PAGE_BYTES_MAX, move || Ok(varying(page(&reader, &name, &query, format)?))).await
}

/// The same answer, which was written as the client asked.
pub(super) fn varying(mut response: Response) -> Response {
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
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
        response.headers_mut().insert(HeaderName::from_static(NEXT_PAGE_TOKEN), token);
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
    // What a suspended view could not compute is what one wants to know.
    let shown = match known(app, &view, name)? {
        ViewCondition { health: Health::Suspended, shown: Some(shown), .. } => shown,
        _ => found(app, &view, name)?,
    };
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
    let total = view.count_failures(shown.id);
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
