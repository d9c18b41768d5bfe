//! What PostgreSQL answers to the same text, over the same rows.
//!
//! A view, its text asked ad hoc and its text asked without an optimiser share our rules and DataFusion's planner, and may
//! be wrong alike. PostgreSQL shares nothing with them. Asked is what both mean the same by (`generate_common`); where they
//! differ in names and types, `means.sql` says to PostgreSQL what is meant. Either may refuse a text that the other
//! answers, which must be rare.

mod postgres;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::util::pretty::pretty_format_batches;
use tarn::model::Topics;
use tarn::published::ReadView;
use tarn::sql::{Effort, Tables};

use self::postgres::{Postgres, Texts, texts};
use super::choices::{Choices, shrink};
use super::comparison::ask;
use super::events::{Oddities, log_with, tables};
use super::generator::{self, Generated, Kind, Readable};
use super::guarded::guarded_run;
use crate::property::number;
use crate::support::engine::{Script, Setup};

/// How many queries are asked if nothing else is said.
const CHECKS: usize = 2_000;
/// How many queries are asked of one log.
const QUERIES: usize = 40;
/// How many records a log has at most.
const RECORDS_MAX: usize = 60;
/// How often a simpler query is tried.
const SHRINK_TRIES: usize = 400;

/// What was found.
#[derive(Debug, Default)]
struct Total {
    asked: usize,
    with_rows: usize,
    /// Those that one side does not answer, by its words.
    unanswered: BTreeMap<String, usize>,
}

enum Opinion {
    Same { rows: usize },
    Unanswered(String),
    Different(String),
}

/// The tables of generated queries, but for columns that are JSON there.
fn common_tables() -> Vec<Readable> {
    let mut tables = generator::tables();
    tables.iter_mut().for_each(|table| table.columns.retain(|(name, _)| name != "data"));
    tables
}

/// The last instant of a log.
fn instant(choices: &mut Choices, tables: &Arc<Tables>, topics: &Topics) -> Arc<ReadView> {
    let odd = Oddities { mistyped: 0, extreme: 0, poison: *choices.pick(&[0, 10]) };
    let mut records = log_with(choices, RECORDS_MAX, odd);
    for value in records.iter_mut().filter_map(|record| record.value.as_mut()) {
        // Whatever is summed has few binary digits.
        let text = String::from_utf8(std::mem::take(value)).expect("texts");
        *value = text.replace(":0.1", ":0.25").replace(":0.2", ":0.5").replace(":0.3", ":0.75").into_bytes();
    }
    let script = Script { tables: Arc::clone(tables), topics: topics.clone(), steps: Vec::new() };
    let run = guarded_run(records, &Setup { script, ..Setup::default() }).expect("a run without views");
    Arc::clone(run.views.last().expect("an epoch"))
}

/// Gives PostgreSQL all rows of an instant.
fn hold(postgres: &mut Postgres, view: &Arc<ReadView>, tables: &Arc<Tables>, readable: &[Readable]) {
    postgres.begin(view.epoch());
    for table in readable {
        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
        let kinds: Vec<Kind> = table.columns.iter().map(|(_, kind)| *kind).collect();
        let sql = format!("SELECT {} FROM {}", columns.join(", "), table.name);
        let rows = ask(&sql, view, tables, Effort::Least).expect("rows of a table");
        assert_eq!(rows.unread, 0, "{}", table.name);
        postgres.hold(table, &texts(&rows, &kinds));
    }
}

fn compare(postgres: &mut Postgres, view: &Arc<ReadView>, tables: &Arc<Tables>, query: &Generated) -> Opinion {
    let ours = match ask(&query.sql, view, tables, Effort::Fast) {
        Ok(answer) => texts(&answer, &query.kinds),
        Err(error) => {
            let said = error.to_string();
            let said = said.splitn(4, ':').nth(3).unwrap_or(&said);
            return Opinion::Unanswered(format!("ours: {}", said.trim()));
        }
    };
    let mut theirs = match postgres.ask(&query.sql, &query.kinds) {
        Ok(theirs) => theirs,
        Err(said) => return Opinion::Unanswered(format!("PostgreSQL: {said}")),
    };
    let (rows, mut sorted) = (ours.len(), ours.clone());
    if !query.in_order {
        sorted.sort();
        theirs.sort();
    }
    if sorted == theirs {
        return Opinion::Same { rows };
    }
    let told = |rows: &[Texts]| rows.iter().take(12).map(|row| format!("  {row:?}\n")).collect::<String>();
    // So that it is known where to look.
    let plain = ask(&query.sql, view, tables, Effort::Least).map(|answer| texts(&answer, &query.kinds));
    let plain = plain.map_or_else(|error| format!("{error}\n"), |rows| told(&rows));
    let (many, few) = (sorted.len(), theirs.len());
    let (ours, theirs) = (told(&sorted), told(&theirs));
    Opinion::Different(format!(
        "{many} rows:\n{ours}of PostgreSQL {few} rows:\n{theirs}without being optimised:\n{plain}"
    ))
}

/// What is wrong, with the simplest query found that is wrong over the same rows.
fn told(
    seed: u64,
    choices: Choices,
    postgres: &mut Postgres,
    view: &Arc<ReadView>,
    tables: &Arc<Tables>,
    readable: &[Readable],
) -> String {
    let mut find = |given: Vec<u32>| {
        let mut choices = Choices::given(given);
        let query = generator::generate_common(&mut choices, readable);
        match compare(postgres, view, tables, &query) {
            Opinion::Different(text) => Some((choices.taken(), query, text)),
            _ => None,
        }
    };
    let least = shrink(choices.taken(), SHRINK_TRIES, |given| find(given).map(|(taken, ..)| taken));
    let (_, query, text) = find(least).expect("the simplest that is wrong");
    for table in readable.iter().filter(|table| query.sql.contains(&table.name)) {
        let rows = ask(&format!("SELECT * FROM {}", table.name), view, tables, Effort::Least).expect("rows of a table");
        let shown = pretty_format_batches(&[rows.batch]).expect("columns of text");
        eprintln!("{}\n{shown}", table.name);
    }
    format!(
        "seed {seed}; again: TARN_VIEWS_SEED={seed} cargo test --test it views::second_opinion\n{}\n{text}",
        query.sql
    )
}

#[test]
fn what_is_asked_is_answered_as_postgresql_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mut postgres) = Postgres::start("views::second_opinion", folder.path()) else { return };
    let topics = Topics::default();
    let tables = Arc::new(tables(&topics));
    let readable = common_tables();
    let one = number("TARN_VIEWS_SEED");
    let checks = number("TARN_VIEWS_CHECKS").unwrap_or(CHECKS as u64);
    let mut total = Total::default();
    let mut failed: Vec<String> = Vec::new();
    for seed in one.or(number("TARN_VIEWS_FIRST")).unwrap_or(0).. {
        if total.asked as u64 >= checks || !failed.is_empty() || one.is_some_and(|one| one != seed) {
            break;
        }
        let view = instant(&mut Choices::of_seed(seed.wrapping_mul(1_000)), &tables, &topics);
        hold(&mut postgres, &view, &tables, &readable);
        for place in 1..=QUERIES as u64 {
            let mut choices = Choices::of_seed(seed.wrapping_mul(1_000).wrapping_add(place));
            let query = generator::generate_common(&mut choices, &readable);
            total.asked += 1;
            match compare(&mut postgres, &view, &tables, &query) {
                Opinion::Same { rows } => total.with_rows += usize::from(rows > 0),
                Opinion::Unanswered(why) => {
                    if std::env::var_os("TARN_VIEWS_TELL").is_some() {
                        eprintln!("{why}\n{}\n", query.sql);
                    }
                    *total.unanswered.entry(why).or_default() += 1;
                }
                Opinion::Different(_) => {
                    failed.push(told(seed, choices, &mut postgres, &view, &tables, &readable));
                }
            }
        }
    }
    eprintln!("{total:#?}");
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    // Of few queries, chance says how many.
    if total.asked >= CHECKS {
        let unanswered: usize = total.unanswered.values().sum();
        assert!(unanswered * 100 <= total.asked * 10, "{unanswered} of {} are not answered", total.asked);
        assert!(total.with_rows * 100 >= total.asked * 40, "{} of {} have rows", total.with_rows, total.asked);
    }
}
