//! Query parameters, strictly: an unknown one, one too many, one too long or out of its form is an error that says
//! which it is and what is allowed.
//!
//! What a route takes stands in the table of routes; one layer (`admission`) has the query parsed and checked by it
//! before the handler runs, and hands it over as [`Query`]. `/openapi.json` says the same from the same table.

use std::collections::BTreeMap;
use std::time::Duration;

use super::watched::Client;
use super::{ApiError, duration};
use crate::model::{Epoch, Timestamp};
use crate::published::TokenError;
use crate::published::token::TOKEN_CHARS_MAX;

/// A longer query string is not read.
const QUERY_BYTES_MAX: usize = 16 * 1024;
/// More values of one parameter are not taken.
pub(super) const VALUES_MAX: usize = 100;
/// No field of a resource that is served by an index is longer.
pub(super) const TEXT_BYTES_MAX: usize = 1024;
/// No value of a column is asked for that is longer.
pub(super) const COLUMN_BYTES_MAX: usize = 4096;
/// The default `limit`.
pub(super) const LIMIT_DEFAULT: usize = 100;

/// Parameters that say at which instant a request is to be answered, where a route takes them.
const OF_THE_INSTANT: [&str; 6] = ["consistency", "token", "timeout", "after", "at", "asOf"];
/// The words of `consistency`.
pub(super) const CONSISTENCIES: [&str; 3] = ["minimizeLatency", "atLeastAsFresh", "atLeastAsAcknowledged"];
/// The greatest `timeout`.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// No id of a read point is longer.
const READ_POINT_CHARS_MAX: usize = 64;

/// What a parameter may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text without control characters: what a field holds is its reporter's affair.
    Text,
    /// True or false.
    Boolean,
    /// How many items a page has at most.
    Limit,
    /// Where a list goes on.
    PageToken,
    /// A length of time with its unit.
    Duration,
    /// Columns separated by commas, each with a `-` before it where the greatest comes first; a name with such signs in it
    /// stands in double quotes.
    Order,
    /// One of Kessel's words for how fresh a read must be.
    Consistency,
    /// A consistency token.
    Token,
    /// An event: where it stands, or its id.
    Event,
    /// A moment: RFC 3339, or milliseconds since 1970.
    Moment,
    /// The id of a read point.
    ReadPoint,
    /// How long is waited, likewise.
    Timeout,
    /// Stands for every name that is not another parameter's, and for every one behind `column.`: a column of a
    /// view.
    Column,
}

/// Before the name of a column, which may then be called as another parameter is.
pub(super) const COLUMN_PREFIX: &str = "column.";

/// A parameter of a route.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Whether it may come more than once, and then means any of its values.
    pub many: bool,
    /// What it does, for the API's description.
    pub summary: &'static str,
}

impl Parameter {
    /// Whether it is called so; a column is called otherwise than what stands for it.
    fn is(&self, name: &str) -> bool {
        self.name == name && self.kind != Kind::Column
    }
}

/// The parameters of a request, checked, in order; and those that its route takes.
#[derive(Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    known: &'static [Parameter],
    /// Who waits for the answer.
    client: Option<Client>,
}

impl Query {
    /// Parses a query string by the parameters that its route takes.
    pub(super) fn parse(query: Option<&str>, known: &'static [Parameter], limit_max: usize) -> Result<Self, ApiError> {
        let text = query.unwrap_or_default();
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.len() > QUERY_BYTES_MAX {
            let message = format!("the query has {} bytes; at most {QUERY_BYTES_MAX} are allowed", text.len());
            return Err(ApiError::Invalid(message));
        }
        let query = Self { pairs: url_pairs(text)?, known, client: None };
        for (name, value) in &query.pairs {
            let column = || known.iter().find(|parameter| parameter.kind == Kind::Column);
            let Some(parameter) = known.iter().find(|parameter| parameter.is(name)).or_else(column) else {
                return Err(ApiError::Invalid(unknown(name, known)));
            };
            check(parameter, value, limit_max)
                .map_err(|what| ApiError::Invalid(format!("`{name}` is {:?}; it must be {what}", shown(value))))?;
        }
        for (name, values) in query.columns(known) {
            if values.len() > VALUES_MAX {
                let message = format!("`{name}` is given {} times; at most {VALUES_MAX} are allowed", values.len());
                return Err(ApiError::Invalid(message));
            }
        }
        for Parameter { name, many, .. } in known {
            let (times, allowed) = (query.values(name).count(), if *many { VALUES_MAX } else { 1 });
            if times > allowed {
                let allowed = if allowed == 1 { "once is".to_owned() } else { format!("at most {allowed} are") };
                return Err(ApiError::Invalid(format!("`{name}` is given {times} times; {allowed} allowed")));
            }
        }
        Ok(query)
    }

    /// The same query, of a client.
    pub(super) fn of(self, client: Option<Client>) -> Self {
        Self { client, ..self }
    }

    /// Who waits for the answer, where that is known: it is not for requests without parameters.
    pub(super) fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter once, in order: the same list however it was asked for.
    pub(super) fn any_of(&self, name: &str, form: impl Fn(&str) -> String) -> Vec<String> {
        let mut values: Vec<String> = self.values(name).map(form).collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    /// Every column: a name that is none of these, or stands behind [`COLUMN_PREFIX`]; with all its values, however it
    /// was named.
    pub(super) fn columns(&self, known: &[Parameter]) -> Vec<(String, Vec<String>)> {
        let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &self.pairs {
            if !known.iter().any(|parameter| parameter.is(name)) {
                let column = name.strip_prefix(COLUMN_PREFIX).unwrap_or(name);
                columns.entry(column.to_owned()).or_default().push(value.clone());
            }
        }
        columns.into_iter().collect()
    }

    /// The value of a parameter that comes once.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// The moment that a parameter names, if it is there.
    pub(super) fn moment(&self, name: &str) -> Option<Epoch> {
        self.one(name).and_then(moment_of)
    }

    /// The length of time that a parameter says, if it is there.
    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        self.one(name).and_then(duration::parse)
    }

    /// What is asked for, however it is written: without what says at which instant.
    pub(super) fn named(&self) -> Vec<(String, String)> {
        let is_instant = |name: &str| OF_THE_INSTANT.contains(&name) && self.known.iter().any(|known| known.is(name));
        let mut named: Vec<_> = self.pairs.iter().filter(|(name, _)| !is_instant(name)).cloned().collect();
        named.sort_unstable();
        named
    }

    /// Where the list goes on, as `decode` reads the `pageToken`; none on the first page.
    pub(super) fn page_token<T>(
        &self,
        decode: impl FnOnce(&str) -> Result<T, TokenError>,
    ) -> Result<Option<T>, ApiError> {
        let refused = |error| ApiError::Invalid(format!("`pageToken` is refused: {error}"));
        self.one("pageToken").map(decode).transpose().map_err(refused)
    }

    /// How many items the page has at most.
    pub(super) fn limit(&self, limit_max: usize) -> usize {
        self.one("limit").and_then(|limit| limit.parse().ok()).unwrap_or(LIMIT_DEFAULT.min(limit_max))
    }
}

fn unknown(name: &str, known: &[Parameter]) -> String {
    let known: Vec<&str> = known.iter().map(|parameter| parameter.name).collect();
    let known = if known.is_empty() { "none is taken".to_owned() } else { format!("known are {}", known.join(", ")) };
    format!("unknown parameter {:?}; {known}", shown(name))
}

/// The beginning of what a caller said, for a message.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The error is what the value must be.
fn check(parameter: &Parameter, value: &str, limit_max: usize) -> Result<(), String> {
    // A column may hold an empty text.
    if value.is_empty() && parameter.kind != Kind::Column {
        return Err("left out, or not empty".to_owned());
    }
    let (good, what) = match parameter.kind {
        // A text in a view may hold anything.
        Kind::Column => (value.len() <= COLUMN_BYTES_MAX, format!("text of at most {COLUMN_BYTES_MAX} bytes")),
        Kind::Text | Kind::Order => (
            value.len() <= TEXT_BYTES_MAX && !value.chars().any(char::is_control),
            format!("text of at most {TEXT_BYTES_MAX} bytes without control characters"),
        ),
        Kind::Boolean => (matches!(value, "true" | "false"), "true or false".to_owned()),
        Kind::Limit => {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            let limit = value.parse().ok().filter(|limit| (1..=limit_max).contains(limit));
            (digits && limit.is_some(), format!("a number from 1 to {limit_max}"))
        }
        Kind::Duration => (duration::parse(value).is_some(), duration::FORM.to_owned()),
        Kind::Consistency => (CONSISTENCIES.contains(&value), format!("one of {}", CONSISTENCIES.join(", "))),
        Kind::Token => (value.len() <= TOKEN_CHARS_MAX, "the `consistencyToken` of an answer".to_owned()),
        Kind::Event => (
            value.len() <= TEXT_BYTES_MAX && !value.chars().any(char::is_control),
            "TOPIC:PARTITION:OFFSET, or the header id of an event".to_owned(),
        ),
        Kind::Moment => (
            moment_of(value).is_some(),
            "a time since 1970 in RFC 3339 with a zone, or its milliseconds since 1970".to_owned(),
        ),
        Kind::ReadPoint => {
            let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let good = value.len() <= READ_POINT_CHARS_MAX && value.bytes().all(is_id);
            (good, "the `at` of a read point".to_owned())
        }
        Kind::Timeout => (
            duration::parse(value).is_some_and(|timeout| !timeout.is_zero() && timeout <= TIMEOUT_MAX),
            format!("a duration such as 500ms or 2s, at most {}s", TIMEOUT_MAX.as_secs()),
        ),
        Kind::PageToken => (value.len() <= TOKEN_CHARS_MAX, "a token that was given with the page before".to_owned()),
    };
    if good { Ok(()) } else { Err(what) }
}

/// The moment that a text says, in ms since 1970, rounded down.
pub(super) fn moment_of(text: &str) -> Option<Epoch> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    // A plus that was not escaped is a space by now, and nothing else in such a time is one.
    let moment = Timestamp::parse(&text.replace(' ', "+")).ok()??;
    u64::try_from(moment.millis()).ok()
}

fn url_pairs(text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let decoded = |part: &str| {
        let escape = |after: &str| after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
        if !part.split('%').skip(1).all(escape) {
            return Err(ApiError::Invalid(format!("a % in {:?} is not followed by two hex digits", shown(part))));
        }
        let spaced = part.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| ApiError::Invalid("the query is not UTF-8 after percent decoding".to_owned()))
    };
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decoded(name)?, decoded(value)?))
        })
        .collect()
}
