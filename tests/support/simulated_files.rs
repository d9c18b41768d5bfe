//! Files in memory that behave like the worst disk that keeps its word.
//!
//! What was written lies in a page cache until it is fsynced; names lie there until their directory is. At a power cut
//! everything that is not fsynced may be lost: all of it, or any part, in any order, writes torn at 512 bytes. An fsync
//! that fails drops what it should have written, and later ones know nothing of it. Any operation can be told to fail,
//! to do half of it, or to be the last one.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tarn::snapshot::{Entry, Identity, Kind, Lock, Status, Vfs, VfsFile};

const SECTOR_BYTES: usize = 512;
const ROOT: usize = 0;

/// What happens at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error; a write may have done a part of it.
    Error(ErrorKind),
    /// It and all later ones that write fail with this error, until that is changed.
    Full(ErrorKind),
    /// The machine stops: this operation and all later ones fail.
    Stop,
}

#[derive(Debug, Clone)]
enum Node {
    File { live: Vec<u8>, durable: Vec<u8>, pending: Vec<(usize, Vec<u8>)> },
    Directory { live: BTreeMap<String, usize>, durable: BTreeMap<String, usize>, pending: Vec<Vec<NameChange>> },
}

/// Changes of names; those of one operation are kept or lost together.
#[derive(Debug, Clone)]
enum NameChange {
    Set(String, usize),
    Unset(String),
}

#[derive(Debug)]
struct Disk {
    nodes: Vec<Node>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    errors: u64,
    stopped: bool,
    /// Whether an fsync of a file does not come back, and how many wait for that.
    hangs: (bool, usize),
    random: StdRng,
}

/// The files; clones are the same ones.
#[derive(Debug, Clone)]
pub struct SimulatedVfs(Arc<Mutex<Disk>>);

fn directory() -> Node {
    Node::Directory { live: BTreeMap::new(), durable: BTreeMap::new(), pending: Vec::new() }
}

impl SimulatedVfs {
    pub fn new(seed: u64) -> Self {
        Self::with_nodes(vec![directory()], seed)
    }

    fn with_nodes(nodes: Vec<Node>, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self(Arc::new(Mutex::new(Disk {
            nodes,
            operations: 0,
            fault: None,
            errors: 0,
            stopped: false,
            hangs: (false, 0),
            random,
        })))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().expect("it works")
    }

    /// How many operations there have been.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// What happens at operation `index`, counted from the first one ever.
    pub fn fail_at(&self, index: u64, fault: Fault) {
        self.disk().fault = Some((index, fault));
    }

    /// How many operations have failed because they were told to.
    pub fn errors(&self) -> u64 {
        self.disk().errors
    }

    /// What was to fail does not.
    pub fn heal(&self) {
        let mut disk = self.disk();
        disk.fault = None;
        disk.stopped = false;
    }

    /// From now on an fsync of a file hangs, or does not any more.
    pub fn hang(&self, hangs: bool) {
        self.disk().hangs.0 = hangs;
    }

    /// How many hang.
    pub fn hanging(&self) -> usize {
        self.disk().hangs.1
    }

    /// Whether the machine has stopped.
    pub fn stopped(&self) -> bool {
        self.disk().stopped
    }

    /// The files as they are after a power cut: a machine that starts anew. `kept` is the chance of an operation that was
    /// not fsynced to have reached the disk.
    pub fn after_power_cut(&self, seed: u64, kept: f64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let nodes = self.disk().nodes.iter().map(|node| survive(node, &mut random, kept)).collect();
        Self::with_nodes(nodes, seed)
    }

    /// Changes a file's bytes behind everybody's back.
    pub fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.disk();
        let id = disk.find(path).expect("it works");
        let Node::File { live, durable, pending } = &mut disk.nodes[id] else { panic!("no file") };
        change(live);
        durable.clone_from(live);
        pending.clear();
    }
}

fn survive(node: &Node, random: &mut StdRng, kept: f64) -> Node {
    match node {
        Node::File { durable, pending, .. } => {
            let mut bytes = durable.clone();
            for (offset, written) in pending {
                for (place, sector) in written.chunks(SECTOR_BYTES).enumerate() {
                    if random.random_bool(kept) {
                        write_at(&mut bytes, offset + place * SECTOR_BYTES, sector);
                    }
                }
            }
            Node::File { live: bytes.clone(), durable: bytes, pending: Vec::new() }
        }
        Node::Directory { durable, pending, .. } => {
            let mut names = durable.clone();
            for changes in pending {
                if random.random_bool(kept) {
                    changes.iter().for_each(|change| apply(&mut names, change));
                }
            }
            Node::Directory { live: names.clone(), durable: names, pending: Vec::new() }
        }
    }
}

fn write_at(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    let end = offset + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(written);
}

fn apply(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Set(name, id) => drop(names.insert(name.clone(), *id)),
        NameChange::Unset(name) => drop(names.remove(name)),
    }
}

impl Disk {
    /// Counts an operation, which may fail.
    fn operation(&mut self) -> io::Result<()> {
        let index = self.operations;
        self.operations += 1;
        let error = match self.fault {
            Some((at, Fault::Error(kind))) if at == index => kind.into(),
            Some((at, Fault::Stop)) if at <= index => {
                self.stopped = true;
                io::Error::other("the machine has stopped")
            }
            _ => return Ok(()),
        };
        self.errors += 1;
        Err(error)
    }

    /// Counts an operation that needs space.
    fn growth(&mut self) -> io::Result<()> {
        match self.fault {
            Some((at, Fault::Full(kind))) if at <= self.operations => {
                self.errors += 1;
                Err(kind.into())
            }
            _ => self.operation(),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut id = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Node::Directory { live, .. } = &self.nodes[id] else { return Err(ErrorKind::NotADirectory.into()) };
            id = *live.get(name.to_str().expect("it works")).ok_or(ErrorKind::NotFound)?;
        }
        Ok(id)
    }

    fn parent(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().expect("it works").to_str().expect("it works").to_owned();
        Ok((self.find(path.parent().expect("it works"))?, name))
    }

    fn names(&mut self, id: usize) -> (&mut BTreeMap<String, usize>, &mut Vec<Vec<NameChange>>) {
        match &mut self.nodes[id] {
            Node::Directory { live, pending, .. } => (live, pending),
            Node::File { .. } => panic!("no directory"),
        }
    }

    fn change_names(&mut self, id: usize, changes: Vec<NameChange>) {
        let (live, pending) = self.names(id);
        changes.iter().for_each(|change| apply(live, change));
        pending.push(changes);
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let (parent, name) = self.parent(path)?;
        if self.names(parent).0.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.change_names(parent, vec![NameChange::Set(name, id)]);
        Ok(id)
    }
}

impl Vfs for SimulatedVfs {
    fn user(&self) -> u32 {
        0
    }

    fn status(&self, path: &Path) -> io::Result<Status> {
        let mut disk = self.disk();
        disk.operation()?;
        let id = disk.find(path)?;
        let (kind, length) = match &disk.nodes[id] {
            Node::File { live, .. } => (Kind::File, live.len() as u64),
            Node::Directory { .. } => (Kind::Directory, 0),
        };
        Ok(Status { kind, owner: 0, mode: 0o700, length, identity: Identity { device: 0, inode: id as u64 } })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut disk = self.disk();
        disk.operation()?;
        let id = disk.find(path)?;
        let Node::Directory { live, .. } = &disk.nodes[id] else { return Err(ErrorKind::NotADirectory.into()) };
        let kind = |id: &usize| match disk.nodes[*id] {
            Node::File { .. } => Kind::File,
            Node::Directory { .. } => Kind::Directory,
        };
        Ok(live.iter().map(|(name, id)| Entry { name: name.clone(), kind: kind(id) }).collect())
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.growth()?;
        disk.add(path, directory()).map(drop)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let mut disk = self.disk();
        disk.growth()?;
        let node = Node::File { live: Vec::new(), durable: Vec::new(), pending: Vec::new() };
        let id = disk.add(path, node)?;
        drop(disk);
        Ok(Box::new(SimulatedFile(self.clone(), id)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let mut disk = self.disk();
        disk.operation()?;
        let id = disk.find(path)?;
        drop(disk);
        Ok(Box::new(SimulatedFile(self.clone(), id)))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        let id = disk.find(from)?;
        let ((from_parent, from_name), (to_parent, to_name)) = (disk.parent(from)?, disk.parent(to)?);
        assert_eq!(from_parent, to_parent, "moves stay in their directory");
        disk.change_names(from_parent, vec![NameChange::Unset(from_name), NameChange::Set(to_name, id)]);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        disk.find(path)?;
        let (parent, name) = disk.parent(path)?;
        disk.change_names(parent, vec![NameChange::Unset(name)]);
        Ok(())
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        let entries = self.list(path)?;
        for entry in entries {
            match entry.kind {
                Kind::Directory => self.remove_tree(&path.join(entry.name))?,
                _ => self.remove_file(&path.join(entry.name))?,
            }
        }
        self.remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let id = disk.find(path)?;
        let result = disk.operation();
        let stopped = disk.stopped;
        let Node::Directory { live, durable, pending } = &mut disk.nodes[id] else { panic!("no directory") };
        if result.is_ok() {
            durable.clone_from(live);
            pending.clear();
        } else if !stopped {
            pending.clear();
        }
        result
    }

    fn lock(&self, path: &Path, _: &str) -> io::Result<Lock> {
        match self.create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(Lock::Ours(Box::new(()))),
        }
    }
}

struct SimulatedFile(SimulatedVfs, usize);

impl VfsFile for SimulatedFile {
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut disk = self.0.disk();
        let result = disk.growth();
        // Half of it, when it fails; and now and then when it does not: then the caller goes on with the rest.
        let part = if result.is_err() || disk.random.random_bool(0.1) { bytes.len().div_ceil(2) } else { bytes.len() };
        let interrupted = result.is_ok() && disk.random.random_bool(0.05);
        if interrupted {
            return Err(ErrorKind::Interrupted.into());
        }
        let Node::File { live, pending, .. } = &mut disk.nodes[self.1] else { panic!("no file") };
        let written = &bytes[..part];
        pending.push((live.len(), written.to_vec()));
        live.extend_from_slice(written);
        result.map(|()| part)
    }

    fn read_some(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut disk = self.0.disk();
        disk.operation()?;
        let short = disk.random.random_bool(0.1);
        let Node::File { live, .. } = &disk.nodes[self.1] else { panic!("no file") };
        let rest = live.get(usize::try_from(offset).expect("it works")..).unwrap_or_default();
        let wanted = if short { into.len().div_ceil(2) } else { into.len() };
        let count = rest.len().min(wanted);
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.0.disk();
        disk.hangs.1 += 1;
        while disk.hangs.0 {
            drop(disk);
            std::thread::sleep(std::time::Duration::from_millis(1));
            disk = self.0.disk();
        }
        disk.hangs.1 -= 1;
        let result = disk.operation();
        let stopped = disk.stopped;
        let Node::File { durable, pending, .. } = &mut disk.nodes[self.1] else { panic!("no file") };
        if result.is_ok() {
            for (offset, written) in pending.drain(..) {
                write_at(durable, offset, &written);
            }
        } else if !stopped {
            // Nobody will write it any more.
            pending.clear();
        }
        result
    }

    fn length(&self) -> io::Result<u64> {
        let mut disk = self.0.disk();
        disk.operation()?;
        let Node::File { live, .. } = &disk.nodes[self.1] else { panic!("no file") };
        Ok(live.len() as u64)
    }
}
