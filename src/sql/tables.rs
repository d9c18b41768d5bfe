//! All tables by their names: the four that are always there, and one for each resource type of a schema folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::kessel_schema::{KesselSchema, SchemaFolderError};
use super::table::{COMMON_NAMES, Table, TableKind};
use crate::model::Topics;

/// The tables that queries can read.
#[derive(Debug, Clone)]
pub struct Tables {
    tables: BTreeMap<Arc<str>, Arc<Table>>,
}

impl Tables {
    /// The tables over the types of a Kessel schema folder; without one only the four. `topics` names those of the events.
    pub fn read(schema_directory: Option<&Path>, topics: &Topics) -> Result<Self, SchemaFolderError> {
        let always = TableKind::ALWAYS;
        let taken = always.each_ref().map(TableKind::name);
        let read = |folder| KesselSchema::read(folder, &taken, &COMMON_NAMES);
        let schema = schema_directory.map(read).transpose()?.unwrap_or_default();
        let typed = schema.types().map(|(name, properties)| (TableKind::Typed(Arc::clone(name)), properties));
        let all = always.iter().cloned().map(|kind| (kind, &[][..])).chain(typed);
        let tables = all
            .map(|(kind, properties)| (Arc::from(kind.name()), Arc::new(Table::new(kind, properties, topics.clone()))));
        Ok(Self { tables: tables.collect() })
    }

    /// The table of a name.
    pub fn table(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.get(name)
    }

    /// All tables, in order of name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Table>> {
        self.tables.values()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::RecordBatch;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::sql::TIME_ZONE;

    /// The optimised plan of a query over the shipped tables.
    async fn plan(settings: &[(&str, &str)], query: &str) -> String {
        let tables =
            Tables::read(Some(Path::new("config/kessel-schema")), &Topics::default()).expect("a schema folder");
        let mut config = SessionConfig::new();
        for (setting, value) in settings {
            config.options_mut().set(setting, value).expect("a setting");
        }
        let session = SessionContext::new_with_config(config);
        for table in tables.iter() {
            let empty = RecordBatch::new_empty(Arc::clone(&table.schema));
            session.register_batch(table.kind.name(), empty).expect("the names differ");
        }
        let planned = session.sql(query).await.and_then(|frame| frame.into_optimized_plan());
        planned.expect(query).display_indent().to_string()
    }

    #[tokio::test]
    async fn columns_are_compared_without_a_cast() {
        let utc = ("datafusion.execution.time_zone", TIME_ZONE);
        let views = ("datafusion.sql_parser.map_string_types_to_utf8view", "true");
        let no_views = (views.0, "false");
        for settings in [&[][..], &[utc, views], &[utc, no_views]] {
            for filter in [
                "updated_at < now()",
                "updated_at < now() - interval '7 days'",
                "updated_at >= '2026-01-01T00:00:00Z'",
                "updated_at < to_timestamp('2026-01-01')",
                "updated_at = TIMESTAMP '2026-01-01 00:00:00'",
                "updated_at > DATE '2026-01-01'",
                "date_trunc('hour', updated_at) = '2026-01-01'",
                "created_at = updated_at",
                "workspace_id = 'x'",
                "workspace_id = 'x'::text",
                "workspace_id LIKE 'x%'",
                "upper(workspace_id) || 'x' = 'X'",
                "partition = 0 AND offset > 5",
            ] {
                let plan = plan(settings, &format!("SELECT resource_id FROM resources WHERE {filter}")).await;
                assert!(plan.contains("Filter: ") && !plan.contains("CAST"), "{plan}");
            }
        }
        let query =
            "SELECT resource_id FROM resources WHERE updated_at < to_timestamp(event_id) AND topic = partition::text";
        let plan = plan(&[utc, no_views], query).await;
        assert!(plan.contains("updated_at < to_timestamp(resources.event_id)"), "{plan}");
        assert!(plan.contains("resources.topic = CAST(resources.partition AS Utf8)"), "{plan}");
    }

    #[tokio::test]
    async fn no_column_needs_quotes() {
        let tables =
            Tables::read(Some(Path::new("config/kessel-schema")), &Topics::default()).expect("a schema folder");
        for table in tables.iter() {
            let names: Vec<&str> = table.schema.fields().iter().map(|field| field.name().as_str()).collect();
            let query = format!("SELECT {} FROM {}", names.join(", "), table.kind.name());
            let plan = plan(&[("datafusion.sql_parser.dialect", "PostgreSQL")], &query).await;
            let all = format!("TableScan: {} projection=[{}]", table.kind.name(), names.join(", "));
            assert_eq!(plan, all);
        }
    }

    #[test]
    fn there_are_four_tables_and_one_for_each_type() {
        let names = |folder: Option<&str>| {
            let tables = Tables::read(folder.map(Path::new), &Topics::default()).expect("a schema folder");
            tables.iter().map(|table| table.kind.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["deleted_resources", "orphaned_resources", "quarantine", "resources"]);
        let all = [
            "billing_account",
            "deleted_resources",
            "host",
            "k8s_cluster",
            "k8s_policy",
            "notifications_integration",
            "orphaned_resources",
            "quarantine",
            "resources",
            "service",
        ];
        assert_eq!(names(Some("config/kessel-schema")), all);
    }

    #[test]
    fn properties_that_are_called_as_common_columns_are_told_apart() {
        let tables =
            Tables::read(Some(Path::new("config/kessel-schema")), &Topics::default()).expect("a schema folder");
        let table = tables.table("notifications_integration").expect("a type");
        let names: Vec<&str> = table.schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names[..COMMON_NAMES.len()], COMMON_NAMES);
        let own = ["data_local_resource_id", "data_reporter_instance_id", "data_reporter_type"];
        assert_eq!(names[COMMON_NAMES.len()..], own);
    }
}
