//! Who is let in: requests at work, work on the answers, and bytes of answers, each bounded.
//!
//! A request is at work until its answer is made; until that is written its bytes count. Clients that do not read use
//! up the bytes of what costs more than a look-up, which then gets an early 503 with `Retry-After`, and are closed the
//! sooner for it ([`Pressure`]); look-ups have some of their own. Answers that cost more than a look-up are rendered on
//! threads beside those that accept and tell health, a few at a time; who waits longer than the deadline for a turn is sent
//! away. Bytes are reserved before they are rendered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::body::attach;
use super::query::{Parameter, Query};
use super::routes::Verb;
use super::watched::Client;
use super::{ApiError, App};
use crate::config::HttpSection;

/// Bytes are counted in these.
const UNIT_BYTES: usize = 1024;

/// This part of all bytes is for look-ups alone.
const LOOK_UPS_OF_ALL: usize = 8;
/// Less than this part being free is too little.
const PRESSED_BELOW: usize = 4;

/// Whether so much waits to be taken that others cannot be answered.
#[derive(Debug, Clone)]
pub(super) struct Pressure {
    bytes: Arc<Semaphore>,
    low: usize,
}

impl Pressure {
    pub(super) fn is_high(&self) -> bool {
        self.bytes.available_permits() < self.low
    }
}

/// The bounds that all requests share.
#[derive(Debug)]
pub(crate) struct Admission {
    bytes: Arc<Semaphore>,
    /// Those of look-ups alone.
    look_up_bytes: Arc<Semaphore>,
    pressure: Pressure,
    turns: Arc<Semaphore>,
    queue_deadline: Duration,
}

impl Admission {
    /// The bounds that a configuration sets.
    pub(crate) fn new(section: &HttpSection) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let all = section.response_bytes_max / UNIT_BYTES;
        let of_look_ups = all / LOOK_UPS_OF_ALL;
        let bytes = Arc::new(Semaphore::new(all - of_look_ups));
        Self {
            pressure: Pressure { bytes: Arc::clone(&bytes), low: (all - of_look_ups) / PRESSED_BELOW },
            bytes,
            look_up_bytes: Arc::new(Semaphore::new(of_look_ups)),
            turns: Arc::new(Semaphore::new(threads)),
            queue_deadline: Duration::from_millis(section.queue_deadline_ms),
        }
    }

    /// Until when a request that comes now may wait.
    fn deadline(&self) -> Instant {
        Instant::now() + self.queue_deadline
    }

    /// The deadline is asked for only where there is something to wait for: most never do, and a clock costs.
    async fn reserve(&self, bytes: usize, until: impl FnOnce() -> Instant) -> Result<OwnedSemaphorePermit, ApiError> {
        let units = units(bytes);
        match Arc::clone(&self.bytes).try_acquire_many_owned(units) {
            Ok(reserved) => Ok(reserved),
            Err(_) => {
                let reserved = timeout_at(until(), Arc::clone(&self.bytes).acquire_many_owned(units)).await;
                reserved.ok().and_then(Result::ok).ok_or(ApiError::Overloaded)
            }
        }
    }

    /// The answer, rendered on the spot already: as many at once as there are threads, each with one resource.
    pub(super) async fn admit(&self, answer: Response) -> Result<Response, ApiError> {
        let bytes = length(&answer);
        let reserved = match Arc::clone(&self.look_up_bytes).try_acquire_many_owned(units(bytes)) {
            Ok(reserved) => reserved,
            Err(_) => self.reserve(bytes, || self.deadline()).await?,
        };
        Ok(attach(answer, reserved))
    }

    /// How much there is that nobody takes.
    pub(super) fn pressure(&self) -> Pressure {
        self.pressure.clone()
    }

    /// The answer of `render`, run on a thread for such work when it is its turn; about `bytes` long at most.
    pub(super) async fn render(
        &self,
        bytes: usize,
        render: impl FnOnce() -> Result<Response, ApiError> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let (response, reserved) = self.rendered(bytes, render).await?;
        Ok(attach(response, reserved))
    }

    /// The same, with what it takes of the bytes of all answers, which somebody must hold until it is sent.
    pub(super) async fn rendered(
        &self,
        bytes: usize,
        render: impl FnOnce() -> Result<Response, ApiError> + Send + 'static,
    ) -> Result<(Response, OwnedSemaphorePermit), ApiError> {
        let until = self.deadline();
        let reserved = self.reserve(bytes, || until).await?;
        let turn = timeout_at(until, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or(ApiError::Overloaded)?;
        let rendered = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            render()
        });
        Ok(self.needing(looked(rendered.await)??, reserved))
    }

    /// What `look` finds, on a thread for such work when it is its turn: for what takes longer than a look-up and makes no
    /// answer.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = timeout_at(self.deadline(), Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or(ApiError::Overloaded)?;
        let looking = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            look()
        });
        looked(looking.await)
    }

    /// What `work` makes, about `bytes` long at most, on a thread for such work when it is its turn: for those that wait
    /// however long that takes. The bytes are reserved for as long as the permit is held.
    pub(super) async fn patiently<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<(T, OwnedSemaphorePermit)> {
        let reserved = Arc::clone(&self.bytes).acquire_many_owned(units(bytes)).await.ok()?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let made = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        looked(made.await).ok().map(|made| (made, reserved))
    }

    /// The answer that `rendering` comes to, which has turns of its own; about `bytes` long at most.
    pub(super) async fn reserved_for(
        &self,
        bytes: usize,
        rendering: impl Future<Output = Result<Response, ApiError>>,
    ) -> Result<(Response, OwnedSemaphorePermit), ApiError> {
        let reserved = self.reserve(bytes, || self.deadline()).await?;
        Ok(self.needing(rendering.await?, reserved))
    }

    /// The response with what it really needs of the reservation.
    fn needing(&self, response: Response, mut reserved: OwnedSemaphorePermit) -> (Response, OwnedSemaphorePermit) {
        let needed = units(length(&response)) as usize;
        let excess = reserved.num_permits().saturating_sub(needed);
        drop(reserved.split(excess));
        let lacking = needed.saturating_sub(reserved.num_permits());
        if lacking > 0 {
            // It is rendered already, so it is sent although one record was longer than its page's budget.
            let more = Arc::clone(&self.bytes).try_acquire_many_owned(u32::try_from(lacking).unwrap_or(u32::MAX));
            if let Ok(more) = more {
                reserved.merge(more);
            }
        }
        (response, reserved)
    }
}

/// What a thread came to.
fn looked<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, ApiError> {
    result.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // Only a runtime that is shutting down throws work away.
        Err(_) => ApiError::Unavailable("the service is stopping".to_owned()),
    })
}

/// How long a body is whose length is known.
fn length(response: &Response) -> usize {
    let length = axum::body::HttpBody::size_hint(response.body()).exact().unwrap_or(0);
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// So many bytes, counted.
fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

/// How many requests may be at work. Nobody waits for a place, so it is a counter and no queue.
#[derive(Debug)]
pub(super) struct Places {
    taken: AtomicUsize,
    max: usize,
}

/// One place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), max })
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// A place, if one is free.
    pub(super) fn take(self: Arc<Self>) -> Option<Place> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        // Given back at once by its drop where it was one too many.
        let place = Place(self);
        (before < place.0.max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request of a route must pass.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) verb: Verb,
    /// How many requests may be at work; none where any number may.
    pub(super) limit: Option<Arc<Places>>,
    pub(super) parameters: &'static [Parameter],
    pub(super) limit_max: usize,
    /// Whether the handler is given a query where there is none.
    pub(super) always_queried: bool,
}

/// A handler behind its entry: more requests at work than are allowed are sent away at once, and the query is checked
/// before the handler runs.
pub(super) fn entered<T: 'static, H: Handler<T, Arc<App>>>(entry: Entry, handler: H) -> MethodRouter<Arc<App>> {
    let filter = match entry.verb {
        Verb::Get => MethodFilter::GET,
        Verb::Post => MethodFilter::POST,
    };
    on(filter, move |State(app): State<Arc<App>>, mut request: Request| async move {
        let place = entry.limit.map(Places::take);
        if matches!(place, Some(None)) {
            metrics::counter!("tarn_http_requests_shed_total").increment(1);
            return ApiError::Overloaded.into_response();
        }
        let response = match Query::parse(request.uri().query(), entry.parameters, entry.limit_max) {
            Err(error) => error.into_response(),
            Ok(query) => {
                if !query.is_empty() || (entry.always_queried && !entry.parameters.is_empty()) {
                    let query = query.of(request.extensions().get::<Client>().cloned());
                    request.extensions_mut().insert(Arc::new(query));
                }
                handler.call(request, app).await
            }
        };
        // What is not written yet counts by its bytes.
        drop(place);
        response
    })
}
