//! A query that is refused: where, what it is, and what to write instead.
//!
//! Whoever plans makes an [`Objection`], which knows the construct but not the text; [`Source`] finds the construct in the
//! text and makes a [`Refusal`] of it. DataFusion's own errors become objections too (`errors`, `sayings`,
//! `subqueries`).

mod errors;
mod place;
mod sayings;
mod subqueries;

use std::fmt;

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer, Whitespace};

pub(super) use place::Place;
pub(super) use sayings::in_plain_words;
pub(super) use subqueries::{explained, explained_late, left_in, looked_for};

/// A query that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {construct}: {message}")]
pub struct Refusal {
    /// The file as it was named.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// In characters, from 1.
    pub column: u64,
    /// What is refused, in SQL's words.
    pub construct: String,
    /// What is wrong with it, and what to write instead.
    pub message: String,
}

/// Why a query cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Objection {
    pub(super) place: Place,
    pub(super) construct: String,
    pub(super) message: String,
    /// Whether it may be of what is left of a subquery that did not become a join: later than the plan as it is written, in
    /// which all columns are there.
    pub(super) may_be_left: bool,
}

impl Objection {
    pub(super) fn new(place: Place, construct: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place, construct: construct.into(), message: message.into(), may_be_left: false }
    }

    /// The same, of what may be left of a subquery that did not become a join.
    pub(super) fn of_what_is_left(self) -> Self {
        Self { may_be_left: true, ..self }
    }

    /// The same, as rules of DataFusion must put it.
    pub(super) fn into_error(self) -> DataFusionError {
        DataFusionError::External(Box::new(self))
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.construct, self.message)
    }
}

impl std::error::Error for Objection {}

/// A text of SQL, and what it is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    /// What it is called in refusals.
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// The objection, placed.
    pub(super) fn refuse(&self, objection: Objection) -> Refusal {
        let Location { line, column } = objection.place.locate(self.text);
        let Objection { construct, message, .. } = objection;
        Refusal { file: self.file.to_owned(), line, column, construct, message }
    }

    /// What the comment says with which the text begins, its paragraphs a line each, without the marks of a comment.
    pub(super) fn description(&self) -> String {
        let tokens = Tokenizer::new(&PostgreSqlDialect {}, self.text).tokenize_with_location().unwrap_or_default();
        let mut lines: Vec<String> = Vec::new();
        for token in tokens {
            match token.token {
                Token::Whitespace(Whitespace::SingleLineComment { comment, .. }) => {
                    lines.push(comment.trim().to_owned())
                }
                Token::Whitespace(Whitespace::MultiLineComment(comment)) => {
                    lines.extend(comment.lines().map(|line| line.trim().trim_start_matches('*').trim().to_owned()));
                }
                Token::Whitespace(_) => {}
                _ => break,
            }
        }
        let paragraphs = lines.split(String::is_empty).filter(|lines| !lines.is_empty()).map(|lines| lines.join(" "));
        paragraphs.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_where_what_and_what_to_write() {
        let source = Source { file: "queries/x.sql", text: "-- why\nSELECT rank() OVER () FROM t" };
        let refusal = source.refuse(Objection::new(Place::Word("rank".into()), "rank()", "is refused; write another"));
        assert_eq!(refusal.to_string(), "queries/x.sql:2:8: rank(): is refused; write another");
    }

    #[test]
    fn the_leading_comment_describes() {
        let describe = |text| Source { file: "", text }.description();
        assert_eq!(describe("-- One,\n-- two.\n--\n-- Three.\nSELECT 1 -- four"), "One, two.\nThree.");
        assert_eq!(describe("/* One,\n * two.\n */ SELECT 1"), "One, two.");
        assert_eq!(describe("SELECT 1 -- three"), "");
    }
}
