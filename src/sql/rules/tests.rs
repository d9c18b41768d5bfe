//! What rules make of queries, as the plans of views say it.

use crate::model::Topics;
use crate::sql::queries::{QueryFile, plan_queries};
use crate::sql::tables::Tables;

/// The plan of a query, or why it is refused.
fn plan(sql: &str) -> Result<String, String> {
    let tables = Tables::read(None, &Topics::default()).expect("tables that are always there");
    let planned = plan_queries(&[QueryFile::new("x", sql)], &tables);
    match &planned.refusals[..] {
        [] => Ok(planned.views[0].plan.clone()),
        [(_, refusal), ..] => Err(refusal.to_string()),
    }
}

fn has(sql: &str, part: &str) {
    let plan = plan(sql).expect(sql);
    assert!(plan.contains(part), "{sql}\nhas no {part}:\n{plan}");
}

fn lacks(sql: &str, part: &str) {
    let plan = plan(sql).expect(sql);
    assert!(!plan.contains(part), "{sql}\nhas {part}:\n{plan}");
}

#[test]
fn ties_are_broken_by_all_columns_that_are_used() {
    has(
        "SELECT offset, topic FROM resources ORDER BY topic DESC",
        "Sort: resources.topic DESC NULLS FIRST, resources.offset ASC NULLS FIRST\n",
    );
    has(
        "SELECT topic FROM resources ORDER BY partition LIMIT 3",
        "Sort: resources.partition ASC NULLS LAST, resources.topic ASC NULLS FIRST",
    );
    has("SELECT topic FROM resources LIMIT 3", "Sort: resources.topic ASC NULLS FIRST");
    lacks("SELECT topic FROM resources ORDER BY topic", "NULLS FIRST");
    has(
        "SELECT offset FROM (SELECT offset, row_number() OVER (PARTITION BY topic ORDER BY partition) AS n FROM resources) AS t WHERE n = 1",
        "ORDER BY [resources.partition ASC NULLS LAST, resources.topic ASC NULLS FIRST, resources.offset ASC NULLS FIRST]",
    );
}

#[test]
fn the_first_of_each_group_is_the_one_with_number_one() {
    let sql = "SELECT DISTINCT ON (topic) topic, offset FROM resources ORDER BY topic, offset DESC";
    has(
        sql,
        "row_number() PARTITION BY [resources.topic] ORDER BY [resources.topic ASC NULLS LAST, resources.offset DESC NULLS FIRST",
    );
    has(sql, "= UInt64(1)");
}

#[test]
fn the_time_is_the_epoch_whatever_it_is_called() {
    for time in ["now()", "current_timestamp", "NOW()"] {
        has(&format!("SELECT topic FROM resources WHERE updated_at < {time}"), "resources.updated_at < $now");
    }
    for date in ["current_date", "today()"] {
        has(&format!("SELECT topic FROM resources WHERE CAST(updated_at AS DATE) < {date}"), "CAST($now AS Date32)");
    }
    has(
        "SELECT topic FROM resources WHERE resource_id IN (SELECT resource_id FROM deleted_resources WHERE deleted_at < now())",
        "$now",
    );
}

#[test]
fn floats_that_are_keys_are_canonical() {
    let float = "CAST(partition AS DOUBLE)";
    for sql in [
        format!("SELECT {float} AS f, count(*) FROM resources GROUP BY f"),
        format!("SELECT DISTINCT {float} AS f FROM resources"),
        format!("SELECT {float} AS f FROM resources UNION SELECT 1.5"),
        format!(
            "SELECT count(*) FROM resources AS a JOIN resources AS b ON {} = {}",
            float.replace("partition", "a.partition"),
            float.replace("partition", "b.partition")
        ),
        format!(
            "SELECT topic FROM resources WHERE {float} IN (SELECT {float} FROM deleted_resources, resources AS r LIMIT 1)"
        ),
        format!(
            "SELECT topic FROM (SELECT topic, row_number() OVER (PARTITION BY {float} ORDER BY topic) AS n FROM resources) AS t WHERE n < 3"
        ),
    ] {
        if plan(&sql).is_err() {
            // Not all of these can be maintained; the others say what counts.
            continue;
        }
        has(&sql, "canonical(");
    }
    lacks(&format!("SELECT {float} AS f FROM resources WHERE {float} = 1.5"), "canonical(");
    lacks(&format!("SELECT topic FROM resources WHERE {float} = 1"), "canonical(");
    lacks("SELECT DISTINCT partition FROM resources", "canonical(");
}

#[test]
fn lengths_of_time_are_compared_by_their_length() {
    let sql =
        |interval: &str| format!("SELECT topic FROM resources WHERE updated_at - created_at > INTERVAL '{interval}'");
    has(&sql("7 days"), "DurationNanosecond(\"604800000000000\")");
    has(&sql("1 day 12 hours"), "DurationNanosecond(\"129600000000000\")");
    let refused = plan(&sql("1 month")).expect_err("it has no length");
    assert!(refused.starts_with("x.sql:1:61: INTERVAL: a month has no fixed length"), "{refused}");
    let refused = plan(&sql("300000 days")).expect_err("nanoseconds do not count so far");
    assert!(refused.contains("longer than 292 years"), "{refused}");
}
