//! Files that are written whole: a magic, a format version, a body and a checksum over all of it.
//!
//! ```text
//! magic  [8]
//! format version  u32
//! body
//! xxh3-64 of everything before  u64
//! ```
//!
//! Numbers are little-endian. This frame is the same in every version, so that a newer one is told from a damaged one:
//! a version counts only under a good checksum.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::SnapshotError;

/// The format of everything below a data directory. A reader refuses what is newer and touches nothing.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC_BYTES: usize = 8;
const HEAD_BYTES: usize = MAGIC_BYTES + 4;
const CHECKSUM_BYTES: usize = 8;

/// The bytes of a file.
pub(super) fn seal(magic: &[u8; MAGIC_BYTES], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(body);
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The body of a file; `path` is for the words of errors.
pub(super) fn unseal<'a>(magic: &[u8; MAGIC_BYTES], bytes: &'a [u8], path: &Path) -> Result<&'a [u8], SnapshotError> {
    let damaged = |why: &str| SnapshotError::damaged(path, why);
    let Some((content, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(damaged("too short"));
    };
    if content.len() < HEAD_BYTES {
        return Err(damaged("too short"));
    }
    if xxh3_64(content) != u64::from_le_bytes(*checksum) {
        return Err(damaged("its checksum is wrong"));
    }
    let mut fields = Fields::new(content);
    if fields.bytes(MAGIC_BYTES) != Some(magic) {
        return Err(damaged("it is another kind of file"));
    }
    match fields.u32() {
        Some(FORMAT_VERSION) => Ok(&content[HEAD_BYTES..]),
        Some(found) if found > FORMAT_VERSION => Err(SnapshotError::Newer { path: path.to_owned(), found }),
        _ => Err(damaged("it has no format version that ever was")),
    }
}

/// Takes numbers and bytes from the front; `None` when there is not enough.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (taken, rest) = self.0.split_first_chunk::<COUNT>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }
}
