//! The format that a client asks for by its `Accept` header.
//!
//! An answer that depends on it says `Vary: Accept`, so that no cache gives one client what another asked for.

use std::cmp::Reverse;

use axum::http::{HeaderMap, header};

use super::ApiError;
use crate::sql::Format;

/// The first of our formats of rows that the client takes, by its own preference; JSON where it does not care.
pub(super) fn accepted(headers: &HeaderMap) -> Result<Format, ApiError> {
    preferred(headers, &Format::ALL.map(Format::media_type)).map(|place| Format::ALL[place])
}

/// A range of media types that a client names.
struct Range {
    media_type: String,
    /// From 0, which is not acceptable, to 1.
    quality: f32,
}

impl Range {
    /// None where nothing stands between two commas.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().filter(|media_type| !media_type.is_empty())?.to_ascii_lowercase();
        let quality = |part: &str| {
            let (name, value) = part.split_once('=')?;
            name.eq_ignore_ascii_case("q").then(|| value.parse().ok().filter(|value| (0.0..=1.0).contains(value)))
        };
        Some(Self { media_type, quality: parts.find_map(quality).map_or(1.0, |quality| quality.unwrap_or(0.0)) })
    }

    /// How exactly a media type is meant; none where it is not.
    fn exactness(&self, known: &str) -> Option<u8> {
        match self.media_type.strip_suffix('*') {
            None => (known == self.media_type).then_some(2),
            Some("*/") => Some(0),
            Some(family) => (family.ends_with('/') && known.starts_with(family)).then_some(1),
        }
    }
}

/// The place of the first of some media types that the client takes, by its own preference; the first where it does not
/// care. What is named exactly is not meant by a wider range beside it.
pub(super) fn preferred(headers: &HeaderMap, known: &[&str]) -> Result<usize, ApiError> {
    let asked: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let ranges: Vec<Range> = asked.iter().flat_map(|text| text.split(',')).filter_map(Range::parse).collect();
    if ranges.is_empty() {
        return Ok(0);
    }
    let best = known.iter().enumerate().filter_map(|(place, known)| {
        let meant = |(order, range): (usize, &Range)| Some((range.exactness(known)?, Reverse(order), range.quality));
        let (_, order, quality) =
            ranges.iter().enumerate().filter_map(meant).max_by_key(|(exactness, order, _)| (*exactness, *order))?;
        (quality > 0.0).then_some((quality, order, Reverse(place)))
    });
    let best = best.max_by(|one, other| one.0.total_cmp(&other.0).then((one.1, one.2).cmp(&(other.1, other.2))));
    best.map(|(.., Reverse(place))| place).ok_or_else(|| {
        ApiError::NotAcceptable(format!("none of what `Accept` allows can be written; there is {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_with_no_quality_is_not_taken() {
        assert_eq!(asked("application/json;q=0, */*"), Ok(Format::JsonLines));
        assert_eq!(asked("*/*, application/*;q=0"), Ok(Format::Csv));
        assert_eq!(asked("application/*;q=0, application/x-ndjson;q=0.1, text/*;q=0"), Ok(Format::JsonLines));
        assert_eq!(asked("text/csv;q=0, text/*, application/json;q=0.1"), Ok(Format::Json));
        assert!(matches!(asked("text/csv;q=much"), Err(ApiError::NotAcceptable(_))));
    }

    fn asked(text: &str) -> Result<Format, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().unwrap());
        accepted(&headers)
    }

    #[test]
    fn a_client_gets_what_it_prefers() {
        assert_eq!(accepted(&HeaderMap::new()), Ok(Format::Json));
        assert_eq!(asked("*/*"), Ok(Format::Json));
        assert_eq!(asked("text/html, text/csv;q=0.8, */*;q=0.1"), Ok(Format::Csv));
        assert_eq!(asked("text/csv;q=0.5, application/vnd.apache.arrow.stream"), Ok(Format::Arrow));
        assert_eq!(asked("application/x-ndjson; charset=utf-8"), Ok(Format::JsonLines));
        assert!(matches!(asked("image/png"), Err(ApiError::NotAcceptable(_))));
        assert_eq!(asked("application/*"), Ok(Format::Json));
        assert_eq!(asked("text/*"), Ok(Format::Csv));
        // The order of equals is the client's.
        assert_eq!(asked("text/csv, application/json"), Ok(Format::Csv));
        assert_eq!(asked("*/*;q=0.5, text/csv;q=0.5"), Ok(Format::Json));
        for refused in ["application/json;q=0", "application/json; Q=0.000", "image/*", "*", "text*", "*/*;q=0"] {
            assert!(matches!(asked(refused), Err(ApiError::NotAcceptable(_))), "{refused}");
        }
    }
}
