//! `canonical(x)`: a float as it is as a key. No query can call it; the rules of planning put it where keys are made.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::super::canonical::canonical;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::sql) struct Canonical {
    signature: Signature,
}

impl Canonical {
    pub(in crate::sql) fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Canonical {
    fn name(&self) -> &str {
        "canonical"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(match arguments.args.swap_remove(0) {
            ColumnarValue::Array(column) => ColumnarValue::Array(canonical(&column)),
            ColumnarValue::Scalar(value) => {
                let column = canonical(&value.to_array()?);
                ColumnarValue::Scalar(ScalarValue::try_from_array(&column, 0)?)
            }
        })
    }
}
