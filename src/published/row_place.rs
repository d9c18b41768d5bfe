//! Where a list of rows goes on.
//!
//! After the last row shown, by the bytes that it is sorted by and how many of its copies were shown, so that a list goes
//! on rightly whatever came or went in between, that row included. Such bytes may be of any length and a token may not:
//! of longer ones than [`PREFIX_BYTES`] a place has the beginning and a hash, and rows that begin alike for so long stand
//! in the order of their hashes in every list. Not here: tokens (`token`), lists (`view_pages`).

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// A place has no more bytes of a key: its token must fit into a request's line and an answer's header everywhere, for
/// which 8 KiB is usual.
pub const PREFIX_BYTES: usize = 4096;

/// What a row is sorted by, no longer than a token may be. Sorts as the bytes do that it was made of, up to hashes; these
/// bytes must say where they end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey<'a> {
    prefix: Cow<'a, [u8]>,
    /// Of all bytes; none where the prefix is all of them.
    digest: Option<[u8; 32]>,
}

impl<'a> RowKey<'a> {
    /// The key of the bytes that a row is sorted by.
    pub fn of(bytes: &'a [u8]) -> Self {
        let prefix = prefix_of(bytes);
        let digest = (prefix.len() < bytes.len()).then(|| Sha256::digest(bytes).into());
        Self { prefix: Cow::Borrowed(prefix), digest }
    }

    /// A key that was taken apart.
    pub(super) fn from_parts(prefix: Vec<u8>, digest: Option<[u8; 32]>) -> Self {
        Self { prefix: Cow::Owned(prefix), digest }
    }

    /// At most 4 KiB, with which the bytes begin.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    pub(super) fn digest(&self) -> Option<&[u8; 32]> {
        self.digest.as_ref()
    }

    /// The same key, with bytes of its own.
    pub fn into_owned(self) -> RowKey<'static> {
        RowKey { prefix: Cow::Owned(self.prefix.into_owned()), digest: self.digest }
    }
}

/// Where a list of rows goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowPlace {
    /// What the last row is sorted by.
    pub key: RowKey<'static>,
    /// How many copies of it were shown.
    pub copies: u64,
}

impl RowPlace {
    /// Behind all rows that are sorted by these bytes or, where they are long, by others that begin as they do.
    pub(super) fn behind(bytes: &[u8]) -> Self {
        let prefix = prefix_of(bytes);
        // No hash is greater.
        let digest = (prefix.len() < bytes.len()).then_some([u8::MAX; 32]);
        Self { key: RowKey::from_parts(prefix.to_vec(), digest), copies: u64::MAX }
    }

    /// How many of `count` copies of a row a list that goes on here has still to show.
    pub(super) fn left(&self, key: &RowKey<'_>, count: u64) -> u64 {
        match key.cmp(&self.key) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => count.saturating_sub(self.copies),
            std::cmp::Ordering::Greater => count,
        }
    }
}

/// What a key has of these bytes.
pub(super) fn prefix_of(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(PREFIX_BYTES)]
}

/// Whether keys of these bytes differ in their hashes alone, if they differ.
pub(super) fn begin_alike(one: &[u8], other: &[u8]) -> bool {
    one.len() > PREFIX_BYTES && other.len() > PREFIX_BYTES && prefix_of(one) == prefix_of(other)
}
