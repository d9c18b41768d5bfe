//! `MANIFEST`, which says what a generation holds, and `CURRENT`, which says which generation counts.
//!
//! A manifest goes last: a run that it does not name does not exist, whatever blocks lie in the store. It is replaced
//! whole for every finished run. Left to others: writing and reading the files (`vfs`, `generations`).

use std::path::Path;

use super::SnapshotError;
use super::sealed::{Fields, seal, unseal};

const MANIFEST_MAGIC: &[u8; 8] = b"TARNMANI";
const CURRENT_MAGIC: &[u8; 8] = b"TARNCURR";

/// A finished run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInfo {
    /// Random: blocks of other runs, generations or processes are never taken for its own.
    pub id: u64,
    /// How many rows.
    pub rows: u64,
    /// How many blocks.
    pub blocks: u32,
    /// Bytes of keys and values with their lengths.
    pub bytes: u64,
    /// Bytes of the packed blocks.
    pub stored_bytes: u64,
    /// xxh3-128 over all rows in order, with their lengths.
    pub digest: u128,
    /// When it was finished, ms since 1970.
    pub finished_ms: u64,
    /// What the caller keeps with it.
    pub meta: Vec<u8>,
}

/// What a generation holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The generation; its directory has the same number.
    pub generation: u64,
    /// The base first, then the increments in order.
    pub runs: Vec<RunInfo>,
}

impl Manifest {
    /// The bytes of the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&self.generation.to_le_bytes());
        body.extend_from_slice(&(self.runs.len() as u64).to_le_bytes());
        for run in &self.runs {
            body.extend_from_slice(&run.id.to_le_bytes());
            body.extend_from_slice(&run.rows.to_le_bytes());
            body.extend_from_slice(&run.blocks.to_le_bytes());
            body.extend_from_slice(&run.bytes.to_le_bytes());
            body.extend_from_slice(&run.stored_bytes.to_le_bytes());
            body.extend_from_slice(&run.digest.to_le_bytes());
            body.extend_from_slice(&run.finished_ms.to_le_bytes());
            body.extend_from_slice(&(run.meta.len() as u64).to_le_bytes());
            body.extend_from_slice(&run.meta);
        }
        seal(MANIFEST_MAGIC, &body)
    }

    /// The manifest in a file's bytes.
    ///
    /// # Errors
    /// `Damaged`, or `Newer`.
    pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Self, SnapshotError> {
        let mut fields = Fields::new(unseal(MANIFEST_MAGIC, bytes, path)?);
        let mut take = || {
            let generation = fields.u64()?;
            let count = fields.u64()?;
            let mut runs = Vec::new();
            for _ in 0..count {
                runs.push(take_run(&mut fields)?);
            }
            fields.is_empty().then_some(Self { generation, runs })
        };
        take().ok_or_else(|| SnapshotError::damaged(path, "its fields do not add up"))
    }
}

fn take_run(fields: &mut Fields<'_>) -> Option<RunInfo> {
    Some(RunInfo {
        id: fields.u64()?,
        rows: fields.u64()?,
        blocks: fields.u32()?,
        bytes: fields.u64()?,
        stored_bytes: fields.u64()?,
        digest: fields.u128()?,
        finished_ms: fields.u64()?,
        meta: {
            let length = usize::try_from(fields.u64()?).ok()?;
            fields.bytes(length)?.to_vec()
        },
    })
}

/// The bytes of `CURRENT`.
pub(super) fn encode_current(generation: u64) -> Vec<u8> {
    seal(CURRENT_MAGIC, &generation.to_le_bytes())
}

/// The generation that `CURRENT` names.
pub(super) fn decode_current(bytes: &[u8], path: &Path) -> Result<u64, SnapshotError> {
    let mut fields = Fields::new(unseal(CURRENT_MAGIC, bytes, path)?);
    let generation = fields.u64();
    generation.filter(|_| fields.is_empty()).ok_or_else(|| SnapshotError::damaged(path, "its fields do not add up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_no_bit_may_differ() {
        let run = |id| RunInfo {
            id,
            rows: 2,
            blocks: 1,
            bytes: 99,
            stored_bytes: 50,
            digest: 1 << 100,
            finished_ms: 7,
            meta: vec![1, 2, 3],
        };
        let manifest = Manifest { generation: 12, runs: vec![run(1), run(u64::MAX)] };
        let bytes = manifest.encode();
        let path = Path::new("MANIFEST");
        assert_eq!(Manifest::decode(&bytes, path).unwrap(), manifest);
        for length in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..length], path).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Manifest::decode(&flipped, path), Err(SnapshotError::Damaged { .. })));
        }
        assert!(decode_current(&bytes, path).is_err(), "another kind of file");
        assert_eq!(decode_current(&encode_current(5), path).unwrap(), 5);
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = encode_current(5);
        bytes[8] = 2;
        let end = bytes.len() - 8;
        let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_le_bytes());
        let newer = decode_current(&bytes, Path::new("CURRENT"));
        assert!(matches!(newer, Err(SnapshotError::Newer { found: 2, .. })), "{newer:?}");
    }
}
