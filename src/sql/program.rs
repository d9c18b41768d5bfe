//! Expressions evaluated on rows: filter, compute, project; in batches, by DataFusion's physical expressions.
//!
//! A row's outcome is that of evaluating it alone. A batch that fails is evaluated again row by row, so that one row's
//! division by zero costs that row alone.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{filter_record_batch, prep_null_mask_filter};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::json::writer::LineDelimited;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use super::failure::Failure;
use super::format::json;
use super::refusal::in_plain_words;
use super::row::{Codec, Row};
use super::words;

/// Keeps rows for which all filters are true, and makes rows of other columns of them.
pub struct Program {
    input: Codec,
    filters: Vec<Arc<dyn PhysicalExpr>>,
    outputs: Vec<Arc<dyn PhysicalExpr>>,
    output: Codec,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description())
    }
}

/// What became of some rows.
#[derive(Debug, Default)]
pub struct Evaluated {
    /// The rows made, each with the place of the one that it was made of, in order.
    pub rows: Vec<(usize, Row)>,
    /// The rows that could not be evaluated.
    pub failures: Vec<(usize, Failure)>,
}

impl Program {
    /// A program over rows of the codec `input`; `outputs` are as many as `output` has columns, of their types.
    pub fn new(
        input: Codec,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        outputs: Vec<Arc<dyn PhysicalExpr>>,
        output: Codec,
    ) -> Self {
        assert_eq!(outputs.len(), output.schema().fields().len(), "a program makes every column");
        Self { input, filters, outputs, output }
    }

    /// A program written as SQL, over columns of these names and types.
    #[cfg(test)]
    pub(crate) fn parse(
        columns: &[(&str, datafusion::arrow::datatypes::DataType)],
        filters: &[&str],
        outputs: &[(&str, &str)],
    ) -> Self {
        use datafusion::arrow::datatypes::{Field, Schema};
        let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let known = datafusion::common::DFSchema::try_from(Arc::clone(&schema)).expect("names differ");
        let session = datafusion::prelude::SessionContext::new();
        let parse = |text: &str| {
            let expression = session.parse_sql_expr(text, &known).expect(text);
            session.create_physical_expr(expression, &known).expect(text)
        };
        let filters = filters.iter().map(|text| parse(text)).collect();
        let expressions: Vec<_> = outputs.iter().map(|(_, text)| parse(text)).collect();
        let made = outputs.iter().zip(&expressions);
        let made = made.map(|((name, _), made)| Field::new(*name, made.data_type(&schema).expect("typed"), true));
        let output = Codec::new(Arc::new(Schema::new(made.collect::<Vec<_>>())));
        Self::new(Codec::new(schema), filters, expressions, output)
    }

    /// The columns that it makes.
    pub fn schema(&self) -> &SchemaRef {
        self.output.schema()
    }

    /// What it makes rows of.
    pub fn output(&self) -> &Codec {
        &self.output
    }

    /// Whether it makes every row of itself.
    pub fn is_identity(&self) -> bool {
        self.parts() == (None, None) && self.input.options() == self.output.options()
    }

    /// Whether there can be rows of which it makes none.
    pub fn may_drop(&self) -> bool {
        !self.filters.is_empty()
    }

    /// What it does, so that two with the same words do the same to rows of the same columns, whatever these are called.
    pub fn description(&self) -> String {
        let words = |expressions: &[Arc<dyn PhysicalExpr>]| {
            expressions
                .iter()
                .map(|expression| description(expression, self.input.schema()))
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!("filter [{}] make [{}]", words(&self.filters), words(&self.outputs))
    }

    /// What it does, as SQL: its columns, then what it keeps rows by.
    pub fn explain(&self) -> String {
        match self.parts() {
            (None, columns) => columns.unwrap_or_else(|| "*".into()),
            (Some(filters), columns) => format!("{} WHERE {filters}", columns.as_deref().unwrap_or("*")),
        }
    }

    /// The key that it makes, and whether it makes none of rows with a null in it.
    pub fn explain_key(&self) -> (String, bool) {
        let columns = self.parts().1.unwrap_or_else(|| "*".into());
        let columns = if self.outputs.len() == 1 { columns } else { format!("({columns})") };
        (columns, !self.filters.is_empty())
    }

    /// The same with the names of its columns where it makes all of them as they are.
    pub fn explain_with_names(&self) -> String {
        let (filters, columns) = self.parts();
        let names = || words::names(self.schema());
        let columns = columns.unwrap_or_else(names);
        filters.map_or(columns.clone(), |filters| format!("{columns} WHERE {filters}"))
    }

    /// What it keeps rows by, none if it keeps all; and what it makes, none if it makes all columns as they are.
    fn parts(&self) -> (Option<String>, Option<String>) {
        let words = |expressions: &[Arc<dyn PhysicalExpr>], between| {
            let words = expressions.iter().map(words::sql);
            words.collect::<Vec<_>>().join(between)
        };
        let filters = (!self.filters.is_empty()).then(|| words(&self.filters, " AND "));
        let is_plain = |(place, output): (usize, &Arc<dyn PhysicalExpr>)| is_column(output, place);
        let makes_all = self.outputs.len() == self.input.schema().fields().len();
        let is_whole = makes_all && self.outputs.iter().enumerate().all(is_plain);
        (filters, (!is_whole).then(|| words(&self.outputs, ", ")))
    }

    /// Evaluates on rows of its input codec.
    pub fn run(&self, rows: &[&Row]) -> Evaluated {
        self.run_columns(&self.input.decode(rows.iter().copied()))
    }

    /// Evaluates on columns that are not rows yet.
    pub fn run_columns(&self, batch: &RecordBatch) -> Evaluated {
        let (rows, failures) = outcomes(batch, 0, &|batch| self.evaluate(batch));
        Evaluated { rows, failures }
    }

    /// What is kept of a batch, with its places there.
    fn evaluate(&self, batch: &RecordBatch) -> Result<Vec<(usize, Row)>, Failed> {
        let (mut batch, mut places) = (batch.clone(), None);
        for filter in &self.filters {
            let kept = evaluate_filter(filter, &batch)?;
            let before = places.take().unwrap_or_else(|| (0..batch.num_rows()).collect::<Vec<_>>());
            places = Some(before.into_iter().zip(kept.values()).filter(|(_, kept)| *kept).map(|(at, _)| at).collect());
            batch = filter_record_batch(&batch, &kept).expect("as many as there are rows");
            if batch.num_rows() == 0 {
                // What is constant is evaluated even for no row, and may fail.
                return Ok(Vec::new());
            }
        }
        let columns = self.outputs.iter().map(|output| evaluate(output, &batch)).collect::<Result<Vec<_>, _>>()?;
        let rows = self.output.encode(&columns, batch.num_rows());
        let places = places.unwrap_or_else(|| (0..batch.num_rows()).collect());
        Ok(places.into_iter().zip(rows).collect())
    }
}

fn is_column(expression: &Arc<dyn PhysicalExpr>, place: usize) -> bool {
    expression.downcast_ref::<Column>().is_some_and(|column| column.index() == place)
}

/// An expression in words that tell it from all others over the same columns: these by their places, and every part with
/// its type, which literals and casts do not show.
fn description(expression: &Arc<dyn PhysicalExpr>, columns: &Schema) -> String {
    let mut kinds = Vec::new();
    let placed = Arc::clone(expression).transform_down(|part| {
        kinds.push(part.data_type(columns).map_or("?".to_owned(), |kind| kind.to_string()));
        let place = part.downcast_ref::<Column>().filter(|column| !column.name().is_empty()).map(Column::index);
        Ok(match place {
            Some(place) => {
                let unnamed: Arc<dyn PhysicalExpr> = Arc::new(Column::new("", place));
                Transformed::yes(unnamed)
            }
            None => Transformed::no(part),
        })
    });
    format!("{} of {}", placed.data().expect("nothing fails"), kinds.join(" "))
}

/// An expression could not be evaluated on a batch.
pub(super) struct Failed {
    expression: String,
    pub(super) reason: String,
}

impl Failed {
    /// The failure of a batch of one row.
    pub(super) fn of(self, alone: &RecordBatch) -> Failure {
        Failure { input: as_json(alone).into(), expression: self.expression.into(), reason: self.reason.into() }
    }
}

/// What is made of the rows of a batch, with their places there, counted from `first`, and the rows of which nothing can
/// be made. A batch that fails is tried again in halves, so that a row's outcome is that of evaluating it alone.
pub(super) fn outcomes<T>(
    batch: &RecordBatch,
    first: usize,
    evaluate: &impl Fn(&RecordBatch) -> Result<Vec<(usize, T)>, Failed>,
) -> (Vec<(usize, T)>, Vec<(usize, Failure)>) {
    let count = batch.num_rows();
    match evaluate(batch) {
        Ok(mut made) => {
            made.iter_mut().for_each(|(place, _)| *place += first);
            (made, Vec::new())
        }
        Err(failed) if count == 1 => (Vec::new(), vec![(first, failed.of(batch))]),
        Err(_) if count == 0 => (Vec::new(), Vec::new()),
        Err(_) => {
            let half = count / 2;
            let (mut made, mut failures) = outcomes(&batch.slice(0, half), first, evaluate);
            let (made_after, failures_after) = outcomes(&batch.slice(half, count - half), first + half, evaluate);
            made.extend(made_after);
            failures.extend(failures_after);
            (made, failures)
        }
    }
}

/// The values of an expression on a batch.
pub(super) fn evaluate(expression: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef, Failed> {
    guarded(expression, batch, || expression.evaluate(batch))
}

/// The rows of a batch for which a filter is true, which is not where it is null.
pub(super) fn evaluate_filter(filter: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<BooleanArray, Failed> {
    let kept = evaluate(filter, batch)?;
    let kept = kept.as_boolean();
    Ok(if kept.null_count() == 0 { kept.clone() } else { prep_null_mask_filter(kept) })
}

/// The values of an expression on the selected rows of a batch; what stands at the others means nothing.
pub(super) fn evaluate_selected(
    expression: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
    selected: &BooleanArray,
) -> Result<ArrayRef, Failed> {
    guarded(expression, batch, || expression.evaluate_selection(batch, selected))
}

thread_local! {
    static EVALUATES: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread evaluates an expression, so that a panic will be a row's failure: for hooks that end the process.
pub fn is_evaluating() -> bool {
    EVALUATES.get()
}

/// The reason of a row whose evaluation panics.
pub(super) const PANICKED: &str = "the evaluation panicked";

/// A panic in a library's kernel is that row's failure, not the process's end: what a row holds comes from outside.
fn guarded(
    expression: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
    evaluate: impl Fn() -> datafusion::common::Result<ColumnarValue>,
) -> Result<ArrayRef, Failed> {
    EVALUATES.set(true);
    let values = catch_unwind(AssertUnwindSafe(|| evaluate()?.into_array(batch.num_rows())));
    EVALUATES.set(false);
    let reason = match values {
        Ok(Ok(values)) => return Ok(values),
        Ok(Err(error)) => in_plain_words(&error.strip_backtrace()),
        Err(_) => PANICKED.to_owned(),
    };
    Err(Failed { expression: words::sql_over(expression, &batch.schema()), reason })
}

/// The first row of a batch as a JSON object, for people.
pub(super) fn as_json(alone: &RecordBatch) -> String {
    let mut writer = json::writer().build::<_, LineDelimited>(Vec::new());
    let columns = alone.columns().to_vec();
    let options = RecordBatchOptions::new().with_row_count(Some(alone.num_rows()));
    let alone = RecordBatch::try_new_with_options(words::renamed(&alone.schema()), columns, &options);
    let alone = alone.expect("the same columns under other names");
    let written = writer.write(&alone).and_then(|()| writer.finish());
    match written {
        Ok(()) => String::from_utf8_lossy(&writer.into_inner()).trim_end().to_owned(),
        Err(error) => format!("{{\"unprintable\": {:?}}}", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, new_null_array};
    use datafusion::arrow::datatypes::{DataType, TimeUnit};

    use super::*;

    #[test]
    fn a_row_that_fails_costs_itself_alone() {
        let program = Program::parse(
            &[("a", DataType::Int64), ("b", DataType::Int64)],
            &["a IS NOT NULL"],
            &[("quotient", "10 / a"), ("b", "b")],
        );
        let column = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let columns = [column(vec![Some(5), None, Some(0), Some(2)]), column(vec![Some(1), Some(2), Some(3), None])];
        let batch = RecordBatch::try_new(Arc::clone(program.input.schema()), columns.to_vec()).expect("fits");
        let evaluated = program.run_columns(&batch);
        assert_eq!(evaluated.rows.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0, 3]);
        let made = program.output.decode(evaluated.rows.iter().map(|(_, row)| row));
        assert_eq!(as_json(&made.slice(0, 1)), r#"{"quotient":2,"b":1}"#);
        assert_eq!(as_json(&made.slice(1, 1)), r#"{"quotient":5}"#);
        let [(2, failure)] = &evaluated.failures[..] else { panic!("{evaluated:?}") };
        assert_eq!((&*failure.input, &*failure.expression), (r#"{"a":0,"b":3}"#, "10 / a"));
        assert!(failure.reason.contains("Divide by zero"), "{failure:?}");
    }

    #[test]
    fn a_panic_is_a_failure_and_known_to_be_one() {
        let program = Program::parse(&[("a", DataType::Int64)], &[], &[("a", "a")]);
        let batch = RecordBatch::try_new(Arc::clone(program.input.schema()), vec![Arc::new(Int64Array::from(vec![1]))]);
        let batch = batch.expect("fits");
        let failed = guarded(&program.outputs[0], &batch, || panic!("{}", is_evaluating())).expect_err("it panicked");
        assert_eq!((&*failed.expression, &*failed.reason), ("a", "the evaluation panicked"));
        assert!(!is_evaluating());
    }

    #[test]
    fn nulls_of_rows_fail_no_function() {
        // It computes on what is null too.
        let kind = DataType::Timestamp(TimeUnit::Microsecond, None);
        let program = Program::parse(&[("t", kind.clone())], &[], &[("day", "date_trunc('day', t)")]);
        let row = program.input.encode(&[new_null_array(&kind, 1)], 1).swap_remove(0);
        let evaluated = program.run(&[&row]);
        assert_eq!((evaluated.rows.len(), &evaluated.failures[..]), (1, &[][..]));
    }
}
