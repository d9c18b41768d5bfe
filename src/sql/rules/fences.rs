//! What operators do not know of each other, as DataFusion would have it: limits within a query count the rows that they are
//! written for, and outer joins have nulls.
//!
//! Where a query sorts as a limit within it does, DataFusion sorts once, below the limit, and hands down how many rows are
//! wanted above. But a limit passes over what its `OFFSET` says, so that below it more are needed:
//! `SELECT .. FROM (SELECT .. ORDER BY x LIMIT 20 OFFSET 5) ORDER BY x LIMIT 10` had five rows. So while sorts are placed,
//! such a limit stands behind a fence, whose rows are in no order and of which nothing is known to be wanted. What is above
//! sorts for itself then, and no more than the limit leaves.
//!
//! And an `OFFSET` without `LIMIT` wants no order, as DataFusion sees it, so that the sort below it would go where nothing
//! above wants its order either. So it is made to want that.
//!
//! What is constant of a side of an outer join (a literal, what `WHERE` or `ON` says, the one row of an aggregate) DataFusion
//! holds for constant after it too, and sorts and groups by no such column; but where there is no partner it is null. So of
//! such a side nothing is known, by a fence that stays. Nor do windows know what is constant of their rows: they would hold
//! that for no order, and miss it.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, OrderingRequirements, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::output_requirements::OutputRequirementExec;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    PlanProperties, ReplaceChildrenOptions,
};

type Plan = Arc<dyn ExecutionPlan>;

/// What is done about fences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql) enum Fences {
    /// Before sorts are placed.
    Raise,
    /// After that.
    Remove,
}

impl PhysicalOptimizerRule for Fences {
    fn optimize(&self, plan: Plan, _config: &ConfigOptions) -> Result<Plan> {
        match self {
            Self::Raise => raised(plan.transform_down(ordered).data()?.transform_up(apart).data()?, true),
            Self::Remove => plan.transform_up(|node| Ok(removed(node))).data(),
        }
    }

    fn name(&self) -> &str {
        "fences"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// An `OFFSET` without `LIMIT` that stands right above what sorts for it, and wants its order.
fn ordered(node: Plan) -> Result<Transformed<Plan>> {
    let Some(limit) = node.downcast_ref::<GlobalLimitExec>().filter(|limit| limit.fetch().is_none()) else {
        return Ok(Transformed::no(node));
    };
    let input = limit.input();
    if let Some(sort) = input.downcast_ref::<SortExec>() {
        let order = Some(OrderingRequirements::from(sort.expr().clone()));
        let wanted = OutputRequirementExec::new(Arc::clone(input), order, Distribution::SinglePartition, None);
        let limit = GlobalLimitExec::new(Arc::new(wanted), limit.skip(), None);
        return Ok(Transformed::yes(Arc::new(limit)));
    }
    match input.downcast_ref::<ProjectionExec>() {
        // By what the sort sorts may go above it.
        Some(projection) => {
            let limit = Arc::new(GlobalLimitExec::new(Arc::clone(projection.input()), limit.skip(), None));
            let recompute = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            Ok(Transformed::yes(Arc::clone(input).replace_children(vec![limit], recompute)?))
        }
        None => Ok(Transformed::no(node)),
    }
}

/// `is_open`: what stands above takes all rows as they are.
fn raised(plan: Plan, is_open: bool) -> Result<Plan> {
    let is_limit = plan.is::<GlobalLimitExec>() || plan.is::<LocalLimitExec>();
    let limits = is_limit || plan.is::<SortExec>() && plan.fetch().is_some();
    let passes = is_open && (plan.is::<OutputRequirementExec>() || plan.is::<ProjectionExec>());
    // A sort below a limit is a part of it.
    let plan = plan.map_children(|child| {
        let is_open = passes || is_limit && child.is::<SortExec>();
        raised(child, is_open).map(Transformed::yes)
    });
    let plan = plan.data()?;
    Ok(if limits && !is_open { Arc::new(Fence::before(plan, Stay::WhileSorting)) } else { plan })
}

/// A join with fences before the sides of which it may have nulls, and a window with one before its rows.
fn apart(node: Plan) -> Result<Transformed<Plan>> {
    let is_window = |plan: &Plan| plan.is::<WindowAggExec>() || plan.is::<BoundedWindowAggExec>();
    let fenced = match join_type(&node) {
        Some(JoinType::Left) => [false, true],
        Some(JoinType::Right) => [true, false],
        Some(JoinType::Full) => [true, true],
        // Another window leaves rows in an order that may do.
        None if is_window(&node) && !node.children().into_iter().any(is_window) => [true, false],
        _ => return Ok(Transformed::no(node)),
    };
    let sides = node.children().into_iter().zip(fenced).map(|(side, is_fenced)| match is_fenced {
        true => Arc::new(Fence::before(Arc::clone(side), Stay::ForGood)),
        false => Arc::clone(side),
    });
    let sides: Vec<Plan> = sides.collect();
    let recompute = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Ok(Transformed::yes(node.replace_children(sides, recompute)?))
}

fn join_type(node: &Plan) -> Option<JoinType> {
    let hash = node.downcast_ref::<HashJoinExec>().map(|join| *join.join_type());
    let merge = || node.downcast_ref::<SortMergeJoinExec>().map(SortMergeJoinExec::join_type);
    let nested = || node.downcast_ref::<NestedLoopJoinExec>().map(|join| *join.join_type());
    hash.or_else(merge).or_else(nested)
}

fn removed(node: Plan) -> Transformed<Plan> {
    match node.downcast_ref::<Fence>().filter(|fence| fence.stay == Stay::WhileSorting) {
        Some(fence) => Transformed::yes(Arc::clone(&fence.input)),
        None => Transformed::no(node),
    }
}

/// How long a fence stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// Until sorts are placed.
    WhileSorting,
    /// While the plan is run, too.
    ForGood,
}

/// Passes rows on as they are, and tells nothing of them.
#[derive(Debug)]
struct Fence {
    input: Plan,
    stay: Stay,
    properties: Arc<PlanProperties>,
}

impl Fence {
    fn before(input: Plan, stay: Stay) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, stay, properties: Arc::new(properties) }
    }
}

impl DisplayAs for Fence {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fence")
    }
}

impl ExecutionPlan for Fence {
    fn name(&self) -> &'static str {
        "Fence"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Plan> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(self: Arc<Self>, mut children: Vec<Plan>, _: ReplaceChildrenOptions) -> Result<Plan> {
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Arc::new(Self::before(input, self.stay))),
            _ => internal_err!("a fence stands before one operator"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Plan>) -> Result<Plan> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
