//! The `Vfs` of the disk.
//!
//! Promises: files are made for their owner alone, no link is followed, a lock is the kernel's (flock) and dies with its
//! process. Left to others: loops around short reads and writes (`vfs`), and what an error means.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Pid;

use super::vfs::{Entry, Identity, Kind, Lock, Status, Vfs, VfsFile};

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskVfs;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
const PERMISSIONS: u32 = 0o7777;
/// So long is it tried to empty a directory that somebody else fills.
const EMPTYING_S_MAX: Duration = Duration::from_secs(1);
const EMPTYING_POLL_MS: Duration = Duration::from_millis(10);
/// More than a lock's words ever have.
const LOCK_WORDS_MAX: u64 = 256;

/// Whether the process is there whose number somebody has written down.
pub(super) fn is_alive(pid: &str) -> bool {
    let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
}

/// Options that refuse a link and make files for the owner alone.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Flags are small positive numbers on every Unix.
    options.mode(FILE_MODE).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

fn kind(metadata: &Metadata) -> Kind {
    if metadata.is_file() {
        Kind::File
    } else if metadata.is_dir() {
        Kind::Directory
    } else if metadata.is_symlink() {
        Kind::Link
    } else {
        Kind::Other
    }
}

impl Vfs for DiskVfs {
    fn user(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn status(&self, path: &Path) -> io::Result<Status> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Status {
            kind: kind(&metadata),
            owner: metadata.uid(),
            mode: metadata.mode() & PERMISSIONS,
            length: metadata.len(),
            identity: Identity { device: metadata.dev(), inode: metadata.ino() },
        })
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.metadata() {
                Ok(metadata) => entries.push(Entry { name, kind: kind(&metadata) }),
                // It went while we looked.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(DIRECTORY_MODE).create(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(DiskFile(options().read(true).append(true).create_new(true).open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(DiskFile(options().read(true).append(true).open(path)?)))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(DiskFile(options().read(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        let began = Instant::now();
        loop {
            match fs::remove_dir_all(path) {
                // A process that ends with its parent may have been at it until now.
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && began.elapsed() < EMPTYING_S_MAX => {
                    thread::sleep(EMPTYING_POLL_MS);
                }
                other => return other,
            }
        }
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path, words: &str) -> io::Result<Lock> {
        let mut file = options().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                // On a full disk the lock still holds; only its words are missing.
                let written =
                    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(words.as_bytes()));
                if let Err(error) = written {
                    tracing::warn!(%error, path = %path.display(), "could not write into the lock");
                }
                Ok(Lock::Ours(Box::new(file)))
            }
            Err(TryLockError::WouldBlock) => {
                let mut words = Vec::new();
                file.take(LOCK_WORDS_MAX).read_to_end(&mut words)?;
                Ok(Lock::Others(String::from_utf8_lossy(&words).into_owned()))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// A file that is open for appending and reading.
struct DiskFile(File);

impl VfsFile for DiskFile {
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn read_some(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(into, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
