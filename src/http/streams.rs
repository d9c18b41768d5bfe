//! Change streams: what changes in a view or among the resources, as server-sent events.
//!
//! `hello`, then a `snapshot` or where the client was, then `changes` epoch by epoch, `progress` where there are none, and
//! `reset` where a client has to begin anew: never a silent gap, never a repeat. Every id resumes its stream, over a restart
//! too. What is told is computed and written once for all that follow the same (`channel`, `ring`), and each client pulls
//! (`client`). Not here: what changed (`published::stream`).

mod asked;
mod channel;
mod client;
mod frame;
mod hub;
mod reset;
mod ring;
mod subject;
mod written;

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;

use super::accept::preferred;
use super::query::{Kind, Parameter, Query};
use super::views::{COLUMN, IS_NULL, NAMED_COLUMN, filters, name_of};
use super::{ApiError, App, answer, instant, resources};
use asked::Asked;
use client::Client;
pub(crate) use hub::Streams;
pub use reset::Reset;
pub use subject::{Place, Places, RowSelection, Subject};

/// What streams are written as.
pub(super) const MEDIA_TYPE: &str = "text/event-stream";

const ENVELOPE: &str = "envelope";
const KEY: &str = "key";
const REPEATS: &str = "repeats";

const LAST_EVENT_ID: Parameter = Parameter {
    name: "lastEventId",
    kind: Kind::Text,
    many: false,
    summary: "Where the stream goes on: the id of the last frame, for those who cannot set the header `Last-Event-ID`, \
              which counts more.",
};

/// The parameters of a view's stream, beside what its beginning is to include.
const OF_VIEW: &[Parameter] = &[
    Parameter {
        name: ENVELOPE,
        kind: Kind::Text,
        many: false,
        summary: "`rows`: rows that left and came; or `upsert`: for each `key` that changed its row, or null.",
    },
    Parameter {
        name: KEY,
        kind: Kind::Text,
        many: false,
        summary: "Columns separated by commas that tell rows apart; with `envelope=upsert`.",
    },
    LAST_EVENT_ID,
    IS_NULL,
    COLUMN,
    NAMED_COLUMN,
];

/// Likewise of the stream of resources.
const OF_RESOURCES: &[Parameter] = &[
    resources::BY_TYPE,
    resources::BY_WORKSPACE,
    resources::BY_REPORTER,
    resources::BY_INSTANCE,
    resources::BY_LOCAL_ID,
    resources::ORPHANED,
    Parameter {
        name: REPEATS,
        kind: Kind::Boolean,
        many: false,
        summary: "True: also reports that change nothing but when a resource was updated and by which event.",
    },
    LAST_EVENT_ID,
];

/// The parameters of a view's stream.
pub(super) const VIEW_PARAMETERS: &[Parameter] =
    &instant::both::<{ OF_VIEW.len() + instant::TO_BE_INCLUDED.len() }>(OF_VIEW, &instant::TO_BE_INCLUDED);
/// The parameters of the stream of resources.
pub(super) const RESOURCE_PARAMETERS: &[Parameter] =
    &instant::both::<{ OF_RESOURCES.len() + instant::TO_BE_INCLUDED.len() }>(OF_RESOURCES, &instant::TO_BE_INCLUDED);

/// `GET /api/tarn/v1/views/{view}/changes`
pub(super) async fn of_view(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    Extension(query): Extension<Arc<Query>>,
) -> Result<Response, ApiError> {
    let name = name_of(path)?;
    let key = match (query.one(ENVELOPE), query.one(KEY)) {
        (None | Some("rows"), None) => None,
        (Some("upsert"), Some(key)) => Some(key.split(',').map(str::to_owned).collect()),
        (Some("upsert"), None) => {
            let message = "`envelope=upsert` needs a `key`: columns separated by commas that tell rows apart";
            return Err(ApiError::Invalid(message.to_owned()));
        }
        (None | Some("rows"), Some(_)) => {
            return Err(ApiError::Invalid("`key` is for `envelope=upsert` alone".to_owned()));
        }
        (Some(_), _) => return Err(ApiError::Invalid("`envelope` must be rows or upsert".to_owned())),
    };
    let selection = RowSelection { filters: filters(&query, VIEW_PARAMETERS), key };
    stream(app, &headers, &query, Asked::View(name, selection)).await
}

/// `GET /api/tarn/v1/resources/changes`
pub(super) async fn of_resources(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Extension(query): Extension<Arc<Query>>,
) -> Result<Response, ApiError> {
    let asked = Asked::Resources(resources::filter(&query), query.one(REPEATS) == Some("true"));
    stream(app, &headers, &query, asked).await
}

async fn stream(app: Arc<App>, headers: &HeaderMap, query: &Query, asked: Asked) -> Result<Response, ApiError> {
    preferred(headers, &[MEDIA_TYPE])?;
    let place = app.streams.enter()?;
    let from_header = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?"));
    let id = from_header.or_else(|| query.one(LAST_EVENT_ID.name)).filter(|id| !id.is_empty());
    let least = instant::asked(&app, query).await?.epoch();
    let (channel, begin) = asked.open(&app, id).await?;
    let client = Client::new(Arc::clone(&app), asked, channel, (begin, least), place);
    let mut response = Response::new(client.body());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that hold answers back until they are whole would hold them back for ever.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(answer::found_on(&app, &app.service.publisher.view(), response))
}
