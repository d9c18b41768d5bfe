//! `opaque(x, y)`: `x`, of which the optimiser sees nothing but its type. No query can call it; rules put it where DataFusion
//! would conclude too much from what is inside.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// What it is called.
pub(in crate::sql) const OPAQUE: &str = "opaque";

static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::from(Opaque::new())));

/// An expression hidden, beside another one that it is to look made of.
pub(in crate::sql) fn opaque(hidden: Expr, beside: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction { func: Arc::clone(&FUNCTION), args: vec![hidden, beside] })
}

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Opaque {
    signature: Signature,
}

impl Opaque {
    fn new() -> Self {
        Self { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Opaque {
    fn name(&self) -> &str {
        OPAQUE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(OPAQUE, arguments.arg_fields[0].data_type().clone(), true)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let first = arguments.args.into_iter().next();
        first.ok_or_else(|| DataFusionError::Internal("opaque() is called with what it hides".to_owned()))
    }
}
