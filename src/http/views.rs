//! Views: which there are, their rows, the rows that could not be evaluated, and how they are computed.
//!
//! Rows come as JSON objects, or as the `Accept` header asks: CSV, lines of JSON, Arrow; where there is no room for
//! `nextPageToken` and `health` in a body they stand in the headers `tarn-next-page-token` and `tarn-view-health`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use serde::Serialize;

use super::accept::accepted;
use super::query::{Kind, Parameter, Query};
use super::resources::{LIMIT, PAGE_BYTES_MAX, PAGE_TOKEN};
use super::shared::{Asked, JSON, Making, Work};
use super::tags::Mark;
use super::{ApiError, App, answer, instant, names};
use crate::dataflow::ViewId;
use crate::model::Epoch;
use crate::published::view_costs::ViewCost;
use crate::published::{CatalogView, FailuresPage, ReadView, RowLimits, RowToken, RowsPage};
use crate::service::view_health::{Health, ViewCondition};
use crate::sql::{Absent, Format, OrderBy, Reading, ViewPlan, type_name};

/// Asks for another order than the view's own.
const ORDER_BY: &str = "orderBy";
/// Asks for rows with null in some columns.
pub(super) const IS_NULL: Parameter = Parameter {
    name: "isNull",
    kind: Kind::Text,
    many: false,
    summary: "Columns separated by commas: rows with null in each of them, or with one of the values that are given \
              for it beside. A name with a comma in it stands in double quotes. No value of a column means null, since it \
              could be a text.",
};
/// The parameters of a view's rows, beside those of their instant.
const OWN_PARAMETERS: &[Parameter] = &[
    Parameter {
        name: ORDER_BY,
        kind: Kind::Order,
        many: false,
        summary: "Columns separated by commas, each with a `-` before it where the greatest comes first; without it rows \
                  stand in the view's own order, which costs no sorting. With it all rows are looked at: that has \
                  the turns and the time of a query in SQL.",
    },
    IS_NULL,
    LIMIT,
    PAGE_TOKEN,
    COLUMN,
    NAMED_COLUMN,
];
/// The columns by which rows are chosen.
pub(super) const COLUMN: Parameter = Parameter {
    name: "{column}",
    kind: Kind::Column,
    many: true,
    summary: "Rows with this value in this column, written as it is shown: bytes as hex, floats also as `NaN`, \
              `Infinity` or `-Infinity`. One with more digits than the column has is refused, not rounded. On the \
              columns by which the view is sorted it is a seek.",
};
/// The same, whatever they are called.
pub(super) const NAMED_COLUMN: Parameter = Parameter {
    name: "column.{column}",
    kind: Kind::Column,
    many: true,
    summary: "The same, for a column of any name: one that is called as another parameter is (`column.limit`), or \
              begins with `column.` itself, can be named so alone.",
};
/// The parameters of a view's rows.
pub(super) const PARAMETERS: &[Parameter] =
    &instant::beside::<{ OWN_PARAMETERS.len() + instant::PARAMETERS.len() }>(OWN_PARAMETERS);
/// The parameters of a view's errors.
pub(super) const ERROR_PARAMETERS: &[Parameter] =
    &instant::beside::<{ 2 + instant::PARAMETERS.len() }>(&[LIMIT, PAGE_TOKEN]);

/// Says where a list goes on, where its body has no room for it.
pub(super) const NEXT_PAGE_TOKEN: &str = "tarn-next-page-token";
/// Says how the view is, likewise.
pub(super) const HEALTH: &str = "tarn-view-health";

/// So many rows are looked at for a page in the view's own order.
const LOOKS_MAX: usize = 100_000;

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
    /// How the view is, which may lack rows or be of an older text.
    health: &'static str,
    problem: Option<String>,
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
pub(super) async fn list(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, ApiError> {
    let view = instant::asked(&app, asked.query()).await?;
    let making = Making {
        media_type: JSON,
        varies: false,
        bytes: PAGE_BYTES_MAX,
        work: Work::Page,
        mark: |app: &App, view: &ReadView| Ok(Some(mark_of_all(app, view))),
        render: |app: &App, view: &ReadView, _: &dyn Fn() -> bool| Ok(listed(app, view)),
    };
    asked.answer(&app, view, making).await
}

fn listed(app: &App, view: &ReadView) -> Response {
    let conditions = app.service.view_conditions(view);
    let items: Vec<ViewJson> = conditions.into_iter().map(|condition| ViewJson::of(condition, view)).collect();
    answer::answer(app, view, &serde_json::json!({ "items": items }))
}

/// What the list of views depends on, but for what they cost, which is another thing at every look.
fn mark_of_all(app: &App, view: &ReadView) -> Mark {
    let conditions = app.service.view_conditions(view);
    let each = conditions.iter().map(|condition| {
        let ViewCondition { name, shown, health, problem } = condition;
        let shown = shown.as_ref().map(|shown| (shown.plan.fingerprint, shown.since_ms, changed(view, shown.id)));
        (Arc::clone(name), shown, health.as_str(), problem.clone())
    });
    let each: Vec<_> = each.collect();
    let last = each.iter().filter_map(|(_, shown, ..)| shown.map(|(.., changed)| changed)).max();
    Mark::of(last.unwrap_or_default(), &each)
}

/// When anything of a view changed last, rows that could not be evaluated among it.
fn changed(view: &ReadView, id: ViewId) -> Epoch {
    view.rows_changed(id).max(view.failures_changed(id))
}

impl ViewJson {
    fn of(condition: ViewCondition, view: &ReadView) -> Self {
        let ViewCondition { name, shown, health, problem } = condition;
        let readable = shown.as_ref().filter(|shown| health.is_readable() && view.view_since(shown.id) <= view.epoch());
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

/// A view that can be read, and how it is.
pub(super) struct Readable {
    pub(super) shown: Arc<CatalogView>,
    pub(super) health: Health,
    pub(super) problem: Option<String>,
}

/// The view of a name, if it can be read.
pub(super) fn found(app: &App, view: &ReadView, name: &str) -> Result<Readable, ApiError> {
    match known(app, view, name)? {
        ViewCondition { shown: Some(shown), health, problem, .. } if health.is_readable() => {
            readable_then(view, &shown)?;
            Ok(Readable { shown, health, problem })
        }
        condition => Err(unreadable(&condition)),
    }
}

/// Whether what a view held at an instant of the past is still known.
pub(super) fn readable_then(view: &ReadView, shown: &CatalogView) -> Result<(), ApiError> {
    match view.view_since(shown.id) {
        since if since > view.epoch() => Err(gone(&shown.plan.name, since)),
        _ => Ok(()),
    }
}

/// What a view held before `since` is not known.
fn gone(name: &str, since: Epoch) -> ApiError {
    let message = format!("what the view `{name}` held then is not kept; `historySince` says how far back that goes");
    ApiError::Gone { message, history_since: Some(since) }
}

/// Why a view cannot be read. One whose text is refused never can be as it is, so nobody is told to try again.
pub(super) fn unreadable(condition: &ViewCondition) -> ApiError {
    absent(&condition.name, why_absent(condition))
}

/// The same for whoever names it otherwise than by a path.
pub(super) fn why_absent(condition: &ViewCondition) -> Absent {
    let ViewCondition { name, health, problem, .. } = condition;
    let problem = problem.as_deref().unwrap_or_default();
    match health {
        Health::Hydrating => Absent::Now(format!("the view `{name}` is being made")),
        Health::Refused => Absent::Refused(format!("the text of the view `{name}` is refused: {problem}")),
        health => Absent::Now(format!("the view `{name}` is {}: {problem}", health.as_str())),
    }
}

/// What is answered where a view cannot be read.
pub(super) fn absent(name: &str, why: Absent) -> ApiError {
    match why {
        Absent::Before(since) => gone(name, since),
        Absent::Now(why) => ApiError::Unavailable(why),
        Absent::Refused(why) => ApiError::Unprocessable(why),
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
    asked: Asked,
) -> Result<Response, ApiError> {
    let (name, format) = (Arc::<str>::from(name_of(path)?), accepted(&headers)?);
    let view = instant::asked(&app, &query).await?;
    let marked = Arc::clone(&name);
    let making = Making {
        media_type: format.media_type(),
        varies: true,
        bytes: PAGE_BYTES_MAX,
        // In another order it looks at all rows, as a query in SQL may.
        work: if query.one(ORDER_BY).is_none() { Work::Page } else { Work::Look },
        mark: move |app: &App, view: &ReadView| mark_of_rows(app, view, &marked).map(Some),
        render: move |app: &App, view: &ReadView, is_given_up: &dyn Fn() -> bool| {
            page(app, view, &name, &query, format, is_given_up)
        },
    };
    asked.answer(&app, view, making).await
}

/// What a page of rows depends on.
fn mark_of_rows(app: &App, view: &ReadView, name: &str) -> Result<Mark, ApiError> {
    let Readable { shown, health, problem } = found(app, view, name)?;
    Ok(Mark::of(view.rows_changed(shown.id), &(shown.plan.fingerprint, health.as_str(), problem)))
}

fn page(
    app: &App,
    view: &ReadView,
    name: &str,
    query: &Query,
    format: Format,
    is_given_up: &dyn Fn() -> bool,
) -> Result<Response, ApiError> {
    let Readable { shown, health, problem } = found(app, view, name)?;
    let filters = filters(query, PARAMETERS);
    let order = query.one(ORDER_BY).map(order).unwrap_or_default();
    let reading = Reading::new(&shown.plan, &filters, &order).map_err(|error| ApiError::Invalid(error.to_string()))?;
    // The fingerprint, because a view that has changed may have other columns.
    let list = format!("{name} {:?} {filters:?} {order:?}", shown.plan.fingerprint);
    let after =
        query.page_token(|text| RowToken::decode(text, &list, &app.service.token_key))?.map(|token| token.place);
    let limit = query.limit(app.service.config.http.page_limit_max);
    let limits = RowLimits { rows: limit, bytes: PAGE_BYTES_MAX, looks: LOOKS_MAX, is_given_up };
    let page = view.view_page(shown.id, &reading, after.as_ref(), &limits);
    let RowsPage { rows, next } = page.map_err(|error| ApiError::Unprocessable(error.to_string()))?;
    let next_page_token = next.map(|place| RowToken { place }.encode(&list, &app.service.token_key));
    let batch = reading.columns(&rows);
    let written =
        format.write(reading.schema(), &[batch]).map_err(|error| ApiError::Unprocessable(error.to_string()))?;
    if format == Format::Json {
        let mut items = answer::begin_list(written.len() + answer::USUAL_BYTES);
        items.extend_from_slice(&written);
        return Ok(answer::list(app, view, items, &PageJson { next_page_token, health: health.as_str(), problem }));
    }
    let mut response = answer::in_form(app, view, format.media_type(), written);
    response.headers_mut().insert(HeaderName::from_static(HEALTH), HeaderValue::from_static(health.as_str()));
    if let Some(token) = next_page_token.and_then(|token| HeaderValue::from_str(&token).ok()) {
        response.headers_mut().insert(HeaderName::from_static(NEXT_PAGE_TOKEN), token);
    }
    Ok(response)
}

/// The columns by which rows are chosen, each with what it may hold; none of the texts stands for null.
pub(super) fn filters(query: &Query, parameters: &[Parameter]) -> Vec<(String, Vec<Option<String>>)> {
    let mut filters: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for (column, values) in query.columns(parameters) {
        filters.insert(column, values.into_iter().map(Some).collect());
    }
    for column in query.one(IS_NULL.name).into_iter().flat_map(names::listed) {
        filters.entry(names::unquoted(&column)).or_default().push(None);
    }
    // The same list, however it was asked for: whoever shares its pages has tokens of it.
    for values in filters.values_mut() {
        values.sort_unstable();
        values.dedup();
    }
    filters.into_iter().collect()
}

/// The columns of `orderBy`.
fn order(text: &str) -> Vec<OrderBy> {
    let columns = names::listed(text).into_iter().map(|column| match column.strip_prefix('-') {
        Some(column) => OrderBy { column: names::unquoted(column), descending: true },
        None => OrderBy { column: names::unquoted(&column), descending: false },
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

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FailuresJson<'a> {
    items: Vec<FailureJson<'a>>,
    next_page_token: Option<String>,
    total: usize,
}

/// `GET /api/tarn/v1/views/{view}/errors`
pub(super) async fn errors(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Extension(query): Extension<Arc<Query>>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let name = Arc::<str>::from(name_of(path)?);
    let view = instant::asked(&app, &query).await?;
    let marked = Arc::clone(&name);
    let making = Making {
        media_type: JSON,
        varies: false,
        bytes: PAGE_BYTES_MAX,
        work: Work::Page,
        mark: move |app: &App, view: &ReadView| {
            let shown = with_failures(app, view, &marked)?;
            Ok(Some(Mark::of(view.failures_changed(shown.id), &shown.plan.fingerprint)))
        },
        render: move |app: &App, view: &ReadView, _: &dyn Fn() -> bool| failed(app, view, &name, &query),
    };
    asked.answer(&app, view, making).await
}

/// The view of a name, if its failures can be read: what a suspended one could not compute is what one wants to know.
fn with_failures(app: &App, view: &ReadView, name: &str) -> Result<Arc<CatalogView>, ApiError> {
    match known(app, view, name)? {
        ViewCondition { health: Health::Suspended, shown: Some(shown), .. } => {
            readable_then(view, &shown)?;
            Ok(shown)
        }
        _ => Ok(found(app, view, name)?.shown),
    }
}

fn failed(app: &App, view: &ReadView, name: &str, query: &Query) -> Result<Response, ApiError> {
    let shown = with_failures(app, view, name)?;
    let list = format!("errors of {name} {:?}", shown.plan.fingerprint);
    let after =
        query.page_token(|text| RowToken::decode(text, &list, &app.service.token_key))?.map(|token| token.place);
    let limit = query.limit(app.service.config.http.page_limit_max);
    let FailuresPage { failures, next } = view.failures_page(shown.id, after.as_ref(), limit, PAGE_BYTES_MAX);
    let json = |text: &str| serde_json::value::RawValue::from_string(text.to_owned()).unwrap_or_default();
    let items = failures.into_iter().map(|(failure, count)| FailureJson {
        input: json(&failure.input),
        expression: &failure.expression,
        reason: &failure.reason,
        count,
    });
    let content = FailuresJson {
        items: items.collect(),
        next_page_token: next.map(|place| RowToken { place }.encode(&list, &app.service.token_key)),
        total: view.count_failures(shown.id),
    };
    Ok(answer::answer(app, view, &content))
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
