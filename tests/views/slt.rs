//! `tests/sql/*.slt`: what queries mean, by feature; each as a maintained view and asked ad hoc.
//!
//! All queries of a file are views of one engine over the events of `tests/sql/events.ndjson`, which leave little, after
//! many things that came and went; each view is compared with its text after every epoch, and what it shows at the end
//! with what the file says. `TARN_SLT_WRITE=1` writes what was found into the files, to be read before it is believed.
//!
//! The format is sqllogictest's, the reader our own: a query needs to be there before the log is read, so a file cannot
//! be run from its first line to its last, as the known runner does.

mod format;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::Value;
use tarn::model::Topics;
use tarn::published::{CatalogView, ReadView};
use tarn::sql::Tables;

use super::cases::{Case, Wanted, refusals};
use super::comparison::{Answer, shown};
use super::events::{Event, START_MS, tables};
use super::guarded::guarded_run;
use crate::support::engine::Given;
use format::Record;

/// The records of the events that every file is about.
fn log() -> Vec<Given> {
    let text = std::fs::read_to_string("tests/sql/events.ndjson").expect("a file");
    text.lines().zip(0..).map(|(line, offset)| record(&serde_json::from_str(line).expect(line), offset)).collect()
}

fn record(line: &Value, offset: u64) -> Given {
    let text = |name: &str| line[name].as_str().map(str::to_owned);
    let at_ms = START_MS + line["at"].as_u64().expect("a time") * 1_000;
    let event = Event {
        number: line["number"].as_u64().expect("a number"),
        kind: text("kind").unwrap_or_default(),
        operation: text("operation").unwrap_or_else(|| "updated".to_owned()),
        local_id: text("local").unwrap_or_default(),
        workspace: text("workspace"),
        version: None,
        data: line.get("data").cloned(),
        reported_ms: Some(at_ms),
        at_ms,
    };
    let record = event.record(offset);
    match text("poison") {
        Some(poison) => Given { value: Some(poison.into_bytes()), ..record },
        None => record,
    }
}

/// A record's query as a view.
fn wanted(place: usize, record: &Record) -> Option<Wanted> {
    let (name, sql, in_order) = match record {
        Record::Comment(_) => return None,
        Record::View { name, sql } => (name.clone(), sql, false),
        Record::Query { sql, in_order, .. } => (format!("query_{place}"), sql, *in_order),
        Record::Refused { sql, .. } => (format!("query_{place}"), sql, false),
    };
    Some(Wanted::new(&name, sql, in_order))
}

/// What a file says, as it was found to be.
fn found(records: &[Record], topics: &Topics, tables: &Arc<Tables>) -> Vec<Record> {
    let all: Vec<Option<Wanted>> = records.iter().enumerate().map(|(place, record)| wanted(place, record)).collect();
    let files: Vec<_> = all.iter().flatten().map(Wanted::file).collect();
    let refused: BTreeMap<String, String> = refusals(&files, tables);
    let accepted = all.iter().flatten().filter(|view| !refused.contains_key(&view.name));
    let case = Case {
        records: log(),
        workers: 2,
        epoch_records_max: 3,
        steps: vec![(0, accepted.cloned().collect())],
        restored: 0,
        twins: Vec::new(),
    };
    if let Err(wrong) = case.check(tables, topics) {
        let name = wrong.name.unwrap_or_default();
        let sql = all.iter().flatten().find(|view| view.name == name).map(|view| view.sql.clone()).unwrap_or_default();
        panic!("{name} shows something else than its text answers: {}\n{sql}", wrong.text);
    }
    let (log, setup) = case.setup(tables, topics);
    let run = guarded_run(log, &setup).expect("it ran before");
    let find = |record: &Record, view: Option<&Wanted>| match (record, view) {
        (Record::Comment(_), _) | (_, None) => record.clone(),
        (_, Some(view)) => of_view(record, view, &refused, run.last()),
    };
    records.iter().zip(&all).map(|(record, view)| find(record, view.as_ref())).collect()
}

/// A record as it was found to be.
fn of_view(record: &Record, view: &Wanted, refused: &BTreeMap<String, String>, last: &ReadView) -> Record {
    let sql = view.sql.clone();
    if let Some(why) = refused.get(&view.name) {
        // Without the name of the file.
        let why = why.split_once(':').map_or(&**why, |(_, rest)| rest).to_owned();
        return Record::Refused { sql, why };
    }
    if let Record::View { name, .. } = record {
        return Record::View { name: name.clone(), sql };
    }
    let of = last.catalog().view(&view.name).expect("whatever is not refused is shown");
    let answer = shown(last, of);
    let types = answer.schema.fields().iter().map(|field| letter(field.data_type())).collect();
    let mut rows = texts(&answer);
    if !view.in_order {
        rows.sort();
    }
    Record::Query { types, in_order: view.in_order, sql, rows, errors: errors(last, of) }
}

fn letter(kind: &DataType) -> char {
    match kind {
        DataType::Boolean => 'B',
        DataType::Date32 => 'D',
        kind if kind.is_integer() => 'I',
        kind if kind.is_numeric() => 'R',
        DataType::Timestamp(..) => 'P',
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => 'T',
        _ => '?',
    }
}

/// A line a row, its values with a blank in between.
fn texts(answer: &Answer) -> Vec<String> {
    let value = |column: &ArrayRef, row: usize| {
        // A column of nothing but nulls has no list of them.
        if column.logical_nulls().is_some_and(|nulls| nulls.is_null(row)) {
            return "NULL".to_owned();
        }
        let options = FormatOptions::default().with_display_error(true);
        let text = match column.data_type() {
            // As Rust writes it, which tells any two apart.
            DataType::Float64 => {
                column.as_primitive::<datafusion::arrow::datatypes::Float64Type>().value(row).to_string()
            }
            _ => ArrayFormatter::try_new(column, &options).expect("a type that can be shown").value(row).to_string(),
        };
        if text.is_empty() { "(empty)".to_owned() } else { text }
    };
    let row = |row| answer.batch.columns().iter().map(|column| value(column, row)).collect::<Vec<_>>().join(" ");
    (0..answer.batch.num_rows()).map(row).collect()
}

fn errors(view: &ReadView, of: &CatalogView) -> Vec<String> {
    let line = |(failure, count): (&tarn::sql::Failure, usize)| {
        let line = format!("{}: {}: {}", failure.input, failure.expression, failure.reason);
        std::iter::repeat_n(line, count)
    };
    view.failures(of.id).flat_map(line).collect()
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("tests/sql").expect("a folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "slt"));
    files.sort();
    files
}

/// Compares a file with what was found, or writes it.
fn check_file(path: &Path, topics: &Topics, tables: &Arc<Tables>) -> Result<(), String> {
    let text = std::fs::read_to_string(path).expect("a file");
    let records = format::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let found = found(&records, topics, tables);
    if std::env::var_os("TARN_SLT_WRITE").is_some() {
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        std::fs::write(path, texts.join("\n")).expect("a file");
        return Ok(());
    }
    let differ = records.iter().zip(&found).filter(|(expected, found)| expected != found);
    let texts: Vec<String> =
        differ.map(|(expected, found)| format!("{}\nexpected:\n{expected}\nfound:\n{found}", path.display())).collect();
    if texts.is_empty() { Ok(()) } else { Err(texts.join("\n")) }
}

#[test]
fn every_query_of_the_files_means_what_they_say() {
    let topics = Topics::default();
    let tables = Arc::new(tables(&topics));
    let only = std::env::var("TARN_SLT").unwrap_or_default();
    let files: Vec<PathBuf> = files().into_iter().filter(|path| path.to_string_lossy().contains(&only)).collect();
    assert!(!files.is_empty(), "there are files");
    let failed: Vec<String> = files.iter().filter_map(|path| check_file(path, &topics, &tables).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
