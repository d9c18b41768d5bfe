//! Lengths of time as a query says them: a whole number and its unit, `500ms`, `5s`, `2m` or `1h`.
//!
//! Nothing else is one: no fraction, no sign, no space, no number alone, nothing beyond a day.

use std::time::Duration;

/// What a length of time looks like, for messages.
pub(super) const FORM: &str = "a length of time such as 500ms, 5s, 2m or 1h, of a day at most";

/// The same as a regular expression, but for how long it may be.
pub(super) const PATTERN: &str = "^[0-9]+(ms|s|m|h)$";

/// Longer than this is nothing that anybody waits for.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The length of time that a text says; none if it says none.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    // `u64` alone would take a sign.
    let number: u64 = number.parse().ok()?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).filter(|length| *length <= LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_a_whole_number_and_a_unit() {
        let lengths =
            [("0ms", 0), ("500ms", 500), ("5s", 5_000), ("007s", 7_000), ("2m", 120_000), ("24h", 86_400_000)];
        for (text, ms) in lengths {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        let others = [
            "",
            "5",
            "s",
            "ms",
            "5 s",
            " 5s",
            "5s ",
            "+5s",
            "-5s",
            "5.0s",
            "5S",
            "5sec",
            "1d",
            "25h",
            "5s5",
            "٣s",
            "99999999999999999999ms",
            "18446744073709551615h",
        ];
        for text in others {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
