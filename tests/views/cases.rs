//! A case: a log, some queries, and when each of them is a view. What is checked of it, and how a case that fails is made
//! smaller.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use tarn::published::ReadView;
use tarn::sql::{QueryFile, Tables, plan_queries};

use super::comparison::{Comparison, compare, difference, shown};
use super::guarded::guarded_run;
use crate::support::engine::{Given, Script, Setup, run};

/// A view that there is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its text.
    pub sql: String,
    /// Whether its rows have an order.
    pub in_order: bool,
    /// The text that says what it answers; none: its own.
    pub instead: Option<String>,
    /// A text that says how many rows cannot be evaluated; none: it is not compared.
    pub failures: Option<String>,
}

impl Wanted {
    /// A view that means what it says.
    pub fn new(name: &str, sql: &str, in_order: bool) -> Self {
        Self { name: name.to_owned(), sql: sql.to_owned(), in_order, instead: None, failures: None }
    }

    /// The file that asks for it.
    pub fn file(&self) -> QueryFile {
        QueryFile::new(&self.name, &self.sql)
    }
}

/// A log, and which views there are to be when so many records were read.
#[derive(Debug, Clone)]
pub struct Case {
    pub records: Vec<Given>,
    pub workers: usize,
    pub epoch_records_max: usize,
    /// Ascending.
    pub steps: Vec<(usize, Vec<Wanted>)>,
    /// So many records were read before, by an engine without views, and what they left is restored.
    pub restored: usize,
    /// Views of one text: from when both are shown they show the same.
    pub twins: Vec<(String, String)>,
}

/// What was compared.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Views at instants.
    pub compared: usize,
    /// Among them those that have rows.
    pub with_rows: usize,
    /// The views that had rows once.
    pub names_with_rows: BTreeSet<String>,
    /// Those whose text could not be answered, by reason.
    pub unanswered: BTreeMap<String, usize>,
    /// Those whose text could not be answered without being optimised, by reason.
    pub not_plain: BTreeMap<String, usize>,
}

impl Tally {
    /// Adds another one's.
    pub fn add(&mut self, other: Self) {
        self.compared += other.compared;
        self.with_rows += other.with_rows;
        self.names_with_rows.extend(other.names_with_rows);
        for (reason, count) in other.unanswered {
            *self.unanswered.entry(reason).or_default() += count;
        }
        for (reason, count) in other.not_plain {
            *self.not_plain.entry(reason).or_default() += count;
        }
    }

    /// How many could not be answered.
    pub fn count_unanswered(&self) -> usize {
        self.unanswered.values().sum()
    }
}

/// A view that is wrong.
#[derive(Debug, Clone)]
pub struct Wrong {
    /// Which; none where it is the run as a whole.
    pub name: Option<String>,
    /// When and how.
    pub text: String,
}

impl Case {
    /// Runs it and compares every view with its text after every epoch.
    pub fn check(&self, tables: &Arc<Tables>, topics: &tarn::model::Topics) -> Result<Tally, Wrong> {
        let (records, setup) = self.setup(tables, topics);
        let run = guarded_run(records, &setup).map_err(|text| Wrong { name: None, text })?;
        let views: Vec<&Arc<ReadView>> = run.views.iter().filter(|view| view.epoch() > 0).collect();
        let known: BTreeMap<&str, &Wanted> = self.all().map(|wanted| (&*wanted.sql, wanted)).collect();
        let mut tally = Tally::default();
        for (number, view) in views.iter().enumerate() {
            let wrong = |name: &str, text: String| Wrong {
                name: Some(name.to_owned()),
                text: format!("epoch {} ({} of {}): {text}", view.epoch(), number + 1, views.len()),
            };
            for of in view.catalog().views() {
                tally.compared += 1;
                match compare(view, of, tables, known[&*of.plan.sql]) {
                    Comparison::Equal { rows, plain } => {
                        if rows > 0 {
                            tally.with_rows += 1;
                            tally.names_with_rows.insert(of.plan.name.to_string());
                        }
                        if let Err(reason) = plain {
                            *tally.not_plain.entry(reason).or_default() += 1;
                        }
                    }
                    Comparison::Unanswered(reason) => *tally.unanswered.entry(reason).or_default() += 1,
                    Comparison::Different(text) => return Err(wrong(&of.plan.name, text)),
                }
            }
            for (one, other) in &self.twins {
                if let Some(text) = twins_differ(view, one, other) {
                    return Err(wrong(
                        other,
                        format!("{other} has the text of {one}, but shows something else: {text}"),
                    ));
                }
            }
        }
        self.all_are_shown(views.last().expect("an epoch"))?;
        Ok(tally)
    }

    fn all(&self) -> impl Iterator<Item = &Wanted> {
        self.steps.iter().flat_map(|(_, wanted)| wanted)
    }

    /// The records and how the engine is set up.
    pub fn setup(&self, tables: &Arc<Tables>, topics: &tarn::model::Topics) -> (Vec<Given>, Setup) {
        let steps = self.steps.iter().map(|(at, wanted)| (at.saturating_sub(self.restored), wanted));
        let steps = steps.map(|(at, wanted)| (at, wanted.iter().map(Wanted::file).collect())).collect();
        let script = |steps| Script { tables: Arc::clone(tables), topics: topics.clone(), steps };
        let mut setup = Setup {
            workers: self.workers,
            epoch_records_max: self.epoch_records_max,
            slice_states: 3,
            slice_keys: 2,
            script: script(Vec::new()),
            ..Setup::default()
        };
        let (before, after) = self.records.split_at(self.restored);
        if !before.is_empty() {
            let before = run(before.to_vec(), &setup);
            let (epoch, position) = (before.last().epoch(), before.last().position());
            (setup.restored, setup.resume) = (before.last().contents(), (**position).clone());
            // The first epoch that is sealed is that of what is restored.
            setup.bindings = vec![(epoch, Arc::clone(position))];
        }
        setup.script = script(steps);
        (after.to_vec(), setup)
    }

    /// Whoever was asked for last is shown at the end, and nobody else.
    fn all_are_shown(&self, last: &ReadView) -> Result<(), Wrong> {
        let (_, wanted) = self.steps.last().expect("there are views to be");
        let wanted: BTreeMap<&str, &str> = wanted.iter().map(|view| (&*view.name, &*view.sql)).collect();
        let found = last.catalog().views().map(|view| (&*view.plan.name, &*view.plan.sql)).collect();
        if wanted == found {
            return Ok(());
        }
        let names = |of: &BTreeMap<&str, &str>| of.keys().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let text = format!("wanted at the end: {:?}, shown: {:?}", names(&wanted), names(&found));
        Err(Wrong { name: None, text })
    }

    /// The case with one view alone, and those that it reads, from the start to the end.
    pub fn alone(&self, name: &str) -> Option<Self> {
        let (_, wanted) = self.steps.iter().rev().find(|(_, wanted)| wanted.iter().any(|view| view.name == name))?;
        let mut needed = BTreeSet::from([name]);
        for view in wanted.iter().rev() {
            if needed.contains(&*view.name) {
                needed.extend(wanted.iter().filter(|other| reads(&view.sql, &other.name)).map(|other| &*other.name));
            }
        }
        let wanted = wanted.iter().filter(|view| needed.contains(&*view.name)).cloned().collect();
        Some(Self { steps: vec![(0, wanted)], restored: 0, twins: Vec::new(), ..self.clone() })
    }

    /// The case without the views that it fails without too.
    pub fn with_fewer_views(mut self, fails: impl Fn(&Self) -> bool) -> Self {
        let names: BTreeSet<String> = self.all().map(|wanted| wanted.name.clone()).collect();
        for name in names.iter().rev() {
            if self.all().any(|view| view.name != *name && reads(&view.sql, name)) {
                continue;
            }
            let mut fewer = self.clone();
            fewer.steps.iter_mut().for_each(|(_, wanted)| wanted.retain(|view| view.name != *name));
            fewer.twins.retain(|(one, other)| one != name && other != name);
            if fails(&fewer) {
                self = fewer;
            }
        }
        self
    }

    /// The case with as few records as it takes, within so many tries.
    pub fn with_fewer_records(mut self, mut tries: usize, fails: impl Fn(&Self) -> bool) -> Self {
        let mut width = self.records.len().next_power_of_two();
        while width > 0 {
            let mut at = 0;
            while at < self.records.len() && tries > 0 {
                tries -= 1;
                let mut fewer = self.clone();
                fewer.records.drain(at..(at + width).min(self.records.len()));
                if !fewer.records.is_empty() && fails(&fewer) {
                    self = fewer;
                } else {
                    at += width;
                }
            }
            width /= 2;
        }
        self
    }

    /// For people.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "{} workers, {} records an epoch, {} of {} restored\n",
            self.workers,
            self.epoch_records_max,
            self.restored,
            self.records.len()
        );
        for record in &self.records {
            let value = record.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let operation = record.headers.get(1).and_then(|(_, value)| value.as_deref()).unwrap_or_default();
            let key = record.key.as_deref().unwrap_or_default();
            let id = key.trim_end_matches('"').chars().rev().take(4).collect::<Vec<_>>();
            let id: String = id.into_iter().rev().collect();
            writeln!(text, "{} {} ..{id} {operation} {value}", record.offset, record.timestamp_ms)
                .expect("memory takes any write");
        }
        for (at, wanted) in &self.steps {
            for view in wanted {
                writeln!(text, "-- from record {at} on: {}\n{}", view.name, view.sql).expect("memory takes any write");
            }
        }
        text
    }
}

/// Whether a text names a view.
pub fn reads(sql: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    sql.split(|c: char| !is_part(c)).any(|word| word == name)
}

/// Why queries are refused; none for those that are not.
pub fn refusals(queries: &[QueryFile], tables: &Tables) -> BTreeMap<String, String> {
    let refusals = plan_queries(queries, tables).refusals;
    refusals.into_iter().map(|(view, refusal)| (view, refusal.to_string())).collect()
}

/// In what two views of one text differ, failures included.
fn twins_differ(view: &ReadView, one: &str, other: &str) -> Option<String> {
    let (one, other) = (view.catalog().view(one)?, view.catalog().view(other)?);
    if one.plan.sql != other.plan.sql {
        return None;
    }
    let failures = |id| view.failures(id).map(|(failure, count)| (failure.clone(), count)).collect::<Vec<_>>();
    let (of_one, of_other) = (failures(one.id), failures(other.id));
    if of_one != of_other {
        return Some(format!("failures {of_other:#?}\nexpected: {of_one:#?}"));
    }
    difference(&shown(view, other), &shown(view, one), true)
}
