//! The store in sled 0.34.7, used in the one way that avoids its known faults.
//!
//! * A torn `snap.*.generating` makes every later open fail: they are removed before each.
//! * Its flush is no fsync: we fsync its files ourselves, by descriptors that are open from the start, so that no error
//!   of writing back is missed.
//! * A node over 131,052 bytes goes to a file of its own that nobody fsyncs: values have at most 4 KiB, and `sync` looks
//!   that there is no such file.
//! * It panics on many errors, and may hang: every call is made on a thread of its own with a time limit, and a panic,
//!   as well as a hang, is an error. What is dropped after an error is dropped on such a thread too.
//! * It gets larger as it is updated: nothing ever is. One tree; keys are run and sequence, big-endian.
//! * Its background flusher ignores errors and moves data around: there is none.
//! * It takes a read that fails for the end of what is there, and writes over the rest: all is read before it opens, so
//!   that an error of the device is met while nothing has been touched.
//! * Its recovery trusts what it finds: every block is checked by the reader.
//!
//! sled reads and writes its files itself; all other access goes through `Vfs`. Left to others: everything that the
//! manifest says (`generations`), and opening what may be damaged in another process first (`verification`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use sled::{Db, IVec};

use super::block::Block;
use super::store::Store;
use super::vfs::{self, Kind, Vfs, VfsFile};
use super::{STORE_THREAD, SnapshotError, failed};

const CACHE_BYTES: u64 = 64 << 20;
/// No call takes this long unless the disk or sled hangs.
const CALL_S_MAX: Duration = Duration::from_secs(300);
/// sled's threads let go of its file a little after it was closed.
const LOCK_S_MAX: Duration = Duration::from_secs(10);
const LOCK_POLL_MS: Duration = Duration::from_millis(5);
/// Blocks handed over at a time by a scan, and how often ahead of who takes them.
const SCAN_BLOCKS: usize = 256;
const SCAN_AHEAD: usize = 4;

/// One generation's sled.
pub(super) struct SledStore {
    vfs: Arc<dyn Vfs>,
    directory: PathBuf,
    /// `None` only while it is being closed.
    database: Option<Db>,
    /// Its files, opened before anything was written.
    files: Vec<(String, Box<dyn VfsFile>)>,
}

impl SledStore {
    pub(super) fn open(vfs: &Arc<dyn Vfs>, directory: &Path) -> Result<Self, SnapshotError> {
        remove_torn_snapshots(&**vfs, directory).map_err(failed("clean", directory))?;
        read_files_through(&**vfs, directory)?;
        let path = directory.to_owned();
        let database = call(directory, "open the store", move || open_database(&path))?;
        let mut store =
            Self { vfs: Arc::clone(vfs), directory: directory.to_owned(), database: Some(database), files: Vec::new() };
        store.open_files()?;
        Ok(store)
    }

    fn database(&self) -> Db {
        self.database.clone().expect("it is there until the store is closed")
    }

    /// Opens those of sled's files that are not open yet.
    fn open_files(&mut self) -> Result<(), SnapshotError> {
        for entry in self.vfs.list(&self.directory).map_err(failed("list", &self.directory))? {
            if entry.kind == Kind::File && !self.files.iter().any(|(name, _)| *name == entry.name) {
                let path = self.directory.join(&entry.name);
                let file = self.vfs.open(&path).map_err(failed("open", &path))?;
                self.files.push((entry.name, file));
            }
        }
        Ok(())
    }
}

/// Opens sled; waits a little for its lock.
fn open_database(path: &Path) -> sled::Result<Db> {
    let begin = Instant::now();
    loop {
        let opened = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None).open();
        match &opened {
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock") && begin.elapsed() < LOCK_S_MAX =>
            {
                thread::sleep(LOCK_POLL_MS);
            }
            _ => return opened,
        }
    }
}

/// What sled was writing when it died; it would take it for its newest state.
fn remove_torn_snapshots(vfs: &dyn Vfs, directory: &Path) -> io::Result<()> {
    for entry in vfs.list(directory)? {
        if entry.name.starts_with("snap.") && entry.name.ends_with(".generating") {
            tracing::warn!(directory = %directory.display(), file = entry.name, "a torn file of sled is removed");
            vfs.remove_file(&directory.join(&entry.name))?;
        }
    }
    Ok(())
}

fn read_files_through(vfs: &dyn Vfs, directory: &Path) -> Result<(), SnapshotError> {
    for entry in vfs.list(directory).map_err(failed("list", directory))? {
        if entry.kind == Kind::File {
            let path = directory.join(&entry.name);
            vfs::read_through(vfs, &path).map_err(failed("read", &path))?;
        }
    }
    Ok(())
}

impl Store for SledStore {
    fn put(&mut self, blocks: Vec<Block>) -> Result<(), SnapshotError> {
        let database = self.database();
        call(&self.directory, "write blocks in", move || {
            let mut batch = sled::Batch::default();
            for block in blocks {
                batch.insert(&key(block.run, block.sequence), block.bytes);
            }
            database.apply_batch(batch)
        })
    }

    fn sync(&mut self) -> Result<(), SnapshotError> {
        let database = self.database();
        call(&self.directory, "flush", move || database.flush())?;
        self.open_files()?;
        for (name, file) in &self.files {
            file.sync().map_err(failed("fsync", &self.directory.join(name)))?;
        }
        let large_values = self.directory.join("blobs");
        let large = self.vfs.list(&large_values).map_err(failed("list", &large_values))?;
        if !large.is_empty() {
            let why = io::Error::other("sled put a value into a file of its own, which it does not fsync");
            return Err(failed("keep", &large_values)(why));
        }
        for directory in [&large_values, &self.directory] {
            self.vfs.sync_directory(directory).map_err(failed("fsync", directory))?;
        }
        Ok(())
    }

    fn scan(
        &mut self,
        run: u64,
        each: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let database = self.database();
        let (to_caller, blocks) = mpsc::sync_channel(SCAN_AHEAD);
        spawn(move || {
            let mut some = Vec::new();
            for row in database.scan_prefix(run.to_be_bytes()) {
                let last = row.is_err();
                some.push(row.map(|(_, value)| value));
                if last || some.len() == SCAN_BLOCKS {
                    let gone = to_caller.send(std::mem::take(&mut some)).is_err();
                    if gone || last {
                        return;
                    }
                }
            }
            drop(database);
            // An empty list says that this is the end, and not a panic.
            drop(to_caller.send(some).and_then(|()| to_caller.send(Vec::new())));
        })
        .map_err(failed("read", &self.directory))?;
        loop {
            let some: Vec<sled::Result<IVec>> =
                blocks.recv_timeout(CALL_S_MAX).map_err(|error| ended(&error, &self.directory))?;
            if some.is_empty() {
                return Ok(());
            }
            for block in some {
                each(&block.map_err(|error| told(&self.directory, "read", error))?)?;
            }
        }
    }

    fn close(mut self: Box<Self>) -> Result<(), SnapshotError> {
        let database = self.database.take();
        call(&self.directory, "close", move || {
            drop(database);
            Ok(())
        })
    }
}

impl Drop for SledStore {
    /// After an error: whether sled panics or hangs now is nobody's business.
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            drop(spawn(move || drop(database)));
        }
    }
}

fn key(run: u64, sequence: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&run.to_be_bytes());
    key[8..].copy_from_slice(&sequence.to_be_bytes());
    key
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(STORE_THREAD.to_owned()).spawn(work).map(drop)
}

/// One call of sled, on a thread that may panic or hang.
fn call<T: Send + 'static>(
    directory: &Path,
    doing: &'static str,
    work: impl FnOnce() -> sled::Result<T> + Send + 'static,
) -> Result<T, SnapshotError> {
    let (to_caller, result) = mpsc::sync_channel(1);
    spawn(move || drop(to_caller.send(work()))).map_err(failed(doing, directory))?;
    match result.recv_timeout(CALL_S_MAX) {
        Ok(result) => result.map_err(|error| told(directory, doing, error)),
        Err(error) => Err(ended(&error, directory)),
    }
}

/// What a thread's silence means.
fn ended(error: &RecvTimeoutError, directory: &Path) -> SnapshotError {
    SnapshotError::damaged(
        directory,
        match error {
            RecvTimeoutError::Disconnected => "sled panicked".to_owned(),
            RecvTimeoutError::Timeout => format!("sled has not answered for {} s", CALL_S_MAX.as_secs()),
        },
    )
}

/// An error of sled: of the machine, or of what it found.
fn told(directory: &Path, doing: &'static str, error: sled::Error) -> SnapshotError {
    match error {
        // It reads beyond what is there when lengths are wrong.
        sled::Error::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => failed(doing, directory)(source),
        other => SnapshotError::damaged(directory, other.to_string()),
    }
}
