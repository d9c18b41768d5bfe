//! What a view shows at an instant against what its own text answers, asked ad hoc, of the same instant.
//!
//! Both are compared as rows of bytes, so bit for bit, with their types: as multisets, or in order where the text has an
//! order. A query over rows of which some cannot be evaluated fails as a whole when it is asked ad hoc, so another text
//! says what it means for the others. A text that cannot be answered all the same is compared with nothing; how often
//! that happens is for the caller to bound. The answer is compared too with that of the same text to which nothing is done
//! that it can be run without.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion::arrow::util::pretty::pretty_format_batches;
use tarn::published::{CatalogView, ReadView};
use tarn::sql::{Codec, Effort, Failure, QueryError, QueryInput, QueryLimits, QueryRunner, Row, Tables};
use tokio::runtime::Runtime;

use super::cases::Wanted;

static RUNNER: LazyLock<QueryRunner> = LazyLock::new(|| QueryRunner::new(2).expect("threads"));
static WAITING: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a thread")
});

const LIMITS: QueryLimits =
    QueryLimits { timeout: Duration::from_secs(60), memory_bytes: 1 << 30, rows: 1_000_000, answer_bytes: 1 << 30 };

/// How a view and its text compare.
#[derive(Debug)]
pub enum Comparison {
    /// They are the same.
    Equal {
        /// How many rows there are.
        rows: usize,
        /// Whether the text asked without what makes it fast is answered so too, or why it is not answered.
        plain: Result<(), String>,
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
    /// How many rows of tables could not be read.
    pub unread: u64,
}

impl Answer {
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
pub fn ask(sql: &str, view: &Arc<ReadView>, tables: &Arc<Tables>, effort: Effort) -> Result<Answer, QueryError> {
    let input = QueryInput {
        tables: Arc::clone(tables),
        views: view.catalog().views().map(|view| Arc::clone(&view.plan)).collect(),
        instant: Arc::clone(view) as Arc<dyn tarn::sql::Instant>,
        epoch: view.epoch(),
        absent: std::collections::BTreeMap::new(),
        effort,
    };
    let answer = WAITING.block_on(RUNNER.run(sql.to_owned(), input, LIMITS, ()))?;
    assert!(!answer.is_cut, "an answer of a small log has few rows");
    let batch = concat_batches(&answer.schema, &answer.batches).expect("batches of one answer");
    Ok(Answer { schema: answer.schema, batch, unread: answer.unread })
}

/// What a view shows at an instant, in its order.
pub fn shown(view: &ReadView, of: &CatalogView) -> Answer {
    let rows = view.rows_from(of.id, &[]);
    let rows: Vec<&Row> = rows.flat_map(|(row, count)| std::iter::repeat_n(row, count)).collect();
    let batch = of.plan.selected(&of.plan.codec.decode(rows.into_iter()));
    Answer { schema: batch.schema(), batch, unread: 0 }
}

/// Compares a view with its text, or the one that says what it answers.
pub fn compare(view: &Arc<ReadView>, of: &CatalogView, tables: &Arc<Tables>, wanted: &Wanted) -> Comparison {
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
    let failures: Vec<_> = view.failures(of.id).collect();
    let meant = wanted.instead.as_ref().unwrap_or(&wanted.sql);
    let asked = ask(meant, view, tables, Effort::Fast);
    let counted = wanted.failures.as_ref().map(|sql| ask(sql, view, tables, Effort::Fast)).transpose();
    let (answer, count) = match (asked, counted) {
        (Ok(answer), Ok(count)) => (answer, count),
        (Err(QueryError::Failed(why)), _) | (_, Err(QueryError::Failed(why))) => return Comparison::Unanswered(why),
        // Its planner owns that it is wrong about some queries.
        (Err(error), _) | (_, Err(error))
            if ["bug in DataFusion", "does not satisfy order requirements"]
                .iter()
                .any(|known| error.to_string().contains(known)) =>
        {
            return Comparison::Unanswered("a bug in DataFusion's planner".to_owned());
        }
        (Err(error), _) | (_, Err(error)) => {
            return Comparison::Different(format!("what is maintained cannot be asked: {error}"));
        }
    };
    if let Some(different) = difference(&shown, &answer, wanted.in_order) {
        let some: Vec<_> = failures.iter().take(3).collect();
        return Comparison::Different(format!("{different}rows that could not be evaluated: {some:?}"));
    }
    let plain = match plainly(&answer, meant, view, tables, wanted.in_order) {
        Ok(plain) => plain,
        Err(different) => return Comparison::Different(different),
    };
    if let Some(count) = count.filter(|count| count.unread == 0) {
        let expected = count.batch.column(0).as_primitive::<Int64Type>().value(0);
        // The text that counts them need not read the columns that the view shows.
        let evaluated = failures.iter().filter(|(failure, _)| !is_unreadable(failure));
        let found: usize = evaluated.map(|(_, count)| count).sum();
        if i64::try_from(found) != Ok(expected) {
            return Comparison::Different(format!("{found} rows fail, but {expected} should: {failures:?}"));
        }
    }
    Comparison::Equal { rows: shown.batch.num_rows(), plain }
}

/// Compares an answer with what the same text answers when little is done to it first: a view and its text share rules of
/// DataFusion's optimiser, which may be wrong about both. Inside: why it cannot be answered so.
fn plainly(
    answer: &Answer,
    meant: &str,
    view: &Arc<ReadView>,
    tables: &Arc<Tables>,
    in_order: bool,
) -> Result<Result<(), String>, String> {
    let plain = match ask(meant, view, tables, Effort::Least) {
        Ok(plain) => plain,
        Err(error) => return Ok(Err(error.to_string())),
    };
    // It reads all columns, and is told nothing of a row of which one cannot be read.
    if plain.unread > 0 {
        return Ok(Err("it reads columns of rows that cannot be read".to_owned()));
    }
    let different = difference(answer, &plain, in_order);
    different.map_or(Ok(Ok(())), |different| {
        Err(format!("it is what its text answers, but not what the text answers without being optimised. {different}"))
    })
}

/// Whether a row failed because of a column that its table could not make of what the resource says.
fn is_unreadable(failure: &Failure) -> bool {
    ["declared as ", "the time "].iter().any(|words| failure.reason.starts_with(words))
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
