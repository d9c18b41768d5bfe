//! Work that gives way to everything else on the machine: the writing of a snapshot while there are readers.
//!
//! A thread gets a low priority for the rest of its life, and so do the threads and processes that it starts: one that was
//! lowered cannot be raised again without a privilege. So work for which somebody waits, as the last snapshot, belongs on
//! another thread. Where the system refuses, the work is done all the same. Such a thread also pauses ([`Pace`]).

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
pub struct Pace {
    began: Option<Instant>,
}

impl Pace {
    /// Pauses.
    pub fn slow() -> Self {
        Self { began: Some(Instant::now()) }
    }

    /// Does not pause.
    pub fn fast() -> Self {
        Self { began: None }
    }

    /// Pauses, if it is time to.
    pub fn keep(&mut self) {
        let Some(began) = &mut self.began else { return };
        let worked = began.elapsed();
        if worked >= STRETCH {
            thread::sleep(worked.min(PAUSE_MAX));
            *began = Instant::now();
        }
    }
}

/// Lowers the priority of this thread. On Linux a priority is a thread's; elsewhere it would be that of the whole process.
pub fn lower_priority() {
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
    fn only_the_thread_and_what_it_starts_has_the_low_priority() {
        let usual = getpriority_process(None).unwrap();
        let lowered = thread::spawn(|| {
            lower_priority();
            let of_its_threads = thread::spawn(|| getpriority_process(None).unwrap()).join().unwrap();
            (getpriority_process(None).unwrap(), of_its_threads)
        });
        let expected = (usual + STEPS_DOWN).min(19);
        assert_eq!(lowered.join().unwrap(), (expected, expected));
        assert_eq!(getpriority_process(None).unwrap(), usual);
    }
}
