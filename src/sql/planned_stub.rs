//! Stub until planning is merged.
#![allow(missing_docs)]
use super::ViewPlan;
use std::path::Path;
use std::sync::Arc;
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryFile {
    pub name: String,
    pub text: String,
}
#[derive(Debug)]
pub struct Refusal {
    pub view: String,
}
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.view)
    }
}
#[derive(Debug)]
pub struct Planned {
    pub views: Vec<Arc<ViewPlan>>,
    pub refusals: Vec<Refusal>,
}
use super::Tables;
pub fn plan_queries(_: &[QueryFile], _: &Tables) -> Planned {
    Planned { views: vec![], refusals: vec![] }
}
pub fn read_queries(_: &Path) -> std::io::Result<Vec<QueryFile>> {
    Ok(vec![])
}
pub fn ad_hoc(
    _: crate::model::Epoch,
    environment: Arc<datafusion::execution::runtime_env::RuntimeEnv>,
) -> datafusion::prelude::SessionContext {
    datafusion::prelude::SessionContext::new_with_config_rt(datafusion::prelude::SessionConfig::new(), environment)
}
pub async fn one_query(
    context: &datafusion::prelude::SessionContext,
    sql: &str,
) -> Result<datafusion::logical_expr::LogicalPlan, String> {
    context.state().create_logical_plan(sql).await.map_err(|e| e.to_string())
}
