//! A value of a column as readers write it: the text by which it is shown, taken as it is or refused.
//!
//! Nothing is rounded: a number or a time with more digits than the column has equals none of its values, and whoever asks
//! for it has another column in mind. Bytes are hex. The two zeros of floats are one value, and so is all that is no number.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, StringArray, new_null_array,
};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Float64Type, TimeUnit};

use super::ReadingError;
use crate::sql::canonical::canonical;
use crate::sql::type_name::type_name;
use crate::sql::view_plan::ViewColumn;

/// A value of a column; none stands for null.
pub(super) fn value(column: &ViewColumn, text: Option<&str>) -> Result<ArrayRef, ReadingError> {
    let Some(text) = text else { return Ok(new_null_array(&column.kind, 1)) };
    if column.kind.is_nested() {
        return Err(ReadingError::Nested { column: column.name.clone() });
    }
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
        DataType::Duration(unit) => return duration(*unit, text),
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

/// A length of time as it is shown: `PT86400.5S`, `-PT1S`, `P0D`; seconds alone, without a fraction that the unit has not.
fn duration(unit: TimeUnit, text: &str) -> Option<ArrayRef> {
    let (is_negative, length) = text.strip_prefix('-').map_or((false, text), |length| (true, length));
    let seconds = match length {
        "P0D" => "0",
        length => length.strip_prefix("PT")?.strip_suffix('S')?,
    };
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let digits = fraction.trim_end_matches('0');
    let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(digits) || digits.len() > digits_of(unit) {
        return None;
    }
    let count: i128 = format!("{whole}{digits:0<width$}", width = digits_of(unit)).parse().ok()?;
    let count = i64::try_from(if is_negative { -count } else { count }).ok()?;
    cast(&Int64Array::from(vec![count]), &DataType::Duration(unit)).ok()
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

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{DurationMillisecondArray, RecordBatch};
    use datafusion::arrow::datatypes::{Field, Schema};

    use super::*;
    use crate::sql::Format;

    #[test]
    fn lengths_of_time_are_read_as_they_are_shown() {
        let kind = DataType::Duration(TimeUnit::Millisecond);
        let column = ViewColumn { name: "d".to_owned(), kind: kind.clone(), place: 0 };
        let schema = Arc::new(Schema::new(vec![Field::new("d", kind, true)]));
        for count in [0, 1, -1, 86_400_000, 86_400_500, -1_050, 10_i64.pow(15)] {
            let values: ArrayRef = Arc::new(DurationMillisecondArray::from(vec![count]));
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(&values)]).expect("one column");
            let shown = Format::JsonLines.write(&schema, &[batch]).expect("written");
            let shown: serde_json::Value = serde_json::from_slice(&shown).expect("JSON");
            let text = shown["d"].as_str().expect("a text");
            assert_eq!(&value(&column, Some(text)).expect(text), &values, "{text}");
        }
        for text in ["", "PT", "PTS", "PT1.0005S", "86400", "PT1H", "PT99999999999999999999S"] {
            assert!(value(&column, Some(text)).is_err(), "{text}");
        }
    }
}
