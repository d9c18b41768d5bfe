//! Where a generation is verified: sled may panic, hang or worse on what is damaged.
//!
//! The service asks another process, `tarn snapshot verify-store GENERATION`, and believes its exit code; tests and
//! tools that end anyway do it in their own. Left to others: what verifying is (`reader`).

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::directory::number_of;
use super::reader::read_generation;
use super::store::StoreKind;
use super::vfs::Vfs;
use super::{SnapshotError, failed};

/// With which code `verify-store`, and `verify`, say that a generation is damaged.
pub const DAMAGED_EXIT_CODE: u8 = 4;

const POLL_MS: Duration = Duration::from_millis(5);
/// Of what the other process said; more is cut off.
const WORDS_BYTES_MAX: u64 = 4 << 10;

/// Where a sled is opened and scanned first.
#[derive(Debug, Clone)]
pub enum Verification {
    /// In another process.
    InChild {
        /// A tarn: the path of its binary.
        program: PathBuf,
        /// It is killed then, and the generation is taken for damaged.
        time_limit: Duration,
    },
    /// In this process, on a thread that may panic.
    OnThread,
}

/// Verifies a generation's directory in this process: what the other process does.
///
/// # Errors
/// `Damaged`, `Newer`, `Failed`.
pub fn verify_store(vfs: &Arc<dyn Vfs>, kind: &StoreKind, generation: &Path) -> Result<(), SnapshotError> {
    let Some(number) = number_of(generation) else {
        return Err(SnapshotError::Refused { path: generation.to_owned(), why: "it is no generation".to_owned() });
    };
    read_generation(vfs, kind, generation, number, &mut |_, _, _| ()).map(drop)
}

/// Verifies a generation's directory where `kind` says.
pub(super) fn verify(vfs: &Arc<dyn Vfs>, kind: &StoreKind, generation: &Path) -> Result<(), SnapshotError> {
    match kind {
        StoreKind::Sled(Verification::InChild { program, time_limit }) => {
            verify_in_child(program, *time_limit, generation)
        }
        StoreKind::Sled(Verification::OnThread) | StoreKind::Files => verify_store(vfs, kind, generation),
    }
}

fn verify_in_child(program: &Path, time_limit: Duration, generation: &Path) -> Result<(), SnapshotError> {
    let mut child = Command::new(program)
        .args(["snapshot", "verify-store"])
        .arg(generation)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed("start", program))?;
    let status = wait(&mut child, time_limit).map_err(failed("wait for", program))?;
    let mut words = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // What cannot be read is missing in a message.
        drop(stderr.take(WORDS_BYTES_MAX).read_to_end(&mut words));
    }
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    match status {
        None => Err(SnapshotError::damaged(generation, format!("not verified within {} s", time_limit.as_secs()))),
        Some(status) if status.success() => Ok(()),
        // It could not, because of something that is not in the generation; 127 is what the loader of programs says.
        Some(status) if matches!(status.code(), Some(1 | 2 | 127)) => {
            Err(failed("verify", generation)(io::Error::other(words)))
        }
        // Nothing in a generation does that: somebody, or whoever frees memory.
        Some(status) if status.signal() == Some(Signal::KILL.as_raw()) => {
            Err(failed("verify", generation)(io::Error::other(format!("verifying it ended with {status}"))))
        }
        Some(status) if status.code() == Some(i32::from(DAMAGED_EXIT_CODE)) => {
            Err(SnapshotError::damaged(generation, words))
        }
        Some(status) => Err(SnapshotError::damaged(generation, format!("verifying it ended with {status}: {words}"))),
    }
}

/// How it ended; `None` if it had to be killed.
fn wait(child: &mut Child, time_limit: Duration) -> io::Result<Option<ExitStatus>> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begin.elapsed() >= time_limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL_MS);
    }
}
