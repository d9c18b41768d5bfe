//! The quarantine: which records were rejected and why; their bytes for operators.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::query::Query;
use super::{ApiError, App, answer};
use crate::model::{Coordinates, QuarantineEntry, Topics};

/// The parameters of the list.
pub(super) const PARAMETERS: &[&str] = &["limit", "after"];

/// An entry without the record's bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryJson {
    id: String,
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    timestamp: String,
    resource_id: Option<String>,
    event_id: Option<String>,
    reason: &'static str,
    detail: String,
    status: &'static str,
    first_seen: String,
    bytes: u64,
}

/// Bytes as text where they are, and as base64 in any case.
#[derive(Debug, Serialize)]
struct BytesJson {
    text: Option<String>,
    base64: String,
}

impl BytesJson {
    fn of(bytes: &[u8]) -> Self {
        Self { text: std::str::from_utf8(bytes).ok().map(str::to_owned), base64: STANDARD.encode(bytes) }
    }
}

#[derive(Debug, Serialize)]
struct HeaderJson<'a> {
    name: &'a str,
    value: Option<BytesJson>,
}

#[derive(Debug, Serialize)]
struct WholeEntryJson<'a> {
    #[serde(flatten)]
    entry: EntryJson,
    key: Option<BytesJson>,
    value: Option<BytesJson>,
    headers: Vec<HeaderJson<'a>>,
}

/// An entry's id: where its record stands.
fn id_of(at: Coordinates, topics: &Topics) -> String {
    format!("{}:{}:{}", topics.name(at.topic), at.partition, at.offset)
}

/// An entry as it is shown.
pub fn quarantine_json(entry: &QuarantineEntry, topics: &Topics) -> EntryJson {
    let at = entry.coordinates();
    let reject = &entry.reject;
    EntryJson {
        id: id_of(at, topics),
        topic: topics.name(at.topic),
        partition: at.partition,
        offset: at.offset,
        timestamp: answer::moment(u64::try_from(reject.observed_ms).unwrap_or(0)),
        resource_id: reject.id.map(|id| id.to_string()),
        event_id: reject.event_id.map(|id| id.to_string()),
        reason: reject.reason.as_str(),
        detail: reject.detail.to_string(),
        status: entry.status.as_str(),
        first_seen: answer::moment(entry.first_seen),
        bytes: reject.total_bytes,
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListJson {
    items: Vec<EntryJson>,
    next_after: Option<String>,
    total: usize,
}

/// `GET /api/tarn/v1/quarantine`: in order of coordinates, a page at a time.
pub(super) async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), PARAMETERS)?;
    let limit = query.limit(100, app.service.config.http.page_limit_max)?;
    let after = query.one("after")?;
    let topics = &app.service.topics;
    let view = app.service.publisher.view();
    let entries = view.quarantine();
    let start = match after {
        None => 0,
        Some(after) => {
            let place = entries.iter().position(|entry| id_of(entry.coordinates(), topics) == after);
            place.ok_or_else(|| {
                ApiError::Invalid("`after` is not the id of an entry; begin again without it".to_owned())
            })? + 1
        }
    };
    let page = &entries[start..(start + limit).min(entries.len())];
    let more = start + page.len() < entries.len();
    let content = ListJson {
        items: page.iter().map(|entry| quarantine_json(entry, topics)).collect(),
        next_after: page.last().filter(|_| more).map(|entry| id_of(entry.coordinates(), topics)),
        total: entries.len(),
    };
    Ok(answer::answer(&app.service, &view, StatusCode::OK, &content))
}

/// `GET /api/tarn/v1/quarantine/{id}`
pub(super) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let topics = &app.service.topics;
    let view = app.service.publisher.view();
    let entries = view.quarantine();
    let entry = entries.iter().find(|entry| id_of(entry.coordinates(), topics) == id);
    let entry = entry.ok_or_else(|| ApiError::NotFound("quarantine entry not found".to_owned()))?;
    let reject = &entry.reject;
    let headers =
        reject.headers.iter().map(|(name, value)| HeaderJson { name, value: value.as_deref().map(BytesJson::of) });
    let content = WholeEntryJson {
        entry: quarantine_json(entry, topics),
        key: reject.key.as_deref().map(BytesJson::of),
        value: reject.value.as_deref().map(BytesJson::of),
        headers: headers.collect(),
    };
    Ok(answer::answer(&app.service, &view, StatusCode::OK, &content))
}
