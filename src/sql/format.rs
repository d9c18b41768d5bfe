//! Columns as text or bytes for those who asked: JSON objects, lines of JSON, CSV, Arrow.
//!
//! JSON says null where nothing is known, times as RFC 3339, 64-bit integers as numbers, decimals as text where a number
//! would lose digits is left to Arrow's own writer. CSV quotes as RFC 4180 does and begins with the names. Arrow is the
//! streaming format, one batch a message.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::arrow::json::WriterBuilder;
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
        let builder = WriterBuilder::new().with_explicit_nulls(true);
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
                let mut writer = csv::WriterBuilder::new().with_header(true).build(&mut out);
                let nothing = RecordBatch::new_empty(schema.clone().into());
                writer.write(&nothing)?;
                with_rows.try_for_each(|batch| writer.write(batch))?;
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
