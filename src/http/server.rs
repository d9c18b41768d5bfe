//! The accept loop: caps on connections, deadlines on bytes, and a bounded drain.
//!
//! `axum::serve` sets no deadline at all. Here a connection must send its first byte and then its first request's head
//! within 10 s each, a slow reader must take bytes every 15 s (1 s where too many do not), an idle one is closed after 60 s ([`Deadlines`]), heads
//! are bounded, and one address cannot take all. A stop lets the requests at work end; it waits for nothing else.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, Uri, header};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Routes;
use super::body::{Guards, Held, hold};
pub use super::watched::Deadlines;
use super::watched::{Activity, AtWork, Watched};

const HEADERS_MAX: usize = 64;
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// At a stop, a connection without a request may still send the one that is on its way.
const LINGER: Duration = Duration::from_millis(100);
/// How often a failing accept is told of.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// A refused request is read on for so long and so far, so that its sender sees the answer and no reset.
const REFUSED_LINGER: Duration = Duration::from_millis(500);
const REFUSED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The caps of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// At most this many connections.
    pub connections_max: usize,
    /// At most this many of one address.
    pub connections_per_address_max: usize,
}

/// Open connections, by address, and what they all look at.
#[derive(Debug, Default)]
struct Connections {
    open: Mutex<HashMap<IpAddr, usize>>,
    stopping: AtomicBool,
}

/// One counted connection; gone when dropped.
struct Counted {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    fn count(self: &Arc<Self>, address: IpAddr, caps: Caps) -> Option<Counted> {
        let mut open = self.open.lock().expect("no holder of the connection table panics");
        if open.values().sum::<usize>() >= caps.connections_max {
            return None;
        }
        let here = open.entry(address).or_insert(0);
        if *here >= caps.connections_per_address_max {
            return None;
        }
        *here += 1;
        Some(Counted { connections: Arc::clone(self), address })
    }

    fn is_empty(&self) -> bool {
        self.open.lock().expect("no holder of the connection table panics").is_empty()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().expect("no holder of the connection table panics");
        if let Some(here) = open.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Serves until `stop` turns true, then drains for a while.
pub async fn serve(listener: TcpListener, routes: Routes, caps: Caps, stop: watch::Receiver<bool>) {
    serve_within(listener, routes, caps, Deadlines::default(), stop).await;
}

/// The same with deadlines of one's own.
pub async fn serve_within(
    listener: TcpListener,
    routes: Routes,
    caps: Caps,
    deadlines: Deadlines,
    stop: watch::Receiver<bool>,
) {
    let connections = Arc::new(Connections::default());
    let mut failures = Failures::default();
    let accept = |stream: TcpStream, address: SocketAddr| match connections.count(address.ip(), caps) {
        None => metrics::counter!("tarn_http_connections_refused_total").increment(1),
        Some(counted) => {
            tokio::spawn(connection(stream, address, routes.clone(), counted, deadlines, stop.clone()));
        }
    };
    let mut stopping = stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stopping) => break,
        };
        match accepted {
            Ok((stream, address)) => accept(stream, address),
            Err(error) => {
                failures.note(&error);
                // Out of file descriptors, most likely: give the others time to close theirs.
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.stopping.store(true, Ordering::Release);
    routes.end_streams();
    // Who connected before the stop is served.
    while let Ok(Ok((stream, address))) = timeout(Duration::ZERO, listener.accept()).await {
        accept(stream, address);
    }
    drop(listener);
    let drained = async {
        while !connections.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(deadlines.drain, drained).await.is_err() {
        tracing::warn!("connections were still open when the time to drain was over");
    }
}

/// Accepts that failed, told of now and then.
#[derive(Default)]
struct Failures {
    told: Option<Instant>,
    untold: u64,
}

impl Failures {
    fn note(&mut self, error: &io::Error) {
        metrics::counter!("tarn_http_accept_errors_total").increment(1);
        self.untold += 1;
        if self.told.is_none_or(|told| told.elapsed() >= WARNING_INTERVAL) {
            tracing::warn!(%error, times = self.untold, "could not accept connections");
            *self = Self { told: Some(Instant::now()), untold: 0 };
        }
    }
}

/// Waits until `stop` turns true, or nobody can turn it any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    routes: Routes,
    counted: Counted,
    deadlines: Deadlines,
    mut stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %address, "could not set TCP_NODELAY");
    }
    let activity = Arc::new(Activity::default());
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity), deadlines, routes.pressure()));
    let mut builder = http1::Builder::new();
    builder
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        // Who has sent a request and closed its half still waits for the answer.
        .half_close(true)
        .keep_alive(true);
    let requests = requests(routes, Arc::clone(&activity), Arc::clone(&counted.connections));
    let mut served = builder.serve_connection(io, service_fn(requests));
    // In a set, so that it is polled when it is woken and not with every byte: all connections wait behind one lock.
    let mut stop: FuturesUnordered<_> = std::iter::once(stopped(&mut stop)).collect();
    let until_stopped = tokio::select! {
        result = &mut served => Some(result),
        _ = stop.next() => timeout(LINGER, &mut served).await.ok(),
    };
    let result = match until_stopped {
        Some(result) => result,
        // Nothing is at work: half a head is waited for no longer.
        None if activity.is_idle() => Ok(()),
        None => {
            Pin::new(&mut served).graceful_shutdown();
            (&mut served).await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, %address, "a connection ended early");
        if error.is_parse() || error.is_parse_too_large() {
            let rest = served.into_parts().io.into_inner().take(REFUSED_BYTES_MAX);
            drop(timeout(REFUSED_LINGER, tokio::io::copy(&mut { rest }, &mut tokio::io::sink())).await);
        }
    }
    drop(counted);
}

/// An answer on its way, with all that it holds on to.
type Answered = Result<Response<Held<(Guards, AtWork)>>, Infallible>;

/// What a connection does with its requests: each counts as at work until its answer is written, and the answer says so
/// if it is the last.
fn requests(
    routes: Routes,
    activity: Arc<Activity>,
    connections: Arc<Connections>,
) -> impl Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
    let here = Arc::new((routes, connections));
    move |mut request| {
        let at_work = activity.begin();
        // Nothing else takes so long that it would want to know: SQL is sent, another order is asked for in a query, and
        // what changed has a path of its own.
        let is_long = |uri: &Uri| uri.query().is_some() || uri.path().ends_with("/diff");
        if request.method() == Method::POST || is_long(request.uri()) {
            request.extensions_mut().insert(activity.client());
        }
        let here = Arc::clone(&here);
        Box::pin(async move {
            let (routes, connections) = &*here;
            let mut response = routes.answer(request.map(Body::new)).await;
            if connections.stopping.load(Ordering::Acquire) {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(hold(response, at_work))
        })
    }
}
