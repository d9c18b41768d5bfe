//! Floats that SQL holds equal, made the same: the two zeros, and all that is not a number.
//!
//! Rows are compared by their bytes, which tell them apart. What groups, sets and extremes are made of goes through here
//! first; columns that are only carried along keep their bits.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray};
use datafusion::arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};

/// The column with zeros that have no sign, and one value that is not a number.
pub(super) fn canonical(column: &ArrayRef) -> ArrayRef {
    type Half = <Float16Type as ArrowPrimitiveType>::Native;
    match column.data_type() {
        DataType::Float16 => canonical_floats::<Float16Type>(column, Half::NAN),
        DataType::Float32 => canonical_floats::<Float32Type>(column, f32::NAN),
        DataType::Float64 => canonical_floats::<Float64Type>(column, f64::NAN),
        _ => Arc::clone(column),
    }
}

fn canonical_floats<T: ArrowPrimitiveType>(column: &ArrayRef, nan: T::Native) -> ArrayRef {
    let canonical = |value: T::Native| {
        if value.partial_cmp(&value).is_none() {
            nan
        } else if value.is_zero() {
            T::Native::ZERO
        } else {
            value
        }
    };
    let floats = column.as_primitive::<T>();
    // Almost always there is nothing to do.
    if floats.values().iter().all(|value| canonical(*value).is_eq(*value)) {
        return Arc::clone(column);
    }
    Arc::new(floats.unary::<_, T>(canonical))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float32Array, Float64Array, Int64Array};

    use super::*;

    #[test]
    fn zeros_and_what_is_no_number_are_one_each() {
        let values =
            [Some(-0.0), None, Some(-f64::NAN), Some(0.0), Some(f64::from_bits(f64::NAN.to_bits() | 7)), Some(-1.5)];
        let column: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let made = canonical(&column);
        let bits: Vec<_> = made.as_primitive::<Float64Type>().iter().map(|value| value.map(f64::to_bits)).collect();
        let nan = Some(f64::NAN.to_bits());
        assert_eq!(bits, [Some(0), None, nan, Some(0), nan, Some((-1.5_f64).to_bits())]);

        let column: ArrayRef = Arc::new(Float32Array::from(vec![-0.0, 1.0]));
        assert_eq!(canonical(&column).as_primitive::<Float32Type>().value(0).to_bits(), 0);
    }

    #[test]
    fn what_is_canonical_stays_where_it_is() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, f64::NAN, 3.0]));
        let others: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        assert!(Arc::ptr_eq(&canonical(&floats), &floats));
        assert!(Arc::ptr_eq(&canonical(&others), &others));
    }
}
