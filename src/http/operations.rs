//! What operators ask: position, status, ignored events, health, metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::encoding::Packing;
use super::query::{Kind, Parameter, Query};
use super::{ApiError, App, answer, instant};
use crate::clock::now_ms;
use crate::dataflow::counters::{IGNORED_KEPT, read};
use crate::durable::HealthState;
use crate::published::ReadView;
use crate::service::view_health::ViewCondition;
use crate::source::Lag;
use crate::source::identity::verdict::IdentityFault;
use crate::telemetry;

/// `GET /api/tarn/v1/position`
pub(super) async fn position(
    State(app): State<Arc<App>>,
    Extension(query): Extension<Arc<Query>>,
) -> Result<Response, ApiError> {
    let view = instant::asked(&app, &query).await?;
    Ok(answer::answer(&app, &view, &json!({})))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PartitionJson {
    topic: Arc<str>,
    partition: i32,
    state: &'static str,
    next_offset: Option<i64>,
    start_offset: Option<i64>,
    end_offset: Option<i64>,
    lag: Option<i64>,
    held_by_transaction: i64,
    last_error: Option<String>,
    identity_fault: Option<&'static str>,
}

impl From<Lag> for PartitionJson {
    fn from(Lag { state, next_offset, lag }: Lag) -> Self {
        Self {
            topic: state.topic,
            partition: state.partition,
            state: state.phase.as_str(),
            next_offset,
            start_offset: state.start_offset,
            end_offset: state.end_offset,
            lag,
            held_by_transaction: state.held_by_transaction,
            last_error: state.last_error,
            identity_fault: state.identity_fault.map(IdentityFault::as_str),
        }
    }
}

/// `GET /api/tarn/v1/status`: beside the listener, since the rows of all views are counted for it.
pub(super) async fn status(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, ApiError> {
    let (reader, packing) = (Arc::clone(&app), Packing::accepted(&headers)?);
    app.admission.render(STATUS_BYTES, move || Ok(packing.pack(told(&reader)))).await
}

fn told(app: &App) -> Response {
    let service = &app.service;
    let view = service.publisher.view();
    let state = service.status.get();
    let mut families: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for (family, label, count) in service.counters.labelled() {
        families.entry(family).or_default().insert(label, count);
    }
    let partitions: Vec<PartitionJson> = state.lags(view.position()).into_iter().map(PartitionJson::from).collect();
    let troubles: Vec<_> = state
        .troubles
        .iter()
        .map(|(topic, trouble)| json!({"topic": topic, "state": trouble.phase.as_str(), "lastError": trouble.reason}))
        .collect();
    let arrangements: Vec<_> = view
        .holdings()
        .into_iter()
        .map(|(name, updates, batches)| json!({"name": name, "updates": updates, "batches": batches}))
        .collect();
    let behind = service.publisher.behind(Instant::now());
    let views: Vec<_> =
        service.view_conditions(&view).iter().map(|condition| view_json(condition, &view, behind)).collect();
    let content = json!({
        "ready": service.is_ready(),
        "ageMs": view.age().map(milliseconds),
        "startedAt": answer::moment(service.started_ms),
        "version": env!("CARGO_PKG_VERSION"),
        "workers": service.config.workers(),
        "sourceState": {
            "phase": state.phase.as_str(),
            "lastError": state.last_error,
            "lastHeardAt": (state.last_heard_ms > 0).then(|| answer::moment(state.last_heard_ms)),
            "partitions": partitions,
            "topicsInTrouble": troubles,
            "commitsFailed": state.commits_failed,
            "heartbeats": state.heartbeats.map(|beats| json!({
                "topic": beats.topic,
                "newestAt": beats.newest_ms.map(answer::moment),
                "newestAgeMs": beats.newest_ms.map(|newest_ms| now_ms().saturating_sub(newest_ms)),
            })),
            "rebuildingSince": state.rebuilds.running_since_ms.map(answer::moment),
            "rebuilds": state.rebuilds.finished,
            "goneInRebuilds": state.rebuilds.gone,
        },
        "counters": {
            "records": read(&service.counters.records),
            "epochsSealed": read(&service.counters.epochs_sealed),
            "letGoWithinTolerance": read(&service.counters.let_go_within_tolerance),
            "tombstonesExpired": read(&service.counters.tombstones_expired),
            "rejectedAgain": read(&service.counters.rejected_again),
            "quarantineEvicted": read(&service.counters.quarantine_evicted),
            "quarantineCleared": read(&service.counters.quarantine_cleared),
            "byReason": families,
        },
        "resubmissionsWaiting": service.resubmissions.queue().len(),
        "arrangements": arrangements,
        "views": views,
        "snapshots": service.snapshots.as_ref().map(|health| snapshots(&health.get())),
    });
    answer::answer(app, &view, &content)
}

/// How a view is.
fn view_json(condition: &ViewCondition, view: &ReadView, behind: Duration) -> serde_json::Value {
    let numbers = condition.numbers(view, behind);
    json!({
        "name": condition.name,
        "health": condition.health.as_str(),
        "problem": condition.problem,
        "rows": numbers.rows,
        "errors": numbers.errors,
        "bytesHeld": numbers.bytes,
        "lagMs": numbers.lag_ms,
    })
}

/// How snapshots go.
fn snapshots(health: &HealthState) -> serde_json::Value {
    json!({
        "epoch": health.epoch,
        "finishedAt": health.finished_ms.map(answer::moment),
        "generation": health.generation,
        "tookMs": health.took_ms,
        "rows": health.rows,
        "bytes": health.bytes,
        "taken": health.taken,
        "failed": health.failed,
        "lastError": health.last_error,
        "bindingsError": health.bindings_error,
    })
}

/// About what a status takes.
const STATUS_BYTES: usize = 64 * 1024;

/// About what one ignored event takes as JSON.
const IGNORED_BYTES: usize = 512;

/// `GET /api/tarn/v1/ignored`: newest first.
pub(super) async fn ignored(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let reader = Arc::clone(&app);
    app.admission.render(IGNORED_KEPT * IGNORED_BYTES, move || Ok(ignored_list(&reader))).await
}

fn ignored_list(app: &App) -> Response {
    let service = &app.service;
    let mut kept = service.ignored.newest_first();
    // Workers note theirs when they come to it; the epoch says when they happened.
    kept.sort_by_key(|ignored| std::cmp::Reverse((ignored.epoch, ignored.coordinates)));
    let items: Vec<_> = kept
        .into_iter()
        .map(|ignored| {
            let id_text = ignored.event_id_text.map(String::from);
            json!({
                "reason": ignored.reason.as_str(),
                "resourceId": ignored.id.map(|id| id.to_string()),
                "eventId": id_text.or_else(|| ignored.event_id.map(|id| id.to_string())),
                "topic": service.topics.name(ignored.coordinates.topic),
                "partition": ignored.coordinates.partition,
                "offset": ignored.coordinates.offset,
                "metAt": answer::moment(ignored.epoch),
            })
        })
        .collect();
    let view = service.publisher.view();
    answer::answer(app, &view, &json!({"items": items}))
}

/// `GET /livez`
pub(super) async fn livez() -> Response {
    axum::Json(json!({"status": "OK", "code": 200})).into_response()
}

/// What `/readyz` takes.
pub(super) const READY_PARAMETERS: &[Parameter] = &[Parameter {
    name: "maxAge",
    kind: Kind::Duration,
    many: false,
    summary: "How long ago what is shown may have been all that the log had, as far as was heard of it.",
}];

/// `GET /readyz`
pub(super) async fn readyz(State(app): State<Arc<App>>, Extension(query): Extension<Arc<Query>>) -> Response {
    if app.is_draining() {
        return ApiError::Unavailable("not ready: the service is stopping".to_owned()).into_response();
    }
    if app.service.is_ready() {
        return match query.duration("maxAge") {
            None => axum::Json(json!({"status": "OK", "code": 200})).into_response(),
            Some(age_max) => fresh(&app, age_max),
        };
    }
    let state = app.service.status.get();
    let why = match state.end_at_start {
        None => "the end of the log is not known yet",
        Some(end) if app.service.publisher.view().position().reached(&end) => "views are being made",
        Some(_) => "the log is not read to the end that it had at start",
    };
    ApiError::Unavailable(format!("not ready: the source is {}, {why}", state.phase.as_str())).into_response()
}

/// Whether what is shown is fresh enough. In a log where nothing happens it is so while the source hears of it, since an
/// epoch without events is sealed now and then; a source in trouble seals none that counts.
fn fresh(app: &App, age_max: Duration) -> Response {
    let view = app.service.publisher.view();
    let age = view.age();
    let age_ms = age.map(milliseconds);
    if age.is_some_and(|age| age <= age_max) {
        return axum::Json(json!({"status": "OK", "code": 200, "ageMs": age_ms})).into_response();
    }
    let state = app.service.status.get();
    let behind: i64 = state.lags(view.position()).iter().filter_map(|lag| lag.lag).sum();
    let why = match () {
        () if app.service.publisher.is_rebuilding() => "the state is made anew".to_owned(),
        () if state.phase.is_trouble() => format!("the source is {}", state.phase.as_str()),
        () if behind > 0 => format!("the log has {behind} records more"),
        () => "nothing newer has been shown".to_owned(),
    };
    let how_old = age_ms.map_or("never was all that the log had".to_owned(), |age_ms| format!("is {age_ms} ms old"));
    let message = format!("not fresh: what is shown {how_old}, and maxAge is {} ms: {why}", milliseconds(age_max));
    ApiError::Stale { message, age_ms }.into_response()
}

fn milliseconds(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// `GET /metrics`
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let handle = app.metrics.clone().ok_or_else(|| ApiError::NotFound("metrics are not recorded".to_owned()))?;
    // Beside the listener, which must not wait for a count of rows, and without a turn: it answers under any load.
    let exported = tokio::task::spawn_blocking(move || {
        telemetry::export(&app.service);
        app.streams.export();
        let mut text = handle.render();
        telemetry::write_histograms(&app.service, &mut text);
        text
    });
    let exported = exported.await.map_err(|_| ApiError::Internal)?;
    let content_type = (header::CONTENT_TYPE, "text/plain; version=0.0.4");
    Ok(([content_type], exported).into_response())
}
