//! Functions as views and as ad-hoc queries see them: those that queries have and views have not, and what to write
//! instead.

use datafusion::execution::SessionState;
use datafusion::execution::registry::FunctionRegistry;
use datafusion::logical_expr::Volatility;

use super::grouping::AggregateFunction;
use super::lower::WINDOW_ADVICE;
use super::syntax::Functions;

/// The functions of a session, as ad-hoc queries see them.
pub(super) struct AdHoc<'a>(pub(super) &'a SessionState);

impl Functions for AdHoc<'_> {
    fn are_maintained(&self) -> bool {
        false
    }

    fn is_scalar(&self, name: &str) -> bool {
        self.0.scalar_functions().contains_key(name)
    }

    fn objection(&self, _name: &str, _is_window: bool) -> Option<(String, String)> {
        None
    }
}

/// The functions of a session, as views see them.
pub(super) struct Maintained<'a>(pub(super) &'a SessionState);

impl Functions for Maintained<'_> {
    fn are_maintained(&self) -> bool {
        true
    }

    fn is_scalar(&self, name: &str) -> bool {
        self.0.scalar_functions().contains_key(name)
    }

    fn objection(&self, name: &str, is_window: bool) -> Option<(String, String)> {
        if is_window {
            let is_aggregate = self.0.aggregate_functions().contains_key(name);
            let advice = if is_aggregate { OVER_ADVICE } else { WINDOW_ADVICE };
            return (name != "row_number").then(|| (format!("window function {name}()"), advice.to_owned()));
        }
        if let Ok(aggregate) = self.0.udaf(name) {
            let name = aggregate.name();
            let message = || format!("is not maintained; {}", aggregate_advice(name));
            return AggregateFunction::named(name).is_none().then(|| (format!("aggregate {name}()"), message()));
        }
        let function = self.0.udf(name).ok()?;
        let is_volatile = function.signature().volatility == Volatility::Volatile;
        is_volatile.then(|| (format!("function {name}()"), VOLATILE_ADVICE.to_owned()))
    }
}

const OVER_ADVICE: &str =
    "an aggregate of each row's group is not maintained so; write it with GROUP BY in a subquery and join that";

const VOLATILE_ADVICE: &str =
    "has another value each time, so that no row would ever stay; write a hash of columns, as md5(resource_id)";

/// What can be written instead of an aggregate.
fn aggregate_advice(name: &str) -> &'static str {
    match name {
        "array_agg" | "string_agg" => "write a row for each value, and put them together where they are read",
        "first_value" | "last_value" | "nth_value" | "any_value" => {
            "write SELECT DISTINCT ON (..) .. ORDER BY .., or ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) with n = 1"
        }
        "stddev" | "stddev_pop" | "var" | "var_pop" | "var_sample" | "corr" | "covar_pop" | "covar_samp" => {
            "write count(x), sum(x) and sum(x * x), and compute it of them"
        }
        "grouping" => "write one SELECT a grouping, with UNION ALL between them",
        _ => {
            "there are count, sum, avg, min, max, bool_and and bool_or; ask for others in an ad-hoc query over the view"
        }
    }
}
