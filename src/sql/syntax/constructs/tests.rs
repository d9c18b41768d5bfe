//! Constructs that are refused, by their syntax alone.

use crate::sql::refusal::Source;
use crate::sql::syntax::{self, Functions};

/// Knows one function of each row by itself, and nothing that is not maintained.
struct Upper;

impl Functions for Upper {
    fn are_maintained(&self) -> bool {
        true
    }

    fn is_scalar(&self, name: &str) -> bool {
        name == "upper"
    }

    fn objection(&self, _name: &str, _is_window: bool) -> Option<(String, String)> {
        None
    }
}

fn refusal(text: &str) -> String {
    let checked = syntax::parse(text).and_then(|query| syntax::check(&query, &Upper));
    Source { file: "x", text }.refuse(checked.expect_err(text)).to_string()
}

#[test]
fn what_would_be_passed_over_is_refused() {
    for (text, expected) in [
        (
            "SELECT a FROM t TABLESAMPLE (10)",
            "x:1:17: TABLESAMPLE: write a condition that picks rows, as by a hash of their id",
        ),
        ("SELECT a FROM t FOR UPDATE", "x:1:17: FOR UPDATE: nothing is locked by reading; leave it out"),
        ("SELECT a FROM t FETCH FIRST 3 ROWS ONLY", "x:1:17: FETCH: write LIMIT n"),
        ("SELECT TOP 3 a FROM t", "x:1:8: TOP: write LIMIT n"),
        ("SELECT FROM t", "x:1:1: SELECT: selects no column; name at least one"),
        ("SELECT a INTO u FROM t", "x:1:10: INTO: only a SELECT is allowed; nothing can be written or changed by SQL"),
        ("SELECT $1", "x:1:8: parameter $1: there are no parameters; write the value"),
        (
            "SELECT *\nFROM generate_series(1, 3)",
            "x:2:6: table function generate_series(): there are no functions that make tables; write VALUES, or name a table",
        ),
        ("SELECT * FROM UNNEST([1])", "x:1:15: UNNEST: there are no columns of lists; JSON lists stay text"),
        (
            "SELECT upper(a) FILTER (WHERE b) FROM t",
            "x:1:8: FILTER of upper(): means nothing to upper(), which is computed of each row by itself; leave it out",
        ),
        (
            "SELECT count(DISTINCT *) FROM t",
            "x:1:8: count(DISTINCT *): does not count the different rows; write SELECT count(*) FROM (SELECT DISTINCT ..)",
        ),
        (
            "SELECT a SIMILAR TO 'b%' FROM t",
            "x:1:10: SIMILAR TO: would be taken for a regular expression; write LIKE, or ~ and a regular expression",
        ),
        (
            "SELECT a LIKE 'b!%' ESCAPE '!' FROM t",
            "x:1:28: ESCAPE: is always \\ here; leave it out, and write \\% and \\_ for % and _ themselves",
        ),
        ("SELECT a FROM t LEFT JOIN u ON true CROSS APPLY v", "x:1:37: CROSS APPLY: write CROSS JOIN LATERAL"),
        ("SELECT 1 UNION TABLE t", "x:1:16: TABLE: write SELECT * FROM the table"),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION SELECT n + 1 FROM r ORDER BY n) SELECT n FROM r",
            "x:1:16: recursive query r: WITH, ORDER BY and LIMIT around its UNION are not supported; write them in the query that reads it",
        ),
        (
            "SELECT a FROM (SELECT a FROM t FOR SHARE) AS x",
            "x:1:32: FOR UPDATE: nothing is locked by reading; leave it out",
        ),
    ] {
        assert_eq!(refusal(text), expected, "{text}");
    }
}

#[test]
fn ordinary_sql_passes() {
    for text in [
        "SELECT a, count(*) FILTER (WHERE b > 1) FROM t AS x (a, b) WHERE a IN (SELECT a FROM u) GROUP BY a ORDER BY a",
        "WITH u AS (SELECT 1 AS a), v AS (SELECT * FROM u) SELECT * FROM v JOIN u USING (a) LIMIT 3 OFFSET 1",
        "SELECT row_number() OVER w FROM t WINDOW w AS (PARTITION BY a ORDER BY b)",
        "(SELECT 1 UNION ALL VALUES (2)) EXCEPT SELECT 3 ORDER BY 1",
        "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b DESC NULLS LAST",
        "SELECT a LIKE 'b\\%' ESCAPE '\\', (a IS DISTINCT FROM b) AND c, upper(a), ceil(d) FROM t",
    ] {
        let query = syntax::parse(text).expect(text);
        syntax::check(&query, &Upper).expect(text);
    }
}

/// DataFusion answers these, but not with what they ask for.
#[test]
fn what_would_be_taken_for_something_else_is_refused() {
    for (text, construct) in [
        ("SELECT a FROM t EXCEPT ALL SELECT b FROM u", "x:1:17: EXCEPT ALL: "),
        ("SELECT a FROM t UNION SELECT c FROM v INTERSECT ALL SELECT b FROM u", "x:1:39: INTERSECT ALL: "),
        ("SELECT a FROM t WHERE a IS DISTINCT FROM b AND c", "x:1:42: IS DISTINCT FROM: "),
        ("SELECT a FROM t WHERE a IS NOT DISTINCT FROM b OR c AND d", "x:1:46: IS DISTINCT FROM: "),
    ] {
        let refused = refusal(text);
        assert!(refused.starts_with(construct), "{text}: {refused}");
    }
}

#[test]
fn what_is_nested_deeply_is_refused() {
    let check = |text: &str| syntax::parse(text).and_then(|query| syntax::check(&query, &Upper));
    let arrows = |count: usize| format!("SELECT data{} AS c FROM t", "->'a'".repeat(count));
    check(&arrows(100)).expect("few enough");
    assert!(refusal(&arrows(101)).contains("nesting: more than 100 operators"), "{}", refusal(&arrows(101)));
    for (text, count) in [("+CASE WHEN n = 1 THEN 1 END", 300), ("||label", 200), ("::timestamp with time zone", 200)] {
        assert!(refusal(&format!("SELECT n{} FROM t", text.repeat(count))).contains("nesting"), "{text}");
    }
    check(&format!("SELECT a FROM t WHERE a = 1{}", " OR a + 1 = 2".repeat(150))).expect("AND and OR are no levels");
    check(&format!("SELECT {} FROM t", vec!["a + 1"; 200].join(", "))).expect("nor is what stands beside");
}
