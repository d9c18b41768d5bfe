//! Subcommands: serve, demo, replay, generate, check.

mod generate;
mod replay;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use tarn::config::{Config, SourceKind};
use tarn::http::server::{Caps, serve};
use tarn::http::{App, Scope, router};
use tarn::service::{Running, Service};
use tarn::telemetry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tarn keeps the current state of every Kessel resource, milliseconds behind the log.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service.
    Serve(ServeArguments),
    /// Runs the service on an embedded, live, generated stream.
    Demo(DemoArguments),
    /// Folds a log as fast as it goes and reports.
    Replay(replay::Arguments),
    /// Writes a generated log.
    Generate(generate::Arguments),
    /// Checks a configuration without a server.
    Check(ServeArguments),
}

#[derive(Debug, Args)]
struct ServeArguments {
    /// The configuration; defaults and environment without one.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct DemoArguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: std::net::SocketAddr,
    /// Where operators connect.
    #[arg(long, default_value = "127.0.0.1:8081")]
    admin_listen: std::net::SocketAddr,
    /// Events a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// How many resources there are.
    #[arg(long, default_value_t = 10_000)]
    resources: usize,
    /// Stop after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
}

/// Does what the arguments say.
pub fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Serve(arguments) => {
            let config = Config::load(arguments.config.as_deref(), std::env::vars())?;
            serve_until_stopped(config, None, false)
        }
        Command::Check(arguments) => {
            let config = Config::load(arguments.config.as_deref(), std::env::vars())?;
            println!("the configuration is valid: source {:?}, {} workers", config.source.kind, config.workers());
            Ok(())
        }
        Command::Demo(arguments) => {
            let mut config = Config::default();
            config.source.kind = SourceKind::Generator;
            config.source.generator.events_per_second = arguments.rate;
            config.source.generator.resources = arguments.resources;
            config.source.generator.preload = arguments.resources as u64;
            config.http.listen = arguments.listen;
            config.http.admin_listen = arguments.admin_listen;
            serve_until_stopped(config, arguments.seconds.map(Duration::from_secs), true)
        }
        Command::Replay(arguments) => replay::run(arguments),
        Command::Generate(arguments) => generate::run(arguments),
    }
}

fn serve_until_stopped(config: Config, at_most: Option<Duration>, demo: bool) -> Result<()> {
    telemetry::start_logging(&config.log).map_err(anyhow::Error::msg)?;
    let metrics = telemetry::start_metrics().context("could not set up metrics")?;
    let (listen, admin_listen) = (config.http.listen, config.http.admin_listen);
    let caps = Caps {
        connections_max: config.http.connections_max,
        connections_per_address_max: config.http.connections_per_address_max,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("tarn-http")
        .enable_all()
        .build()
        .context("could not start the HTTP threads")?;
    let (service, running) = tarn::service::start(config, false)?;
    let result = runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("could not listen on {listen}"))?;
        let admin =
            TcpListener::bind(admin_listen).await.with_context(|| format!("could not listen on {admin_listen}"))?;
        let (address, admin_address) = (listener.local_addr()?, admin.local_addr()?);
        tracing::info!(%address, %admin_address, workers = service.config.workers(), "serving");
        let app = App::new(service.clone(), Some(metrics));
        let (stop, stopped) = watch::channel(false);
        let readers = tokio::spawn(serve(listener, router(Arc::clone(&app), Scope::Read), caps, stopped.clone()));
        let operators = tokio::spawn(serve(admin, router(app, Scope::Admin), caps, stopped));
        if demo {
            tokio::spawn(greet(service.clone(), address, admin_address));
        }
        wait_for_the_end(&running, at_most).await?;
        stop.send_replace(true);
        readers.await?;
        operators.await?;
        anyhow::Ok(())
    });
    running.stop();
    let ended = running.join();
    result?;
    let end = ended?;
    tracing::info!(epoch = end.last_epoch, "stopped");
    Ok(())
}

/// Waits for SIGTERM, SIGINT, or the time that was given; a second signal ends the process at once.
async fn wait_for_the_end(running: &Running, at_most: Option<Duration>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let give_up = async {
        match at_most {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
        () = give_up => tracing::info!("the time is over: draining"),
    }
    if running.has_ended() {
        tracing::info!("the source had ended before");
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(1);
    });
    Ok(())
}

/// What a person who runs the demo is told, once there is something to see.
async fn greet(service: Service, address: std::net::SocketAddr, admin: std::net::SocketAddr) {
    while !service.is_ready() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("Tarn serves a generated, live Kessel inventory at http://{address} (operators: http://{admin})\n");
    println!("Try:");
    println!("  curl -s 'http://{address}/api/tarn/v1/resources?resourceType=k8s_cluster&limit=2'");
    println!("  curl -s 'http://{address}/api/tarn/v1/status'");
    println!("  curl -s 'http://{address}/api/tarn/v1/quarantine?limit=2'");
}
