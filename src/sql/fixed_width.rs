//! The bytes that arrow-row makes of one value of fixed width, made without columns.
//!
//! A group's row is its key and a few numbers; columns of one row each would cost more than all else that a change does.
//! The tests hold it to [`super::Codec`].

use datafusion::common::ScalarValue;

/// Writes a value as a row of the default codec has it: a byte that says whether it is there, then bytes that sort as it
/// does. Panics if its type is not one that counts, sums and averages have.
pub(super) fn write(value: &ScalarValue, row: &mut Vec<u8>) {
    match *value {
        ScalarValue::Boolean(value) => put(row, value.map(|value| [u8::from(value)])),
        ScalarValue::UInt64(value) => put(row, value.map(u64::to_be_bytes)),
        ScalarValue::Int64(value)
        | ScalarValue::DurationSecond(value)
        | ScalarValue::DurationMillisecond(value)
        | ScalarValue::DurationMicrosecond(value)
        | ScalarValue::DurationNanosecond(value)
        | ScalarValue::Decimal64(value, _, _) => put_signed(row, value.map(i64::to_be_bytes)),
        // A negative float sorts the other way round from its bits.
        ScalarValue::Float64(value) => put_signed(
            row,
            value.map(|value| {
                let bits = value.to_bits() as i64;
                (bits ^ ((bits >> 63) as u64 >> 1) as i64).to_be_bytes()
            }),
        ),
        ScalarValue::Decimal32(value, _, _) => put_signed(row, value.map(i32::to_be_bytes)),
        ScalarValue::Decimal128(value, _, _) => put_signed(row, value.map(i128::to_be_bytes)),
        ScalarValue::Decimal256(value, _, _) => put_signed(row, value.map(|value| value.to_be_bytes())),
        ref other => unreachable!("{other:?} is neither a count nor a sum"),
    }
}

fn put_signed<const N: usize>(row: &mut Vec<u8>, value: Option<[u8; N]>) {
    put(
        row,
        value.map(|mut bytes| {
            // Negative numbers first.
            bytes[0] ^= 0x80;
            bytes
        }),
    );
}

fn put<const N: usize>(row: &mut Vec<u8>, value: Option<[u8; N]>) {
    row.push(u8::from(value.is_some()));
    row.extend_from_slice(&value.unwrap_or([0; N]));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::datatypes::{Field, Schema, i256};

    use super::super::row::Codec;
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_codec() {
        let integers = [Some(i64::MIN), Some(-1), Some(0), Some(1), Some(258), Some(i64::MAX), None];
        let floats = [0.0, -0.0, 1.5, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324, -f64::MAX].map(Some);
        let mut values: Vec<ScalarValue> = floats.into_iter().chain([None]).map(ScalarValue::Float64).collect();
        values.extend([Some(true), Some(false), None].map(ScalarValue::Boolean));
        values.extend([Some(0), Some(1 << 40), Some(u64::MAX), None].map(ScalarValue::UInt64));
        for value in integers {
            let wide = value.map(|value| i128::from(value) << 50);
            values.extend([
                ScalarValue::Int64(value),
                ScalarValue::DurationSecond(value),
                ScalarValue::DurationMillisecond(value),
                ScalarValue::DurationMicrosecond(value),
                ScalarValue::DurationNanosecond(value),
                ScalarValue::Decimal32(value.map(|value| value as i32), 9, 2),
                ScalarValue::Decimal64(value, 18, 2),
                ScalarValue::Decimal128(wide, 38, 2),
                ScalarValue::Decimal256(wide.map(|wide| i256::from_i128(wide) << 70), 76, 2),
            ]);
        }
        for value in values {
            let column = value.to_array().expect("one value");
            let schema = Schema::new(vec![Field::new("value", column.data_type().clone(), true)]);
            let expected = Codec::new(Arc::new(schema)).encode(&[column], 1);
            let mut bytes = Vec::new();
            write(&value, &mut bytes);
            assert_eq!(bytes, expected[0].bytes(), "{value:?}");
        }
    }
}
