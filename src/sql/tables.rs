//! All tables by their names: the four that are always there, and one for each resource type of a schema folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::kessel_schema::{KesselSchema, SchemaError};
use super::table::{COMMON_NAMES, Table, TableKind};
use crate::model::Topics;

/// The tables that queries can read.
#[derive(Debug, Clone)]
pub struct Tables {
    tables: BTreeMap<Arc<str>, Arc<Table>>,
}

impl Tables {
    /// The tables over the types of a Kessel schema folder; without one only the four. `topics` names those of the events.
    pub fn read(schema_directory: Option<&Path>, topics: &Topics) -> Result<Self, SchemaError> {
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
    use super::*;

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
