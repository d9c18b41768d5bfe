//! Numbers that are added up, and what comes of them: `sum` and `avg`, of the types that DataFusion gives them.
//!
//! One implementation for maintained views and for ad-hoc queries, so that they agree to the last bit. Sums are exact
//! ([`ExactSum`]), so a result is right whatever was added and taken away before, or it is told to be too large for its
//! type; nothing ever wraps. Which rows count (nulls, filters, `DISTINCT`) is the caller's matter.

use std::num::NonZeroU64;

use datafusion::arrow::array::{Array, AsArray, BooleanArray};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float64Type,
    Int64Type, TimeUnit, UInt64Type, i256,
};
use datafusion::common::ScalarValue;
use serde::{Deserialize, Serialize};

use super::exact_sum::ExactSum;

/// A column of numbers.
pub(super) enum Numbers<'a> {
    /// One for each that is true.
    Truths(&'a BooleanArray),
    /// Whole numbers, or decimals and durations by their units.
    Small(&'a [i32]),
    Signed(&'a [i64]),
    Unsigned(&'a [u64]),
    Wide(&'a [i128]),
    Widest(&'a [i256]),
    Floats(&'a [f64]),
}

/// How many values, and their sum. Equal ones are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) count: i64,
    pub(super) sum: ExactSum,
}

/// A result that its type has no room for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value} is beyond {kind}")]
pub(super) struct TooLarge {
    what: &'static str,
    value: String,
    kind: DataType,
}

impl<'a> Numbers<'a> {
    /// Whether `sum` and `avg` are made here of values of this type. DataFusion casts other numbers to one of them first.
    pub(super) fn are(kind: &DataType) -> bool {
        use DataType::{Decimal32, Decimal64, Decimal128, Decimal256, Duration, Float64, Int64, UInt64};
        matches!(
            kind,
            Int64 | UInt64 | Float64 | Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) | Duration(_)
        )
    }

    /// The numbers of a column; what stands where it is null means nothing.
    pub(super) fn of(column: &'a dyn Array) -> Self {
        fn values<T: ArrowPrimitiveType>(column: &dyn Array) -> &[T::Native] {
            column.as_primitive::<T>().values()
        }
        match column.data_type() {
            DataType::Boolean => Self::Truths(column.as_boolean()),
            DataType::Int64 => Self::Signed(values::<Int64Type>(column)),
            DataType::UInt64 => Self::Unsigned(values::<UInt64Type>(column)),
            DataType::Float64 => Self::Floats(values::<Float64Type>(column)),
            DataType::Decimal32(..) => Self::Small(values::<Decimal32Type>(column)),
            DataType::Decimal64(..) => Self::Signed(values::<Decimal64Type>(column)),
            DataType::Decimal128(..) => Self::Wide(values::<Decimal128Type>(column)),
            DataType::Decimal256(..) => Self::Widest(values::<Decimal256Type>(column)),
            DataType::Duration(TimeUnit::Second) => Self::Signed(values::<DurationSecondType>(column)),
            DataType::Duration(TimeUnit::Millisecond) => Self::Signed(values::<DurationMillisecondType>(column)),
            DataType::Duration(TimeUnit::Microsecond) => Self::Signed(values::<DurationMicrosecondType>(column)),
            DataType::Duration(TimeUnit::Nanosecond) => Self::Signed(values::<DurationNanosecondType>(column)),
            other => unreachable!("{other} is not a type of numbers that are added up"),
        }
    }
}

impl Tally {
    /// Of no value.
    pub(super) const ZERO: Self = Self { count: 0, sum: ExactSum::ZERO };

    /// Whether it adds nothing.
    pub(super) fn is_zero(&self) -> bool {
        self.count == 0 && self.sum.is_zero()
    }

    /// Counts a number and adds it.
    pub(super) fn add(&mut self, numbers: &Numbers<'_>, place: usize) {
        self.count += 1;
        match numbers {
            Numbers::Truths(values) => self.sum.add_small_integer(i64::from(values.value(place))),
            Numbers::Small(values) => self.sum.add_small_integer(i64::from(values[place])),
            Numbers::Signed(values) => self.sum.add_small_integer(values[place]),
            Numbers::Unsigned(values) => self.sum.add_integer(i256::from_i128(i128::from(values[place]))),
            Numbers::Wide(values) => self.sum.add_integer(i256::from_i128(values[place])),
            Numbers::Widest(values) => self.sum.add_integer(values[place]),
            Numbers::Floats(values) => self.sum.add_float(values[place]),
        }
    }

    /// Adds another tally so many times, or takes it away.
    pub(super) fn add_times(&mut self, other: &Self, count: i64) {
        self.count += other.count * count;
        self.sum.add_times(&other.sum, count);
    }

    /// `sum`: null if there is no value.
    pub(super) fn sum(&self, output: &DataType) -> Result<ScalarValue, TooLarge> {
        if self.count <= 0 {
            return Ok(null(output));
        }
        let once = NonZeroU64::MIN;
        match output {
            DataType::Float64 => Ok(ScalarValue::Float64(Some(self.sum.float(once)))),
            _ => integer("the sum", self.sum.integer(once), output),
        }
    }

    /// `avg` of values of the type `input`: null if there is none. Floats are rounded once; decimals and durations lose
    /// what is below their scale, as DataFusion has it.
    pub(super) fn average(&self, input: &DataType, output: &DataType) -> Result<ScalarValue, TooLarge> {
        let Some(count) = u64::try_from(self.count).ok().and_then(NonZeroU64::new) else {
            return Ok(null(output));
        };
        if *output == DataType::Float64 {
            return Ok(ScalarValue::Float64(Some(self.sum.float(count))));
        }
        let digits = scale(output) - scale(input);
        let mut scaled = ExactSum::ZERO;
        scaled.add_times(&self.sum, 10_i64.pow(digits.try_into().expect("an average has no fewer digits")));
        integer("the average", scaled.integer(count), output)
    }

    /// Whether there are values, and all of them are true.
    pub(super) fn all(&self) -> ScalarValue {
        let truths = self.sum.integer(NonZeroU64::MIN);
        ScalarValue::Boolean((self.count > 0).then(|| truths == Some(i256::from(self.count))))
    }

    /// Whether there are values, and any of them is true.
    pub(super) fn any(&self) -> ScalarValue {
        ScalarValue::Boolean((self.count > 0).then(|| !self.sum.is_zero()))
    }
}

fn null(kind: &DataType) -> ScalarValue {
    ScalarValue::try_from(kind).expect("a type of numbers")
}

fn scale(kind: &DataType) -> i8 {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256};
    match kind {
        Decimal32(_, scale) | Decimal64(_, scale) | Decimal128(_, scale) | Decimal256(_, scale) => *scale,
        _ => 0,
    }
}

/// A number as a value of a type; none is one of more than 256 bits.
fn integer(what: &'static str, number: Option<i256>, kind: &DataType) -> Result<ScalarValue, TooLarge> {
    let narrow = number.and_then(i256::to_i128);
    let small = narrow.and_then(|number| i64::try_from(number).ok());
    let value = match *kind {
        DataType::Int64 => small.map(|number| ScalarValue::Int64(Some(number))),
        DataType::UInt64 => {
            narrow.and_then(|number| u64::try_from(number).ok()).map(|it| ScalarValue::UInt64(Some(it)))
        }
        DataType::Duration(TimeUnit::Second) => small.map(|number| ScalarValue::DurationSecond(Some(number))),
        DataType::Duration(TimeUnit::Millisecond) => small.map(|number| ScalarValue::DurationMillisecond(Some(number))),
        DataType::Duration(TimeUnit::Microsecond) => small.map(|number| ScalarValue::DurationMicrosecond(Some(number))),
        DataType::Duration(TimeUnit::Nanosecond) => small.map(|number| ScalarValue::DurationNanosecond(Some(number))),
        DataType::Decimal32(precision, scale) => small
            .and_then(|number| i32::try_from(number).ok())
            .filter(|number| Decimal32Type::is_valid_decimal_precision(*number, precision))
            .map(|number| ScalarValue::Decimal32(Some(number), precision, scale)),
        DataType::Decimal64(precision, scale) => small
            .filter(|number| Decimal64Type::is_valid_decimal_precision(*number, precision))
            .map(|number| ScalarValue::Decimal64(Some(number), precision, scale)),
        DataType::Decimal128(precision, scale) => narrow
            .filter(|number| Decimal128Type::is_valid_decimal_precision(*number, precision))
            .map(|number| ScalarValue::Decimal128(Some(number), precision, scale)),
        DataType::Decimal256(precision, scale) => number
            .filter(|number| Decimal256Type::is_valid_decimal_precision(*number, precision))
            .map(|number| ScalarValue::Decimal256(Some(number), precision, scale)),
        ref other => unreachable!("{other} is not a type of sums"),
    };
    value.ok_or_else(|| {
        let scale = scale(kind);
        let value = number.map_or("of more than 256 bits".to_owned(), |number| {
            Decimal256Type::format_decimal(number, Decimal256Type::MAX_PRECISION, scale)
        });
        TooLarge { what, value, kind: kind.clone() }
    })
}
