//! The format that a client asks for by its `Accept` header.
//!
//! An answer that depends on it says `Vary: Accept`, so that no cache gives one client what another asked for.

use axum::http::{HeaderMap, header};

use super::ApiError;
use crate::sql::Format;

/// The first of our formats of rows that the client takes, by its own preference; JSON where it does not care.
pub(super) fn accepted(headers: &HeaderMap) -> Result<Format, ApiError> {
    preferred(headers, &Format::ALL.map(Format::media_type)).map(|place| Format::ALL[place])
}

/// The place of the first of some media types that the client takes, by its own preference; the first where it does not
/// care.
pub(super) fn preferred(headers: &HeaderMap, known: &[&str]) -> Result<usize, ApiError> {
    let asked: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut ranges: Vec<(f32, Option<usize>)> = Vec::new();
    for range in asked.iter().flat_map(|text| text.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |text| text.parse().unwrap_or(0.0));
        let place = match media_type.strip_suffix('*') {
            _ if media_type.is_empty() => continue,
            Some("*/") => Some(0),
            Some(family) => known.iter().position(|known| family.ends_with('/') && known.starts_with(family)),
            None => known.iter().position(|known| *known == media_type),
        };
        ranges.push((quality, place));
    }
    if ranges.is_empty() {
        return Ok(0);
    }
    ranges.retain(|(quality, _)| *quality > 0.0);
    ranges.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranges.into_iter().find_map(|(_, place)| place).ok_or_else(|| {
        ApiError::NotAcceptable(format!("none of what `Accept` allows can be written; there is {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for refused in ["application/json;q=0", "image/*", "*", "text*"] {
            assert!(matches!(asked(refused), Err(ApiError::NotAcceptable(_))), "{refused}");
        }
    }
}
