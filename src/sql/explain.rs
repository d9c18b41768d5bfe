//! A view's plan for people: the operators of its relation in SQL's words, as a tree.
//!
//! Promises: an operator that is computed once stands there once, however often it is read; equal plans have equal words;
//! no word depends on what tables hold. What operators cost is known to whoever has measured it ([`Explanation::tree`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::Field;

use super::bounds::Bounds;
use super::program::Program;
use super::relation::{Fingerprint, Keep, Keyed, Operator, Relation};
use super::view_plan::ViewPlan;
use super::words;

/// An operator of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedOperator {
    /// Its number, from 1: greater than that of whoever reads it first.
    pub number: usize,
    /// What it is.
    pub name: &'static str,
    /// What it does.
    pub detail: String,
    /// The operators that it reads.
    pub inputs: Vec<usize>,
    /// The relation that it computes.
    pub relation: Fingerprint,
}

/// All operators of a view, in order of their numbers: first the one that stores its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Those.
    pub operators: Vec<ExplainedOperator>,
}

impl Explanation {
    /// How a view is computed.
    pub fn of(plan: &ViewPlan) -> Self {
        let (relation, detail) = (plan.relation.fingerprint, sorted(plan));
        let rows = ExplainedOperator { number: 1, name: "rows", detail, inputs: Vec::new(), relation };
        let mut walk = Walk { operators: vec![rows], known: BTreeMap::new() };
        let input = walk.number(&plan.relation);
        walk.operators[0].inputs.push(input);
        Self { operators: walk.operators }
    }

    /// The operators, one a line, below each what it reads; `note` may say more of each.
    pub fn tree(&self, note: &dyn Fn(&ExplainedOperator) -> String) -> String {
        let mut tree = Tree { all: self, note, told: vec![false; self.operators.len()], text: String::new() };
        tree.branch(1, "", "");
        tree.text
    }
}

impl ViewPlan {
    /// How it is computed, for people: DataFusion's plan, then ours, with what `note` says of each operator.
    pub fn explain(&self, note: &dyn Fn(&ExplainedOperator) -> String) -> String {
        let description = if self.description.is_empty() { String::new() } else { format!(": {}", self.description) };
        let logical: String = self.plan.lines().map(|line| format!("  {line}\n")).collect();
        let operators: String = Explanation::of(self).tree(note).lines().map(|line| format!("  {line}\n")).collect();
        format!("view {}{description}\n\nlogical plan\n{logical}\noperators\n{operators}", self.name)
    }
}

/// Numbers the operators.
struct Walk {
    operators: Vec<ExplainedOperator>,
    known: BTreeMap<Fingerprint, usize>,
}

impl Walk {
    fn number(&mut self, relation: &Relation) -> usize {
        if let Some(known) = self.known.get(&relation.fingerprint) {
            return *known;
        }
        let (number, fingerprint) = (self.operators.len() + 1, relation.fingerprint);
        let (name, detail) = told(relation);
        self.operators.push(ExplainedOperator { number, name, detail, inputs: Vec::new(), relation: fingerprint });
        self.known.insert(fingerprint, number);
        let inputs = relation.inputs().into_iter().map(|input| self.number(input)).collect();
        self.operators[number - 1].inputs = inputs;
        number
    }
}

/// What an operator is, and what it does.
fn told(relation: &Relation) -> (&'static str, String) {
    match &relation.operator {
        Operator::Constant { rows } => {
            ("values", format!("{} of {}", rows.len(), of_columns(words::names(&relation.schema))))
        }
        Operator::Table { table, program, .. } => {
            ("table", format!("{}: {}", table.kind.name(), of_columns(program.explain_with_names())))
        }
        Operator::View { view } => ("view", view.to_string()),
        Operator::Apply { program, .. } => ("compute", of_columns(program.explain())),
        Operator::Temporal { bounds, .. } => ("while", time(bounds)),
        Operator::Join { left, right } => ("join", keys(left, right)),
        Operator::Semijoin { left, right, keep: Keep::Matches } => ("semi join", keys(left, right)),
        Operator::Semijoin { left, right, keep: Keep::Others } => ("anti join", keys(left, right)),
        Operator::Reduce { grouping, .. } => ("group", grouping.explain()),
        Operator::Top { top, .. } => ("top", top.explain()),
        Operator::Distinct { .. } => ("distinct", String::new()),
        Operator::Union { .. } => ("union all", String::new()),
        Operator::Recursive { id, .. } => ("recursion", format!("{}: first rows, then a round", id.0)),
        Operator::Recursion { id } => ("rows so far", format!("of recursion {}", id.0)),
    }
}

/// What says columns and a condition, where there may be no columns: whoever counts rows needs none.
fn of_columns(columns: String) -> String {
    if columns.is_empty() || columns.starts_with(" WHERE ") { format!("no columns{columns}") } else { columns }
}

fn keys(left: &Keyed, right: &Keyed) -> String {
    match (left.key.explain(), right.key.explain()) {
        (left, right) if left.is_empty() && right.is_empty() => "of all pairs".to_owned(),
        _ => {
            let ((left, drops_left), (right, drops_right)) = (left.key.explain_key(), right.key.explain_key());
            let sign = if drops_left || drops_right { "=" } else { "IS NOT DISTINCT FROM" };
            format!("on {left} {sign} {right}")
        }
    }
}

fn time(bounds: &Bounds) -> String {
    let bound = |word: &str, program: &Option<Arc<Program>>| Some(format!("{word} {}", program.as_ref()?.explain()));
    let bounds = [bound("from", &bounds.from), bound("until", &bounds.until)];
    bounds.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// How something is sorted, as far as `ORDER BY` alone would sort it otherwise.
pub(super) fn order_words(options: SortOptions) -> &'static str {
    match (options.descending, options.nulls_first) {
        (false, false) => "",
        (false, true) => " NULLS FIRST",
        (true, true) => " DESC",
        (true, false) => " DESC NULLS LAST",
    }
}

/// How rows are sorted: columns by the names that the view has for them, others by what they are made of.
fn sorted(plan: &ViewPlan) -> String {
    let column = |(place, (field, options)): (usize, (&Arc<Field>, &SortOptions))| {
        let shown = plan.columns.iter().find(|column| column.place == place);
        format!("{}{}", shown.map_or(field.name(), |column| &column.name), order_words(*options))
    };
    let fields = plan.codec.schema().fields().iter().zip(plan.codec.options());
    let columns: Vec<String> = fields.enumerate().map(column).collect();
    format!("sorted by {}", columns.join(", "))
}

/// Lines of a tree.
struct Tree<'a> {
    all: &'a Explanation,
    note: &'a dyn Fn(&ExplainedOperator) -> String,
    told: Vec<bool>,
    text: String,
}

impl Tree<'_> {
    /// An operator behind `first`, and what it reads behind `rest`.
    fn branch(&mut self, number: usize, first: &str, rest: &str) {
        let operator = &self.all.operators[number - 1];
        let is_told = std::mem::replace(&mut self.told[number - 1], true);
        let detail = if is_told { ": as above" } else { &operator.detail };
        let space = if detail.is_empty() || is_told { "" } else { " " };
        let note = if is_told { String::new() } else { (self.note)(operator) };
        writeln!(self.text, "{first}#{number} {}{space}{detail}{note}", operator.name).expect("memory takes any write");
        let inputs = if is_told { &[][..] } else { &operator.inputs };
        for (place, input) in inputs.iter().enumerate() {
            let (mark, below) = if place + 1 == inputs.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.branch(*input, &format!("{rest}{mark}"), &format!("{rest}{below}"));
        }
    }
}
