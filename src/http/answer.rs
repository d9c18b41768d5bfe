//! What every answer says beside its content: the instant, the position, a token, whether the source is connected.
//!
//! In the body, and as headers for those who do not read bodies; errors and health say it in their headers alone, since
//! their bodies have Kessel's shape.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde::Serialize;

use super::App;
use crate::model::Timestamp;
use crate::published::{ConsistencyToken, ReadView};
use crate::service::Service;
use crate::source::Phase;

/// The next offset of a partition.
#[derive(Debug, Serialize)]
pub(super) struct PartitionJson<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
}

/// The source, as every answer tells of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SourceJson {
    connected: bool,
    last_heard_at: Option<String>,
}

/// The instant that an answer reflects.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instant<'a> {
    as_of: String,
    epoch: u64,
    position: Vec<PartitionJson<'a>>,
    consistency_token: String,
    source: SourceJson,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete_since: Option<String>,
}

/// A moment of so many milliseconds since 1970, as text.
pub(super) fn moment(ms: u64) -> String {
    Timestamp::from_millis(i64::try_from(ms).unwrap_or(i64::MAX)).to_string()
}

/// The instant of a view.
pub(super) fn instant<'a>(service: &Service, view: &'a ReadView) -> Instant<'a> {
    let state = service.status.get();
    let token = ConsistencyToken::of(service.incarnation, view.epoch(), view.position());
    let position = view.position().iter().map(|(topic, partition, offset)| PartitionJson { topic, partition, offset });
    Instant {
        as_of: moment(view.epoch()),
        epoch: view.epoch(),
        position: position.collect(),
        consistency_token: token.encode(&service.token_key),
        source: SourceJson {
            connected: matches!(state.phase, Phase::Reading | Phase::Ended),
            last_heard_at: (state.last_heard_ms > 0).then(|| moment(state.last_heard_ms)),
        },
        complete: state.incomplete_since_ms.is_none(),
        incomplete_since: state.incomplete_since_ms.map(moment),
    }
}

/// A body with the instant beside its own fields.
#[derive(Serialize)]
struct WithInstant<'a, T> {
    #[serde(flatten)]
    content: &'a T,
    #[serde(flatten)]
    instant: &'a Instant<'a>,
}

/// The answer with this content, at the instant of `view`.
pub(super) fn answer<T: Serialize>(
    service: &Service,
    view: &Arc<ReadView>,
    status: StatusCode,
    content: &T,
) -> Response {
    let instant = instant(service, view);
    let body = serde_json::to_vec(&WithInstant { content, instant: &instant }).unwrap_or_default();
    raw(&instant, status, body)
}

/// The answer with a list whose items are rendered already, each a JSON value, separated by commas.
pub(super) fn list<T: Serialize>(service: &Service, view: &Arc<ReadView>, items: &[u8], rest: &T) -> Response {
    let instant = instant(service, view);
    let rest = serde_json::to_vec(&WithInstant { content: rest, instant: &instant }).unwrap_or_default();
    let mut body = Vec::with_capacity(items.len() + rest.len() + 16);
    body.extend_from_slice(br#"{"items":["#);
    body.extend_from_slice(items);
    body.extend_from_slice(b"],");
    body.extend_from_slice(rest.strip_prefix(b"{").unwrap_or_default());
    raw(&instant, StatusCode::OK, body)
}

/// The answer with a body that is rendered already.
fn raw(instant: &Instant<'_>, status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    tell(instant, headers);
    response
}

/// The header whose presence says that an answer tells its instant.
const EPOCH: HeaderName = HeaderName::from_static("tarn-epoch");

/// Says the instant in the headers.
fn tell(instant: &Instant<'_>, headers: &mut HeaderMap) {
    let positions = instant.position.iter().map(|at| format!("{}:{}:{}", at.topic, at.partition, at.offset));
    let told = [
        ("tarn-as-of", Some(instant.as_of.clone())),
        ("tarn-position", Some(positions.collect::<Vec<_>>().join(","))),
        ("tarn-consistency-token", Some(instant.consistency_token.clone())),
        ("tarn-source-connected", Some(instant.source.connected.to_string())),
        ("tarn-source-last-heard", instant.source.last_heard_at.clone()),
        ("tarn-incomplete-since", instant.incomplete_since.clone()),
    ];
    headers.insert(EPOCH, HeaderValue::from(instant.epoch));
    for (name, value) in told {
        // A topic's name may hold what a header may not; the body has it all the same.
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// The same answer, with the instant of the view that it was found on in its headers.
pub(super) fn found_on(service: &Service, view: &Arc<ReadView>, mut response: Response) -> Response {
    tell(&instant(service, view), response.headers_mut());
    response
}

/// Says the instant on answers that do not yet: errors, health, whatever has no body of ours.
pub(super) async fn tell_instant(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let mut response = match response.headers().contains_key(EPOCH) {
        true => response,
        false => found_on(&app.service, &app.service.publisher.view(), response),
    };
    if app.is_draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
