//! A copy of the newest good generation, as a data directory of its own.
//!
//! The service may run meanwhile: no lock is taken on its directory and nothing in it is changed. The manifest is read
//! first and the store copied afterwards, so everything that the manifest names is in the copy; what the store has got
//! since is ignored like any unfinished run. The copy is verified before it counts; when the generation went meanwhile,
//! or the copy is not good, the next attempt begins anew.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::directory::{Directory, generation_path, manifest_path, read_manifest, store_path, unfinished_path};
use super::generations::{candidates, publish};
use super::manifest::Manifest;
use super::store::StoreKind;
use super::verification::verify;
use super::vfs::{self, Kind, Vfs, sync_tree};
use super::{SnapshotError, failed};

const ATTEMPTS: usize = 5;
const PAUSE_MS: Duration = Duration::from_millis(200);

/// What was copied.
#[derive(Debug)]
pub struct Backup {
    /// What the copy holds.
    pub manifest: Manifest,
    /// Bytes of its files.
    pub on_disk_bytes: u64,
}

/// Copies the newest good generation of `from` to `to`, which must be empty or not exist.
///
/// # Errors
/// `Refused` if there is something in `to`, or no generation in `from`; else the error of the last attempt.
pub fn back_up(vfs: &Arc<dyn Vfs>, kind: &StoreKind, from: &Path, to: &Path) -> Result<Backup, SnapshotError> {
    let refused = |path: &Path, why: &str| SnapshotError::Refused { path: path.to_owned(), why: why.to_owned() };
    if vfs.list(to).is_ok_and(|entries| !entries.is_empty()) {
        return Err(refused(to, "it is not empty"));
    }
    let mut last = refused(from, "there is no generation in it");
    if candidates(&**vfs, from)?.is_empty() {
        return Err(last);
    }
    let target = Directory::open(Arc::clone(vfs), to)?;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            thread::sleep(PAUSE_MS);
        }
        for number in candidates(&**vfs, from)? {
            match copy(vfs, kind, from, target.path(), number) {
                Ok(manifest) => {
                    let copied = generation_path(target.path(), number);
                    let on_disk_bytes = vfs::tree_bytes(&**vfs, &copied).map_err(failed("measure", &copied))?;
                    return Ok(Backup { manifest, on_disk_bytes });
                }
                Err(error) => {
                    tracing::warn!(%error, generation = number, "a generation could not be copied");
                    last = error;
                }
            }
        }
    }
    Err(last)
}

/// The same, to a directory that has its name only when it is whole; what an attempt before it left is made anew.
///
/// # Errors
/// Those of [`back_up`].
pub fn keep_aside(vfs: &Arc<dyn Vfs>, kind: &StoreKind, from: &Path, to: &Path) -> Result<(), SnapshotError> {
    if vfs.status(to).is_ok() {
        // It has its name only when it is whole.
        return Ok(());
    }
    let copying = to.with_extension("copying");
    if vfs.status(&copying).is_ok() {
        vfs.remove_tree(&copying).map_err(failed("remove", &copying))?;
    }
    back_up(vfs, kind, from, &copying)?;
    vfs.rename(&copying, to).map_err(failed("rename", &copying))?;
    vfs.sync_directory(from).map_err(failed("fsync", from))
}

fn copy(vfs: &Arc<dyn Vfs>, kind: &StoreKind, from: &Path, to: &Path, number: u64) -> Result<Manifest, SnapshotError> {
    let source = generation_path(from, number);
    let unfinished = unfinished_path(to, number);
    if let Err(error) = vfs.remove_tree(&unfinished)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(failed("remove", &unfinished)(error));
    }
    let manifest = read_manifest(&**vfs, from, number)?;
    vfs.create_directory(&unfinished).map_err(failed("create", &unfinished))?;
    copy_tree(&**vfs, &store_path(&source), &store_path(&unfinished))?;
    let path = manifest_path(&unfinished);
    vfs::create_with(&**vfs, &path, &manifest.encode()).map_err(failed("write", &path))?;
    verify(vfs, kind, &unfinished)?;
    sync_tree(&**vfs, &unfinished).map_err(failed("fsync", &unfinished))?;
    publish(&**vfs, to, number, &unfinished)?;
    Ok(manifest)
}

fn copy_tree(vfs: &dyn Vfs, from: &Path, to: &Path) -> Result<(), SnapshotError> {
    vfs.create_directory(to).map_err(failed("create", to))?;
    let mut entries = vfs.list(from).map_err(failed("list", from))?;
    // sled's `snap.*` say what is in its `db`, so they must not be newer than it: `db` goes last.
    entries.sort_by_key(|entry| entry.name == "db");
    for entry in entries {
        let (source, target) = (from.join(&entry.name), to.join(&entry.name));
        match entry.kind {
            Kind::Directory => copy_tree(vfs, &source, &target)?,
            Kind::File if entry.name.ends_with(".generating") => {}
            Kind::File => vfs::copy_file(vfs, &source, &target).map_err(failed("copy", &source))?,
            Kind::Link | Kind::Other => {}
        }
    }
    Ok(())
}
