//! Functions that make long texts of short ones, with a bound: a slip in a query costs an error, not the memory of the
//! process.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// A function makes no longer texts, in bytes.
const TEXT_BYTES_MAX: u64 = 64 * 1024;

/// A function of a text and a number, which makes a text as long as the number says.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    function: ScalarUDF,
    /// How long a text is made of one of so many bytes by a number.
    bytes: Growth,
}

/// How a number makes a text longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// So many times.
    Times,
    /// To so many letters.
    Letters,
}

/// The same function with its bound, if it is one of those.
pub(in crate::sql) fn bounded(function: &ScalarUDF) -> Option<ScalarUDF> {
    let bytes = match function.name() {
        "repeat" => Growth::Times,
        "lpad" | "rpad" => Growth::Letters,
        _ => return None,
    };
    Some(ScalarUDF::new_from_impl(Bounded { function: function.clone(), bytes }))
}

impl Bounded {
    /// Whether every text stays within the bound.
    fn check(&self, arguments: &ScalarFunctionArgs) -> Result<()> {
        let [texts, numbers, ..] = &arguments.args[..] else { return Ok(()) };
        let texts = cast(&texts.to_array(arguments.number_rows)?, &DataType::Utf8)?;
        let numbers = cast(&numbers.to_array(arguments.number_rows)?, &DataType::Int64)?;
        let pairs = texts.as_string::<i32>().iter().zip(numbers.as_primitive::<Int64Type>().iter());
        let bytes = |(text, number): (Option<&str>, Option<i64>)| {
            let number = number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
            match self.bytes {
                Growth::Times => number.saturating_mul(text.unwrap_or_default().len() as u64),
                Growth::Letters => number,
            }
        };
        if pairs.map(bytes).any(|bytes| bytes > TEXT_BYTES_MAX) {
            return exec_err!("{}() would make a text of more than {TEXT_BYTES_MAX} bytes", self.function.name());
        }
        Ok(())
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.function.return_type(arguments)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.function.return_field_from_args(arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&arguments)?;
        self.function.invoke_with_args(arguments)
    }
}
