//! The data directory: who may use it, which names it has, and what is swept out of it at start.
//!
//! Promises: it belongs to us, nobody else may write into it, nothing in it is a link, one process has it at a time, and
//! nothing in it was written by a newer version; else it is refused before anything is touched. Left to others: the
//! contents of generations (`generations`) and of journals (`journal`).

use std::fmt::{self, Debug};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::disk::is_alive;
use super::manifest::{Manifest, decode_current};
use super::vfs::{self, Entry, Identity, Kind, Lock, TEMPORARY, Vfs};
use super::{SnapshotError, failed};

const LOCK: &str = "LOCK";
const CURRENT: &str = "CURRENT";
const MANIFEST: &str = "MANIFEST";
const STORE: &str = "store";
const NOT_WRITTEN: &str = "CONDEMNED";
const GENERATION: &str = "gen-";
const UNFINISHED: &str = "gen.tmp-";
const CONDEMNED: &str = "condemned-";
/// So long is a lock waited for whose owner is not there any more.
const ORPHANED_LOCK_S_MAX: Duration = Duration::from_secs(5);
const LOCK_POLL_MS: Duration = Duration::from_millis(10);
/// Nobody but the owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// An open data directory; the lock is held until it is dropped.
pub struct Directory {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    identity: Identity,
    _lock: Box<dyn Send + Sync>,
}

impl Debug for Directory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Directory").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Directory {
    /// Opens a data directory, or makes it in a directory that exists.
    ///
    /// # Errors
    /// `InUse`, `Refused`, `Newer`, `Failed`.
    pub fn open(vfs: Arc<dyn Vfs>, path: &Path) -> Result<Self, SnapshotError> {
        // A name that ends in a slash would be looked at behind its link.
        let path: PathBuf = path.components().collect();
        match vfs.create_directory(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            // It may be there all the same, in a place that is read-only.
            Err(error) => drop(vfs.status(&path).map_err(|_| failed("create", &path)(error))?),
        }
        let parent = match path.parent() {
            Some(parent) if parent.components().next().is_some() => parent,
            _ => Path::new("."),
        };
        // Also when it was there: a process that died may have made it and not got any further.
        match vfs.sync_directory(parent) {
            // Then somebody else has made it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            other => other.map_err(failed("fsync", parent))?,
        }
        Self::open_existing(vfs, &path)
    }

    /// Opens a data directory that is there.
    ///
    /// # Errors
    /// `InUse`, `Refused`, `Newer`, `Failed`.
    pub fn open_existing(vfs: Arc<dyn Vfs>, path: &Path) -> Result<Self, SnapshotError> {
        let path: PathBuf = path.components().collect();
        let identity = check_safe(&*vfs, &path)?;
        let lock_path = path.join(LOCK);
        let words = format!("{}\n", std::process::id());
        let began = Instant::now();
        let lock = loop {
            match vfs.lock(&lock_path, &words).map_err(failed("lock", &lock_path))? {
                Lock::Ours(lock) => break lock,
                // It was killed, or this process had it, while another one was started, which lets go of the lock when it
                // has become that.
                Lock::Others(pid)
                    if (!is_alive(&pid) || pid.trim() == words.trim()) && began.elapsed() < ORPHANED_LOCK_S_MAX =>
                {
                    thread::sleep(LOCK_POLL_MS);
                }
                Lock::Others(pid) => return Err(SnapshotError::InUse { path, pid: pid.trim().to_owned() }),
            }
        };
        let directory = Self { vfs, path, identity, _lock: lock };
        directory.check_versions()?;
        directory.sweep()?;
        Ok(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How its files are reached.
    pub fn vfs(&self) -> &Arc<dyn Vfs> {
        &self.vfs
    }

    /// Whether the directory on disk is still the one that was opened.
    ///
    /// # Errors
    /// `Gone`, `Failed`.
    pub fn check_identity(&self) -> Result<(), SnapshotError> {
        match self.vfs.status(&self.path) {
            Ok(status) if status.identity == self.identity => Ok(()),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("look at", &self.path)(error)),
            Ok(_) | Err(_) => Err(SnapshotError::Gone { path: self.path.clone() }),
        }
    }

    /// Removes generations from a directory in which none counts yet, as [`holds_nothing`] says.
    ///
    /// # Errors
    /// `Failed`.
    pub fn begin_anew(&self) -> Result<(), SnapshotError> {
        for number in generations(&*self.vfs, &self.path)? {
            let path = generation_path(&self.path, number);
            self.vfs.remove_tree(&path).map_err(failed("remove", &path))?;
        }
        Ok(())
    }

    /// Refuses what a newer version wrote. What is damaged is met when it is read.
    fn check_versions(&self) -> Result<(), SnapshotError> {
        let mut found = vec![read_current(&*self.vfs, &self.path).map(drop)];
        for number in generations(&*self.vfs, &self.path)? {
            found.push(read_manifest(&*self.vfs, &self.path, number).map(drop));
        }
        found.into_iter().find(|found| matches!(found, Err(SnapshotError::Newer { .. }))).unwrap_or(Ok(()))
    }

    /// Removes what a crash left unfinished, and makes the names durable that are found: a process that died may have
    /// given them and not got any further.
    fn sweep(&self) -> Result<(), SnapshotError> {
        let temporary = format!(".{TEMPORARY}");
        for entry in entries(&*self.vfs, &self.path)? {
            let path = self.path.join(&entry.name);
            if entry.kind == Kind::Directory && entry.name.starts_with(UNFINISHED) {
                self.vfs.remove_tree(&path).map_err(failed("remove", &path))?;
            } else if entry.kind == Kind::File && entry.name.ends_with(&temporary) {
                self.vfs.remove_file(&path).map_err(failed("remove", &path))?;
            } else if entry.kind == Kind::Directory && number_behind(GENERATION, &entry.name).is_some() {
                let manifest = path.join(MANIFEST).with_extension(TEMPORARY);
                vfs::remove_if_there(&*self.vfs, &manifest).map_err(failed("remove", &manifest))?;
                self.vfs.sync_directory(&path).map_err(failed("fsync", &path))?;
            }
        }
        self.vfs.sync_directory(&self.path).map_err(failed("fsync", &self.path))
    }
}

/// Whether nothing in a directory counts: it is empty, not there, or all in it is a first generation that a process died
/// over before `CURRENT` named it. One that a tarn has served from has more.
pub fn holds_nothing(vfs: &dyn Vfs, path: &Path) -> bool {
    let current = Path::new(CURRENT).with_extension(TEMPORARY);
    let is_left = |entry: &Entry| {
        let directory = entry.kind == Kind::Directory;
        [UNFINISHED, GENERATION].iter().any(|prefix| directory && number_behind(prefix, &entry.name).is_some())
            || entry.name == LOCK
            || Path::new(&entry.name) == current
    };
    // What cannot be listed is met when it is opened.
    vfs.list(path).map_or(true, |entries| entries.iter().all(is_left))
}

/// Ours, for nobody else to write into, and without links.
fn check_safe(vfs: &dyn Vfs, path: &Path) -> Result<Identity, SnapshotError> {
    let refused = |path: &Path, why: String| SnapshotError::Refused { path: path.to_owned(), why };
    let status = vfs.status(path).map_err(failed("open", path))?;
    match status.kind {
        Kind::Directory => {}
        Kind::Link => return Err(refused(path, "it is a link".to_owned())),
        Kind::File | Kind::Other => return Err(refused(path, "it is no directory".to_owned())),
    }
    if status.owner != vfs.user() {
        return Err(refused(path, format!("it belongs to user {}, and this is user {}", status.owner, vfs.user())));
    }
    if status.mode & WRITABLE_BY_OTHERS != 0 {
        return Err(refused(path, format!("others may write into it (mode {:o}); 700 is right", status.mode)));
    }
    for entry in entries(vfs, path)? {
        if entry.kind == Kind::Link {
            return Err(refused(&path.join(entry.name), "it is a link".to_owned()));
        }
    }
    Ok(status.identity)
}

fn entries(vfs: &dyn Vfs, path: &Path) -> Result<Vec<Entry>, SnapshotError> {
    vfs.list(path).map_err(failed("list", path))
}

/// The number in `name`, which begins with `prefix`.
fn number_behind(prefix: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn numbers(vfs: &dyn Vfs, path: &Path, prefix: &str) -> Result<Vec<u64>, SnapshotError> {
    let entries = entries(vfs, path)?;
    let directories = entries.iter().filter(|entry| entry.kind == Kind::Directory);
    let mut numbers: Vec<u64> = directories.filter_map(|entry| number_behind(prefix, &entry.name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The generations that are there, ascending; what they hold is another matter.
pub(super) fn generations(vfs: &dyn Vfs, path: &Path) -> Result<Vec<u64>, SnapshotError> {
    numbers(vfs, path, GENERATION)
}

/// The condemned generations that are kept, ascending.
pub(super) fn condemned(vfs: &dyn Vfs, path: &Path) -> Result<Vec<u64>, SnapshotError> {
    numbers(vfs, path, CONDEMNED)
}

/// A number that no generation has had, as far as the directory remembers.
pub(super) fn next_number(vfs: &dyn Vfs, path: &Path) -> Result<u64, SnapshotError> {
    let mut last = read_current(vfs, path).ok().flatten().unwrap_or(0);
    for prefix in [GENERATION, UNFINISHED, CONDEMNED] {
        last = last.max(numbers(vfs, path, prefix)?.last().copied().unwrap_or(0));
    }
    Ok(last + 1)
}

/// What `CURRENT` says; `None` without one.
pub(super) fn read_current(vfs: &dyn Vfs, path: &Path) -> Result<Option<u64>, SnapshotError> {
    let path = path.join(CURRENT);
    match vfs::read(vfs, &path) {
        Ok(bytes) => decode_current(&bytes, &path).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// The manifest of a generation; its number is as it says.
pub(super) fn read_manifest(vfs: &dyn Vfs, path: &Path, number: u64) -> Result<Manifest, SnapshotError> {
    read_manifest_in(vfs, &generation_path(path, number), number)
}

/// The manifest in a generation's directory, which must be that of `number`.
pub(super) fn read_manifest_in(vfs: &dyn Vfs, generation: &Path, number: u64) -> Result<Manifest, SnapshotError> {
    let path = generation.join(MANIFEST);
    let bytes = match vfs::read(vfs, &path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(SnapshotError::damaged(&path, "it is missing"));
        }
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let manifest = Manifest::decode(&bytes, &path)?;
    if manifest.generation != number {
        let why = format!("it is that of generation {}", manifest.generation);
        return Err(SnapshotError::damaged(&path, why));
    }
    Ok(manifest)
}

/// The number in the name of a generation's directory, finished or not.
pub(super) fn number_of(generation: &Path) -> Option<u64> {
    let name = generation.file_name()?.to_str()?;
    number_behind(GENERATION, name).or_else(|| number_behind(UNFINISHED, name))
}

pub(super) fn current_path(path: &Path) -> PathBuf {
    path.join(CURRENT)
}

pub(super) fn generation_path(path: &Path, number: u64) -> PathBuf {
    path.join(format!("{GENERATION}{number:06}"))
}

pub(super) fn unfinished_path(path: &Path, number: u64) -> PathBuf {
    path.join(format!("{UNFINISHED}{number:06}"))
}

pub(super) fn condemned_path(path: &Path, number: u64) -> PathBuf {
    path.join(format!("{CONDEMNED}{number:06}"))
}

pub(super) fn store_path(generation: &Path) -> PathBuf {
    generation.join(STORE)
}

pub(super) fn manifest_path(generation: &Path) -> PathBuf {
    generation.join(MANIFEST)
}

/// Stands in a generation that is read but not written any more, and in one that is being written.
pub(super) fn not_written_path(generation: &Path) -> PathBuf {
    generation.join(NOT_WRITTEN)
}
