//! HTTP: the table of routes, each with its scope, and the two listeners.
//!
//! Readers' routes are on the public listener; those of scope `admin` (metrics, the bytes of quarantined records) on a
//! second one, loopback by default. Handlers read the published view and render JSON; they never touch the dataflow.
//! Every answer says what instant it reflects (`answer`); every error has Kessel's shape (`error`).

mod answer;
mod error;
mod openapi;
mod operations;
mod quarantine;
mod query;
mod resources;
pub mod server;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::service::Service;
pub use error::ApiError;
pub use quarantine::{EntryJson, quarantine_json};
pub use resources::{ResourceJson, resource_json};

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Readers.
    Read,
    /// Operators.
    Admin,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// The path, as axum matches it.
    pub path: &'static str,
    /// Who may call it.
    pub scope: Scope,
    /// What it answers, for the API's description.
    pub summary: &'static str,
    /// The query parameters that it takes.
    pub parameters: &'static [&'static str],
}

/// What the handlers read.
#[derive(Clone)]
pub struct App {
    pub(crate) service: Service,
    pub(crate) metrics: Option<PrometheusHandle>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("App")
    }
}

impl App {
    /// The handlers' view of a service; `metrics` renders what was recorded.
    pub fn new(service: Service, metrics: Option<PrometheusHandle>) -> Arc<Self> {
        Arc::new(Self { service, metrics })
    }
}

type Handler = MethodRouter<Arc<App>>;

/// Every route there is.
pub fn routes() -> Vec<(Route, Handler)> {
    use Scope::{Admin, Read};
    let route = |path, scope, summary, parameters, handler| (Route { path, scope, summary, parameters }, handler);
    vec![
        route("/api/tarn/v1/resources/{id}", Read, "One live resource.", &[], get(resources::one)),
        route(
            "/api/tarn/v1/resources",
            Read,
            "A page of resources, in order of id.",
            resources::PARAMETERS,
            get(resources::list),
        ),
        route("/api/tarn/v1/position", Read, "How far the log is read and visible.", &[], get(operations::position)),
        route("/api/tarn/v1/status", Read, "Source, lag, counters, what is held.", &[], get(operations::status)),
        route(
            "/api/tarn/v1/quarantine",
            Read,
            "Rejected records, without their bytes.",
            quarantine::PARAMETERS,
            get(quarantine::list),
        ),
        route("/api/tarn/v1/quarantine/{id}", Admin, "One rejected record with its bytes.", &[], get(quarantine::one)),
        route("/api/tarn/v1/ignored", Read, "The last events that changed nothing.", &[], get(operations::ignored)),
        route("/livez", Read, "Whether the process answers.", &[], get(operations::livez)),
        route(
            "/readyz",
            Read,
            "Whether everything that the log had at start is visible.",
            &[],
            get(operations::readyz),
        ),
        route("/metrics", Admin, "Metrics for Prometheus.", &[], get(operations::metrics)),
        route("/openapi.json", Read, "This API, described.", &[], get(openapi::document)),
    ]
}

/// The router of a listener: readers' routes, or all of them for operators.
pub fn router(app: Arc<App>, scope: Scope) -> Router {
    let mut router = Router::new();
    for (route, handler) in routes() {
        if scope == Scope::Admin || route.scope == Scope::Read {
            router = router.route(route.path, handler);
        }
    }
    let limit = Arc::new(tokio::sync::Semaphore::new(app.service.config.http.requests_max));
    let shed = axum::middleware::from_fn_with_state(limit, shed_load);
    let router = router.fallback(no_route).method_not_allowed_fallback(no_method).layer(shed);
    router.layer(tower_http::catch_panic::CatchPanicLayer::custom(on_panic)).with_state(app)
}

async fn no_route(uri: Uri) -> ApiError {
    ApiError::NotFound(format!("there is nothing at {}; /openapi.json says what there is", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    ApiError::MethodNotAllowed(format!("{} takes GET, not {method}", uri.path()))
}

/// More requests at work than are allowed get an answer at once.
async fn shed_load(
    State(limit): State<Arc<tokio::sync::Semaphore>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    match limit.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => ApiError::Overloaded.into_response(),
    }
}

fn on_panic(_panic: Box<dyn std::any::Any + Send>) -> Response {
    metrics::counter!("tarn_http_panics_total").increment(1);
    tracing::error!("a request's handler panicked");
    let mut response = ApiError::Internal.into_response();
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
