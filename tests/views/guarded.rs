//! A run of the engine that may go wrong: a worker that panics leaves the others waiting for ever, so whoever waits for a
//! run must not be the one that makes it.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use crate::support::engine::{Given, Run, Setup, run};

/// What panicked on threads of workers, in all runs of this process.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// No run of a small log takes so long.
const WAIT: Duration = Duration::from_secs(120);
/// A run that is not over so long after a worker panicked will never be.
const WAIT_AFTER_PANIC: Duration = Duration::from_secs(1);

/// Remembers panics of workers from now on.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_worker = std::thread::current().name().is_some_and(|name| name.starts_with("timely:"));
            // One of those is a row's failure and ends nobody.
            if is_worker && !tarn::sql::is_evaluating() {
                PANICS.lock().expect("nothing panics here").push(panic.to_string());
            }
            before(panic);
        }));
    });
}

fn panics() -> usize {
    PANICS.lock().expect("nothing panics here").len()
}

/// Runs the records to their end; what is left of a run that goes wrong is left to itself.
pub fn guarded_run(records: Vec<Given>, setup: &Setup) -> Result<Run, String> {
    listen();
    let (known, began) = (panics(), Instant::now());
    let (sender, receiver) = mpsc::channel();
    let setup = setup.clone();
    std::thread::spawn(move || drop(sender.send(run(records, &setup))));
    let mut panicked: Option<Instant> = None;
    loop {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(run) => return Ok(run),
            Err(RecvTimeoutError::Disconnected) => return Err("the run panicked".to_owned()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if panicked.is_none() && panics() > known {
            panicked = Some(Instant::now());
        }
        if panicked.is_some_and(|panicked| panicked.elapsed() > WAIT_AFTER_PANIC) {
            let panics = PANICS.lock().expect("nothing panics here");
            return Err(format!("a worker panicked: {}", panics[known..].join("\n")));
        }
        if began.elapsed() > WAIT {
            return Err("nothing is shown any more".to_owned());
        }
    }
}
