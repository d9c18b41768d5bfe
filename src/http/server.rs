//! The accept loop: caps on connections, deadlines on bytes, and a bounded drain.
//!
//! `axum::serve` sets no deadline at all. Here a connection must send its first request's head within 10 s, a slow reader
//! must take bytes every 15 s, an idle one is closed after 60 s, headers are bounded, and one address cannot take all.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const WRITE_PROGRESS_TIMEOUT: Duration = Duration::from_secs(15);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const HEADERS_MAX: usize = 64;
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// The caps of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// At most this many connections.
    pub connections_max: usize,
    /// At most this many of one address.
    pub connections_per_address_max: usize,
}

/// Open connections, by address.
#[derive(Debug, Default)]
struct Connections(Mutex<HashMap<IpAddr, usize>>);

/// One counted connection; gone when dropped.
struct Counted {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    fn count(self: &Arc<Self>, address: IpAddr, caps: Caps) -> Option<Counted> {
        let mut open = self.0.lock().expect("no holder of the connection table panics");
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
        self.0.lock().expect("no holder of the connection table panics").is_empty()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.connections.0.lock().expect("no holder of the connection table panics");
        if let Some(here) = open.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Serves until `stop` turns true, then drains for a while.
pub async fn serve(listener: TcpListener, router: Router, caps: Caps, mut stop: watch::Receiver<bool>) {
    let connections = Arc::new(Connections::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Err(error) => {
                // Out of file descriptors, most likely: give the others time to close theirs.
                tracing::warn!(%error, "could not accept a connection");
                sleep(Duration::from_millis(50)).await;
            }
            Ok((stream, address)) => match connections.count(address.ip(), caps) {
                None => metrics::counter!("tarn_http_connections_refused_total").increment(1),
                Some(counted) => {
                    tokio::spawn(connection(stream, address, router.clone(), counted, stop.clone()));
                }
            },
        }
    }
    drop(listener);
    let drained = async {
        while !connections.is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!("connections were still open when the time to drain was over");
    }
}

/// Waits until `stop` turns true, or nobody can turn it any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
    counted: Counted,
    mut stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %address, "could not set TCP_NODELAY");
    }
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .keep_alive(true);
    let io = TokioIo::new(Watched::new(stream));
    let served = builder.serve_connection(io, TowerToHyperService::new(router));
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stopped(&mut stop) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, %address, "a connection ended early");
    }
    drop(counted);
}

/// A stream whose reads and writes must get on.
struct Watched {
    stream: TcpStream,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    fn new(stream: TcpStream) -> Self {
        Self { stream, reading: None, writing: None }
    }
}

/// Ends a wait that has lasted too long; clears the deadline once there is progress.
fn watch<T>(
    deadline: &mut Option<Pin<Box<Sleep>>>,
    allowed: Duration,
    polled: Poll<io::Result<T>>,
    context: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    if polled.is_ready() {
        *deadline = None;
        return polled;
    }
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
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        watch(&mut self.reading, IDLE_TIMEOUT, polled, context)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        watch(&mut self.writing, WRITE_PROGRESS_TIMEOUT, polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        watch(&mut self.writing, WRITE_PROGRESS_TIMEOUT, polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
