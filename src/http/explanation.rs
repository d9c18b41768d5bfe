//! How a view is computed, and what each of its operators holds and costs: JSON, or a tree for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::accept::preferred;
use super::shared::{Asked, Making, Work};
use super::views::{CostJson, known, name_of, readable_then, unreadable};
use super::{ApiError, App, answer, instant};
use crate::dataflow::Measures;
use crate::dataflow::meter::{ROWS, STORE};
use crate::published::view_costs::{PartCost, SharedCost, ViewCost, total};
use crate::published::{CatalogView, ReadView};
use crate::service::view_health::{Health, ViewCondition};
use crate::sql::Explanation;

/// What an explanation is written as.
pub(super) const MEDIA_TYPES: [&str; 2] = ["application/json", "text/plain"];
/// About what an explanation takes.
const BYTES: usize = 64 * 1024;

/// What parts of an operator did and hold.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct MeasuresJson {
    rows: u64,
    bytes_held: u64,
    updates_in: u64,
    updates_out: u64,
    steps: u64,
    seconds_spent: f64,
}

impl From<Measures> for MeasuresJson {
    fn from(measures: Measures) -> Self {
        Self {
            rows: measures.rows,
            bytes_held: measures.bytes,
            updates_in: measures.updates_in,
            updates_out: measures.updates_out,
            steps: measures.steps,
            seconds_spent: measures.busy.as_secs_f64(),
        }
    }
}

#[derive(Debug, Serialize)]
struct PartJson {
    part: &'static str,
    shared: bool,
    #[serde(flatten)]
    measures: MeasuresJson,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OperatorJson {
    number: usize,
    operator: &'static str,
    detail: String,
    inputs: Vec<usize>,
    parts: Vec<PartJson>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ArrangementJson {
    /// Whose rows it holds; none where these are no operator's by themselves.
    operator: Option<usize>,
    key: String,
    readers: usize,
    #[serde(flatten)]
    measures: MeasuresJson,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HydrationJson {
    complete: bool,
    complete_from: Option<String>,
    complete_until: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExplanationJson {
    name: String,
    description: String,
    sql: String,
    logical_plan: String,
    operators: Vec<OperatorJson>,
    arrangements: Vec<ArrangementJson>,
    rows: usize,
    since: String,
    hydration: HydrationJson,
    health: &'static str,
    problem: Option<String>,
    cost: CostJson,
}

/// `GET /api/tarn/v1/views/{view}/explain`
pub(super) async fn explain(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, ApiError> {
    let (name, media_type) = (name_of(path)?, MEDIA_TYPES[preferred(&headers, &MEDIA_TYPES)?]);
    let making = Making {
        media_type,
        varies: true,
        bytes: BYTES,
        work: Work::Page,
        // What operators do is another thing at every look.
        mark: |_: &App, _: &ReadView| Ok(None),
        render: move |app: &App, view: &ReadView, _: &dyn Fn() -> bool| explained(app, view, &name, media_type),
    };
    let view = instant::asked(&app, asked.query()).await?;
    asked.answer(&app, view, making).await
}

fn explained(app: &App, view: &ReadView, name: &str, media_type: &'static str) -> Result<Response, ApiError> {
    let condition = known(app, view, name)?;
    let shown = condition.shown.clone().ok_or_else(|| unreadable(&condition))?;
    readable_then(view, &shown)?;
    let costs = Costs::of(&shown, view.view_cost(shown.id));
    if media_type == MEDIA_TYPES[0] {
        return Ok(answer::answer(app, view, &json(view, &condition, &shown, costs)));
    }
    let text = text(view, &condition, &shown, &costs);
    Ok(answer::in_form(app, view, "text/plain; charset=utf-8", text.into_bytes()))
}

/// What each operator of a view costs.
struct Costs {
    explanation: Explanation,
    /// By the number of the operator, with whether others share it.
    parts: BTreeMap<usize, Vec<(PartCost, bool)>>,
    whole: ViewCost,
}

impl Costs {
    fn of(shown: &CatalogView, whole: ViewCost) -> Self {
        let explanation = Explanation::of(&shown.plan);
        let mut parts: BTreeMap<usize, Vec<(PartCost, bool)>> = BTreeMap::new();
        let own = whole.own.iter().map(|part| (*part, false));
        let shared = whole.shared.iter().flat_map(|shared| &shared.parts).map(|part| (*part, true));
        for (part, is_shared) in own.chain(shared) {
            if let Some(number) = number_of(&explanation, &part) {
                parts.entry(number).or_default().push((part, is_shared));
            }
        }
        Self { explanation, parts, whole }
    }

    /// All of an operator.
    fn total(&self, number: usize) -> Option<Measures> {
        let parts = self.parts.get(&number)?;
        Some(total(&parts.iter().map(|(part, _)| *part).collect::<Vec<_>>()))
    }

    /// The operator whose rows an arrangement holds.
    fn arranged(&self, shared: &SharedCost) -> Option<usize> {
        let operators = self.explanation.operators.iter().skip(1);
        operators.into_iter().find(|operator| operator.relation == shared.relation).map(|operator| operator.number)
    }
}

/// The operator that a part belongs to: what stores rows stands before what computes them, which is of one relation.
fn number_of(explanation: &Explanation, part: &PartCost) -> Option<usize> {
    let stores = part.part == STORE || part.part == ROWS;
    let operators = explanation.operators.iter().skip(usize::from(!stores));
    operators.into_iter().find(|operator| operator.relation == part.relation).map(|operator| operator.number)
}

fn hydration(view: &ReadView, shown: &CatalogView, health: Health) -> HydrationJson {
    let progress = view.view_progress(shown.id);
    HydrationJson {
        complete: health != Health::Detached && progress.is_some(),
        complete_from: progress.map(|(from, _)| answer::moment(from)),
        complete_until: progress.map(|(_, upper)| answer::moment(upper.saturating_sub(1))),
    }
}

fn json(view: &ReadView, condition: &ViewCondition, shown: &CatalogView, costs: Costs) -> ExplanationJson {
    let part = |(part, shared): &(PartCost, bool)| PartJson {
        part: part.part,
        shared: *shared,
        measures: part.measures.into(),
    };
    let arrangements = costs.whole.shared.iter().map(|shared| ArrangementJson {
        operator: costs.arranged(shared),
        key: shared.key.clone(),
        readers: shared.readers,
        measures: total(&shared.parts).into(),
    });
    let operators = costs.explanation.operators.iter().map(|operator| OperatorJson {
        number: operator.number,
        operator: operator.name,
        detail: operator.detail.clone(),
        inputs: operator.inputs.clone(),
        parts: costs.parts.get(&operator.number).into_iter().flatten().map(part).collect(),
    });
    ExplanationJson {
        name: shown.plan.name.to_string(),
        description: shown.plan.description.clone(),
        sql: shown.plan.sql.clone(),
        logical_plan: shown.plan.plan.clone(),
        operators: operators.collect(),
        arrangements: arrangements.collect(),
        rows: view.count_rows(shown.id),
        since: answer::moment(shown.since_ms),
        hydration: hydration(view, shown, condition.health),
        health: condition.health.as_str(),
        problem: condition.problem.clone(),
        cost: CostJson::from(&costs.whole),
    }
}

fn text(view: &ReadView, condition: &ViewCondition, shown: &CatalogView, costs: &Costs) -> String {
    let plan = &shown.plan;
    let rows = view.count_rows(shown.id);
    let mut text = plan.explain(&|operator| costs.total(operator.number).map(note).unwrap_or_default());
    let write = "memory takes any write";
    for shared in &costs.whole.shared {
        let of = costs.arranged(shared).map_or_else(|| "rows".to_owned(), |number| format!("#{number}"));
        let (key, readers, note) = (&shared.key, shared.readers, note(total(&shared.parts)));
        writeln!(text, "\nshared: {of} by ({key}), with {readers} readers{note}").expect(write);
    }
    let health = condition.health.as_str();
    let problem = condition.problem.as_deref().map(|problem| format!(": {problem}")).unwrap_or_default();
    let since = answer::moment(shown.since_ms);
    writeln!(text, "\n{rows} rows, since {since}, {health}{problem}").expect(write);
    if let HydrationJson { complete_from: Some(from), complete_until: Some(until), .. } =
        hydration(view, shown, condition.health)
    {
        writeln!(text, "complete from {from} until {until}").expect(write);
    }
    text
}

/// What an operator costs, behind its line.
fn note(measures: Measures) -> String {
    let Measures { rows, bytes, updates_in, updates_out, steps: _, busy } = measures;
    format!("  [holds {rows} rows, {bytes} bytes; {updates_in} updates in, {updates_out} out; {busy:.1?}]")
}
