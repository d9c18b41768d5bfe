//! A query that is refused: where, what it is, and what to write instead.
//!
//! Whoever plans makes an [`Objection`], which knows the construct but not the text; [`Source`] finds the construct in the
//! text and makes a [`Refusal`] of it. DataFusion's own errors become objections here too.

use std::fmt;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Diagnostic, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};

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

/// Where in a text something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// At this line and column.
    At(Location),
    /// Where this word stands first: before a parenthesis if it does so anywhere, as functions do.
    Word(String),
    /// Where these words follow one another first.
    Words(&'static [&'static str]),
    /// Where any of these stands first.
    AnyWord(&'static [&'static str]),
    /// Nothing says where: at the query itself.
    Query,
}

/// Why a query cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Objection {
    pub(super) place: Place,
    pub(super) construct: String,
    pub(super) message: String,
}

impl Objection {
    pub(super) fn new(place: Place, construct: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place, construct: construct.into(), message: message.into() }
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

impl Place {
    /// Of the first column of the expression of which it is known where it stands, else of a function in it.
    pub(super) fn of(expression: &Expr) -> Self {
        let (mut column, mut function) = (None, None);
        expression
            .apply(|inner| {
                match inner {
                    Expr::Column(found) => column = column.take().or_else(|| of_column(found)),
                    Expr::OuterReferenceColumn(_, found) => column = column.take().or_else(|| of_column(found)),
                    Expr::ScalarFunction(found) => {
                        function = function.take().or_else(|| Some(Self::Word(found.name().to_owned())));
                    }
                    _ => {}
                }
                Ok(if column.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
            .expect("nothing fails");
        column.or(function).unwrap_or(Self::Query)
    }

    /// Of the first expression in the plan of which it is known where it stands; where there is none, of the first table
    /// that it reads.
    pub(super) fn of_plan(plan: &LogicalPlan) -> Self {
        let (mut place, mut table) = (Self::Query, None);
        plan.apply(|node| {
            node.apply_expressions(|expression| {
                if !matches!(place, Self::At(_)) {
                    place = Self::of(expression);
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
            if let LogicalPlan::TableScan(scan) = node {
                table = table.take().or_else(|| Some(Self::Word(scan.table_name.table().to_owned())));
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .expect("nothing fails");
        if matches!(place, Self::At(_)) { place } else { table.unwrap_or(place) }
    }
}

fn of_column(column: &Column) -> Option<Place> {
    column.spans.first().map(|span| Place::At(Location::new(span.start.line, span.start.column)))
}

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
        let Location { line, column } = self.locate(&objection.place);
        let Objection { construct, message, .. } = objection;
        Refusal { file: self.file.to_owned(), line, column, construct, message }
    }

    fn locate(&self, place: &Place) -> Location {
        let tokens = Tokenizer::new(&PostgreSqlDialect {}, self.text).tokenize_with_location().unwrap_or_default();
        let solid: Vec<&TokenWithSpan> =
            tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect();
        let start = solid.first().map_or(Location::new(1, 1), |token| token.span.start);
        match place {
            Place::At(location) if location.line > 0 => *location,
            Place::Words(words) => {
                let is = |(token, word): (&&TokenWithSpan, &&str)| match &token.token {
                    Token::Word(found) => found.value.eq_ignore_ascii_case(word),
                    _ => false,
                };
                let found = solid.windows(words.len()).find(|found| found.iter().zip(*words).all(is));
                found.map_or(start, |found| found[0].span.start)
            }
            Place::AnyWord(words) => {
                let is = |token: &&TokenWithSpan| match &token.token {
                    Token::Word(found) => words.iter().any(|word| found.value.eq_ignore_ascii_case(word)),
                    _ => false,
                };
                solid.iter().copied().find(is).map_or(start, |token| token.span.start)
            }
            Place::Word(word) => {
                let is = |token: &TokenWithSpan| match &token.token {
                    Token::Word(found) => found.value.eq_ignore_ascii_case(word),
                    token => token.to_string() == *word,
                };
                let called = solid.windows(2).find(|pair| is(pair[0]) && pair[1].token == Token::LParen);
                let found = called.map(|pair| pair[0]).or_else(|| solid.iter().copied().find(|token| is(token)));
                found.map_or(start, |token| token.span.start)
            }
            Place::At(_) | Place::Query => start,
        }
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

impl From<ParserError> for Objection {
    fn from(error: ParserError) -> Self {
        match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
                let (message, place) = located(&text);
                Self::new(place, "syntax", message)
            }
            ParserError::RecursionLimitExceeded => Self::new(
                Place::Query,
                "nesting",
                "the query is nested too deeply; write the inner parts as WITH queries or as views of their own",
            ),
        }
    }
}

/// Splits what a parser says from where it says so.
fn located(text: &str) -> (String, Place) {
    let place = |rest: &str| {
        let (line, column) = rest.split_once(", Column: ")?;
        let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
        Some(Place::At(Location::new(line.parse().ok()?, digits.parse().ok()?)))
    };
    let found = text.rsplit_once(" at Line: ").and_then(|(message, rest)| Some((message.to_owned(), place(rest)?)));
    found.unwrap_or_else(|| (text.to_owned(), Place::Query))
}

impl From<DataFusionError> for Objection {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::Context(_, inner) => Self::from(*inner),
            DataFusionError::Collection(errors) => match errors.into_iter().next() {
                Some(first) => Self::from(first),
                None => Self::new(Place::Query, "query", "cannot be planned"),
            },
            DataFusionError::Diagnostic(diagnostic, inner) => Self::from(*inner).pointed_at_by(&diagnostic),
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(objection) => *objection,
                Err(other) => Self::new(Place::Query, "query", first_line(&other.to_string())),
            },
            DataFusionError::SQL(parser, _) => Self::from(*parser),
            DataFusionError::SchemaError(schema, _) => Self::from(*schema),
            DataFusionError::NotImplemented(message) => {
                Self::new(Place::Query, "unsupported SQL", first_line(&message))
            }
            DataFusionError::Plan(message) => Self::new(Place::Query, "query", first_line(&message)),
            other => Self::new(Place::Query, "query", first_line(&other.strip_backtrace())),
        }
    }
}

impl Objection {
    /// A diagnostic knows the place, and says shorter what is wrong.
    fn pointed_at_by(mut self, diagnostic: &Diagnostic) -> Self {
        if let Some(span) = diagnostic.span {
            self.place = Place::At(Location::new(span.start.line, span.start.column));
        }
        if self.construct == "query" {
            self.message = first_line(&diagnostic.message);
        }
        for help in
            diagnostic.helps.iter().map(|help| &help.message).chain(diagnostic.notes.iter().map(|note| &note.message))
        {
            if !self.message.contains(help.as_str()) {
                self.message = format!("{}; {}", self.message, first_line(help));
            }
        }
        self
    }
}

impl From<SchemaError> for Objection {
    fn from(error: SchemaError) -> Self {
        match error {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let place = of_column(&field).unwrap_or_else(|| Place::Word(field.name.clone()));
                let known: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
                let message = match known.as_slice() {
                    [] => "there is no such column here, where no table is read".to_owned(),
                    known => format!("there is no such column; there are {}", known.join(", ")),
                };
                Self::new(place, format!("column {}", field.flat_name()), message)
            }
            SchemaError::AmbiguousReference { field } => {
                let place = of_column(&field).unwrap_or_else(|| Place::Word(field.name.clone()));
                let message = "more than one table here has such a column; write the table's name before it";
                Self::new(place, format!("column {}", field.name), message)
            }
            SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
                let message = "two columns have this name; give one another name with AS";
                Self::new(Place::Word(name.clone()), format!("column {name}"), message)
            }
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, place: Place) -> (u64, u64) {
        let refusal = Source { file: "queries/x.sql", text }.refuse(Objection::new(place, "a", "b"));
        (refusal.line, refusal.column)
    }

    #[test]
    fn a_refusal_says_where_what_and_what_to_write() {
        let source = Source { file: "queries/x.sql", text: "-- why\nSELECT rank() OVER () FROM t" };
        let refusal = source.refuse(Objection::new(Place::Word("rank".into()), "rank()", "is refused; write another"));
        assert_eq!(refusal.to_string(), "queries/x.sql:2:8: rank(): is refused; write another");
    }

    #[test]
    fn places_are_found_in_the_text() {
        let text = "-- rank\n  SELECT rank, 'rank', rank () FROM t";
        assert_eq!(at(text, Place::Word("RANK".into())), (2, 24), "as a function");
        assert_eq!(at(text, Place::Word("t".into())), (2, 37));
        assert_eq!(at(text, Place::Word("nowhere".into())), (2, 3), "else where the query begins");
        assert_eq!(at(text, Place::Query), (2, 3));
        assert_eq!(at(text, Place::At(Location::new(2, 7))), (2, 7));
        assert_eq!(at(text, Place::At(Location::new(0, 0))), (2, 3), "an empty span is none");
    }

    #[test]
    fn the_leading_comment_describes() {
        let describe = |text| Source { file: "", text }.description();
        assert_eq!(describe("-- One,\n-- two.\n--\n-- Three.\nSELECT 1 -- four"), "One, two.\nThree.");
        assert_eq!(describe("/* One,\n * two.\n */ SELECT 1"), "One, two.");
        assert_eq!(describe("SELECT 1 -- three"), "");
    }

    #[test]
    fn parsers_say_where() {
        let objection =
            Objection::from(ParserError::ParserError("Expected: x, found: y at Line: 3, Column: 18".into()));
        assert_eq!(objection, Objection::new(Place::At(Location::new(3, 18)), "syntax", "Expected: x, found: y"));
        let objection = Objection::from(ParserError::ParserError("no place".into()));
        assert_eq!(objection, Objection::new(Place::Query, "syntax", "no place"));
    }
}
