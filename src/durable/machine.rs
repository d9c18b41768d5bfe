//! The machine that a data directory is on: its files, its clocks, its dice.
//!
//! Everything in `durable` that is not in memory comes through here, so that a simulation can bring a machine of its own
//! (`tests/simulation.rs`). Left to others: what is done with it.

use std::fmt;
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::snapshot::{DiskVfs, Environment, StoreKind, Vfs};

/// Files, clocks and random numbers.
#[derive(Clone)]
pub struct Machine {
    /// The files.
    pub vfs: Arc<dyn Vfs>,
    /// Which store generations have.
    pub store: StoreKind,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Random numbers: ids of runs, incarnations, secrets.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Machine").field("vfs", &self.vfs).field("store", &self.store).finish_non_exhaustive()
    }
}

impl Machine {
    /// The one that this process runs on.
    pub fn here(store: StoreKind) -> Self {
        Self { vfs: Arc::new(DiskVfs), store, clock: Arc::new(SystemClock), random: Arc::new(rand::random::<u64>) }
    }

    /// What generations ask of it.
    pub(super) fn environment(&self) -> Environment {
        let (clock, random) = (Arc::clone(&self.clock), Arc::clone(&self.random));
        Environment {
            store: self.store.clone(),
            now_ms: Box::new(move || clock.now_ms()),
            random: Box::new(move || random()),
        }
    }
}
