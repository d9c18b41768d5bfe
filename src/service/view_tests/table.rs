//! Rows as a test sees them: some columns of a view, each value as JSON text, and how two lists of rows differ.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::published::{CatalogView, ReadView};
use crate::sql::{Format, Reading, Row, ViewPlan};

/// Longer lists are not compared row by row.
const COMPARED_MAX: usize = 1_000;
/// More lines of a difference are not shown.
const SHOWN_MAX: usize = 40;

/// A row: the JSON texts of all columns of a view.
pub(super) type Cells = Vec<String>;

/// What is expected of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    /// This JSON text.
    Text(String),
    /// A text that is JSON of this meaning.
    Json(Value),
}

impl Expected {
    fn is(&self, cell: &str) -> bool {
        match self {
            Self::Text(text) => text == cell,
            Self::Json(value) => parsed(cell).as_ref() == Some(value),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Text(text) => shown(text),
            Self::Json(value) => value.to_string(),
        }
    }
}

/// What a cell's text says, where that is JSON.
fn parsed(cell: &str) -> Option<Value> {
    serde_json::from_str::<String>(cell).ok().and_then(|text| serde_json::from_str(&text).ok())
}

/// A value as people read it: texts without quotes, where they can be told from other values.
fn shown(cell: &str) -> String {
    match serde_json::from_str::<Value>(cell) {
        Ok(Value::String(text)) if is_plain(&text) => text,
        _ => cell.to_owned(),
    }
}

fn is_plain(text: &str) -> bool {
    let is_value = serde_json::from_str::<Value>(text).is_ok();
    !text.is_empty() && !is_value && !text.chars().any(|character| character.is_whitespace() || character == '"')
}

/// Rows that are expected, of the columns at these places.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ExpectedRows {
    pub(super) places: Vec<usize>,
    pub(super) rows: Vec<Vec<Expected>>,
}

/// All rows of a view, as it is sorted; the ids of resources are replaced by what these are called.
pub(super) fn rows_of(view: &ReadView, shown: &CatalogView, names: &BTreeMap<String, String>) -> Vec<Cells> {
    let plan = &shown.plan;
    let reading = Reading::new(plan, &[], &[]).expect("nothing is asked for");
    let copies = view.rows_from(shown.id, &[]).flat_map(|(row, count)| std::iter::repeat_n(row, count));
    let rows: Vec<&Row> = copies.collect();
    let batch = reading.columns(&rows);
    let written = Format::JsonLines.write(reading.schema(), &[batch]).expect("what a view holds can be written");
    let lines = written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| cells(line, plan, names)).collect()
}

fn cells(line: &[u8], plan: &ViewPlan, names: &BTreeMap<String, String>) -> Cells {
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(line).expect("an object");
    let cell = |name: &str| named(fields.get(name).map_or("null", |value| value.get()), names);
    plan.columns.iter().map(|column| cell(&column.name)).collect()
}

/// The same JSON text, or the name of the resource whose id it is.
fn named(cell: &str, names: &BTreeMap<String, String>) -> String {
    let id = cell.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    id.and_then(|id| names.get(id)).map_or_else(|| cell.to_owned(), |name| Value::from(name.as_str()).to_string())
}

/// The JSON value with every id of a resource replaced by its name.
pub(super) fn with_names(value: Value, names: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => Value::String(names.get(&text).cloned().unwrap_or(text)),
        Value::Array(items) => items.into_iter().map(|item| with_names(item, names)).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, with_names(value, names)));
            Value::Object(fields.collect())
        }
        other => other,
    }
}

/// What came and what left between two sorted lists, as often as it did.
pub(super) fn changes(before: &[Cells], after: &[Cells]) -> (Vec<Cells>, Vec<Cells>) {
    let mut counts: BTreeMap<&Cells, isize> = BTreeMap::new();
    before.iter().for_each(|row| *counts.entry(row).or_default() -= 1);
    after.iter().for_each(|row| *counts.entry(row).or_default() += 1);
    // Each list keeps its order.
    let mut left = Vec::new();
    for row in before {
        if let Some(count) = counts.get_mut(row).filter(|count| **count < 0) {
            *count += 1;
            left.push(row.clone());
        }
    }
    let mut came = Vec::new();
    for row in after.iter().rev() {
        if let Some(count) = counts.get_mut(row).filter(|count| **count > 0) {
            *count -= 1;
            came.push(row.clone());
        }
    }
    came.reverse();
    (came, left)
}

/// How rows differ from those that are expected; none where they do not.
pub(super) fn difference(expected: &ExpectedRows, found: &[Cells], plan: &ViewPlan) -> Option<String> {
    let projected: Vec<Cells> =
        found.iter().map(|row| expected.places.iter().map(|place| row[*place].clone()).collect()).collect();
    let matches = |(one, other): (&Vec<Expected>, &Cells)| one.iter().zip(other).all(|(one, other)| one.is(other));
    // Where no row is expected no column is named: all are shown.
    let all: Vec<usize> = (0..plan.columns.len()).collect();
    let (places, projected) =
        if expected.places.is_empty() { (&all, found.to_vec()) } else { (&expected.places, projected) };
    if expected.rows.len() == projected.len() && expected.rows.iter().zip(&projected).all(matches) {
        return None;
    }
    let mut lines = vec![(' ', places.iter().map(|place| plan.columns[*place].name.clone()).collect())];
    for (sign, expected_place, found_place) in edits(&expected.rows, &projected) {
        let row = match (expected_place, found_place) {
            (_, Some(place)) => projected[place].iter().map(|cell| shown(cell)).collect(),
            (Some(place), None) => expected.rows[place].iter().map(Expected::shown).collect(),
            (None, None) => continue,
        };
        lines.push((sign, row));
    }
    Some(aligned(&lines))
}

/// How to come from one list to another: what stays, goes (`-`) and comes (`+`), with the places in both.
fn edits(expected: &[Vec<Expected>], found: &[Cells]) -> Vec<(char, Option<usize>, Option<usize>)> {
    let is_same =
        |place: usize, other: usize| expected[place].iter().zip(&found[other]).all(|(one, cell)| one.is(cell));
    let (rows, columns) = (expected.len(), found.len());
    let mut edits = Vec::new();
    if rows.max(columns) > COMPARED_MAX {
        edits.extend((0..rows).map(|place| ('-', Some(place), None)));
        edits.extend((0..columns).map(|other| ('+', None, Some(other))));
        return edits;
    }
    // The longest common subsequence of what is left from each two places on.
    let mut common = vec![vec![0_u32; columns + 1]; rows + 1];
    for place in (0..rows).rev() {
        for other in (0..columns).rev() {
            common[place][other] = if is_same(place, other) {
                common[place + 1][other + 1] + 1
            } else {
                common[place + 1][other].max(common[place][other + 1])
            };
        }
    }
    let (mut place, mut other) = (0, 0);
    while place < rows || other < columns {
        if place < rows && other < columns && is_same(place, other) {
            edits.push((' ', Some(place), Some(other)));
            (place, other) = (place + 1, other + 1);
        } else if other == columns || (place < rows && common[place + 1][other] >= common[place][other + 1]) {
            edits.push(('-', Some(place), None));
            place += 1;
        } else {
            edits.push(('+', None, Some(other)));
            other += 1;
        }
    }
    edits
}

/// Lines of cells, one below the other; what stays is left out first where there are too many.
fn aligned(lines: &[(char, Vec<String>)]) -> String {
    let is_short = lines.len() <= SHOWN_MAX;
    let kept = lines.iter().enumerate().filter(|(place, (sign, _))| is_short || *place == 0 || *sign != ' ');
    let kept: Vec<&(char, Vec<String>)> = kept.map(|(_, line)| line).take(SHOWN_MAX).collect();
    let width = |column: usize| kept.iter().map(|(_, cells)| cells[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].1.len()).map(width).collect();
    let mut text = String::new();
    for (sign, cells) in &kept {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = format!("  {sign} {}", cells.collect::<Vec<_>>().join("  "));
        text += line.trim_end();
        text.push('\n');
    }
    if kept.len() < lines.len() {
        writeln!(text, "    .. and {} more", lines.len() - kept.len()).expect("memory takes any write");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(rows: &[&str]) -> Vec<Cells> {
        rows.iter().map(|row| row.split(' ').map(str::to_owned).collect()).collect()
    }

    #[test]
    fn changes_are_counted() {
        let (before, after) = (cells(&["1 a", "1 a", "2 b", "3 c"]), cells(&["1 a", "2 b", "2 b", "4 d"]));
        assert_eq!(changes(&before, &after), (cells(&["2 b", "4 d"]), cells(&["1 a", "3 c"])));
        assert_eq!(changes(&after, &after), (Vec::new(), Vec::new()));
    }

    #[test]
    fn edits_keep_what_is_common() {
        let text = |text: &str| vec![Expected::Text(text.to_owned())];
        let expected = ["1", "2", "3", "5"].map(text);
        let signs =
            |found: &[&str]| edits(&expected, &cells(found)).into_iter().map(|(sign, ..)| sign).collect::<String>();
        assert_eq!(signs(&["1", "2", "3", "5"]), "    ");
        assert_eq!(signs(&["1", "3", "4", "5"]), " - + ");
        // One of the two common rows, and what stands around it.
        let swapped = signs(&["3", "2"]);
        assert_eq!([' ', '-', '+'].map(|sign| swapped.matches(sign).count()), [1, 3, 1], "{swapped}");
        assert_eq!(signs(&[]), "----");
    }

    #[test]
    fn values_are_told_apart() {
        assert_eq!(shown("\"w-1\""), "w-1");
        for cell in ["\"7\"", "7", "null", "\"null\"", "\"\"", "\"two words\"", "\"{}\""] {
            assert_eq!(shown(cell), cell);
        }
        let data = Expected::Json(serde_json::json!({"a": [1]}));
        assert!(data.is(r#""{\"a\": [1]}""#) && !data.is(r#""{\"a\":[2]}""#) && !data.is("null"));
    }
}
