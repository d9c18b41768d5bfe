//! The check of a folder of queries: every one is planned, and the unit tests beside them (`NAME.test.yaml`) are run.
//!
//! In: a folder, and the configuration that a service would have. Out: what is refused and what fails, each as text that
//! begins with `file:line`. A test is events in and rows out, step by step in time; what is between is what serves
//! ([`super::scripted`]), so a test takes milliseconds and proves what a server would show. `queries/README.md` describes
//! the format for those who write it ([`file`]).

mod events;
mod file;
mod moment;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scripted::Scripted;
use crate::config::Config;
use crate::model::Topics;
use crate::published::{CatalogView, ReadView};
use crate::sql::{Failure, SchemaFolderError, Tables, ViewPlan, plan_queries, read_queries, text_file};
use file::{Case, ExpectedError, Step};
use table::{Cells, ExpectedRows};

/// What a file of tests is called, after the name of its view.
const SUFFIX: &str = ".test.yaml";
/// What it may be called by mistake.
const OTHER_SUFFIX: &str = ".test.yml";
/// A longer file of tests is not read.
const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What the signs of a difference mean.
const SIGNS: &str = "(`-` expected and not there, `+` there and not expected)";

/// A folder that cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be read.
    #[error("the folder of queries {} cannot be read", path.display())]
    Folder {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The schemas from which tables are made cannot be used.
    #[error("the folder of resource schemas cannot be used")]
    Tables(#[from] SchemaFolderError),
}

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Checked {
    /// The views that were planned, each after those that it reads.
    pub plans: Vec<Arc<ViewPlan>>,
    /// Queries that are refused.
    pub refusals: Vec<String>,
    /// How many tests were run.
    pub tests: usize,
    /// Tests that failed, and files of tests that cannot be read.
    pub failures: Vec<String>,
}

impl Checked {
    /// Whether there is nothing to mend.
    pub fn is_good(&self) -> bool {
        self.refusals.is_empty() && self.failures.is_empty()
    }
}

/// The tables that a service of this configuration has; `topics` names those of its events.
pub fn tables(config: &Config, topics: &Topics) -> Result<Tables, SchemaFolderError> {
    let folder = Path::new(&config.views.schema_directory);
    Tables::read(Some(folder).filter(|path| !path.as_os_str().is_empty() && path.exists()), topics)
}

/// Plans every query of a folder.
pub fn plan(config: &Config, folder: &Path) -> Result<Checked, CheckError> {
    planned(config, folder, &Topics::default())
}

/// Plans every query of a folder and runs the tests beside them.
pub fn check(config: &Config, folder: &Path) -> Result<Checked, CheckError> {
    let topics = Topics::default();
    let mut checked = planned(config, folder, &topics)?;
    for path in test_files(folder)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = name.strip_suffix(SUFFIX) else {
            checked.failures.push(format!("{}:1:1: is not read; tests stand in NAME{SUFFIX}", path.display()));
            continue;
        };
        let text = match text_file::read(&path, TEXT_BYTES_MAX) {
            Ok(text) => text,
            Err(error) => {
                checked.failures.push(format!("{}:1:1: it cannot be read: {error}", path.display()));
                continue;
            }
        };
        let Some(plan) = checked.plans.iter().find(|plan| &*plan.name == name).cloned() else {
            if !folder.join(format!("{name}.sql")).exists() {
                checked.failures.push(format!("{}:1:1: there is no query `{name}.sql` beside it", path.display()));
            }
            continue;
        };
        match file::parse(&text, &plan) {
            Err(fault) => {
                let file::Fault { line, column, message } = fault;
                checked.failures.push(format!("{}:{line}:{column}: {message}", path.display()));
            }
            Ok(cases) if cases.is_empty() => {
                checked
                    .failures
                    .push(format!("{}:1:1: there is no test in it; write one, or leave it out", path.display()));
            }
            Ok(cases) => {
                let needed = needed(&plan, &checked.plans);
                checked.tests += cases.len();
                let failed = cases.iter().filter_map(|case| run(case, &plan, &needed, config, &topics).err());
                checked.failures.extend(failed.map(|failed| format!("{}:{failed}", path.display())));
            }
        }
    }
    Ok(checked)
}

fn planned(config: &Config, folder: &Path, topics: &Topics) -> Result<Checked, CheckError> {
    let unreadable = |source| CheckError::Folder { path: folder.to_owned(), source };
    let files = read_queries(folder).map_err(unreadable)?;
    let planned = plan_queries(&files, &tables(config, topics)?);
    let refusals = planned.refusals.iter().map(|(_, refusal)| refusal.to_string()).collect();
    Ok(Checked { plans: planned.views, refusals, ..Checked::default() })
}

/// The files of tests in a folder, in order of name.
fn test_files(folder: &Path) -> Result<Vec<PathBuf>, CheckError> {
    let unreadable = |source| CheckError::Folder { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.to_str().is_some_and(|path| path.ends_with(SUFFIX) || path.ends_with(OTHER_SUFFIX)) {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// A view, and after them those that it is made of.
fn needed(plan: &Arc<ViewPlan>, all: &[Arc<ViewPlan>]) -> Vec<Arc<ViewPlan>> {
    let mut wanted = vec![&plan.name];
    // Each stands after those that it reads: from the last on, all that read a view are known before it.
    let mut needed: Vec<Arc<ViewPlan>> = Vec::new();
    for plan in all.iter().rev() {
        if wanted.contains(&&plan.name) {
            wanted.extend(&plan.reads);
            needed.push(Arc::clone(plan));
        }
    }
    needed.reverse();
    needed
}

/// Runs a test; what is wrong, from the line on.
fn run(
    case: &Case,
    plan: &Arc<ViewPlan>,
    plans: &[Arc<ViewPlan>],
    config: &Config,
    topics: &Topics,
) -> Result<(), String> {
    let mut service = Scripted::new(config, topics, plans);
    let mut before: Vec<Cells> = Vec::new();
    for step in &case.steps {
        let view = service.step(step.epoch, step.records.clone());
        let shown = view.catalog().view(&plan.name).expect("all views are there from the first epoch on");
        let rows = table::rows_of(&view, shown, &case.names);
        // A row that failed is often why the rows are others.
        let wrong = [look(step, &rows, &before, plan), look_at_errors(step, &view, shown, &case.names)];
        let wrong: Vec<String> = wrong.into_iter().flatten().collect();
        if !wrong.is_empty() {
            return Err(format!("{}: {:?}: {}", step.line, case.name, wrong.join("\n")));
        }
        before = rows;
    }
    Ok(())
}

/// What is wrong with the rows after a step.
fn look(step: &Step, rows: &[Cells], before: &[Cells], plan: &ViewPlan) -> Option<String> {
    if let Some(expected) = &step.rows
        && let Some(difference) = table::difference(expected, rows, plan)
    {
        return Some(format!("the rows are others {SIGNS}\n{difference}"));
    }
    let (expected_came, expected_left) = step.changes.as_ref()?;
    // What changes in columns that are not looked at is no change: both lists look at the same.
    let looked_at: BTreeSet<usize> = expected_came.places.iter().chain(&expected_left.places).copied().collect();
    // A list without rows names no columns; it is about those of the other one.
    let nothing = ExpectedRows { places: looked_at.iter().copied().collect(), rows: Vec::new() };
    let named = |expected| if expected == &ExpectedRows::default() { &nothing } else { expected };
    let part = |rows: &[Cells]| -> Vec<Cells> {
        if looked_at.is_empty() {
            return rows.to_vec();
        }
        let cell =
            |row: &Cells, place: usize| if looked_at.contains(&place) { row[place].clone() } else { String::new() };
        rows.iter().map(|row| (0..row.len()).map(|place| cell(row, place)).collect()).collect()
    };
    let (came, left) = table::changes(&part(before), &part(rows));
    let told = [("came", named(expected_came), came), ("left", named(expected_left), left)];
    told.into_iter().find_map(|(what, expected, found)| {
        let difference = table::difference(expected, &found, plan)?;
        Some(format!("the rows that {what} are others {SIGNS}\n{difference}"))
    })
}

/// What is wrong with the rows that could not be evaluated.
fn look_at_errors(
    step: &Step,
    view: &ReadView,
    shown: &CatalogView,
    names: &BTreeMap<String, String>,
) -> Option<String> {
    let failures: Vec<&Failure> =
        view.failures(shown.id).flat_map(|(failure, count)| std::iter::repeat_n(failure, count)).collect();
    let input = |failure: &Failure| {
        let parsed = serde_json::from_str(&failure.input).unwrap_or_default();
        table::with_names(parsed, names)
    };
    let is_as_expected = |(expected, failure): (&ExpectedError, &&Failure)| {
        let input = input(failure);
        expected.input.iter().all(|(name, value)| input.get(name) == Some(value))
            && expected.expression.as_deref().is_none_or(|expression| expression == &*failure.expression)
            && expected.reason.as_deref().is_none_or(|reason| failure.reason.contains(reason))
    };
    if step.errors.len() == failures.len() && step.errors.iter().zip(&failures).all(is_as_expected) {
        return None;
    }
    let described = failures
        .iter()
        .map(|failure| format!("  + {} of {}: {}\n", failure.expression, input(failure), failure.reason));
    let (expected, found) = (step.errors.len(), failures.len());
    let all: String = described.collect();
    Some(format!("{expected} rows that cannot be evaluated are expected, and there are {found} or others\n{all}"))
}
