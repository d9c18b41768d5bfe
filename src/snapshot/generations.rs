//! The generations of a data directory: which there are, which counts, and what becomes of the others.
//!
//! * A new one is written as `gen.tmp-N`, verified, renamed to `gen-N`, and only then does `CURRENT` name it.
//! * The one that `CURRENT` named before stays; older ones are removed. A damaged one is moved aside and the newest of
//!   those is kept as evidence.
//! * Increments go into the current generation alone, and only if this process has written it or read it whole, and
//!   nothing failed in it: after an error of a write or an fsync nobody knows what is on the disk, so a generation is
//!   never tried again. Nor is one whose writer died over it, since nobody knows what it had met.
//!
//! Every error is told and leaves `self` usable. Left to others: rows and runs (`writer`, `reader`), and when to do what.

use std::fmt::{self, Debug};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directory::{
    self, Directory, condemned_path, generation_path, manifest_path, not_written_path, read_current, read_manifest,
    store_path, unfinished_path,
};
use super::manifest::{Manifest, encode_current};
use super::reader::{Fallback, Loaded, read_generation};
use super::store::{Store, StoreKind};
use super::verification::verify;
use super::vfs::{self, Vfs};
use super::writer::RunWriter;
use super::{SnapshotError, failed};

/// What is not in files.
pub struct Environment {
    /// Which store new and old generations have.
    pub store: StoreKind,
    /// Milliseconds since 1970.
    pub now_ms: Box<dyn Fn() -> u64 + Send>,
    /// Random numbers, for the ids of runs.
    pub random: Box<dyn FnMut() -> u64 + Send>,
}

/// So often is a generation tried that is not damaged and cannot be read all the same.
const ATTEMPTS: usize = 3;

/// How large the current generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Its number.
    pub generation: u64,
    /// How many runs it has, the base among them.
    pub runs: usize,
    /// Packed bytes of the base.
    pub base_bytes: u64,
    /// Packed bytes of all increments.
    pub increments_bytes: u64,
    /// Bytes of its files.
    pub on_disk_bytes: u64,
    /// Since its base was finished.
    pub age_ms: u64,
}

/// A generation as it is found.
#[derive(Debug)]
pub struct GenerationInfo {
    /// Its number.
    pub number: u64,
    /// Whether `CURRENT` names it.
    pub current: bool,
    /// What it holds, as it says; whether that is so, `verify` tells.
    pub manifest: Result<Manifest, SnapshotError>,
    /// Bytes of its files.
    pub on_disk_bytes: u64,
}

/// The generations below a data directory, newest first; takes no lock and changes nothing.
///
/// # Errors
/// `Failed` if the directory cannot be listed.
pub fn list(vfs: &dyn Vfs, path: &Path) -> Result<Vec<GenerationInfo>, SnapshotError> {
    let current = read_current(vfs, path).ok().flatten();
    let mut numbers = directory::generations(vfs, path)?;
    numbers.reverse();
    let info = |number| GenerationInfo {
        number,
        current: current == Some(number),
        manifest: read_manifest(vfs, path, number),
        // It may be removed while we look.
        on_disk_bytes: vfs::tree_bytes(vfs, &generation_path(path, number)).unwrap_or(0),
    };
    Ok(numbers.into_iter().map(info).collect())
}

/// The order in which generations are tried: the one that `CURRENT` names, then the others, newest first.
pub(super) fn candidates(vfs: &dyn Vfs, path: &Path) -> Result<Vec<u64>, SnapshotError> {
    let mut numbers = directory::generations(vfs, path)?;
    numbers.reverse();
    match read_current(vfs, path) {
        Ok(current) => numbers.sort_by_key(|number| Some(*number) != current),
        Err(error) if error.is_damage() => tracing::warn!(%error, "the newest generation is tried first"),
        Err(error) => return Err(error),
    }
    Ok(numbers)
}

/// The generations of a data directory that is ours.
pub struct Generations {
    pub(super) directory: Directory,
    pub(super) environment: Environment,
    /// The generation that counts.
    pub(super) current: Option<Manifest>,
    /// Whether increments may be added to it.
    pub(super) writable: bool,
    /// Its store, open for increments.
    pub(super) store: Option<Box<dyn Store>>,
    /// The newest generation that this process has written or read whole.
    known_good: Option<u64>,
}

impl Debug for Generations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Generations").field("current", &self.current).finish_non_exhaustive()
    }
}

impl Generations {
    /// The generations of a directory. Nothing is read but `CURRENT` and its manifest.
    pub fn new(directory: Directory, environment: Environment) -> Self {
        let (vfs, path) = (&**directory.vfs(), directory.path());
        let current = read_current(vfs, path).ok().flatten();
        let current = current.and_then(|number| read_manifest(vfs, path, number).ok());
        Self { directory, environment, current, writable: false, store: None, known_good: None }
    }

    /// The directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The numbers of the generations, in the order in which they are to be tried.
    ///
    /// # Errors
    /// `Newer`, `Failed`.
    pub fn candidates(&self) -> Result<Vec<u64>, SnapshotError> {
        candidates(self.vfs(), self.path())
    }

    /// Reads all of a generation, where the environment says, and compares it with its manifest.
    ///
    /// # Errors
    /// `Damaged`, `Newer`, `Failed`.
    pub fn verify(&mut self, generation: u64) -> Result<(), SnapshotError> {
        self.close_store();
        verify(self.directory.vfs(), &self.environment.store, &generation_path(self.path(), generation))
    }

    /// Reads a generation in this process; rows go to `row` as (place of the run, key, value): the base first, then the
    /// increments, keys ascending in each. Out: its runs. Verify it before.
    ///
    /// # Errors
    /// `Damaged`, `Newer`, `Failed`; what `row` got is then to be thrown away.
    pub fn read(
        &mut self,
        generation: u64,
        mut row: impl FnMut(usize, &[u8], &[u8]),
    ) -> Result<Manifest, SnapshotError> {
        self.close_store();
        let path = generation_path(self.path(), generation);
        let vfs = self.directory.vfs();
        let manifest = read_generation(vfs, &self.environment.store, &path, generation, &mut row)?;
        let counts = read_current(&**vfs, self.path()).ok().flatten() == Some(generation);
        // An increment in any other would be older than `CURRENT` after the next start.
        self.writable = counts && vfs.status(&not_written_path(&path)).is_err();
        self.known_good = Some(generation);
        self.current = Some(manifest.clone());
        Ok(manifest)
    }

    /// Loads the first candidate that is good, verifying each before it is read; damaged ones before it are condemned. One
    /// that cannot be read is tried again: behind it there is only what is older.
    ///
    /// `fresh` makes what the rows of a candidate are put into by `row`.
    ///
    /// # Errors
    /// `Newer`, and `Failed` if the directory cannot be listed. What is wrong with a generation is in the answer.
    pub fn load<T>(
        &mut self,
        mut fresh: impl FnMut() -> T,
        mut row: impl FnMut(&mut T, usize, &[u8], &[u8]),
    ) -> Result<Loaded<T>, SnapshotError> {
        let mut fallbacks: Vec<Fallback> = Vec::new();
        for generation in self.candidates()? {
            match self.load_one(generation, &mut fresh, &mut row) {
                Ok((contents, manifest)) => {
                    for bad in fallbacks.iter().filter(|bad| bad.error.is_damage()) {
                        if let Err(error) = self.condemn(bad.generation) {
                            tracing::warn!(%error, generation = bad.generation, "could not move it aside");
                        }
                    }
                    return Ok(Loaded { contents: Some((contents, manifest)), fallbacks });
                }
                Err(error @ SnapshotError::Newer { .. }) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, generation, "a generation cannot be loaded");
                    fallbacks.push(Fallback { generation, error });
                }
            }
        }
        Ok(Loaded { contents: None, fallbacks })
    }

    fn load_one<T>(
        &mut self,
        generation: u64,
        fresh: &mut impl FnMut() -> T,
        row: &mut impl FnMut(&mut T, usize, &[u8], &[u8]),
    ) -> Result<(T, Manifest), SnapshotError> {
        let mut attempt = 1;
        loop {
            let mut contents = fresh();
            let result = self
                .verify(generation)
                .and_then(|()| self.read(generation, |place, key, value| row(&mut contents, place, key, value)));
            match result {
                Err(error @ SnapshotError::Failed { .. }) if attempt < ATTEMPTS => {
                    tracing::warn!(%error, generation, "a generation cannot be read; it is tried again");
                    std::thread::sleep(self.environment.store.pause());
                    attempt += 1;
                }
                other => return other.map(|manifest| (contents, manifest)),
            }
        }
    }

    /// Moves a damaged generation aside; it is no candidate any more. The one condemned before is removed.
    ///
    /// # Errors
    /// `Failed`.
    pub fn condemn(&mut self, generation: u64) -> Result<(), SnapshotError> {
        if self.current.as_ref().is_some_and(|current| current.generation == generation) {
            self.store = None;
            self.writable = false;
            self.current = None;
        }
        let (vfs, path) = (self.vfs(), self.path());
        for older in directory::condemned(vfs, path)? {
            let older = condemned_path(path, older);
            vfs.remove_tree(&older).map_err(failed("remove", &older))?;
        }
        let from = generation_path(path, generation);
        vfs.rename(&from, &condemned_path(path, generation)).map_err(failed("move aside", &from))?;
        vfs.sync_directory(path).map_err(failed("fsync", path))
    }

    /// Begins a new generation with its base. The current one stays as it is until the base is finished.
    ///
    /// # Errors
    /// `Gone`, `Failed`.
    pub fn begin(&mut self) -> Result<RunWriter<'_>, SnapshotError> {
        self.directory.check_identity()?;
        let number = directory::next_number(self.vfs(), self.path())?;
        let path = unfinished_path(self.path(), number);
        RunWriter::base(self, number, path)
    }

    /// Whether an increment may be begun; if not, only a new generation may.
    pub fn takes_increments(&self) -> bool {
        self.writable && self.current.is_some()
    }

    /// Begins an increment in the current generation.
    ///
    /// # Errors
    /// `BeginAnother`, `Gone`, `Failed`.
    pub fn begin_run(&mut self) -> Result<RunWriter<'_>, SnapshotError> {
        let number = match &self.current {
            Some(current) if self.writable => current.generation,
            _ => return Err(SnapshotError::BeginAnother),
        };
        self.directory.check_identity()?;
        self.remove_uncommitted(number)?;
        self.mark_as_being_written(number)?;
        if self.store.is_none() {
            let path = store_path(&generation_path(self.path(), number));
            match self.environment.store.open(self.directory.vfs(), &path) {
                Ok(store) => self.store = Some(store),
                Err(error) => {
                    self.stop_writing();
                    return Err(error);
                }
            }
        }
        RunWriter::increment(self)
    }

    /// Whoever dies while it writes leaves a generation that nobody writes again: one of its fsyncs may have failed, and
    /// then what is read well is on no disk. The mark is for those who come after on the same machine, so it needs no
    /// fsync: after a power cut what is read is what is there.
    fn mark_as_being_written(&self, number: u64) -> Result<(), SnapshotError> {
        let path = not_written_path(&generation_path(self.path(), number));
        match self.vfs().create(&path) {
            // Of a run that was abandoned.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other.map(drop).map_err(failed("create", &path)),
        }
    }

    /// The run is finished, and nothing has failed.
    pub(super) fn unmark(&self, number: u64) {
        let path = not_written_path(&generation_path(self.path(), number));
        if let Err(error) = vfs::remove_if_there(self.vfs(), &path) {
            tracing::warn!(%error, path = %path.display(), "the next start will begin a new generation");
        }
    }

    /// How large the current generation is; `None` without one.
    ///
    /// # Errors
    /// `Gone`, `Failed`.
    pub fn sizes(&self) -> Result<Option<Sizes>, SnapshotError> {
        let Some(current) = &self.current else { return Ok(None) };
        let Some((base, increments)) = current.runs.split_first() else { return Ok(None) };
        self.directory.check_identity()?;
        let path = generation_path(self.path(), current.generation);
        Ok(Some(Sizes {
            generation: current.generation,
            runs: current.runs.len(),
            base_bytes: base.stored_bytes,
            increments_bytes: increments.iter().map(|run| run.stored_bytes).sum(),
            on_disk_bytes: vfs::tree_bytes(self.vfs(), &path).map_err(failed("measure", &path))?,
            age_ms: (self.environment.now_ms)().saturating_sub(base.finished_ms),
        }))
    }

    pub(super) fn vfs(&self) -> &dyn Vfs {
        &**self.directory.vfs()
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// After an error in the current generation: what it holds is read, but nothing is added to it by anybody.
    pub(super) fn stop_writing(&mut self) {
        self.store = None;
        if std::mem::take(&mut self.writable)
            && let Some(current) = &self.current
        {
            let generation = generation_path(self.path(), current.generation);
            let path = not_written_path(&generation);
            // On a disk that takes nothing this may fail as well; then the next generation is what keeps it apart.
            let marked = match self.vfs().create(&path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => self.vfs().sync_directory(&generation),
            };
            if let Err(error) = marked {
                tracing::warn!(%error, path = %path.display(), "could not mark a generation as not to be written");
            }
        }
    }

    /// Makes the finished base in `from` the generation that counts. It is whole, verified and fsynced.
    pub(super) fn commit(&mut self, manifest: Manifest, from: &Path) -> Result<(), SnapshotError> {
        // From here on an error leaves open which generation counts after the next start.
        self.stop_adding();
        publish(self.vfs(), self.path(), manifest.generation, from)?;
        let previous = self.known_good.or_else(|| self.current.as_ref().map(|current| current.generation));
        self.known_good = Some(manifest.generation);
        if let Err(error) = self.remove_older(manifest.generation, previous) {
            tracing::warn!(%error, "could not remove older generations");
        }
        self.current = Some(manifest);
        self.writable = true;
        Ok(())
    }

    fn stop_adding(&mut self) {
        self.close_store();
        self.writable = false;
    }

    /// Two remain: the new one, and the one before it, or the newest of the others if that is not known.
    fn remove_older(&self, new: u64, previous: Option<u64>) -> Result<(), SnapshotError> {
        let (vfs, path) = (self.vfs(), self.path());
        let mut others = directory::generations(vfs, path)?;
        others.retain(|number| *number != new);
        let kept = previous.filter(|number| others.contains(number)).or(others.last().copied());
        for number in others.into_iter().filter(|number| Some(*number) != kept) {
            let generation = generation_path(path, number);
            vfs.remove_tree(&generation).map_err(failed("remove", &generation))?;
        }
        vfs.sync_directory(path).map_err(failed("fsync", path))
    }

    /// Removes generations that are newer than the one that counts: a crash came before `CURRENT` named them. With an
    /// increment the current one is newer than they are.
    fn remove_uncommitted(&self, current: u64) -> Result<(), SnapshotError> {
        let (vfs, path) = (self.vfs(), self.path());
        let mut removed = false;
        for number in directory::generations(vfs, path)?.into_iter().filter(|number| *number > current) {
            let generation = generation_path(path, number);
            vfs.remove_tree(&generation).map_err(failed("remove", &generation))?;
            removed = true;
        }
        if removed { vfs.sync_directory(path).map_err(failed("fsync", path)) } else { Ok(()) }
    }

    fn close_store(&mut self) {
        if let Some(store) = self.store.take()
            && let Err(error) = store.close()
        {
            tracing::warn!(%error, "could not close a store");
            self.stop_writing();
        }
    }
}

/// Gives a whole, fsynced generation its name and has `CURRENT` name it.
pub(super) fn publish(vfs: &dyn Vfs, path: &Path, number: u64, from: &Path) -> Result<(), SnapshotError> {
    let generation: PathBuf = generation_path(path, number);
    vfs.rename(from, &generation).map_err(failed("rename", from))?;
    vfs.sync_directory(path).map_err(failed("fsync", path))?;
    let current = directory::current_path(path);
    vfs::replace(vfs, &current, &encode_current(number)).map_err(failed("replace", &current))
}

/// Replaces the manifest in a generation's directory.
pub(super) fn write_manifest(vfs: &Arc<dyn Vfs>, generation: &Path, manifest: &Manifest) -> Result<(), SnapshotError> {
    let path = manifest_path(generation);
    vfs::replace(&**vfs, &path, &manifest.encode()).map_err(failed("replace", &path))
}
