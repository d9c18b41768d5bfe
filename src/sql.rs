//! SQL: tables, queries, plans, and the programs that evaluate them on rows; the only module that knows DataFusion and
//! Arrow.
//!
//! ```text
//!  queries/*.sql ──parse, resolve, type, optimise (DataFusion)──> logical plan ──lower──> Relation ──> dataflow
//!  states, quarantine ──tables──> columns ──program──> rows ──dataflow──> rows ──codec──> columns ──> JSON, CSV, Arrow
//! ```
//!
//! A [`Relation`] says what to compute in a few operators; the dataflow renders it and calls back the programs that are
//! in it (filter and project, keys, accumulators, orders). Rows are opaque bytes there: a [`Row`] is what arrow-row makes
//! of its columns, so comparing bytes compares values and joining two rows is joining their bytes. Not here: time,
//! workers, arrangements (`dataflow`), what an instant is (`published`).

mod adhoc;
mod bounds;
mod canonical;
mod exact_sum;
mod explain;
mod failure;
mod fixed_width;
mod format;
pub mod functions;
mod grouping;
mod instant;
mod kessel_schema;
mod lower;
mod numbers;
mod passing;
mod planning;
mod program;
mod queries;
mod reading;
mod refusal;
mod relation;
mod row;
mod rules;
#[cfg(test)]
mod samples;
mod session;
mod subquery;
mod syntax;
mod table;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
pub mod text_file;
mod top;
mod type_name;
mod unmaintained;
mod view_plan;
mod words;

pub use adhoc::{Absent, QUERY_THREAD, QueryAnswer, QueryError, QueryInput, QueryLimits, QueryRunner};
pub use bounds::{Bounds, Interval, Intervals};
pub use explain::{ExplainedOperator, Explanation};
pub use failure::Failure;
pub use format::{Format, FormatError};
pub use grouping::{Accumulators, AggregateCall, AggregateFunction, Contribution, Contributions, Group, Grouping};
pub use instant::Instant;
pub use kessel_schema::SchemaFolderError;
pub use program::{Evaluated, Program, is_evaluating};
pub use queries::{Planned, QueryFile, plan_queries, read_queries};
pub use reading::{KeyColumns, OrderBy, RANGE_START_BYTES_MAX, Reading, ReadingError, RowRange};
pub use refusal::Refusal;
pub use relation::{Fingerprint, Keep, Keyed, Operator, RecursionId, Relation};
pub use row::{Codec, Row};
pub use session::Effort;
pub use table::{Columns, Parts, Resource, TIME_ZONE, Table, TableKind};
pub use tables::Tables;
pub use top::{Standing, Standings, Top};
pub use type_name::type_name;
pub use view_plan::{ViewColumn, ViewPlan};
