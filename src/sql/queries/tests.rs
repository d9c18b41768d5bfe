//! Folders of queries: in which order they are planned, what they may be called, and what one does to another.

use super::*;
use crate::model::Topics;

fn planned(files: &[(&str, &str)]) -> Planned {
    let files: Vec<QueryFile> = files.iter().map(|(name, text)| QueryFile::new(name, text)).collect();
    plan_queries(&files, &Tables::read(None, &Topics::default()).expect("tables that are always there"))
}

fn names(planned: &Planned) -> Vec<&str> {
    planned.views.iter().map(|view| &*view.name).collect()
}

fn refusals(planned: &Planned) -> Vec<String> {
    planned.refusals.iter().map(|(_, refusal)| refusal.to_string()).collect()
}

#[test]
fn views_stand_after_those_that_they_read() {
    let files = [
        ("a", "SELECT resource_id FROM c JOIN b USING (resource_id)"),
        ("b", "SELECT resource_id FROM resources"),
        ("c", "-- Some.\nSELECT resource_id FROM b WHERE resource_id IN (SELECT resource_id FROM d)"),
        ("d", "WITH a AS (SELECT resource_id FROM resources) SELECT resource_id FROM a"),
    ];
    let planned = planned(&files);
    assert_eq!(names(&planned), ["b", "d", "c", "a"], "{:?}", planned.refusals);
    let reads = |place: usize| planned.views[place].reads.iter().map(|read| &**read).collect::<Vec<_>>();
    assert_eq!((reads(2), reads(3)), (vec!["b", "d"], vec!["b", "c"]));
    assert_eq!(reads(1), [] as [&str; 0], "a name of its own is no view");
    assert_eq!(&*planned.views[2].description, "Some.");
}

#[test]
fn a_refused_view_takes_those_with_it_that_read_it_and_no_others() {
    let files = [
        ("bad", "SELECT nothing FROM resources"),
        ("good", "SELECT resource_id FROM resources"),
        ("reader", "SELECT resource_id\nFROM good JOIN bad USING (resource_id)"),
        ("reader_of_reader", "SELECT * FROM reader"),
    ];
    let planned = planned(&files);
    assert_eq!(names(&planned), ["good"]);
    let [bad, reader, again] = &refusals(&planned)[..] else { panic!("{:?}", planned.refusals) };
    assert!(bad.starts_with("bad.sql:1:8: column nothing: there is no such column"), "{bad}");
    assert_eq!(reader, "reader.sql:2:16: view bad: is refused, and with it whatever reads it");
    assert_eq!(again, "reader_of_reader.sql:1:15: view reader: is refused, and with it whatever reads it");
}

#[test]
fn views_do_not_read_one_another_in_a_circle() {
    let files = [
        ("a", "SELECT resource_id FROM b"),
        ("b", "SELECT resource_id FROM a"),
        ("c", "SELECT resource_id FROM c"),
        ("d", "SELECT resource_id FROM a"),
    ];
    let planned = planned(&files);
    assert!(planned.views.is_empty());
    let refused = refusals(&planned);
    assert_eq!(refused.len(), 4);
    assert!(refused[0].starts_with("a.sql:1:25: view b: views read one another in a circle"), "{}", refused[0]);
    assert!(refused[2].starts_with("c.sql:1:25: view c: it is the view itself"), "{}", refused[2]);
}

#[test]
fn names_of_files_are_names_of_views() {
    let text = "SELECT resource_id FROM resources";
    for name in ["A", "1a", "a-b", "", "_a", &"a".repeat(65)] {
        let refused = refusals(&planned(&[(name, text)]));
        assert!(refused[0].contains("must be lower case letters, digits and _"), "{name}: {refused:?}");
    }
    let refused = refusals(&planned(&[("resources", text)]));
    assert!(refused[0].contains("is that of a table"), "{refused:?}");
    assert_eq!(names(&planned(&[("a_1", text), ("count", text)])), ["a_1", "count"]);
}

#[test]
fn a_file_with_the_name_of_a_table_takes_no_view_of_that_table_with_it() {
    let files = [
        ("resources", "SELECT 1 AS v"),
        ("good", "SELECT resource_id FROM resources"),
        ("over", "SELECT count(*) AS n FROM good JOIN resources USING (resource_id)"),
    ];
    let planned = planned(&files);
    assert_eq!(names(&planned), ["good", "over"]);
    let [refused] = &refusals(&planned)[..] else { panic!("{:?}", planned.refusals) };
    assert!(refused.contains("is that of a table"), "{refused}");
}

#[test]
fn types_that_rows_cannot_have_are_refused_wherever_they_stand() {
    let dictionary = |what: &str| format!("arrow_cast({what}, 'Dictionary(Int32, Utf8)')");
    let (id, text) = (dictionary("resource_id"), dictionary("'x'"));
    for sql in [
        format!("SELECT {id} AS d FROM resources"),
        format!("SELECT {text} AS d"),
        format!("SELECT {text} AS d, resource_id FROM resources"),
        format!("SELECT d FROM (VALUES ({text})) AS v (d)"),
        format!("SELECT count(*) AS n FROM resources GROUP BY {id}"),
        format!("SELECT DISTINCT {id} AS d FROM resources"),
        format!("SELECT named_struct('a', {id}) AS d FROM resources"),
        format!("SELECT resource_id FROM resources ORDER BY {id}"),
        format!("SELECT resource_id FROM resources ORDER BY {id} LIMIT 3"),
        format!("SELECT count(DISTINCT {id}) AS n FROM resources"),
        format!("SELECT count({id}) AS n FROM resources"),
        format!("SELECT a.data FROM resources a JOIN quarantine b ON {} = {}", dictionary("a.topic"), dictionary("b.topic")),
        format!("SELECT resource_id FROM (SELECT resource_id, row_number() OVER (PARTITION BY {id} ORDER BY resource_id) AS n FROM resources) WHERE n = 1"),
        "SELECT arrow_cast(resource_id, 'RunEndEncoded(\"run_ends\": non-null Int32, \"values\": Utf8)') AS d FROM resources".to_owned(),
    ] {
        let planned = planned(&[("a", &sql)]);
        let refused = refusals(&planned);
        assert!(planned.views.is_empty() && refused.len() == 1, "{sql}: {refused:?}");
        assert!(refused[0].contains("CAST it to text"), "{sql}: {refused:?}");
    }
    let kept = format!("SELECT resource_id FROM resources WHERE {id} = 'x'");
    let cast = format!("SELECT CAST({id} AS TEXT) AS d, NULL AS n FROM resources");
    for sql in [kept, cast] {
        let planned = planned(&[("a", &sql)]);
        assert_eq!(names(&planned), ["a"], "{sql}: {:?}", refusals(&planned));
    }
}

#[test]
fn what_a_view_reads_is_part_of_what_it_is() {
    let of = |text: &str| {
        let files = [("a", text), ("b", "SELECT resource_id FROM a")];
        planned(&files).views.iter().map(|view| view.fingerprint).collect::<Vec<_>>()
    };
    let (one, same) = (of("SELECT resource_id FROM resources"), of("select resource_id from resources -- the same"));
    let other = of("SELECT resource_id FROM resources WHERE resource_type = 'host'");
    assert_eq!(one, same);
    assert!(one[0] != other[0] && one[1] != other[1]);
}
