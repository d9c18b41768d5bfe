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
//! slices, one a turn, each at a virtual epoch of its own before the one at which it began, while everything else goes
//! on. A view can be read from its first epoch that is complete on ([`ViewCut::readable_from`]).
//!
//! All workers apply installations and removals in the same order between the same epochs. Not here: which views there
//! should be (`service`), when readers see them (`published`).

mod changes;
mod drawn;
mod installed;
mod log;
mod merged;
mod scan;
mod tables;
mod tail;

pub(super) use installed::{VIEW, Views};
pub use log::{NewView, ViewCommand, ViewLog};
pub use scan::SLICE_KEYS;
