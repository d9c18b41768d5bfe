//! What DataFusion says of a query that it cannot plan, in words of SQL: what it is about, where that stands, and what to
//! write instead.
//!
//! Its messages have no codes, so they are known by their words; one that is not known is told as it is, without what
//! means something to DataFusion's own authors alone. `tests/sql/refusals.slt` has a query for each.

use super::{Objection, Place};

/// Something that DataFusion says.
struct Saying {
    /// Its words; `{}` stands for whatever is there.
    says: &'static str,
    /// What it is about; `{0}` is the first `{}`.
    construct: &'static str,
    /// Where that stands.
    spot: Spot,
    /// What to make of it.
    means: &'static str,
}

/// Where something stands; numbers are those of `{}`.
enum Spot {
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
const SAYINGS: &[Saying] = &[
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
        "Physical plan does not support logical expression AggregateFunction",
        "GROUP BY",
        Spot::Words(&["GROUP", "BY"]),
        "an aggregate is made of groups, and cannot make them; group by columns",
    ),
];

/// What something that DataFusion says means; none for what is not known.
pub(super) fn meant_by(text: &str) -> Option<Objection> {
    let text = &*one_word_a_type(&in_one_line(text)).replace("datafusion.public.", "");
    let found = SAYINGS.iter().find_map(|saying| Some((saying, captured(saying.says, text)?)));
    let (saying, captured) = found?;
    let word = |number: usize| last_name(&captured[number]).to_lowercase();
    let place = match saying.spot {
        Spot::Word(number) => Place::Word(word(number)),
        Spot::Again(number) => Place::Again(word(number)),
        Spot::Column(number) => match captured[number].rsplit_once('.') {
            Some((table, name)) => Place::Column(Some(table.to_owned()), name.to_owned()),
            None => Place::Column(None, captured[number].clone()),
        },
        Spot::Constant(number) => Place::Constant(captured[number].clone()),
        Spot::Output(number) => captured[number].parse().map_or(Place::Query, Place::Output),
        Spot::Words(words) => Place::Words(words),
        Spot::Query => Place::Query,
    };
    let fill = |template: &str| {
        let filled = captured.iter().enumerate();
        filled.fold(template.to_owned(), |text, (number, part)| text.replace(&format!("{{{number}}}"), part))
    };
    Some(Objection::new(place, in_sql(&fill(saying.construct)), in_sql(&fill(saying.means))))
}

/// What stands for each `{}` of a template that occurs in a text.
fn captured(template: &str, text: &str) -> Option<Vec<String>> {
    let mut parts = template.split("{}");
    let first = parts.next().expect("a split has a part");
    let mut rest = if first.is_empty() { text } else { text.split_once(first)?.1 };
    let mut captured = Vec::new();
    for part in parts {
        let (found, after) = if part.is_empty() { (rest, "") } else { rest.split_once(part)? };
        captured.push(found.trim().trim_matches('"').to_owned());
        rest = after;
    }
    Some(captured)
}

/// Types without blanks, by which operators are told from what they stand between.
fn one_word_a_type(text: &str) -> String {
    let text = text.replace("Timestamp(ns, \"+00:00\")", "Timestamptz");
    let mut words = text.split("Decimal128(");
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, rest| text + "Decimal128(" + &rest.replacen(", ", ",", 1))
}

/// The name of a column or table without those before it.
fn last_name(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

/// What DataFusion says and nobody knows better.
pub(in crate::sql) fn in_plain_words(text: &str) -> String {
    let text = in_one_line(text);
    let mut text = &*text;
    while let Some((kind, rest)) = text.split_once(": ").filter(|(kind, _)| KINDS.contains(kind)) {
        (_, text) = (kind, rest);
    }
    let text = text.split_once(" No function matches the given name").map_or(text, |(before, _)| before);
    in_sql(text.trim_end_matches(['.', ' ']))
}

/// The first line, and what it announces: that stands in the last one.
fn in_one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    match lines.next_back().filter(|_| first.ends_with(':')) {
        Some(last) => format!("{first} {}", last.trim_start_matches("error: ")),
        None => first.to_owned(),
    }
}

/// What errors begin with.
const KINDS: &[&str] = &[
    "Error during planning",
    "Execution error",
    "Internal error",
    "External error",
    "Arrow error",
    "Cast error",
    "Parser error",
    "Compute error",
    "Schema error",
    "Invalid argument error",
    "This feature is not implemented",
    "type_coercion",
];

/// Constants and types as they are written in SQL.
fn in_sql(text: &str) -> String {
    let mut text = text.to_owned();
    for kind in ["UInt64(", "Int64(", "Int32(", "Float64(", "Boolean(", "Utf8("] {
        while let Some((before, (inner, after))) =
            text.split_once(kind).and_then(|(before, rest)| Some((before, rest.split_once(')')?)))
        {
            text = format!("{before}{}{after}", inner.replace('"', "'"));
        }
    }
    TYPES.iter().fold(text, |text, (arrow, sql)| text.replace(arrow, sql))
}

/// The names that [`crate::sql::type_name`] has for types, by those in messages. Longer ones first, since shorter ones may
/// be parts of them.
const TYPES: &[(&str, &str)] = &[
    ("Timestamp(ns, \"+00:00\")", "timestamp with time zone"),
    ("Timestamptz", "timestamp with time zone"),
    ("Timestamp(ns)", "timestamp"),
    ("Interval(MonthDayNano)", "interval"),
    ("LargeUtf8", "text"),
    ("Utf8View", "text"),
    ("Utf8", "text"),
    ("UInt64", "bigint unsigned"),
    ("Int64", "bigint"),
    ("Int32", "integer"),
    ("Float64", "double precision"),
    ("Boolean", "boolean"),
    ("Date32", "date"),
    ("Decimal128", "numeric"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_matched_and_filled() {
        assert_eq!(captured("a {} c {}", "x a b c d e").as_deref(), Some(&["b".to_owned(), "d e".to_owned()][..]));
        assert_eq!(captured("{} is {}.", "it is so. yes").as_deref(), Some(&["it".to_owned(), "so".to_owned()][..]));
        assert_eq!(captured("a {} c", "a b"), None);
    }

    #[test]
    fn what_is_known_is_said_in_words_of_sql() {
        let objection =
            meant_by("Arrow error: Cast error: Cannot cast string 'x' to value of Int64 type").expect("known");
        assert_eq!((objection.place, &*objection.construct), (Place::Constant("x".into()), "constant 'x'"));
        assert!(objection.message.contains("as bigint"), "{}", objection.message);
        let objection = meant_by(
            "Cannot infer common argument type for comparison operation Decimal128(10, 2) > Timestamp(ns, \"+00:00\")",
        );
        let objection = objection.expect("known");
        assert_eq!((objection.place, &*objection.construct), (Place::Word(">".into()), "operator >"));
        assert_eq!(meant_by("whatever"), None);
    }

    #[test]
    fn what_is_not_known_is_told_without_what_means_nothing() {
        let text = "type_coercion: Error during planning: t.a > Int64(1) AND b = Utf8(\"x\"). No function matches the \
                    given name and argument types 'f(Utf8)'. You might need to add explicit type casts.\nBacktrace";
        assert_eq!(in_plain_words(text), "t.a > 1 AND b = 'x'");
        assert_eq!(
            in_plain_words("External error: regex parse error:\n    (\n    ^\nerror: unclosed"),
            "regex parse error: unclosed"
        );
    }
}
