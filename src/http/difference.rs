//! What changed in a view between two instants: the rows that left and those that came.
//!
//! Each row once with how often, `diff` copies more or less, in the view's own order. Both instants are those that were
//! shown last by the time that is asked for; the answer says which, and a page token stays with them. Not here: how long
//! changes are kept (`published`).

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;

use super::query::{Kind, Parameter, Query};
use super::resources::{LIMIT, PAGE_BYTES_MAX, PAGE_TOKEN};
use super::shared::{Asked, JSON, Making, Work};
use super::tags::Mark;
use super::views::{COLUMN, IS_NULL, NAMED_COLUMN, Readable, filters, found, name_of};
use super::{ApiError, App, answer};
use crate::model::Epoch;
use crate::published::{Difference, DifferenceToken, NotKept, ReadView, RowKey, RowPlace};
use crate::sql::{Format, Reading, Row};

const FROM: &str = "from";
const TO: &str = "to";

/// The parameters of a difference.
pub(super) const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: FROM,
        kind: Kind::Moment,
        many: false,
        summary: "The earlier instant, as RFC 3339 or milliseconds since 1970; without it what is kept of the view's \
                  changes is told from its beginning on.",
    },
    Parameter {
        name: TO,
        kind: Kind::Moment,
        many: false,
        summary: "The later instant, likewise; now without it. A column that is called `from` or `to` is chosen by as `column.from`.",
    },
    IS_NULL,
    LIMIT,
    PAGE_TOKEN,
    COLUMN,
    NAMED_COLUMN,
];

/// So many rows are looked at together.
const CHUNK_ROWS: usize = 1024;

/// An instant.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct InstantJson {
    as_of: String,
    epoch: Epoch,
}

impl From<Epoch> for InstantJson {
    fn from(epoch: Epoch) -> Self {
        Self { as_of: answer::moment(epoch), epoch }
    }
}

/// What a difference says beside its rows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PageJson {
    next_page_token: Option<String>,
    from: InstantJson,
    to: InstantJson,
    changes_since: String,
    health: &'static str,
    problem: Option<String>,
}

/// `GET /api/tarn/v1/views/{view}/diff`
pub(super) async fn difference(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Extension(query): Extension<Arc<Query>>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let name = Arc::<str>::from(name_of(path)?);
    let (marked, looked) = (Arc::clone(&name), Arc::clone(&query));
    let making = Making {
        media_type: JSON,
        varies: false,
        bytes: PAGE_BYTES_MAX,
        // Whatever changed is looked at for each page.
        work: Work::Look,
        mark: move |app: &App, view: &ReadView| mark(app, view, &marked, &looked),
        render: move |app: &App, view: &ReadView, is_given_up: &dyn Fn() -> bool| {
            page(app, view, &name, &query, is_given_up)
        },
    };
    asked.answer(&app, app.service.publisher.view(), making).await
}

/// Between two instants that are named nothing changes any more.
fn mark(app: &App, view: &ReadView, name: &str, query: &Query) -> Result<Option<Mark>, ApiError> {
    let (Some(from), Some(to)) = (query.moment(FROM), query.moment(TO)) else { return Ok(None) };
    let Readable { shown, health, problem } = found(app, view, name)?;
    let is_over = from <= to && to <= view.epoch();
    Ok(is_over.then(|| Mark::of(to, &(shown.plan.fingerprint, health.as_str(), problem))))
}

fn page(
    app: &App,
    view: &ReadView,
    name: &str,
    query: &Query,
    is_given_up: &dyn Fn() -> bool,
) -> Result<Response, ApiError> {
    let service = &app.service;
    let Readable { shown, health, problem } = found(app, view, name)?;
    let filters = filters(query, PARAMETERS);
    let reading = Reading::new(&shown.plan, &filters, &[]).map_err(|error| ApiError::Invalid(error.to_string()))?;
    let (from, to) = (query.moment(FROM), query.moment(TO));
    if from > to && to.is_some() {
        return Err(ApiError::Invalid("`from` is later than `to`; it must not be".to_owned()));
    }
    let list = format!("difference of {name} {:?} {filters:?} {from:?} {to:?}", shown.plan.fingerprint);
    let token = query.page_token(|text| DifferenceToken::decode(text, &list, &service.token_key))?;
    let (from, to) = token.as_ref().map_or((from, to), |token| (Some(token.from), Some(token.to)));
    let difference = service.publisher.difference(view, shown.id, from, to).map_err(not_kept)?;
    let limit = query.limit(service.config.http.page_limit_max);
    let (rows, next) = some(&difference, &reading, token.map(|token| token.place).as_ref(), limit, is_given_up)?;
    let Difference { from, to, since, rows: _ } = difference;
    let next = next.map(|place| DifferenceToken { from, to, place }.encode(&list, &service.token_key));
    let page = PageJson {
        next_page_token: next,
        from: from.into(),
        to: to.into(),
        changes_since: answer::moment(since),
        health: health.as_str(),
        problem,
    };
    Ok(answer::list(app, view, written(&reading, &rows)?, &page))
}

/// The rows of a page, and where the list goes on.
fn some<'a>(
    difference: &'a Difference,
    reading: &Reading,
    after: Option<&RowPlace>,
    limit: usize,
    is_given_up: &dyn Fn() -> bool,
) -> Result<(Vec<(&'a Row, isize)>, Option<RowPlace>), ApiError> {
    let keyed = difference.rows.iter().map(|(row, diff)| (RowKey::of(row.bytes()), row, *diff));
    let mut keyed: Vec<_> = keyed.filter(|(key, ..)| after.is_none_or(|after| *key > after.key)).collect();
    // Long rows that begin alike stand in the order of their hashes, as in every list.
    keyed.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let (mut page, mut bytes) = (Vec::new(), 0);
    for chunk in keyed.chunks(CHUNK_ROWS) {
        if is_given_up() {
            return Err(ApiError::Unprocessable("the page was given up".to_owned()));
        }
        let passing = reading.passing(&chunk.iter().map(|(_, row, _)| *row).collect::<Vec<_>>());
        for ((key, row, diff), _) in chunk.iter().zip(passing).filter(|(_, passes)| *passes) {
            if page.len() >= limit || bytes >= PAGE_BYTES_MAX {
                let place = page.last().map(|(row, _): &(&Row, isize)| RowKey::of(row.bytes()).into_owned());
                return Ok((page, place.map(|key| RowPlace { key, copies: 1 })));
            }
            debug_assert!(after.is_none_or(|after| *key > after.key), "it stands behind the page before");
            page.push((*row, *diff));
            bytes += row.bytes().len();
        }
    }
    Ok((page, None))
}

/// The items, each a row with how many copies of it came or, below zero, left.
fn written(reading: &Reading, rows: &[(&Row, isize)]) -> Result<Vec<u8>, ApiError> {
    let batch = reading.columns(&rows.iter().map(|(row, _)| *row).collect::<Vec<_>>());
    let lines = Format::JsonLines.write(reading.schema(), &[batch]);
    let lines = lines.map_err(|error| ApiError::Unprocessable(error.to_string()))?;
    let mut items = answer::begin_list(lines.len() + rows.len() * 24 + answer::USUAL_BYTES);
    for (place, (line, (_, diff))) in lines.split(|byte| *byte == b'\n').zip(rows).enumerate() {
        if place > 0 {
            items.push(b',');
        }
        items.extend_from_slice(br#"{"diff":"#);
        items.extend_from_slice(diff.to_string().as_bytes());
        items.extend_from_slice(br#","row":"#);
        items.extend_from_slice(line);
        items.push(b'}');
    }
    Ok(items)
}

/// Why changes cannot be told.
fn not_kept(error: NotKept) -> ApiError {
    match error {
        NotKept::Before { since } => {
            let kept = answer::moment(since);
            let message = format!("the changes of the view are kept since {kept}, and what was before is gone");
            ApiError::Gone { message, history_since: Some(since) }
        }
        NotKept::After { shown } => {
            let shown = answer::moment(shown);
            ApiError::Invalid(format!("`from` and `to` must not be later than what is shown, which is of {shown}"))
        }
    }
}
