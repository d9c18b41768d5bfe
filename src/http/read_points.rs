//! Read points: the instants that are leased, so that several reads are answered at exactly one.
//!
//! A lease holds on to its read view, whose batches nothing changes, for so long and no longer; there are only so many. It
//! is held in memory alone: after a restart it is gone, as it is when its time is over. `at` with it asks for its instant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use tokio::task::AbortHandle;

use super::query::{Kind, Parameter, Query};
use super::{ApiError, App, answer, instant};
use crate::clock::now_ms;
use crate::config::HistorySection;
use crate::published::ReadView;

/// How long a lease is when nothing is said, or as long as one may be.
const TTL_DEFAULT: Duration = Duration::from_secs(60);

/// The parameters of a lease.
pub(super) const PARAMETERS: &[Parameter] = {
    const TTL: Parameter = Parameter {
        name: "ttl",
        kind: Kind::Duration,
        many: false,
        summary: "How long the instant is kept, such as `60s`, which is the default; at most `history.read_point_ttl_max_ms`.",
    };
    const ALL: [Parameter; instant::TO_BE_LEASED.len() + 1] = {
        let [consistency, token, after, as_of, timeout] = instant::TO_BE_LEASED;
        [TTL, consistency, token, after, as_of, timeout]
    };
    &ALL
};

/// The leases.
#[derive(Debug)]
pub(crate) struct ReadPoints {
    leases: Mutex<HashMap<String, Lease>>,
    leases_max: usize,
    ttl_max: Duration,
}

#[derive(Debug)]
struct Lease {
    view: Arc<ReadView>,
    expires_ms: u64,
    /// Ends it when its time is over.
    expiry: AbortHandle,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.expiry.abort();
    }
}

impl ReadPoints {
    pub(super) fn new(section: &HistorySection) -> Arc<Self> {
        let ttl_max = Duration::from_millis(section.read_point_ttl_max_ms);
        Arc::new(Self { leases: Mutex::default(), leases_max: section.read_points_max, ttl_max })
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<String, Lease>> {
        self.leases.lock().expect("nobody panics with the leases")
    }

    /// Leases an instant; its id, and until when.
    fn lease(self: &Arc<Self>, view: Arc<ReadView>, ttl: Duration) -> Result<(String, u64), ApiError> {
        let mut leases = self.leases();
        if leases.len() >= self.leases_max {
            let first = leases.values().map(|lease| lease.expires_ms).min().map(answer::moment).unwrap_or_default();
            let why = format!(
                "{} instants are leased, which is as many as may be; the first is free at {first}",
                leases.len()
            );
            return Err(ApiError::Unavailable(why));
        }
        // So long that nobody guesses one.
        let id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
        let expires_ms = now_ms().saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let expiry = tokio::spawn(expire(Arc::downgrade(self), id.clone(), ttl)).abort_handle();
        leases.insert(id.clone(), Lease { view, expires_ms, expiry });
        Ok((id, expires_ms))
    }

    fn find<T>(&self, id: &str, look: impl FnOnce(&Lease) -> T) -> Result<T, ApiError> {
        self.leases().get(id).map(look).ok_or_else(over)
    }

    /// The instant of a lease.
    pub(super) fn view(&self, id: &str) -> Result<Arc<ReadView>, ApiError> {
        self.find(id, |lease| Arc::clone(&lease.view))
    }
}

fn over() -> ApiError {
    let message = "there is no such read point: its time is over, it was released, or the service was restarted; lease \
                   another one with POST /api/tarn/v1/read-points";
    ApiError::Gone { message: message.to_owned(), history_since: None }
}

async fn expire(points: Weak<ReadPoints>, id: String, ttl: Duration) {
    tokio::time::sleep(ttl).await;
    let Some(points) = points.upgrade() else { return };
    let lease = points.leases().remove(&id);
    // Not under the lock: it may be the last that holds on to much.
    drop(lease);
}

/// What is said of a lease, beside its instant.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LeaseJson {
    at: String,
    expires_at: String,
}

fn told(app: &App, view: &ReadView, at: String, expires_ms: u64) -> Response {
    answer::answer(app, view, &LeaseJson { at, expires_at: answer::moment(expires_ms) })
}

/// `POST /api/tarn/v1/read-points`
pub(super) async fn lease(
    State(app): State<Arc<App>>,
    Extension(query): Extension<Arc<Query>>,
) -> Result<Response, ApiError> {
    let ttl_max = app.read_points.ttl_max;
    let ttl = query.duration("ttl").unwrap_or(TTL_DEFAULT.min(ttl_max));
    if ttl > ttl_max {
        let why = format!("`ttl` is {} ms; it must be at most {} ms", ttl.as_millis(), ttl_max.as_millis());
        return Err(ApiError::Invalid(why));
    }
    let view = instant::asked(&app, &query).await?;
    let (at, expires_ms) = app.read_points.lease(Arc::clone(&view), ttl)?;
    let mut response = told(&app, &view, at, expires_ms);
    *response.status_mut() = StatusCode::CREATED;
    app.admission.admit(response).await
}

fn id_of(path: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    path.map(|Path(id)| id).map_err(|_| ApiError::Invalid("the id is not UTF-8".to_owned()))
}

/// `GET /api/tarn/v1/read-points/{id}`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let id = id_of(path)?;
    let (view, expires_ms) = app.read_points.find(&id, |lease| (Arc::clone(&lease.view), lease.expires_ms))?;
    app.admission.admit(told(&app, &view, id, expires_ms)).await
}

/// `POST /api/tarn/v1/read-points/{id}/release`
pub(super) async fn release(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let id = id_of(path)?;
    let lease = app.read_points.leases().remove(&id).ok_or_else(over)?;
    let response = told(&app, &lease.view, id, now_ms());
    drop(lease);
    app.admission.admit(response).await
}
