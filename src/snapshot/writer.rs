//! Writing a run: rows in, ascending; durable when `finish` has returned.
//!
//! A base goes into a generation of its own that nobody sees before it is whole; an increment's blocks are seen by nobody
//! before the manifest names them. Memory: one row and 64 blocks, 256 KiB. An error of an increment ends all writing in
//! its generation; one of a base ends that base alone. Left to others: what becomes of generations (`generations`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::{Block, KEY_BYTES_MAX, Packer, Totals, VALUE_BYTES_MAX};
use super::directory::{generation_path, store_path};
use super::generations::{Generations, write_manifest};
use super::manifest::{Manifest, RunInfo};
use super::store::Store;
use super::verification::verify;
use super::vfs::sync_tree;
use super::{SnapshotError, failed};

/// Blocks put at once, 256 KiB: more than these keep a processor for longer than a reader should wait, and sled's time and
/// memory grow with larger batches.
const BATCH_BLOCKS: usize = 64;

/// A run that is being written. Dropping it abandons the run; nothing of it is ever seen.
pub struct RunWriter<'g> {
    generations: &'g mut Generations,
    target: Target,
    run: u64,
    /// `None` after an error, and after the end.
    packer: Option<Packer>,
    full: Vec<Block>,
    last_key: Option<Vec<u8>>,
}

enum Target {
    Base { number: u64, path: PathBuf, store: Option<Box<dyn Store>> },
    Increment,
}

impl std::fmt::Debug for RunWriter<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RunWriter").field("run", &self.run).finish_non_exhaustive()
    }
}

impl<'g> RunWriter<'g> {
    /// The base of a new generation, in a directory that is made here.
    pub(super) fn base(generations: &'g mut Generations, number: u64, path: PathBuf) -> Result<Self, SnapshotError> {
        let target = Target::Base { number, path: path.clone(), store: None };
        let mut writer = Self::new(generations, target)?;
        let vfs = Arc::clone(writer.generations.directory.vfs());
        let blocks = store_path(&path);
        for made in [&path, &blocks] {
            vfs.create_directory(made).map_err(failed("create", made))?;
        }
        let opened = writer.generations.environment.store.open(&vfs, &blocks).map_err(while_writing)?;
        writer.target = Target::Base { number, path, store: Some(opened) };
        Ok(writer)
    }

    /// A further run of the current generation, whose store is open.
    pub(super) fn increment(generations: &'g mut Generations) -> Result<Self, SnapshotError> {
        Self::new(generations, Target::Increment)
    }

    fn new(generations: &'g mut Generations, target: Target) -> Result<Self, SnapshotError> {
        let run = (generations.environment.random)();
        let packer = Packer::new(run).map_err(failed("pack for", generations.path()))?;
        Ok(Self { generations, target, run, packer: Some(packer), full: Vec::new(), last_key: None })
    }

    /// Adds a row; its key is greater than the one before.
    ///
    /// # Errors
    /// `Row`, which changes nothing; `Failed`, after which the run can only be dropped.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(SnapshotError::Row("its key is too long"));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(SnapshotError::Row("its value is too long"));
        }
        if self.last_key.as_deref().is_some_and(|last| last >= key) {
            return Err(SnapshotError::Row("its key is not greater than the one before"));
        }
        let Some(packer) = &mut self.packer else { return Err(SnapshotError::BeginAnother) };
        packer.push(key, value, &mut self.full).map_err(failed("pack for", self.generations.directory.path()))?;
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        while self.full.len() >= BATCH_BLOCKS {
            let rest = self.full.split_off(BATCH_BLOCKS);
            let batch = std::mem::replace(&mut self.full, rest);
            self.put_blocks(batch)?;
        }
        Ok(())
    }

    /// Makes the run durable, with `meta` beside it: it is loaded from now on, whatever happens.
    ///
    /// # Errors
    /// `Failed`, `Damaged` (a base that did not verify), `Gone`, `BeginAnother` after an earlier error. The run is then
    /// loaded whole or not at all after the next start. When `begin_run` says `BeginAnother` afterwards, the current
    /// generation is written no more.
    pub fn finish(mut self, meta: Vec<u8>) -> Result<RunInfo, SnapshotError> {
        let Some(packer) = self.packer.take() else { return Err(SnapshotError::BeginAnother) };
        let result = self.finish_run(packer, meta);
        if result.is_err() {
            self.fail();
        }
        result
    }

    fn finish_run(&mut self, packer: Packer, meta: Vec<u8>) -> Result<RunInfo, SnapshotError> {
        let totals = packer.finish(&mut self.full).map_err(failed("pack for", self.generations.path()))?;
        while !self.full.is_empty() {
            let rest = self.full.split_off(BATCH_BLOCKS.min(self.full.len()));
            let batch = std::mem::replace(&mut self.full, rest);
            self.put_blocks(batch)?;
        }
        self.generations.directory.check_identity()?;
        self.store()?.sync().map_err(while_writing)?;
        let run = self.run_info(totals, meta);
        match &mut self.target {
            Target::Base { number, path, store } => {
                let store = store.take().expect("it is open until the base is finished");
                let manifest = Manifest { generation: *number, runs: vec![run.clone()] };
                commit_base(self.generations, manifest, path, store)?;
            }
            Target::Increment => commit_increment(self.generations, run.clone())?,
        }
        Ok(run)
    }

    fn run_info(&self, totals: Totals, meta: Vec<u8>) -> RunInfo {
        RunInfo {
            id: self.run,
            rows: totals.rows,
            blocks: totals.blocks,
            bytes: totals.bytes,
            stored_bytes: totals.stored_bytes,
            digest: totals.digest,
            finished_ms: (self.generations.environment.now_ms)(),
            meta,
        }
    }

    fn put_blocks(&mut self, batch: Vec<Block>) -> Result<(), SnapshotError> {
        let result = self.store().and_then(|store| store.put(batch).map_err(while_writing));
        if result.is_err() {
            self.fail();
        }
        result
    }

    fn store(&mut self) -> Result<&mut Box<dyn Store>, SnapshotError> {
        let store = match &mut self.target {
            Target::Base { store, .. } => store.as_mut(),
            Target::Increment => self.generations.store.as_mut(),
        };
        store.ok_or(SnapshotError::BeginAnother)
    }

    /// Nothing is tried again.
    fn fail(&mut self) {
        self.packer = None;
        match &mut self.target {
            Target::Base { store, .. } => *store = None,
            Target::Increment => self.generations.stop_writing(),
        }
    }
}

impl Drop for RunWriter<'_> {
    fn drop(&mut self) {
        if let Target::Base { path, store, .. } = &mut self.target {
            *store = None;
            let vfs = self.generations.vfs();
            // A finished base has been moved. What cannot be removed now is removed at the next start.
            if vfs.status(path).is_ok()
                && let Err(error) = vfs.remove_tree(path)
            {
                tracing::warn!(%error, path = %path.display(), "could not remove an unfinished generation");
            }
        }
    }
}

/// The manifest, a look at all of it, fsync of what that look may have written, and then `CURRENT`.
fn commit_base(
    generations: &mut Generations,
    manifest: Manifest,
    path: &Path,
    store: Box<dyn Store>,
) -> Result<(), SnapshotError> {
    store.close().map_err(while_writing)?;
    let vfs = Arc::clone(generations.directory.vfs());
    write_manifest(&vfs, path, &manifest)?;
    verify(&vfs, &generations.environment.store, path)?;
    sync_tree(&*vfs, path).map_err(failed("fsync", path))?;
    generations.commit(manifest, path)
}

/// The run is in the store and fsynced; the manifest says so.
fn commit_increment(generations: &mut Generations, run: RunInfo) -> Result<(), SnapshotError> {
    let current = generations.current.as_ref().expect("increments have a current generation");
    let mut manifest = current.clone();
    manifest.runs.push(run);
    let path = generation_path(generations.path(), manifest.generation);
    write_manifest(generations.directory.vfs(), &path, &manifest)?;
    generations.unmark(manifest.generation);
    generations.current = Some(manifest);
    Ok(())
}

/// A store that panics, or says that it is damaged, while it is written: there is nothing to fall back from.
fn while_writing(error: SnapshotError) -> SnapshotError {
    match error {
        SnapshotError::Damaged { path, why } => failed("write", &path)(std::io::Error::other(why)),
        other => other,
    }
}
