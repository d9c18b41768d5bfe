//! A stream whose reads and writes must get on.
//!
//! hyper's own timer knows one time for a head, which also runs while a connection is idle. Here the first byte of a
//! connection, and a head once it has begun, have deadlines of their own, and a reader must take bytes now and then. Whoever
//! answers slowly can ask whether the client is still there ([`Client`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::admission::Pressure;

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Until the first byte.
    pub first_byte: Duration,
    /// From the first byte of a request to the end of its head.
    pub head: Duration,
    /// From an answer to the end of the next request's head.
    pub idle: Duration,
    /// Until a reader takes some bytes of an answer.
    pub write_progress: Duration,
    /// The same while answers that nobody takes are most of what there may be.
    pub write_progress_pressed: Duration,
    /// From a stop to the end of the last answer.
    pub drain: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write_progress: Duration::from_secs(15),
            write_progress_pressed: Duration::from_secs(1),
            drain: Duration::from_secs(5),
        }
    }
}

/// What a connection's stream and its requests tell each other.
#[derive(Debug, Default)]
pub(super) struct Activity {
    begun: AtomicU64,
    at_work: AtomicUsize,
    /// Whether somebody wants to know when the client has closed its half.
    is_awaited: AtomicBool,
    has_left: AtomicBool,
}

/// Who has asked, for a handler that takes long.
#[derive(Debug, Clone)]
pub(super) struct Client(Arc<Activity>);

impl Client {
    /// Ends when the client has closed the connection, or its half of it, which cannot be told apart before there is an
    /// answer to be written.
    pub(super) async fn left(&self) {
        let _awaiting = Awaiting::begin(&self.0);
        std::future::poll_fn(|_| match self.0.has_left.load(Ordering::Relaxed) {
            true => Poll::Ready(()),
            // The stream is looked at each time that its connection's task runs, of which this is a part.
            false => Poll::Pending,
        })
        .await;
    }
}

/// Somebody awaits the end of a client.
struct Awaiting<'a>(&'a Activity);

impl<'a> Awaiting<'a> {
    fn begin(activity: &'a Activity) -> Self {
        activity.is_awaited.store(true, Ordering::Relaxed);
        Self(activity)
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.is_awaited.store(false, Ordering::Relaxed);
    }
}

/// One request at work, until its answer is written.
#[derive(Debug)]
pub(super) struct AtWork(Arc<Activity>);

impl Activity {
    /// A request's head is complete.
    pub(super) fn begin(self: &Arc<Self>) -> AtWork {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(Arc::clone(self))
    }

    /// Who has sent the request that is at work.
    pub(super) fn client(self: &Arc<Self>) -> Client {
        Client(Arc::clone(self))
    }

    /// Whether every request that came was answered.
    pub(super) fn is_idle(&self) -> bool {
        self.at_work.load(Ordering::Relaxed) == 0
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a read waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    FirstByte,
    /// The rest of a head that has begun, after so many requests.
    Head(u64),
    /// A request, an answer, a body.
    Other,
}

/// The stream.
pub(super) struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
    deadlines: Deadlines,
    awaited: Awaited,
    pressure: Pressure,
    reading: Option<Pin<Box<Sleep>>>,
    /// Since when the reader takes nothing, and when that is looked at again.
    writing: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Since when nothing is asked for.
    idle_since: Option<Instant>,
    /// Fires at the earliest when the connection may have been idle for too long. It is not set anew for every request,
    /// which would cost more than all else that a connection does; when it fires it is seen how long it really was.
    idling: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>, deadlines: Deadlines, pressure: Pressure) -> Self {
        Self {
            stream,
            activity,
            deadlines,
            pressure,
            awaited: Awaited::FirstByte,
            reading: None,
            writing: None,
            idle_since: None,
            idling: None,
        }
    }

    /// Notes that some bytes came.
    fn note_bytes(&mut self) {
        let begun = self.activity.begun.load(Ordering::Relaxed);
        let awaited = match self.awaited {
            Awaited::Head(before) if before == begun => return,
            _ if self.activity.is_idle() => Awaited::Head(begun),
            _ => Awaited::Other,
        };
        self.awaited = awaited;
        self.reading = None;
        self.idle_since = None;
    }

    /// Ends a connection on which nothing was asked for too long; while a request is at work it only looks again later.
    fn wait_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = Instant::now();
        let is_idle = self.activity.is_idle();
        let since = if is_idle { *self.idle_since.get_or_insert(now) } else { now };
        let until = since + self.deadlines.idle;
        let sleeping = self.idling.get_or_insert_with(|| Box::pin(sleep_until(until)));
        while sleeping.as_mut().poll(context).is_ready() {
            if is_idle && now >= until {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            sleeping.as_mut().reset(until);
        }
        Poll::Pending
    }

    /// How long a read may wait now.
    fn allowed(&mut self) -> Option<Duration> {
        match self.awaited {
            Awaited::FirstByte => Some(self.deadlines.first_byte),
            Awaited::Head(before) if before == self.activity.begun.load(Ordering::Relaxed) => Some(self.deadlines.head),
            _ => {
                self.awaited = Awaited::Other;
                self.reading = None;
                None
            }
        }
    }
}

/// Ends a wait that has lasted too long.
fn wait<T>(
    deadline: &mut Option<Pin<Box<Sleep>>>,
    allowed: Duration,
    context: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    let sleeping = deadline.get_or_insert_with(|| Box::pin(sleep(allowed)));
    match sleeping.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        Poll::Pending => Poll::Pending,
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready() {
            if buffer.filled().len() > filled {
                self.note_bytes();
            }
            return polled;
        }
        match self.allowed() {
            Some(allowed) => wait(&mut self.reading, allowed, context),
            None => self.wait_idle(context),
        }
    }
}

impl Watched {
    /// Looks whether the client has closed its half, if somebody wants to know: while a request is at work hyper does not.
    fn look_for_end(&mut self, context: &mut Context<'_>) {
        if !self.activity.is_awaited.load(Ordering::Relaxed) || self.activity.has_left.load(Ordering::Relaxed) {
            return;
        }
        let mut byte = [0];
        if let Poll::Ready(Ok(0) | Err(_)) = self.stream.poll_peek(context, &mut ReadBuf::new(&mut byte)) {
            self.activity.has_left.store(true, Ordering::Relaxed);
            context.waker().wake_by_ref();
        }
    }

    /// What a write's outcome means for its deadline.
    fn watch_write<T>(&mut self, polled: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.writing = None;
            return polled;
        }
        let Deadlines { write_progress: allowed, write_progress_pressed: pressed, .. } = self.deadlines;
        let look = pressed.min(allowed);
        let (since, sleeping) = self.writing.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(look))));
        while sleeping.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if *since + allowed <= now || self.pressure.is_high() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            sleeping.as_mut().reset((now + look).min(*since + allowed));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch_write(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watch_write(polled, context)
    }

    /// So that hyper queues an answer's bytes as they are, instead of copying them behind its head.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called whenever the connection's task runs, also with nothing to flush.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.look_for_end(context);
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.watch_write(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
