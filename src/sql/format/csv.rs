//! CSV as `COPY` of PostgreSQL writes it: what is not known is empty, an empty text is `""`, and what holds a comma, a quote
//! or the end of a line is quoted. Arrow's own writer does not tell the first two apart.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::json::{doubles, name_of};

/// The line of names.
pub(super) fn write_names(out: &mut Vec<u8>, schema: &Schema) {
    for (place, field) in schema.fields().iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write_text(out, field.name());
    }
    out.push(b'\n');
}

/// A line a row.
pub(super) fn write_rows(out: &mut Vec<u8>, batch: &RecordBatch) -> Result<(), ArrowError> {
    let options = FormatOptions::default();
    let mut columns = Vec::new();
    for column in batch.columns() {
        if column.data_type().is_nested() {
            let message = format!("{} is a list or a structure, for which CSV has no form", column.data_type());
            return Err(ArrowError::CsvError(message));
        }
        columns.push((column, doubles(column), ArrayFormatter::try_new(column, &options)?));
    }
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        for (place, (column, doubles, formatter)) in columns.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            if column.is_null(row) || *column.data_type() == DataType::Null {
                continue;
            }
            let name = doubles.as_ref().and_then(|doubles| name_of(doubles.as_primitive::<Float64Type>().value(row)));
            match name {
                Some(name) => write_text(out, name),
                None => {
                    text.clear();
                    formatter.value(row).write(&mut text)?;
                    write_text(out, &text);
                }
            }
        }
        out.push(b'\n');
    }
    Ok(())
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    if !text.is_empty() && !text.contains([',', '"', '\r', '\n']) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
