//! Groups under random changes against DataFusion's answer over the rows that are left: bit for bit.
//!
//! `TARN_CASES=20000 cargo test --lib sql::grouping` tries more; `TARN_SEED=n` tries one.

use std::collections::BTreeMap;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::prelude::SessionContext;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::super::canonical::canonical;
use super::super::samples::{self, Cut};
use super::*;

/// What a query groups, taken from DataFusion's plan of it.
struct Query {
    sql: String,
    grouping: Arc<Grouping>,
    /// The rows of the table as the grouping sees them.
    rows: Vec<Row>,
}

impl Query {
    fn new(sql: &str, table: &RecordBatch) -> Self {
        let session = samples::planning_session(table);
        let plan = samples::plan(&session, sql);
        let aggregate = lowest_aggregate(&plan).expect("a query that groups");
        let (grouping, input) = grouping_of(&aggregate);
        let rows = samples::collect(&session, input);
        let rows = Codec::new(rows.schema()).encode(rows.columns(), rows.num_rows());
        Self { sql: sql.to_owned(), grouping: Arc::new(grouping), rows }
    }

    /// What each row of the table is for its group.
    fn contributions(&self) -> Contributions {
        self.grouping.run(&self.rows.iter().collect::<Vec<_>>())
    }

    /// The rows of DataFusion's answer, sorted.
    fn answer(&self, session: &SessionContext) -> Vec<Row> {
        let answer = samples::answer(session, &self.sql).expect(&self.sql);
        let columns = answer.columns().iter().zip(self.grouping.schema().fields()).enumerate();
        let columns = columns.map(|(place, (column, field))| {
            assert_eq!(column.data_type(), field.data_type(), "{}: {}", self.sql, field.name());
            // Keys that are no number: DataFusion keeps the bits of one of them.
            if place < self.grouping.keys.len() { canonical(column) } else { Arc::clone(column) }
        });
        let columns: Vec<_> = columns.collect();
        let mut rows = Codec::new(Arc::clone(self.grouping.schema())).encode(&columns, answer.num_rows());
        rows.sort();
        rows
    }

    fn readable(&self, rows: &[Row]) -> String {
        let batch = Codec::new(Arc::clone(self.grouping.schema())).decode(rows.iter());
        datafusion::arrow::util::pretty::pretty_format_batches(&[batch]).expect("printable").to_string()
    }
}

fn lowest_aggregate(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let below = plan.children().into_iter().find_map(lowest_aggregate);
    below.or_else(|| plan.downcast_ref::<AggregateExec>().map(|_| Arc::clone(plan)))
}

fn grouping_of(plan: &Arc<dyn ExecutionPlan>) -> (Grouping, Arc<dyn ExecutionPlan>) {
    let aggregate = plan.downcast_ref::<AggregateExec>().expect("found as one");
    assert_eq!(aggregate.mode().input_mode(), AggregateInputMode::Raw);
    let input = Arc::clone(aggregate.input());
    let calls = aggregate.aggr_expr().iter().zip(aggregate.filter_expr()).map(|(call, filter)| {
        let function = AggregateFunction::named(call.fun().name()).expect("maintained");
        let argument = call.expressions().into_iter().next();
        let output = call.field().data_type().clone();
        AggregateCall { function, argument, filter: filter.clone(), distinct: call.is_distinct(), output }
    });
    let calls: Vec<_> = calls.collect();
    let keys = aggregate.group_expr().expr().iter();
    let named = keys
        .clone()
        .map(|(key, name)| Field::new(name, key.data_type(&input.schema()).expect("a key has a type"), true));
    let made = aggregate.aggr_expr().iter().map(|call| call.field().as_ref().clone());
    let output = Arc::new(Schema::new(named.chain(made).collect::<Vec<_>>()));
    let keys = keys.map(|(key, _)| Arc::clone(key)).collect();
    (Grouping::new(Codec::new(input.schema()), keys, calls, output), input)
}

/// Both ways to keep a grouping's groups.
#[derive(Default)]
struct Kept {
    sums: BTreeMap<Row, Accumulators>,
    groups: BTreeMap<Row, Group>,
}

impl Kept {
    fn apply(&mut self, grouping: &Arc<Grouping>, contribution: &Contribution, count: i64) {
        let sum = self.sums.entry(contribution.key.clone()).or_insert_with(|| grouping.nothing());
        sum.add(&contribution.accumulators.times(count));
        let group = self.groups.entry(contribution.key.clone()).or_insert_with(|| Group::new(grouping));
        group.apply(contribution, count);
    }

    /// The rows of all groups, sorted, made in either way.
    fn rows(&self, grouping: &Arc<Grouping>) -> Vec<Row> {
        let global = (grouping.is_global() && self.groups.is_empty()).then(|| (Row::empty(), Group::new(grouping)));
        let groups = self.groups.iter().chain(global.as_ref().map(|(key, group)| (key, group)));
        let made = groups.filter_map(|(key, group)| group.finish(key));
        let mut made: Vec<Row> = made.collect::<Result<_, _>>().expect("sums that fit");
        made.sort();
        if grouping.is_accumulable() && !self.sums.is_empty() {
            let sums = self.sums.iter().filter_map(|(key, sum)| grouping.finish(key, sum));
            let mut sums: Vec<Row> = sums.collect::<Result<_, _>>().expect("sums that fit");
            sums.sort();
            assert_eq!(sums, made, "{grouping:?}");
        }
        made
    }

    fn assert_nothing_is_left(&self) {
        assert!(self.sums.values().all(Accumulators::is_zero));
        assert!(self.groups.values().all(|group| group.is_empty() && group.held() == (0, 0)));
        assert!(self.sums.values().all(|sum| *sum == Accumulators::default()));
    }
}

const KEYS: [&str; 8] = ["g", "k", "z", "b", "upper(s)", "i % 3", "CAST(t AS DATE)", "d"];
const NUMBERS: [&str; 10] = ["i", "n", "u", "f", "q", "d", "w", "e", "d * d", "CASE WHEN b THEN i END"];
const ORDERED: [&str; 14] = ["i", "n", "u", "f", "q", "d", "w", "e", "s", "t", "b", "g", "upper(s)", "z"];
const FILTERS: [&str; 5] = ["b", "i > 0", "s LIKE 'a%'", "g IS NULL", "k = 1 OR f < 0.5"];

/// An aggregate, and whether DataFusion's own gives the same.
fn random_call(random: &mut StdRng) -> (String, bool) {
    let one = |random: &mut StdRng, of: &[&str]| (*of.choose(random).expect("some")).to_owned();
    let is_float = |argument: &str| ["f", "q", "z"].contains(&argument);
    let (call, same) = match random.random_range(0..10) {
        0 => ("count(*)".to_owned(), true),
        1 => (format!("count({})", one(random, &ORDERED)), true),
        2 | 3 => {
            let (argument, distinct) = (one(random, &NUMBERS), random.random_bool(0.3));
            // Wide decimals wrap.
            (format!("sum({}{argument})", if distinct { "DISTINCT " } else { "" }), !is_float(&argument))
        }
        4 => {
            let (argument, distinct) = (one(random, &NUMBERS), random.random_bool(0.3));
            let same = ["d", "w", "d * d"].contains(&argument.as_str()) || (argument == "e" && !distinct);
            (format!("avg({}{argument})", if distinct { "DISTINCT " } else { "" }), same)
        }
        5 | 6 => {
            let (name, argument) = (["min", "max"][random.random_range(0..2)], one(random, &ORDERED));
            (format!("{name}({argument})"), !is_float(&argument))
        }
        7 => (format!("{}(b)", ["bool_and", "bool_or"][random.random_range(0..2)]), true),
        _ => {
            let argument = one(random, &ORDERED);
            (format!("count(DISTINCT {argument})"), !is_float(&argument))
        }
    };
    if random.random_bool(0.3) {
        (format!("{call} FILTER (WHERE {})", one(random, &FILTERS)), same)
    } else {
        (call, same)
    }
}

fn check_case(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let table = samples::rows(seed, random.random_range(1..50));
    let keys: Vec<_> = KEYS.choose_multiple(&mut random, [0, 0, 1, 1, 2, 3][seed as usize % 6]).copied().collect();
    let mut calls: Vec<_> = (0..random.random_range(1..6)).map(|_| random_call(&mut random)).collect();
    calls.sort();
    calls.dedup();
    let same = calls.iter().all(|(_, same)| *same) && !keys.contains(&"z");
    let made = calls.iter().enumerate().map(|(place, (call, _))| format!("{call} AS made_{place}"));
    let columns: Vec<_> = keys.iter().map(|key| (*key).to_owned()).chain(made).collect();
    let by = if keys.is_empty() { String::new() } else { format!(" GROUP BY {}", keys.join(", ")) };
    let query = Query::new(&format!("SELECT {} FROM t{by}", columns.join(", ")), &table);

    let contributions = query.contributions();
    assert!(contributions.failures.is_empty(), "seed {seed}: {:?}", contributions.failures);
    let places: Vec<_> = contributions.rows.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, (0..table.num_rows()).collect::<Vec<_>>(), "seed {seed}: every row is for some group");

    let mut counts = vec![0; table.num_rows()];
    let mut kept = Kept::default();
    for round in 0..3 {
        // Changes of one moment come in any order, so that a row may go before it comes.
        let mut changes = Vec::new();
        for (place, count) in counts.iter_mut().enumerate() {
            for after in (0..random.random_range(0..4)).map(|_| random.random_range(0_i64..3)).collect::<Vec<_>>() {
                changes.push((place, after - *count));
                *count = after;
            }
        }
        changes.shuffle(&mut random);
        for (place, change) in changes {
            kept.apply(&query.grouping, &contributions.rows[place].1, change);
        }
        let left = samples::repeated(&table, &counts);
        let made = kept.rows(&query.grouping);
        let ours = query.answer(&samples::session(&left, Cut::random(&mut random)));
        let explain = |what: &str, expected: &[Row]| {
            let (made, expected) = (query.readable(&made), query.readable(expected));
            format!("seed {seed}, round {round}, {}\nmaintained:\n{made}\n{what}:\n{expected}", query.sql)
        };
        assert!(made == ours, "{}", explain("ad hoc", &ours));
        if same {
            let theirs = query.answer(&samples::plain_session(&left, Cut::random(&mut random)));
            assert!(made == theirs, "{}", explain("DataFusion's own", &theirs));
        }
    }
    for (place, count) in counts.iter().enumerate() {
        kept.apply(&query.grouping, &contributions.rows[place].1, -count);
    }
    kept.assert_nothing_is_left();
}

#[test]
fn maintained_groups_are_what_datafusion_makes_of_the_rows_that_are_left() {
    if let Ok(seed) = std::env::var("TARN_SEED") {
        return check_case(seed.parse().expect("a number"));
    }
    let cases = std::env::var("TARN_CASES").map_or(300, |cases| cases.parse().expect("a number"));
    (0..cases).for_each(check_case);
}

/// A query over a table of one column of floats.
fn float_query(sql: &str, values: &[f64]) -> Query {
    Query::new(sql, &samples::floats(values.to_vec()))
}

#[test]
fn a_sum_of_floats_is_that_of_what_is_left() {
    let query = float_query("SELECT sum(x), avg(x) FROM t", &[1e16, 1.0, -1e16, 0.1, 0.2]);
    let contributions = query.contributions();
    let mut kept = Kept::default();
    let order = [(0, 1), (1, 1), (2, 1), (3, 2), (4, 1), (0, -1), (3, -1), (2, -1)];
    order.iter().for_each(|(place, count)| kept.apply(&query.grouping, &contributions.rows[*place].1, *count));
    let left = samples::floats(vec![0.2, 0.1, 1.0]);
    assert_eq!(kept.rows(&query.grouping), query.answer(&samples::session(&left, Cut::WHOLE)));
}

#[test]
fn counting_rows_costs_a_number() {
    let table = samples::rows(1, 10);
    let query = Query::new("SELECT g, count(*), count(1) FROM t GROUP BY g", &table);
    assert!(query.grouping.is_accumulable() && query.grouping.tallied.is_empty());
    assert_eq!(size_of::<Accumulators>(), 24, "a count and a pointer to nothing");
    // What several aggregates need is kept once.
    let sql = "SELECT sum(f), avg(f), count(f), min(i), max(i), count(DISTINCT i), sum(DISTINCT i) FROM t";
    let query = Query::new(sql, &table);
    assert_eq!((query.grouping.tallied.len(), query.grouping.ordered.len()), (1, 1));
}

#[test]
fn without_rows_a_global_group_is_there_and_others_are_not() {
    let table = samples::rows(1, 10);
    for (sql, rows) in [("SELECT count(*), sum(f), max(s) FROM t", 1), ("SELECT g, count(*) FROM t GROUP BY g", 0)] {
        let query = Query::new(sql, &table);
        let made = Kept::default().rows(&query.grouping);
        assert_eq!(made.len(), rows);
        assert_eq!(made, query.answer(&samples::session(&table.slice(0, 0), Cut::WHOLE)), "{sql}");
    }
}

#[test]
fn a_sum_beyond_its_type_is_a_failure_of_its_group_until_it_is_smaller() {
    let values = [i64::MAX, 1, -1];
    let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    let table = RecordBatch::try_from_iter([("x", column)]).expect("a table");
    let query = Query::new("SELECT x % 1 AS key, sum(x) FROM t GROUP BY x % 1", &table);
    let contributions = query.contributions();
    let key = contributions.rows[0].1.key.clone();
    let mut sum = query.grouping.nothing();
    sum.add(&contributions.rows[0].1.accumulators);
    assert!(query.grouping.finish(&key, &sum).expect("a row").is_ok());
    sum.add(&contributions.rows[1].1.accumulators);
    let failure = query.grouping.finish(&key, &sum).expect("a group with rows").expect_err("a sum that does not fit");
    assert_eq!(&*failure.reason, "the sum 9223372036854775808 is beyond Int64");
    assert_eq!(&*failure.expression, "sum(x)");
    assert!(failure.input.contains(":0}"), "{failure:?}");
    // The order of rows decides nothing: a large sum may be passed through.
    sum.add(&contributions.rows[2].1.accumulators);
    assert!(query.grouping.finish(&key, &sum).expect("a row").is_ok());
}

#[test]
fn an_argument_fails_for_rows_alone_that_its_filter_lets_through() {
    let table = samples::rows(3, 40);
    let query = Query::new("SELECT count(*), sum(10 / i) FILTER (WHERE i <> 0) FROM t", &table);
    assert!(query.contributions().failures.is_empty());
    let query = Query::new("SELECT count(*), sum(10 / k) FROM t", &table);
    let made = query.contributions();
    let zeros = table.column_by_name("k").expect("there").as_primitive::<Int64Type>();
    let zeros: Vec<_> = zeros.iter().enumerate().filter(|(_, k)| *k == Some(0)).map(|(place, _)| place).collect();
    assert!(!zeros.is_empty());
    assert_eq!(made.failures.iter().map(|(place, _)| *place).collect::<Vec<_>>(), zeros);
    assert_eq!(made.rows.len() + made.failures.len(), table.num_rows());
    let (_, failure) = &made.failures[0];
    assert!(failure.reason.contains("Divide by zero") && failure.input.contains(r#""k":0"#), "{failure:?}");
}

#[test]
fn words_tell_groupings_apart() {
    let table = samples::rows(1, 3);
    let of = |sql: &str| Query::new(sql, &table).grouping;
    let grouping = of("SELECT g, count(*), sum(DISTINCT f) FILTER (WHERE b) FROM t GROUP BY g");
    assert_eq!(
        grouping.explain(),
        "count(1), sum(DISTINCT f) FILTER (WHERE b) by g, in differences and 1 ordered index a group"
    );
    let words: std::collections::BTreeSet<String> = [
        "SELECT sum(f) FROM t",
        "SELECT sum(q) FROM t",
        "SELECT sum(DISTINCT f) FROM t",
        "SELECT avg(f) FROM t",
        "SELECT sum(f) FILTER (WHERE b) FROM t",
        "SELECT g, sum(f) FROM t GROUP BY g",
        "SELECT sum(d) FROM t",
        "SELECT count(f) FROM t",
    ]
    .map(|sql| of(sql).description())
    .into();
    assert_eq!(words.len(), 8, "{words:?}");
}
