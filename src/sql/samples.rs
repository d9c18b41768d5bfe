//! Random rows with every type that matters, and sessions that answer queries over them: for tests.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::functions::aggregates;

/// Columns with nulls, few values, and the ends of their types.
pub(super) fn rows(seed: u64, count: usize) -> RecordBatch {
    let mut random = StdRng::seed_from_u64(seed);
    let text = |random: &mut StdRng, few: &[&str]| ScalarValue::from(few[random.random_range(0..few.len())]);
    let mut column = |name: &str, make: &mut dyn FnMut(&mut StdRng) -> ScalarValue| {
        let values: Vec<_> = (0..count).map(|_| make(&mut random)).collect();
        let kind = values[0].data_type();
        let values = values.into_iter().map(|value| match random.random_bool(0.2) {
            true => ScalarValue::try_from(&kind).expect("a null"),
            false => value,
        });
        let values: ArrayRef = ScalarValue::iter_to_array(values.collect::<Vec<_>>()).expect("one type");
        (Field::new(name, values.data_type().clone(), true), values)
    };
    let some = |random: &mut StdRng| random.random_range(-20_i64..20);
    let made = [
        column("g", &mut |random| text(random, &["a", "b", "c"])),
        column("k", &mut |random| ScalarValue::from(random.random_range(0_i64..3))),
        column("z", &mut |random| ScalarValue::from([0.0, -0.0, f64::NAN, 1.0][random.random_range(0..4)])),
        column("s", &mut |random| {
            text(random, &["", "a", "ab", "b", "ä", "a longer text that has more than one block"])
        }),
        column("b", &mut |random| ScalarValue::from(random.random_bool(0.7))),
        column("i", &mut |random| ScalarValue::from(some(random) * [1, 1_000_000][random.random_range(0..2)])),
        column("n", &mut |random| ScalarValue::from(some(random) as i32)),
        column("u", &mut |random| ScalarValue::from(random.random::<u64>() >> random.random_range(8..64))),
        column("f", &mut |random| ScalarValue::from(float(random))),
        column("q", &mut |random| ScalarValue::from(float(random) as f32)),
        column("d", &mut |random| ScalarValue::Decimal128(Some(i128::from(some(random)) * 37), 10, 2)),
        column("w", &mut |random| {
            let value = ScalarValue::Decimal128(Some(i128::from(some(random)) << 90), 38, 3);
            value.cast_to(&DataType::Decimal256(50, 3)).expect("a wider one")
        }),
        column("e", &mut |random| ScalarValue::DurationMillisecond(Some(some(random) * 1_001))),
        column("t", &mut |random| ScalarValue::TimestampMicrosecond(Some(some(random) * 40_000_000_000), None)),
    ];
    let (fields, columns): (Vec<_>, Vec<_>) = made.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of one length")
}

/// What makes sums of floats hard.
fn float(random: &mut StdRng) -> f64 {
    match random.random_range(0..20) {
        0 => 1e16,
        1 => -1e16,
        2 => [f64::MAX, -f64::MAX, 5e-324, -0.0, 0.0][random.random_range(0..5)],
        3 if random.random_bool(0.3) => [f64::NAN, -f64::NAN, f64::INFINITY][random.random_range(0..3)],
        4..8 => f64::from(random.random_range(-5..5)),
        _ => f64::from(random.random_range(-1_000..1_000)) / 100.0,
    }
}

/// Each row so many times.
pub(super) fn repeated(rows: &RecordBatch, counts: &[i64]) -> RecordBatch {
    let places = counts.iter().enumerate().flat_map(|(place, count)| {
        let count = usize::try_from(*count).expect("nothing is there less than not at all");
        std::iter::repeat_n(place as u64, count)
    });
    take_record_batch(rows, &UInt64Array::from_iter_values(places)).expect("places of rows")
}

/// How a session cuts the table `t` up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) partitions: usize,
    pub(super) batch_rows: usize,
}

impl Cut {
    pub(super) const WHOLE: Self = Self { partitions: 1, batch_rows: 8192 };

    pub(super) fn random(random: &mut StdRng) -> Self {
        Self { partitions: random.random_range(1..4), batch_rows: random.random_range(1..20) }
    }
}

/// A session with DataFusion's functions over a table `t`.
pub(super) fn plain_session(rows: &RecordBatch, cut: Cut) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(cut.partitions).with_batch_size(cut.batch_rows);
    let session = SessionContext::new_with_config(config);
    let mut parts = vec![Vec::new(); cut.partitions];
    for (batch, first) in (0..rows.num_rows()).step_by(cut.batch_rows).enumerate() {
        parts[batch % cut.partitions].push(rows.slice(first, cut.batch_rows.min(rows.num_rows() - first)));
    }
    let table = MemTable::try_new(rows.schema(), parts).expect("batches of one schema");
    session.register_table("t", Arc::new(table)).expect("a new table");
    // It answers sums of decimals beside a `DISTINCT` aggregate in a type that the plan has not.
    session.remove_optimizer_rule(aggregates::UNSOUND_RULE);
    session
}

/// A session with our aggregates over a table `t`.
pub(super) fn session(rows: &RecordBatch, cut: Cut) -> SessionContext {
    let session = plain_session(rows, cut);
    aggregates::register(&session);
    session
}

/// A session with our aggregates whose plans group even where statistics would do.
pub(super) fn planning_session(rows: &RecordBatch) -> SessionContext {
    let session = session(rows, Cut::WHOLE);
    let rules = PhysicalOptimizer::default().rules.into_iter().filter(|rule| rule.name() != "aggregate_statistics");
    let state = SessionStateBuilder::new_from_existing(session.state());
    SessionContext::new_with_state(state.with_physical_optimizer_rules(rules.collect()).build())
}

/// Runs what needs DataFusion's threads to its end.
fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a thread").block_on(work)
}

pub(super) fn plan(session: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    wait(async { session.sql(sql).await.expect(sql).create_physical_plan().await.expect(sql) })
}

/// All rows of a plan.
pub(super) fn collect(session: &SessionContext, plan: Arc<dyn ExecutionPlan>) -> RecordBatch {
    let schema = plan.schema();
    let batches = wait(datafusion::physical_plan::collect(plan, session.task_ctx())).expect("a plan that can be run");
    concat_batches(&schema, &batches).expect("batches of one schema")
}

/// The answer to a query, or why there is none.
pub(super) fn answer(session: &SessionContext, sql: &str) -> Result<RecordBatch, String> {
    wait(async {
        let frame = session.sql(sql).await.map_err(|error| error.to_string())?;
        let schema = Arc::clone(frame.schema().inner());
        let batches = frame.collect().await.map_err(|error| error.to_string())?;
        Ok(concat_batches(&schema, &batches).expect("batches of one schema"))
    })
}

/// A table of one column of floats.
pub(super) fn floats(values: Vec<f64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Float64Array::from(values));
    RecordBatch::try_from_iter([("x", column)]).expect("a table")
}
