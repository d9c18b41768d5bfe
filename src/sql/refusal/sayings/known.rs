//! The messages of DataFusion that are known by their words. `tests/sql/refusals.slt` has a query for each.

/// Something that DataFusion says.
pub(super) struct Saying {
    /// Its words; `{}` stands for whatever is there.
    pub(super) says: &'static str,
    /// What it is about; `{0}` is the first `{}`.
    pub(super) construct: &'static str,
    /// Where that stands.
    pub(super) spot: Spot,
    /// What to make of it.
    pub(super) means: &'static str,
}

/// Where something stands; numbers are those of `{}`.
pub(super) enum Spot {
    Word(usize),
    Again(usize),
    Column(usize),
    Constant(usize),
    Output(usize),
    Words(&'static [&'static str]),
    Query,
}

const fn saying(says: &'static str, construct: &'static str, spot: Spot, means: &'static str) -> Saying {
    Saying { says, construct, spot, means }
}

/// The first that fits counts.
pub(super) const SAYINGS: &[Saying] = &[
    saying(
        "Projections require unique expression names but the expression {} at position {} and {} at position {} have",
        "column {2}",
        Spot::Output(3),
        "two columns have this name; give one another name with AS",
    ),
    saying("table '{}' not found", "table {0}", Spot::Word(0), "there is no such table or view"),
    saying("Invalid qualifier {}", "{0}.*", Spot::Word(0), "there is no such table here"),
    saying(
        "Unsupported compound identifier '{}'.",
        "table {0}",
        Spot::Words(&["FROM"]),
        "tables and views have one name each; write it alone",
    ),
    saying(
        "'{}' must appear in GROUP BY clause",
        "column {0}",
        Spot::Column(0),
        "is neither in GROUP BY nor in an aggregate; add it to GROUP BY, or write min({0})",
    ),
    saying(
        "HAVING clause references: {} must appear in",
        "HAVING",
        Spot::Words(&["HAVING"]),
        "{0} is neither in GROUP BY nor in an aggregate; write it in WHERE",
    ),
    saying("Empty tuple not", "()", Spot::Words(&["(", ")"]), "names nothing; leave it out, and GROUP BY too"),
    saying(
        "Aggregate functions are not allowed in the WHERE clause",
        "WHERE",
        Spot::Words(&["WHERE"]),
        "rows are not put together yet; write conditions on aggregates in HAVING",
    ),
    saying(
        "Aggregate function calls cannot be nested; Compute '{}({}'",
        "aggregate {0}()",
        Spot::Word(0),
        "stands in another aggregate; compute it in a subquery",
    ),
    saying(
        "WITHIN GROUP is only supported",
        "WITHIN GROUP",
        Spot::Words(&["WITHIN"]),
        "has no meaning for this aggregate; leave it out",
    ),
    saying(
        "Cannot create filter with non-boolean predicate '{}' returning {}",
        "WHERE",
        Spot::Words(&["WHERE"]),
        "{0} is {1}, not a condition; compare it with something",
    ),
    saying(
        "Join condition must be boolean type, but got {}",
        "ON",
        Spot::Words(&["ON"]),
        "it is {0}, not a condition; compare it with something",
    ),
    saying(
        "expressions have incompatible types; has type {}; has type {}",
        "expression",
        Spot::Query,
        "{0} and {1} do not go together; CAST one of them",
    ),
    saying(
        "Cannot infer common {} operation {} {} {}",
        "operator {2}",
        Spot::Word(2),
        "{1} and {3} do not go together; CAST one of them",
    ),
    saying(
        "Cannot coerce arithmetic expression {} {} {} to valid types",
        "operator {1}",
        Spot::Word(1),
        "{0} and {2} do not go together; CAST one of them",
    ),
    saying(
        "{} cannot be used with {}; {}; perhaps you need to cast {}",
        "operator {0}",
        Spot::Word(0),
        "cannot be used with {1}; CAST {3}",
    ),
    saying(
        "Cannot get result type for temporal operation {} {} {}: Invalid",
        "operator {1}",
        Spot::Word(1),
        "cannot be used with {0} and {2}; add or subtract constant intervals",
    ),
    saying(
        "Cannot cast string '{}' to value of {} type",
        "constant '{0}'",
        Spot::Constant(0),
        "cannot be read as {1}, which it is compared with or made; write it so, or CAST the other side",
    ),
    saying(
        "Error parsing timestamp from '{}':",
        "constant '{0}'",
        Spot::Constant(0),
        "is no time; write one as '2026-01-31T23:59:59Z'",
    ),
    saying(
        "Invalid input syntax for type interval: \"{}\"",
        "constant '{0}'",
        Spot::Constant(0),
        "is no interval; write one as INTERVAL '7 days'",
    ),
    saying(
        "There isn't a common type to coerce {} and {} in {} expression",
        "{2}",
        Spot::Word(2),
        "compares texts, not {0} and {1}; CAST them to VARCHAR",
    ),
    saying(
        "Invalid escape character in LIKE expression. Expected a single character wrapped with single quotes, got '{}'",
        "ESCAPE",
        Spot::Words(&["ESCAPE"]),
        "'{0}' is not one character; leave it out, and write \\",
    ),
    saying(
        "Order by column out of bounds, specified: {}, max: {}",
        "ORDER BY {0}",
        Spot::Words(&["ORDER", "BY"]),
        "the highest number of a column here is {1}; name the column",
    ),
    saying(
        "For SELECT DISTINCT, ORDER BY expressions {} must appear in select list",
        "ORDER BY",
        Spot::Words(&["ORDER", "BY"]),
        "rows that SELECT DISTINCT makes one differ in {0}; select it, or leave it out",
    ),
    saying(
        "UNION queries have different number of columns; this side has {} fields; this side has {} fields",
        "UNION",
        Spot::Words(&["UNION"]),
        "its sides have {0} and {1} columns; select as many on both",
    ),
    saying(
        "EXCEPT queries have different number of columns; this side has {} fields; this side has {} fields",
        "EXCEPT",
        Spot::Words(&["EXCEPT"]),
        "its sides have {0} and {1} columns; select as many on both",
    ),
    saying(
        "INTERSECT queries have different number of columns; this side has {} fields; this side has {} fields",
        "INTERSECT",
        Spot::Words(&["INTERSECT"]),
        "its sides have {0} and {1} columns; select as many on both",
    ),
    saying(
        "Incompatible inputs for {}: Previous inputs were of type {}, but got incompatible type {} on column '{}'",
        "UNION",
        Spot::Words(&["UNION"]),
        "its sides have {1} and {2} in column {3}; CAST one of them",
    ),
    saying(
        "Unsupported SQL type {}",
        "type {0}",
        Spot::Word(0),
        "is not supported; write BIGINT, DOUBLE, DECIMAL(p, s), VARCHAR, BOOLEAN, DATE or TIMESTAMP",
    ),
    saying(
        "Decimal(precision = {}, scale = {}) should satisfy",
        "type DECIMAL",
        Spot::Words(&["DECIMAL"]),
        "cannot have {0} digits, {1} of them after the point; 76 are the most",
    ),
    saying(
        "`CAST(... AS type ARRAY`) not supported",
        "type ARRAY",
        Spot::Words(&["ARRAY"]),
        "there are no columns of lists; JSON lists stay text",
    ),
    saying(
        "Too many columns! The subquery should only return one column",
        "subquery",
        Spot::Query,
        "has more than one column where a value is looked for; select one",
    ),
    saying(
        "Correlated scalar subquery must be aggregated to return at most one row",
        "scalar subquery",
        Spot::Words(&["(", "SELECT"]),
        "may have more than one row; write an aggregate, as max(..)",
    ),
    saying(
        "Correlated scalar subquery {}",
        "scalar subquery",
        Spot::Words(&["(", "SELECT"]),
        "may depend on the row in SELECT and WHERE alone; write it in a subquery in FROM, and use its column",
    ),
    saying(
        "Unsupported CAST from {} to Interval({})",
        "CAST",
        Spot::Words(&["CAST"]),
        "makes no interval of {0}; write INTERVAL '7 days'",
    ),
    saying(
        "Source table contains {} columns but only {} names given as column alias",
        "columns of an alias",
        Spot::Query,
        "{1} names are given to {0} columns; name all of them, or none",
    ),
    saying(
        "Inconsistent data length across values list: got {} values in row {} but expected {}",
        "VALUES",
        Spot::Words(&["VALUES"]),
        "row {1} has {0} values, the first one {2}; write as many in each",
    ),
    saying(
        "WITH query name \"{}\" specified more than once",
        "WITH {0}",
        Spot::Again(0),
        "another query has this name; give it another one",
    ),
    saying(
        "LIMIT must be >= 0, '{}' was",
        "LIMIT",
        Spot::Words(&["LIMIT"]),
        "cannot be {0}; write how many rows there are to be",
    ),
    saying("Expected LIMIT to be an integer or null, but got", "LIMIT", Spot::Words(&["LIMIT"]), "must be a number"),
    saying(
        "OFFSET must be >=0, '{}' was",
        "OFFSET",
        Spot::Words(&["OFFSET"]),
        "cannot be {0}; write how many rows to leave out",
    ),
    saying("Expected OFFSET to be an integer or null, but got", "OFFSET", Spot::Words(&["OFFSET"]), "must be a number"),
    saying(
        "Operator {} is not yet supported",
        "operator {0}",
        Spot::Word(0),
        "is not supported; there are -> and ->> for JSON, ~ for regular expressions, and those of arithmetic",
    ),
    saying(
        "Unsupported SQL unary operator BitwiseNot",
        "operator ~",
        Spot::Words(&["~"]),
        "is not supported; write -1 - x",
    ),
    saying(
        "Substring without for/from is not valid",
        "function substr()",
        Spot::Words(&["substr"]),
        "does not say from where; write substr(text, first, length)",
    ),
    saying(
        "Cannot access field at argument {}: type {} is not",
        "field of a column",
        Spot::Query,
        "{1} has no fields: a name before a point that is a column here does not mean the table around; give that \
         table a name of its own with AS",
    ),
    saying("regex parse error:{}", "regular expression", Spot::Words(&["~"]), "cannot be understood: {0}"),
    // What functions say of their arguments.
    saying(
        "the right side of -> is {}, not {}; put",
        "operator ->",
        Spot::Words(&["->"]),
        "its right side is {0}, not {1}; put the -> with both its sides in parentheses",
    ),
    saying(
        "-> reads JSON from text, not from {}. No",
        "operator ->",
        Spot::Words(&["->"]),
        "reads JSON from text, not from {0}; write it after data",
    ),
    saying(
        "Function '{}' failed to match any signature, errors: {} (DataType: {}).",
        "function {0}()",
        Spot::Word(0),
        "does not take {2}; CAST it",
    ),
    saying(
        "No function matches the given name and argument types '{}()'.",
        "function {0}()",
        Spot::Word(0),
        "lacks its arguments",
    ),
    saying(
        "No function matches the given name and argument types '{}({})'.",
        "function {0}()",
        Spot::Word(0),
        "does not take ({1}); CAST its arguments, or give as many as it takes",
    ),
    saying(
        "[return_type] SUM not supported for Null",
        "function sum()",
        Spot::Words(&["sum"]),
        "does not take * or NULL; name a column",
    ),
    saying(
        "[return_type] AVG not supported for Null",
        "function avg()",
        Spot::Words(&["avg"]),
        "does not take * or NULL; name a column",
    ),
    saying(
        "Physical plan does not support logical expression WindowFunction",
        "OVER",
        Spot::Words(&["OVER"]),
        "stands in a condition, before there are windows; write it in a subquery in FROM, and the condition outside of it",
    ),
    saying(
        "Physical plan does not support logical expression AggregateFunction",
        "GROUP BY",
        Spot::Words(&["GROUP", "BY"]),
        "an aggregate is made of groups, and cannot make them; group by columns",
    ),
];
