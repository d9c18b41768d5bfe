//! What is done to a plan before it is maintained or run.

use std::sync::Arc;

use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_group_by_constant::EliminateGroupByConstant;
use datafusion::optimizer::eliminate_join::EliminateJoin;
use datafusion::optimizer::eliminate_limit::EliminateLimit;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::propagate_empty_relation::PropagateEmptyRelation;
use datafusion::optimizer::push_down_limit::PushDownLimit;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::ensure_requirements::EnsureRequirements;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_optimizer::join_selection::JoinSelection;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_optimizer::output_requirements::OutputRequirements;

use super::Effort;
use crate::sql::rules::fences::Fences;
use crate::sql::rules::{kept_rows, lists, null_keys};

type Rule = Arc<dyn OptimizerRule + Send + Sync>;
type Rules = Vec<Rule>;
type PhysicalRule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;
type PhysicalRules = Vec<PhysicalRule>;

/// For views: DataFusion's rules in their order, without those that lead away from what is maintained:
///
/// - `ReplaceDistinctWithAggregate`: `DISTINCT` is an operator
/// - `SingleDistinctToGroupBy`: so is a distinct aggregate, and sums of sums are not exact
/// - `PushDownLimit`: would hide limits in scans, sorts and joins
/// - `FilterNullJoinKeys`: keys drop nulls by themselves
/// - `EliminateGroupByConstant`: saves nothing in a key, and a constant is a group that may be missing
/// - `CommonSubexprEliminate`: would split programs that are evaluated in one go
/// - `ExtractLeafExpressions`, `PushDownLeafProjections`: of use to files that hold nested columns
/// - `UnionsToFilter`: would read a table once, but a row that fails would fail for all parts
pub(super) fn maintained() -> Rules {
    vec![
        Arc::new(RewriteSetComparison::new()),
        Arc::new(OptimizeUnions::new()),
        Arc::new(lists::rule()),
        Arc::new(EliminateJoin::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(null_keys::keys()),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(null_keys::order()),
        Arc::new(EliminateLimit::new()),
        Arc::new(PropagateEmptyRelation::new()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(kept_rows::rule()),
        Arc::new(OptimizeProjections::new()),
    ]
}

/// For ad-hoc queries: all of DataFusion's rules but `EliminateGroupByConstant`, which gives two columns one name where what
/// is grouped by is made of another column that is grouped by.
pub(super) fn logical(effort: Effort) -> Rules {
    if effort == Effort::Least {
        return vec![
            Arc::new(RewriteSetComparison::new()),
            // What `coalesce` and others are made of.
            Arc::new(lists::rule()),
            Arc::new(ReplaceDistinctWithAggregate::new()),
            Arc::new(DecorrelatePredicateSubquery::new()),
            Arc::new(ScalarSubqueryToJoin::new()),
            Arc::new(DecorrelateLateralJoin::new()),
            // Keys know of nulls, as `NOT IN` must, and conditions do not.
            Arc::new(null_keys::keys()),
            // A sort that has no limit itself goes when nothing above wants an order, and a limit does not.
            Arc::new(EliminateLimit::new()),
            Arc::new(PushDownLimit::new()),
        ];
    }
    let mut rules = Optimizer::new().rules;
    rules.retain(|rule| rule.name() != EliminateGroupByConstant::new().name());
    let mended: Rules = vec![
        Arc::new(kept_rows::rule()),
        Arc::new(lists::rule()),
        Arc::new(null_keys::keys()),
        Arc::new(null_keys::order()),
    ];
    for rule in &mut rules {
        // They have the names of those that they stand for.
        if let Some(mended) = mended.iter().find(|mended| mended.name() == rule.name()) {
            *rule = Arc::clone(mended);
        }
    }
    rules
}

/// The same without `CommonSubexprEliminate`: what is written several times is computed as often, but that rule makes plans
/// that name columns which are no longer there. Nothing when it is not among them.
pub(super) fn without_shared_expressions(rules: &[Rule]) -> Option<Rules> {
    let shares = CommonSubexprEliminate::new();
    let others: Rules = rules.iter().filter(|rule| rule.name() != shares.name()).cloned().collect();
    (others.len() < rules.len()).then_some(others)
}

/// The same for what such a plan has become: all but `FilterPushdown`, which finds columns by name alone, so that of two
/// columns of one name a condition on both becomes one on the first twice. Conditions are pushed down in the plan before,
/// and tables take none.
pub(super) fn physical(effort: Effort) -> PhysicalRules {
    let rules: PhysicalRules = match effort {
        // What decides how a join is made, and what sees to it that all have what they need, the answer an order above all.
        Effort::Least => vec![
            Arc::new(OutputRequirements::new_add_mode()),
            Arc::new(JoinSelection::new()),
            Arc::new(EnsureRequirements::new()),
            Arc::new(OutputRequirements::new_remove_mode()),
        ],
        Effort::Fast => {
            let misleading = [FilterPushdown::new(), FilterPushdown::new_post_optimization()];
            let rules = PhysicalOptimizer::new().rules.into_iter();
            rules.filter(|rule| misleading.iter().all(|misleading| misleading.name() != rule.name())).collect()
        }
    };
    let fenced = |rule: PhysicalRule| match rule.name() == EnsureRequirements::new().name() {
        true => vec![Arc::new(Fences::Raise), rule, Arc::new(Fences::Remove)],
        false => vec![rule],
    };
    rules.into_iter().flat_map(fenced).collect()
}
