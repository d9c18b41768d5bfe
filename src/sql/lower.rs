//! From DataFusion's optimised logical plan to a [`Relation`]: one exhaustive match, a construct a file.
//!
//! What SQL has many of (outer, semi, anti and mark joins, set operations) becomes few operators here; what cannot be
//! maintained is refused with its name and what to write instead, never approximated. Filters and projections that follow
//! one another become one program ([`pending::Pending`]), fused into the scan of a table where they stand above one. Every
//! column may be null here, whatever DataFusion knows of it: rows are encoded alike.
//!
//! Not here: what plans look like and why (`session`, `rules`), how a view's rows are stored (`planning`).

mod aggregate;
mod cardinality;
mod constant;
mod join;
mod numbered;
mod pending;
mod possible;
mod recursion;
pub(super) mod temporal;
mod top;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, DFSchemaRef, TableReference};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, TableScan};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use super::refusal::{Objection, Place, left_in};
use super::relation::{Fingerprint, Operator, RecursionId, Relation};
use super::session;
use super::table::Table;
use super::view_plan::ViewPlan;
pub(super) use cardinality::check_scalar_subqueries;
pub(super) use numbered::ADVICE as WINDOW_ADVICE;
use pending::Pending;
pub(super) use pending::over;
pub(super) use top::without_ties;

/// What functions are told of the session: its time zone above all.
static PROPERTIES: LazyLock<ExecutionProps> = LazyLock::new(|| {
    let mut properties = ExecutionProps::new();
    properties.config_options = Some(Arc::clone(session::config().options()));
    properties
});

/// What a name in a query stands for.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// A table.
    Table(Arc<Table>),
    /// Another view.
    View(Arc<ViewPlan>),
}

/// What lowering needs to know, and what it meets on its way.
pub(super) struct Lowering<'a> {
    known: &'a BTreeMap<String, Known>,
    /// Recursions around what is lowered, by name, the innermost last.
    recursions: Vec<(String, RecursionId)>,
    next_recursion: u32,
}

/// A lowered plan.
pub(super) struct Lowered {
    /// Its rows.
    pub(super) pending: Pending,
    /// Its columns as expressions above it name them.
    pub(super) schema: DFSchemaRef,
    /// Whether it never has more than one row.
    pub(super) at_most_one: bool,
}

impl Lowered {
    /// As a relation.
    pub(super) fn relation(self) -> Arc<Relation> {
        self.pending.relation()
    }

    /// As a relation, and which of its columns are meant, in order.
    pub(super) fn choice(self) -> (Arc<Relation>, Vec<Arc<dyn PhysicalExpr>>) {
        self.pending.choice()
    }
}

impl<'a> Lowering<'a> {
    /// A query over these tables and views.
    pub(super) fn new(known: &'a BTreeMap<String, Known>) -> Self {
        Self { known, recursions: Vec::new(), next_recursion: 0 }
    }

    /// Lowers a plan.
    pub(super) fn lower(&mut self, plan: &LogicalPlan) -> Result<Lowered, Objection> {
        let schema = Arc::clone(plan.schema());
        match plan {
            LogicalPlan::Projection(projection) => match numbered::under(&projection.input) {
                Some(numbered) => self.lower_numbered(&numbered, projection.expr.clone(), &projection.schema),
                None => {
                    let input = self.lower(&projection.input)?;
                    projected(input, &projection.expr, &projection.schema)
                }
            },
            LogicalPlan::Filter(filter) => match numbered::under(plan) {
                Some(numbered) => self.lower_numbered(&numbered, numbered.columns(), &schema),
                None => {
                    let input = self.lower(&filter.input)?;
                    filtered(input, &filter.predicate)
                }
            },
            LogicalPlan::Window(window) => Err(numbered::unbounded(window)),
            LogicalPlan::Aggregate(aggregate) => self.lower_aggregate(aggregate),
            LogicalPlan::Join(join) => self.lower_join(join),
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| Ok(self.lower(input)?.relation()));
                let inputs = inputs.collect::<Result<Vec<_>, Objection>>()?;
                Ok(Lowered { pending: Pending::of(unite(inputs, arrow(&schema))), schema, at_most_one: false })
            }
            LogicalPlan::TableScan(scan) => self.lower_scan(scan, schema),
            LogicalPlan::EmptyRelation(empty) => {
                let rows = usize::from(empty.produce_one_row);
                let pending = Pending::of(constant::nothing(rows, arrow(&schema)));
                Ok(Lowered { pending, schema, at_most_one: true })
            }
            LogicalPlan::Values(values) => {
                let pending = Pending::of(constant::values(values, &arrow(&schema))?);
                Ok(Lowered { pending, schema, at_most_one: values.values.len() <= 1 })
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let input = self.lower(&alias.input)?;
                Ok(Lowered { schema, ..input })
            }
            // Rows within a query have no order; that of the whole is the view's, and that of a limit its.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.lower(&sort.input),
            LogicalPlan::Sort(sort) => self.lower_sorted(sort, 0, sort.fetch),
            LogicalPlan::Limit(limit) => self.lower_limit(limit),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let input = self.lower(input)?;
                let at_most_one = input.at_most_one;
                Ok(Lowered { pending: Pending::of(distinct(input.relation())), schema, at_most_one })
            }
            LogicalPlan::Distinct(Distinct::On(_)) => Err(refused(
                plan,
                "DISTINCT ON",
                "which row of a group stays is not maintained so; write row_number() OVER (PARTITION BY .. ORDER BY ..) = 1",
            )),
            LogicalPlan::RecursiveQuery(recursive) => self.lower_recursive(recursive),
            LogicalPlan::Subquery(_) => Err(refused(
                plan,
                "subquery",
                "it depends on the row around it in a way that is no join; write it as a join",
            )
            .of_what_is_left()),
            LogicalPlan::Unnest(_) => Err(refused(plan, "UNNEST", "arrays are JSON text here; take elements by ->")),
            LogicalPlan::Extension(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_) => {
                let words = plan.display().to_string();
                Err(refused(plan, words.split(':').next().unwrap_or("statement"), "a view is one SELECT"))
            }
        }
    }

    fn lower_scan(&mut self, scan: &TableScan, schema: DFSchemaRef) -> Result<Lowered, Objection> {
        let name = scan.table_name.table();
        let places: Vec<usize> =
            scan.projection.clone().unwrap_or_else(|| (0..scan.source.schema().fields().len()).collect());
        let pending = if let Some(recursion) = recursion::read_by(scan) {
            let found = self.recursions.iter().rev().find(|(known, _)| known == recursion);
            let (_, id) = found.ok_or_else(|| recursion::named_in_subquery(recursion))?;
            let relation = recursion::reference(*id, nullable(&scan.source.schema()));
            Pending::of(relation).columns(&places, &arrow(&schema))
        } else {
            match self.known.get(name) {
                Some(Known::Table(table)) => Pending::table(Arc::clone(table), &places, &arrow(&schema)),
                Some(Known::View(plan)) => {
                    let stored = |place: &usize| plan.columns[*place].place;
                    let places: Vec<usize> = places.iter().map(stored).collect();
                    Pending::view(plan).columns(&places, &arrow(&schema))
                }
                None => return Err(unknown(&scan.table_name)),
            }
        };
        // Whatever was pushed into the scan is looked at here: a scan of ours filters nothing by itself.
        let mut lowered = Lowered { pending, schema, at_most_one: false };
        for filter in &scan.filters {
            lowered = filtered(lowered, filter)?;
        }
        Ok(lowered)
    }
}

/// Other columns of rows.
fn projected(input: Lowered, expressions: &[Expr], schema: &DFSchemaRef) -> Result<Lowered, Objection> {
    let expressions = physical_all(expressions, &input.schema)?;
    let pending = input.pending.project(expressions, &arrow(schema));
    Ok(Lowered { pending, schema: Arc::clone(schema), at_most_one: input.at_most_one })
}

/// The rows for which a predicate is true.
fn filtered(input: Lowered, predicate: &Expr) -> Result<Lowered, Objection> {
    let conjuncts = datafusion::logical_expr::utils::split_conjunction(predicate);
    let (by_time, by_row): (Vec<&Expr>, Vec<&Expr>) =
        conjuncts.into_iter().partition(|expr| temporal::mentions_now(expr));
    let Lowered { pending, schema, at_most_one } = input;
    let filters = by_row.into_iter().map(|expr| physical(expr, &schema)).collect::<Result<Vec<_>, _>>()?;
    let pending = pending.filter(filters);
    if by_time.is_empty() {
        return Ok(Lowered { pending, schema, at_most_one });
    }
    let by_time: Vec<Expr> = by_time.into_iter().cloned().collect();
    let bounds = temporal::bounds(&by_time, &schema)?;
    let input = pending.relation();
    let words = |bound: &Option<Arc<super::Program>>| bound.as_ref().map(|program| program.description());
    let description = format!("temporal from {:?} until {:?}", words(&bounds.from), words(&bounds.until));
    let columns = Arc::clone(&input.schema);
    let relation = relation(&description, columns, vec![input], |mut inputs| Operator::Temporal {
        input: inputs.remove(0),
        bounds,
    });
    Ok(Lowered { pending: Pending::of(relation), schema, at_most_one })
}

/// A relation, named by what it does and what it is made of.
fn relation(
    description: &str,
    schema: SchemaRef,
    inputs: Vec<Arc<Relation>>,
    operator: impl FnOnce(Vec<Arc<Relation>>) -> Operator,
) -> Arc<Relation> {
    let kinds: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
    let made_of: Vec<Fingerprint> = inputs.iter().map(|input| input.fingerprint).collect();
    let fingerprint = Fingerprint::of(&format!("{description} of {made_of:?} as {kinds:?}"));
    Arc::new(Relation { operator: operator(inputs), schema, fingerprint })
}

/// All rows of all inputs.
fn unite(inputs: Vec<Arc<Relation>>, schema: SchemaRef) -> Arc<Relation> {
    relation("union", schema, inputs, |inputs| Operator::Union { inputs })
}

/// Each row once.
fn distinct(input: Arc<Relation>) -> Arc<Relation> {
    let schema = Arc::clone(&input.schema);
    relation("distinct", schema, vec![input], |mut inputs| Operator::Distinct { input: inputs.remove(0) })
}

/// The columns of a plan as rows have them.
fn arrow(schema: &DFSchema) -> SchemaRef {
    nullable(schema.as_arrow())
}

fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| Field::new(field.name(), field.data_type().clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// An expression that can be evaluated on rows.
pub(super) fn physical(expression: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, Objection> {
    if temporal::mentions_now(expression) {
        return Err(temporal::misplaced(expression));
    }
    if let Some(objection) = left_in(expression) {
        return Err(objection.of_what_is_left());
    }
    if expression.is_volatile() {
        let message = "its value is another one every time; a view has rows that only change when what it reads does";
        return Err(Objection::new(Place::of(expression), expression.human_display().to_string(), message));
    }
    let schema = DFSchema::from_field_specific_qualified_schema(
        schema.iter().map(|(qualifier, _)| qualifier.cloned()).collect(),
        &nullable(schema.as_arrow()),
    )?;
    let physical = create_physical_expr(expression, &schema, &PROPERTIES, &PhysicalPlanningContext::default())?;
    possible::check(&physical, schema.as_arrow())?;
    Ok(physical)
}

fn physical_all(expressions: &[Expr], schema: &DFSchema) -> Result<Vec<Arc<dyn PhysicalExpr>>, Objection> {
    expressions.iter().map(|expression| physical(expression, schema)).collect()
}

fn refused(plan: &LogicalPlan, construct: &str, message: &str) -> Objection {
    Objection::new(Place::of_plan(plan), construct, message)
}

fn unknown(name: &TableReference) -> Objection {
    let place = Place::Word(name.table().to_owned());
    Objection::new(place, format!("table {name}"), "there is no such table or view")
}

#[cfg(test)]
mod tests;
