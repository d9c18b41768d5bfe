//! All file access of snapshots and journals, sled's own excepted, behind one trait.
//!
//! In: paths and bytes. Out: bytes, or the error of the system, unjudged. An implementation may write or read less than
//! it was asked to and may be interrupted: the loops around that are here, once, for the disk and for the simulation.
//! Nothing is durable before `sync` (contents) and `sync_directory` (names) have returned without an error.
//!
//! Left to others: which file means what (`directory`, `generations`, `journal`), and every retry.

use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::path::Path;

/// What a name stands for; links are never followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// Anything else.
    Other,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, without its directory.
    pub name: String,
    /// What it stands for.
    pub kind: Kind,
}

/// Which file or directory it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The device it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// What the system knows of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// File, directory or link.
    pub kind: Kind,
    /// The user it belongs to.
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
    /// Bytes.
    pub length: u64,
    /// Which one it is.
    pub identity: Identity,
}

/// Who has a lock.
pub enum Lock {
    /// We, until this is dropped or the process ends.
    Ours(Box<dyn Send + Sync>),
    /// Another process, which left these words in the file.
    Others(String),
}

/// Files and directories. Errors are the system's own.
pub trait Vfs: Debug + Send + Sync + 'static {
    /// The user this process acts as.
    fn user(&self) -> u32;
    /// What a name stands for, links not followed; `NotFound` without it.
    fn status(&self, path: &Path) -> io::Result<Status>;
    /// The names in a directory, in any order.
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>>;
    /// A new directory for the owner alone (0700).
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// A new, empty file for the owner alone (0600); `AlreadyExists` if there is one, or a link.
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// An existing file, to read, append and fsync; a link is refused.
    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// An existing file, to read alone; a link is refused.
    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Moves a file or a directory in one step; takes the place of a file that has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and everything in it; follows no link.
    fn remove_tree(&self, path: &Path) -> io::Result<()>;
    /// fsync of a directory: its names are durable afterwards.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Takes a lock that the system frees when its owner dies, and leaves `words` for whoever comes next.
    fn lock(&self, path: &Path, words: &str) -> io::Result<Lock>;
}

/// An open file.
pub trait VfsFile: Send + Sync {
    /// Writes some of the bytes behind the end; how many.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Reads some bytes from an offset on; 0 at the end.
    fn read_some(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// fsync: what was written is durable afterwards. After an error nobody knows, and a later success says nothing.
    fn sync(&self) -> io::Result<()>;
    /// Bytes.
    fn length(&self) -> io::Result<u64>;
}

/// Writes all of the bytes behind the end.
///
/// # Errors
/// The system's; some of the bytes may have been written then.
pub fn append(file: &mut dyn VfsFile, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match file.write_some(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `into` from an offset on, as far as the file goes; how many bytes.
///
/// # Errors
/// The system's.
pub fn read_at(file: &dyn VfsFile, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_some(offset + filled as u64, &mut into[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A whole file.
///
/// # Errors
/// The system's.
pub fn read(vfs: &dyn Vfs, path: &Path) -> io::Result<Vec<u8>> {
    let file = vfs.open_to_read(path)?;
    let length = usize::try_from(file.length()?).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    let mut bytes = vec![0; length];
    let filled = read_at(&*file, 0, &mut bytes)?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// A new file with these bytes, fsynced; its name is not durable yet.
///
/// # Errors
/// The system's.
pub fn create_with(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = vfs.create(path)?;
    append(&mut *file, bytes)?;
    file.sync()
}

/// Gives `path` new contents in one step that survives a crash: whoever reads sees the old ones or the new ones.
///
/// # Errors
/// The system's. Which of the two stands there afterwards is then not known.
pub fn replace(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(TEMPORARY);
    remove_if_there(vfs, &temporary)?;
    create_with(vfs, &temporary, bytes)?;
    vfs.rename(&temporary, path)?;
    vfs.sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// The extension of files that are not finished; they are removed at start.
pub(super) const TEMPORARY: &str = "tmp";

/// Removes a file; none is as well.
pub(super) fn remove_if_there(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    match vfs.remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Copies a file as it is now, fsynced.
pub(super) fn copy_file(vfs: &dyn Vfs, from: &Path, to: &Path) -> io::Result<()> {
    const CHUNK_BYTES: usize = 1 << 20;
    let source = vfs.open_to_read(from)?;
    let mut target = vfs.create(to)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let filled = read_at(&*source, offset, &mut chunk)?;
        append(&mut *target, &chunk[..filled])?;
        offset += filled as u64;
        if filled < CHUNK_BYTES {
            return target.sync();
        }
    }
}

/// Reads a file to its end and keeps nothing: what the device cannot give is met here.
pub(super) fn read_through(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    const CHUNK_BYTES: usize = 1 << 20;
    let file = vfs.open_to_read(path)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let filled = read_at(&*file, offset, &mut chunk)?;
        offset += filled as u64;
        if filled < CHUNK_BYTES {
            return Ok(());
        }
    }
}

/// fsync of every file below a directory, then of the directories from inside out.
pub(super) fn sync_tree(vfs: &dyn Vfs, directory: &Path) -> io::Result<()> {
    for entry in vfs.list(directory)? {
        let path = directory.join(&entry.name);
        match entry.kind {
            Kind::Directory => sync_tree(vfs, &path)?,
            Kind::File => vfs.open(&path)?.sync()?,
            Kind::Link | Kind::Other => return Err(io::Error::other(format!("{} is no file", path.display()))),
        }
    }
    vfs.sync_directory(directory)
}

/// Bytes of all files below a directory; what vanishes meanwhile counts nothing.
pub(super) fn tree_bytes(vfs: &dyn Vfs, directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in vfs.list(directory)? {
        let path = directory.join(&entry.name);
        if entry.kind == Kind::Directory {
            bytes += tree_bytes(vfs, &path)?;
        } else {
            bytes += vfs.status(&path).map_or(0, |status| status.length);
        }
    }
    Ok(bytes)
}
