//! What every answer says beside its content: the instant, the position, a token, whether the source is connected.
//!
//! In the body, and as headers for those who do not read bodies; errors and health say it in their headers alone, since
//! their bodies have Kessel's shape.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use serde::Serialize;

use super::{App, strict};
use crate::model::Timestamp;
use crate::published::{ConsistencyToken, ReadView};
use crate::source::Phase;

/// The next offset of a partition.
#[derive(Debug, Serialize)]
struct PartitionJson<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
}

/// The source, as every answer tells of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SourceJson {
    connected: bool,
    last_heard_at: Option<String>,
}

/// What names a view: the same for every answer found on it, so it is made once.
#[derive(Debug)]
pub(crate) struct Named {
    epoch: u64,
    as_of: String,
    token: String,
    /// As the header says it; none where a topic's name holds what a header may not.
    position: Option<HeaderValue>,
}

/// The instant that an answer reflects.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Instant<'a> {
    as_of: &'a str,
    epoch: u64,
    position: Vec<PartitionJson<'a>>,
    consistency_token: &'a str,
    source: SourceJson,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete_since: Option<String>,
}

/// A moment of so many milliseconds since 1970, as text.
pub(super) fn moment(ms: u64) -> String {
    Timestamp::from_millis(i64::try_from(ms).unwrap_or(i64::MAX)).to_string()
}

/// What names `view`, from the answer before if it was found on the same.
fn named(app: &App, view: &ReadView) -> Arc<Named> {
    if let Some(named) = app.named.load().as_ref().filter(|named| named.epoch == view.epoch()) {
        return Arc::clone(named);
    }
    let service = &app.service;
    let token = ConsistencyToken::of(service.incarnation, view.epoch(), view.position());
    let position = view.position().iter().map(|(topic, partition, offset)| format!("{topic}:{partition}:{offset}"));
    let named = Arc::new(Named {
        epoch: view.epoch(),
        as_of: moment(view.epoch()),
        token: token.encode(&service.token_key),
        position: HeaderValue::from_str(&position.collect::<Vec<_>>().join(",")).ok(),
    });
    app.named.store(Some(Arc::clone(&named)));
    named
}

/// The source as it is now, and since when answers lack events.
fn source(app: &App) -> (SourceJson, Option<String>) {
    let state = app.service.status.get();
    let connected = matches!(state.phase, Phase::Reading | Phase::Ended);
    let last_heard_at = (state.last_heard_ms > 0).then(|| moment(state.last_heard_ms));
    (SourceJson { connected, last_heard_at }, state.incomplete_since_ms.map(moment))
}

/// The instant of a view, for a body.
fn instant<'a>(app: &App, view: &'a ReadView, named: &'a Named) -> Instant<'a> {
    let (source, incomplete_since) = source(app);
    let position = view.position().iter().map(|(topic, partition, offset)| PartitionJson { topic, partition, offset });
    Instant {
        as_of: &named.as_of,
        epoch: named.epoch,
        position: position.collect(),
        consistency_token: &named.token,
        source,
        complete: incomplete_since.is_none(),
        incomplete_since,
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
pub(super) fn answer<T: Serialize>(app: &App, view: &ReadView, content: &T) -> Response {
    let named = named(app, view);
    let instant = instant(app, view, &named);
    let body = serde_json::to_vec(&WithInstant { content, instant: &instant }).unwrap_or_default();
    whole(&named, &instant, body)
}

/// The beginning of a list's body; its items follow, each a JSON value, separated by commas.
pub(super) fn begin_list(bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes);
    body.extend_from_slice(br#"{"items":["#);
    body
}

/// The answer with a list that was begun so and holds its items.
pub(super) fn list<T: Serialize>(app: &App, view: &ReadView, mut body: Vec<u8>, rest: &T) -> Response {
    let named = named(app, view);
    let instant = instant(app, view, &named);
    let rest = serde_json::to_vec(&WithInstant { content: rest, instant: &instant }).unwrap_or_default();
    body.extend_from_slice(b"],");
    body.extend_from_slice(rest.strip_prefix(b"{").unwrap_or_default());
    whole(&named, &instant, body)
}

/// The answer with a body that is rendered already.
fn whole(named: &Named, instant: &Instant<'_>, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    tell(named, &instant.source, instant.incomplete_since.as_deref(), headers);
    response
}

/// The header whose presence says that an answer tells its instant.
const EPOCH: HeaderName = HeaderName::from_static("tarn-epoch");

/// Says the instant in the headers.
fn tell(named: &Named, source: &SourceJson, incomplete_since: Option<&str>, headers: &mut HeaderMap) {
    let text = |text: &str| HeaderValue::from_str(text).ok();
    let told = [
        ("tarn-as-of", text(&named.as_of)),
        ("tarn-position", named.position.clone()),
        ("tarn-consistency-token", text(&named.token)),
        ("tarn-source-connected", Some(HeaderValue::from_static(if source.connected { "true" } else { "false" }))),
        ("tarn-source-last-heard", source.last_heard_at.as_deref().and_then(text)),
        ("tarn-incomplete-since", incomplete_since.and_then(text)),
    ];
    headers.insert(EPOCH, HeaderValue::from(named.epoch));
    for (name, value) in told {
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// The same answer, with the instant of the view that it was found on in its headers.
pub(super) fn found_on(app: &App, view: &ReadView, mut response: Response) -> Response {
    let (source, incomplete_since) = source(app);
    tell(&named(app, view), &source, incomplete_since.as_deref(), response.headers_mut());
    response
}

/// What every request passes first and every answer last: heads that are ambiguous go no further, and answers that do
/// not say their instant yet (errors, health, whatever has no body of ours) say it in their headers.
pub(super) async fn tell_instant(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let response = match strict::refused(&request) {
        Some(refused) => refused,
        None => next.run(request).await,
    };
    let mut response = match response.headers().contains_key(EPOCH) {
        true => response,
        false => found_on(&app, &app.service.publisher.view(), response),
    };
    if app.is_draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
