//! A value of a column as readers write it: the text by which it is shown, taken as it is or refused.
//!
//! Nothing is rounded: a number or a time with more digits than the column has equals none of its values, and whoever asks
//! for it has another column in mind. Bytes are hex. The two zeros of floats are one value, and so is all that is no number.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, StringArray, new_null_array};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Float64Type, TimeUnit};

use super::ReadingError;
use crate::sql::canonical::canonical;
use crate::sql::type_name::type_name;
use crate::sql::view_plan::ViewColumn;

/// A value of a column; none stands for null.
pub(super) fn value(column: &ViewColumn, text: Option<&str>) -> Result<ArrayRef, ReadingError> {
    let Some(text) = text else { return Ok(new_null_array(&column.kind, 1)) };
    let value = parsed(&column.kind, text).ok_or_else(|| ReadingError::Value {
        column: column.name.clone(),
        value: text.to_owned(),
        kind: match column.kind {
            ref kind if kind.is_binary() => format!("{}, as hex", type_name(kind)),
            ref kind => type_name(kind),
        },
    })?;
    Ok(canonical(&value))
}

fn parsed(kind: &DataType, text: &str) -> Option<ArrayRef> {
    let written: ArrayRef = match kind {
        _ if kind.is_binary() => Arc::new(BinaryArray::from_vec(vec![&bytes(text)?])),
        _ if !is_exact(kind, text) => return None,
        _ => Arc::new(StringArray::from(vec![text])),
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&written, kind, &options).ok().filter(|value| !value.is_null(0))
}

/// The bytes that pairs of hex digits stand for.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        hex.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Whether nothing of the text would be rounded away.
fn is_exact(kind: &DataType, text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = &fraction[..fraction.find(|character: char| !character.is_ascii_digit()).unwrap_or(fraction.len())];
    let digits = fraction.trim_end_matches('0').len();
    match kind {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => {
            let unsigned = whole.trim_start_matches(['+', '-']).trim_start_matches('0');
            let zeros = unsigned.len() - unsigned.trim_end_matches('0').len();
            let needed = usize::from(scale.unsigned_abs());
            if *scale < 0 { digits == 0 && (unsigned.is_empty() || zeros >= needed) } else { digits <= needed }
        }
        DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) => digits <= digits_of(*unit),
        // A time of day would be dropped.
        DataType::Date32 | DataType::Date64 => !text.contains(':'),
        _ => true,
    }
}

fn digits_of(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// The forms in which rows may hold a value, if these are few: floats that are no number have too many.
pub(super) fn stored_forms(value: &ArrayRef) -> Option<Vec<ArrayRef>> {
    if !value.data_type().is_floating() || value.is_null(0) {
        return Some(vec![Arc::clone(value)]);
    }
    let as_double = |value: &ArrayRef| cast(value, &DataType::Float64).expect("a float is a double");
    match as_double(value).as_primitive::<Float64Type>().value(0) {
        double if double.is_nan() => None,
        0.0 => {
            let zeros: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0]));
            let zeros = cast(&zeros, value.data_type()).expect("all floats have two zeros");
            Some(vec![zeros.slice(0, 1), zeros.slice(1, 1)])
        }
        _ => Some(vec![Arc::clone(value)]),
    }
}
