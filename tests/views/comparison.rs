//! What a view shows at an instant against what its own text answers, asked ad hoc, of the same instant.
//!
//! Both are compared as rows of bytes, so bit for bit, with their types: as multisets, or in order where the text has an
//! order. A text that cannot be answered, because a row cannot be evaluated, is compared with nothing; how often that
//! happens is for the caller to bound.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::util::pretty::pretty_format_batches;
use tarn::published::{CatalogView, ReadView};
use tarn::sql::{Codec, QueryError, QueryInput, QueryLimits, QueryRunner, Row, Tables};
use tokio::runtime::Runtime;

static RUNNER: LazyLock<QueryRunner> = LazyLock::new(|| QueryRunner::new(2).expect("threads"));
static WAITING: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a thread"));

const LIMITS: QueryLimits = QueryLimits { timeout: Duration::from_secs(60), memory_bytes: 1 << 30, rows: 1_000_000 };

/// How a view and its text compare.
#[derive(Debug)]
pub enum Comparison {
    /// They are the same.
    Equal {
        /// How many rows there are.
        rows: usize,
    },
    /// The text cannot be answered, and why.
    Unanswered(String),
    /// They are not, and how.
    Different(String),
}

/// Rows and their columns.
#[derive(Debug)]
pub struct Answer {
    /// The columns.
    pub schema: SchemaRef,
    /// All rows.
    pub batch: RecordBatch,
}

impl Answer {
    fn new(schema: SchemaRef, batches: &[RecordBatch]) -> Self {
        let batch = concat_batches(&schema, batches).expect("batches of one answer");
        Self { schema, batch }
    }

    /// The rows as bytes, in their order.
    fn rows(&self) -> Vec<Row> {
        self.codec().encode(self.batch.columns(), self.batch.num_rows())
    }

    fn codec(&self) -> Codec {
        Codec::new(Arc::clone(&self.schema))
    }

    fn columns(&self) -> Vec<(&str, &DataType)> {
        self.schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect()
    }
}

/// What a text answers at an instant.
pub fn ask(sql: &str, view: &Arc<ReadView>, tables: &Arc<Tables>) -> Result<Answer, QueryError> {
    let input = QueryInput {
        tables: Arc::clone(tables),
        views: view.catalog().views().map(|view| Arc::clone(&view.plan)).collect(),
        instant: Arc::clone(view) as Arc<dyn tarn::sql::Instant>,
        epoch: view.epoch(),
    };
    let answer = WAITING.block_on(RUNNER.run(sql.to_owned(), input, LIMITS))?;
    assert!(!answer.is_cut, "an answer of a small log has few rows");
    Ok(Answer::new(answer.schema, &answer.batches))
}

/// What a view shows at an instant, in its order.
pub fn shown(view: &ReadView, of: &CatalogView) -> Answer {
    let rows = view.rows_from(of.id, &[]);
    let rows: Vec<&Row> = rows.flat_map(|(row, count)| std::iter::repeat_n(row, count)).collect();
    let batch = of.plan.selected(&of.plan.codec.decode(rows.into_iter()));
    Answer { schema: batch.schema(), batch }
}

/// Compares a view with its text.
pub fn compare(view: &Arc<ReadView>, of: &CatalogView, tables: &Arc<Tables>, in_order: bool) -> Comparison {
    if view.is_detached(of.id) {
        return Comparison::Different("the view is no longer kept up to date".to_owned());
    }
    let shown = match catch_unwind(AssertUnwindSafe(|| shown(view, of))) {
        Ok(shown) => shown,
        Err(_) => return Comparison::Different("the view cannot be read; is a multiplicity negative?".to_owned()),
    };
    if let Some((failure, _)) = view.failures(of.id).find(|(failure, _)| failure.is_of_view()) {
        return Comparison::Unanswered(failure.reason.to_string());
    }
    match ask(&of.plan.sql, view, tables) {
        Err(QueryError::Failed(why)) => Comparison::Unanswered(why),
        Err(error) => Comparison::Different(format!("what is maintained cannot be asked: {error}")),
        Ok(answer) => difference(&shown, &answer, in_order).map_or(
            Comparison::Equal { rows: shown.batch.num_rows() },
            |different| {
                let failures: Vec<_> = view.failures(of.id).take(3).collect();
                Comparison::Different(if failures.is_empty() {
                    different
                } else {
                    format!("{different}rows that could not be evaluated: {failures:?}")
                })
            },
        ),
    }
}

/// In what a view and an answer differ.
pub fn difference(shown: &Answer, answer: &Answer, in_order: bool) -> Option<String> {
    if shown.columns() != answer.columns() {
        return Some(format!("columns: {:?}\nexpected: {:?}\n", shown.columns(), answer.columns()));
    }
    let (mut found, mut expected) = (shown.rows(), answer.rows());
    if found == expected {
        return None;
    }
    if !in_order {
        found.sort_unstable();
        expected.sort_unstable();
        if found == expected {
            return None;
        }
    }
    let mut text = String::new();
    let (extra, missing) = (without(&found, &expected), without(&expected, &found));
    if extra.is_empty() && missing.is_empty() {
        tell(&mut text, "the rows in the order of the view", answer, &found);
        tell(&mut text, "in the order of the answer", answer, &expected);
    } else {
        tell(&mut text, "only in the view", answer, &extra);
        tell(&mut text, "only in the answer", answer, &missing);
    }
    Some(text)
}

/// The rows that are more often in `rows` than in `others`, so many times.
fn without(rows: &[Row], others: &[Row]) -> Vec<Row> {
    let mut left = others.to_vec();
    let mut rest = Vec::new();
    for row in rows {
        match left.iter().position(|other| other == row) {
            Some(place) => drop(left.swap_remove(place)),
            None => rest.push(row.clone()),
        }
    }
    rest
}

fn tell(text: &mut String, what: &str, answer: &Answer, rows: &[Row]) {
    if !rows.is_empty() {
        let table = pretty_format_batches(&[answer.codec().decode(rows.iter().take(20))]).expect("columns of text");
        writeln!(text, "{what}, {} rows:\n{table}", rows.len()).expect("memory takes any write");
    }
}
