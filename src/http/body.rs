//! Answers that hold on to something until their last byte is taken.
//!
//! hyper drops a body once it has queued its bytes, not once they are written; a guard that stands for the memory of an
//! answer, or for a request at work, must therefore live in the bytes themselves. Layers attach guards to a response
//! ([`attach`]); the connection, through which every response goes last, puts all of them behind the bytes ([`hold`]).

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

/// What a response is to hold on to: the last guard with those before it. Never read, only dropped.
#[derive(Clone, Default)]
pub(super) struct Guards(Option<Arc<dyn Any + Send + Sync>>);

/// The same response, which holds on to `guard` until it is written, or thrown away.
pub(super) fn attach<G: Send + Sync + 'static>(mut response: Response, guard: G) -> Response {
    let guards = response.extensions_mut().get_or_insert_default::<Guards>();
    guards.0 = Some(match guards.0.take() {
        None => Arc::new(guard),
        Some(before) => Arc::new((before, guard)),
    });
    response
}

/// The same response; `guard`, and whatever was attached before, is dropped when the last of its bytes is written, or
/// thrown away with the connection.
pub(super) fn hold<G>(mut response: Response, guard: G) -> http::Response<Held<(Guards, G)>> {
    let attached = response.extensions_mut().remove::<Guards>().unwrap_or_default();
    response.map(|body| Held { body, guard: Arc::new((attached, guard)) })
}

/// A body whose bytes have a guard behind them. Of its own type, because one more of axum's would be one more box.
pub(super) struct Held<G> {
    body: Body,
    guard: Arc<G>,
}

/// Bytes with the guard behind them.
struct Guarded<G> {
    bytes: Bytes,
    _guard: Arc<G>,
}

impl<G> AsRef<[u8]> for Guarded<G> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<G: Send + Sync + 'static> HttpBody for Held<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let guarded = |bytes| Bytes::from_owner(Guarded { bytes, _guard: Arc::clone(&self.guard) });
        polled.map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(guarded))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
