//! What outlives the process: the state in snapshots, the epochs in a journal, the key of the tokens.
//!
//! In: read views, and bindings before their epochs are shown. Out, after any end: everything that one instant held, the
//! epochs that were shown after it with the positions they sealed, and an epoch that is beyond all that were. With those
//! the log is read on from the instant's position and the same epochs are made again ([`crate::dataflow`]). Failure: a
//! disk that does not work stops nothing; it is told ([`Health`]) and tried again. The same as text that people can read,
//! and back: [`exchange`]. Not here: files (`snapshot`).

mod bindings;
pub mod exchange;
mod machine;
mod recovery;
pub mod resubmitted;
pub mod rows;
mod taker;

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::model::{Epoch, Position, Topics};
use crate::source::identity::LogIdentity;

pub use bindings::Bindings;
pub use machine::Machine;
pub use recovery::{Durable, DurableError, Recovered};
pub use taker::{Snapshots, Taker, TakerConfig, Watched};

/// What stands beside the rows of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunMeta {
    /// Of the rows.
    version: u32,
    /// The instant.
    epoch: Epoch,
    /// How far the log was read at it: topic, partition, next offset.
    position: Vec<(String, i32, i64)>,
    /// The names of the topics, in the order of their numbers in the rows.
    topics: Vec<String>,
    /// How long tombstones were kept: by it is told which are gone.
    tombstone_retention_ms: u64,
    /// Which life of the state it is.
    incarnation: u64,
    /// What tells the log from another one.
    #[serde(default)]
    identity: LogIdentity,
    /// Since when events are missing that the log lost before they were read, ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incomplete_since_ms: Option<u64>,
    /// The segment of the journal of bindings that was begun with the generation.
    bindings_segment: u64,
}

fn stored_position(position: &Position) -> Vec<(String, i32, i64)> {
    position.iter().map(|(topic, partition, next)| (topic.to_owned(), partition, next)).collect()
}

fn position<'a>(stored: impl IntoIterator<Item = &'a (String, i32, i64)>) -> Position {
    let mut position = Position::default();
    for (topic, partition, next) in stored {
        position.advance(&topic.as_str().into(), *partition, *next);
    }
    position
}

fn topic_names(topics: &Topics) -> Vec<String> {
    topics.names().iter().map(|name| (**name).to_owned()).collect()
}

/// How keeping things goes, for `/status`, `/metrics` and alarms.
#[derive(Debug, Default)]
pub struct Health(Mutex<HealthState>);

/// The state of [`Health`].
#[derive(Debug, Clone, Default)]
pub struct HealthState {
    /// The instant of the last snapshot.
    pub epoch: Option<Epoch>,
    /// When it was finished, ms since 1970.
    pub finished_ms: Option<u64>,
    /// How long it took, ms.
    pub took_ms: u64,
    /// Its rows.
    pub rows: u64,
    /// Its packed bytes.
    pub bytes: u64,
    /// The generation it is in.
    pub generation: u64,
    /// Snapshots that were finished.
    pub taken: u64,
    /// Snapshots that failed.
    pub failed: u64,
    /// Why the last one failed; none since one was finished.
    pub last_error: Option<String>,
    /// Why bindings cannot be written; none while they can.
    pub bindings_error: Option<String>,
}

impl Health {
    /// The state now.
    pub fn get(&self) -> HealthState {
        self.0.lock().expect("no holder of the health of snapshots panics").clone()
    }

    fn update(&self, change: impl FnOnce(&mut HealthState)) {
        change(&mut self.0.lock().expect("no holder of the health of snapshots panics"));
    }
}
