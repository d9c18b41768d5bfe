//! `+`, `-` and `*` of whole numbers and decimals as functions that fail where the result has no room, as sums do.
//!
//! DataFusion's operators go round to the other end of the type, and make decimals of more digits than they can have. No query
//! can call these functions; a rule of planning puts them where the operators stand, and explanations show the operators.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, AsArray, Datum};
use datafusion::arrow::compute::kernels::numeric::{add, mul, sub};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Field, FieldRef};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

/// The functions, each with its operator.
static FUNCTIONS: LazyLock<[(Operator, Arc<ScalarUDF>); 3]> = LazyLock::new(|| {
    [Operator::Plus, Operator::Minus, Operator::Multiply].map(|operator| {
        let signature = Signature::any(2, Volatility::Immutable);
        (operator, Arc::new(ScalarUDF::from(Arithmetic { name: operator.to_string(), operator, signature })))
    })
});

/// The function that takes the place of an operator, if there is one.
pub(in crate::sql) fn function(operator: Operator) -> Option<Arc<ScalarUDF>> {
    FUNCTIONS.iter().find(|(known, _)| *known == operator).map(|(_, function)| Arc::clone(function))
}

/// The operator whose place a function of this name took.
pub(in crate::sql) fn operator(name: &str) -> Option<Operator> {
    FUNCTIONS.iter().find(|(_, function)| function.name() == name).map(|(operator, _)| *operator)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Arithmetic {
    name: String,
    operator: Operator,
    signature: Signature,
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        &self.name
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let names: Vec<String> = arguments.iter().map(|argument| argument.schema_name().to_string()).collect();
        Ok(names.join(&format!(" {} ", self.operator)))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        BinaryTypeCoercer::new(&arguments[0], &self.operator, &arguments[1]).get_result_type()
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let kinds: Vec<DataType> = arguments.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let is_nullable = arguments.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(&self.name, self.return_type(&kinds)?, is_nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = &arguments.args[..] else { return exec_err!("an operator has two sides") };
        let compute: fn(&dyn Datum, &dyn Datum) -> std::result::Result<ArrayRef, ArrowError> = match self.operator {
            Operator::Plus => add,
            Operator::Minus => sub,
            _ => mul,
        };
        let made = apply(left, right, compute)?;
        check_digits(&made)?;
        Ok(made)
    }
}

/// Fails where a decimal has more digits than its type has.
fn check_digits(made: &ColumnarValue) -> Result<()> {
    let column = match made {
        ColumnarValue::Array(column) => Arc::clone(column),
        ColumnarValue::Scalar(value) => value.to_array()?,
    };
    match column.data_type() {
        DataType::Decimal128(digits, _) => {
            Ok(column.as_primitive::<Decimal128Type>().validate_decimal_precision(*digits)?)
        }
        DataType::Decimal256(digits, _) => {
            Ok(column.as_primitive::<Decimal256Type>().validate_decimal_precision(*digits)?)
        }
        _ => Ok(()),
    }
}
