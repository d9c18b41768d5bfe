//! `tarn replay` with views: which of them it dumps, and how it ends when one has no rows to dump.

use std::fs;

use crate::command_line::{run, text};

#[test]
fn a_replay_dumps_the_views_that_have_rows_and_fails_with_those_that_have_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, queries) = (folder.path().join("log.ndjson").display().to_string(), folder.path().join("queries"));
    assert!(run(&["generate", "--events", "300", "-o", &log]).status.success());
    let dump = folder.path().join("dump");
    fs::create_dir(&queries).expect("a folder");
    let write = |name: &str, sql: &str| fs::write(queries.join(name), sql).expect("room");
    let dumped = || -> Vec<String> {
        let files = fs::read_dir(dump.join("views")).expect("a folder").map(|entry| entry.expect("a file").file_name());
        let mut names: Vec<String> = files.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    };
    write("one.sql", "SELECT 1 AS number");
    write("rounds.sql", "SELECT 2 AS number");
    let (queries, dump_text) = (queries.display().to_string(), dump.display().to_string());
    let arguments = ["replay", &log, "--queries", &queries, "--dump", &dump_text];
    assert!(run(&arguments).status.success());
    assert_eq!(dumped(), ["one.ndjson", "rounds.ndjson"]);
    // What is in the folder beside views is somebody else's.
    fs::write(dump.join("views/notes.txt"), "mine").expect("room");
    write("rounds.sql", "WITH RECURSIVE n (i) AS (SELECT 1 UNION SELECT i + 1 FROM n) SELECT i FROM n");
    let endless = run(&arguments);
    assert_eq!(endless.status.code(), Some(1), "{endless:?}");
    assert!(text(&endless.stderr).contains("`rounds` is suspended: WITH RECURSIVE"), "{endless:?}");
    assert!(text(&endless.stdout).contains("one: 1 rows"), "the report comes first: {endless:?}");
    assert_eq!(dumped(), ["notes.txt", "one.ndjson"]);
    assert!(run(&["replay", &log, "--dump", &dump_text]).status.success());
    assert_eq!(dumped(), ["notes.txt"]);
}
