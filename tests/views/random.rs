//! Generated queries over random logs.
//!
//! A case has a log and some queries, which share an engine. Some read views; most are there from the start, some come
//! late, some are replaced by others with the same columns, some are removed; some are there twice, once from the start
//! and once late. A query that planning refuses is counted, as is a comparison that has no answer; both must be rare.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use tarn::model::Topics;
use tarn::sql::{QueryFile, Tables};

use super::cases::{Case, Tally, Wanted, Wrong, reads, refusals};
use super::choices::{Choices, shrink};
use super::events::{random_log, tables};
use super::generator::{self, Generated, Kind, Readable};
use crate::property::number;

/// How many queries a case has.
const QUERIES: usize = 10;
/// How many records a case has at most.
const RECORDS_MAX: usize = 60;
/// How many queries are checked if nothing else is said.
const CHECKS: usize = 2_000;
/// How often a smaller case is tried.
const SHRINK_TRIES: usize = 150;

static WORLD: LazyLock<(Topics, Arc<Tables>)> = LazyLock::new(|| {
    let topics = Topics::default();
    let tables = Arc::new(tables(&topics));
    (topics, tables)
});

/// Views that are always there, for others to read.
const FIXED: [(&str, &str, &[Kind]); 4] = [
    (
        "enabled_gadgets",
        "SELECT local_resource_id AS c1, count AS c2, weight AS c3, colour AS c4, updated_at AS c5
         FROM gadget WHERE enabled IS NOT FALSE",
        &[Kind::Text, Kind::Int, Kind::Float, Kind::Text, Kind::Time],
    ),
    (
        "gadgets_by_workspace",
        "SELECT workspace_id AS c1, count(*) AS c2, sum(weight) AS c3 FROM gadget GROUP BY workspace_id",
        &[Kind::Text, Kind::Int, Kind::Float],
    ),
    (
        "recent",
        "SELECT local_resource_id AS c1, workspace_id AS c2, updated_at AS c3 FROM resources
         WHERE updated_at > now() - INTERVAL '5 seconds'",
        &[Kind::Text, Kind::Text, Kind::Time],
    ),
    (
        "greatest_gadgets",
        "SELECT local_resource_id AS c1, count AS c2 FROM gadget ORDER BY count DESC NULLS LAST LIMIT 3",
        &[Kind::Text, Kind::Int],
    ),
];

/// What many cases were.
#[derive(Debug, Default)]
struct Total {
    generated: usize,
    checked: usize,
    refused: BTreeMap<String, usize>,
    tally: Tally,
}

/// A query with the decisions that made it.
#[derive(Debug, Clone)]
struct Query {
    wanted: Wanted,
    generated: Generated,
    choices: Vec<u32>,
    readable: Vec<Readable>,
}

fn columns(kinds: &[Kind]) -> Vec<(String, Kind)> {
    (1..).map(|number| format!("c{number}")).zip(kinds.iter().copied()).collect()
}

fn fixed() -> Vec<Wanted> {
    FIXED.iter().map(|(name, sql, _)| Wanted::new(name, sql, sql.contains("ORDER BY"))).collect()
}

/// The views that a text reads, of these, and those that they read; and itself.
fn with_what_it_reads(view: &Wanted, others: &[Wanted]) -> Vec<QueryFile> {
    let mut needed = vec![view];
    let mut next = 0;
    while let Some(reader) = needed.get(next).copied() {
        for other in others.iter().filter(|other| reads(&reader.sql, &other.name)) {
            if !needed.iter().any(|known| known.name == other.name) {
                needed.push(other);
            }
        }
        next += 1;
    }
    needed.into_iter().map(Wanted::file).collect()
}

/// A query of decisions, and why it is refused if it is.
fn make(
    name: &str,
    mut choices: Choices,
    readable: &[Readable],
    kinds: Option<&[Kind]>,
    others: &[Wanted],
) -> (Query, Option<String>) {
    let generated = generator::generate(&mut choices, readable, kinds);
    let Generated { sql, in_order, instead, failures, .. } = generated.clone();
    let wanted = Wanted { name: name.to_owned(), sql, in_order, instead, failures };
    let refused = refusals(&with_what_it_reads(&wanted, others), &WORLD.1).remove(name);
    (Query { wanted, generated, choices: choices.taken(), readable: readable.to_vec() }, refused)
}

/// The queries of a case that are not refused.
fn queries(seed: u64, total: &mut Total) -> Vec<Query> {
    let mut readable = generator::tables();
    readable
        .extend(FIXED.iter().map(|(name, _, kinds)| Readable { name: (*name).to_owned(), columns: columns(kinds) }));
    let mut others = fixed();
    let mut queries = Vec::new();
    for place in 0..QUERIES {
        let name = format!("q{place}");
        let choices = Choices::of_seed(seed.wrapping_mul(1_000).wrapping_add(place as u64 + 1));
        let (query, refused) = make(&name, choices, &readable, None, &others);
        total.generated += 1;
        match refused {
            Some(why) => note_refusal(&why, &query, total),
            None => {
                others.push(query.wanted.clone());
                readable.push(Readable { name, columns: columns(&query.generated.kinds) });
                queries.push(query);
            }
        }
    }
    queries
}

/// Refusals are told apart by what they say, not by where they say it.
fn note_refusal(why: &str, query: &Query, total: &mut Total) {
    let said = why.splitn(4, ':').nth(3).unwrap_or(why).trim();
    if std::env::var_os("TARN_VIEWS_TELL").is_some() {
        eprintln!("refused: {why}\n{}\n", query.wanted.sql);
    }
    *total.refused.entry(said.to_owned()).or_default() += 1;
}

/// The case of a seed: its queries, and when each of them is there.
fn case(seed: u64, queries: &[Query]) -> Case {
    let mut choices = Choices::of_seed(seed.wrapping_mul(1_000));
    let records = random_log(&mut choices, RECORDS_MAX);
    let workers = *choices.pick(&[1, 2, 4]);
    let epoch_records_max = choices.between(records.len().div_ceil(8).max(1), records.len().div_ceil(4).max(2));
    let restored = if choices.chance(25) { choices.below(records.len()) } else { 0 };
    let (late, last) = (choices.between(restored, records.len()), choices.between(restored, records.len()));
    let (late, last) = (late.min(last), late.max(last));
    let mut twins = Vec::new();
    let (mut first, mut second, mut third) = (fixed(), fixed(), fixed());
    let is_read = |name: &str| queries.iter().any(|query| reads(&query.wanted.sql, name));
    for query in queries {
        let Wanted { name, .. } = &query.wanted;
        // A view that is read is there from the start, so that whoever reads it can be at any time.
        if is_read(name) || choices.chance(65) {
            first.push(query.wanted.clone());
        }
        second.push(query.wanted.clone());
        if query.generated.instead.is_some() || choices.chance(10) {
            let twin = Wanted { name: format!("{name}_twin"), ..query.wanted.clone() };
            twins.push((name.clone(), twin.name.clone()));
            second.push(twin);
        }
        if is_read(name) || choices.chance(70) {
            third.push(query.wanted.clone());
        } else if choices.chance(60) {
            let seed = seed.wrapping_mul(1_000).wrapping_add(500 + third.len() as u64);
            let others = fixed();
            let readable = &query.readable[..generator::tables().len() + FIXED.len()];
            let kinds = Some(&query.generated.kinds[..]);
            let (other, refused) = make(name, Choices::of_seed(seed), readable, kinds, &others);
            third.extend(refused.is_none().then_some(other.wanted));
        }
    }
    // What is read stands before whoever reads it.
    let steps = vec![(0, first), (late.max(1), second), (last.max(1), third)];
    Case { records, workers, epoch_records_max, steps, restored, twins }
}

fn check_case(seed: u64, total: &mut Total) -> Result<(), String> {
    let queries = queries(seed, total);
    let case = case(seed, &queries);
    total.checked += queries.len();
    match case.check(&WORLD.1, &WORLD.0) {
        Ok(tally) => {
            total.tally.add(tally);
            Ok(())
        }
        Err(wrong) => Err(told(seed, &case, &queries, &wrong)),
    }
}

fn fails(case: &Case) -> bool {
    case.check(&WORLD.1, &WORLD.0).is_err()
}

/// What is wrong, with the smallest case found.
fn told(seed: u64, case: &Case, queries: &[Query], wrong: &Wrong) -> String {
    let again = format!("seed {seed}; again: TARN_VIEWS_SEED={seed} cargo test --test it views::random");
    let name = wrong.name.as_deref().unwrap_or_default();
    // A worker that does not end makes shrinking long.
    eprintln!("{again}\n{name}: {}", wrong.text);
    let suspects: Vec<&str> = match &wrong.name {
        Some(name) => vec![name.trim_end_matches("_twin")],
        None => queries.iter().map(|query| &*query.wanted.name).collect(),
    };
    let alone = suspects.iter().filter_map(|name| case.alone(name)).find(fails);
    let Some(mut least) = alone else {
        let least = case.clone().with_fewer_views(fails).with_fewer_records(SHRINK_TRIES / 2, fails);
        return format!("{again}\n{name}: {}\n(not alone)\n{}", wrong.text, least.describe());
    };
    least = least.with_fewer_records(SHRINK_TRIES, fails);
    let (_, wanted) = &least.steps[0];
    let shrunk = wanted.last().and_then(|last| queries.iter().find(|query| query.wanted.sql == last.sql));
    if let Some(query) = shrunk {
        least = with_simpler_query(least, query);
        least = least.with_fewer_records(SHRINK_TRIES, fails);
    }
    let text = match least.check(&WORLD.1, &WORLD.0) {
        Err(wrong) => format!("{}: {}", wrong.name.unwrap_or_default(), wrong.text),
        Ok(_) => "(not every time)".to_owned(),
    };
    format!("{again}\n{name}: {}\n\nThe smallest case found: {text}\n{}", wrong.text, least.describe())
}

/// The case with a simpler query in the place of this one.
fn with_simpler_query(case: Case, query: &Query) -> Case {
    let (_, wanted) = &case.steps[0];
    let others: Vec<Wanted> = fixed().into_iter().chain(wanted.iter().cloned()).collect();
    let others: Vec<Wanted> = others.into_iter().filter(|other| other.name != query.wanted.name).collect();
    let with = |choices: Vec<u32>| {
        let made = make(&query.wanted.name, Choices::given(choices), &query.readable, None, &others);
        let (simpler, None) = made else { return None };
        let files = with_what_it_reads(&simpler.wanted, &others);
        let mut wanted: Vec<Wanted> =
            others.iter().filter(|other| files.iter().any(|file| file.name == other.name)).cloned().collect();
        wanted.push(simpler.wanted);
        Some((Case { steps: vec![(0, wanted)], ..case.clone() }, simpler.choices))
    };
    let least = shrink(query.choices.clone(), SHRINK_TRIES, |choices| {
        let (candidate, choices) = with(choices)?;
        fails(&candidate).then_some(choices)
    });
    match with(least) {
        Some((simpler, _)) if fails(&simpler) => simpler,
        _ => case,
    }
}

#[test]
fn every_view_shows_what_its_text_answers_after_every_epoch() {
    let total = Mutex::new(Total::default());
    let failed: Mutex<Vec<String>> = Mutex::default();
    let one = number("TARN_VIEWS_SEED");
    let checks = number("TARN_VIEWS_CHECKS").unwrap_or(CHECKS as u64);
    let (next, done) = (AtomicU64::new(one.or(number("TARN_VIEWS_FIRST")).unwrap_or(0)), AtomicUsize::new(0));
    let work = || {
        while (done.load(Ordering::Relaxed) as u64) < checks && failed.lock().expect("no check panics").is_empty() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if one.is_some_and(|one| one != seed) {
                return;
            }
            let mut found = Total::default();
            let result = check_case(seed, &mut found);
            done.fetch_add(found.checked, Ordering::Relaxed);
            total.lock().expect("no check panics").add(found);
            if let Err(text) = result {
                failed.lock().expect("no check panics").push(text);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let (total, failed) = (total.into_inner().expect("no check panics"), failed.into_inner().expect("no check panics"));
    eprintln!("{total:#?}");
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    // Of few cases, chance says how many.
    if total.checked >= CHECKS {
        total.hold_to_bounds();
    }
}

impl Total {
    fn add(&mut self, other: Self) {
        self.generated += other.generated;
        self.checked += other.checked;
        for (why, count) in other.refused {
            *self.refused.entry(why).or_default() += count;
        }
        self.tally.add(other.tally);
    }

    /// What was not checked must not hide what was.
    fn hold_to_bounds(&self) {
        let refused: usize = self.refused.values().sum();
        assert!(refused * 100 <= self.generated * 5, "{refused} of {} queries are refused", self.generated);
        let Tally { compared, with_rows, .. } = self.tally;
        let unanswered = self.tally.count_unanswered();
        assert!(unanswered * 100 <= compared * 5, "{unanswered} of {compared} comparisons have no answer");
        let not_plain: usize = self.tally.not_plain.values().sum();
        assert!(not_plain * 100 <= compared * 10, "{not_plain} of {compared} texts have no answer unless optimised");
        assert!(with_rows * 100 >= compared * 50, "{with_rows} of {compared} comparisons are of views with rows");
    }
}
