//! `tarn serve` and `tarn demo`: the process around the service, from its listeners to its end.
//!
//! Promises: a signal, the given time or a source that fails begin an orderly end: the stop is announced, requests at
//! work are answered, what was read is sealed; all of it within bounds. A second signal ends the process at once.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use metrics_exporter_prometheus::PrometheusHandle;
use tarn::config::Config;
use tarn::dataflow::IngestEnd;
use tarn::http::server::serve;
use tarn::http::{App, Scope, router};
use tarn::service::{Running, Service, Time};
use tarn::source::SourceError;
use tarn::telemetry;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{SECOND_SIGNAL, in_child, open_files};

/// A store that takes longer to verify hangs.
const VERIFY_TIME_MAX: Duration = Duration::from_secs(600);
/// How often the ingest is looked at.
const INGEST_LOOK: Duration = Duration::from_millis(10);
/// How long the ingest may take to seal what it has.
const INGEST_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until a signal comes, the time is over, or the source fails.
pub(super) fn until_stopped(config: Config, at_most: Option<Duration>, demo: bool) -> Result<()> {
    telemetry::start_logging(&config.log).map_err(anyhow::Error::msg)?;
    let metrics = telemetry::start_metrics().context("could not set up metrics")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("tarn-http")
        .enable_all()
        .build()
        .context("could not start the HTTP threads")?;
    let result = runtime.block_on(async {
        // Before anybody can know that the process runs, and stop it.
        let signals = Signals::listen()?;
        let listener = bind(config.http.listen).await?;
        let admin = bind(config.http.admin_listen).await?;
        let (service, running) = tarn::service::start(config, Time::Wall, in_child(VERIFY_TIME_MAX)?)?;
        let mut ingest = IngestThread { running: Some(running), end: None };
        let end = Box::pin(wait_for_the_end(signals, &mut ingest, at_most));
        let served = serve_both(&service, (listener, admin), metrics, demo, end).await;
        let ended = ingest.stop().await;
        served.and(ended)
    });
    // Work on answers that nobody waits for any more is not waited for either.
    runtime.shutdown_timeout(Duration::from_millis(100));
    let end = result?;
    tracing::info!(epoch = end.last_epoch, "stopped");
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("could not listen on {address}"))
}

async fn serve_both(
    service: &Service,
    (listener, admin): (TcpListener, TcpListener),
    metrics: PrometheusHandle,
    demo: bool,
    end: impl Future<Output = Result<()>>,
) -> Result<()> {
    let (address, admin_address) = (listener.local_addr()?, admin.local_addr()?);
    tracing::info!(%address, %admin_address, workers = service.config.workers(), "serving");
    let (caps, admin_caps) = open_files::caps(&service.config.http);
    tokio::spawn(upkeep(metrics.clone()));
    let app = App::new(service.clone(), Some(metrics));
    let (stop, stopped) = watch::channel(false);
    let readers = tokio::spawn(serve(listener, router(Arc::clone(&app), Scope::Read), caps, stopped.clone()));
    let operators = tokio::spawn(serve(admin, router(Arc::clone(&app), Scope::Admin), admin_caps, stopped));
    if demo {
        greet(service.clone(), address, admin_address)?;
    }
    let end = end.await;
    app.drain();
    // Whoever balances load sees it, and whoever is connected is told with the next answer.
    tokio::time::sleep(Duration::from_millis(service.config.http.drain_ms)).await;
    stop.send_replace(true);
    readers.await?;
    operators.await?;
    end
}

/// The ingest, looked at while serving.
struct IngestThread {
    running: Option<Running>,
    end: Option<IngestEnd>,
}

impl IngestThread {
    /// Notes an ingest that has ended; whether by a fault.
    fn look(&mut self) -> Result<(), SourceError> {
        if let Some(ended) = self.running.take_if(|running| running.has_ended()) {
            self.end = Some(ended.join()?);
        }
        Ok(())
    }

    /// Returns when the source fails. One that ends well, as a log does, is served on.
    async fn failure(&mut self) -> SourceError {
        while self.running.is_some() {
            if let Err(error) = self.look() {
                return error;
            }
            tokio::time::sleep(INGEST_LOOK).await;
        }
        tracing::info!("the source has ended; what it brought is served");
        std::future::pending().await
    }

    /// Has the ingest seal what it read, and waits for that.
    async fn stop(mut self) -> Result<IngestEnd> {
        let until = Instant::now() + INGEST_STOP_TIMEOUT;
        while let Some(running) = &self.running {
            running.stop();
            if Instant::now() > until {
                bail!("the ingest did not end within {INGEST_STOP_TIMEOUT:?}");
            }
            self.look()?;
            tokio::time::sleep(INGEST_LOOK).await;
        }
        self.end.context("the ingest ended early")
    }
}

/// The signals that ask for an end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Waits for a signal, the time that was given, or the source's failure; from then on a signal ends the process at once.
async fn wait_for_the_end(mut signals: Signals, ingest: &mut IngestThread, at_most: Option<Duration>) -> Result<()> {
    let give_up = async {
        match at_most {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let (why, failure) = tokio::select! {
        signal = signals.next() => (signal, None),
        () = give_up => ("the time is over", None),
        error = ingest.failure() => ("the source failed", Some(error)),
    };
    // Before anything else, even before a word of it is logged.
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(SECOND_SIGNAL);
    });
    tracing::info!("{why}: draining");
    failure.map_or(Ok(()), |error| Err(anyhow::Error::new(error).context(why)))
}

/// Keeps what the histograms hold in order, as whoever builds the recorder must.
async fn upkeep(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(telemetry::UPKEEP_INTERVAL).await;
        metrics.run_upkeep();
    }
}

/// What a person who runs the demo is told, once there is something to see. On a thread of its own: standard output may
/// hang.
fn greet(service: Service, address: SocketAddr, admin: SocketAddr) -> Result<()> {
    let statuses = service.views.statuses();
    let view = statuses.first().map(|status| format!("/{}?limit=2", status.name)).unwrap_or_default();
    let text = format!(
        "Tarn serves a generated, live Kessel inventory at http://{address} (operators: http://{admin})\n\nTry:\n  \
         curl -s 'http://{address}/api/tarn/v1/resources?resourceType=k8s_cluster&limit=2'\n  \
         curl -s 'http://{address}/api/tarn/v1/views{view}'\n  \
         curl -s 'http://{address}/api/tarn/v1/query' -d '{{\"sql\": \"SELECT count(*) AS hosts FROM host\"}}'\n  \
         curl -s 'http://{address}/api/tarn/v1/status'\n  \
         curl -s 'http://{address}/api/tarn/v1/quarantine?limit=2'\n"
    );
    let say = move || {
        while !service.is_ready() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut out = std::io::stdout().lock();
        // Nobody may be reading; the service runs all the same.
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    };
    std::thread::Builder::new().name("tarn-greet".to_owned()).spawn(say).context("could not start a thread")?;
    Ok(())
}
