//! JSON in SQL: `->` and `->>` on text, as PostgreSQL has them on `json`.
//!
//! | written | means |
//! | --- | --- |
//! | `data -> 'a'`, `json_get(data, 'a')` | the value of a field, as JSON text |
//! | `data -> 0`, `data -> -1` | an element of an array, counted from 0, or from the end |
//! | `data ->> 'a'`, `json_get_text(data, 'a')` | the same as text: a string without quotes, null for JSON's null |
//! | `json_typeof(data)` | `object`, `array`, `string`, `number`, `boolean` or `null` |
//! | `json_array_length(data)` | how many elements an array has; an error for anything else |
//!
//! What is not there is null, and so is the field of what is no object, and the element of what is no array. Values come
//! as they stand in the text: no digit of a number is lost. Of a field that occurs twice the last one counts. A left side
//! that is not JSON is an error of its row.
//!
//! How tightly the operators bind is the parser's to say: in its PostgreSQL dialect tighter than comparisons, so that
//! `data ->> 'a' = 'x'` means what it looks like; in its generic one looser, which [`register`] cannot mend. Then the
//! right side is a comparison, and refused with a hint. So sessions must be of the PostgreSQL dialect.

mod text;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DFSchema, Result, exec_err, plan_err};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::sqlparser::ast::BinaryOperator;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use text::{Member, NotJson};

/// Makes the functions known, and the operators that stand for them.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for function in Function::ALL {
        registry.register_udf(Arc::new(udf(function)))?;
    }
    registry.register_expr_planner(Arc::new(Operators))
}

/// What a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Function {
    /// `->`
    Get,
    /// `->>`
    GetText,
    TypeOf,
    ArrayLength,
}

impl Function {
    const ALL: [Self; 4] = [Self::Get, Self::GetText, Self::TypeOf, Self::ArrayLength];

    fn name(self) -> &'static str {
        match self {
            Self::Get => "json_get",
            Self::GetText => "json_get_text",
            Self::TypeOf => "json_typeof",
            Self::ArrayLength => "json_array_length",
        }
    }

    /// How it is written, for errors.
    fn written(self) -> &'static str {
        match self {
            Self::Get => "->",
            Self::GetText => "->>",
            other => other.name(),
        }
    }

    fn arguments(self) -> usize {
        match self {
            Self::Get | Self::GetText => 2,
            Self::TypeOf | Self::ArrayLength => 1,
        }
    }
}

/// A function as DataFusion calls it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonFunction {
    function: Function,
    signature: Signature,
}

fn udf(function: Function) -> ScalarUDF {
    ScalarUDF::new_from_impl(JsonFunction { function, signature: Signature::user_defined(Volatility::Immutable) })
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(if self.function == Function::ArrayLength { DataType::Int64 } else { DataType::Utf8 })
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let written = self.function.written();
        if arguments.len() != self.function.arguments() {
            return plan_err!("{written} takes {} arguments, not {}", self.function.arguments(), arguments.len());
        }
        let is_text = |kind: &DataType| kind.is_string() || kind.is_null();
        if !is_text(&arguments[0]) {
            return plan_err!("{written} reads JSON from text, not from {}", arguments[0]);
        }
        let mut coerced = vec![DataType::Utf8];
        match arguments.get(1) {
            None => {}
            Some(key) if is_text(key) => coerced.push(DataType::Utf8),
            Some(index) if index.is_integer() => coerced.push(DataType::Int64),
            Some(other) => {
                return plan_err!(
                    "the right side of {written} is the name of a field or the number of an element, not {other}; \
                     put the {written} with both its sides in parentheses"
                );
            }
        }
        Ok(coerced)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalar = arguments.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let count = if all_scalar { 1 } else { arguments.number_rows };
        let mut given = arguments.args.into_iter();
        let Some(json) = given.next() else { return exec_err!("{} without an argument", self.function.written()) };
        let json = json.into_array(count)?;
        let values = match (self.function, given.next()) {
            (Function::TypeOf, _) => self.texts(&json, |json, _| text::type_of(json).map(|name| Some(name.into()))),
            (Function::ArrayLength, _) => self.lengths(&json),
            (_, None) => exec_err!("{} without a right side", self.function.written()),
            (_, Some(key)) => {
                let key = Key::of(key, count)?;
                let get = |json, place| key.at(place).map_or(Ok(None), |member| text::get(json, member));
                if self.function == Function::Get {
                    self.texts(&json, |json, place| Ok(get(json, place)?.map(Into::into)))
                } else {
                    self.texts(&json, |json, place| get(json, place)?.map_or(Ok(None), text::unquoted))
                }
            }
        }?;
        Ok(if all_scalar { ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?) } else { values.into() })
    }
}

impl JsonFunction {
    /// A text for each that is not null.
    fn texts<'a>(
        &self,
        json: &'a ArrayRef,
        text: impl Fn(&'a str, usize) -> std::result::Result<Option<Cow<'a, str>>, NotJson>,
    ) -> Result<ArrayRef> {
        let json = json.as_string::<i32>();
        let mut texts = StringBuilder::with_capacity(json.len(), 0);
        for (place, json) in json.iter().enumerate() {
            match json.map(|json| text(json, place)) {
                None => texts.append_null(),
                Some(Ok(text)) => texts.append_option(text),
                Some(Err(error)) => return exec_err!("{}: {error}", self.function.written()),
            }
        }
        Ok(Arc::new(texts.finish()))
    }

    fn lengths(&self, json: &ArrayRef) -> Result<ArrayRef> {
        let lengths = json.as_string::<i32>().iter().map(|json| match json.map(text::array_length) {
            None => Ok(None),
            Some(Ok(Some(length))) => Ok(Some(length)),
            Some(Ok(None)) => exec_err!("{}: the JSON is no array", self.function.written()),
            Some(Err(error)) => exec_err!("{}: {error}", self.function.written()),
        });
        Ok(Arc::new(lengths.collect::<Result<Int64Array>>()?))
    }
}

/// The right sides of some rows.
struct Key {
    values: ArrayRef,
    /// Whether there is one for all of them.
    is_one: bool,
}

impl Key {
    fn of(value: ColumnarValue, count: usize) -> Result<Self> {
        let is_one = matches!(value, ColumnarValue::Scalar(_));
        Ok(Self { values: value.into_array(if is_one { 1 } else { count })?, is_one })
    }

    fn at(&self, place: usize) -> Option<Member<'_>> {
        let place = if self.is_one { 0 } else { place };
        self.values.is_valid(place).then(|| match self.values.as_string_opt::<i32>() {
            Some(names) => Member::Field(names.value(place)),
            None => Member::Element(self.values.as_primitive::<Int64Type>().value(place)),
        })
    }
}

/// Plans the operators as calls.
#[derive(Debug)]
struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expression: RawBinaryExpr, _schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        // The parser takes a minus that follows without a space for a part of the operator.
        let (function, is_negative) = match &expression.op {
            BinaryOperator::Arrow => (Function::Get, false),
            BinaryOperator::LongArrow => (Function::GetText, false),
            BinaryOperator::Custom(operator) if operator == "->-" => (Function::Get, true),
            BinaryOperator::Custom(operator) if operator == "->>-" => (Function::GetText, true),
            _ => return Ok(PlannerResult::Original(expression)),
        };
        let RawBinaryExpr { left, right, .. } = expression;
        let right = if is_negative { Expr::Negative(Box::new(right)) } else { right };
        Ok(PlannerResult::Planned(udf(function).call(vec![left, right])))
    }
}
