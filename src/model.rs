//! The words of Tarn: ids, times, coordinates, events, states, rejects.
//!
//! Promises: everything here is plain data with small invariants kept by its constructors; no I/O, no threads,
//! and no import of another module of ours. In: nothing. Out: the types that every later step speaks in.
//! Not here: how bytes become events (`decode`), how events become states (`fold`), how either is stored.

mod coordinates;
mod event;
mod id;
mod reject;
mod state;
mod texts;
mod time;

pub use coordinates::{Coordinates, Epoch, Position, TopicId, Topics};
pub use event::{Anomaly, Event, EventOrder, Operation, plausible_ms};
pub use id::{EventId, ParseIdError, ResourceId};
pub use reject::{QuarantineEntry, QuarantineStatus, Reject, RejectReason, SkipReason};
pub use state::{Applied, Ignored, IgnoredReason, LastEvent, Lifecycle, REPORTER_KEY, SeenIds, State};
pub(crate) use state::{FORMER_KEYS_MAX, Uncommon};
pub use texts::{Field, Texts, TextsTooLong};
pub use time::{ParseTimestampError, Timestamp};
