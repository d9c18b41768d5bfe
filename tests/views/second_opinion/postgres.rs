//! PostgreSQL with the rows of an instant, asked the same texts.
//!
//! In: rows and answers as texts, a column of them as its [`Kind`] says, so that both sides write a value alike. Not here:
//! what is asked.

use std::path::Path;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use postgres::{Client, SimpleQueryMessage};

use crate::pipeline;
use crate::views::comparison::Answer;
use crate::views::generator::{Kind, Readable};

/// What texts mean that PostgreSQL would take in another way.
const MEANS: &str = include_str!("means.sql");
/// Nothing that is asked here takes so long.
const TIMEOUT_MS: u64 = 20_000;

/// A row, its values as texts; none: null.
pub type Texts = Vec<Option<String>>;

/// A database.
pub struct Postgres {
    client: Client,
    _server: pipeline::Postgres,
}

impl Postgres {
    /// Starts one; none where it is not installed and need not be.
    pub fn start(test: &str, folder: &Path) -> Option<Self> {
        let server = pipeline::postgres_alone(test, folder)?;
        // Texts are compared by their bytes, and have the letters of all languages.
        let database = "CREATE DATABASE asked TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'";
        server.client().batch_execute(database).expect("a new database");
        let mut client = server.client_of("asked");
        let settings = format!(
            "{MEANS};
             SET search_path = means, pg_catalog; SET TimeZone = 'UTC'; SET extra_float_digits = 1;
             SET jit = off; SET statement_timeout = {TIMEOUT_MS}; SET client_min_messages = error"
        );
        client.batch_execute(&settings).expect("settings of ours");
        Some(Self { client, _server: server })
    }

    /// From now on it is that epoch, and there is no table.
    pub fn begin(&mut self, epoch: u64) {
        let anew = format!("DROP SCHEMA IF EXISTS held CASCADE; CREATE SCHEMA held; SET tarn.epoch_ms = {epoch}");
        self.client.batch_execute(&anew).expect("a schema");
        self.client.batch_execute("SET search_path = means, held, pg_catalog").expect("a setting");
    }

    /// From now on there is this table too.
    pub fn hold(&mut self, table: &Readable, rows: &[Texts]) {
        let columns: Vec<String> =
            table.columns.iter().map(|(name, kind)| format!("{name} {}", postgres_type(*kind))).collect();
        let mut sql = format!("CREATE TABLE held.{} ({});", table.name, columns.join(", "));
        for row in rows {
            let values = row.iter().zip(&table.columns).map(|(value, (_, kind))| literal(value.as_deref(), *kind));
            let values = values.collect::<Vec<_>>().join(", ");
            sql.push_str(&format!("INSERT INTO held.{} VALUES ({values});", table.name));
        }
        sql.push_str(&format!("ANALYZE held.{}", table.name));
        self.client.batch_execute(&sql).expect("rows as they were read");
    }

    /// What a text answers, whose columns are of these kinds.
    pub fn ask(&mut self, sql: &str, kinds: &[Kind]) -> Result<Vec<Texts>, String> {
        // Its name of that type is two words.
        let sql = sql.replace(" AS DOUBLE)", " AS DOUBLE PRECISION)");
        let written = (1..).zip(kinds).map(|(place, kind)| written(&format!("c{place}"), *kind));
        let asked = format!("SELECT {} FROM ({sql}) AS answer", written.collect::<Vec<_>>().join(", "));
        let messages = self.client.simple_query(&asked);
        let messages = messages.map_err(|error| {
            error.as_db_error().map_or_else(|| error.to_string(), |known| known.message().to_owned())
        })?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let value = |text: Option<&str>, kind: Kind| text.map(|text| alike(text, kind));
        Ok(rows.map(|row| (0..kinds.len()).map(|place| value(row.get(place), kinds[place])).collect()).collect())
    }
}

fn postgres_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Int => "bigint",
        Kind::Float => "double precision",
        Kind::Bool => "boolean",
        Kind::Time => "timestamptz",
        Kind::Decimal => "numeric",
        Kind::Date => "date",
    }
}

/// A value as PostgreSQL reads it.
fn literal(value: Option<&str>, kind: Kind) -> String {
    match (value, kind) {
        (None, _) => "NULL".to_owned(),
        (Some(micros), Kind::Time) => format!("'epoch'::timestamptz + {micros} * INTERVAL '1 microsecond'"),
        (Some(text), _) => format!("'{}'", text.replace('\'', "''")),
    }
}

/// A column as PostgreSQL is to write it.
fn written(column: &str, kind: Kind) -> String {
    match kind {
        Kind::Time => format!("(extract(epoch FROM {column}) * 1000000)::bigint::text"),
        kind => format!("{column}::{}::text", postgres_type(kind)),
    }
}

/// A text of a value as both sides write it in the end.
fn alike(text: &str, kind: Kind) -> String {
    match kind {
        Kind::Float => {
            let number: f64 = text.parse().expect("a number");
            // A digit less than sums differ in when their order does, and one zero alone.
            format!("{:.12e}", if number == 0.0 { 0.0 } else { number })
        }
        Kind::Decimal if text.contains('.') => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        _ => text.to_owned(),
    }
}

/// The rows of one of our answers.
pub fn texts(answer: &Answer, kinds: &[Kind]) -> Vec<Texts> {
    let columns: Vec<Texts> =
        answer.batch.columns().iter().zip(kinds).map(|(column, kind)| column_texts(column, *kind)).collect();
    (0..answer.batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect()
}

fn column_texts(column: &ArrayRef, kind: Kind) -> Texts {
    let to = match kind {
        Kind::Text => DataType::Utf8,
        Kind::Int => DataType::Int64,
        Kind::Float => DataType::Float64,
        Kind::Bool => DataType::Boolean,
        Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, None),
        Kind::Decimal => column.data_type().clone(),
        Kind::Date => DataType::Date32,
    };
    let column = cast(column, &to).expect("a column of its kind");
    let numbers = match kind {
        Kind::Time => Some(cast(&column, &DataType::Int64).expect("times are numbers")),
        _ => None,
    };
    let formatter = ArrayFormatter::try_new(&column, &FormatOptions::default()).expect("a type that can be shown");
    let text = |row: usize| match &numbers {
        Some(micros) => micros.as_primitive::<Int64Type>().value(row).to_string(),
        None => alike(&formatter.value(row).to_string(), kind),
    };
    let nulls = column.logical_nulls();
    (0..column.len()).map(|row| (!nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))).then(|| text(row))).collect()
}
