//! Durable snapshots: generations of runs of rows, and journals, in a directory of our own.
//!
//! ```text
//! DIR/LOCK                            one process at a time (flock)
//! DIR/CURRENT                         which generation counts
//! DIR/gen-000123/MANIFEST             its runs: a base, then increments
//! DIR/gen-000123/store/               their blocks: a sled of its own
//! DIR/NAME-000001.log                 segments of journals
//! DIR/condemned-000122/               the newest generation that was found damaged, kept as evidence
//! ```
//!
//! Rows in, rows out: keys and values are bytes that mean nothing here. What [`RunWriter::finish`] has returned `Ok` for
//! is loaded after any crash; what it has not is loaded whole or not at all. Nothing is updated in place, nothing is
//! repaired: what is damaged is told, and the generation before it is there to fall back to. Loading never gives wrong
//! rows and calls them good.
//!
//! Threads: everything is done by the caller's thread, but for sled, whose calls are made on threads of their own with
//! a time limit, so that a panic or a hang of sled is an error of one generation (`sled_store` says how).
//!
//! Left to others: what rows mean, when to write, when to begin the next generation, and what to do without any.

mod backup;
mod block;
mod directory;
mod disk;
mod generations;
mod journal;
mod manifest;
mod reader;
mod sealed;
mod sled_store;
mod store;
mod verification;
mod vfs;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

pub use backup::{Backup, back_up, keep_aside};
pub use block::{Block, KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use directory::{Directory, holds_nothing};
pub use disk::DiskVfs;
pub use generations::{Environment, GenerationInfo, Generations, Sizes, list};
pub use journal::{Journal, JournalError, Position, Recovered, Synced, Unsynced};
pub use manifest::{Manifest, RunInfo};
pub use reader::{Fallback, Loaded};
pub use sealed::FORMAT_VERSION;
pub use store::{Store, StoreKind};
pub use verification::{DAMAGED_EXIT_CODE, Verification, verify_store};
pub use vfs::{Entry, Identity, Kind, Lock, Status, Vfs, VfsFile, append, create_with, read, read_at, replace};
pub use writer::RunWriter;

/// Threads that call sled have this name: a panic there is an error that is told, not the end of the process.
pub const STORE_THREAD: &str = "tarn-snapshot-store";

/// What can go wrong, by what the caller does about it.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Leave: another process has the directory.
    #[error("another tarn (pid {pid}) uses {}", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// What the other one wrote into the lock.
        pid: String,
    },
    /// Leave: an operator has to look at the directory.
    #[error("{} is refused: {why}", path.display())]
    Refused {
        /// The data directory or something in it.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Leave: a newer tarn wrote it. Nothing has been touched.
    #[error("{} has format version {found}; this tarn knows up to {FORMAT_VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Condemn that generation and fall back to the one before it.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file or generation.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// Tell, and try again later with a new generation: a full disk, an error of the device.
    #[error("could not {doing} {}: {source}", path.display())]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Begin a new generation: the current one is not written any more, since something failed before, or there is none.
    #[error("the current generation takes no more runs; begin another")]
    BeginAnother,
    /// Tell loudly: the directory is not the one that was opened; what is written into it would be lost.
    #[error("the data directory {} was moved or deleted", path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// A fault of the caller: keys ascend strictly and are at most [`KEY_BYTES_MAX`], values [`VALUE_BYTES_MAX`].
    #[error("a row that may not stand here: {0}")]
    Row(&'static str),
}

impl SnapshotError {
    fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), why: why.into() }
    }

    /// Whether what was read is wrong, in contrast to what could not be read.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

/// Adds what was tried to an error of the system.
fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Failed { doing, path, source }
}
