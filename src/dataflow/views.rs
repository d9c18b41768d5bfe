//! Views on one worker: what is installed, what feeds it, what it shares, and what goes into a cut.
//!
//! ```text
//!  states, orphans, quarantine ──tail──> changes ──scan (program)──┐
//!                                                                  ├─> render ──> rows, failures of a view ──> cut
//!  another view's rows ───────────tail──────────> scan (program)──┘        ▲
//!                                                                shared arrangements (a dataflow each)
//! ```
//!
//! Every view is a dataflow of its own, and so is every arrangement that a join needs: two views that need the same one
//! share it. Scans are driven by the worker between its steps, not by operators: so a new one takes what is there in
//! slices, small ones between the epochs that others wait for (`pace`), at virtual epochs before the one at which it
//! began. A view can be read from its first epoch that is complete on ([`ViewCut::readable_from`]).
//!
//! All workers apply installations and removals in the same order between the same epochs. Not here: which views there
//! should be (`service`), when readers see them (`published`).

mod changes;
mod drawn;
mod installed;
mod log;
mod merged;
mod pace;
mod scan;
mod tables;
mod tail;

pub(super) use installed::{CatchingUp, Progress, VIEW, Views};
pub use log::{NewView, ViewCommand, ViewLog};
pub(super) use pace::Pace;
pub use scan::SLICE_KEYS;
