//! How answers are made that cost more than a look-up: not at all where the client has them already, once for all who ask
//! for the same at the same instant, and packed as each wants it.
//!
//! In: what was asked ([`Asked`]), the instant, when the answer last changed ([`Mark`]), and what renders it. Whatever is
//! shared has the caller in its key. Nothing may be taken from a cache without asking here first (`Cache-Control:
//! no-cache`), also of an instant that is over: how things are is part of every answer. Not here: when something changed
//! (`published`), turns and bytes (`admission`).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use tokio::time::Instant;

use super::body::attach;
use super::encoding::{Packing, whole};
use super::flights::{Flights, Rendered};
use super::query::Query;
use super::tags::{IfNoneMatch, Mark, Tag};
use super::watched::Client;
use super::{ApiError, App, adhoc, answer};
use crate::model::Epoch;
use crate::published::ReadView;

/// On whose behalf a request is made. There is one kind of reader today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Caller {
    Reader,
}

/// What tells a request from all others, whatever instant and form its answer has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Request {
    caller: Caller,
    path: Box<str>,
    query: Vec<(String, String)>,
    media_type: &'static str,
}

/// What tells an answer from all others.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct AnswerKey {
    request: Request,
    packing: Packing,
    incarnation: u64,
    epoch: Epoch,
}

/// The answers that are being made, or sent.
pub(crate) type Answers = Arc<Flights<AnswerKey>>;

/// What a request says in its head of the answer that it wants, beside its parameters.
#[derive(Debug)]
pub(super) struct Asked {
    path: Box<str>,
    query: Arc<Query>,
    known: IfNoneMatch,
    packing: Result<Packing, ApiError>,
    client: Option<Client>,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self {
            path: parts.uri.path().into(),
            query: parts.extensions.get::<Arc<Query>>().cloned().unwrap_or_default(),
            known: IfNoneMatch::from_request_parts(parts, state).await?,
            packing: Packing::accepted(&parts.headers),
            client: parts.extensions.get::<Client>().cloned(),
        })
    }
}

/// Where an answer is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// On the threads of lists: it ends soon.
    Page,
    /// On those of queries in SQL, with their turns and their time: it may look at everything.
    Look,
}

/// An answer that is to be made.
pub(super) struct Making<M, R> {
    /// Of this media type, which is one of those that the client takes.
    pub(super) media_type: &'static str,
    /// Whether the client could have had another one.
    pub(super) varies: bool,
    /// About so long at most.
    pub(super) bytes: usize,
    /// Where.
    pub(super) work: Work,
    /// What it depends on; none where it says something else every time.
    pub(super) mark: M,
    /// Makes it. What it is given says whether nobody waits for it any more.
    pub(super) render: R,
}

/// The media type of most answers.
pub(super) const JSON: &str = "application/json";

impl Asked {
    /// Its parameters.
    pub(super) fn query(&self) -> &Query {
        &self.query
    }

    /// The answer at an instant.
    pub(super) async fn answer<M, R>(
        self,
        app: &Arc<App>,
        view: Arc<ReadView>,
        making: Making<M, R>,
    ) -> Result<Response, ApiError>
    where
        M: Fn(&App, &ReadView) -> Result<Option<Mark>, ApiError> + Send + 'static,
        R: FnOnce(&App, &ReadView, &dyn Fn() -> bool) -> Result<Response, ApiError> + Send + 'static,
    {
        let packing = self.packing?;
        let Making { media_type, varies, bytes, work, mark, render } = making;
        let query = self.query.named();
        let request = Request { caller: Caller::Reader, path: self.path, query, media_type };
        let vary = HeaderValue::from_static(if varies { "accept, accept-encoding" } else { "accept-encoding" });
        if !self.known.is_empty()
            && let Some(tag) = mark(app, &view)?.map(|mark| mark.tag(view.incarnation(), &request))
            && self.known.has(&tag)
        {
            return Ok(not_modified(app, &view, tag, Some(vary)));
        }
        let key = AnswerKey { request, packing, incarnation: view.incarnation(), epoch: view.epoch() };
        let (maker, at, request) = (Arc::clone(app), Arc::clone(&view), key.request.clone());
        let make = move |is_given_up: &dyn Fn() -> bool| {
            // Looked at before: what changes meanwhile makes another tag.
            let tag = mark(&maker, &at)?.map(|mark| mark.tag(at.incarnation(), &request));
            let mut response = render(&maker, &at, is_given_up)?;
            if response.status() == StatusCode::OK {
                response.headers_mut().insert(header::VARY, vary);
                tag.map(|tag| response.headers_mut().insert(header::ETAG, tag.into_value()));
            }
            Ok(packing.pack(response))
        };
        let until = Instant::now() + Duration::from_millis(app.service.config.http.queue_deadline_ms);
        let made = app.answers.share(key, until, made(Arc::clone(app), work, bytes, make));
        let (rendered, flight) = match work {
            Work::Page => made.await?,
            Work::Look => adhoc::until_left(self.client.as_ref(), async { Ok(made.await) }).await??,
        };
        if self.known.is_any()
            && let Some(tag) = rendered.headers.get(header::ETAG)
        {
            let vary = rendered.headers.get(header::VARY).cloned();
            return Ok(not_modified(app, &view, Tag::of_value(tag.clone()), vary));
        }
        let mut response = Response::new(Body::from(rendered.body.clone()));
        *response.status_mut() = rendered.status;
        *response.headers_mut() = rendered.headers.clone();
        Ok(attach(response, flight))
    }
}

/// An answer, made where such are made.
async fn made(
    app: Arc<App>,
    work: Work,
    bytes: usize,
    make: impl FnOnce(&dyn Fn() -> bool) -> Result<Response, ApiError> + Send + 'static,
) -> Result<Rendered, ApiError> {
    let (response, reserved) = match work {
        Work::Page => app.admission.rendered(bytes, move || make(&|| false)).await?,
        Work::Look => {
            let turn = adhoc::turn(&app).await?;
            let timeout = Duration::from_millis(app.service.config.query.timeout_ms);
            let looking = app.service.queries.look(make, timeout, turn);
            app.admission.reserved_for(bytes, async { looking.await? }).await?
        }
    };
    let (parts, body) = response.into_parts();
    Ok(Rendered { status: parts.status, headers: parts.headers, body: whole(body), _reserved: reserved })
}

/// The answer that the client has already, with the instant at which it was looked for.
pub(super) fn not_modified(app: &App, view: &ReadView, tag: Tag, vary: Option<HeaderValue>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag.into_value());
    headers.insert(header::CACHE_CONTROL, answer::NO_CACHE);
    vary.map(|vary| headers.insert(header::VARY, vary));
    metrics::counter!("tarn_http_not_modified_total").increment(1);
    answer::found_on(app, view, response)
}
