//! HTTP: two listeners, their routers, and what every request passes through.
//!
//! Readers' routes are on the public listener; those of scope `admin` (metrics, the bytes of quarantined records) on a
//! second one, loopback by default. Handlers read the published view and render JSON; they never touch the dataflow.
//! Every answer says what instant it reflects (`answer`); every error has Kessel's shape (`error`).
//!
//! From outside in: a connection (`server`, `watched`) · the instant's headers (`answer`) · ambiguous heads are refused
//! (`strict`) · panics become 500 · the route (`routes`) · load is shed (`admission`) · the query is checked (`query`) ·
//! the handler.

mod accept;
mod adhoc;
mod admission;
mod answer;
mod body;
mod difference;
mod duration;
mod encoding;
mod error;
mod explanation;
mod flights;
mod instant;
mod names;
mod openapi;
mod operations;
mod quarantine;
mod query;
mod read_points;
mod resource_json;
mod resources;
mod resubmission;
mod routes;
mod schemas;
pub mod server;
mod shared;
mod states;
pub mod streams;
mod strict;
mod tags;
mod views;
mod waiting;
mod watched;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::Request;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use futures_util::FutureExt;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Semaphore, watch};
use tower_service::Service as _;

use crate::service::Service;
use admission::{Admission, Places};
pub use error::ApiError;
pub use quarantine::{EntryJson, quarantine_json};
pub use query::{Kind, Parameter};
use read_points::ReadPoints;
pub use resource_json::write_resource;
pub use routes::{Route, Scope, Verb, routes};
use shared::Answers;

/// What the handlers read.
pub struct App {
    pub(crate) service: Service,
    pub(crate) metrics: Option<PrometheusHandle>,
    pub(crate) admission: Admission,
    /// Turns of ad-hoc queries.
    pub(crate) queries: Arc<Semaphore>,
    pub(crate) answers: Answers,
    pub(crate) streams: streams::Streams,
    /// The instants that are leased.
    pub(crate) read_points: Arc<ReadPoints>,
    draining: AtomicBool,
    /// The same, for those who wait.
    drained: watch::Sender<bool>,
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
        let queries = Arc::new(Semaphore::new(service.config.query.concurrent_max));
        let streams = streams::Streams::new(&service.config.streams);
        let read_points = ReadPoints::new(&service.config.history);
        Arc::new(Self {
            service,
            metrics,
            admission,
            queries,
            answers: Answers::default(),
            streams,
            read_points,
            draining: AtomicBool::new(false),
            drained: watch::Sender::new(false),
        })
    }

    /// Announces a stop: from now on `/readyz` says 503, every answer is the last of its connection, nobody waits, and
    /// streams end.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.drained.send_replace(true);
        self.streams.end();
    }

    /// Ends when a stop is announced.
    pub(crate) async fn drained(&self) {
        drop(self.drained.subscribe().wait_for(|drained| *drained).await);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// The routes of a listener, and what all its requests pass through.
///
/// One function around one router: layers of axum's would each box and copy every request.
#[derive(Clone)]
pub struct Routes {
    app: Arc<App>,
    router: Router,
    /// The paths of those that are sent something; they have no parameters.
    with_body: Arc<[&'static str]>,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Routes")
    }
}

impl Routes {
    /// Whether clients take too little of what is made for them.
    fn pressure(&self) -> admission::Pressure {
        self.app.admission.pressure()
    }

    /// Ends what would go on for ever.
    pub(crate) fn end_streams(&self) {
        self.app.streams.end();
    }

    /// The answer to a request. Heads that are ambiguous go no further; a handler that panics costs its request only;
    /// every answer tells its instant, and when the service stops, that it is the connection's last.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        let is_here = |path: &&str| *path == request.uri().path();
        let takes_body = request.method() == Method::POST && self.with_body.iter().any(is_here);
        let answer = match strict::refused(&request, takes_body) {
            Some(refused) => refused,
            None => match AssertUnwindSafe(self.router.clone().call(request)).catch_unwind().await {
                Ok(Ok(answer)) => answer,
                Ok(Err(never)) => match never {},
                Err(_panic) => {
                    metrics::counter!("tarn_http_panics_total").increment(1);
                    ApiError::Internal.into_response()
                }
            },
        };
        let mut answer = answer::telling_instant(&self.app, answer);
        if self.app.is_draining() {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

/// The routes of a listener: readers', or all of them for operators.
pub fn router(app: Arc<App>, scope: Scope) -> Routes {
    let http = &app.service.config.http;
    let limit_max = http.page_limit_max;
    let limit = Places::new(http.requests_max);
    let here: Vec<_> = routes::handled()
        .into_iter()
        .filter(|(route, _)| scope == Scope::Admin || route.scope == Scope::Read)
        .collect();
    let described: Vec<Route> = here.iter().map(|(route, _)| *route).collect();
    let with_body = described.iter().filter(|route| route.body.is_some()).map(|route| route.path).collect();
    let document = openapi::describe(&described, limit_max);
    let mut router = Router::new();
    for (route, handler) in here {
        let limit = route.counted.then(|| Arc::clone(&limit));
        let mut handler = handler(admission::Entry {
            verb: route.verb,
            limit,
            parameters: route.parameters,
            limit_max,
            always_queried: !route.is_look_up,
        });
        if route.schema == openapi::SCHEMA {
            handler = handler.layer(Extension(document.clone()));
        }
        router = router.route(route.path, handler);
    }
    let router = router.fallback(no_route).method_not_allowed_fallback(no_method).with_state(Arc::clone(&app));
    Routes { app, router, with_body }
}

async fn no_route(uri: Uri) -> ApiError {
    let shown: String = uri.path().chars().take(256).collect();
    ApiError::NotFound(format!("there is nothing at {shown}; /openapi.json says what there is"))
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    ApiError::MethodNotAllowed(format!("{} does not take {method}; /openapi.json says what it takes", uri.path()))
}
