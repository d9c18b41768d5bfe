//! A moment with nanoseconds, as RFC 3339 text carries it.
//!
//! Go's zero time (`0001-01-01T00:00:00Z`) means "not set" (kessel-events F15) and parses to none.
//! Printed in UTC with as many fraction digits as are needed, so what Kessel wrote comes back letter for letter.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// Seconds of `0001-01-01T00:00:00Z` before 1970.
const GO_ZERO_SECONDS: i64 = -62_135_596_800;

/// A moment in UTC with nanoseconds, years -9999 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    seconds: i64,
    /// Nanoseconds plus one, so that `Option<Timestamp>` needs no more room.
    nanoseconds_1: NonZeroU32,
}

/// A text that is no RFC 3339 moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time with a zone")]
pub struct ParseTimestampError;

impl Timestamp {
    fn from_jiff(moment: jiff::Timestamp) -> Self {
        let mut seconds = moment.as_second();
        let mut nanoseconds = moment.subsec_nanosecond();
        if nanoseconds < 0 {
            seconds -= 1;
            nanoseconds += 1_000_000_000;
        }
        Self { seconds, nanoseconds_1: NonZeroU32::MIN.saturating_add(nanoseconds.unsigned_abs()) }
    }

    fn jiff(self) -> jiff::Timestamp {
        let nanoseconds = i32::try_from(self.nanoseconds_1.get() - 1).unwrap_or(0);
        jiff::Timestamp::new(self.seconds, nanoseconds).unwrap_or(jiff::Timestamp::MAX)
    }

    /// The moment this many milliseconds after 1970; those beyond year 9999 become its end.
    pub fn from_millis(ms: i64) -> Self {
        let bounded = ms.clamp(jiff::Timestamp::MIN.as_millisecond(), jiff::Timestamp::MAX.as_millisecond());
        Self::from_jiff(jiff::Timestamp::from_millisecond(bounded).unwrap_or(jiff::Timestamp::MAX))
    }

    /// Milliseconds since 1970, rounded down.
    pub fn millis(self) -> i64 {
        self.seconds.saturating_mul(1000).saturating_add(i64::from((self.nanoseconds_1.get() - 1) / 1_000_000))
    }

    /// Parses RFC 3339 with `Z` or an offset; none for Go's zero time.
    pub fn parse(text: &str) -> Result<Option<Self>, ParseTimestampError> {
        let moment = match text.parse::<jiff::Timestamp>() {
            Ok(moment) => moment,
            // The library ends a day early; "for ever" is often written as the last second of year 9999.
            Err(_) if text.starts_with("9999-12-3") && text.ends_with('Z') => {
                let civil = text.trim_end_matches('Z').parse::<jiff::civil::DateTime>();
                civil.map(|_| jiff::Timestamp::MAX).map_err(|_| ParseTimestampError)?
            }
            Err(_) => return Err(ParseTimestampError),
        };
        if moment.as_second() == GO_ZERO_SECONDS {
            return Ok(None);
        }
        Ok(Some(Self::from_jiff(moment)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.jiff(), f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kessel_wrote_comes_back() {
        for text in [
            "2026-11-23T06:47:23.785268Z",
            "2026-11-23T06:47:23Z",
            "2025-03-12T17:06:02.272666574Z",
            "2026-01-01T00:00:00.5Z",
        ] {
            let parsed = Timestamp::parse(text).expect("valid").expect("not zero");
            assert_eq!(parsed.to_string(), text);
        }
        let offset = Timestamp::parse("2025-03-12T13:06:02.272666574-04:00").expect("valid").expect("not zero");
        assert_eq!(offset.to_string(), "2025-03-12T17:06:02.272666574Z");
        assert_eq!(Timestamp::from_millis(-1).to_string(), "1969-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::from_millis(-1).millis(), -1);
    }

    #[test]
    fn zero_is_absent_and_nonsense_is_an_error() {
        assert_eq!(Timestamp::parse("0001-01-01T00:00:00Z"), Ok(None));
        for bad in
            ["", "yesterday", "2026-11-23", "2026-11-23T06:47:23", "10000-01-01T00:00:00Z", "2026-13-01T00:00:00Z"]
        {
            assert_eq!(Timestamp::parse(bad), Err(ParseTimestampError), "{bad}");
        }
        assert!(Timestamp::parse("9999-12-31T23:59:59Z").expect("valid").is_some());
        assert!(Timestamp::from_millis(i64::MAX).millis() > 0);
    }
}
