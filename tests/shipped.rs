//! The shipped views: each has a description and tests that pass, and is computed as `tests/explain/NAME.txt` says.
//!
//! `TARN_WRITE_EXPLAIN=1 cargo test --test it shipped` writes these files anew; what changed is then for people to judge.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tarn::config::Config;
use tarn::service::view_tests::{check, plan};

/// Files of a folder with this ending, without it.
fn names(folder: &str, ending: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    entries.filter_map(|name| Some(name.to_str()?.strip_suffix(ending)?.to_owned())).collect()
}

#[test]
fn every_view_is_described_and_its_tests_pass() {
    let checked = check(&Config::default(), Path::new("queries")).expect("the folder can be read");
    let wrong: Vec<String> = checked.refusals.iter().chain(&checked.failures).cloned().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let views: BTreeSet<String> = checked.plans.iter().map(|plan| plan.name.to_string()).collect();
    assert_eq!(views, names("queries", ".sql"));
    assert_eq!(views, names("queries", ".test.yaml"), "each has tests");
    assert!(checked.tests >= views.len(), "{} tests", checked.tests);
    for plan in &checked.plans {
        assert!(
            plan.description.ends_with('.') && plan.description.len() > 20,
            "{}: {:?}",
            plan.name,
            plan.description
        );
    }
}

#[test]
fn every_view_is_computed_as_its_explanation_says() {
    let planned = plan(&Config::default(), Path::new("queries")).expect("the folder can be read");
    let file = |name: &str| PathBuf::from(format!("tests/explain/{name}.txt"));
    if std::env::var_os("TARN_WRITE_EXPLAIN").is_some() {
        fs::create_dir_all("tests/explain").expect("room");
        names("tests/explain", ".txt").iter().for_each(|name| fs::remove_file(file(name)).expect("it is there"));
        for plan in &planned.plans {
            fs::write(file(&plan.name), plan.explain(&|_| String::new())).expect("room");
        }
    }
    let views: BTreeSet<String> = planned.plans.iter().map(|plan| plan.name.to_string()).collect();
    assert_eq!(names("tests/explain", ".txt"), views, "`//!` says how they are written");
    for plan in &planned.plans {
        let expected = fs::read_to_string(file(&plan.name)).expect("it is there");
        let found = plan.explain(&|_| String::new());
        assert!(found == expected, "{} is computed otherwise:\n{found}", plan.name);
    }
}
