//! Records as they came: coordinates, and bytes that lie in one buffer a batch.
//!
//! A record is either the parts that Kafka gave (key, value, headers) or a line of a log that holds them escaped; the
//! decoder unescapes a line on the worker that decodes it.

use std::sync::{Arc, Mutex, MutexGuard};

use super::resubmitted::Origin;
use crate::model::{Coordinates, EventOrder};

/// A range of a batch's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes of `buffer` that it names.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or(&[])
    }

    /// The range from `start` to the end of `buffer`.
    pub fn since(start: usize, buffer: &[u8]) -> Self {
        let bound = |at: usize| u32::try_from(at).expect("a batch is far smaller than 4 GiB");
        Self { start: bound(start), end: bound(buffer.len()) }
    }
}

/// A header's name and value.
#[derive(Debug, Clone, Copy)]
pub struct HeaderSpan {
    /// The name.
    pub name: Span,
    /// The value, none for null.
    pub value: Option<Span>,
}

/// Where the parts of a record lie.
#[derive(Debug, Clone, Copy)]
enum Place {
    Wire { key: Option<Span>, value: Option<Span>, headers_start: u32, headers_end: u32 },
    Line { line: Span, rest_at: u32 },
    Broken { line: Span },
}

#[derive(Debug, Clone, Copy)]
struct Head {
    order: EventOrder,
    timestamp_ms: i64,
    place: Place,
}

/// Buffers of batches that are done with, for the next ones: fresh memory costs more than reading a record into it.
#[derive(Debug, Clone, Default)]
pub struct BufferPool(Arc<Mutex<Pooled>>);

#[derive(Debug, Default)]
struct Pooled {
    buffers: Vec<Vec<u8>>,
    places: Vec<(Vec<Head>, Vec<HeaderSpan>)>,
}

/// So many buffers, and lists of places in them, wait to be used again.
const POOLED_BUFFERS_MAX: usize = 16;
/// A greater buffer is not kept.
const POOLED_BYTES_MAX: usize = 1024 * 1024;
/// Nor a longer list.
const POOLED_PLACES_MAX: usize = 4096;

impl BufferPool {
    /// A buffer, with whatever a former user left in it.
    pub fn take(&self) -> Vec<u8> {
        self.pooled().buffers.pop().unwrap_or_default()
    }

    fn take_places(&self) -> (Vec<Head>, Vec<HeaderSpan>) {
        self.pooled().places.pop().unwrap_or_default()
    }

    fn give(&self, buffer: Vec<u8>, mut heads: Vec<Head>, mut headers: Vec<HeaderSpan>) {
        heads.clear();
        headers.clear();
        let mut pooled = self.pooled();
        if pooled.buffers.len() < POOLED_BUFFERS_MAX && buffer.capacity() <= POOLED_BYTES_MAX {
            pooled.buffers.push(buffer);
        }
        let fits = heads.capacity().max(headers.capacity()) <= POOLED_PLACES_MAX;
        if pooled.places.len() < POOLED_BUFFERS_MAX && heads.capacity() > 0 && fits {
            pooled.places.push((heads, headers));
        }
    }

    fn pooled(&self) -> MutexGuard<'_, Pooled> {
        self.0.lock().expect("no holder of the buffer pool panics")
    }
}

/// Records that were polled together.
#[derive(Debug, Default, Clone)]
pub struct RecordBatch {
    buffer: Vec<u8>,
    heads: Vec<Head>,
    headers: Vec<HeaderSpan>,
    /// Where the records stood when they were rejected, one a record; empty where none came out of the quarantine.
    origins: Vec<Origin>,
    home: Option<BufferPool>,
}

impl Drop for RecordBatch {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let places = (std::mem::take(&mut self.heads), std::mem::take(&mut self.headers));
            home.give(std::mem::take(&mut self.buffer), places.0, places.1);
        }
    }
}

/// The parts of a record as Kafka gives them.
#[derive(Debug, Clone, Copy)]
pub struct Wire<'a> {
    /// The buffer that the spans name.
    pub buffer: &'a [u8],
    /// The key, none for null.
    pub key: Option<Span>,
    /// The value, none for null.
    pub value: Option<Span>,
    /// The headers in order.
    pub headers: &'a [HeaderSpan],
}

impl<'a> Wire<'a> {
    /// The key's bytes.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key.map(|span| span.of(self.buffer))
    }

    /// The value's bytes.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value.map(|span| span.of(self.buffer))
    }

    /// Names and values of the headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let buffer = self.buffer;
        self.headers.iter().map(move |header| (header.name.of(buffer), header.value.map(|span| span.of(buffer))))
    }
}

/// What a record is made of.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// Key, value and headers.
    Wire(Wire<'a>),
    /// A line of a log, and where in it the fields after the coordinates begin (0: nowhere in particular).
    Line {
        /// The line, without its end.
        line: &'a [u8],
        /// Where the scan of the coordinates stopped.
        rest_at: usize,
    },
    /// A line that has no coordinates.
    Broken(&'a [u8]),
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Where it stands.
    pub order: EventOrder,
    /// Its timestamp, ms since 1970; 0 or less where it has none.
    pub timestamp_ms: i64,
    /// What it is made of.
    pub content: Content<'a>,
    /// Where it stood when it was rejected; none unless it came out of the quarantine.
    pub origin: Option<&'a Origin>,
}

impl RecordBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Bytes of its buffer.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Adds a record as Kafka gives it.
    pub fn push_wire<'h>(
        &mut self,
        coordinates: Coordinates,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        let key = key.map(|bytes| self.append(bytes));
        let value = value.map(|bytes| self.append(bytes));
        let headers_start = self.headers.len() as u32;
        for (name, value) in headers {
            let header =
                HeaderSpan { name: self.append(name.as_bytes()), value: value.map(|bytes| self.append(bytes)) };
            self.headers.push(header);
        }
        let headers_end = self.headers.len() as u32;
        self.push(coordinates, timestamp_ms, Place::Wire { key, value, headers_start, headers_end });
    }

    /// An empty batch with room for so many bytes, whose buffer comes from `pool` and goes back to it.
    pub fn pooled(pool: &BufferPool, bytes: usize) -> Self {
        let mut buffer = pool.take();
        buffer.clear();
        // Not as it grows: each time all that is there would be copied.
        buffer.reserve(bytes);
        Self::from_block(buffer, pool)
    }

    /// An empty batch that owns a block of lines, to be named by [`Self::push_line_at`]; the block then goes to `pool`.
    pub fn from_block(block: Vec<u8>, pool: &BufferPool) -> Self {
        let (heads, headers) = pool.take_places();
        Self { buffer: block, heads, headers, origins: Vec::new(), home: Some(pool.clone()) }
    }

    /// An empty batch that owns a copy of some lines, in a buffer from `pool`.
    pub fn copied(lines: &[u8], pool: &BufferPool) -> Self {
        let mut batch = Self::pooled(pool, lines.len());
        batch.buffer.extend_from_slice(lines);
        batch
    }

    /// The timestamps of the records in order, ms since 1970.
    pub fn timestamps_ms(&self) -> impl Iterator<Item = i64> {
        self.heads.iter().map(|head| head.timestamp_ms)
    }

    /// Where the records stand, in order.
    pub fn coordinates(&self) -> impl Iterator<Item = Coordinates> {
        self.heads.iter().map(|head| head.order.coordinates)
    }

    /// Adds a line that lies in the block.
    pub fn push_line_at(&mut self, coordinates: Coordinates, timestamp_ms: i64, line: Span, rest_at: usize) {
        self.push(coordinates, timestamp_ms, Place::Line { line, rest_at: rest_at as u32 });
    }

    /// Adds a line of the block that has no coordinates of its own; `coordinates` name the line.
    pub fn push_broken_at(&mut self, coordinates: Coordinates, line: Span) {
        self.push(coordinates, 0, Place::Broken { line });
    }

    /// Adds bytes, to be named by a record.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        Span::since(start, &self.buffer)
    }

    fn push(&mut self, coordinates: Coordinates, timestamp_ms: i64, place: Place) {
        let order = EventOrder { coordinates, arrival: 0 };
        self.heads.push(Head { order, timestamp_ms, place });
    }

    /// Says where the last record stood when it was rejected; all records of a batch come out of the quarantine, or none.
    /// Whatever else its epoch holds is folded before it.
    pub(super) fn set_origin(&mut self, origin: Origin) {
        self.origins.push(origin);
        assert_eq!(self.origins.len(), self.heads.len(), "every record of the batch comes out of the quarantine");
        if let Some(head) = self.heads.last_mut() {
            head.order.arrival = u64::MAX;
        }
    }

    /// Whether its records come out of the quarantine.
    pub fn is_resubmitted(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Numbers the records from `first` in order of arrival.
    pub fn number(&mut self, first: u64) {
        for (arrival, head) in (first..).zip(&mut self.heads) {
            head.order.arrival = arrival;
        }
    }

    /// A batch of those records alone for whose place `keep` says yes, with their bytes and no others.
    pub fn part(&self, keep: impl Fn(usize) -> bool) -> Self {
        let mut part = Self::default();
        for (index, head) in self.heads.iter().enumerate().filter(|(index, _)| keep(*index)) {
            let mut copy = |span: Span| part.append(span.of(&self.buffer));
            let place = match head.place {
                Place::Line { line, rest_at } => Place::Line { line: copy(line), rest_at },
                Place::Broken { line } => Place::Broken { line: copy(line) },
                Place::Wire { key, value, headers_start, headers_end } => {
                    let (key, value) = (key.map(&mut copy), value.map(&mut copy));
                    let first = part.headers.len() as u32;
                    for header in &self.headers[headers_start as usize..headers_end as usize] {
                        let name = part.append(header.name.of(&self.buffer));
                        let value = header.value.map(|value| part.append(value.of(&self.buffer)));
                        part.headers.push(HeaderSpan { name, value });
                    }
                    Place::Wire { key, value, headers_start: first, headers_end: part.headers.len() as u32 }
                }
            };
            part.heads.push(Head { place, ..*head });
            part.origins.extend(self.origins.get(index).cloned());
        }
        part
    }

    /// Where its records stood when they were rejected; none where they did not come out of the quarantine.
    pub(super) fn into_origins(mut self) -> Vec<Origin> {
        std::mem::take(&mut self.origins)
    }

    /// Shows each record's coordinates and timestamp; those for which `keep` says no are taken out.
    pub fn retain(&mut self, mut keep: impl FnMut(Coordinates, i64) -> bool) {
        if self.origins.is_empty() {
            return self.heads.retain(|head| keep(head.order.coordinates, head.timestamp_ms));
        }
        let stays: Vec<bool> = self.heads.iter().map(|head| keep(head.order.coordinates, head.timestamp_ms)).collect();
        let (mut of_heads, mut of_origins) = (stays.iter().copied(), stays.iter().copied());
        self.heads.retain(|_| of_heads.next().unwrap_or(true));
        self.origins.retain(|_| of_origins.next().unwrap_or(true));
    }

    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.heads.iter().enumerate().map(|(index, head)| Record {
            order: head.order,
            timestamp_ms: head.timestamp_ms,
            origin: self.origins.get(index),
            content: match head.place {
                Place::Wire { key, value, headers_start, headers_end } => Content::Wire(Wire {
                    buffer: &self.buffer,
                    key,
                    value,
                    headers: &self.headers[headers_start as usize..headers_end as usize],
                }),
                Place::Line { line, rest_at } => {
                    Content::Line { line: line.of(&self.buffer), rest_at: rest_at as usize }
                }
                Place::Broken { line } => Content::Broken(line.of(&self.buffer)),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Topics;

    #[test]
    fn a_part_has_its_records_and_their_bytes_alone() {
        let topic = Topics::default().intern("t").expect("room");
        let at = |offset| Coordinates { topic, partition: 0, offset };
        let mut batch = RecordBatch::from_block(b"one line, another line".to_vec(), &BufferPool::default());
        batch.push_line_at(at(0), 5, Span { start: 0, end: 8 }, 3);
        batch.push_wire(
            at(1),
            6,
            Some(b"key"),
            None,
            [("name", Some(b"value".as_slice())), ("none", None)].into_iter(),
        );
        batch.push_broken_at(at(2), Span { start: 10, end: 22 });
        let part = batch.part(|index| index != 0);
        assert_eq!((part.len(), part.bytes()), (2, "keynamevaluenoneanother line".len()));
        let shown = |batch: &RecordBatch, from: usize| -> Vec<String> {
            let record = |record: Record<'_>| match record.content {
                Content::Wire(wire) => {
                    format!("{:?} {:?} {:?}", wire.key(), wire.value(), wire.headers().collect::<Vec<_>>())
                }
                Content::Line { line, rest_at } => format!("{line:?} {rest_at}"),
                Content::Broken(line) => format!("{line:?}"),
            };
            batch.iter().skip(from).map(|one| format!("{:?} {} {}", one.order, one.timestamp_ms, record(one))).collect()
        };
        assert_eq!(shown(&part, 0), shown(&batch, 1));
    }
}
