//! Records of the quarantine, submitted again: one by its id, or all that match, a page at a time.
//!
//! A record is made durable, read again, and then the answer says what became of it. 200: it is applied, or about
//! something else; 409: its resource has moved on since; 422: it cannot be read this time either, or the quarantine has
//! not all of its bytes; 202: it is submitted, but not visible within the time that a request waits. Not here: what makes
//! a record superseded (`dataflow::resubmission`).

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;

use super::quarantine::{after_page, id_of, page_start};
use super::query::{Kind, Parameter, Query};
use super::resources::{LIMIT, PAGE_TOKEN};
use super::{ApiError, App, answer};
use crate::dataflow::resubmission::Outcome;
use crate::model::{IgnoredReason, QuarantineEntry, QuarantineStatus, RejectReason, Topics};
use crate::published::QuarantineToken;
use crate::source::resubmitted::is_whole;

/// The parameters of the bulk.
pub(super) const PARAMETERS: &[Parameter] = &[
    Parameter { name: "reason", kind: Kind::Text, many: true, summary: "Why they were rejected." },
    LIMIT,
    PAGE_TOKEN,
];

/// A request waits so long for what it submitted to be visible.
const WAIT: Duration = Duration::from_secs(4);
/// How often it looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What became of an entry.
#[derive(Debug, Clone, Serialize)]
struct Become {
    id: String,
    outcome: Verdict,
    detail: String,
}

/// In one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Verdict {
    Applied,
    Skipped,
    Superseded,
    RejectedAgain,
    NotWhole,
    Pending,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Vec<Become>,
    next_page_token: Option<String>,
}

/// `POST /api/tarn/v1/quarantine/{id}/replay`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Ok(Path(id)) = path else { return Err(ApiError::Invalid("the id is not UTF-8".to_owned())) };
    let topics = &app.service.topics;
    let view = app.service.publisher.view();
    let entries = view.quarantine();
    let Some(entry) = entries.iter().find(|entry| id_of(entry.coordinates(), topics) == id) else {
        return Err(not_there(&app, &id));
    };
    let became = submit(&app, vec![Arc::clone(entry)]).await?;
    let Some(Become { id, outcome, detail }) = became.into_iter().next() else { return Err(ApiError::Internal) };
    let status = match outcome {
        Verdict::Applied | Verdict::Skipped => StatusCode::OK,
        Verdict::Pending => StatusCode::ACCEPTED,
        Verdict::Superseded => return Err(ApiError::Conflict(format!("{id}: {detail}"))),
        Verdict::RejectedAgain | Verdict::NotWhole => return Err(ApiError::Unprocessable(format!("{id}: {detail}"))),
    };
    let view = app.service.publisher.view();
    let mut answer = answer::answer(&app, &view, &Become { id, outcome, detail });
    *answer.status_mut() = status;
    Ok(answer)
}

/// `POST /api/tarn/v1/quarantine/replay`: a page of entries in the order of the list.
pub(super) async fn many(
    State(app): State<Arc<App>>,
    Extension(query): Extension<Arc<Query>>,
) -> Result<Response, ApiError> {
    let service = &app.service;
    let reasons = query.any_of("reason", str::to_owned);
    let unknown = reasons.iter().find(|reason| RejectReason::parse(reason).is_none());
    if let Some(unknown) = unknown {
        let known: Vec<&str> = RejectReason::ALL.iter().map(|reason| reason.as_str()).collect();
        return Err(ApiError::Invalid(format!("`reason` is {unknown:?}; known are {}", known.join(", "))));
    }
    let after = query.page_token(|text| QuarantineToken::decode(text, &service.token_key))?;
    let limit = query.limit(service.config.http.page_limit_max);
    let view = service.publisher.view();
    let entries = view.quarantine();
    let rest = &entries[page_start(&entries, after.as_ref(), &service.topics)?..];
    let matches = |entry: &&Arc<QuarantineEntry>| {
        reasons.is_empty() || reasons.iter().any(|one| one == entry.reject.reason.as_str())
    };
    let chosen: Vec<Arc<QuarantineEntry>> = rest.iter().filter(matches).take(limit).cloned().collect();
    let last = chosen.last().filter(|_| rest.iter().filter(matches).count() > limit);
    let next_page_token = last.map(|entry| after_page(entry, service));
    let items = submit(&app, chosen).await?;
    let view = app.service.publisher.view();
    Ok(answer::answer(&app, &view, &Page { items, next_page_token }))
}

/// Why there is no entry with this id.
fn not_there(app: &App, id: &str) -> ApiError {
    let mut parts = id.rsplitn(3, ':');
    let (offset, partition, topic) = (parts.next(), parts.next(), parts.next());
    let numbers =
        (offset.and_then(|text| text.parse::<i64>().ok()), partition.and_then(|text| text.parse::<i32>().ok()));
    let ((Some(offset), Some(partition)), Some(topic)) = (numbers, topic) else {
        return ApiError::Invalid(format!("the id is {id:?}; it must be topic:partition:offset"));
    };
    let view = app.service.publisher.view();
    match view.position().next_offset(topic, partition) {
        Some(next) if offset < next => ApiError::Conflict(format!(
            "{id} was read and is not in the quarantine: a newer event superseded it, it was submitted again, newer rejects pushed it out, or it \
             never was rejected"
        )),
        _ => ApiError::NotFound("quarantine entry not found".to_owned()),
    }
}

/// Submits entries again, as far as that has a sense, and waits for what becomes of them.
async fn submit(app: &Arc<App>, entries: Vec<Arc<QuarantineEntry>>) -> Result<Vec<Become>, ApiError> {
    let service = &app.service;
    if service.publisher.is_rebuilding() {
        let why = "the state is being made anew, and what is in the quarantine may be another thing then";
        return Err(ApiError::Unavailable(format!("nothing was submitted: {why}")));
    }
    let (topics, bytes_max) = (&service.topics, service.config.decode.reject_bytes_max);
    let mut became: Vec<Become> = entries.iter().map(|entry| before(entry, bytes_max, topics)).collect();
    let (places, submitted): (Vec<usize>, Vec<Arc<QuarantineEntry>>) =
        entries.into_iter().enumerate().filter(|(place, _)| became[*place].outcome == Verdict::Pending).unzip();
    if submitted.is_empty() {
        return Ok(became);
    }
    let resubmissions = service.resubmissions.clone();
    let written = tokio::task::spawn_blocking(move || resubmissions.submit(&submitted)).await;
    let numbers = written.map_err(|_| ApiError::Internal)?.map_err(|error| {
        tracing::error!(%error, "records could not be submitted again");
        ApiError::Unavailable(format!("nothing was submitted: {error}"))
    })?;
    tracing::info!(records = numbers.len(), "records of the quarantine were submitted again");
    let end = numbers.last().map_or(0, |last| last + 1);
    let until = Instant::now() + WAIT;
    let is_visible =
        || service.publisher.view().position().next_offset(Topics::RESUBMITTED, 0).is_some_and(|next| next >= end);
    while !is_visible() && Instant::now() < until {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    for (place, number) in places.into_iter().zip(numbers) {
        if let Some(outcome) = service.counters.resubmitted.of(number).filter(|_| is_visible()) {
            (became[place].outcome, became[place].detail) = told(&outcome);
        }
    }
    Ok(became)
}

/// What is known of an entry before it is submitted.
fn before(entry: &QuarantineEntry, bytes_max: usize, topics: &Topics) -> Become {
    let id = id_of(entry.coordinates(), topics);
    let (outcome, detail) = if entry.status == QuarantineStatus::PartlySuperseded {
        (Verdict::Superseded, "superseded: a newer event of its resource was applied since".to_owned())
    } else if !is_whole(&entry.reject, bytes_max, topics) {
        let total = entry.reject.total_bytes;
        let why = format!("not all of its {total} bytes were kept when it came (decode.reject_bytes_max)");
        (Verdict::NotWhole, why)
    } else {
        (Verdict::Pending, "submitted, and not visible yet".to_owned())
    };
    Become { id, outcome, detail }
}

/// An outcome in words.
fn told(outcome: &Outcome) -> (Verdict, String) {
    match outcome {
        Outcome::Applied(applied) => (Verdict::Applied, applied.as_str().to_owned()),
        Outcome::Skipped(reason) => (Verdict::Skipped, reason.as_str().to_owned()),
        Outcome::Ignored(IgnoredReason::Superseded) => {
            let why = "superseded: its resource had a newer event, or its entry went before it was its turn";
            (Verdict::Superseded, why.to_owned())
        }
        Outcome::Ignored(reason) => (Verdict::Superseded, format!("it changes nothing: {}", reason.as_str())),
        Outcome::RejectedAgain(reason, detail) => {
            (Verdict::RejectedAgain, format!("rejected again, {}: {detail}", reason.as_str()))
        }
    }
}
