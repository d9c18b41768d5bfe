//! Files of sqllogictest, as far as they are used here, read and written.
//!
//! ```text
//! # a comment
//!
//! statement ok
//! CREATE VIEW name AS SELECT ..
//!
//! query IT rowsort
//! SELECT ..
//! ----
//! 1 red
//! ---- errors
//! {"level":0}: 12 / gauge.level: Divide by zero error
//!
//! statement error
//! SELECT ..
//! ----
//! 1:8: rank(): ..
//! ```
//!
//! A letter a column: `B` boolean, `D` date, `I` integer, `P` time, `R` number, `T` text, `?` anything else. `rowsort`:
//! the rows have no order. Rows that cannot be evaluated stand after the others. What refuses a text says line and
//! column. Not here: what a text answers.

use std::fmt;

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// What stands between: comments.
    Comment(String),
    /// A view for the queries after it.
    View { name: String, sql: String },
    /// A query and its answer.
    Query { types: String, in_order: bool, sql: String, rows: Vec<String>, errors: Vec<String> },
    /// A query and why it is refused.
    Refused { sql: String, why: String },
}

/// The records of a file.
pub fn parse(text: &str) -> Result<Vec<Record>, String> {
    text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()).map(record).collect()
}

fn record(block: &str) -> Result<Record, String> {
    let (head, body) = block.split_once('\n').unwrap_or((block, ""));
    let (sql, answer) = body
        .split_once("\n----\n")
        .map_or_else(|| (body.trim_end_matches("\n----"), ""), |(sql, answer)| (sql, answer));
    let words: Vec<&str> = head.split(' ').collect();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    match words.as_slice() {
        [first, ..] if first.starts_with('#') => Ok(Record::Comment(block.to_owned())),
        ["statement", "ok"] => {
            let view = body.strip_prefix("CREATE VIEW ").and_then(|rest| rest.split_once(" AS"));
            let (name, sql) = view.ok_or_else(|| format!("only CREATE VIEW .. AS is known: {block}"))?;
            Ok(Record::View { name: name.to_owned(), sql: sql.trim().to_owned() })
        }
        ["statement", "error"] => Ok(Record::Refused { sql: sql.to_owned(), why: answer.to_owned() }),
        ["query", types, rest @ ..] => {
            let in_order = match rest {
                [] => true,
                ["rowsort"] => false,
                _ => return Err(format!("only `rowsort` is known: {head}")),
            };
            let (rows, errors) = match answer.strip_prefix("---- errors\n") {
                Some(errors) => ("", errors),
                None => answer.split_once("\n---- errors\n").unwrap_or((answer, "")),
            };
            let (types, sql) = ((*types).to_owned(), sql.to_owned());
            Ok(Record::Query { types, in_order, sql, rows: lines(rows), errors: lines(errors) })
        }
        _ => Err(format!("neither a comment nor a statement nor a query: {block}")),
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Comment(text) => writeln!(f, "{text}"),
            Self::View { name, sql } => writeln!(f, "statement ok\nCREATE VIEW {name} AS\n{sql}"),
            Self::Refused { sql, why } => writeln!(f, "statement error\n{sql}\n----\n{why}"),
            Self::Query { types, in_order, sql, rows, errors } => {
                let sort = if *in_order { "" } else { " rowsort" };
                writeln!(f, "query {types}{sort}\n{sql}\n----")?;
                rows.iter().try_for_each(|row| writeln!(f, "{row}"))?;
                if !errors.is_empty() {
                    writeln!(f, "---- errors")?;
                }
                errors.iter().try_for_each(|error| writeln!(f, "{error}"))
            }
        }
    }
}

#[test]
fn what_is_read_is_written_again() {
    let text = "# of two\n# lines\n\nstatement ok\nCREATE VIEW v AS\nSELECT 1 AS a\n\nquery IT rowsort\nSELECT a,\n  b\nFROM \
                v\n----\n1 x\n2 NULL\n---- errors\nbad\n\nquery I\nSELECT 1\n----\n\nquery I\nSELECT 2\n----\n---- errors\n\
                worse\n\nstatement error\nSELECT\n----\n1:1: SELECT: no\n";
    let records = parse(text).expect("a file");
    assert_eq!(records.len(), 6);
    let Record::Query { in_order: false, rows, errors, .. } = &records[2] else { panic!("{records:?}") };
    assert_eq!((rows.len(), errors.len()), (2, 1));
    let written: Vec<String> = records.iter().map(ToString::to_string).collect();
    assert_eq!(written.join("\n"), text);
    assert!(parse("query I sideways\nSELECT 1\n----\n").is_err() && parse("statement ok\nDROP TABLE t").is_err());
}
