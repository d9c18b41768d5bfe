//! The keys of the indexes: short hashes that every reader checks against the state it finds.
//!
//! An index entry costs the same for a workspace of one character and of a thousand. Two texts that share a hash share
//! a list, and a read drops the wrong half by looking at the states, so a collision costs time, never an answer.
//! Reporter keys, by which orphans are told, use 128 bits. The hash is keyed at random in every process, so nobody can
//! choose ids that collide.

use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::model::{Field, ResourceId, State};

/// What resources can be listed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Dimension {
    /// `resourceType`.
    ResourceType,
    /// `workspaceId`.
    WorkspaceId,
    /// `reporterType`.
    ReporterType,
    /// `reporterInstanceId`.
    ReporterInstanceId,
}

impl Dimension {
    /// All dimensions.
    pub const ALL: [Self; 4] = [Self::ResourceType, Self::WorkspaceId, Self::ReporterType, Self::ReporterInstanceId];

    /// The field that it indexes.
    pub fn field(self) -> Field {
        match self {
            Self::ResourceType => Field::ResourceType,
            Self::WorkspaceId => Field::WorkspaceId,
            Self::ReporterType => Field::ReporterType,
            Self::ReporterInstanceId => Field::ReporterInstanceId,
        }
    }
}

/// A value of a dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexKey(u64);

/// A reporter key (type, reporter type, instance, local id), its local id first so that all keys with one local id
/// stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReporterKeyHash {
    /// Of the local id alone.
    pub local: u64,
    /// Of all four.
    pub whole: u64,
}

/// A resource that holds or held a reporter key, ordered by age: the greatest is current (F14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// When its id was made, ms since 1970: the UUID v7's own time, else when it was first met.
    pub made_ms: u64,
    /// The resource.
    pub id: ResourceId,
}

impl Holder {
    /// The holder that a resource is.
    pub fn of(state: &State) -> Self {
        let own = state.id.time_ms().filter(|_| state.id.is_v7());
        Self { made_ms: own.or(state.first_met_ms()).unwrap_or(0), id: state.id }
    }
}

/// The random keys of this process's hashes.
#[derive(Debug, Clone, Copy)]
pub struct HashKeys(u64, u64);

impl HashKeys {
    /// Keys from the system's randomness.
    pub fn random() -> Self {
        Self(rand::random(), rand::random())
    }

    fn hash(self, tag: u8, texts: &[&str]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        hasher.write_u8(tag);
        for text in texts {
            hasher.write(text.as_bytes());
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }

    /// Which worker has a value: the one whose index this is, by the number of workers.
    pub(super) fn route<T: Hash>(self, value: &T) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        value.hash(&mut hasher);
        hasher.finish()
    }

    /// The key of a value.
    pub fn index_key(self, dimension: Dimension, value: &str) -> IndexKey {
        IndexKey(self.hash(dimension as u8, &[value]))
    }

    /// The keys under which a live state is listed.
    pub fn index_keys(self, state: &State) -> [Option<IndexKey>; Dimension::ALL.len()] {
        Dimension::ALL.map(|dimension| {
            let value = state.text(dimension.field()).filter(|_| state.is_live())?;
            Some(self.index_key(dimension, value))
        })
    }

    /// The hash of a local id, to find the reporter keys that have it.
    pub fn local_id(self, local_resource_id: &str) -> u64 {
        self.hash(0x10, &[local_resource_id])
    }

    /// The reporter keys that a state holds or held, as far as they are known.
    pub fn reporter_keys(self, state: &State) -> impl Iterator<Item = ReporterKeyHash> {
        state.reporter_keys().filter_map(move |texts| {
            let local = texts.get(Field::LocalResourceId)?;
            let resource_type = texts.get(Field::ResourceType)?;
            let reporter_type = texts.get(Field::ReporterType)?;
            let instance = texts.get(Field::ReporterInstanceId).unwrap_or_default();
            let whole = self.hash(0x11, &[resource_type, reporter_type, instance, local]);
            Some(ReporterKeyHash { local: self.local_id(local), whole })
        })
    }
}
