//! An append-only journal of small records, in segments `NAME-000001.log`.
//!
//! ```text
//! head: magic [8], format version u32, number u64, former number u64, bytes of the former that count u64, xxh3-64
//! frame: length u32, xxh3-64 of place, length and record, record
//! ```
//!
//! Promises: what `append` took and a later `sync` confirmed is returned by every later `open`, in order, until it is
//! removed. Nothing is ever written behind a frame that may be broken: a segment is given up after an error and at every
//! opening. The head of the next one says up to where the former counts, so that what was torn there is told from what
//! has been lost. Records are returned up to the first place where something is lost, never beyond.
//!
//! An opening writes the records of the last segment again, into a new one that takes its place: a process that died
//! after an fsync that failed has left bytes that are read well and are on no disk.
//!
//! Left to others: what records mean, when to `sync`, and writing again what an error has put in doubt.

use std::fmt::{self, Debug};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::sealed::{FORMAT_VERSION, Fields};
use super::vfs::{self, TEMPORARY, Vfs, VfsFile};

/// A record's bytes at most.
const RECORD_BYTES_MAX: usize = 1 << 26;
const MAGIC: &[u8; 8] = b"TARNJRNL";
const HEAD_BYTES: usize = 8 + 4 + 8 + 8 + 8 + 8;
const FRAME_HEAD_BYTES: usize = 4 + 8;

/// What can go wrong, by what the caller does about it.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Leave: a newer tarn wrote it. Nothing has been touched.
    #[error("{} has format version {found}; this tarn knows up to {FORMAT_VERSION}", path.display())]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Append again, in order, every record since the last `sync` that went well: they may be lost. The next `append`
    /// begins a new segment.
    #[error("could not {doing} the journal {}: {source}; records since the last sync are in doubt", path.display())]
    InDoubt {
        /// What was tried.
        doing: &'static str,
        /// The segment.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Try again later: the journal is as it was.
    #[error("could not {doing} {}: {source}", path.display())]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A fault of the caller: records have at most 64 MiB.
    #[error("a record of {0} bytes")]
    TooLong(usize),
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The number of its segment.
    pub segment: u64,
    /// Bytes from the segment's begin.
    pub offset: u64,
}

/// What was found when a journal was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The records in order.
    pub records: Vec<(Position, Vec<u8>)>,
    /// Bytes behind the last record that count for nothing: a torn end after a crash. More than a few records of it are
    /// more than a crash does.
    pub torn_bytes: u64,
    /// Why records are missing that had been made durable; `None`: none is.
    pub lost: Option<String>,
}

/// A journal that is open for appending. One process has it: whoever holds the directory's lock.
pub struct Journal {
    vfs: Arc<dyn Vfs>,
    directory: PathBuf,
    name: String,
    /// The last segment that counts, and how many of its bytes do; 0 and 0 without one.
    former: (u64, u64),
    next_number: u64,
    writing: Option<Writing>,
    frame: Vec<u8>,
}

struct Writing {
    path: PathBuf,
    file: Box<dyn VfsFile>,
    /// The same file, for whoever makes it durable meanwhile. It is opened a second time: an fsync that failed is told
    /// once to each opening, so that it is no secret to this one what happened to the other.
    other: Arc<dyn VfsFile>,
    number: u64,
    length: u64,
    synced_length: u64,
}

/// What is to be made durable, as far as the journal went when it was asked.
pub struct Unsynced {
    file: Arc<dyn VfsFile>,
    end: Position,
}

/// What became of it.
pub struct Synced {
    result: io::Result<()>,
    end: Position,
}

impl Unsynced {
    /// The fsync. Meanwhile others may append.
    #[must_use]
    pub fn sync(self) -> Synced {
        Synced { result: self.file.sync(), end: self.end }
    }
}

impl Debug for Journal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Journal")
            .field("name", &self.name)
            .field("former", &self.former)
            .finish_non_exhaustive()
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Failed { doing, path, source }
}

impl Journal {
    /// Opens the journal `name` in a directory, or begins it there. What is returned is durable.
    ///
    /// # Errors
    /// `Newer`, `Failed`. What is torn or lost is in the answer.
    pub fn open(vfs: Arc<dyn Vfs>, directory: &Path, name: &str) -> Result<(Self, Recovered), JournalError> {
        let mut journal = Self {
            vfs,
            directory: directory.to_owned(),
            name: name.to_owned(),
            former: (0, 0),
            next_number: 1,
            writing: None,
            frame: Vec::new(),
        };
        let mut segments = Vec::new();
        for number in journal.numbers()? {
            segments.push(journal.read_segment(number)?);
            journal.next_number = number + 1;
        }
        let (mut recovered, last);
        (recovered, last, journal.former) = connect(segments);
        journal.write_again(&mut recovered, last)?;
        Ok((journal, recovered))
    }

    /// Adds a record: one write, no fsync. Where it stands.
    ///
    /// # Errors
    /// `TooLong`; `InDoubt`, and this record is not in the journal either; `Failed`: only this record is not.
    pub fn append(&mut self, record: &[u8]) -> Result<Position, JournalError> {
        if record.len() > RECORD_BYTES_MAX {
            return Err(JournalError::TooLong(record.len()));
        }
        self.begin()?;
        let writing = self.writing.as_mut().expect("a segment was just begun");
        let position = Position { segment: writing.number, offset: writing.length };
        self.frame.clear();
        put_frame(&mut self.frame, position.offset, record);
        match vfs::append(&mut *writing.file, &self.frame) {
            Ok(()) => {
                writing.length += self.frame.len() as u64;
                Ok(position)
            }
            Err(source) => {
                let path = writing.path.clone();
                // What came before is whole; if it can be made durable, only this record is missing.
                if self.give_up().is_ok() {
                    Err(JournalError::Failed { doing: "append to", path, source })
                } else {
                    Err(JournalError::InDoubt { doing: "append to", path, source })
                }
            }
        }
    }

    /// Makes durable what was appended.
    ///
    /// # Errors
    /// `InDoubt`.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        let Some(unsynced) = self.unsynced() else { return Ok(()) };
        self.confirm(unsynced.sync()).map(drop)
    }

    /// What was appended, to be made durable while others append: [`Unsynced::sync`], then [`Journal::confirm`].
    #[must_use]
    pub fn unsynced(&self) -> Option<Unsynced> {
        let writing = self.writing.as_ref()?;
        let end = Position { segment: writing.number, offset: writing.length };
        Some(Unsynced { file: Arc::clone(&writing.other), end })
    }

    /// Takes note of what was made durable. All records before the position that is returned are; none where the segment
    /// was ended meanwhile: whoever ended it has been told of its records.
    ///
    /// # Errors
    /// `InDoubt`, also of what was appended meanwhile.
    pub fn confirm(&mut self, synced: Synced) -> Result<Option<Position>, JournalError> {
        let Some(writing) = self.writing.as_mut().filter(|writing| writing.number == synced.end.segment) else {
            return Ok(None);
        };
        match synced.result {
            Ok(()) => {
                writing.synced_length = writing.synced_length.max(synced.end.offset);
                Ok(Some(synced.end))
            }
            Err(source) => {
                let path = writing.path.clone();
                self.forget_writing();
                Err(JournalError::InDoubt { doing: "fsync", path, source })
            }
        }
    }

    /// Makes durable what was appended and ends the segment; the number that the next one will have, for
    /// [`Journal::remove_before`].
    ///
    /// # Errors
    /// `InDoubt`.
    pub fn roll(&mut self) -> Result<u64, JournalError> {
        self.sync()?;
        self.forget_writing();
        Ok(self.next_number)
    }

    /// Begins a segment, where none is begun, before the next record needs it.
    ///
    /// # Errors
    /// `Failed`; the next `append` tries again.
    pub fn begin(&mut self) -> Result<(), JournalError> {
        if self.writing.is_none() { self.begin_segment(&[]) } else { Ok(()) }
    }

    /// Removes the segments before `segment`.
    ///
    /// # Errors
    /// `Failed`; the rest of them is removed the next time.
    pub fn remove_before(&mut self, segment: u64) -> Result<(), JournalError> {
        // The last one stays: its successor says what came before.
        let last = self.writing.as_ref().map_or(self.former.0, |writing| writing.number);
        let end = segment.min(last);
        for number in self.numbers()?.into_iter().filter(|number| *number < end) {
            let path = self.path(number);
            self.vfs.remove_file(&path).map_err(failed("remove", &path))?;
            // One after the other, so that a crash never leaves a gap.
            self.vfs.sync_directory(&self.directory).map_err(failed("fsync", &self.directory))?;
        }
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{}-{number:06}.log", self.name))
    }

    fn numbers(&self) -> Result<Vec<u64>, JournalError> {
        let entries = self.vfs.list(&self.directory).map_err(failed("list", &self.directory))?;
        let number = |name: &str| {
            let digits = name.strip_prefix(&self.name)?.strip_prefix('-')?.strip_suffix(".log")?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let mut numbers: Vec<u64> = entries.iter().filter_map(|entry| number(&entry.name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A segment whose head, name and first records are durable before it takes another one.
    fn begin_segment(&mut self, frames: &[u8]) -> Result<(), JournalError> {
        let number = self.next_number;
        let path = self.path(number);
        let temporary = path.with_extension(TEMPORARY);
        let begin = || {
            vfs::remove_if_there(&*self.vfs, &temporary)?;
            let mut file = self.vfs.create(&temporary)?;
            vfs::append(&mut *file, &head(number, self.former))?;
            vfs::append(&mut *file, frames)?;
            file.sync()?;
            self.vfs.rename(&temporary, &path)?;
            self.vfs.sync_directory(&self.directory)?;
            Ok((file, self.vfs.open(&path)?.into()))
        };
        let (file, other) = begin().map_err(failed("begin", &path))?;
        let length = (HEAD_BYTES + frames.len()) as u64;
        self.writing = Some(Writing { path, file, other, number, length, synced_length: length });
        self.next_number += 1;
        Ok(())
    }

    /// Writes the records of the last segment into a new one, in its place.
    fn write_again(&mut self, recovered: &mut Recovered, last: u64) -> Result<(), JournalError> {
        let mut frames = Vec::new();
        let again = recovered.records.iter_mut().filter(|(position, _)| position.segment == last);
        for (position, record) in again {
            *position = Position { segment: self.next_number, offset: (HEAD_BYTES + frames.len()) as u64 };
            put_frame(&mut frames, position.offset, record);
        }
        if frames.is_empty() { Ok(()) } else { self.begin_segment(&frames) }
    }

    /// Ends a segment whose last frame may be torn; an error: what was not synced is in doubt.
    fn give_up(&mut self) -> io::Result<()> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let synced = writing.file.sync();
        if synced.is_ok() {
            writing.synced_length = writing.length;
        }
        self.forget_writing();
        synced
    }

    fn forget_writing(&mut self) {
        if let Some(writing) = self.writing.take() {
            self.former = (writing.number, writing.synced_length);
        }
    }

    fn read_segment(&self, number: u64) -> Result<Segment, JournalError> {
        let path = self.path(number);
        let bytes = vfs::read(&*self.vfs, &path).map_err(failed("read", &path))?;
        Segment::parse(number, &bytes).map_err(|found| JournalError::Newer { path, found })
    }
}

fn head(number: u64, (former, former_length): (u64, u64)) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    for field in [number, former, former_length] {
        head.extend_from_slice(&field.to_le_bytes());
    }
    let checksum = xxh3_64(&head);
    head.extend_from_slice(&checksum.to_le_bytes());
    head
}

fn put_frame(out: &mut Vec<u8>, offset: u64, record: &[u8]) {
    let length = u32::try_from(record.len()).expect("records have at most RECORD_BYTES_MAX");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(offset, record).to_le_bytes());
    out.extend_from_slice(record);
}

/// With its place, so that bytes from elsewhere are no record here.
fn checksum(offset: u64, record: &[u8]) -> u64 {
    xxh3_64_with_seed(record, offset.rotate_left(32) ^ record.len() as u64)
}

/// A segment as it is found.
struct Segment {
    number: u64,
    /// The former segment and how many of its bytes count; `None` if the head is broken.
    former: Option<(u64, u64)>,
    /// Records with the place behind them.
    records: Vec<(u64, u64, Vec<u8>)>,
    /// Where the last whole frame ends.
    whole_length: u64,
    length: u64,
}

impl Segment {
    /// What is in a segment's bytes, up to the first broken frame; the format version if it is a newer one.
    fn parse(number: u64, bytes: &[u8]) -> Result<Self, u32> {
        let length = bytes.len() as u64;
        let mut segment = Self { number, former: None, records: Vec::new(), whole_length: 0, length };
        let Some((head, frames)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok(segment) };
        let mut fields = Fields::new(head);
        let magic = fields.bytes(MAGIC.len());
        let numbers = (fields.u32(), fields.u64(), fields.u64(), fields.u64(), fields.u64());
        let (Some(version), Some(own), Some(former), Some(former_length), Some(sum)) = numbers else {
            return Ok(segment);
        };
        if magic != Some(MAGIC) || sum != xxh3_64(&head[..HEAD_BYTES - 8]) {
            return Ok(segment);
        }
        if version > FORMAT_VERSION {
            return Err(version);
        }
        if version != FORMAT_VERSION || own != number {
            return Ok(segment);
        }
        segment.former = Some((former, former_length));
        let mut offset = HEAD_BYTES as u64;
        let mut frames = Fields::new(frames);
        while let Some(record) = next_record(&mut frames, offset) {
            let behind = offset + (FRAME_HEAD_BYTES + record.len()) as u64;
            segment.records.push((offset, behind, record.to_vec()));
            offset = behind;
        }
        segment.whole_length = offset;
        Ok(segment)
    }
}

fn next_record<'a>(frames: &mut Fields<'a>, offset: u64) -> Option<&'a [u8]> {
    let length = frames.u32()? as usize;
    let sum = frames.u64()?;
    let record = frames.bytes(length)?;
    (length <= RECORD_BYTES_MAX && checksum(offset, record) == sum).then_some(record)
}

/// The records up to the first loss; the last segment that counts; and the one before it, with how many of its bytes do.
///
/// The last segment's head names the one before it, and so on: those in between that nobody names were given up when
/// they began, or stand behind a loss that an earlier opening has told.
fn connect(mut segments: Vec<Segment>) -> (Recovered, u64, (u64, u64)) {
    let mut recovered = Recovered::default();
    // From the last to the first, each with how many of its bytes count.
    let mut chain: Vec<(Segment, u64)> = Vec::new();
    while let Some(segment) = segments.pop() {
        let named = chain.last().and_then(|(behind, _)| behind.former);
        if named.is_some_and(|(number, _)| number < segment.number) {
            continue;
        }
        if let Some((number, _)) = named.filter(|(number, _)| *number > segment.number) {
            // The first ones may be gone, but not one in the middle.
            recovered.lost = Some(format!("segment {number} is missing or has a broken head"));
            chain.clear();
        }
        if segment.former.is_none() {
            recovered.torn_bytes += segment.length;
            // A head is durable before a record is behind it.
            if named.is_some() || segment.length > HEAD_BYTES as u64 {
                recovered.lost = Some(format!("the head of segment {} is broken", segment.number));
                chain.clear();
            }
            continue;
        }
        let counts = named.filter(|_| !chain.is_empty()).map_or(segment.whole_length, |(_, length)| length);
        chain.push((segment, counts));
    }
    let (mut last, mut former) = (0, (0, 0));
    for (segment, counts) in chain.into_iter().rev() {
        let number = segment.number;
        let whole = segment.whole_length.min(counts);
        recovered.torn_bytes += segment.length - whole;
        (last, former) = (number, segment.former.unwrap_or_default());
        let counted = segment.records.into_iter().filter(|(_, behind, _)| *behind <= whole);
        recovered.records.extend(counted.map(|(offset, _, record)| (Position { segment: number, offset }, record)));
        if whole < counts {
            recovered.lost = Some(format!("segment {number} is broken at {whole} of {counts} bytes"));
            break;
        }
    }
    (recovered, last, former)
}
