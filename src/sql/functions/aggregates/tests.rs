//! What DataFusion gets wrong or leaves to chance, by our functions; agreement with maintained groups is shown there.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::Float64Type;

use super::super::super::samples::{self, Cut};
use super::*;

const CUTS: [Cut; 3] = [Cut::WHOLE, Cut { partitions: 1, batch_rows: 2 }, Cut { partitions: 3, batch_rows: 1 }];

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

/// The first column of the answer, as text, however the table is cut up.
fn answers(rows: &RecordBatch, sql: &str) -> Vec<String> {
    let mut found = CUTS.map(|cut| {
        let answer =
            samples::answer(&samples::session(rows, cut), sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let shown = |row| datafusion::arrow::util::display::array_value_to_string(answer.column(0), row).expect("text");
        (0..answer.num_rows()).map(shown).collect::<Vec<_>>()
    });
    assert!(found.iter().all(|one| *one == found[0]), "{sql}: {found:?}");
    std::mem::take(&mut found[0])
}

#[test]
fn floats_are_summed_exactly_in_any_order() {
    let rows = samples::floats(vec![1e16, 1.0, -1e16, 1e300, 0.5, -1e300]);
    assert_eq!(answers(&rows, "SELECT sum(x) FROM t"), ["1.5"]);
    assert_eq!(answers(&rows, "SELECT avg(x) FROM t"), ["0.25"]);
    assert_eq!(answers(&rows, "SELECT mean(x) FROM t"), ["0.25"]);
    assert_eq!(answers(&rows, "SELECT sum(x) FILTER (WHERE x < 1e17) FROM t"), ["-1e300"]);
    assert_eq!(answers(&rows, "SELECT sum(x + 0.1) - sum(x + 0.2) < 0 FROM t"), ["true"]);
}

#[test]
fn what_is_no_number_is_one_value_and_the_greatest() {
    let rows = samples::floats(vec![2.0, f64::NAN, -0.0, -f64::NAN, 0.0, 2.0]);
    assert_eq!(answers(&rows, "SELECT min(x) FROM t"), ["0.0"]);
    assert_eq!(answers(&rows, "SELECT max(x) FROM t"), ["NaN"]);
    assert_eq!(answers(&rows, "SELECT min(x) FROM t WHERE NOT x <= 0.0 GROUP BY 'all'"), ["2.0"]);
    assert_eq!(answers(&rows, "SELECT count(DISTINCT x) FROM t"), ["3"]);
    assert_eq!(answers(&rows, "SELECT sum(DISTINCT x) FROM t WHERE x >= 0.0 AND x < 9"), ["2.0"]);
    // DataFusion's own for groups starts from the greatest float.
    let rows = samples::floats(vec![f64::INFINITY, f64::INFINITY]);
    assert_eq!(answers(&rows, "SELECT min(x) FROM t GROUP BY x > 0 ORDER BY 1 LIMIT 1"), ["inf"]);
    let session = samples::session(&samples::floats(vec![-0.0]), Cut::WHOLE);
    let greatest = samples::answer(&session, "SELECT max(x) FROM t").expect("an answer");
    assert_eq!(greatest.column(0).as_primitive::<Float64Type>().value(0).to_bits(), 0);
}

#[test]
fn a_result_that_does_not_fit_is_an_error_and_never_wraps() {
    let rows = table(vec![("x", Arc::new(Int64Array::from(vec![i64::MAX, 1, -1])) as ArrayRef)]);
    assert_eq!(answers(&rows, "SELECT sum(x) FROM t"), [i64::MAX.to_string()]);
    for cut in CUTS {
        for sql in ["SELECT sum(x) FROM t WHERE x > 0", "SELECT sum(DISTINCT x) FROM t WHERE x > 0 GROUP BY 1 = 1"] {
            let error = samples::answer(&samples::session(&rows, cut), sql).expect_err("too large");
            assert!(error.contains("the sum 9223372036854775808 is beyond Int64"), "{error}");
        }
    }
    let decimal = "CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0))";
    let sql = format!("SELECT sum(CASE WHEN x < 0 THEN -{decimal} ELSE {decimal} END) FROM t");
    assert_eq!(answers(&rows, &sql), ["9".repeat(38)]);
    let sql = format!("SELECT sum({decimal}) FROM t");
    let error = samples::answer(&samples::session(&rows, Cut::WHOLE), &sql).expect_err("too large");
    assert!(error.contains("is beyond Decimal128(38, 0)"), "{error}");
}

#[test]
fn a_distinct_aggregate_beside_a_sum_leaves_it_exact() {
    // Two groupings would round the sum of each key, and then their sum.
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 2]));
    let values: ArrayRef = Arc::new(Float64Array::from(vec![1e16, 1.0, 1.0]));
    let rows = table(vec![("k", keys), ("x", values)]);
    assert_eq!(answers(&rows, "SELECT sum(x), count(DISTINCT k) FROM t"), ["1.0000000000000002e16"]);
}

#[test]
fn windows_slide_over_exact_sums() {
    let rows = samples::floats(vec![1.0, 1e300, 2.0, -1e300, 3.0]);
    let frame = "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW";
    let numbered = "(SELECT x, row_number() OVER () AS n FROM t)";
    let sql = format!("SELECT sum(x) OVER (ORDER BY n {frame}) FROM {numbered} ORDER BY n");
    let session = samples::session(&rows, Cut::WHOLE);
    let answer = samples::answer(&session, &sql).expect("an answer");
    assert_eq!(answer.column(0).as_primitive::<Float64Type>().values(), &[1.0, 1e300, 1e300, -1e300, -1e300]);
    let sql =
        format!("SELECT avg(x) OVER (ORDER BY n ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING) FROM {numbered} ORDER BY n");
    let answer = samples::answer(&session, &sql).expect("an answer");
    let column = answer.column(0).as_primitive::<Float64Type>();
    assert_eq!((column.is_null(0), column.value(1), column.value(4)), (true, 1.0, 2.0 / 3.0));
}

#[test]
fn other_types_are_left_to_datafusion() {
    let rows = table(vec![("x", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]);
    assert_eq!(answers(&rows, "SELECT sum(INTERVAL '1' DAY) FROM t"), ["2 days"]);
    assert_eq!(answers(&rows, "SELECT max('a') FROM t"), ["a"]);
    assert_eq!(answers(&rows, "SELECT count(DISTINCT x) FROM t"), ["2"]);
    assert_eq!(answers(&rows, "SELECT count(*) FROM t"), ["2"]);
}
