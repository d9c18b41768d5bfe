//! The one place that makes a DataFusion session: functions, settings, rules.
//!
//! Views and ad-hoc queries have the same functions and the same meaning; they differ in what `now()` is and in how a plan
//! is optimised: for a view, so that lowering has little to tell apart, for a query, so that it is fast.

mod optimizers;

use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, plan_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as AnyStatement;
use datafusion::sql::sqlparser::ast::{Query, Statement};
use futures_util::FutureExt;

use super::functions::bounded::{Counted, text_aggregate};
use super::functions::{aggregates, json, times};
use super::refusal::{Objection, Source, explained};
use super::rules::memberships::{WITHOUT_KEY, is_without_key};
use super::rules::{Now, analyzer_rules};
use super::syntax;
use super::table::TIME_ZONE;
use super::unmaintained::AdHoc;
use crate::model::Epoch;

/// Rules see each other's work in later rounds: a filter becomes a condition of a join, that a key, its column useless.
/// When nothing changes any more the optimiser stops by itself.
const OPTIMIZER_ROUNDS: usize = 8;

/// Smaller batches than DataFusion's own: a query can only be ended between two of them, and not all that an expression
/// makes of a batch is counted towards its memory.
const AD_HOC_BATCH_ROWS: usize = 1024;

/// Functions that mean nothing here: they tell of files and of the engine.
const NO_FUNCTIONS: [&str; 3] = ["file_row_index", "input_file_name", "version"];

/// How much is done to a plan before it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// All that makes it fast.
    Fast,
    /// What it cannot be run without, so that little can go wrong: for tests, which compare.
    Least,
}

/// A session that plans views.
pub(super) fn maintained() -> SessionContext {
    let mut config = config();
    let options = config.options_mut();
    options.optimizer.max_passes = OPTIMIZER_ROUNDS;
    // They become joins, which are maintained as all others; that they have one row at most is seen to before.
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    session(builder(config, Now::Passing, None).with_optimizer_rules(optimizers::maintained()))
}

/// A session that answers queries as of an epoch.
pub(super) fn ad_hoc(epoch: Epoch, environment: Arc<RuntimeEnv>, effort: Effort) -> SessionContext {
    let mut config = config().with_batch_size(AD_HOC_BATCH_ROWS);
    // Columns may have other metadata after optimisation, which means nothing here.
    config.options_mut().execution.skip_physical_aggregate_schema_check = true;
    let counted = Arc::new(Counted::new(&environment.memory_pool));
    let builder = builder(config, Now::At(epoch), Some(counted));
    let builder = builder.with_runtime_env(environment).with_optimizer_rules(optimizers::logical(effort));
    session(builder.with_physical_optimizer_rules(optimizers::physical(effort)))
}

/// The plan of a text that is one query over what is registered in the session, not optimised yet.
pub async fn one_query(context: &SessionContext, sql: &str) -> Result<LogicalPlan, String> {
    let state = context.state();
    let query = syntax::parse(sql).and_then(|query| syntax::check(&query, &AdHoc(&state)).map(|()| query));
    let query = query.map_err(|objection| refused(sql, objection))?;
    let planned = state.statement_to_plan(statement(query)).await;
    planned.map_err(|error| refused(sql, error))
}

/// The plan of a query as it is run: with all rules, where that is refused without the one that is known to be at fault, and
/// where that is refused too with those alone that it cannot be run without.
pub(super) async fn executable(
    context: &SessionContext,
    plan: &LogicalPlan,
) -> Result<Arc<dyn ExecutionPlan>, Objection> {
    let state = context.state();
    let like_it = || SessionStateBuilder::new_from_existing(state.clone());
    let mut refused = match planned(&state, plan).await? {
        Ok(plan) => return Ok(plan),
        Err(refused) => refused,
    };
    if let Some(rules) = optimizers::without_shared_expressions(state.optimizers()) {
        refused = match planned(&like_it().with_optimizer_rules(rules).build(), plan).await? {
            Ok(plan) => return Ok(plan),
            Err(refused) => refused,
        };
    }
    let least = like_it().with_optimizer_rules(optimizers::logical(Effort::Least));
    let least = least.with_physical_optimizer_rules(optimizers::physical(Effort::Least)).build();
    planned(&least, plan).await?.map_err(|_| explained(plan, refused))
}

/// The plan as a session runs it, or why DataFusion refuses that; an error when it is refused here, which other rules would
/// not change.
async fn planned(
    state: &SessionState,
    plan: &LogicalPlan,
) -> Result<Result<Arc<dyn ExecutionPlan>, DataFusionError>, DataFusionError> {
    let plan = match state.optimize(plan) {
        Ok(plan) => plan,
        Err(refused) => return Ok(Err(refused)),
    };
    plan.apply_with_subqueries(|node| match node {
        // It would be run as if it knew nothing of nulls.
        LogicalPlan::Join(join) if is_without_key(join) => plan_err!("NOT IN (SELECT ..): {WITHOUT_KEY}"),
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(state.query_planner().create_physical_plan(&plan, state).await)
}

/// What a query reads, by name; nothing where it cannot be understood.
pub(super) fn names(context: &SessionContext, sql: &str) -> Vec<String> {
    let Ok(query) = syntax::parse(sql) else { return Vec::new() };
    let references = context.state().resolve_table_references(&statement(query)).unwrap_or_default();
    references.iter().map(|reference| reference.table().to_owned()).collect()
}

/// Why an ad-hoc query is refused.
pub(super) fn refused(sql: &str, objection: impl Into<Objection>) -> String {
    Source { file: "query", text: sql }.refuse(objection.into()).to_string()
}

/// The plan of a query with names and types, as it is written and with what our rules make of it; not optimised yet. What the
/// session knows must be in memory.
pub(super) fn analysed(context: &SessionContext, query: Box<Query>) -> Result<(LogicalPlan, LogicalPlan), Objection> {
    let state = context.state();
    let planned = state.statement_to_plan(statement(query)).now_or_never();
    let plan = planned.expect("tables in memory answer at once")?;
    match state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {}) {
        Ok(analysed) => Ok((plan, analysed)),
        Err(error) => Err(explained(&plan, error)),
    }
}

fn statement(query: Box<Query>) -> AnyStatement {
    AnyStatement::Statement(Box::new(Statement::Query(query)))
}

/// The settings of all sessions.
pub(super) fn config() -> SessionConfig {
    let mut config = SessionConfig::new().with_information_schema(false);
    let options = config.options_mut();
    options.execution.time_zone = Some(TIME_ZONE.to_owned());
    // Refusals point at the text.
    options.sql_parser.collect_spans = true;
    // One type for texts: that of tables.
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.enable_ident_normalization = true;
    // In which `->>` binds before `=`.
    options.sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
    config
}

fn builder(config: SessionConfig, now: Now, counted: Option<Arc<Counted>>) -> SessionStateBuilder {
    let functions = SessionStateDefaults::default_scalar_functions().into_iter();
    let functions = functions
        .filter(|function| !NO_FUNCTIONS.contains(&function.name()))
        .map(|function| times::as_promised(&function, config.options()).map_or(function, Arc::new));
    let functions = functions.collect();
    SessionStateBuilder::new()
        .with_config(config)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(functions)
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_analyzer_rules(analyzer_rules(now, counted))
}

fn session(builder: SessionStateBuilder) -> SessionContext {
    let mut context = SessionContext::new_with_state(builder.build());
    json::register(&mut context).expect("a session takes functions");
    aggregates::register(&context);
    context.register_udaf(text_aggregate());
    context
}
