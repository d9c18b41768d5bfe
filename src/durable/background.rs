//! Work that gives way to everything else on the machine: the writing of a snapshot while there are readers.
//!
//! In: work. Out: what it came to, done on a thread of its own with a low priority, and so are the threads and processes
//! that it starts. The caller waits, at its own priority: a priority that was lowered cannot be raised again without a
//! privilege, and the last snapshot, for which somebody waits, is to be taken at the usual one. Where the system refuses,
//! the work is done all the same.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// Of the 19 steps there are so many that a thread still gets a tenth of a processor that others want whole: time limits
/// hold, and what is written while a long log is read comes to its end.
#[cfg(target_os = "linux")]
const STEPS_DOWN: i32 = 10;

/// A thread that becomes ready waits for one that runs, whatever their priorities, until that has had its slice, which is
/// some milliseconds. So the work pauses by itself after about this long,
const STRETCH: Duration = Duration::from_micros(300);
/// and for as long as it worked, but not longer than this.
const PAUSE_MAX: Duration = Duration::from_millis(1);

/// Work that pauses now and then, or does not.
#[derive(Debug)]
pub(super) struct Pace {
    began: Option<Instant>,
}

impl Pace {
    /// Pauses.
    pub(super) fn slow() -> Self {
        Self { began: Some(Instant::now()) }
    }

    /// Does not pause.
    pub(super) fn fast() -> Self {
        Self { began: None }
    }

    /// Pauses, if it is time to.
    pub(super) fn keep(&mut self) {
        let Some(began) = &mut self.began else { return };
        let worked = began.elapsed();
        if worked >= STRETCH {
            thread::sleep(worked.min(PAUSE_MAX));
            *began = Instant::now();
        }
    }
}

/// Does the work with a low priority.
///
/// # Errors
/// No thread could be started.
pub(super) fn in_background<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("tarn-background".to_owned()).spawn_scoped(scope, || {
            lower_priority();
            work()
        })?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// On Linux a priority is a thread's; elsewhere it would be that of the whole process.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(STEPS_DOWN) {
        tracing::debug!(%error, "snapshots are written with the usual priority");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn only_the_work_and_what_it_starts_has_the_low_priority() {
        let usual = getpriority_process(None).unwrap();
        let (lowered, of_its_threads) = in_background(|| {
            let of_its_threads = thread::spawn(|| getpriority_process(None).unwrap()).join().unwrap();
            (getpriority_process(None).unwrap(), of_its_threads)
        })
        .unwrap();
        let expected = (usual + STEPS_DOWN).min(19);
        assert_eq!((lowered, of_its_threads), (expected, expected));
        assert_eq!(getpriority_process(None).unwrap(), usual);
    }
}
