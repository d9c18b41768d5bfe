//! HTTP: two listeners, their routers, and what every request passes through.
//!
//! Readers' routes are on the public listener; those of scope `admin` (metrics, the bytes of quarantined records) on a
//! second one, loopback by default. Handlers read the published view and render JSON; they never touch the dataflow.
//! Every answer says what instant it reflects (`answer`); every error has Kessel's shape (`error`).
//!
//! From outside in: a connection (`server`, `watched`) · the instant's headers (`answer`) · ambiguous heads are refused
//! (`strict`) · panics become 500 · the route (`routes`) · load is shed (`admission`) · the query is checked (`query`) ·
//! the handler.

mod admission;
mod answer;
mod body;
mod error;
mod openapi;
mod operations;
mod quarantine;
mod query;
mod resources;
mod routes;
mod schemas;
pub mod server;
mod strict;
mod watched;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;

use crate::service::Service;
use admission::Admission;
pub use error::ApiError;
pub use quarantine::{EntryJson, quarantine_json};
pub use query::{Kind, Parameter};
pub use resources::{ResourceJson, resource_json};
pub use routes::{Route, Scope, routes};

/// What the handlers read.
pub struct App {
    pub(crate) service: Service,
    pub(crate) metrics: Option<PrometheusHandle>,
    pub(crate) admission: Admission,
    pub(crate) named: ArcSwapOption<answer::Named>,
    draining: AtomicBool,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("App")
    }
}

impl App {
    /// The handlers' view of a service; `metrics` renders what was recorded.
    pub fn new(service: Service, metrics: Option<PrometheusHandle>) -> Arc<Self> {
        let admission = Admission::new(&service.config.http);
        Arc::new(Self { service, metrics, admission, named: ArcSwapOption::empty(), draining: AtomicBool::new(false) })
    }

    /// Announces a stop: from now on `/readyz` says 503, and every answer is the last of its connection.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// The router of a listener: readers' routes, or all of them for operators.
pub fn router(app: Arc<App>, scope: Scope) -> Router {
    let http = &app.service.config.http;
    let limit_max = http.page_limit_max;
    let limit = Arc::new(Semaphore::new(http.requests_max));
    let here: Vec<_> =
        routes().into_iter().filter(|(route, _)| scope == Scope::Admin || route.scope == Scope::Read).collect();
    let described: Vec<Route> = here.iter().map(|(route, _)| *route).collect();
    let document = openapi::describe(&described, limit_max);
    let mut router = Router::new();
    for (route, handler) in here {
        let limit = route.counted.then(|| Arc::clone(&limit));
        let entry = admission::Entry { limit, parameters: route.parameters, limit_max };
        let mut handler = handler.route_layer(from_fn_with_state(entry, admission::enter));
        if route.schema == openapi::SCHEMA {
            handler = handler.layer(Extension(document.clone()));
        }
        router = router.route(route.path, handler);
    }
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(tower_http::catch_panic::CatchPanicLayer::custom(on_panic))
        .layer(from_fn_with_state(Arc::clone(&app), answer::tell_instant))
        .with_state(app)
}

async fn no_route(uri: Uri) -> ApiError {
    let shown: String = uri.path().chars().take(256).collect();
    ApiError::NotFound(format!("there is nothing at {shown}; /openapi.json says what there is"))
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    ApiError::MethodNotAllowed(format!("{} takes GET, not {method}", uri.path()))
}

fn on_panic(_panic: Box<dyn std::any::Any + Send>) -> Response {
    metrics::counter!("tarn_http_panics_total").increment(1);
    ApiError::Internal.into_response()
}
