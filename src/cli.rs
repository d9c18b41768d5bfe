//! Subcommands: serve, demo, replay, generate, check, snapshot; and what the process says when it ends.

mod check;
mod exchange;
mod generate;
mod open_files;
mod replay;
mod serve;
mod snapshot;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use rustix::process::Signal;
use tarn::config::{Config, ConfigError, SourceKind};
use tarn::durable::DurableError;
use tarn::service::ServiceError;
use tarn::service::view_tests::CheckError;
use tarn::snapshot::{DAMAGED_EXIT_CODE, SnapshotError, Verification};
use tarn::source::SourceError;
use tokio::signal::unix::{SignalKind, signal};

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
    /// Checks a configuration, the folder of queries and the tests beside them, without a server.
    Check(check::Arguments),
    /// Looks after a data directory: list, verify, backup, export, import.
    Snapshot(snapshot::Arguments),
}

#[derive(Debug, Args)]
struct ServeArguments {
    /// The configuration; defaults and environment without one.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// What is not given is as the environment says, or the defaults.
#[derive(Debug, Args)]
struct DemoArguments {
    /// Where to listen [default: 127.0.0.1:8080].
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where operators connect [default: 127.0.0.1:8081].
    #[arg(long)]
    admin_listen: Option<SocketAddr>,
    /// Events a second [default: 100].
    #[arg(long, allow_negative_numbers = true)]
    rate: Option<f64>,
    /// How many resources there are [default: 10000].
    #[arg(long)]
    resources: Option<usize>,
    /// Stop after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
}

/// An argument that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// The process was told twice to end.
const SECOND_SIGNAL: i32 = 130;

/// The exit code of an error; README has the table.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    const COULD_NOT: u8 = 1;
    const REFUSED: u8 = 2;
    const SOURCE_FAILED: u8 = 3;
    const IN_USE: u8 = 5;
    for cause in error.chain() {
        if cause.is::<Refused>() || cause.is::<ConfigError>() || cause.is::<CheckError>() {
            return REFUSED;
        }
        if cause.is::<SourceError>() || matches!(cause.downcast_ref(), Some(ServiceError::Source(_))) {
            return SOURCE_FAILED;
        }
        // A transparent error hides the one it stands for.
        let of_directory = match cause.downcast_ref() {
            Some(DurableError::Snapshot(error)) => Some(error),
            _ => cause.downcast_ref(),
        };
        match of_directory {
            Some(SnapshotError::Damaged { .. }) => return DAMAGED_EXIT_CODE,
            Some(SnapshotError::InUse { .. }) => return IN_USE,
            Some(SnapshotError::Refused { .. } | SnapshotError::Newer { .. }) => return REFUSED,
            _ => {}
        }
    }
    COULD_NOT
}

/// Does what the arguments say.
pub fn run(arguments: Arguments) -> Result<()> {
    outlive_limits_of_files().context("could not listen to signals")?;
    match arguments.command {
        Command::Serve(arguments) => serve::until_stopped(load(arguments.config.as_deref())?, None, false),
        Command::Check(arguments) => check::run(&arguments),
        Command::Demo(arguments) => {
            let config = demo(&arguments)?;
            serve::until_stopped(config, arguments.seconds.map(Duration::from_secs), true)
        }
        Command::Replay(arguments) => replay::run(arguments),
        Command::Generate(arguments) => generate::run(arguments),
        Command::Snapshot(arguments) => snapshot::run(arguments),
    }
}

/// A file that may not grow further (`ulimit -f`) is an error of the write, and not the end of the process: so it is as
/// soon as anybody listens to the signal, for as long as the process is.
fn outlive_limits_of_files() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
    Config::load(path, std::env::vars_os())
}

/// The environment's configuration with a generator as its source.
fn demo(arguments: &DemoArguments) -> Result<Config, ConfigError> {
    let mut config = load(None)?;
    config.source.kind = SourceKind::Generator;
    let generator = &mut config.source.generator;
    generator.events_per_second = arguments.rate.unwrap_or(generator.events_per_second);
    if let Some(resources) = arguments.resources {
        generator.resources = resources;
        generator.preload = resources as u64;
    }
    config.http.listen = arguments.listen.unwrap_or(config.http.listen);
    config.http.admin_listen = arguments.admin_listen.unwrap_or(config.http.admin_listen);
    config.check()?;
    Ok(config)
}

/// Stores are verified by another process of this binary: sled may panic or hang.
fn in_child(time_limit: Duration) -> Result<Verification> {
    let program = std::env::current_exe().context("could not find this program's own file")?;
    Ok(Verification::InChild { program, time_limit })
}

/// Writes to standard output; whoever has closed it has seen enough.
fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("could not write to standard output"),
    }
}
