//! The command line. Everything it does is in the library; here are arguments, exit codes and the process's own life.
//!
//! Exit codes: 0 done or stopped in order, 1 could not do it, 2 wrong arguments (clap's), 70 a broken invariant.

mod cli;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    end_on_broken_invariants();
    match cli::run(cli::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("tarn: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A panic in a worker, the ingest or a source's thread is a broken invariant: the process ends, and recovery is the
/// tested path. One in a request's handler is answered with 500 and goes no further.
fn end_on_broken_invariants() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let thread = std::thread::current();
        if !thread.name().is_some_and(|name| name.starts_with("tarn-http")) {
            std::process::exit(70);
        }
    }));
}
