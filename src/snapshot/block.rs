//! Rows packed into blocks, and taken out of them again.
//!
//! A run is one stream of bytes, each row as `key length u8, value length u32, key, value`. The stream is cut, anywhere,
//! into pieces that are packed by themselves (zstd), so that a block has at most 4 KiB however long a row is: sled keeps
//! such values inline. A block says whose it is and has a checksum of its own:
//!
//! ```text
//! xxh3-64 of everything behind  u64
//! run  u64
//! sequence in the run  u32
//! length of the piece  u32
//! the piece, packed
//! ```
//!
//! `Packer` turns rows into blocks; `Unpacker` turns blocks, in order, into the same rows, or says what is damaged. Both
//! keep the digest over the stream. Neither holds more than one row and one piece. Left to others: where blocks lie
//! (`store`), and what the totals must be (`reader`).

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// A block's bytes at most.
pub(super) const BLOCK_BYTES_MAX: usize = 4096;
/// Keys are short: they repeat in every index above.
pub const KEY_BYTES_MAX: usize = 64;
/// A value's bytes at most: four times the longest record that Kafka's brokers usually take.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

const CHECKSUM_BYTES: usize = 8;
const HEAD_BYTES: usize = CHECKSUM_BYTES + 8 + 4 + 4;
const PACKED_BYTES_MAX: usize = BLOCK_BYTES_MAX - HEAD_BYTES;
/// A piece this short fits however badly it packs: zstd adds less than 20 bytes to what it cannot shrink.
const PIECE_BYTES_MIN: usize = PACKED_BYTES_MAX - 64;
/// A longer piece packs hardly better.
const PIECE_BYTES_MAX: usize = 64 << 10;
const ROW_HEAD_BYTES: usize = 1 + 4;
/// Of the levels tried the one whose time does not show beside the rest.
const ZSTD_LEVEL: i32 = 1;

/// A packed piece of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Whose it is.
    pub run: u64,
    /// Its place in the run, from 0.
    pub sequence: u32,
    /// Head and packed piece, at most 4 KiB.
    pub bytes: Vec<u8>,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) rows: u64,
    pub(super) blocks: u32,
    pub(super) bytes: u64,
    pub(super) stored_bytes: u64,
    pub(super) digest: u128,
}

/// Rows in, blocks out.
pub(super) struct Packer {
    run: u64,
    stream: Vec<u8>,
    /// How much of `stream` has been packed.
    packed: usize,
    /// How long the next piece is: what filled a block the last time.
    piece_bytes: usize,
    compressor: zstd::bulk::Compressor<'static>,
    hash: Xxh3,
    totals: Totals,
}

impl Packer {
    pub(super) fn new(run: u64) -> std::io::Result<Self> {
        Ok(Self {
            run,
            stream: Vec::with_capacity(2 * PIECE_BYTES_MAX),
            packed: 0,
            piece_bytes: 4 * PIECE_BYTES_MIN,
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL)?,
            hash: Xxh3::new(),
            totals: Totals::default(),
        })
    }

    /// Adds a row; blocks that are full go to `out`.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8], out: &mut Vec<Block>) -> std::io::Result<()> {
        let begin = self.stream.len();
        self.stream.push(u8::try_from(key.len()).expect("keys are at most KEY_BYTES_MAX"));
        let length = u32::try_from(value.len()).expect("values are at most VALUE_BYTES_MAX");
        self.stream.extend_from_slice(&length.to_le_bytes());
        self.stream.extend_from_slice(key);
        self.stream.extend_from_slice(value);
        self.hash.update(&self.stream[begin..]);
        self.totals.rows += 1;
        self.totals.bytes += (self.stream.len() - begin) as u64;
        while self.stream.len() - self.packed >= self.piece_bytes {
            self.pack(out)?;
        }
        // Moving the rest to the front costs little once most is packed.
        if self.packed > PIECE_BYTES_MAX {
            self.stream.drain(..self.packed);
            self.packed = 0;
        }
        Ok(())
    }

    /// The last blocks, and what the run came to.
    pub(super) fn finish(mut self, out: &mut Vec<Block>) -> std::io::Result<Totals> {
        while self.packed < self.stream.len() {
            self.pack(out)?;
        }
        self.totals.digest = self.hash.digest128();
        Ok(self.totals)
    }

    /// Makes one block of the next piece.
    fn pack(&mut self, out: &mut Vec<Block>) -> std::io::Result<()> {
        let mut piece_bytes = self.piece_bytes.min(self.stream.len() - self.packed);
        let (packed, taken) = loop {
            let packed = self.compressor.compress(&self.stream[self.packed..self.packed + piece_bytes])?;
            if packed.len() <= PACKED_BYTES_MAX {
                break (packed, piece_bytes);
            }
            assert!(piece_bytes > PIECE_BYTES_MIN, "a piece of the least length fits");
            // A little less than what would fill the block if all of it packed alike.
            piece_bytes = (piece_bytes * PACKED_BYTES_MAX / packed.len() * 15 / 16).max(PIECE_BYTES_MIN);
        };
        let sequence = self.totals.blocks;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + packed.len());
        bytes.extend_from_slice(&[0; CHECKSUM_BYTES]);
        bytes.extend_from_slice(&self.run.to_le_bytes());
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(taken).expect("pieces are short").to_le_bytes());
        bytes.extend_from_slice(&packed);
        let checksum = xxh3_64(&bytes[CHECKSUM_BYTES..]);
        bytes[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.packed += taken;
        self.totals.blocks += 1;
        self.totals.stored_bytes += bytes.len() as u64;
        if taken >= PIECE_BYTES_MIN {
            self.piece_bytes =
                (taken * PACKED_BYTES_MAX / packed.len() * 15 / 16).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        }
        out.push(Block { run: self.run, sequence, bytes });
        Ok(())
    }
}

/// Blocks in, rows out.
pub(super) struct Unpacker {
    run: u64,
    /// The stream from the first row on that was not complete.
    stream: Vec<u8>,
    last_key: Option<Vec<u8>>,
    decompressor: zstd::bulk::Decompressor<'static>,
    hash: Xxh3,
    totals: Totals,
}

impl Unpacker {
    pub(super) fn new(run: u64) -> std::io::Result<Self> {
        Ok(Self {
            run,
            stream: Vec::new(),
            last_key: None,
            decompressor: zstd::bulk::Decompressor::new()?,
            hash: Xxh3::new(),
            totals: Totals::default(),
        })
    }

    /// Takes the next block; rows that are complete go to `row` as (key, value). An error says what is damaged.
    pub(super) fn push(&mut self, bytes: &[u8], row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), String> {
        let begin = self.stream.len();
        self.unpack(bytes)?;
        self.hash.update(&self.stream[begin..]);
        self.totals.bytes += (self.stream.len() - begin) as u64;
        self.totals.blocks += 1;
        self.totals.stored_bytes += bytes.len() as u64;
        let mut rest = self.stream.as_slice();
        while let Some((key, value, behind)) = first_row(rest)? {
            if self.last_key.as_deref().is_some_and(|last| last >= key) {
                return Err("keys do not ascend".to_owned());
            }
            let last = self.last_key.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
            row(key, value);
            self.totals.rows += 1;
            rest = behind;
        }
        let done = self.stream.len() - rest.len();
        self.stream.drain(..done);
        Ok(())
    }

    /// What the run came to; an error if it ends within a row.
    pub(super) fn finish(mut self) -> Result<Totals, String> {
        if !self.stream.is_empty() {
            return Err("it ends within a row".to_owned());
        }
        self.totals.digest = self.hash.digest128();
        Ok(self.totals)
    }

    /// Appends a block's piece to the stream.
    fn unpack(&mut self, bytes: &[u8]) -> Result<(), String> {
        let place = self.totals.blocks;
        let Some((head, packed)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Err(format!("block {place} is too short"));
        };
        let mut fields = super::sealed::Fields::new(head);
        let fields = (fields.u64(), fields.u64(), fields.u32(), fields.u32());
        let (Some(checksum), Some(run), Some(sequence), Some(length)) = fields else {
            return Err(format!("block {place} is too short"));
        };
        if checksum != xxh3_64(&bytes[CHECKSUM_BYTES..]) {
            return Err(format!("the checksum of block {place} is wrong"));
        }
        if run != self.run || sequence != place {
            return Err(format!("block {sequence} of run {run:016x} stands at block {place} of run {:016x}", self.run));
        }
        let length = length as usize;
        if length > PIECE_BYTES_MAX {
            return Err(format!("block {place} is too long"));
        }
        let piece = self.decompressor.decompress(packed, length).map_err(|error| format!("block {place}: {error}"))?;
        if piece.len() != length {
            return Err(format!("block {place} has {} bytes instead of {length}", piece.len()));
        }
        self.stream.extend_from_slice(&piece);
        Ok(())
    }
}

/// Key, value, and what stands behind; `None` if the row goes on in the next block.
type FirstRow<'a> = Option<(&'a [u8], &'a [u8], &'a [u8])>;

fn first_row(stream: &[u8]) -> Result<FirstRow<'_>, String> {
    let Some((head, rest)) = stream.split_first_chunk::<ROW_HEAD_BYTES>() else { return Ok(None) };
    let key_bytes = usize::from(head[0]);
    let value_bytes = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if key_bytes > KEY_BYTES_MAX || value_bytes > VALUE_BYTES_MAX {
        return Err("a row is longer than any that is written".to_owned());
    }
    let Some((row, behind)) = rest.split_at_checked(key_bytes + value_bytes) else { return Ok(None) };
    let (key, value) = row.split_at(key_bytes);
    Ok(Some((key, value, behind)))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn noise(bytes: usize) -> Vec<u8> {
        let mut random = StdRng::seed_from_u64(bytes as u64);
        (0..bytes).map(|_| random.random()).collect()
    }

    fn rows() -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = vec![(Vec::new(), Vec::new())];
        for (place, length) in [0, 1, 100, 4095, 4096, 4097, 65_536, 200_000, 3_000_000].into_iter().enumerate() {
            rows.push((vec![1, u8::try_from(place).unwrap()], noise(length)));
            rows.push((vec![2, u8::try_from(place).unwrap()], vec![7; length]));
        }
        for place in 0..20_000_u32 {
            rows.push(([&[3][..], &place.to_be_bytes()].concat(), format!("the value of {place}").into_bytes()));
        }
        rows.push((vec![255; KEY_BYTES_MAX], Vec::new()));
        rows.sort();
        rows
    }

    #[test]
    fn rows_of_all_lengths_come_back_from_blocks_of_at_most_4_kib() {
        let rows = rows();
        let mut blocks = Vec::new();
        let mut packer = Packer::new(9).unwrap();
        for (key, value) in &rows {
            packer.push(key, value, &mut blocks).unwrap();
        }
        let totals = packer.finish(&mut blocks).unwrap();
        assert!(blocks.iter().all(|block| block.bytes.len() <= BLOCK_BYTES_MAX));
        let mut unpacker = Unpacker::new(9).unwrap();
        let mut found = Vec::new();
        for block in &blocks {
            unpacker.push(&block.bytes, &mut |key, value| found.push((key.to_vec(), value.to_vec()))).unwrap();
        }
        assert_eq!(unpacker.finish().unwrap(), totals);
        assert!(found == rows);
        assert_eq!(totals.rows, rows.len() as u64);

        let refused = |run, blocks: &[&Block]| {
            let mut unpacker = Unpacker::new(run).unwrap();
            blocks.iter().any(|block| unpacker.push(&block.bytes, &mut |_, _| ()).is_err())
        };
        assert!(refused(8, &[&blocks[0]]), "another run's");
        assert!(refused(9, &[&blocks[1]]), "the first is missing");
        assert!(refused(9, &[&blocks[0], &blocks[0]]), "the first, twice");
    }
}
