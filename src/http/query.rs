//! Query parameters, strictly: an unknown one, one too many, or one too long is an error that says what is allowed.

use super::ApiError;

/// A longer query string is not read.
const QUERY_BYTES_MAX: usize = 16 * 1024;
/// More values of one parameter are not taken.
pub(super) const VALUES_MAX: usize = 100;

/// The parameters of a request, in order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a query string of which only `allowed` parameters are known.
    pub(super) fn parse(query: Option<&str>, allowed: &[&str]) -> Result<Self, ApiError> {
        let text = query.unwrap_or_default();
        if text.len() > QUERY_BYTES_MAX {
            let message = format!("the query has {} bytes; at most {QUERY_BYTES_MAX} are allowed", text.len());
            return Err(ApiError::Invalid(message));
        }
        let pairs: Vec<(String, String)> = url_pairs(text)?;
        if let Some((unknown, _)) = pairs.iter().find(|(name, _)| !allowed.contains(&name.as_str())) {
            let known = if allowed.is_empty() {
                "it takes none".to_owned()
            } else {
                format!("known are {}", allowed.join(", "))
            };
            return Err(ApiError::Invalid(format!("unknown parameter {unknown:?}; {known}")));
        }
        Ok(Self(pairs))
    }

    /// Every value of a parameter; an empty one is an error.
    pub(super) fn all(&self, name: &str) -> Result<Vec<String>, ApiError> {
        let values: Vec<String> =
            self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect();
        if values.len() > VALUES_MAX {
            return Err(ApiError::Invalid(format!(
                "`{name}` is given {} times; at most {VALUES_MAX} are allowed",
                values.len()
            )));
        }
        if values.iter().any(String::is_empty) {
            return Err(ApiError::Invalid(format!("`{name}` is empty; leave it out, or give a value")));
        }
        Ok(values)
    }

    /// The one value of a parameter.
    pub(super) fn one(&self, name: &str) -> Result<Option<String>, ApiError> {
        let mut values = self.all(name)?;
        if values.len() > 1 {
            return Err(ApiError::Invalid(format!("`{name}` is given {} times; once is allowed", values.len())));
        }
        Ok(values.pop())
    }

    /// A number between 1 and `most`, or the default.
    pub(super) fn limit(&self, default: usize, most: usize) -> Result<usize, ApiError> {
        let Some(text) = self.one("limit")? else { return Ok(default.min(most)) };
        match text.parse() {
            Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
            _ => {
                let shown: String = text.chars().take(32).collect();
                Err(ApiError::Invalid(format!("`limit` is {shown:?}; it must be a number from 1 to {most}")))
            }
        }
    }
}

fn url_pairs(text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let decoded = |part: &str| {
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
