//! `to_timestamp` and its like: DataFusion's, which promise times in the session's zone and return, of texts, times without.

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// A function that makes times, so that it returns what it promises; none for all others.
pub(in crate::sql) fn as_promised(function: &ScalarUDF, options: &ConfigOptions) -> Option<ScalarUDF> {
    let inner =
        function.inner().with_updated_config(options).filter(|_| function.name().starts_with("to_timestamp"))?;
    Some(ScalarUDF::from(AsPromised { inner }))
}

/// Casts what a function returns to the type that it promised.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AsPromised {
    inner: ScalarUDF,
}

impl ScalarUDFImpl for AsPromised {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arguments)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let promised = arguments.return_field.data_type().clone();
        // Past the wrapper around it, which checks what is mended here.
        self.inner.inner().invoke_with_args(arguments)?.cast_to(&promised, None)
    }
}
