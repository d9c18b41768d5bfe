//! Reading generations: every checksum, count and digest is looked at, always.
//!
//! Rows are handed over as they are read, before the whole is known to be good: whoever takes them throws them away when
//! an error comes at the end. Verifying is reading without taking rows. Left to others: where that is done so that sled
//! can do no harm (`verification`), and which generation is next (`generations`).

use std::path::Path;
use std::sync::Arc;

use super::block::{Totals, Unpacker};
use super::directory::{read_manifest_in, store_path};
use super::manifest::{Manifest, RunInfo};
use super::store::{Store, StoreKind};
use super::vfs::Vfs;
use super::{SnapshotError, failed};

/// What was loaded, and what was passed over.
#[derive(Debug)]
pub struct Loaded<T> {
    /// What the rows were put into, and the runs that they came from; `None` without a generation that is good.
    pub contents: Option<(T, Manifest)>,
    /// The generations tried before, newest first, and why each was not taken. None: nothing was wrong.
    pub fallbacks: Vec<Fallback>,
}

/// A generation that was not taken.
#[derive(Debug)]
pub struct Fallback {
    /// Its number.
    pub generation: u64,
    /// Why.
    pub error: SnapshotError,
}

/// Reads a generation's directory; rows go to `row` as (place of the run, key, value), run by run, keys ascending.
///
/// Its store must be open nowhere else. sled writes while it opens, so this is not for directories that are read-only.
pub(super) fn read_generation(
    vfs: &Arc<dyn Vfs>,
    kind: &StoreKind,
    generation: &Path,
    number: u64,
    row: &mut dyn FnMut(usize, &[u8], &[u8]),
) -> Result<Manifest, SnapshotError> {
    let manifest = read_manifest_in(&**vfs, generation, number)?;
    if manifest.runs.is_empty() {
        return Err(SnapshotError::damaged(generation, "it has no base"));
    }
    let path = store_path(generation);
    if vfs.status(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Err(SnapshotError::damaged(&path, "it is missing"));
    }
    let mut store = kind.open(vfs, &path)?;
    for (place, run) in manifest.runs.iter().enumerate() {
        let mut take = |key: &[u8], value: &[u8]| row(place, key, value);
        let found = read_run(&mut *store, run.id, generation, &mut take)?;
        if found != expected(run) {
            let why = format!("run {place} is {found:?} instead of {:?}", expected(run));
            return Err(SnapshotError::damaged(generation, why));
        }
    }
    store.close()?;
    Ok(manifest)
}

fn expected(run: &RunInfo) -> Totals {
    Totals { rows: run.rows, blocks: run.blocks, bytes: run.bytes, stored_bytes: run.stored_bytes, digest: run.digest }
}

fn read_run(
    store: &mut dyn Store,
    run: u64,
    generation: &Path,
    row: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<Totals, SnapshotError> {
    let damaged = |why: String| SnapshotError::damaged(generation, why);
    let mut unpacker = Unpacker::new(run).map_err(failed("unpack", generation))?;
    store.scan(run, &mut |block| unpacker.push(block, row).map_err(damaged))?;
    unpacker.finish().map_err(damaged)
}
