//! A log file or standard input, plain or packed with gzip or zstd, a record a line as `kcat -C -J` prints them.
//!
//! A thread of its own reads and unpacks blocks that end at a line's end; polling frames their lines, which finds the
//! coordinates and nothing more. A line that is no record becomes a broken record with its line number, never an error.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::end_of_log::Question;
use super::{BufferPool, Limit, Phase, Polled, RecordBatch, Source, SourceError, SourceStatus, Span, line};
use crate::model::{Coordinates, Position, TopicId, Topics, plausible_ms};

/// A block is about this long.
const BLOCK_BYTES: usize = 256 * 1024;
/// A longer line is cut here and is then no record.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A pipe that has brought nothing for this long has said what it had to say at start.
const SILENCE: Duration = Duration::from_millis(500);
/// Blocks read ahead.
const BLOCKS_AHEAD: usize = 16;

/// Where a log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPath {
    /// A file, plain or packed with gzip or zstd.
    File(PathBuf),
    /// Standard input, plain or packed.
    StandardInput,
}

impl LogPath {
    /// `-` is standard input.
    pub fn parse(text: &str) -> Self {
        if text == "-" { Self::StandardInput } else { Self::File(text.into()) }
    }

    fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::StandardInput => "standard input".to_owned(),
        }
    }
}

type Block = io::Result<Vec<u8>>;

/// A log being read.
#[derive(Debug)]
pub struct LogFile {
    shown: String,
    is_pipe: bool,
    last_block: Option<Instant>,
    blocks: Receiver<Block>,
    pool: BufferPool,
    block: Vec<u8>,
    at: usize,
    lines: i64,
    topics: Topics,
    lines_topic: TopicId,
    last_topic: Option<(String, TopicId)>,
    status: SourceStatus,
    position: Position,
    /// Who wants to know where the log ends.
    asked: Option<Question>,
}

impl LogFile {
    /// Opens a log.
    pub fn open(path: &LogPath, topics: Topics, status: SourceStatus) -> Result<Self, SourceError> {
        let shown = path.shown();
        let failed = |source: io::Error| SourceError::Read { path: shown.clone(), source };
        let (reader, is_pipe) = match path {
            LogPath::StandardInput => (Box::new(io::stdin()) as Box<dyn Read + Send>, true),
            LogPath::File(path) => {
                let file = File::open(path).map_err(failed)?;
                let is_pipe = !file.metadata().map_err(failed)?.is_file();
                (Box::new(file) as Box<dyn Read + Send>, is_pipe)
            }
        };
        let (sender, blocks) = bounded(BLOCKS_AHEAD);
        let pool = BufferPool::default();
        let pool_of_reader = pool.clone();
        std::thread::Builder::new()
            .name("tarn-log-reader".to_owned())
            .spawn(move || match unpacked(reader) {
                Ok(reader) => read_blocks(reader, &sender, &pool_of_reader),
                Err(error) => drop(sender.send(Err(error))),
            })
            .map_err(failed)?;
        let lines_topic =
            topics.intern(Topics::LINES).ok_or_else(|| SourceError::Setup("too many topics".to_owned()))?;
        status.update(|state| state.phase = Phase::Reading);
        Ok(Self {
            shown,
            is_pipe,
            last_block: None,
            blocks,
            pool,
            block: Vec::new(),
            at: 0,
            lines: 0,
            topics,
            lines_topic,
            last_topic: None,
            status,
            position: Position::default(),
            asked: None,
        })
    }

    /// Frames the lines of the block at hand, up to `limit`.
    fn frame_block(&mut self, batch: &mut RecordBatch, limit: Limit) {
        let block = std::mem::take(&mut self.block);
        let start = std::mem::take(&mut self.at);
        let mut places = Vec::new();
        let mut at = start;
        let mut first_ms = None;
        while at < block.len() && places.len() < limit.records {
            let end = memchr::memchr(b'\n', &block[at..]).map_or(block.len(), |length| at + length);
            let line = block[at..end].strip_suffix(b"\r").unwrap_or(&block[at..end]);
            if !line.trim_ascii().is_empty() {
                let place = self.place(line);
                let timestamp_ms = place.as_ref().and_then(|(_, timestamp_ms, _)| plausible_ms(*timestamp_ms));
                if limit.is_passed_by(first_ms, timestamp_ms) {
                    break;
                }
                first_ms = first_ms.or(timestamp_ms);
                places.push((place, self.lines + 1, at, at + line.len()));
            }
            self.lines += 1;
            at = end + 1;
        }
        // A block that is used up goes into the batch as it is; otherwise its lines are copied.
        let base = if at < block.len() {
            *batch = RecordBatch::copied(&block[start..at], &self.pool);
            (self.block, self.at) = (block, at);
            start
        } else {
            *batch = RecordBatch::from_block(block, &self.pool);
            0
        };
        for (place, line_number, start, end) in places {
            let bound = |at: usize| u32::try_from(at - base).expect("a block is far smaller than 4 GiB");
            let span = Span { start: bound(start), end: bound(end) };
            match place {
                Some((coordinates, timestamp_ms, rest_at)) => {
                    batch.push_line_at(coordinates, timestamp_ms, span, rest_at)
                }
                None => {
                    let coordinates = Coordinates { topic: self.lines_topic, partition: 0, offset: line_number };
                    batch.push_broken_at(coordinates, span);
                }
            }
        }
    }

    /// Coordinates, timestamp and where the rest begins; none for a line that is no record.
    fn place(&mut self, bytes: &[u8]) -> Option<(Coordinates, i64, usize)> {
        let frame = line::frame(bytes).ok()?;
        let topic = match &self.last_topic {
            Some((name, id)) if *name == *frame.topic => *id,
            _ => {
                let id = self.topics.intern(&frame.topic)?;
                self.last_topic = Some((frame.topic.clone().into_owned(), id));
                id
            }
        };
        let coordinates = Coordinates { topic, partition: frame.partition, offset: frame.offset };
        Some((coordinates, frame.timestamp_ms, frame.rest_at))
    }

    /// What was read is all there was: the end of a file, or a pipe that has fallen silent.
    fn note_caught_up(&self) {
        self.status.update(|state| {
            state.end = self.position.clone();
            state.end_at_start.get_or_insert_with(|| self.position.clone());
        });
    }
}

impl Source for LogFile {
    fn poll(&mut self, batch: &mut RecordBatch, wait: Duration, limit: Limit) -> Result<Polled, SourceError> {
        if let Some(question) = self.status.end_of_log().take() {
            self.asked = Some(question);
        }
        if self.block.is_empty() {
            match self.blocks.recv_timeout(wait) {
                Ok(Ok(block)) => self.block = block,
                Ok(Err(source)) => return Err(SourceError::Read { path: self.shown.clone(), source }),
                Err(RecvTimeoutError::Timeout) => {
                    if self.is_pipe && self.last_block.is_some_and(|last| last.elapsed() >= SILENCE) {
                        self.note_caught_up();
                    }
                    // All that a pipe had when they asked is read; a file is slow, and has an end.
                    if let Some(question) = self.asked.take_if(|_| self.is_pipe) {
                        self.status.end_of_log().answer(question, Ok(self.position.clone()));
                    }
                    return Ok(Polled::Nothing);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.note_caught_up();
                    self.status.update(|state| state.phase = Phase::Ended);
                    self.status.end_of_log().has_ended(self.position.clone());
                    return Ok(Polled::End);
                }
            }
            self.last_block = Some(Instant::now());
            self.status.update(|state| state.last_heard_ms = crate::clock::now_ms());
        }
        self.frame_block(batch, limit);
        Ok(Polled::Records)
    }

    fn note_ends(&mut self, position: &mut Position) {
        if self.position != *position {
            self.position.clone_from(position);
        }
    }

    fn has_reproducible_order(&self) -> bool {
        true
    }
}

/// A reader of the unpacked bytes: what they are packed with is told by how they begin, not by a name.
pub fn unpacked(mut reader: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut head)?;
    let (is_gzip, is_zstd) = (head.starts_with(&[0x1f, 0x8b]), head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    let whole = io::Cursor::new(head).chain(reader);
    Ok(match () {
        () if is_gzip => Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::with_capacity(BLOCK_BYTES, whole))),
        () if is_zstd => Box::new(zstd::Decoder::new(whole)?),
        () => Box::new(whole),
    })
}

/// Sends blocks that end at a line's end until the reader ends, or nobody wants them.
fn read_blocks(mut reader: Box<dyn Read + Send>, blocks: &Sender<Block>, pool: &BufferPool) {
    let mut block = pool.take();
    let mut filled = 0;
    loop {
        let ended = match read_some(&mut reader, &mut block, &mut filled) {
            Err(error) => {
                drop(blocks.send(Err(error)));
                return;
            }
            Ok(ended) => ended,
        };
        let whole = match memchr::memrchr(b'\n', &block[..filled]) {
            _ if ended => filled,
            Some(last) => last + 1,
            None if filled < LINE_BYTES_MAX => continue,
            // A broken log line of enormous length is cut, and each piece is a line that is no record.
            None => filled,
        };
        let mut next = pool.take();
        let carried = filled - whole;
        if next.len() < carried {
            next.resize(carried, 0);
        }
        next[..carried].copy_from_slice(&block[whole..filled]);
        block.truncate(whole);
        if !block.is_empty() && blocks.send(Ok(block)).is_err() || ended {
            return;
        }
        (block, filled) = (next, carried);
    }
}

/// Reads what one read gives after the first `filled` bytes, or a block's worth if that is there at once; whether the
/// end was met. A block that was used before keeps its length, so that nothing is cleared only to be overwritten.
fn read_some(reader: &mut dyn Read, block: &mut Vec<u8>, filled: &mut usize) -> io::Result<bool> {
    let start = *filled;
    if block.len() < start + BLOCK_BYTES {
        block.resize(start + BLOCK_BYTES, 0);
    }
    loop {
        match reader.read(&mut block[*filled..start + BLOCK_BYTES]) {
            Ok(0) => return Ok(true),
            Ok(count) => {
                *filled += count;
                // A pipe gives what there is, and may give nothing more for long: a line that is there is not kept.
                let line_is_there = || memchr::memchr(b'\n', &block[start..*filled]).is_some();
                if *filled == start + BLOCK_BYTES || count < 4096 || line_is_there() {
                    return Ok(false);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
