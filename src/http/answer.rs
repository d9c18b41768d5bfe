//! What every answer says beside its content: the instant, the position, a token, how new the newest event is, whether
//! the source is connected.
//!
//! In the body, and as headers for those who do not read bodies; errors and health say it in their headers alone, since
//! their bodies have Kessel's shape.

use std::cell::RefCell;
use std::rc::Rc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use serde::Serialize;

use super::App;
use super::tags::Tag;
use crate::clock::now_ms;
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

/// A view, and what was known of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FoundOn {
    incarnation: u64,
    epoch: u64,
    /// Of the source's state.
    changes: u64,
    /// Which of the moments it was found in, at which ages are told anew.
    moment: u64,
    /// What can be asked for: goes on with newer views than this one.
    history_since: u64,
}

/// The age of an event is told anew so often while nothing else is new: no age is older than that when it is told.
const AGES_STAND_MS: u64 = 100;

/// What names a view and its source: the same for every answer found on it while nothing new is heard, so it is made
/// once, headers and the end of a body ready to be copied.
#[derive(Debug)]
struct Named {
    found_on: FoundOn,
    /// Those of any answer.
    headers: HeaderMap,
    /// And those of one with a JSON body, its length and its tag yet to be told.
    headers_of_json: HeaderMap,
    /// The fields of the instant, as the end of an object.
    tail: Vec<u8>,
}

/// The instant that an answer reflects.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Instant<'a> {
    as_of: &'a str,
    epoch: u64,
    position: Vec<PartitionJson<'a>>,
    consistency_token: &'a str,
    newest_event_at: Option<String>,
    newest_event_arrived_at: Option<String>,
    newest_event_age_ms: Option<u64>,
    source: SourceJson,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete_since: Option<String>,
    /// From when on `asOf` can be asked for.
    history_since: String,
}

/// A moment of so many milliseconds since 1970, as text.
pub(super) fn moment(ms: u64) -> String {
    Timestamp::from_millis(i64::try_from(ms).unwrap_or(i64::MAX)).to_string()
}

thread_local! {
    /// What the last answer of this thread was found on. Of each thread, because cloning headers counts references, and
    /// threads that count the same ones wait for each other.
    static NAMED: RefCell<Option<Rc<Named>>> = const { RefCell::new(None) };
}

/// What names `view`, from the answer before if nothing has changed since.
fn named(app: &App, view: &ReadView) -> Rc<Named> {
    let service = &app.service;
    // Before the look: a change in between is then seen the next time.
    let changes = service.status.changes();
    let moment = now_ms() / AGES_STAND_MS;
    let history_since = service.publisher.history_since();
    let (incarnation, epoch) = (view.incarnation(), view.epoch());
    let found_on = FoundOn { incarnation, epoch, changes, moment, history_since };
    NAMED.with_borrow_mut(|last| match last.as_ref().filter(|last| last.found_on == found_on) {
        Some(named) => Rc::clone(named),
        None => Rc::clone(last.insert(Rc::new(name(app, view, found_on)))),
    })
}

fn name(app: &App, view: &ReadView, found_on: FoundOn) -> Named {
    let service = &app.service;
    let token = ConsistencyToken::of(view.incarnation(), view.epoch(), view.position()).encode(&service.token_key);
    let position = view.position().iter().map(|(topic, partition, offset)| PartitionJson { topic, partition, offset });
    let as_of = moment(view.epoch());
    let newest = view.newest_event();
    let incomplete_since_ms = service.status.look(|state| state.incomplete_since_ms);
    let instant = Instant {
        as_of: &as_of,
        epoch: view.epoch(),
        position: position.collect(),
        consistency_token: &token,
        newest_event_at: newest.map(|newest| moment(newest.happened_ms)),
        newest_event_arrived_at: newest.map(|newest| moment(newest.arrived)),
        newest_event_age_ms: newest.map(|newest| now_ms().saturating_sub(newest.happened_ms)),
        source: service.status.look(|state| SourceJson {
            connected: matches!(state.phase, Phase::Reading | Phase::Ended),
            last_heard_at: (state.last_heard_ms > 0).then(|| moment(state.last_heard_ms)),
        }),
        complete: incomplete_since_ms.is_none(),
        incomplete_since: incomplete_since_ms.map(moment),
        history_since: moment(found_on.history_since),
    };
    let headers = headers_of(&instant);
    let mut headers_of_json = headers.clone();
    headers_of_json.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers_of_json.insert(header::CACHE_CONTROL, NO_CACHE);
    // In its place already: axum would add it to a map that has no more room.
    headers_of_json.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    headers_of_json.insert(header::ETAG, HeaderValue::from_static(""));
    let mut tail = serde_json::to_vec(&instant).unwrap_or_default();
    if tail.first() == Some(&b'{') {
        tail.remove(0);
    }
    Named { found_on, headers, headers_of_json, tail }
}

/// What is current now may not be so when it is asked for again.
pub(super) const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

/// The header whose presence says that an answer tells its instant.
const EPOCH: HeaderName = HeaderName::from_static("tarn-epoch");

/// The instant in headers; one is left out where a topic's name holds what a header may not.
fn headers_of(instant: &Instant<'_>) -> HeaderMap {
    let text = |text: &str| HeaderValue::from_str(text).ok();
    let position = instant.position.iter().map(|at| format!("{}:{}:{}", at.topic, at.partition, at.offset));
    let told = [
        ("tarn-as-of", text(instant.as_of)),
        ("tarn-position", text(&position.collect::<Vec<_>>().join(","))),
        ("tarn-consistency-token", text(instant.consistency_token)),
        ("tarn-newest-event", instant.newest_event_at.as_deref().and_then(text)),
        ("tarn-newest-event-arrived", instant.newest_event_arrived_at.as_deref().and_then(text)),
        ("tarn-newest-event-age-ms", instant.newest_event_age_ms.map(HeaderValue::from)),
        ("tarn-source-connected", text(if instant.source.connected { "true" } else { "false" })),
        ("tarn-source-last-heard", instant.source.last_heard_at.as_deref().and_then(text)),
        ("tarn-incomplete-since", instant.incomplete_since.as_deref().and_then(text)),
        ("tarn-history-since", text(&instant.history_since)),
    ];
    let mut headers = HeaderMap::new();
    headers.insert(EPOCH, HeaderValue::from(instant.epoch));
    for (name, value) in told {
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// The answer with this content, a JSON object, and the instant of `view` beside its fields.
pub(super) fn answer<T: Serialize>(app: &App, view: &ReadView, content: &T) -> Response {
    let mut body = Vec::with_capacity(USUAL_BYTES);
    // Content is made of texts and numbers, and memory takes any write.
    let _ = serde_json::to_writer(&mut body, content);
    written(app, view, body, None)
}

/// The answer with a content, a JSON object, that is written already, and the instant of `view` beside its fields.
pub(super) fn written(app: &App, view: &ReadView, body: Vec<u8>, tag: Option<Tag>) -> Response {
    whole(&named(app, view), body, tag)
}

/// Room for one resource and the instant.
pub(super) const USUAL_BYTES: usize = 2_048;

/// The beginning of a list's body; its items follow, each a JSON value, separated by commas.
pub(super) fn begin_list(bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes);
    body.extend_from_slice(br#"{"items":["#);
    body
}

/// The answer with a list that was begun so and holds its items.
pub(super) fn list<T: Serialize>(app: &App, view: &ReadView, mut body: Vec<u8>, rest: &T) -> Response {
    let rest = serde_json::to_vec(rest).unwrap_or_default();
    body.extend_from_slice(b"],");
    body.extend_from_slice(rest.strip_prefix(b"{").unwrap_or_default());
    whole(&named(app, view), body, None)
}

/// The answer with an object that is rendered already; the fields of the instant go before its end.
fn whole(named: &Named, mut body: Vec<u8>, tag: Option<Tag>) -> Response {
    if body.pop() == Some(b'}') && body.last().is_some_and(|last| !matches!(last, b'{' | b',')) {
        body.push(b',');
    }
    body.extend_from_slice(&named.tail);
    let mut headers = named.headers_of_json.clone();
    let length = HeaderValue::try_from(body.len().to_string()).expect("digits are a header's value");
    headers.insert(header::CONTENT_LENGTH, length);
    match tag {
        Some(tag) => headers.insert(header::ETAG, tag.into_value()),
        None => headers.remove(header::ETAG),
    };
    let mut response = Response::new(Body::from(body));
    *response.headers_mut() = headers;
    response
}

/// The answer with a body in a form of its own, which has no room for the instant.
pub(super) fn in_form(app: &App, view: &ReadView, media_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, NO_CACHE);
    found_on(app, view, response)
}

/// The same answer, with the instant of the view that it was found on in its headers.
pub(super) fn found_on(app: &App, view: &ReadView, mut response: Response) -> Response {
    let named = named(app, view);
    response.headers_mut().extend(named.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    response
}

/// The same answer, which says its instant in its headers if it does not yet: errors, health, whatever has no body of
/// ours.
pub(super) fn telling_instant(app: &App, response: Response) -> Response {
    match response.headers().contains_key(EPOCH) {
        true => response,
        false => found_on(app, &app.service.publisher.view(), response),
    }
}
