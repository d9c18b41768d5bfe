//! The command line. Everything it does is in the library; here are arguments, exit codes and the process's own life.
//!
//! The exit codes stand in `cli::exit_code`; [`BROKEN_INVARIANT`] is the one that is met outside of it.

mod cli;

use std::panic::PanicHookInfo;
use std::process::ExitCode;

use clap::Parser;
use tarn::snapshot::STORE_THREAD;
use tarn::sql::{QUERY_THREAD, is_evaluating};
use tarn::telemetry;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A panic outside of a request.
const BROKEN_INVARIANT: i32 = 70;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(end_on_broken_invariants));
    let code = match cli::run(cli::Arguments::parse()) {
        Ok(()) => 0,
        Err(error) => {
            telemetry::say_last_words(&format!("{error:#}"));
            cli::exit_code(&error)
        }
    };
    telemetry::flush_logs();
    ExitCode::from(code)
}

/// A panic in a worker, the ingest or a source's thread is a broken invariant: the process ends, and recovery is the
/// tested path. One in a request's handler is answered with 500 and goes no further, one in a query with why; one in sled
/// is an error of the generation that it holds, and one in an expression of a view is a row's failure, told with the view.
///
/// Nothing is printed by the standard library's hook, which would wait for a pipe that hangs.
fn end_on_broken_invariants(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
    if thread == STORE_THREAD {
        tracing::error!(thread, place, "sled panicked: {message}");
        return;
    }
    if is_evaluating() {
        tracing::debug!(thread, place, "an expression panicked: {message}");
        return;
    }
    if thread.starts_with("tarn-http") || thread.starts_with(QUERY_THREAD) {
        tracing::error!(thread, place, "the handler of a request or a query panicked: {message}");
        return;
    }
    let backtrace = std::backtrace::Backtrace::capture();
    telemetry::say_last_words(&format!("thread {thread} panicked at {place}: {message}\n{backtrace}"));
    std::process::exit(BROKEN_INVARIANT);
}
