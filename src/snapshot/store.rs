//! Where blocks lie: the `Store` trait, and a simple store over `Vfs`.
//!
//! In: blocks, each run's in order of their sequence, then `sync`. Out: the blocks of a run, in order, as they lie there;
//! they may be fewer, older or damaged: a block knows whose it is (`block`), the manifest knows how many there are. After
//! `sync` has returned `Ok`, everything put before survives a power cut. After any error a store is written no more.
//!
//! Two implementations pass one suite of conformance (tests/snapshot_store.rs): sled (`sled_store`), and `FileStore` here
//! for the simulation: files that are only appended to, of frames `length u32, checksum u64, block`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::block::{BLOCK_BYTES_MAX, Block};
use super::sealed::{Fields, seal, unseal};
use super::sled_store::SledStore;
use super::verification::Verification;
use super::vfs::{self, Vfs, VfsFile};
use super::{SnapshotError, failed};

/// The blocks of a generation.
pub trait Store: Send {
    /// Adds blocks.
    ///
    /// # Errors
    /// `Failed`; the store is not to be written again.
    fn put(&mut self, blocks: Vec<Block>) -> Result<(), SnapshotError>;
    /// Makes durable what was put.
    ///
    /// # Errors
    /// `Failed`; the store is not to be written again.
    fn sync(&mut self) -> Result<(), SnapshotError>;
    /// Hands over the bytes of a run's blocks in order.
    ///
    /// # Errors
    /// `Damaged`, `Failed`, and those of `each`.
    fn scan(&mut self, run: u64, each: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>)
    -> Result<(), SnapshotError>;
    /// Lets go of the files, so that they can be moved or opened again.
    ///
    /// # Errors
    /// `Failed`.
    fn close(self: Box<Self>) -> Result<(), SnapshotError>;
}

/// Which store generations have.
#[derive(Debug, Clone)]
pub enum StoreKind {
    /// sled, verified where it can do no harm.
    Sled(Verification),
    /// Appended files over the `Vfs`, for simulations.
    Files,
}

impl StoreKind {
    /// How long to wait before what could not be read is tried again; simulated files do not change meanwhile.
    pub(super) fn pause(&self) -> Duration {
        match self {
            Self::Sled(_) => Duration::from_millis(500),
            Self::Files => Duration::ZERO,
        }
    }

    /// Opens the store in a directory, which exists.
    ///
    /// # Errors
    /// `Damaged` or `Failed`.
    pub fn open(&self, vfs: &Arc<dyn Vfs>, directory: &Path) -> Result<Box<dyn Store>, SnapshotError> {
        match self {
            Self::Sled(_) => Ok(Box::new(SledStore::open(vfs, directory)?)),
            Self::Files => Ok(Box::new(FileStore::open(vfs, directory)?)),
        }
    }
}

const MAGIC: &[u8; 8] = b"TARNBLOC";
const HEAD_BYTES: usize = 8 + 4 + 8;

/// A store of appended files. A file is begun for every opening: nothing is written behind a frame that may be torn.
struct FileStore {
    vfs: Arc<dyn Vfs>,
    directory: PathBuf,
    /// Those that were there, in order.
    files: Vec<String>,
    writing: Option<Box<dyn VfsFile>>,
}

impl FileStore {
    fn open(vfs: &Arc<dyn Vfs>, directory: &Path) -> Result<Self, SnapshotError> {
        let entries = vfs.list(directory).map_err(failed("list", directory))?;
        let mut files: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
        files.sort();
        Ok(Self { vfs: Arc::clone(vfs), directory: directory.to_owned(), files, writing: None })
    }

    /// The file that is appended to.
    fn writing(&mut self) -> Result<&mut Box<dyn VfsFile>, SnapshotError> {
        if self.writing.is_none() {
            let name = format!("blocks-{:06}", self.files.len() + 1);
            let path = self.directory.join(&name);
            let mut file = self.vfs.create(&path).map_err(failed("create", &path))?;
            vfs::append(&mut *file, &seal(MAGIC, &[])).map_err(failed("write", &path))?;
            self.vfs.sync_directory(&self.directory).map_err(failed("fsync", &self.directory))?;
            self.files.push(name);
            self.writing = Some(file);
        }
        Ok(self.writing.as_mut().expect("it was just made"))
    }
}

impl Store for FileStore {
    fn put(&mut self, blocks: Vec<Block>) -> Result<(), SnapshotError> {
        let directory = self.directory.clone();
        let file = self.writing()?;
        let mut bytes = Vec::new();
        for block in blocks {
            let length = u32::try_from(block.bytes.len()).expect("blocks have at most BLOCK_BYTES_MAX");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&xxh3_64(&block.bytes).to_le_bytes());
            bytes.extend_from_slice(&block.bytes);
        }
        vfs::append(&mut **file, &bytes).map_err(failed("write blocks in", &directory))
    }

    fn sync(&mut self) -> Result<(), SnapshotError> {
        let directory = self.directory.clone();
        self.writing()?.sync().map_err(failed("fsync blocks in", &directory))
    }

    fn scan(
        &mut self,
        run: u64,
        each: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        for name in &self.files {
            let path = self.directory.join(name);
            let bytes = vfs::read(&*self.vfs, &path).map_err(failed("read", &path))?;
            let Some((head, frames)) = bytes.split_at_checked(HEAD_BYTES) else { continue };
            match unseal(MAGIC, head, &path) {
                Ok(_) => {}
                // Begun, and then a crash; if something was in it, it is missed at the end.
                Err(SnapshotError::Damaged { .. }) => continue,
                Err(error) => return Err(error),
            }
            let mut frames = Fields::new(frames);
            while let Some(block) = next_frame(&mut frames) {
                // A block's run stands behind its checksum.
                if block.get(8..16) == Some(&run.to_le_bytes()) {
                    each(block)?;
                }
            }
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), SnapshotError> {
        Ok(())
    }
}

/// The next block, up to the first frame that is torn: what stands behind it was never synced.
fn next_frame<'a>(frames: &mut Fields<'a>) -> Option<&'a [u8]> {
    let length = frames.u32()? as usize;
    let checksum = frames.u64()?;
    let block = frames.bytes(length)?;
    (length <= BLOCK_BYTES_MAX && xxh3_64(block) == checksum).then_some(block)
}
