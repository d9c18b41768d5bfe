//! The published read view: one instant of everything, for any thread, without a lock, a queue or a worker.
//!
//! Workers hand over cuts; when all have one at some epoch, the cuts and the epoch's binding become a [`ReadView`],
//! swapped in by one pointer ([`Publisher`]). A reader takes the pointer and sees all arrangements at one epoch for as
//! long as it holds it. Pages are read by keyset over sorted lists ([`pages`]); tokens name positions ([`token`]).
//! Invariants: epochs of read views strictly increase; a view's batches are complete at its epoch and never change.
//! Not here: how batches come about (`dataflow`), JSON (`http`).

pub mod catalog;
mod change_log;
mod contents;
mod failure_pages;
pub mod history;
mod instant;
pub mod latency;
pub mod pages;
mod past;
mod publisher;
pub mod rebuilding;
mod row_place;
mod seek;
pub mod stream;
pub mod token;
mod view;
pub mod view_costs;
mod view_pages;
mod view_rows;

#[cfg(test)]
pub(crate) use catalog::tests::{binding, cut};
pub use catalog::{Catalog, CatalogView};
pub use failure_pages::FailuresPage;
pub use history::{HistoryLimits, NotKept, RowChanges};
pub use pages::{Filter, Page, PageLimits};
pub use past::{Difference, StateFrom};
pub use publisher::Publisher;
pub use row_place::{RowKey, RowPlace};
pub use token::{
    ConsistencyToken, DifferenceToken, PageToken, QuarantineToken, RowToken, StatesToken, StreamToken, TokenError,
    TokenKey,
};
pub use view::ReadView;
pub use view_pages::{GivenUp, RowLimits, RowsPage};
pub use view_rows::Ordered;
