//! Numbers of JSON as they are written, without losing a digit on the way.
//!
//! In: the text of a JSON number. Out: the integer or the double that it is, or why it is none. A number is an integer by
//! its value, not by how it is written: `2.0` and `1E3` are (JSON Schema says so, and connectors write them).

use std::fmt;

/// Why a number cannot stand in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberFault {
    /// It has a fraction.
    Fraction,
    /// It needs more than 64 bits.
    BeyondInteger,
    /// It is an integer that no double is equal to.
    Inexact,
    /// It is greater than all doubles, or between zero and the least one.
    BeyondDouble,
}

impl fmt::Display for NumberFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fraction => "which is no integer",
            Self::BeyondInteger => "which is beyond 64 bits",
            Self::Inexact => "which a double cannot hold exactly",
            Self::BeyondDouble => "which is beyond what a double can hold",
        })
    }
}

/// The integer that a JSON number is.
pub(super) fn integer(text: &str) -> Result<i64, NumberFault> {
    if let Ok(integer) = text.parse() {
        return Ok(integer);
    }
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    // Ten to the power of this times the significant digits. An exponent that is no 64-bit number shifts any digits out.
    let exponent = exponent.parse::<i64>().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
    let shift = exponent.saturating_sub(i64::try_from(fraction.len()).unwrap_or(i64::MAX));
    let unshifted = significant.trim_end_matches('0');
    let zeros = i64::try_from(significant.len() - unshifted.len()).unwrap_or(i64::MAX);
    let zeros = usize::try_from(shift.saturating_add(zeros)).map_err(|_| NumberFault::Fraction)?;
    // 19 digits fit into 64 bits; not all of them do.
    if unshifted.len().saturating_add(zeros) > 19 {
        return Err(NumberFault::BeyondInteger);
    }
    let magnitude: i128 = [unshifted, &"0".repeat(zeros)].concat().parse().map_err(|_| NumberFault::BeyondInteger)?;
    i64::try_from(sign * magnitude).map_err(|_| NumberFault::BeyondInteger)
}

/// The double that a JSON number is: itself if it is written as an integer, else the nearest one. There is one zero.
pub(super) fn double(text: &str) -> Result<f64, NumberFault> {
    let value: f64 = text.parse().map_err(|_| NumberFault::BeyondDouble)?;
    if !value.is_finite() {
        return Err(NumberFault::BeyondDouble);
    }
    if value == 0.0 {
        let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
        let is_zero = !mantissa.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
        return if is_zero { Ok(0.0) } else { Err(NumberFault::BeyondDouble) };
    }
    let is_integer = !text.contains(['.', 'e', 'E']);
    if is_integer && text.parse::<i128>().ok() != Some(value as i128) {
        return Err(NumberFault::Inexact);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn an_integer_is_one_by_its_value() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0e-7", 0),
            ("0E999999999999999999999", 0),
            ("17", 17),
            ("2.0", 2),
            ("1E3", 1000),
            ("120e-1", 12),
            ("0.0012e4", 12),
            ("1.0E+18", 1_000_000_000_000_000_000),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("-9223372036854775808.000", i64::MIN),
        ] {
            assert_eq!(integer(text), Ok(value), "{text}");
        }
        for text in ["0.5", "1e-1", "-12.000000000000000000000000001", "1E-99999999999999999999"] {
            assert_eq!(integer(text), Err(NumberFault::Fraction), "{text}");
        }
        let long = "9".repeat(100_000);
        for text in ["9223372036854775808", "-9223372036854775809", "1.0E21", "1e400", "1E99999999999999999999", &long]
        {
            assert_eq!(integer(text), Err(NumberFault::BeyondInteger), "{text}");
        }
    }

    /// Writes the same integer in many ways, and others a fraction beside it.
    #[test]
    fn integers_are_read_however_they_are_written() {
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..50_000 {
            let value: i64 = random.random::<i64>() >> random.random_range(0..63);
            let places = random.random_range(0..25);
            let (sign, digits) = (if value < 0 { "-" } else { "" }, value.unsigned_abs().to_string());
            // Moves the point to the left and says so in the exponent.
            let padded = format!("{digits:0>width$}", width = places + 1);
            let (whole, fraction) = padded.split_at(padded.len() - places);
            let fraction = format!("{fraction}{}", "0".repeat(random.random_range(0..3)));
            let point = if fraction.is_empty() { String::new() } else { format!(".{fraction}") };
            let whole = whole.trim_start_matches('0');
            let whole = if whole.is_empty() { "0" } else { whole };
            let text = format!("{sign}{whole}{point}E{places}");
            assert_eq!(integer(&text), Ok(value), "{text}");
            if places > 0 && value != 0 {
                let digit = random.random_range(1..10);
                let text = format!("{sign}{whole}.{fraction}{}{digit}e{places}", "0".repeat(places));
                assert_eq!(integer(&text), Err(NumberFault::Fraction), "{text}");
            }
        }
    }

    #[test]
    fn a_double_is_never_silently_another_integer() {
        for (text, value) in [
            ("0", 0.0),
            ("0.1", 0.1),
            ("-2.5E-3", -0.0025),
            ("9007199254740992", 9_007_199_254_740_992.0),
            ("9223372036854775808", 9_223_372_036_854_775_808.0),
            ("100000000000000000000", 1e20),
            ("1.0E21", 1e21),
            ("5e-324", 5e-324),
            ("1.7976931348623157e308", f64::MAX),
        ] {
            assert_eq!(double(text), Ok(value), "{text}");
        }
        assert!(double("-0").is_ok_and(f64::is_sign_positive) && double("-0.0e5").is_ok_and(f64::is_sign_positive));
        let long = "9".repeat(300);
        for text in ["9007199254740993", "-9223372036854775807", "123456789012345678901234567890", &long] {
            assert_eq!(double(text), Err(NumberFault::Inexact), "{text}");
        }
        for text in ["1e309", "-1e400", "1e-400", &"9".repeat(400)] {
            assert_eq!(double(text), Err(NumberFault::BeyondDouble), "{text}");
        }
        let mut random = StdRng::seed_from_u64(2);
        for _ in 0..50_000 {
            let value: i64 = random.random::<i64>() >> random.random_range(0..63);
            let exact = value.unsigned_abs().checked_ilog2().unwrap_or(0) < 53 + value.trailing_zeros().min(62);
            assert_eq!(double(&value.to_string()).is_ok(), exact, "{value}");
            let value = f64::from_bits(random.random());
            if value.is_finite() && value != 0.0 {
                assert_eq!(double(&format!("{value:e}")), Ok(value));
            }
        }
    }
}
