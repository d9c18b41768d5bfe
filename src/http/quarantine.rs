//! The quarantine: which records were rejected and why; their bytes for operators.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::query::{Parameter, Query};
use super::resources::{LIMIT, PAGE_BYTES_MAX, PAGE_TOKEN};
use super::shared::{Asked, JSON, Making, Work};
use super::tags::Mark;
use super::{ApiError, App, answer, instant};
use crate::model::{Coordinates, QuarantineEntry, Topics};
use crate::published::{QuarantineToken, ReadView};
use crate::service::Service;

/// The parameters of the list.
pub(super) const PARAMETERS: &[Parameter] = &instant::beside::<{ 2 + instant::PARAMETERS.len() }>(&[LIMIT, PAGE_TOKEN]);

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
pub(super) fn id_of(at: Coordinates, topics: &Topics) -> String {
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
        event_id: reject.event_id_text.as_deref().map(str::to_owned).or(reject.event_id.map(|id| id.to_string())),
        reason: reject.reason.as_str(),
        detail: reject.detail.to_string(),
        status: entry.status.as_str(),
        first_seen: answer::moment(entry.first_seen),
        bytes: reject.total_bytes,
    }
}

/// What the list says beside its items.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListJson {
    next_page_token: Option<String>,
    total: usize,
}

/// `GET /api/tarn/v1/quarantine`: in order of coordinates, a page at a time.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(query): Extension<Arc<Query>>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let service = &app.service;
    let limit = query.limit(service.config.http.page_limit_max);
    let after = query.page_token(|text| QuarantineToken::decode(text, &service.token_key))?;
    let making = Making {
        media_type: JSON,
        varies: false,
        bytes: PAGE_BYTES_MAX,
        work: Work::Page,
        mark: |_: &App, view: &ReadView| Ok(Some(Mark::of(view.quarantine_changed(), &()))),
        render: move |app: &App, view: &ReadView, _: &dyn Fn() -> bool| page(app, view, after.as_ref(), limit),
    };
    let view = instant::asked(&app, &query).await?;
    asked.answer(&app, view, making).await
}

/// The page of entries that stand after `after`, which may itself have cleared since.
fn page(app: &App, view: &ReadView, after: Option<&QuarantineToken>, limit: usize) -> Result<Response, ApiError> {
    let service = &app.service;
    let topics = &service.topics;
    let entries = view.quarantine();
    let start = page_start(&entries, after, topics)?;
    let mut items = answer::begin_list(0);
    let mut shown = 0;
    for entry in entries[start..].iter().take(limit) {
        if shown > 0 {
            if items.len() >= PAGE_BYTES_MAX {
                break;
            }
            items.push(b',');
        }
        serde_json::to_writer(&mut items, &quarantine_json(entry, topics)).map_err(|_| ApiError::Internal)?;
        shown += 1;
    }
    let last = entries[start..start + shown].last().filter(|_| start + shown < entries.len());
    let next_page_token = last.map(|entry| after_page(entry, service));
    Ok(answer::list(app, view, items, &ListJson { next_page_token, total: entries.len() }))
}

/// Where the page begins that stands after a place.
pub(super) fn page_start(
    entries: &[Arc<QuarantineEntry>],
    after: Option<&QuarantineToken>,
    topics: &Topics,
) -> Result<usize, ApiError> {
    let Some(after) = after else { return Ok(0) };
    let topic = topics.intern(&after.topic).ok_or(ApiError::Internal)?;
    let last = Coordinates { topic, partition: after.partition, offset: after.offset };
    Ok(entries.partition_point(|entry| (entry.coordinates(), entry.reject.order.arrival) <= (last, after.arrival)))
}

/// The token of the page after the one that ends with an entry.
pub(super) fn after_page(entry: &QuarantineEntry, service: &Service) -> String {
    let Coordinates { topic, partition, offset } = entry.coordinates();
    let arrival = entry.reject.order.arrival;
    let topic = service.topics.name(topic).to_string();
    QuarantineToken { topic, partition, offset, arrival }.encode(&service.token_key)
}

/// `GET /api/tarn/v1/quarantine/{id}`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Ok(Path(id)) = path else { return Err(ApiError::Invalid("the id is not UTF-8".to_owned())) };
    // Key, value and headers come as text and as base64; what is kept of them is bounded.
    let bytes = app.service.config.decode.reject_bytes_max.saturating_mul(6).min(PAGE_BYTES_MAX);
    let reader = Arc::clone(&app);
    app.admission.render(bytes, move || whole(&reader, &id)).await
}

fn whole(app: &App, id: &str) -> Result<Response, ApiError> {
    let topics = &app.service.topics;
    let view = app.service.publisher.view();
    let entries = view.quarantine();
    let Some(entry) = entries.iter().find(|entry| id_of(entry.coordinates(), topics) == id) else {
        let missing = ApiError::NotFound("quarantine entry not found".to_owned()).into_response();
        return Ok(answer::found_on(app, &view, missing));
    };
    let reject = &entry.reject;
    let headers =
        reject.headers.iter().map(|(name, value)| HeaderJson { name, value: value.as_deref().map(BytesJson::of) });
    let content = WholeEntryJson {
        entry: quarantine_json(entry, topics),
        key: reject.key.as_deref().map(BytesJson::of),
        value: reject.value.as_deref().map(BytesJson::of),
        headers: headers.collect(),
    };
    Ok(answer::answer(app, &view, &content))
}
