//! What comes of the passing time by steps that keep its order: `now() - INTERVAL '7 days'`, `date_trunc('month', now())`,
//! `CAST(now() AS DATE)`; and the first epoch at which it reaches a value.
//!
//! Each step is a function that never falls as time passes, so their composition never does, and a comparison of it with a
//! value turns true or false once. When it does is found by searching the epochs, since months are of different lengths;
//! by arithmetic where there are only steps of a fixed length. All is in UTC.

use std::fmt;

const DAY: i128 = 24 * 3_600 * SECOND;
const SECOND: i128 = 1_000_000_000;
const MILLISECOND: i128 = 1_000_000;

/// The last epoch that a timestamp can hold, in the year 2262.
const LAST_EPOCH: i64 = i64::MAX / 1_000_000;

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Later, or earlier where negative: by months, then days, then nanoseconds.
    Shift { months: i32, days: i32, nanoseconds: i64 },
    /// The beginning of the unit.
    Truncate(Unit),
}

/// A unit of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

/// The passing time, after some steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Passing(pub(super) Vec<Step>);

impl Unit {
    /// What `date_trunc` calls it.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_lowercase().as_str() {
            "microsecond" => Self::Microsecond,
            "millisecond" => Self::Millisecond,
            "second" => Self::Second,
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "quarter" => Self::Quarter,
            "year" => Self::Year,
            _ => return None,
        })
    }
}

impl Step {
    /// Of a time in nanoseconds since 1970.
    fn of(self, time: i128) -> i128 {
        match self {
            Self::Shift { months, days, nanoseconds } => {
                let shifted = if months == 0 { time } else { add_months(time, i64::from(months)) };
                shifted + i128::from(days) * DAY + i128::from(nanoseconds)
            }
            Self::Truncate(unit) => truncate(unit, time),
        }
    }

    /// By how many nanoseconds it shifts every time; none where that depends on the time.
    fn length(self) -> Option<i128> {
        match self {
            Self::Shift { months: 0, days, nanoseconds } => Some(i128::from(days) * DAY + i128::from(nanoseconds)),
            Self::Shift { .. } | Self::Truncate(_) => None,
        }
    }
}

impl Passing {
    /// In nanoseconds since 1970, at an epoch.
    pub(super) fn at(&self, epoch_ms: i64) -> i128 {
        self.0.iter().fold(i128::from(epoch_ms) * MILLISECOND, |time, step| step.of(time))
    }

    /// The first epoch at which it is a time or later; none within what timestamps can hold.
    pub(super) fn first_epoch(&self, time: i128) -> Option<i64> {
        let fixed = self.0.iter().map(|step| step.length()).sum::<Option<i128>>();
        let epoch = match fixed {
            Some(length) => i64::try_from(ceiling(time - length, MILLISECOND)).unwrap_or(i64::MAX).max(0),
            None => self.search(time),
        };
        (epoch <= LAST_EPOCH).then_some(epoch)
    }

    fn search(&self, time: i128) -> i64 {
        // It is before the time at all epochs below `before`, and not before it at `reached` and above.
        let (mut before, mut reached) = (0, LAST_EPOCH + 1);
        while before < reached {
            let middle = before + (reached - before) / 2;
            if self.at(middle) < time { before = middle + 1 } else { reached = middle }
        }
        reached
    }
}

fn ceiling(value: i128, unit: i128) -> i128 {
    -(-value).div_euclid(unit)
}

fn truncate(unit: Unit, time: i128) -> i128 {
    let to_multiple = |length: i128| time.div_euclid(length) * length;
    let months = |count: i64| {
        let (year, month, _) = civil(time.div_euclid(DAY) as i64);
        let month = (year * 12 + month - 1).div_euclid(count) * count;
        i128::from(days_since_1970(month.div_euclid(12), month.rem_euclid(12) + 1, 1)) * DAY
    };
    match unit {
        Unit::Microsecond => to_multiple(1_000),
        Unit::Millisecond => to_multiple(MILLISECOND),
        Unit::Second => to_multiple(SECOND),
        Unit::Minute => to_multiple(60 * SECOND),
        Unit::Hour => to_multiple(3_600 * SECOND),
        Unit::Day => to_multiple(DAY),
        // The first Monday of all was the fifth of January 1970.
        Unit::Week => (time - 4 * DAY).div_euclid(7 * DAY) * 7 * DAY + 4 * DAY,
        Unit::Month => months(1),
        Unit::Quarter => months(3),
        Unit::Year => months(12),
    }
}

/// The same day so many months later, or the last day of that month if it is shorter.
fn add_months(time: i128, count: i64) -> i128 {
    let (year, month, day) = civil(time.div_euclid(DAY) as i64);
    let month = year * 12 + month - 1 + count;
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
    let next = days_since_1970(if month == 12 { year + 1 } else { year }, month % 12 + 1, 1);
    let length = next - days_since_1970(year, month, 1);
    i128::from(days_since_1970(year, month, day.min(length))) * DAY + time.rem_euclid(DAY)
}

/// Year, month and day of a day since 1970, in the Gregorian calendar. Years begin in March here, so that a leap day is
/// the last of its year.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, of_year - (153 * from_march + 2) / 5 + 1)
}

/// The day since 1970 of a year, month and day.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

/// As SQL.
impl fmt::Display for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sql = self.0.iter().fold("now()".to_owned(), |words, step| match step {
            Step::Shift { months, days, nanoseconds } => {
                let parts = [
                    (*months != 0).then(|| format!("{months} months")),
                    (*days != 0).then(|| format!("{days} days")),
                    (*nanoseconds != 0).then(|| format!("{} seconds", *nanoseconds as f64 / 1e9)),
                ];
                let parts = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
                format!("{words} + INTERVAL '{parts}'")
            }
            Step::Truncate(unit) => format!("date_trunc('{}', {words})", format!("{unit:?}").to_lowercase()),
        });
        f.write_str(&sql)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray};
    use datafusion::arrow::datatypes::{Field, Schema, TimestampNanosecondType};
    use datafusion::prelude::SessionContext;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use std::sync::Arc;

    use super::*;
    use crate::sql::rules::epoch::time_type;
    use crate::sql::table::TIME_ZONE;

    const UNITS: [Unit; 10] = [
        Unit::Microsecond,
        Unit::Millisecond,
        Unit::Second,
        Unit::Minute,
        Unit::Hour,
        Unit::Day,
        Unit::Week,
        Unit::Month,
        Unit::Quarter,
        Unit::Year,
    ];

    fn random_steps(random: &mut StdRng) -> Vec<Step> {
        let count = random.random_range(0..4);
        let step = |random: &mut StdRng| {
            if random.random_bool(0.5) {
                return Step::Truncate(UNITS[random.random_range(0..UNITS.len())]);
            }
            let nanoseconds = random.random_range(-1_000_000_000_000_i64..1_000_000_000_000);
            Step::Shift {
                months: if random.random_bool(0.5) { random.random_range(-30..30) } else { 0 },
                days: if random.random_bool(0.5) { random.random_range(-400..400) } else { 0 },
                nanoseconds: if random.random_bool(0.5) { nanoseconds } else { 0 },
            }
        };
        (0..count).map(|_| step(random)).collect()
    }

    /// The same steps as DataFusion takes them.
    fn sql(steps: &[Step]) -> String {
        steps.iter().fold("now".to_owned(), |words, step| match step {
            Step::Shift { months, days, nanoseconds } => {
                format!("({words} + INTERVAL '{months} months {days} days {nanoseconds} nanoseconds')")
            }
            Step::Truncate(unit) => format!("date_trunc('{}', {words})", format!("{unit:?}").to_lowercase()),
        })
    }

    fn by_datafusion(steps: &[Step], epochs: &[i64]) -> Vec<i128> {
        let schema = Arc::new(Schema::new(vec![Field::new("now", time_type(), true)]));
        let known = datafusion::common::DFSchema::try_from(Arc::clone(&schema)).expect("one name");
        let times = epochs.iter().map(|epoch| epoch * 1_000_000).collect::<Vec<_>>();
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(times).with_timezone(TIME_ZONE));
        let session = SessionContext::new();
        let text = sql(steps);
        let parsed = session.parse_sql_expr(&text, &known).expect("an expression");
        let expression = session.create_physical_expr(parsed, &known).expect("an expression");
        let batch = RecordBatch::try_new(schema, vec![times]).expect("one column");
        let values = expression.evaluate(&batch).expect(&text).into_array(epochs.len()).expect("values");
        let values = values.as_primitive::<TimestampNanosecondType>();
        (0..epochs.len()).map(|place| i128::from(values.value(place))).collect()
    }

    #[test]
    fn steps_are_those_of_datafusion_and_never_fall() {
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..300 {
            let steps = random_steps(&mut random);
            // A hundred years on both sides of the ends of months and years.
            let mut epochs: Vec<i64> = (0..40)
                .map(|_| {
                    let day = days_since_1970(random.random_range(1990..2090), random.random_range(1..13), 1);
                    day * 86_400_000 + random.random_range(-90_000_000..90_000_000)
                })
                .collect();
            epochs.sort_unstable();
            let passing = Passing(steps.clone());
            let values: Vec<i128> = epochs.iter().map(|epoch| passing.at(*epoch)).collect();
            assert_eq!(values, by_datafusion(&steps, &epochs), "{steps:?} of {epochs:?}");
            assert!(values.is_sorted(), "{steps:?} of {epochs:?}: {values:?}");
        }
    }

    #[test]
    fn the_first_epoch_is_the_first() {
        let mut random = StdRng::seed_from_u64(2);
        for _ in 0..20_000 {
            let passing = Passing(random_steps(&mut random));
            let near = random.random_range(0..4_000_000_000_000_i64);
            let time = passing.at(near) + i128::from(random.random_range(-2_000_000_i64..2_000_000));
            let first = passing.first_epoch(time).expect("this side of 2262");
            assert!(passing.at(first) >= time, "{passing:?} has reached {time} at {first}");
            assert!(first == 0 || passing.at(first - 1) < time, "{passing:?} has not before");
        }
    }

    #[test]
    fn what_is_out_of_reach_is_never_reached() {
        let passing = Passing(Vec::new());
        assert_eq!(passing.first_epoch(i128::from(i64::MAX)), None, "the last fraction of a millisecond");
        assert_eq!(passing.first_epoch(i128::from(i64::MIN)), Some(0));
        let later = Passing(vec![Step::Truncate(Unit::Year)]);
        assert_eq!(later.first_epoch(i128::from(i64::MAX)), None);
        assert_eq!(later.first_epoch(-5), Some(0));
        assert_eq!(later.first_epoch(1), Some(365 * 86_400_000));
    }

    #[test]
    fn days_and_dates_are_each_other() {
        for day in (-1_000_000..1_000_000).step_by(17) {
            let (year, month, date) = civil(day);
            assert_eq!(days_since_1970(year, month, date), day);
        }
        assert_eq!((civil(0), civil(19_782)), ((1970, 1, 1), (2024, 2, 29)));
    }
}
