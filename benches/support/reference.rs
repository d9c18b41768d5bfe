//! The references of the ingest benches: a log read, and parsed in full or in part, and nothing else.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;
use sonic_rs::JsonValueTrait;

/// How much of a line is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Lines are found.
    Lines,
    /// The line, its key and the payload of its value; the schema is passed over.
    SkippingSchema,
    /// The line, its key and its value, schema included: the speed of light.
    Everything,
}

#[derive(Deserialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    ts: i64,
    #[serde(borrow)]
    headers: Vec<Option<Cow<'a, str>>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload: Option<Cow<'a, str>>,
}

/// Reads the log on `threads` threads, each its part; answers how many records it found.
pub fn read(path: &Path, threads: u64, depth: Depth) -> u64 {
    let bytes = std::fs::metadata(path).unwrap().len();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                let (start, end) = (bytes * part / threads, bytes * (part + 1) / threads);
                scope.spawn(move || read_part(path, start, end, depth))
            })
            .collect();
        parts.into_iter().map(|part| part.join().unwrap()).sum()
    })
}

/// The lines that begin in `start..end`.
fn read_part(path: &Path, start: u64, end: u64, depth: Depth) -> u64 {
    const BLOCK_BYTES: usize = 1 << 20;
    let mut file = File::open(path).unwrap();
    // One byte early: a line that begins exactly at `start` is ours.
    let mut at = start.saturating_sub(1);
    file.seek(SeekFrom::Start(at)).unwrap();
    let (mut buffer, mut filled, mut count, mut aligned) = (vec![0_u8; BLOCK_BYTES], 0, 0, start == 0);
    loop {
        if filled == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
        let read = file.read(&mut buffer[filled..]).unwrap();
        if read == 0 {
            return count;
        }
        filled += read;
        let mut line_at = 0;
        while let Some(length) = memchr::memchr(b'\n', &buffer[line_at..filled]) {
            if aligned {
                if at + line_at as u64 >= end {
                    return count;
                }
                look(&buffer[line_at..line_at + length], depth);
                count += 1;
            }
            aligned = true;
            line_at += length + 1;
        }
        buffer.copy_within(line_at..filled, 0);
        (at, filled) = (at + line_at as u64, filled - line_at);
    }
}

fn look(line: &[u8], depth: Depth) {
    if depth == Depth::Lines {
        std::hint::black_box(line);
        return;
    }
    let line: Line<'_> = sonic_rs::from_slice(line).unwrap();
    std::hint::black_box((line.topic, line.partition, line.offset, line.ts, &line.headers));
    if let Some(key) = &line.key {
        std::hint::black_box(sonic_rs::from_str::<sonic_rs::Value>(key).unwrap());
    }
    let Some(value) = &line.payload else { return };
    match depth {
        Depth::Everything => {
            let value: sonic_rs::Value = sonic_rs::from_str(value).unwrap();
            assert!(value.get("payload").is_some());
        }
        Depth::SkippingSchema | Depth::Lines => {
            let payload = sonic_rs::get_from_str(value, ["payload"]).unwrap();
            std::hint::black_box(sonic_rs::from_str::<sonic_rs::Value>(payload.as_raw_str()).unwrap());
        }
    }
}
