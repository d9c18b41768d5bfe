//! Columns as text or bytes for those who asked: JSON objects, lines of JSON, CSV, Arrow.
//!
//! JSON says null where nothing is known, times as RFC 3339, 64-bit integers and decimals as numbers with all their digits,
//! bytes as hex, and floats that are no numbers as texts ([`json`]). CSV begins with the names ([`csv`]). Arrow is the
//! streaming format, one batch a message.

mod csv;
pub(super) mod json;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::arrow::json::writer::{JsonArray, LineDelimited};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Objects, separated by commas: what stands in a JSON array.
    Json,
    /// An object a line.
    JsonLines,
    /// Names, then a line a row.
    Csv,
    /// The Arrow streaming format.
    Arrow,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Json, Self::JsonLines, Self::Csv, Self::Arrow];

    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::JsonLines => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// Writes batches of these columns.
    pub fn write(self, schema: &Schema, batches: &[RecordBatch]) -> Result<Vec<u8>, FormatError> {
        let mut with_rows = batches.iter().filter(|batch| batch.num_rows() > 0);
        let builder = json::writer().with_explicit_nulls(true);
        let mut out = Vec::new();
        match self {
            Self::Json => {
                let mut writer = builder.build::<_, JsonArray>(&mut out);
                with_rows.try_for_each(|batch| writer.write(batch))?;
                writer.finish()?;
                drop(writer);
                out.pop();
                out.drain(..out.len().min(1));
            }
            Self::JsonLines => {
                let mut writer = builder.build::<_, LineDelimited>(&mut out);
                with_rows.try_for_each(|batch| writer.write(batch))?;
                writer.finish()?;
            }
            Self::Csv => {
                csv::write_names(&mut out, schema);
                with_rows.try_for_each(|batch| csv::write_rows(&mut out, batch))?;
            }
            Self::Arrow => {
                let mut writer = StreamWriter::try_new(&mut out, schema)?;
                with_rows.try_for_each(|batch| writer.write(batch))?;
                writer.finish()?;
            }
        }
        Ok(out)
    }
}

/// Columns that cannot be written so.
#[derive(Debug, thiserror::Error)]
#[error("rows cannot be written in this format: {0}")]
pub struct FormatError(#[from] datafusion::arrow::error::ArrowError);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        ArrayRef, BinaryArray, Decimal128Array, Float32Array, Float64Array, Int64Array, ListArray, NullArray,
        StringArray,
    };
    use datafusion::arrow::datatypes::Float64Type;

    use super::*;

    fn written(format: Format, columns: Vec<(&str, ArrayRef)>) -> String {
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)));
        let batch = batch.unwrap();
        String::from_utf8(format.write(&batch.schema(), &[batch]).unwrap()).unwrap()
    }

    #[test]
    fn floats_that_are_no_numbers_are_texts() {
        let doubles: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(f64::NEG_INFINITY), None, Some(-0.5), Some(1e300)]));
        let singles: ArrayRef =
            Arc::new(Float32Array::from(vec![Some(1.5), Some(f32::INFINITY), Some(-f32::NAN), None, Some(0.1)]));
        let columns = || vec![("a", Arc::clone(&doubles)), ("b", Arc::clone(&singles))];
        let lines = [
            r#"{"a":"NaN","b":1.5}"#,
            r#"{"a":"-Infinity","b":"Infinity"}"#,
            r#"{"a":null,"b":"NaN"}"#,
            r#"{"a":-0.5,"b":null}"#,
            r#"{"a":1.0e300,"b":0.1}"#,
        ];
        assert_eq!(written(Format::JsonLines, columns()), lines.map(|line| format!("{line}\n")).concat());
        assert_eq!(written(Format::Json, columns()), lines.join(","));
        assert_eq!(written(Format::Csv, columns()), "a,b\nNaN,1.5\n-Infinity,Infinity\n,NaN\n-0.5,\n1e300,0.1\n");
        let list = ListArray::from_iter_primitive::<Float64Type, _, _>([Some([Some(f64::NAN), None, Some(1.0)])]);
        assert_eq!(written(Format::Json, vec![("a", Arc::new(list))]), r#"{"a":["NaN",null,1.0]}"#);
    }

    #[test]
    fn csv_tells_nothing_from_an_empty_text() {
        let texts = vec![None, Some(""), Some("plain"), Some("a,b"), Some("a\"b"), Some("a\nb"), Some(" ")];
        let nothing: ArrayRef = Arc::new(NullArray::new(1));
        let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert_eq!(written(Format::Csv, vec![("n", nothing), ("i", one)]), "n,i\n,1\n");
        let texts: ArrayRef = Arc::new(StringArray::from(texts));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3), None, None, None, None]));
        assert_eq!(
            written(Format::Csv, vec![("text", texts), ("a \"number\"", numbers)]),
            "text,\"a \"\"number\"\"\"\n,1\n\"\",\nplain,3\n\"a,b\",\n\"a\"\"b\",\n\"a\nb\",\n ,\n"
        );
    }

    #[test]
    fn decimals_keep_their_digits_and_bytes_are_hex() {
        let decimals = Decimal128Array::from(vec![i128::from(i64::MAX)]).with_precision_and_scale(38, 2).unwrap();
        let columns: Vec<(&str, ArrayRef)> =
            vec![("d", Arc::new(decimals)), ("b", Arc::new(BinaryArray::from_vec(vec![b"\x00\xab"])))];
        assert_eq!(written(Format::JsonLines, columns.clone()), "{\"d\":92233720368547758.07,\"b\":\"00ab\"}\n");
        assert_eq!(written(Format::Csv, columns), "d,b\n92233720368547758.07,00ab\n");
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([Some([Some(1.0)])]));
        let batch = RecordBatch::try_from_iter([("a", list)]).unwrap();
        let refused = Format::Csv.write(&batch.schema(), &[batch]).unwrap_err().to_string();
        assert!(refused.contains("is a list or a structure"), "{refused}");
    }
}
