//! What DataFusion says of a query that it cannot plan, in words of SQL: what it is about, where that stands, and what to
//! write instead.
//!
//! Its messages have no codes, so they are known by their words; one that is not known is told as it is, without what
//! means something to DataFusion's own authors alone.

mod known;

use super::{Objection, Place};
use known::{SAYINGS, Spot};

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
