//! Style that is a rule: files open by saying what holds, stay short, import downwards, and big libraries stay in one
//! place.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.push((path, text));
            }
        }
    }
    found
}

/// The part of the pipeline that a file belongs to.
fn part(path: &Path) -> String {
    let inside = path.strip_prefix("src").expect("in src");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn every_file_opens_with_what_it_promises_and_is_short() {
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        assert!(text.starts_with("//!"), "{}: a file opens with //!", path.display());
        let lines = text.lines().count();
        assert!(lines <= 500, "{}: {lines} lines; 500 are allowed", path.display());
    }
}

#[test]
fn imports_go_one_way() {
    // A part imports only those before it.
    let order = [
        "background",
        "clock",
        "histogram",
        "model",
        "source",
        "decode",
        "fold",
        "sql",
        "dataflow",
        "published",
        "generate",
        "snapshot",
        "durable",
        "config",
        "service",
        "telemetry",
        "http",
    ];
    for (path, text) in sources("src") {
        let part = part(&path);
        let Some(place) = order.iter().position(|known| *known == part) else {
            assert!(["main", "lib", "cli"].contains(&part.as_str()), "{}: where does it stand?", path.display());
            continue;
        };
        for (above, other) in order.iter().enumerate().skip(place + 1) {
            let import = format!("crate::{other}");
            assert!(
                !text.contains(&import),
                "{}: `{part}` ({place}) may not import `{other}` ({above})",
                path.display()
            );
        }
    }
}

#[test]
fn big_libraries_live_in_one_part() {
    let homes = [
        ("timely", "dataflow"),
        ("datafusion", "sql"),
        ("differential_dataflow", "dataflow"),
        ("rdkafka", "source"),
        ("axum", "http"),
        ("sled", "snapshot"),
    ];
    for (path, text) in sources("src") {
        for (library, home) in homes {
            let used = text.contains(&format!("use {library}::")) || text.contains(&format!(" {library}::"));
            assert!(!used || part(&path) == home, "{}: {library} lives in {home}", path.display());
        }
    }
}
