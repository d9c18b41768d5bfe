//! From one query to the plan of its view.
//!
//! In: the syntax of a query, a session that knows the names in it, and what these stand for. Out: what to compute and how
//! its rows are stored, or why not. Nothing here reads or computes a row.
//!
//! A stored row has the expressions of the query's `ORDER BY` first, each in its order, then all other columns as selected,
//! ascending: so bytes sort as the view does, and a filter on what stands first is a seek. An expression of the order that
//! is not selected is stored too, and not shown.

mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, Limit, LogicalPlan, Projection, Sort, SortExpr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::Query;

use super::lower::{Known, Lowering, check_scalar_subqueries, over, physical, without_ties};
use super::program::Program;
use super::refusal::{Objection, Place, Source, explained, explained_late};
use super::relation::Fingerprint;
use super::row::Codec;
use super::unmaintained::Maintained;
use super::view_plan::{ViewColumn, ViewPlan};
use super::{session, syntax, words};

/// The name under which an expression of the order goes that is not selected.
const HIDDEN: &str = "$order_";

/// The plan of a view. `reads`: the views that it names.
pub(super) fn view(
    name: &str,
    source: Source<'_>,
    query: Box<Query>,
    context: &SessionContext,
    known: &BTreeMap<String, Known>,
    reads: &BTreeSet<String>,
) -> Result<ViewPlan, Objection> {
    let state = context.state();
    syntax::check(&query, &Maintained(&state))?;
    let given = given_names(&query);
    let (written, analysed) =
        session::analysed(context, query).map_err(|objection| with_given_names(objection, &given))?;
    check_scalar_subqueries(&analysed)?;
    let plan = state.optimizer().optimize(analysed, &state, |_, _| {}).map_err(|error| explained(&written, error))?;
    let columns: Vec<String> = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
    check_columns(&plan)?;

    let (exposed, order) = expose(&plan)?;
    let lowered = Lowering::new(known).lower(&exposed).map_err(|objection| explained_late(&written, objection))?;
    let schema = Arc::clone(&lowered.schema);
    let layout = Layout::new(&order, columns.len(), &schema)?;
    let (relation, chosen) = lowered.choice();
    let stored = Program::new(
        Codec::new(Arc::clone(&relation.schema)),
        Vec::new(),
        layout.expressions.into_iter().map(|expression| over(expression, &chosen)).collect(),
        Codec::sorted(Arc::new(Schema::new(layout.fields)), &layout.options),
    );
    let codec = stored.output().clone();
    let column = |(name, place): (String, &usize)| ViewColumn {
        name,
        kind: codec.schema().field(*place).data_type().clone(),
        place: *place,
    };
    let columns: Vec<ViewColumn> = columns.into_iter().zip(&layout.places).map(column).collect();
    let stored_as = format!("{} {:?} {columns:?}", stored.description(), layout.options);
    Ok(ViewPlan {
        name: name.into(),
        description: source.description(),
        sql: source.text.to_owned(),
        fingerprint: Fingerprint::of(&format!("{:?} stored {stored_as}", relation.fingerprint)),
        relation,
        stored: Arc::new(stored),
        codec,
        columns,
        reads: reads.iter().map(|read| Arc::from(read.as_str())).collect(),
        plan: words::plan(&plan),
    })
}

/// The names that a query gives to queries in it.
fn given_names(query: &Query) -> BTreeSet<String> {
    let tables = query.with.iter().flat_map(|with| &with.cte_tables);
    tables.map(|table| format!("table {}", table.alias.name.value.to_lowercase())).collect()
}

/// The objection that there is no such table, where the query has one of that name.
fn with_given_names(objection: Objection, given: &BTreeSet<String>) -> Objection {
    if !given.contains(&objection.construct) {
        return objection;
    }
    let message = "stands in WITH, but cannot be read here: queries that stand after it can, and itself once, after the \
                   one UNION of a WITH RECURSIVE";
    Objection { message: message.to_owned(), ..objection }
}

/// How rows are stored.
struct Layout {
    /// What is stored, over the columns of the query, with its columns and how they are sorted.
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    fields: Vec<Field>,
    options: Vec<SortOptions>,
    /// Where each selected column is.
    places: Vec<usize>,
}

impl Layout {
    /// Of rows of these columns of which the first `selected` are shown, sorted so.
    fn new(order: &[SortExpr], selected: usize, schema: &DFSchema) -> Result<Self, Objection> {
        let rows = schema.as_arrow();
        let mut expressions: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        let mut options = Vec::new();
        let mut places = vec![usize::MAX; selected];
        for sort in order {
            let expression = physical(&sort.expr, schema)?;
            // What was sorted by once is not sorted by again.
            if expressions.contains(&expression) {
                continue;
            }
            if let Some(column) = expression.downcast_ref::<Column>().filter(|column| column.index() < selected) {
                places[column.index()] = expressions.len();
            }
            expressions.push(expression);
            options.push(SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first });
        }
        for (column, place) in places.iter_mut().enumerate().filter(|(_, place)| **place == usize::MAX) {
            *place = expressions.len();
            expressions.push(Arc::new(Column::new(rows.field(column).name(), column)));
            options.push(SortOptions::default());
        }
        let mut fields = Vec::new();
        for expression in &expressions {
            let kind = expression.data_type(rows)?;
            types::check_order(&kind)?;
            let name = match expression.downcast_ref::<Column>() {
                Some(column) => column.name().to_owned(),
                None => expression.to_string(),
            };
            fields.push(Field::new(name, kind, true));
        }
        Ok(Self { expressions, fields, options, places })
    }
}

/// The plan with the order of its rows, as expressions over its columns: what the order needs and is not selected becomes
/// a column after those that are.
fn expose(plan: &LogicalPlan) -> Result<(LogicalPlan, Vec<SortExpr>), Objection> {
    match plan {
        LogicalPlan::Sort(Sort { expr, input, .. }) => Ok((plan.clone(), without_ties(expr, input.schema()).to_vec())),
        LogicalPlan::Limit(Limit { skip, fetch, input }) => {
            let (input, order) = expose(input)?;
            let (skip, fetch) = (skip.clone(), fetch.clone());
            Ok((LogicalPlan::Limit(Limit { skip, fetch, input: Arc::new(input) }), order))
        }
        LogicalPlan::Projection(Projection { expr, input, .. }) => {
            let (input, order) = expose(input)?;
            let (mut expr, selected, mut over) = (expr.clone(), plan.schema().columns(), Vec::new());
            for sort in order {
                let place = expr.iter().position(|output| output.clone().unalias() == sort.expr);
                let column = match place {
                    Some(place) if place < selected.len() => selected[place].clone(),
                    _ => {
                        let name = format!("{HIDDEN}{}", expr.len());
                        expr.push(sort.expr.clone().alias(&name));
                        datafusion::common::Column::new_unqualified(name)
                    }
                };
                over.push(SortExpr { expr: Expr::Column(column), ..sort });
            }
            Ok((LogicalPlan::Projection(Projection::try_new(expr, Arc::new(input))?), over))
        }
        plan => Ok((plan.clone(), Vec::new())),
    }
}

/// What stands for any column where a list of rows is described, so that none can be called so.
const NO_NAME: &str = "{column}";

/// Every column of the view has a name of its own, by which it can be asked for, and every column on the way to it a type
/// that rows can have.
fn check_columns(plan: &LogicalPlan) -> Result<(), Objection> {
    let mut seen = BTreeSet::new();
    for (place, field) in plan.schema().fields().iter().enumerate() {
        let name = field.name();
        if name == NO_NAME {
            let message = "rows cannot be asked for by this name, which stands for any; give another with AS";
            return Err(Objection::new(Place::Output(place), format!("column {name}"), message));
        }
        if !seen.insert(field.name()) {
            let message = "two columns have this name; give one another name with AS";
            return Err(Objection::new(Place::Output(place), format!("column {}", field.name()), message));
        }
    }
    types::check(plan)
}
