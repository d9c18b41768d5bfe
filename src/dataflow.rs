//! The dataflow: records in by command, shared batches out by cut; the only module that knows timely and differential.
//!
//! ```text
//!  ingest thread          every worker                                                      any thread
//!  source ──> epochs ══> decode ──by id──> shard: fold ──> states, index, quarantine ─┐
//!                                            │  ▲                                     ├─ cut ──> published
//!                                 holders <──┘  └── pins (an epoch later)             │
//!                                    └──by reporter key──> who is current ──> orphans ┘
//! ```
//!
//! Invariants: (1) epochs strictly increase, and a binding is announced before its epoch is sealed; (2) within an epoch
//! a resource's events are folded in order of partition and offset, so the state at an epoch does not depend on the
//! number of workers or on how records were batched; (3) a batch, once in a cut, never changes; (4) compaction never
//! passes what history is kept from, nor the published epoch, so a cut can be read at both. Failure: a panic here is a broken invariant and ends the
//! process. Not here: how cuts become a read view (`published`).

mod arrangement;
pub mod counters;
pub mod cut;
mod discard;
mod ending;
pub mod epochs;
pub mod event_ids;
mod folded;
mod graph;
pub mod index;
pub mod ingest;
mod ledger;
mod listener;
mod merging;
pub mod meter;
mod render;
mod reporter_keys;
mod resealing;
mod restored;
pub mod resubmission;
mod shard;
pub mod shared_batch;
mod upsert;
mod views;
mod worker;

pub use counters::{Counters, IgnoredLog};
pub use cut::{Binding, BindingLog, Cut, CutSink, Floors, Fresh, SharedUse, ViewCut, ViewId};
pub use epochs::{EpochSource, LogTime, WallClock};
pub use folded::{Folded, NewestEvent};
pub use index::{Dimension, HashKeys, Holder, IndexKey, ReporterKeyHash};
pub use ingest::{Ingest, IngestConfig, IngestEnd, IngestShared, Reading};
pub use ledger::{QuarantineLimits, RejectKey, SeenReject};
pub use meter::Measures;
pub use restored::{Restored, SLICE_STATES};
pub use shard::{KeptUntil, WHILE_PINNED};
pub use shared_batch::{Batch, Diff, Row};
pub use views::{NewView, SLICE_KEYS, ViewCommand, ViewLog};
pub use worker::{Engine, EngineConfig, ShardConfig, StartError, SteppedWorker};
