//! `first_epoch(x)`: the first epoch at which the passing time, after some steps, has reached a value. No query can call
//! it; lowering makes the bounds of comparisons with `now()` of it.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array};
use datafusion::arrow::datatypes::{DataType, Date32Type, TimeUnit, TimestampNanosecondType};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::super::passing::Passing;

const NANOSECONDS_A_DAY: i128 = 24 * 3_600 * 1_000_000_000;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::sql) struct FirstEpoch {
    /// Says all that it depends on, so that two of the same name are the same.
    name: String,
    signature: Signature,
    passing: Passing,
    shift: i128,
    unreached: Option<i64>,
}

impl FirstEpoch {
    /// When `passing` is at least the value and `shift` nanoseconds; `unreached` where it never is.
    pub(in crate::sql) fn new(passing: Passing, shift: i128, unreached: Option<i64>) -> Self {
        let ever = if unreached.is_some() { "" } else { "_if_any" };
        let after = if shift == 0 { String::new() } else { format!(" - {shift} ns") };
        let name = format!("first_epoch{ever} of {passing}{after} at");
        Self { name, signature: Signature::any(1, Volatility::Immutable), passing, shift, unreached }
    }

    /// Whether it takes values of this type.
    pub(in crate::sql) fn takes(kind: &DataType) -> bool {
        matches!(kind, DataType::Date32 | DataType::Timestamp(TimeUnit::Nanosecond, _))
    }

    fn first(&self, time: i128) -> Option<i64> {
        self.passing.first_epoch(time + self.shift).or(self.unreached)
    }
}

impl ScalarUDFImpl for FirstEpoch {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = arguments.args[0].to_array(arguments.number_rows)?;
        let epochs: Int64Array = match values.data_type() {
            DataType::Date32 => {
                let dates = values.as_primitive::<Date32Type>().iter();
                dates.map(|date| self.first(i128::from(date?) * NANOSECONDS_A_DAY)).collect()
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                let times = values.as_primitive::<TimestampNanosecondType>().iter();
                times.map(|time| self.first(i128::from(time?))).collect()
            }
            other => return exec_err!("{other} is no time"),
        };
        Ok(ColumnarValue::Array(Arc::new(epochs) as ArrayRef))
    }
}
