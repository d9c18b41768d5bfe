//! Times as people write them in tests: RFC 3339, or so much later or earlier than another one (`+7 days 1 ms`).

use crate::model::{Epoch, Timestamp, plausible_ms};

/// Units by their names, in ms.
const UNITS: [(&[&str], u64); 5] = [
    (&["ms", "millisecond", "milliseconds"], 1),
    (&["s", "second", "seconds"], 1_000),
    (&["min", "minute", "minutes"], 60_000),
    (&["h", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
];

/// What is allowed.
const FORMS: &str = "it must be a time after 2015 such as 2026-11-23T06:47:23.5Z, or a distance such as `+7 days 1 ms` \
                     in d, h, min, s and ms";

/// The time that a text names, in ms since 1970; a distance counts from `origin`.
pub(super) fn parse(text: &str, origin: Epoch) -> Result<Epoch, String> {
    let refused = || format!("`{text}` is no time; {FORMS}");
    let ms = match text.split_at_checked(1) {
        Some(("+", distance)) => parse_distance(distance).and_then(|distance| origin.checked_add(distance)),
        Some(("-", distance)) => parse_distance(distance).and_then(|distance| origin.checked_sub(distance)),
        _ => Timestamp::parse(text).ok().flatten().and_then(|time| u64::try_from(time.millis()).ok()),
    };
    ms.and_then(|ms| plausible_ms(i64::try_from(ms).ok()?)).ok_or_else(refused)
}

/// Numbers with a unit each, added up.
fn parse_distance(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let (_, unit_ms) = UNITS.iter().find(|(names, _)| names.contains(&unit))?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(*unit_ms)?)?;
        rest = next.trim_start();
    }
    (!text.trim().is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_so_far_from_another() {
        let origin = 1_700_000_000_000;
        let parsed = |text| parse(text, origin).map_err(|why| why.contains(text) && why.contains("such as"));
        assert_eq!(parsed("2026-11-23T06:47:23.5Z"), Ok(1_795_416_443_500));
        assert_eq!(parsed("+7 days 1 ms"), Ok(origin + 7 * 86_400_000 + 1));
        assert_eq!(parsed("+1h30min"), Ok(origin + 5_400_000));
        assert_eq!(parsed("-1 minute"), Ok(origin - 60_000));
        let wrong =
            ["", "+", "7 days", "+7", "+7 weeks", "+days", "-9999999 d", "2026-11-23", "+99999999999999999999 d"];
        for text in wrong.into_iter().filter(|text| !text.is_empty()) {
            assert_eq!(parsed(text), Err(true), "{text}");
        }
        assert!(parse("", origin).is_err());
    }
}
