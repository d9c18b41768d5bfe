//! Bodies that hold on to something until their last byte is taken.
//!
//! hyper drops a body once it has queued its bytes, not once they are written; a guard that stands for the memory of an
//! answer, or for a request at work, must therefore live in the bytes themselves.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

/// The same body; `guard` is dropped when the last of its bytes is written, or thrown away with the connection.
pub(super) fn hold<G: Send + Sync + 'static>(body: Body, guard: G) -> Body {
    Body::new(Held { body, guard: Arc::new(guard) })
}

struct Held<G> {
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
