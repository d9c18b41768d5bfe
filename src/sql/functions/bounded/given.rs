//! What a function is given, as far as the length of what it makes or its time depend on it.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::compute::kernels::length::length;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

/// The sizes of all arguments. A constant has one, whatever the rows.
pub(super) struct Given {
    arguments: Vec<Argument>,
    rows: usize,
}

struct Argument {
    /// Of a text its bytes, of a whole number its value; none where it is null or negative.
    sizes: Vec<u64>,
    is_constant: bool,
    column: ArrayRef,
}

impl Given {
    pub(super) fn of(arguments: &ScalarFunctionArgs) -> Result<Self> {
        let argument = |argument: &ColumnarValue| {
            let (is_constant, column) = match argument {
                ColumnarValue::Array(column) => (false, ArrayRef::clone(column)),
                ColumnarValue::Scalar(value) => (true, value.to_array()?),
            };
            let sizes = if column.data_type().is_integer() { values(&column)? } else { texts_of(&column)? };
            Ok(Argument { sizes, is_constant, column })
        };
        let given = arguments.args.iter().map(argument).collect::<Result<Vec<_>>>()?;
        let rows = if given.iter().all(|argument| argument.is_constant) { 1 } else { arguments.number_rows };
        Ok(Self { arguments: given, rows })
    }

    /// How many arguments there are.
    pub(super) fn count(&self) -> usize {
        self.arguments.len()
    }

    /// How many rows are computed; one where all arguments are constant.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn is_constant(&self, place: usize) -> bool {
        self.arguments[place].is_constant
    }

    pub(super) fn is_all_constant(&self) -> bool {
        self.arguments.iter().all(|argument| argument.is_constant)
    }

    /// The size of an argument of a row; none of one that is not there.
    pub(super) fn size(&self, place: usize, row: usize) -> u64 {
        self.arguments.get(place).map_or(0, |argument| argument.sizes[if argument.is_constant { 0 } else { row }])
    }

    /// The text of an argument of a row; none where there is none.
    pub(super) fn text(&self, place: usize, row: usize) -> Option<String> {
        let Argument { is_constant, column, .. } = self.arguments.get(place)?;
        let column = cast(&column.slice(if *is_constant { 0 } else { row }, 1), &DataType::Utf8).ok()?;
        let text: &StringArray = column.as_string();
        text.is_valid(0).then(|| text.value(0).to_owned())
    }

    /// How many references to what was matched the text of a replacement can have.
    pub(super) fn references(&self, place: usize, row: usize) -> u64 {
        let begins_reference = |letter: &u8| matches!(letter, b'\\' | b'$');
        let text = self.text(place, row).unwrap_or_default();
        text.bytes().filter(begins_reference).count() as u64
    }
}

/// How many bytes each text has; none where there is none, or it is no text.
pub(super) fn texts_of(column: &ArrayRef) -> Result<Vec<u64>> {
    match length(column) {
        Ok(lengths) => values(&lengths),
        Err(_) => Ok(vec![0; column.len()]),
    }
}

fn values(column: &ArrayRef) -> Result<Vec<u64>> {
    let column = cast(column, &DataType::Int64)?;
    let values: &PrimitiveArray<Int64Type> = column.as_primitive();
    Ok(values.iter().map(|value| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0)).collect())
}
