//! JSON as Arrow's own writer has it, but for floats that are no JSON numbers: they are the texts `NaN`, `Infinity` and
//! `-Infinity`, as PostgreSQL writes them, where Arrow says null.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::writer::{NullableEncoder, make_encoder};
use datafusion::arrow::json::{Encoder, EncoderFactory, EncoderOptions, WriterBuilder};

/// What builds our writers of JSON.
pub(in crate::sql) fn writer() -> WriterBuilder {
    WriterBuilder::new().with_encoder_factory(Arc::new(Floats))
}

/// The name of a float that is no number, or not finite.
pub(super) fn name_of(value: f64) -> Option<&'static str> {
    match value {
        value if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => None,
    }
}

/// The values of a column of floats, all of which a double can hold; none of another column.
pub(super) fn doubles(column: &dyn Array) -> Option<ArrayRef> {
    let is_float = matches!(column.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64);
    is_float.then(|| cast(column, &DataType::Float64).expect("a float is a double"))
}

/// Of the writer that is asked for numbers.
static PLAIN: LazyLock<EncoderOptions> = LazyLock::new(EncoderOptions::default);

/// Makes encoders of floats with names in them.
#[derive(Debug)]
struct Floats;

impl EncoderFactory for Floats {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let Some(values) = doubles(array) else { return Ok(None) };
        let names: Vec<_> = values.as_primitive::<Float64Type>().values().iter().map(|value| name_of(*value)).collect();
        if names.iter().all(Option::is_none) {
            return Ok(None);
        }
        let numbers = make_encoder(field, array, &PLAIN)?;
        Ok(Some(NullableEncoder::new(Box::new(NamedFloats { names, numbers }), array.nulls().cloned())))
    }
}

struct NamedFloats<'a> {
    names: Vec<Option<&'static str>>,
    numbers: NullableEncoder<'a>,
}

impl Encoder for NamedFloats<'_> {
    fn encode(&mut self, place: usize, out: &mut Vec<u8>) {
        match self.names[place] {
            None => self.numbers.encode(place, out),
            Some(name) => {
                out.push(b'"');
                out.extend_from_slice(name.as_bytes());
                out.push(b'"');
            }
        }
    }
}
