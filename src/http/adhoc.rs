//! Ad-hoc SQL: `POST /api/tarn/v1/query {"sql": ".."}`, answered at one instant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::accept::accepted;
use super::encoding::Packing;
use super::query::Query;
use super::views::{absent, why_absent};
use super::watched::Client;
use super::{ApiError, App, answer, instant};
use crate::published::ReadView;
use crate::sql::{Absent, Effort, Format, Instant, QueryAnswer, QueryError, QueryInput, QueryLimits, type_name};

/// Says whether there are more rows than the limit allows.
pub(super) const TRUNCATED: &str = "tarn-truncated";
/// Says how many rows of tables could not be read, and count for nothing.
pub(super) const UNREAD_ROWS: &str = "tarn-unread-rows";

/// A longer body is not read.
const BODY_BYTES_MAX: usize = 128 * 1024;
/// A body must have come after this, counted from its request's head.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// An answer of more is cut, and says so.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// About how much a byte of a column takes where it is written out.
const WRITTEN_BYTES_A_BYTE: usize = 2;

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    sql: String,
}

#[derive(Debug, Serialize)]
struct ColumnJson {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AnsweredJson {
    columns: Vec<ColumnJson>,
    truncated: bool,
    unread_rows: u64,
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Refused(why) => Self::Invalid(why),
            QueryError::Absent { view, why } => absent(&view, why),
            QueryError::TooMuch(why) | QueryError::Failed(why) => Self::Unprocessable(why),
        }
    }
}

/// `POST /api/tarn/v1/query`
pub(super) async fn query(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    query: Option<Extension<Arc<Query>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let (format, packing) = (accepted(&headers)?, Packing::accepted(&headers)?);
    let body = read(body).await?;
    let form = r#"the body must be {"sql": "SELECT .."}"#;
    let Asked { sql } = serde_json::from_slice(&body).map_err(|error| ApiError::Invalid(format!("{form}: {error}")))?;
    let config = &app.service.config;
    let Extension(query) = query.unwrap_or_default();
    let view = instant::asked(&app, &query).await?;
    // Held by the query, which may end a little after it was given up, and here until its answer is written.
    let turn = Arc::new(turn(&app).await?);
    let limits = QueryLimits {
        timeout: Duration::from_millis(config.query.timeout_ms),
        memory_bytes: config.query.memory_bytes_max,
        rows: config.query.rows_max,
        answer_bytes: ANSWER_BYTES_MAX.min(config.http.response_bytes_max / 4),
    };
    let running = app.service.queries.run(sql, input(&app, &view), limits, Arc::clone(&turn));
    let answered = until_left(Some(&client), running).await?;
    let rendering = Arc::clone(&app);
    let held = answered.bytes();
    let rendered = move || {
        let rendered = rendered(&rendering, &view, &answered, format);
        drop(turn);
        Ok(packing.pack(rendered?))
    };
    app.admission.render(answer::USUAL_BYTES + held * WRITTEN_BYTES_A_BYTE, rendered).await
}

/// The turn of a query, or of what costs as much.
pub(super) async fn turn(app: &App) -> Result<OwnedSemaphorePermit, ApiError> {
    let config = &app.service.config;
    let wait = Duration::from_millis(config.http.queue_deadline_ms);
    let turn = tokio::time::timeout(wait, Arc::clone(&app.queries).acquire_owned()).await;
    turn.ok().and_then(Result::ok).ok_or_else(|| {
        let running = config.query.concurrent_max;
        ApiError::Unavailable(format!("{running} queries are at work, which is as many as may be; try again"))
    })
}

/// What a query comes to, unless its client leaves before.
pub(super) async fn until_left<T>(
    client: Option<&Client>,
    query: impl Future<Output = Result<T, QueryError>>,
) -> Result<T, ApiError> {
    let left = async {
        match client {
            Some(client) => client.left().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        answered = query => Ok(answered?),
        () = left => {
            let why = "the query has ended with its client, who closed the connection or its half of it";
            Err(ApiError::Unprocessable(why.to_owned()))
        }
    }
}

/// A body, if it comes in time and is not too long.
async fn read(body: Body) -> Result<Bytes, ApiError> {
    let seconds = BODY_DEADLINE.as_secs();
    let read = tokio::time::timeout(BODY_DEADLINE, to_bytes(body, BODY_BYTES_MAX)).await;
    let read = read.map_err(|_| ApiError::Invalid(format!("the body did not come within {seconds} s")))?;
    read.map_err(|error| {
        ApiError::Invalid(format!("the body could not be read; it may have {BODY_BYTES_MAX} bytes at most: {error}"))
    })
}

/// What a query reads: everything at one instant, but for views that cannot be read.
fn input(app: &App, view: &Arc<ReadView>) -> QueryInput {
    let (mut views, mut absent) = (Vec::new(), BTreeMap::new());
    // Those that are not there yet are wanted and not shown.
    let wanted = app.service.view_conditions(view).into_iter().filter(|one| view.catalog().view(&one.name).is_none());
    for condition in app.service.shown_conditions(view).into_iter().chain(wanted) {
        let name = condition.name.to_string();
        match condition.shown.as_ref().filter(|_| condition.health.is_readable()) {
            None => drop(absent.insert(name, why_absent(&condition))),
            Some(shown) if view.view_since(shown.id) > view.epoch() => {
                absent.insert(name, Absent::Before(view.view_since(shown.id)));
            }
            Some(shown) => views.push(Arc::clone(&shown.plan)),
        }
    }
    QueryInput {
        tables: Arc::clone(app.service.views.tables()),
        views,
        absent,
        instant: Arc::clone(view) as Arc<dyn Instant>,
        epoch: view.epoch(),
        effort: Effort::Fast,
    }
}

fn rendered(app: &App, view: &ReadView, answered: &QueryAnswer, format: Format) -> Result<Response, ApiError> {
    let QueryAnswer { schema, batches, is_cut, unread } = answered;
    let written = format.write(schema, batches).map_err(|error| ApiError::Unprocessable(error.to_string()))?;
    if format == Format::Json {
        let mut items = answer::begin_list(written.len() + answer::USUAL_BYTES);
        items.extend_from_slice(&written);
        let columns = schema.fields().iter();
        let columns =
            columns.map(|field| ColumnJson { name: field.name().clone(), kind: type_name(field.data_type()) });
        let rest = AnsweredJson { columns: columns.collect(), truncated: *is_cut, unread_rows: *unread };
        return Ok(answer::list(app, view, items, &rest));
    }
    let mut response = answer::in_form(app, view, format.media_type(), written);
    let headers = response.headers_mut();
    headers
        .insert(HeaderName::from_static(TRUNCATED), HeaderValue::from_static(if *is_cut { "true" } else { "false" }));
    headers.insert(HeaderName::from_static(UNREAD_ROWS), HeaderValue::from(*unread));
    Ok(response)
}
