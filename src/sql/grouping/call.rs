//! The aggregates that are maintained: which, of what types, and how they are written.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::physical_expr::PhysicalExpr;

use super::super::numbers::Numbers;
use super::super::row::Codec;
use super::super::words;

/// An aggregate function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateFunction {
    /// `count(*)`, `count(x)`.
    Count,
    /// `sum(x)`.
    Sum,
    /// `avg(x)`.
    Average,
    /// `min(x)`.
    Least,
    /// `max(x)`.
    Greatest,
    /// `bool_and(x)`.
    All,
    /// `bool_or(x)`.
    Any,
}

/// An aggregate of a query.
#[derive(Debug, Clone)]
pub struct AggregateCall {
    /// Which.
    pub function: AggregateFunction,
    /// Of what; none for `count(*)`.
    pub argument: Option<Arc<dyn PhysicalExpr>>,
    /// `FILTER (WHERE ..)`: the argument is evaluated on rows alone for which this is true.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Whether equal values count once.
    pub distinct: bool,
    /// The type of the result.
    pub output: DataType,
}

impl AggregateFunction {
    /// The one that DataFusion calls so.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "count" => Self::Count,
            "sum" => Self::Sum,
            "avg" | "mean" => Self::Average,
            "min" => Self::Least,
            "max" => Self::Greatest,
            "bool_and" => Self::All,
            "bool_or" => Self::Any,
            _ => return None,
        })
    }

    /// What DataFusion calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Average => "avg",
            Self::Least => "min",
            Self::Greatest => "max",
            Self::All => "bool_and",
            Self::Any => "bool_or",
        }
    }

    /// Whether it is maintained over values of this type. Not sums of intervals, whose parts DataFusion adds up apart and
    /// lets wrap, nor the order of nested values, which DataFusion and rows see differently.
    pub fn takes(self, kind: &DataType) -> bool {
        let simple = !kind.is_nested() && !matches!(kind, DataType::Null | DataType::Dictionary(..));
        match self {
            Self::Count => Codec::supports(kind),
            Self::Sum | Self::Average => Numbers::are(kind),
            Self::Least | Self::Greatest => simple && Codec::supports(kind),
            Self::All | Self::Any => *kind == DataType::Boolean,
        }
    }
}

impl AggregateCall {
    /// Whether it is maintained over rows of these columns. Not the distinct ones of nested values: DataFusion may hold equal
    /// what differs as rows.
    pub fn is_maintained(&self, input: &Schema) -> bool {
        let Some(argument) = &self.argument else {
            return self.function == AggregateFunction::Count && !self.distinct;
        };
        let is_value = matches!(self.function, AggregateFunction::Least | AggregateFunction::Greatest);
        argument.data_type(input).is_ok_and(|kind| {
            let has_equality = !self.distinct || !kind.is_nested();
            self.function.takes(&kind) && has_equality && (!is_value || kind == self.output)
        })
    }

    /// As SQL, for people.
    pub(super) fn sql(&self) -> String {
        self.words(&words::sql)
    }

    fn words(&self, show: &dyn Fn(&Arc<dyn PhysicalExpr>) -> String) -> String {
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        let argument = self.argument.as_ref().map_or("*".to_owned(), show);
        let filter = self.filter.as_ref().map(|filter| format!(" FILTER (WHERE {})", show(filter)));
        format!("{}({distinct}{argument}){}", self.function.name(), filter.unwrap_or_default())
    }
}

/// With all that tells it from others.
impl fmt::Display for AggregateCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} AS {}", self.words(&|expression| expression.to_string()), self.output)
    }
}
