//! What queries become: which operators, and what is refused.

use crate::model::Topics;
use crate::sql::explain::Explanation;
use crate::sql::queries::{QueryFile, plan_queries};
use crate::sql::tables::Tables;

/// The operators of a query, or why it is refused.
fn lowered(sql: &str) -> Result<Vec<String>, String> {
    let tables = Tables::read(None, &Topics::default()).expect("tables that are always there");
    let planned = plan_queries(&[QueryFile::new("x", sql)], &tables);
    if let [(_, refusal), ..] = &planned.refusals[..] {
        return Err(refusal.to_string());
    }
    let operators = Explanation::of(&planned.views[0]).operators.into_iter();
    Ok(operators.map(|operator| format!("{} {}", operator.name, operator.detail)).collect())
}

/// The operators of a query but for the storing of its rows.
fn operators(sql: &str) -> Vec<String> {
    lowered(sql).expect(sql).split_off(1)
}

/// Their names.
fn names(sql: &str) -> Vec<String> {
    let name = |operator: &String| {
        let kinds = ["anti join", "semi join", "union all", "rows so far"];
        let kind = kinds.into_iter().find(|kind| operator.starts_with(kind));
        kind.unwrap_or_else(|| operator.split(' ').next().expect("a name")).to_owned()
    };
    operators(sql).iter().map(name).collect()
}

fn refused(sql: &str) -> String {
    lowered(sql).expect_err(sql)
}

#[test]
fn filters_and_projections_are_part_of_the_scan() {
    let sql = "SELECT upper(topic) AS t FROM (SELECT topic, partition FROM resources WHERE partition > 1) AS a WHERE topic <> ''";
    assert_eq!(operators(sql), ["table resources: upper(topic) WHERE partition > 1 AND topic != ''"]);
}

#[test]
fn kinds_of_joins_become_pairs_and_rows_with_or_without_a_partner() {
    let join = |kind: &str, condition: &str| {
        let sql = format!(
            "SELECT a.topic FROM resources AS a {kind} JOIN deleted_resources AS b ON a.resource_id = b.resource_id {condition}"
        );
        names(&sql)
    };
    assert_eq!(join("", ""), ["join", "table", "table"]);
    assert_eq!(join("LEFT SEMI", ""), ["semi join", "table", "table"]);
    assert_eq!(join("LEFT ANTI", ""), ["anti join", "table", "table"]);
    assert_eq!(join("LEFT", ""), ["union all", "join", "table", "table", "compute", "anti join"]);
    // Pairs for which the condition fails count for nothing: it is evaluated once, for the pairs and for the others.
    let left = join("LEFT", "AND a.event_id < b.event_id");
    assert_eq!(left.iter().filter(|name| *name == "join").count(), 1, "{left:?}");
    assert_eq!(left.iter().filter(|name| *name == "anti join").count(), 1, "{left:?}");
}

#[test]
fn a_side_of_one_row_needs_no_key() {
    let with = |side: &str| format!("SELECT a.topic FROM resources AS a CROSS JOIN ({side}) AS b");
    for side in [
        "SELECT count(*) AS n FROM resources",
        "SELECT topic FROM resources LIMIT 1",
        "SELECT topic FROM resources ORDER BY offset LIMIT 1",
        "SELECT max(topic) AS t FROM resources HAVING count(*) > 3",
        "SELECT 1 AS one",
        "VALUES (1)",
        "SELECT a.n FROM (SELECT count(*) AS n FROM resources) AS a CROSS JOIN (SELECT count(*) AS m FROM quarantine) AS b",
        "SELECT t FROM (SELECT topic AS t, row_number() OVER (ORDER BY offset) AS n FROM resources) AS x WHERE n = 1",
    ] {
        lowered(&with(side)).expect(side);
    }
    for side in [
        "SELECT topic FROM resources",
        "SELECT topic FROM resources LIMIT 2",
        "SELECT topic, count(*) AS n FROM resources GROUP BY topic",
        "VALUES (1), (2)",
        "SELECT 1 AS one UNION ALL SELECT 2",
        "SELECT t FROM (SELECT topic AS t, row_number() OVER (PARTITION BY topic ORDER BY offset) AS n FROM resources) AS x WHERE n = 1",
    ] {
        let refused = refused(&with(side));
        assert!(refused.contains("join without equality: every row would meet every other one"), "{side}: {refused}");
    }
}

#[test]
fn numbered_rows_are_the_first_of_each_group() {
    let numbered = |condition: &str, columns: &str| {
        format!(
            "SELECT {columns} FROM (SELECT topic, offset, row_number() OVER (PARTITION BY topic ORDER BY partition) AS n \
             FROM resources) AS t WHERE {condition}"
        )
    };
    let top = |condition: &str, columns: &str| {
        let operators = operators(&numbered(condition, columns));
        operators.into_iter().find(|operator| operator.starts_with("top")).expect("one of them")
    };
    for (condition, words) in [
        ("n = 1", "top 1 row of each topic"),
        ("n <= 3", "top 3 rows of each topic"),
        ("4 > n", "top 3 rows of each topic"),
        ("n BETWEEN 2 AND 4", "top 3 rows after 1 of each topic"),
        ("n = 1 OR n = 3", "top 3 rows of each topic"),
        ("n <= 3 AND offset > 7", "top 3 rows of each topic"),
    ] {
        let found = top(condition, "topic, offset");
        let (first, rest) = words.split_once(" of ").expect("two parts");
        assert!(found.starts_with(first) && found.contains(rest.trim_start_matches("each ")), "{condition}: {found}");
    }
    assert_ne!(top("n <= 3", "topic, n"), top("n <= 3", "topic"), "a number that nobody asks for is not there");
    for condition in ["n > 3", "n <> 1", "n <= offset", "n = 1 OR offset = 1"] {
        let refused = refused(&numbered(condition, "topic"));
        assert!(
            refused.contains("window function row_number(): only ROW_NUMBER() with a bound"),
            "{condition}: {refused}"
        );
    }
}

#[test]
fn limits_take_from_one_another() {
    let top = |sql: &str| operators(sql).into_iter().find(|operator| operator.starts_with("top")).expect(sql);
    let first = |inner: &str, outer: &str| {
        format!("SELECT topic FROM (SELECT topic FROM resources ORDER BY topic {inner}) AS t ORDER BY topic {outer}")
    };
    assert!(top("SELECT topic FROM resources ORDER BY topic LIMIT 3 OFFSET 2").starts_with("top 3 rows after 2"));
    assert!(top("SELECT topic FROM resources ORDER BY topic OFFSET 2").contains("after 2"));
    assert_eq!(names(&first("LIMIT 5", "LIMIT 2")), ["top", "top", "table"]);
    assert_eq!(names("SELECT topic FROM resources ORDER BY topic LIMIT 0"), ["values"]);
}

#[test]
fn comparisons_with_the_time_are_bounds() {
    let filter = |condition: &str| operators(&format!("SELECT topic FROM resources WHERE {condition}"));
    let bounds = |condition: &str| {
        let operators = filter(condition);
        let found = operators.iter().find(|operator| operator.starts_with("while"));
        let found = found.unwrap_or_else(|| panic!("{condition}: {operators:?}"));
        (found.contains("from"), found.contains("until"))
    };
    for (condition, expected) in [
        ("updated_at < now()", (true, false)),
        ("updated_at <= now() - INTERVAL '7 days'", (true, false)),
        ("now() - updated_at > INTERVAL '7 days'", (true, false)),
        ("updated_at + INTERVAL '7 days' < now()", (true, false)),
        ("updated_at > now() - INTERVAL '1 month'", (false, true)),
        ("updated_at BETWEEN now() - INTERVAL '2 days' AND now() - INTERVAL '1 day'", (true, true)),
        ("CAST(updated_at AS DATE) = current_date", (true, true)),
        ("updated_at > now() - INTERVAL '1 day' AND created_at < now() - INTERVAL '1 day'", (true, true)),
        ("NOT updated_at > now()", (true, false)),
    ] {
        assert_eq!(bounds(condition), expected, "{condition}");
    }
    let mixed = filter("updated_at < now() AND topic = 'x'");
    assert!(
        mixed.last().expect("a scan").contains("WHERE topic = 'x'"),
        "what does not depend on the time comes first: {mixed:?}"
    );
}

#[test]
fn recursions_only_grow() {
    let recursion = |step: &str| {
        format!("WITH RECURSIVE r (id) AS (SELECT resource_id FROM resources UNION {step}) SELECT id FROM r")
    };
    let join = "SELECT o.orphaned_by FROM orphaned_resources AS o JOIN r ON r.id = o.resource_id";
    assert!(names(&recursion(join)).contains(&"rows so far".to_owned()));
    // Of a join of which one side alone is asked for, once, a semi join is made.
    lowered(&recursion(&join.replacen("SELECT", "SELECT DISTINCT", 1))).expect("it only grows");
    for (step, why) in [
        (format!("{join} LIMIT 1"), "ORDER BY and LIMIT around its UNION are not supported"),
        (format!("({join} LIMIT 1)"), "a limit over the recursion could take rows back"),
        ("SELECT max(id) FROM r".to_owned(), "an aggregate over the recursion could take rows back"),
        ("SELECT a.id FROM r AS a JOIN r AS b ON a.id = b.id".to_owned(), "it names itself 2 times"),
        (
            "SELECT o.orphaned_by FROM orphaned_resources AS o LEFT JOIN r ON r.id = o.resource_id".to_owned(),
            "looks for missing rows over the recursion could take rows back",
        ),
        (
            "SELECT orphaned_by FROM orphaned_resources WHERE resource_id IN (SELECT id FROM r)".to_owned(),
            "it names itself in a subquery; write a JOIN with it",
        ),
    ] {
        let refused = refused(&recursion(&step));
        assert!(refused.contains(why), "{step}: {refused}");
    }
}

#[test]
fn what_would_fail_for_every_row_is_refused() {
    let select = |expression: &str| format!("SELECT {expression} AS x FROM resources");
    assert!(
        refused(&select("date_trunc('age', updated_at)"))
            .starts_with("x.sql:1:8: function date_trunc(): fails for every row")
    );
    assert!(refused(&select("extract(age FROM updated_at)")).starts_with("x.sql:1:8: extract(): fails for every row"));
    assert!(refused(&select("data @> '{}'")).starts_with("x.sql:1:13: operator @>: is not supported"));
    // A row can be found for which these do not fail, or which never gets so far.
    for expression in ["1 / partition", "CASE WHEN partition > 0 THEN 1 / 0 END", "CAST(topic AS BIGINT)", "1 / 0"] {
        lowered(&select(expression)).expect(expression);
    }
}
