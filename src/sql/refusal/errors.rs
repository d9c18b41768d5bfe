//! Errors of the parser and of DataFusion as objections.
//!
//! An error says what is wrong in its words ([`super::sayings`]), or by its kind; a diagnostic beside it says where, and
//! what else there is to be known.

use datafusion::common::utils::datafusion_strsim::normalized_levenshtein;
use datafusion::common::{Diagnostic, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Location;

use super::sayings::{in_plain_words, meant_by};
use super::{Objection, Place};

/// What is told of an error of which nothing better is known.
const UNKNOWN: &str = "query";

/// What is told of a name that is there with capitals.
const CAPITALS: &str = "there is no such column; names with capitals are written in quotes:";

/// Names that are more alike than this may be meant for one another.
const ALIKE: f64 = 0.6;

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
    if let Some(expected) = text.strip_suffix(", found: EOF") {
        return (format!("{expected}, found: the end of the text"), Place::End);
    }
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
            DataFusionError::Shared(inner) => Self::saying(&inner.strip_backtrace()),
            DataFusionError::Collection(errors) => match errors.into_iter().next() {
                Some(first) => Self::from(first),
                None => Self::new(Place::Query, UNKNOWN, "cannot be planned"),
            },
            DataFusionError::Diagnostic(diagnostic, inner) => Self::pointed_at(&diagnostic, *inner),
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(objection) => *objection,
                Err(other) => Self::saying(&other.to_string()),
            },
            DataFusionError::SQL(parser, _) => Self::from(*parser),
            DataFusionError::SchemaError(schema, _) => Self::from(*schema),
            other => Self::saying(&other.strip_backtrace()),
        }
    }
}

impl Objection {
    /// Whatever these words mean.
    fn saying(text: &str) -> Self {
        meant_by(text).unwrap_or_else(|| Self::new(Place::Query, UNKNOWN, in_plain_words(text)))
    }

    /// A diagnostic knows the place, and says shorter what is wrong.
    fn pointed_at(diagnostic: &Diagnostic, error: DataFusionError) -> Self {
        let notes = diagnostic.notes.iter().map(|note| (&note.message, note.span));
        let helps = diagnostic.helps.iter().map(|help| (&help.message, help.span));
        let others: Vec<_> = notes.chain(helps).collect();
        let instead: Vec<&str> =
            others.iter().filter_map(|(message, _)| message.strip_prefix("possible column ")).collect();
        let message = std::iter::once(&diagnostic.message).chain(others.iter().map(|(message, _)| *message));
        let message = message.map(String::as_str).collect::<Vec<_>>().join("; ");
        let mut objection = match error {
            DataFusionError::SchemaError(schema, _) => with_candidates(*schema, &instead),
            _ if message.starts_with("Invalid function '") => unknown_function(&message),
            error => match Self::from(error) {
                objection if objection.construct == UNKNOWN => Self::saying(&message),
                objection => objection,
            },
        };
        // What is known by a word of its own stands there, not where the whole of it begins.
        if matches!(objection.place, Place::Words(_)) {
            return objection;
        }
        if let Some(span) = diagnostic.span.or_else(|| others.iter().find_map(|(_, span)| *span)) {
            objection.place = Place::At(Location::new(span.start.line, span.start.column));
        }
        objection
    }
}

/// A column that is not there, or there more than once, and what may be meant.
fn with_candidates(error: SchemaError, instead: &[&str]) -> Objection {
    let is_ambiguous = matches!(error, SchemaError::AmbiguousReference { .. });
    let objection = Objection::from(error);
    let message = match instead {
        [] => return objection,
        _ if objection.message.starts_with(CAPITALS) => return objection,
        _ if is_ambiguous => {
            format!("more than one table here has such a column; write {}", instead.join(" or "))
        }
        _ => format!("there is no such column; perhaps {} is meant", instead.join(" or ")),
    };
    Objection { message, ..objection }
}

/// `Invalid function 'name'; Possible function 'other'`.
fn unknown_function(text: &str) -> Objection {
    let mut names = text.split('\'').skip(1).step_by(2);
    let name = names.next().unwrap_or_default();
    let message = match names.next().filter(|other| normalized_levenshtein(name, other) > ALIKE) {
        Some(other) => format!("there is no such function; perhaps {other}() is meant"),
        None => "there is no such function".to_owned(),
    };
    Objection::new(Place::Word(name.to_owned()), format!("function {name}()"), message)
}

/// Whether a name is another one in capitals, which whoever left out the quotes does not get.
fn is_with_capitals(name: &str, without: &str) -> bool {
    name != without && name.to_lowercase() == without
}

impl From<SchemaError> for Objection {
    fn from(error: SchemaError) -> Self {
        let twice = |name: &str| {
            if let Some((function, _)) = name.split_once('(') {
                let message = "two aggregates that differ by a CAST alone have this name; CAST in a subquery, under a \
                               name of its own, and aggregate that";
                return Self::new(Place::Again(function.to_owned()), format!("aggregate {name}"), message);
            }
            let message = "two columns have this name; give one another name with AS";
            Self::new(Place::Again(name.to_owned()), format!("column {name}"), message)
        };
        match error {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let known: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
                let message = match known.as_slice() {
                    [] => "there is no such column here, where no table is read".to_owned(),
                    known if let Some(name) = known.iter().find(|name| is_with_capitals(name, &field.name)) => {
                        format!("{CAPITALS} \"{name}\"")
                    }
                    known => format!("there is no such column; there are {}", known.join(", ")),
                };
                Self::new(Place::of_column(&field), format!("column {}", field.flat_name()), message).of_what_is_left()
            }
            // Of one with a table's name and one without.
            SchemaError::AmbiguousReference { field } if field.relation.is_some() => twice(&field.name),
            SchemaError::AmbiguousReference { field } => {
                let message = "more than one table here has such a column; write the table's name before it";
                Self::new(Place::of_column(&field), format!("column {}", field.name), message)
            }
            SchemaError::DuplicateQualifiedField { qualifier, .. } => {
                let message = "two tables have this name; give one another name with AS";
                let name = qualifier.table();
                Self::new(Place::Again(name.to_owned()), format!("table {name}"), message)
            }
            SchemaError::DuplicateUnqualifiedField { name } => twice(&name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsers_say_where() {
        let objection =
            Objection::from(ParserError::ParserError("Expected: x, found: y at Line: 3, Column: 18".into()));
        assert_eq!(objection, Objection::new(Place::At(Location::new(3, 18)), "syntax", "Expected: x, found: y"));
        let objection = Objection::from(ParserError::ParserError("no place".into()));
        assert_eq!(objection, Objection::new(Place::Query, "syntax", "no place"));
        let objection = Objection::from(ParserError::ParserError("Expected: ), found: EOF".into()));
        assert_eq!(objection, Objection::new(Place::End, "syntax", "Expected: ), found: the end of the text"));
    }

    #[test]
    fn functions_that_are_alike_may_be_meant() {
        let objection = unknown_function("Invalid function 'uper'; Possible function 'upper'");
        assert_eq!(objection.construct, "function uper()");
        assert_eq!(objection.message, "there is no such function; perhaps upper() is meant");
        let objection = unknown_function("Invalid function 'pg_sleep'; Possible function 'degrees'");
        assert_eq!(objection.message, "there is no such function");
    }

    #[test]
    fn an_objection_of_ours_comes_through_as_it_is() {
        let ours = Objection::new(Place::End, "LIMIT", "is too small");
        let error = ours.clone().into_error().context("while planning");
        assert_eq!(Objection::from(error), ours);
    }
}
