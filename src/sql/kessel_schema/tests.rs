//! The tests of the schema folder: the shipped one, and all that can be wrong with one.

use std::fs;

use serde_json::json;

use super::*;

/// A folder with a schema for each (type, reporter).
fn folder(schemas: &[(&str, &str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, reporter, schema) in schemas {
        let reporter = folder.path().join("resources").join(name).join("reporters").join(reporter);
        fs::create_dir_all(&reporter).expect("a folder");
        fs::write(reporter.join(format!("{name}.json")), schema).expect("a file");
    }
    folder
}

fn read(folder: &Path) -> Result<KesselSchema, SchemaFolderError> {
    KesselSchema::read(folder, &["resources"], &["topic", "data"])
}

/// The properties of the first type, in order.
fn properties_of(folder: &Path) -> Vec<(String, Kinds)> {
    let schema = read(folder).expect("a schema folder");
    let (_, properties) = schema.types().next().expect("a type");
    properties.iter().map(|property| (property.name.to_string(), property.kinds)).collect()
}

#[test]
fn the_shipped_folder_is_read() {
    let schema = KesselSchema::read(Path::new("config/kessel-schema"), &[], &[]).expect("a schema folder");
    let shown: Vec<String> = schema
        .types()
        .map(|(name, properties)| {
            let properties = properties.iter().map(|property| format!("{}: {}", property.name, property.kinds));
            format!("{name}({})", properties.collect::<Vec<_>>().join(", "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "billing_account(workspaces: an array)",
            "host(ansible_host: a string, insights_id: a string, satellite_id: a string, subscription_manager_id: a \
             string)",
            "k8s_cluster(cloud_platform: a string, cluster_reason: a string, cluster_status: a string, \
             external_cluster_id: a string, kube_vendor: a string, kube_version: a string, nodes: an array, \
             vendor_version: a string)",
            "k8s_policy(disabled: a boolean, severity: a string)",
            "notifications_integration(local_resource_id: a string, reporter_instance_id: a string, reporter_type: a \
             string)",
            "service(allowed_workspaces: an array, billing_account: an array, parent: a string)",
        ]
    );
}

#[test]
fn what_a_property_may_be() {
    let time = json!({"type": "string", "format": "date-time"});
    for (schema, kinds, column) in [
        (json!({"type": "string", "format": "uuid"}), Kinds::STRING, PropertyColumn::Text),
        (json!({"type": ["null", "string"]}), Kinds::STRING, PropertyColumn::Text),
        (json!({"enum": ["A", null, "B"]}), Kinds::STRING, PropertyColumn::Text),
        (json!({"const": true}), Kinds::BOOLEAN, PropertyColumn::Boolean),
        (time.clone(), Kinds::TIME, PropertyColumn::Time),
        (json!({"anyOf": [{"type": "null"}, time.clone()]}), Kinds::TIME, PropertyColumn::Time),
        (json!({"oneOf": [time, {"type": "string", "pattern": "x"}]}), Kinds::STRING, PropertyColumn::Text),
        (json!({"type": "integer", "enum": [1, 2]}), Kinds::INTEGER, PropertyColumn::Integer),
        (json!({"enum": [1, 2.5]}), Kinds::NUMBER, PropertyColumn::Number),
        (json!({"type": ["integer", "number"]}), Kinds::NUMBER, PropertyColumn::Number),
        (json!({"type": "array"}), Kinds::ARRAY, PropertyColumn::Json),
        (json!({"allOf": [{"minLength": 1}, {"type": "string"}]}), Kinds::STRING, PropertyColumn::Text),
        (json!({"type": ["string", "object"]}), Kinds::STRING.union(Kinds::OBJECT), PropertyColumn::Json),
        (json!({"anyOf": [{"type": "string"}, {"minLength": 1}]}), Kinds::ANY, PropertyColumn::Json),
        (json!({"$ref": "#/definitions/x"}), Kinds::ANY, PropertyColumn::Json),
        (json!({"type": "null"}), Kinds::ANY, PropertyColumn::Json),
        (json!({"type": "money"}), Kinds::ANY, PropertyColumn::Json),
        (json!({}), Kinds::ANY, PropertyColumn::Json),
        (json!(true), Kinds::ANY, PropertyColumn::Json),
    ] {
        assert_eq!((Kinds::of_schema(&schema), Kinds::of_schema(&schema).column()), (kinds, column), "{schema}");
    }
    assert_eq!(Kinds::ANY.to_string(), "a string or a boolean or a number or an array or an object");
}

#[test]
fn reporters_are_united_and_their_order_does_not_matter() {
    let [one, other] = [
        r#"{"properties": {"b": {"type": "integer"}, "a": {"type": "string"}, "c": {"type": "array"}}}"#,
        r#"{"properties": {"b": {"type": "number"}, "c": {"type": "array"}, "a": {"type": "boolean"}, "B": true}}"#,
    ];
    let expected =
        [("B", Kinds::ANY), ("a", Kinds::STRING.union(Kinds::BOOLEAN)), ("b", Kinds::NUMBER), ("c", Kinds::ARRAY)];
    for (first, second) in [(one, other), (other, one)] {
        let folder = folder(&[("t", "r1", first), ("t", "r2", second), ("t", "r3", "{}")]);
        let expected: Vec<_> = expected.iter().map(|(name, kinds)| ((*name).to_owned(), *kinds)).collect();
        assert_eq!(properties_of(folder.path()), expected);
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_told_with_its_file_and_what_is_allowed() {
    let refused = |schemas: &[(&str, &str, &str)], place: &str, why: &str| {
        let folder = folder(schemas);
        let error = read(folder.path()).expect_err(why).to_string();
        let place = folder.path().join(place).display().to_string();
        assert!(error.starts_with(&format!("{place}: ")) && error.contains(why), "{error}");
    };
    refused(&[("t", "r", "{")], "resources/t/reporters/r/t.json", "not JSON: EOF");
    refused(&[("t", "r", "[]")], "resources/t/reporters/r/t.json", "is an object");
    refused(&[("t", "r", r#"{"properties": 1}"#)], "resources/t/reporters/r/t.json", "found 1");
    refused(&[("K8s", "r", "{}")], "resources/K8s", "allowed are lower-case letters");
    refused(&[("8s", "r", "{}")], "resources/8s", "allowed are lower-case letters");
    refused(&[("resources", "r", "{}")], "resources/resources", "no name that a table of Tarn has");
    refused(&[("t", "r", r#"{"properties": {"a b": {}}}"#)], "resources/t", r#""a b" cannot name a column: allowed"#);
    refused(&[("t", "r", r#"{"properties": {"": {}}}"#)], "resources/t", r#""" cannot name a column: allowed"#);
    let both = r#"{"properties": {"data_topic": {}, "topic": {}}}"#;
    refused(&[("t", "r", both)], "resources/t", "a property that is called as a common column already gets this name");
    let error = read(Path::new("config/no-such-folder")).expect_err("it is not there").to_string();
    assert!(error.starts_with("config/no-such-folder/resources: No such file"), "{error}");
    assert!(error.ends_with("a schema folder has `resources/TYPE/reporters/REPORTER/TYPE.json`"), "{error}");
    // A reporter without its schema, and files where folders are expected.
    let folder = folder(&[("t", "r", "{}")]);
    fs::write(folder.path().join("resources/README"), "read me").expect("a file");
    fs::write(folder.path().join("resources/t/config.yaml"), "resource_type: t").expect("a file");
    assert_eq!(read(folder.path()).expect("files are passed over").types().len(), 1);
    fs::remove_file(folder.path().join("resources/t/reporters/r/t.json")).expect("it was there");
    assert!(
        read(folder.path()).expect_err("no schema").to_string().contains("resources/t/reporters/r/t.json: No such")
    );
}

#[test]
fn names_that_collide_get_a_prefix() {
    let names = |property| column_name(property, &["topic", "data"]);
    assert_eq!(["status", "topic", "TOPIC", "data"].map(names), ["status", "data_topic", "data_TOPIC", "data_data"]);
}
