//! `tarn check` over queries and the tests beside them: what it accepts, what it refuses and how it says so; and
//! `tarn replay` with views.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tarn::config::Config;
use tarn::service::view_tests::{Checked, check};

use crate::command_line::{run, tarn, text};
use crate::views_served::queries;

const COUNTS: &str = "-- Resources by workspace.\nSELECT workspace_id, count(*) AS resources, min(updated_at) AS first\n\
                      FROM resources GROUP BY workspace_id ORDER BY workspace_id";

/// What becomes of a file of tests beside `counts`.
fn checked(tests: &str) -> Checked {
    let folder = queries(&[("counts", COUNTS)]);
    fs::write(folder.path().join("counts.test.yaml"), tests).expect("room");
    check(&Config::default(), folder.path()).expect("the folder can be read")
}

/// What is said of one that fails, without its folder.
fn failure(tests: &str) -> String {
    let checked = checked(tests);
    let [failure] = &checked.failures[..] else { panic!("{tests}: {:?}", checked.failures) };
    failure.split_once("counts.test.yaml:").expect("the file is named").1.to_owned()
}

#[test]
fn what_stands_in_a_file_of_tests_is_read_strictly() {
    let step = |step: &str| format!("- name: a test\n  steps:\n    - {step}\n");
    let second = |step: &str| format!("- name: a test\n  steps:\n    - rows: []\n    - {step}\n");
    for (tests, expected) in [
        ("- name: a test\n  stops: []\n".to_owned(), "2:3: unknown field `stops`, expected one of name, steps"),
        ("- name: a test\n  steps: []\n".to_owned(), "1:9: a test has a name and at least one step"),
        (step("rows: []") + &step("rows: []"), "4:9: there is another test of the name `a test`"),
        (step("row: []"), "3:7: unknown field `row`"),
        (step("at: yesterday"), "3:11: `yesterday` is no time; it must be a time after 2015 such as"),
        (second("at: +0 ms"), "4:11: a step must be later than the one before it"),
        (second("at: 2025-01-01T00:00:00Z"), "4:11: a step must be later than the one before it"),
        (step("events: [{}]"), "3:16: an event is one of `report`, `delete` and `record`"),
        (step("events: [{report: {}}]"), "missing field `resource_id`"),
        (step("events: [{report: {resource_id: a, colour: red}}]"), "unknown field `colour`, expected one of"),
        (step("events: [{delete: {resource_id: a}, times: 0}]"), "3:16: `times` is 0; it must be from 1 to 100000"),
        (step("events: [{report: {resource_id: a, event_time: now}}]"), "3:16: `now` is no time"),
        (
            step("rows: [{colour: red}]"),
            "3:14: `counts` has no column `colour`; there are workspace_id, resources, first",
        ),
        (step("rows: [{}]"), "3:14: a row names at least one column"),
        (
            step("rows: [{workspace_id: a}, {workspace_id: b, resources: 1}]"),
            "3:33: rows of a list name the same columns, and `resources` is not in all of them",
        ),
        (step("rows: [{resources: many}]"), "3:14: `many` is no value of the column `resources`, which is bigint"),
        (step("rows: [{workspace_id: 1.30}]"), "`workspace_id` is text, and 1.3 is not: write it in quotes"),
        ("not a list".to_owned(), "1:1: "),
        ("- name: [".to_owned(), "1:"),
    ] {
        let said = failure(&tests);
        assert!(said.contains(expected), "{tests}\n{said}");
        assert!(said.split(':').take(2).all(|number| number.parse::<u64>().is_ok()), "it begins with a place: {said}");
    }
}

#[test]
fn a_test_that_fails_says_what_came() {
    let tests = "- name: two workspaces
  steps:
    - events:
        - report: {resource_id: web-1, workspace_id: blue}
        - report: {resource_id: web-2, workspace_id: green}
    - events:
        - report: {resource_id: web-3, workspace_id: green}
      EXPECTED
";
    let said = |expected: &str| failure(&tests.replace("EXPECTED", expected));
    assert_eq!(
        said("rows: [{workspace_id: blue, resources: 1}, {workspace_id: green, resources: 1}]"),
        "6: \"two workspaces\": the rows are others (`-` expected and not there, `+` there and not expected)\n    \
         workspace_id  resources\n    blue          1\n  - green         1\n  + green         2\n"
    );
    assert_eq!(
        said("changes: {came: [{workspace_id: green, resources: 2}]}"),
        "6: \"two workspaces\": the rows that left are others (`-` expected and not there, `+` there and not expected)\n    \
         workspace_id  resources\n  + green         1\n"
    );
    let swapped = said("rows: [{workspace_id: green}, {workspace_id: blue}]");
    assert!(swapped.contains("  - green") || swapped.contains("  + green"), "the order counts: {swapped}");
    let errors = said("errors: [{expression: x}]");
    assert!(errors.contains("1 rows that cannot be evaluated are expected, and there are 0"), "{errors}");
    for right in [
        "changes: {left: [{workspace_id: green, resources: 1}], came: [{workspace_id: green, resources: 2}]}",
        "changes: {left: [{resources: 1}], came: [{resources: 2}]}",
        "rows: [{first: 2026-01-01T00:00:00Z}, {first: 2026-01-01T01:00:00+01:00}]",
        "errors: []",
        "rows: [{resources: 1.0}, {resources: 2.0}]",
    ] {
        let checked = checked(&tests.replace("EXPECTED", right));
        assert!(checked.is_good() && checked.tests == 1, "{right}: {:?}", checked.failures);
    }
}

#[test]
fn events_are_what_they_would_be_in_production() {
    let checked = checked(
        r#"
- name: what a report does not say stays, a delete begins anew, and records stand as they are
  steps:
    - at: 2026-11-01T00:00:00Z
      events:
        - report: {resource_id: web-1, workspace_id: blue, event_time: -1 h}
      rows:
        - {workspace_id: blue, resources: 1, first: 2026-10-31T23:00:00Z}
    - events:
        - report: {resource_id: web-1, event_time: -1 min}
      rows:
        - {workspace_id: blue, resources: 1, first: 2026-10-31T23:59:01Z}
    - events:
        - delete: {resource_id: web-1}
        - report: {resource_id: web-1}
      rows:
        - {workspace_id: null, resources: 1}
    - events:
        # The same event a second time changes nothing, whatever it says.
        - report: {resource_id: web-2, workspace_id: green, event_id: 01a20728-0000-7000-8000-000000000001}
        - report: {resource_id: web-2, workspace_id: blue, event_id: 01a20728-0000-7000-8000-000000000001}
        - record:
            headers: {id: e, operation: created}
            key: 019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10
            value: this is no event
      rows:
        - {workspace_id: green}
        - {workspace_id: null}
    - events:
        - record:
            headers: {operation: deleted}
            key: 019ba0c4-5f6e-7c11-9c52-000000000007
            value: {}
        - times: 3
          report: {resource_id: "web-{n}", workspace_id: "w-{n}"}
      rows:
        - {workspace_id: w-1, resources: 1}
        - {workspace_id: w-2, resources: 1}
        - {workspace_id: w-3, resources: 1}
"#,
    );
    assert!(checked.is_good(), "{}", checked.failures.join("\n"));
}

/// `tarn check` over a folder.
fn check_folder(folder: &Path, more: &[&str]) -> Output {
    let folder = folder.display().to_string();
    run(&[&["check", "--queries", &folder], more].concat())
}

#[test]
fn check_proves_queries_and_runs_their_tests() {
    let folder = queries(&[("counts", COUNTS), ("over", "SELECT sum(resources) AS resources FROM counts")]);
    let tests = "- name: t\n  steps:\n    - events: [{report: {resource_id: a}}]\n      rows: [{resources: 1}]\n";
    fs::write(folder.path().join("over.test.yaml"), tests).expect("room");
    let good = check_folder(folder.path(), &[]);
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert!(text(&good.stdout).ends_with("2 views can be maintained; 1 tests passed\n"), "{good:?}");

    let explained = check_folder(folder.path(), &["--explain", "counts"]);
    let said = text(&explained.stdout);
    assert!(said.starts_with("view counts: Resources by workspace.\n\nlogical plan\n"), "{said}");
    assert!(
        said.contains("\noperators\n  #1 rows sorted by workspace_id") && said.contains("table resources: "),
        "{said}"
    );
    let nothing = check_folder(folder.path(), &["--explain", "nothing"]);
    assert!(
        nothing.status.code() == Some(2) && text(&nothing.stderr).contains("there are counts, over"),
        "{nothing:?}"
    );

    fs::write(folder.path().join("bad.sql"), "SELECT resource_id\nFROM nowhere").expect("room");
    fs::write(folder.path().join("lost.test.yaml"), tests).expect("room");
    fs::write(folder.path().join("counts.test.yaml"), tests).expect("room");
    fs::write(folder.path().join("over.test.yaml"), tests.replace("resources: 1", "resources: 2")).expect("room");
    let bad = check_folder(folder.path(), &[]);
    let said = text(&bad.stdout);
    let place = |name: &str| format!("{}:", folder.path().join(name).display());
    for line in [place("bad.sql") + "2:6: ", place("lost.test.yaml") + "1:1: ", place("over.test.yaml") + "3: \"t\": "]
    {
        assert!(said.lines().any(|said| said.starts_with(&line)), "{line} in {said}");
    }
    assert!(!said.contains("counts.test.yaml"), "{said}");
    let error = text(&bad.stderr);
    assert!(error.contains("1 queries are refused, 2 tests fail or cannot be read"), "{error}");
    assert_eq!(bad.status.code(), Some(2));
    assert_eq!(check_folder(Path::new("/nowhere"), &[]).status.code(), Some(2));
    let without = tarn(&["check"]).env("TARN_VIEWS__DIRECTORY", "").output().expect("it runs");
    assert!(without.status.code() == Some(0) && text(&without.stdout).contains("there are no views"), "{without:?}");
}

#[test]
fn replay_maintains_views_and_writes_their_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log").display().to_string();
    assert!(run(&["generate", "--events", "2000", "--resources", "300", "-o", &log]).status.success());
    let views =
        queries(&[("counts", COUNTS), ("all_ids", "SELECT resource_id FROM resources ORDER BY resource_id DESC")]);
    let (queries, state) = (views.path().display().to_string(), folder.path().join("state"));
    let dump = state.display().to_string();
    for workers in ["1", "2"] {
        let arguments =
            ["replay", &log, "--queries", &queries, "--dump", &dump, "--report", "json", "--workers", workers];
        let replayed = run(&arguments);
        assert!(replayed.status.success(), "{replayed:?}");
        let report: Value = serde_json::from_slice(&replayed.stdout).expect("JSON");
        assert!(report["timeToLastViewSeconds"].as_f64() > Some(0.0), "{report}");
        let lines = |name: &str| -> Vec<Value> {
            let text = fs::read_to_string(state.join(name)).expect("it is written");
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
        };
        let resources = lines("resources.ndjson");
        let ids = lines("views/all_ids.ndjson");
        let expected = resources.iter().rev().map(|resource| &resource["resourceId"]);
        assert!(ids.iter().map(|row| &row["resource_id"]).eq(expected), "in the view's order");
        let counts = lines("views/counts.ndjson");
        assert_eq!(counts.iter().filter_map(|row| row["resources"].as_u64()).sum::<u64>(), resources.len() as u64);
        let views = report["views"].as_array().expect("a list");
        let told: Vec<_> = views.iter().map(|view| (&view["name"], &view["rows"], &view["health"])).collect();
        let healthy = Value::from("healthy");
        let (all, some) = (Value::from(ids.len()), Value::from(counts.len()));
        assert_eq!(told, [(&"all_ids".into(), &all, &healthy), (&"counts".into(), &some, &healthy)]);
    }
    let human = text(&run(&["replay", &log, "--queries", &queries]).stdout);
    assert!(human.contains("2 views, the last complete after") && human.contains("  counts: "), "{human}");
    let none: Value = serde_json::from_slice(&run(&["replay", &log, "--report", "json"]).stdout).expect("JSON");
    assert_eq!((&none["views"], &none["timeToLastViewSeconds"]), (&Value::from(Vec::<Value>::new()), &Value::Null));
    fs::write(views.path().join("bad.sql"), "SELECT").expect("room");
    let refused = run(&["replay", &log, "--queries", &queries]);
    assert!(refused.status.code() == Some(2) && text(&refused.stderr).contains("bad.sql:1:"), "{refused:?}");
}

#[test]
fn what_is_no_file_of_text_is_refused_and_nobody_waits_for_it() {
    let folder = queries(&[("counts", COUNTS)]);
    let path = |name: &str| folder.path().join(name);
    assert!(std::process::Command::new("mkfifo").arg(path("pipe.sql")).status().expect("mkfifo").success());
    assert!(std::process::Command::new("mkfifo").arg(path("counts.test.yaml")).status().expect("mkfifo").success());
    fs::create_dir(path("folder.sql")).expect("room");
    fs::create_dir(path("folder.test.yaml")).expect("room");
    fs::write(path("long.sql"), " ".repeat(100_000)).expect("room");
    fs::write(path("bytes.test.yaml"), b"- name: \xff\n").expect("room");
    fs::write(path("counts.test.yml"), "[]").expect("room");
    fs::write(path("marked.sql"), "\u{feff}SELECT 1 AS one").expect("room");
    let checked = check(&Config::default(), folder.path()).expect("the folder can be read");
    let names: Vec<&str> = checked.plans.iter().map(|plan| &*plan.name).collect();
    assert_eq!(names, ["counts", "marked"]);
    let said = |texts: &[String], file: &str, words: &str| {
        let found = texts.iter().any(|text| text.contains(&format!("{file}:1:1: ")) && text.contains(words));
        assert!(found, "{file}: {words} in {texts:#?}");
    };
    said(&checked.refusals, "pipe.sql", "it is not a regular file");
    said(&checked.refusals, "folder.sql", "it is not a regular file");
    said(&checked.refusals, "long.sql", "more than 65536 bytes");
    said(&checked.failures, "counts.test.yaml", "it is not a regular file");
    said(&checked.failures, "folder.test.yaml", "it is not a regular file");
    said(&checked.failures, "bytes.test.yaml", "it is not UTF-8 after its first 8 bytes");
    said(&checked.failures, "counts.test.yml", "is not read; tests stand in NAME.test.yaml");
    fs::remove_file(path("counts.test.yaml")).expect("there");
    fs::write(path("counts.test.yaml"), "").expect("room");
    let checked = check(&Config::default(), folder.path()).expect("the folder can be read");
    said(&checked.failures, "counts.test.yaml", "there is no test in it");
}
