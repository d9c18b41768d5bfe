//! A moment with nanoseconds, as RFC 3339 text carries it.
//!
//! Go's zero time (`0001-01-01T00:00:00Z`) means "not set" (kessel-events F15) and parses to none.
//! Printed in UTC with as many fraction digits as are needed, so what Kessel wrote comes back letter for letter. Years
//! of four digits are printed here, because every resource that is shown has three times; the library prints the others.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

/// Seconds of `0001-01-01T00:00:00Z` before 1970.
const GO_ZERO_SECONDS: i64 = -62_135_596_800;
const UNIX_EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
/// The seconds, counted from 1970, of the years 0 to 9999.
const FOUR_DIGIT_YEARS: RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;
const DAY_SECONDS: i64 = 86_400;
/// Days from `-0400-03-01` to 1970: whole cycles of 400 years then begin with a March, and leap days end a year.
const MARCH_TO_1970_DAYS: i64 = 719_468 + CYCLE_DAYS as i64;
const CYCLE_DAYS: u32 = 146_097;

/// A moment in UTC with nanoseconds, years -9999 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Seconds since 1970 in two halves, because a million states hold two of these each and 12 bytes do.
    seconds_high: i32,
    seconds_low: u32,
    /// Nanoseconds plus one, so that `Option<Timestamp>` needs no more room.
    nanoseconds_1: NonZeroU32,
}

/// A text that is no RFC 3339 moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time with a zone")]
pub struct ParseTimestampError;

impl Timestamp {
    fn new(seconds: i64, nanoseconds: u32) -> Self {
        Self {
            seconds_high: (seconds >> 32) as i32,
            seconds_low: seconds as u32,
            nanoseconds_1: NonZeroU32::MIN.saturating_add(nanoseconds),
        }
    }

    fn seconds(self) -> i64 {
        i64::from(self.seconds_high) << 32 | i64::from(self.seconds_low)
    }

    fn nanoseconds(self) -> u32 {
        self.nanoseconds_1.get() - 1
    }

    /// Seconds since 1970 and nanoseconds.
    pub(crate) fn parts(self) -> (i64, u32) {
        (self.seconds(), self.nanoseconds())
    }

    /// The moment of these parts; more than a second of nanoseconds counts as one less.
    pub(crate) fn from_parts(seconds: i64, nanoseconds: u32) -> Self {
        Self::new(seconds, nanoseconds.min(999_999_999))
    }

    /// The moment as a date and time in UTC; those beyond year 9999 become its end.
    fn civil(self) -> DateTime {
        let nanoseconds = i32::try_from(self.nanoseconds()).unwrap_or(0);
        let since = SignedDuration::new(self.seconds(), nanoseconds);
        UNIX_EPOCH.checked_add(since).unwrap_or(if self.seconds() < 0 { DateTime::MIN } else { DateTime::MAX })
    }

    fn from_civil(moment: DateTime) -> Self {
        let since = moment.duration_since(UNIX_EPOCH);
        let (mut seconds, mut nanoseconds) = (since.as_secs(), since.subsec_nanos());
        if nanoseconds < 0 {
            seconds -= 1;
            nanoseconds += 1_000_000_000;
        }
        Self::new(seconds, nanoseconds.unsigned_abs())
    }

    /// The moment this many milliseconds after 1970; those beyond year 9999 become its end.
    pub fn from_millis(ms: i64) -> Self {
        let millis = u32::try_from(ms.rem_euclid(1000)).unwrap_or(0);
        let moment = Self::new(ms.div_euclid(1000), millis * 1_000_000);
        if FOUR_DIGIT_YEARS.contains(&moment.seconds()) { moment } else { Self::from_civil(moment.civil()) }
    }

    /// Milliseconds since 1970, rounded down.
    pub fn millis(self) -> i64 {
        self.seconds().saturating_mul(1000).saturating_add(i64::from(self.nanoseconds() / 1_000_000))
    }

    /// Appends the moment's text.
    pub(crate) fn append_to(self, out: &mut Vec<u8>) {
        match Text::of(self) {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => out.extend_from_slice(self.to_string().as_bytes()),
        }
    }

    /// Parses RFC 3339 with `Z` or an offset; none for Go's zero time.
    pub fn parse(text: &str) -> Result<Option<Self>, ParseTimestampError> {
        let moment = match Self::plain(text) {
            Some(moment) => moment,
            None => Self::any(text)?,
        };
        Ok(Some(moment).filter(|moment| moment.seconds() != GO_ZERO_SECONDS))
    }

    /// A moment as Inventory writes it, in UTC; whatever else it may be, [`Self::any`] decides.
    fn plain(text: &str) -> Option<Self> {
        let (second, fraction) = text.as_bytes().strip_suffix(b"Z")?.split_at_checked(b"0000-00-00T00:00:00".len())?;
        let [year, month, day, hour, minute, second] = {
            let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
            if separators.iter().any(|(at, separator)| second[*at] != *separator) {
                return None;
            }
            let [year, month, day] = [number(&second[..4])?, number(&second[5..7])?, number(&second[8..10])?];
            [year, month, day, number(&second[11..13])?, number(&second[14..16])?, number(&second[17..])?]
        };
        let nanoseconds = match fraction.split_first() {
            None => 0,
            Some((b'.', digits)) if (1..=9).contains(&digits.len()) => {
                number(digits)? * 10_u32.pow(9 - digits.len() as u32)
            }
            Some(_) => return None,
        };
        let is_there = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
        if !is_there || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let of_day = hour * 3600 + minute * 60 + second;
        Some(Self::new(day_number(year, month, day) * DAY_SECONDS + i64::from(of_day), nanoseconds))
    }

    fn any(text: &str) -> Result<Self, ParseTimestampError> {
        let (moment, offset_seconds) = split_zone(text).ok_or(ParseTimestampError)?;
        let moment: DateTime = moment.parse().map_err(|_| ParseTimestampError)?;
        let moment = moment.checked_sub(SignedDuration::from_secs(offset_seconds)).map_err(|_| ParseTimestampError)?;
        Ok(Self::from_civil(moment))
    }
}

/// The number that up to nine digits are.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0')))
}

/// How many days a month has.
fn days_of(year: u32, month: u32) -> u32 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => 28 + u32::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A text of the exact form of RFC 3339 without its zone, and the zone's offset in seconds. The library would read many
/// other forms.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (moment, offset_seconds) = match text.strip_suffix(['Z', 'z']) {
        Some(moment) => (moment, 0),
        None => {
            let (moment, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
            let (hours, minutes) = (zone.get(1..3)?, zone.get(4..6)?);
            let sign = [("+", 1), ("-", -1)].iter().find(|(sign, _)| zone.starts_with(sign))?.1;
            if !digits(hours) || !digits(minutes) || zone.get(3..4) != Some(":") {
                return None;
            }
            let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
            (hours < 24 && minutes < 60).then_some((moment, sign * (hours * 3600 + minutes * 60)))?
        }
    };
    let (second, fraction) =
        moment.split_once('.').map_or((moment, None), |(second, fraction)| (second, Some(fraction)));
    let form = second.bytes().zip(*b"0000-00-00T00:00:00").all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        form => byte == form,
    });
    let fraction_fits = fraction.is_none_or(|fraction| digits(fraction) && fraction.len() <= 9);
    (form && second.len() == 19 && fraction_fits).then_some((moment, offset_seconds))
}

/// The text of a moment in a year of four digits, on the stack.
struct Text {
    bytes: [u8; b"0000-00-00T00:00:00.000000000Z".len()],
    length: usize,
}

impl Text {
    /// None for other years.
    fn of(moment: Timestamp) -> Option<Self> {
        let seconds = Some(moment.seconds()).filter(|seconds| FOUR_DIGIT_YEARS.contains(seconds))?;
        let (year, month, day) = date(seconds.div_euclid(DAY_SECONDS));
        let second = seconds.rem_euclid(DAY_SECONDS) as u32;
        let mut bytes = *b"0000-00-00T00:00:00.000000000Z";
        write_digits(&mut bytes[..4], year);
        write_digits(&mut bytes[5..7], month);
        write_digits(&mut bytes[8..10], day);
        write_digits(&mut bytes[11..13], second / 3600);
        write_digits(&mut bytes[14..16], second / 60 % 60);
        write_digits(&mut bytes[17..19], second % 60);
        let mut end = 19;
        if moment.nanoseconds() != 0 {
            write_digits(&mut bytes[20..29], moment.nanoseconds());
            end = 29;
            while bytes[end - 1] == b'0' {
                end -= 1;
            }
        }
        bytes[end] = b'Z';
        Some(Self { bytes, length: end + 1 })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Fills `digits` with the last decimal digits of `number`.
fn write_digits(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The day of the years 0 to 9999, counted from 1970, that has this date; the reverse of [`date`].
fn day_number(year: u32, month: u32, day: u32) -> i64 {
    let (month, turn) = if month > 2 { (month - 3, 0) } else { (month + 9, 1) };
    let year = year + 400 - turn;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    i64::from(days) - MARCH_TO_1970_DAYS
}

/// Year, month and day of a day of the years 0 to 9999, counted from 1970.
fn date(days: i64) -> (u32, u32, u32) {
    let days = u32::try_from(days + MARCH_TO_1970_DAYS).expect("the years 0 to 9999 come after the first March");
    let (cycle, day) = (days / CYCLE_DAYS, days % CYCLE_DAYS);
    // Without the leap days every year has 365: one in four years, not in 100, but in 400.
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, five months have 153 days, again and again.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, turn) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + turn - 400, month, day)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Text::of(*self) {
            Some(text) => f.write_str(str::from_utf8(text.as_bytes()).expect("digits and signs are ASCII")),
            None => write!(f, "{}Z", self.civil()),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

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
    fn what_is_read_plainly_is_what_the_library_reads() {
        let mut random = StdRng::seed_from_u64(1);
        let mut plain = 0;
        for _ in 0..200_000 {
            let seconds = random.random_range(FOUR_DIGIT_YEARS);
            let unit = 10_u32.pow(random.random_range(0..10));
            let nanoseconds = random.random_range(0..1_000_000_000) / unit * unit;
            let mut text = Timestamp::from_parts(seconds, nanoseconds).to_string();
            if random.random_bool(0.5) {
                let at = random.random_range(0..text.len());
                let other = ["0", "1", "2", "3", "6", "9", "", ".", "-", ":", "T", "t", "Z", " ", "+01:00"];
                text.replace_range(at..=at, other[random.random_range(0..other.len())]);
            }
            if let Some(moment) = Timestamp::plain(&text) {
                plain += 1;
                assert_eq!(Timestamp::any(&text), Ok(moment), "{text}");
            }
        }
        assert!(plain > 100_000, "{plain} were plain");
    }

    #[test]
    fn zero_is_absent_and_nonsense_is_an_error() {
        assert_eq!(Timestamp::parse("0001-01-01T00:00:00Z"), Ok(None));
        for bad in [
            "",
            "Z",
            "ü",
            "yesterday",
            "2026-11-23",
            "2026-11-23T06:47:23",
            "10000-01-01T00:00:00Z",
            "9999-12-31T23:59:59-00:01",
            "2026-13-01T00:00:00Z",
            "2026-11-23T06:47:23+25:00",
            "2026-11-23T06:47:23+0100",
            "20261123T064723Z",
            "2026-11-23T06:47Z",
            "2026-11-23T06:47:23,5Z",
            "2026-11-23T06:47:23.Z",
            "2026-11-23T06:47:23Z[Europe/Berlin]",
            "-000001-01-01T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(bad), Err(ParseTimestampError), "{bad}");
        }
        for far in ["9999-12-31T23:59:59.999999999Z", "0000-01-01T00:00:00Z"] {
            assert_eq!(Timestamp::parse(far).expect("valid").expect("not zero").to_string(), far);
        }
        assert!(Timestamp::from_millis(i64::MAX).millis() > 0);
    }

    /// What the library prints and keeps.
    fn check(moment: Timestamp) {
        let expected = format!("{}Z", moment.civil());
        assert_eq!(moment.to_string(), expected);
        let mut appended = b"at ".to_vec();
        moment.append_to(&mut appended);
        assert_eq!(appended, format!("at {expected}").into_bytes());
        let millis = Timestamp::new(moment.seconds(), moment.nanoseconds() / 1_000_000 * 1_000_000);
        assert_eq!(Timestamp::from_millis(moment.millis()), Timestamp::from_civil(millis.civil()));
    }

    #[test]
    fn every_day_is_printed_as_the_library_prints_it() {
        for day in FOUR_DIGIT_YEARS.start() / DAY_SECONDS - 800..=FOUR_DIGIT_YEARS.end() / DAY_SECONDS {
            let moment = Timestamp::new(day * DAY_SECONDS, 0);
            assert_eq!(moment.to_string(), format!("{}Z", moment.civil()));
        }
    }

    #[test]
    fn random_moments_and_the_edges_are_printed_as_the_library_prints_them() {
        let mut random = StdRng::seed_from_u64(1);
        let (first, last) = (*FOUR_DIGIT_YEARS.start(), *FOUR_DIGIT_YEARS.end());
        for _ in 0..100_000 {
            // Fractions of any number of digits.
            let nanoseconds = random.random_range(0..1_000_000_000) / 10_u32.pow(random.random_range(0..10));
            let shift = 10_u32.pow(random.random_range(0..10));
            let nanoseconds = (u64::from(nanoseconds) * u64::from(shift) % 1_000_000_000) as u32;
            check(Timestamp::new(random.random_range(first..=last), nanoseconds));
        }
        for seconds in [first - 1, first, first + 1, GO_ZERO_SECONDS, -1, 0, 1, last - 1, last] {
            for nanoseconds in [0, 1, 10, 100_000_000, 999_000_000, 999_999_999] {
                check(Timestamp::new(seconds, nanoseconds));
            }
        }
        for ms in [i64::MIN, i64::MIN + 1, last * 1000 + 999, last * 1000 + 1000, i64::MAX - 1, i64::MAX] {
            check(Timestamp::from_millis(ms));
        }
    }
}
