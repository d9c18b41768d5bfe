//! Functions with bounds: a slip in a query costs an error, not the memory of the process or the time of its workers.
//!
//! Promises: no text that a function makes of others has more than a mebibyte, so views over views cannot double texts
//! without end; what such a function makes of a batch at once has 64 MiB at most; and no function takes longer for a row
//! than for some two million steps. A row's outcome is that of evaluating it alone, so a view's batch that is too large as
//! a whole is evaluated again in parts. In an ad-hoc query the texts that are there at once count towards its memory.
//!
//! A regular expression takes a time that grows with the product of the text and of what the pattern becomes when it is
//! made ready, so that product has a bound too ([`patterns`]).
//!
//! Not here: functions whose results are about as long as what they are given.

mod concatenation;
mod counted;
mod given;
pub(in crate::sql) mod patterns;
mod text_aggregate;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

pub(in crate::sql) use concatenation::{Concatenation, NAME as CONCATENATION};
pub(in crate::sql) use counted::Counted;
use given::{Given, texts_of};
pub(in crate::sql) use text_aggregate::text_aggregate;

/// A text that a function makes has no more bytes.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;
/// The texts that it makes at once have no more.
const BATCH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How often a function whose time grows with the product of two lengths may compare two letters for a row.
const STEPS_MAX: u64 = 2 * 1024 * 1024;
/// A format of two letters stands for a whole time: `%+`.
const FORMATTED_BYTES: u64 = 32;
/// `strpos` compares so many letters at once.
const LETTERS_A_STEP: u64 = 32;

/// A function with its bound.
#[derive(Debug, Clone)]
pub(in crate::sql) struct Bounded {
    function: ScalarUDF,
    bound: Bound,
    /// Where the texts that it makes count; nowhere in a view.
    counted: Option<Arc<Counted>>,
}

/// What a function has to keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// How long the text can be that it makes of a row.
    Length(Growth),
    /// How long it can take for a row.
    Time(Work),
    /// The same, of a text in which a pattern is looked for.
    Pattern,
}

/// How long a text can be, by what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// The first, so many times.
    Times,
    /// So many letters, each of four bytes at most.
    Letters,
    /// All one after another.
    Sum,
    /// The same with the first between them.
    Separated,
    /// The second over a part of the first, which may be told to stand on both sides.
    Overlaid,
    /// The third in the place of parts of the first.
    Replaced,
    /// The same, where the third may contain the parts.
    Matched,
    /// The first as digits.
    Encoded,
    /// What the second says of a time.
    Formatted,
}

/// How long a function takes, by what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Each letter of the first may be compared with each of the second.
    Product,
    /// The same, unless the second is a constant.
    ProductOfColumns,
}

impl Bound {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "repeat" => Self::Length(Growth::Times),
            "lpad" | "rpad" => Self::Length(Growth::Letters),
            "concat" | CONCATENATION => Self::Length(Growth::Sum),
            "concat_ws" => Self::Length(Growth::Separated),
            "overlay" => Self::Length(Growth::Overlaid),
            "replace" => Self::Length(Growth::Replaced),
            "regexp_replace" => Self::Length(Growth::Matched),
            "encode" => Self::Length(Growth::Encoded),
            "to_char" => Self::Length(Growth::Formatted),
            "levenshtein" | "btrim" | "ltrim" | "rtrim" => Self::Time(Work::Product),
            "strpos" => Self::Time(Work::ProductOfColumns),
            "regexp_count" | "regexp_instr" | "regexp_like" | "regexp_match" => Self::Pattern,
            _ => return None,
        })
    }
}

impl Growth {
    /// How many bytes the text of a row can have.
    fn bytes(self, given: &Given, row: usize) -> u64 {
        let size = |place| given.size(place, row);
        let sum = |first| (first..given.count()).fold(0_u64, |sum, place| sum.saturating_add(size(place)));
        match self {
            Self::Times => size(0).saturating_mul(size(1)),
            Self::Letters => size(1).saturating_mul(4),
            Self::Sum => sum(0),
            Self::Separated => size(0).saturating_mul(given.count().saturating_sub(2) as u64).saturating_add(sum(1)),
            Self::Overlaid => size(0).saturating_mul(2).saturating_add(size(1)),
            Self::Replaced => (size(0) + 1).saturating_mul(size(2)).saturating_add(size(0)),
            Self::Matched => {
                // Without flags one part is replaced. The parts that a reference stands for do not overlap.
                let parts = if given.count() > 3 { size(0) + 1 } else { 1 };
                let parts = parts.saturating_mul(size(2));
                parts.saturating_add(size(0).saturating_mul(1 + given.references(2, row)))
            }
            Self::Encoded => size(0).saturating_mul(2),
            Self::Formatted => size(1).saturating_mul(FORMATTED_BYTES),
        }
    }
}

impl Work {
    fn steps(self, given: &Given, row: usize) -> u64 {
        if given.count() < 2 {
            return 0;
        }
        let product = given.size(0, row).saturating_mul(given.size(1, row));
        match self {
            Self::Product => product,
            Self::ProductOfColumns if given.is_constant(1) => 0,
            Self::ProductOfColumns => product / LETTERS_A_STEP,
        }
    }
}

impl Bounded {
    /// The function with its bound, if it is one of those that need one.
    pub(in crate::sql) fn of(function: &ScalarUDF, counted: Option<&Arc<Counted>>) -> Option<ScalarUDF> {
        if function.inner().is::<Self>() {
            return None;
        }
        let bound = Bound::of(function.name())?;
        let bounded = Self { function: function.clone(), bound, counted: counted.cloned() };
        Some(ScalarUDF::new_from_impl(bounded))
    }

    /// As it is written.
    fn called(&self) -> String {
        match self.function.name() {
            CONCATENATION => CONCATENATION.to_owned(),
            name => format!("{name}()"),
        }
    }

    fn check_time(&self, work: Work, given: &Given) -> Result<()> {
        let steps = (0..given.rows()).map(|row| work.steps(given, row)).max().unwrap_or(0);
        if steps > STEPS_MAX {
            return exec_err!(
                "{} would compare {steps} pairs of letters; {STEPS_MAX} are allowed, so give it shorter texts",
                self.called()
            );
        }
        Ok(())
    }

    fn make(&self, growth: Growth, arguments: ScalarFunctionArgs, given: &Given) -> Result<ColumnarValue> {
        let bytes: Vec<u64> = (0..given.rows()).map(|row| growth.bytes(given, row)).collect();
        let all = bytes.iter().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        let is_short = bytes.iter().all(|bytes| *bytes <= TEXT_BYTES_MAX) && all <= BATCH_BYTES_MAX;
        if is_short {
            return self.function.invoke_with_args(arguments);
        }
        // Texts may well be shorter than they could be: each is made by itself.
        let (mut made, mut all): (Vec<ArrayRef>, u64) = (Vec::new(), 0);
        for (row, bytes) in bytes.iter().enumerate() {
            if *bytes > BATCH_BYTES_MAX {
                return self.too_long("could", *bytes);
            }
            let text = self.function.invoke_with_args(alone(&arguments, row))?.into_array(1)?;
            let bytes = texts_of(&text)?[0];
            if bytes > TEXT_BYTES_MAX {
                return self.too_long("would", bytes);
            }
            all += bytes;
            if all > BATCH_BYTES_MAX {
                return exec_err!(
                    "{} would make texts of more than {BATCH_BYTES_MAX} bytes of the {} rows that are computed at once",
                    self.called(),
                    given.rows()
                );
            }
            made.push(text);
        }
        let made: Vec<_> = made.iter().map(|text| text.as_ref()).collect();
        let made = concat(&made)?;
        Ok(if given.is_all_constant() {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)
        } else {
            ColumnarValue::Array(made)
        })
    }

    fn too_long<T>(&self, word: &str, bytes: u64) -> Result<T> {
        exec_err!("{} {word} make a text of {bytes} bytes; {TEXT_BYTES_MAX} are allowed", self.called())
    }
}

/// The same with no length of less than nothing, of which these functions would make room for ever.
fn not_negative(mut arguments: ScalarFunctionArgs) -> ScalarFunctionArgs {
    match arguments.args.get_mut(1) {
        Some(ColumnarValue::Scalar(ScalarValue::Int64(Some(length)))) => *length = (*length).max(0),
        Some(ColumnarValue::Array(lengths)) => {
            if let Some(own) = lengths.as_primitive_opt::<Int64Type>() {
                *lengths = Arc::new(own.unary::<_, Int64Type>(|length| length.max(0)));
            }
        }
        _ => {}
    }
    arguments
}

/// What the function is called with for one row.
fn alone(arguments: &ScalarFunctionArgs, row: usize) -> ScalarFunctionArgs {
    let args = arguments.args.iter().map(|argument| match argument {
        ColumnarValue::Array(column) => ColumnarValue::Array(column.slice(row, 1)),
        ColumnarValue::Scalar(value) => ColumnarValue::Scalar(value.clone()),
    });
    ScalarFunctionArgs { args: args.collect(), number_rows: 1, ..arguments.clone() }
}

// Where texts count does not make another function of it.
impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        self.function.inner().schema_name(arguments)
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

    fn is_strict(&self) -> bool {
        self.function.is_strict()
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = Given::of(&arguments)?;
        match self.bound {
            Bound::Time(work) => {
                self.check_time(work, &given)?;
                self.function.invoke_with_args(arguments)
            }
            Bound::Pattern => {
                patterns::check(&self.called(), &given)?;
                self.function.invoke_with_args(arguments)
            }
            Bound::Length(growth) => {
                if growth == Growth::Matched {
                    patterns::check(&self.called(), &given)?;
                }
                let arguments = if growth == Growth::Letters { not_negative(arguments) } else { arguments };
                let made = self.make(growth, arguments, &given)?;
                if let (Some(counted), ColumnarValue::Array(texts)) = (&self.counted, &made) {
                    counted.add(texts)?;
                }
                Ok(made)
            }
        }
    }
}

#[cfg(test)]
mod tests;
