//! What to compute, in a few operators: the plan that the dataflow renders.
//!
//! Lowering expands what SQL has many of (outer, semi, anti, mark joins; set operations) into these few. Two relations
//! with the same fingerprint are the same computation, which is how equal parts of a query, and of two, are shared.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;

use super::bounds::Bounds;
use super::grouping::Grouping;
use super::program::Program;
use super::row::Row;
use super::table::Table;
use super::top::Top;

/// Names a computation: equal for equal ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u128);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Fingerprint {
    /// Of a description that says everything that matters.
    pub fn of(description: &str) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(description.as_bytes()))
    }
}

/// Names a recursion within a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecursionId(pub u32);

/// A collection of rows, and how it comes about.
#[derive(Debug)]
pub struct Relation {
    /// How.
    pub operator: Operator,
    /// The columns of its rows, in the default codec ([`super::Codec::new`]).
    pub schema: SchemaRef,
    /// Which computation it is.
    pub fingerprint: Fingerprint,
}

/// A relation's rows under a key: the row itself stays whole.
#[derive(Debug, Clone)]
pub struct Keyed {
    /// Where the rows come from.
    pub input: Arc<Relation>,
    /// Makes the key of a row; a row that it drops (a null that equals nothing) joins nothing.
    pub key: Arc<Program>,
}

/// Which rows a semijoin keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Keep {
    /// Those whose key is on the other side.
    Matches,
    /// Those whose key is not, and those without a key.
    Others,
}

/// How rows come about.
#[derive(Debug)]
pub enum Operator {
    /// These rows, always.
    Constant {
        /// Each as often as it stands here.
        rows: Vec<Row>,
    },
    /// The rows of a table.
    Table {
        /// Which.
        table: Arc<Table>,
        /// The columns that the program is given, by their places in the table, ascending.
        columns: Vec<usize>,
        /// Filters, projects and computes.
        program: Arc<Program>,
    },
    /// The rows of another view, as stored there.
    View {
        /// Its name.
        view: Arc<str>,
    },
    /// Filtered, projected and computed rows.
    Apply {
        /// From these.
        input: Arc<Relation>,
        /// By this.
        program: Arc<Program>,
    },
    /// Rows that come and go as time passes.
    Temporal {
        /// Of these.
        input: Arc<Relation>,
        /// While these hold.
        bounds: Bounds,
    },
    /// All pairs with equal keys: the left row's columns, then the right row's.
    Join {
        /// One side.
        left: Keyed,
        /// The other.
        right: Keyed,
    },
    /// The left rows, each as often as it is there, whose key is (or is not) on the right.
    Semijoin {
        /// What is kept or not.
        left: Keyed,
        /// The keys.
        right: Keyed,
        /// Which.
        keep: Keep,
    },
    /// A row for each group.
    Reduce {
        /// Of these.
        input: Arc<Relation>,
        /// How.
        grouping: Arc<Grouping>,
    },
    /// The first rows of each group.
    Top {
        /// Of these.
        input: Arc<Relation>,
        /// How.
        top: Arc<Top>,
    },
    /// Each row once.
    Distinct {
        /// Of these.
        input: Arc<Relation>,
    },
    /// All rows of all inputs.
    Union {
        /// With the same columns.
        inputs: Vec<Arc<Relation>>,
    },
    /// `WITH RECURSIVE .. UNION ..`: the distinct rows of `start` and of `step` over what is there already.
    Recursive {
        /// Whose [`Operator::Recursion`] stands in `step`.
        id: RecursionId,
        /// The first rows.
        start: Arc<Relation>,
        /// More rows.
        step: Arc<Relation>,
    },
    /// What a recursion has so far; only within its `step`.
    Recursion {
        /// Of this one.
        id: RecursionId,
    },
}

impl Relation {
    /// The relations that it is made of.
    pub fn inputs(&self) -> Vec<&Arc<Self>> {
        match &self.operator {
            Operator::Constant { .. } | Operator::Table { .. } | Operator::View { .. } | Operator::Recursion { .. } => {
                Vec::new()
            }
            Operator::Apply { input, .. }
            | Operator::Temporal { input, .. }
            | Operator::Reduce { input, .. }
            | Operator::Top { input, .. }
            | Operator::Distinct { input } => vec![input],
            Operator::Join { left, right } | Operator::Semijoin { left, right, .. } => vec![&left.input, &right.input],
            Operator::Union { inputs } => inputs.iter().collect(),
            Operator::Recursive { start, step, .. } => vec![start, step],
        }
    }
}
