//! What stands in a file of tests (`queries/README.md` describes it for those who write them), read strictly: whatever is
//! not understood is an error that says where it stands and what is allowed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::{Location, Spanned};

use super::events::{EventText, Recorder};
use super::moment;
use super::table::{Expected, ExpectedRows};
use crate::model::Epoch;
use crate::service::scripted::ScriptedRecord;
use crate::sql::ViewPlan;

/// When the first step is, where nothing is said: 2026-01-01.
const START: Epoch = 1_767_225_600_000;
/// Between two steps, where nothing is said, ms.
const STEP_MS: Epoch = 1_000;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) message: String,
}

impl Fault {
    fn at(location: Location, message: impl Into<String>) -> Self {
        Self { line: location.line().max(1), column: location.column().max(1), message: message.into() }
    }
}

/// One test.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
    /// What resources are called, by their ids.
    pub(super) names: BTreeMap<String, String>,
}

/// What happens at one time, and what is expected then.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) line: u64,
    pub(super) epoch: Epoch,
    pub(super) records: Vec<ScriptedRecord>,
    /// All rows; none where they are not looked at.
    pub(super) rows: Option<ExpectedRows>,
    /// Rows that came and rows that left in the step; none where they are not looked at.
    pub(super) changes: Option<(ExpectedRows, ExpectedRows)>,
    pub(super) errors: Vec<ExpectedError>,
}

/// A row that cannot be evaluated.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedError {
    /// Some fields of the operator's input.
    #[serde(default)]
    pub(super) input: Map<String, Value>,
    /// The expression.
    pub(super) expression: Option<String>,
    /// Words of the reason.
    pub(super) reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseText {
    name: Spanned<String>,
    steps: Vec<Spanned<StepText>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepText {
    at: Option<Spanned<String>>,
    #[serde(default)]
    events: Vec<Spanned<EventText>>,
    rows: Option<Vec<Spanned<RowText>>>,
    changes: Option<ChangesText>,
    #[serde(default)]
    errors: Vec<ExpectedError>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesText {
    #[serde(default)]
    came: Vec<Spanned<RowText>>,
    #[serde(default)]
    left: Vec<Spanned<RowText>>,
}

/// Values by the names of their columns.
type RowText = BTreeMap<String, Value>;

/// The cases of a file about a view.
pub(super) fn parse(text: &str, plan: &ViewPlan) -> Result<Vec<Case>, Fault> {
    let cases: Vec<CaseText> = serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        Fault::at(error.location().unwrap_or(Location::UNKNOWN), without_place(&error.to_string()))
    })?;
    let mut names = BTreeSet::new();
    for CaseText { name, steps } in &cases {
        if steps.is_empty() || name.value.trim().is_empty() {
            return Err(Fault::at(name.referenced, "a test has a name and at least one step"));
        }
        if !names.insert(name.value.as_str()) {
            return Err(Fault::at(name.referenced, format!("there is another test of the name `{}`", name.value)));
        }
    }
    cases.into_iter().map(|case| case.lower(plan)).collect()
}

/// The message alone: the place is told before it.
fn without_place(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    let prefix = message.find(": ").filter(|colon| message[..*colon].starts_with("line ")).map_or(0, |colon| colon + 2);
    message[prefix.min(end)..end].replace('\n', " ")
}

impl CaseText {
    fn lower(self, plan: &ViewPlan) -> Result<Case, Fault> {
        let mut recorder = Recorder::default();
        let mut steps: Vec<Step> = Vec::new();
        for step in self.steps {
            let before = steps.last().map(|step| step.epoch);
            steps.push(lower_step(step, before, &mut recorder, plan)?);
        }
        Ok(Case { name: self.name.value, steps, names: recorder.names() })
    }
}

fn lower_step(
    step: Spanned<StepText>,
    before: Option<Epoch>,
    recorder: &mut Recorder,
    plan: &ViewPlan,
) -> Result<Step, Fault> {
    let place = step.referenced;
    let StepText { at, events, rows, changes, errors } = step.value;
    let epoch = match &at {
        None => before.map_or(START, |before| before + STEP_MS),
        Some(at) => {
            let epoch = moment::parse(&at.value, before.unwrap_or(START));
            epoch.map_err(|message| Fault::at(at.referenced, message))?
        }
    };
    if before.is_some_and(|before| epoch <= before) {
        let place = at.map_or(place, |at| at.referenced);
        return Err(Fault::at(place, "a step must be later than the one before it"));
    }
    let mut records = Vec::new();
    for event in &events {
        let made = recorder.records(&event.value, epoch).map_err(|message| Fault::at(event.referenced, message))?;
        records.extend(made);
    }
    let rows = rows.map(|rows| expected_rows(&rows, plan)).transpose()?;
    let changes = changes
        .map(|changes| Ok((expected_rows(&changes.came, plan)?, expected_rows(&changes.left, plan)?)))
        .transpose()?;
    Ok(Step { line: place.line(), epoch, records, rows, changes, errors })
}

/// Rows that name the same columns, in the order of the view's.
fn expected_rows(given: &[Spanned<RowText>], plan: &ViewPlan) -> Result<ExpectedRows, Fault> {
    let Some(first) = given.first() else { return Ok(ExpectedRows::default()) };
    let columns = || plan.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    if first.value.is_empty() {
        return Err(Fault::at(first.referenced, format!("a row names at least one column; there are {}", columns())));
    }
    for row in given {
        let is_known = |name: &String| plan.columns.iter().any(|column| column.name == *name);
        if let Some(name) = row.value.keys().find(|name| !is_known(name)) {
            let message = format!("`{}` has no column `{name}`; there are {}", plan.name, columns());
            return Err(Fault::at(row.referenced, message));
        }
        let mut differ = first.value.keys().chain(row.value.keys());
        if let Some(name) = differ.find(|name| row.value.contains_key(*name) != first.value.contains_key(*name)) {
            let message = format!("rows of a list name the same columns, and `{name}` is not in all of them");
            return Err(Fault::at(row.referenced, message));
        }
    }
    let places = plan.columns.iter().enumerate().filter(|(_, column)| first.value.contains_key(&column.name));
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    let row = |row: &Spanned<RowText>| {
        let values = places.iter().map(|place| expected(&row.value, *place, plan));
        values.collect::<Result<Vec<_>, _>>().map_err(|message| Fault::at(row.referenced, message))
    };
    Ok(ExpectedRows { rows: given.iter().map(row).collect::<Result<_, _>>()?, places })
}

/// What is expected in a column.
fn expected(row: &RowText, place: usize, plan: &ViewPlan) -> Result<Expected, String> {
    let column = &plan.columns[place];
    let text = match &row[&column.name] {
        Value::Null => return Ok(Expected::Text("null".to_owned())),
        Value::String(text) => text.clone(),
        value @ (Value::Array(_) | Value::Object(_)) if column.is_text() => return Ok(Expected::Json(value.clone())),
        value if column.is_text() => {
            return Err(format!("`{}` is text, and {value} is not: write it in quotes", column.name));
        }
        value => value.to_string(),
    };
    let json = column.json_of(&text).or_else(|error| match text.strip_suffix(".0") {
        // 1.0 is 1.
        Some(whole) => column.json_of(whole).map_err(|_| error),
        None => Err(error),
    });
    json.map(Expected::Text).map_err(|error| error.to_string())
}
