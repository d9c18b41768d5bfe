//! Tables against a naive reading of each row, by a tree of its JSON; and the promise of [`Parts`].

mod states;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::*;
use crate::model::{Coordinates, EventOrder, Lifecycle, QuarantineStatus, Reject, RejectReason, Texts};
use crate::sql::kessel_schema::Kinds;
use states::{changed_state, properties, property, random_orphaned_by, random_state};

const SECOND_NS: i64 = 1_000_000_000;

fn tables(topics: &Topics) -> Vec<Table> {
    let typed = TableKind::Typed("host".into());
    let kinds = [TableKind::Resources, TableKind::Orphaned, TableKind::Deleted];
    let common = kinds.map(|kind| Table::new(kind, &[], topics.clone()));
    common.into_iter().chain([Table::new(typed, &properties(), topics.clone())]).collect()
}

fn quarantine(topics: &Topics) -> Table {
    Table::new(TableKind::Quarantine, &[], topics.clone())
}

/// A column's value as JSON.
fn cell(columns: &Columns, row: usize, column: usize) -> Value {
    let values = columns.batch.column(column);
    if values.is_null(row) {
        return Value::Null;
    }
    match values.data_type() {
        DataType::Utf8 => json!(values.as_string::<i32>().value(row)),
        DataType::Boolean => json!(values.as_boolean().value(row)),
        DataType::Int32 => json!(values.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(values.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => json!(values.as_primitive::<Float64Type>().value(row)),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(zone)) if &**zone == TIME_ZONE => {
            json!(values.as_primitive::<TimestampNanosecondType>().value(row))
        }
        other => panic!("no table has {other}"),
    }
}

/// A time in nanoseconds, if it has so many: by its text, which is a date that the other library knows too.
fn naive_time(time: Option<Timestamp>) -> Option<Value> {
    let Some(time) = time else { return Some(Value::Null) };
    let time: jiff::Timestamp = time.to_string().parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok().map(|time| json!(time))
}

/// What a property is in a table; nothing where it cannot be read.
fn naive_property(state: &State, property: &Property) -> Option<Value> {
    let data: Value = serde_json::from_str(state.text(Field::Data).unwrap_or("{}")).expect("generated");
    let value = match data.get(&*property.name) {
        None | Some(Value::Null) => return Some(Value::Null),
        Some(value) => value,
    };
    match &*property.name {
        "any" => Some(json!(value.to_string())),
        "array" => value.is_array().then(|| json!(value.to_string())),
        "object" => value.is_object().then(|| json!(value.to_string())),
        "boolean" => value.is_boolean().then(|| value.clone()),
        "integer" => value.is_i64().then(|| value.clone()),
        "integer_or_string" => (value.is_i64() || value.is_string()).then(|| json!(value.to_string())),
        "number" => {
            let number = value.as_f64()?;
            (value.is_f64() || number.abs() < 9e15).then(|| json!(number))
        }
        "time" => naive_time(Timestamp::parse(value.as_str()?).ok()?),
        _ => value.is_string().then(|| value.clone()),
    }
}

/// What a column is; nothing where it cannot be read.
fn naive(resource: Resource<'_>, name: &str, topics: &Topics) -> Option<Value> {
    let Resource { state, orphaned_by } = resource;
    let (created_at, updated_at, deleted_at) = match state.lifecycle {
        Lifecycle::Live { created_at, updated_at } => (created_at, updated_at, None),
        Lifecycle::Deleted { deleted_at } => (None, None, deleted_at),
    };
    let event_id = state.text(Field::EventIdText).map(str::to_owned);
    Some(match name {
        "resource_id" => json!(state.id.to_string()),
        "resource_type" => json!(state.text(Field::ResourceType)),
        "workspace_id" | "last_workspace_id" => json!(state.text(Field::WorkspaceId)),
        "reporter_type" => json!(state.text(Field::ReporterType)),
        "reporter_instance_id" => json!(state.text(Field::ReporterInstanceId)),
        "local_resource_id" => json!(state.text(Field::LocalResourceId)),
        "api_href" => json!(state.text(Field::ApiHref)),
        "console_href" => json!(state.text(Field::ConsoleHref)),
        "reporter_version" => json!(state.text(Field::ReporterVersion)),
        "created_at" => naive_time(created_at)?,
        "updated_at" => naive_time(updated_at)?,
        "deleted_at" => naive_time(deleted_at)?,
        "event_id" => json!(event_id.or(state.last.id.map(|id| id.to_string()))),
        "event_time" => naive_time(Some(state.last.time()))?,
        "topic" => json!(&*topics.name(state.last.coordinates.topic)),
        "partition" => json!(state.last.coordinates.partition),
        "offset" => json!(state.last.coordinates.offset),
        "data" => json!(state.text(Field::Data)),
        "orphaned_by" => json!(orphaned_by.map(|id| id.to_string())),
        "data_topic" => naive_property(state, &property("topic", Kinds::STRING))?,
        name => naive_property(state, properties().iter().find(|property| &*property.name == name)?)?,
    })
}

#[test]
fn each_table_has_its_columns() {
    let topics = Topics::default();
    let shown = |table: &Table| {
        let fields = table.schema.fields().iter().map(|field| {
            let kind = match field.data_type() {
                DataType::Timestamp(..) => "time".to_owned(),
                other => other.to_string(),
            };
            format!("{} {kind}{}", field.name(), if field.is_nullable() { "" } else { "!" })
        });
        fields.collect::<Vec<_>>().join(", ")
    };
    let live = "resource_id Utf8!, resource_type Utf8, workspace_id Utf8, reporter_type Utf8, reporter_instance_id Utf8, \
                local_resource_id Utf8, api_href Utf8, console_href Utf8, reporter_version Utf8, created_at time, \
                updated_at time, event_id Utf8, event_time time!, topic Utf8!, partition Int32!, offset Int64!, data Utf8";
    let [resources, orphaned, deleted, typed] = &tables(&topics)[..] else { panic!("four") };
    assert_eq!(shown(resources), live);
    assert_eq!(shown(orphaned), format!("{live}, orphaned_by Utf8!"));
    assert_eq!(
        shown(deleted),
        "resource_id Utf8!, resource_type Utf8, reporter_type Utf8, reporter_instance_id Utf8, local_resource_id Utf8, \
         last_workspace_id Utf8, deleted_at time, event_id Utf8"
    );
    let properties = "any Utf8, array Utf8, boolean Boolean, integer Int64, integer_or_string Utf8, number Float64, object \
                      Utf8, string Utf8, time time, data_topic Utf8";
    assert_eq!(shown(typed), format!("{live}, {properties}"));
    assert_eq!(
        shown(&quarantine(&topics)),
        "id Utf8!, topic Utf8!, partition Int32!, offset Int64!, timestamp time!, key Utf8, reason Utf8!, detail Utf8!, \
         first_seen time!, bytes Int64!"
    );
}

#[test]
fn every_resource_stands_in_the_tables_of_its_kind() {
    let (mut random, topics) = (StdRng::seed_from_u64(7), Topics::default());
    let tables: Vec<Table> = tables(&topics).into_iter().chain([quarantine(&topics)]).collect();
    let mut met = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        let (state, orphaned_by) = (random_state(&mut random, &topics), random_orphaned_by(&mut random));
        let is_host = state.text(Field::ResourceType) == Some("host");
        let expected: &[&str] = match (state.lifecycle, orphaned_by) {
            (Lifecycle::Deleted { .. }, _) => &["deleted_resources"],
            (Lifecycle::Live { .. }, Some(_)) => &["orphaned_resources"],
            (Lifecycle::Live { .. }, None) if is_host => &["resources", "host"],
            (Lifecycle::Live { .. }, None) => &["resources"],
        };
        let held = tables.iter().filter(|table| table.holds(Resource { state: &state, orphaned_by }));
        assert_eq!(held.map(|table| table.kind.name()).collect::<Vec<_>>(), expected);
        met.insert(expected);
    }
    assert_eq!(met.len(), 4);
}

#[test]
fn random_resources_are_read_as_each_alone_would_be() {
    let (mut random, topics) = (StdRng::seed_from_u64(1), Topics::default());
    let tables = tables(&topics);
    let (mut rows, mut failures) = (0, 0);
    for _ in 0..300 {
        let states: Vec<State> = (0..random.random_range(0..60)).map(|_| random_state(&mut random, &topics)).collect();
        let resources: Vec<Resource<'_>> =
            states.iter().map(|state| Resource { state, orphaned_by: random_orphaned_by(&mut random) }).collect();
        for table in &tables {
            let held: Vec<Resource<'_>> = resources.iter().copied().filter(|one| table.holds(*one)).collect();
            let asked = random.random_range(0.0..1.0);
            let columns: Vec<usize> =
                (0..table.schema.fields().len()).filter(|_| random.random_bool(asked * asked)).collect();
            let read = table.of_resources(&columns, &held);
            assert_eq!(read.batch.schema().fields().len(), columns.len());
            let (mut places, mut failed) = (read.places.iter().enumerate(), read.failures.iter());
            for (place, resource) in held.iter().enumerate() {
                let name = |column: usize| table.schema.field(column).name().as_str();
                let expected: Vec<_> = columns.iter().map(|&column| naive(*resource, name(column), &topics)).collect();
                if let Some(first) = expected.iter().position(Option::is_none) {
                    let (at, failure) = failed.next().expect("a row that cannot be read");
                    assert_eq!((*at, &*failure.expression), (place, name(columns[first])));
                    assert_eq!(&*failure.input, json!({"resource_id": resource.state.id.to_string()}).to_string());
                    failures += 1;
                    continue;
                }
                let (row, at) = places.next().expect("a row that can be read");
                assert_eq!(*at, place);
                let got: Vec<_> = (0..columns.len()).map(|column| Some(cell(&read, row, column))).collect();
                assert_eq!(got, expected, "{:?}", resource.state);
                rows += 1;
            }
            assert_eq!((places.next(), failed.next()), (None, None));
            assert_eq!(read.batch.num_rows(), read.places.len());
        }
    }
    assert!(rows > 5_000 && failures > 500, "{rows} rows, {failures} failures");
}

#[test]
fn a_column_changes_only_if_a_part_of_it_did() {
    let (mut random, topics) = (StdRng::seed_from_u64(2), Topics::default());
    let tables = tables(&topics);
    let (mut untouched, mut touched) = (0, 0);
    for _ in 0..5_000 {
        let before = random_state(&mut random, &topics);
        let after = changed_state(&mut random, &before, &topics);
        let by_before = random_orphaned_by(&mut random);
        let by_after = if random.random() { by_before } else { random_orphaned_by(&mut random) };
        let mut changed = Parts::changed(&before, &after);
        assert_eq!(changed, Parts::changed(&after, &before));
        assert_eq!(Parts::changed(&before, &before), Parts::default());
        if by_before != by_after {
            changed = changed.union(Parts::ORPHANED_BY);
        }
        let before = Resource { state: &before, orphaned_by: by_before };
        let after = Resource { state: &after, orphaned_by: by_after };
        for table in tables.iter().filter(|table| table.holds(before) && table.holds(after)) {
            for column in 0..table.schema.fields().len() {
                let [one, other] = [before, after].map(|resource| table.of_resources(&[column], &[resource]));
                let is_same = one.batch == other.batch && one.failures == other.failures;
                let is_touched = changed.intersects(table.parts(&[column]));
                assert!(is_same || is_touched, "{} of {before:?} and {after:?}", table.schema.field(column).name());
                *(if is_touched { &mut touched } else { &mut untouched }) += 1;
                let is_json = table.parts(&[column]) == Parts::text(Field::Data);
                let is_text = table.schema.field(column).data_type() == &DataType::Utf8;
                // No part says more than it must, but for those of data and of times that cannot be read.
                assert!(!is_same || !is_touched || is_json || !is_text, "{}", table.schema.field(column).name());
            }
        }
    }
    assert!(touched > 5_000 && untouched > 20_000, "{touched} touched, {untouched} untouched");
}

#[test]
fn a_value_that_is_not_as_declared_fails_the_row_where_it_is_asked_for() {
    let (mut random, topics) = (StdRng::seed_from_u64(3), Topics::default());
    let table = Table::new(TableKind::Typed("host".into()), &properties(), topics.clone());
    let mut state = random_state(&mut random, &topics);
    let long = "x".repeat(100);
    let mut reason = |name: &str, data: &str| {
        let mut fields = state.texts.fields();
        fields[Field::Data as usize] = Some(data);
        state.texts = Texts::build(fields).expect("short");
        let resource = Resource { state: &state, orphaned_by: None };
        let column = table.schema.index_of(name).expect("a column");
        let others: Vec<usize> = (0..table.schema.index_of("data").expect("a column")).filter(|at| *at < 9).collect();
        assert!(table.of_resources(&others, &[resource]).failures.is_empty());
        let read = table.of_resources(&[0, column], &[resource]);
        let [(0, failure)] = &read.failures[..] else { panic!("{read:?}") };
        assert_eq!((&*failure.expression, read.batch.num_rows(), read.places.len()), (name, 0, 0));
        failure.reason.to_string()
    };
    for (name, data, expected) in [
        ("integer", r#"{"integer":"17"}"#, r#"declared as an integer, found "17""#),
        ("integer", r#"{"integer":1.5}"#, "declared as an integer, found 1.5, which is no integer"),
        (
            "integer",
            r#"{"integer":9223372036854775808}"#,
            "declared as an integer, found 9223372036854775808, which is beyond 64 bits",
        ),
        (
            "integer_or_string",
            r#"{"integer_or_string":1.5}"#,
            "declared as a string or an integer, found 1.5, which is no integer",
        ),
        (
            "number",
            r#"{"number":9007199254740993}"#,
            "declared as a number, found 9007199254740993, which a double cannot hold exactly",
        ),
        ("number", r#"{"number":1e400}"#, "declared as a number, found 1e400, which is beyond what a double can hold"),
        ("string", r#"{"string":true}"#, "declared as a string, found true"),
        ("data_topic", r#"{"topic":[]}"#, "declared as a string, found []"),
        ("boolean", r#"{"boolean":0}"#, "declared as a boolean, found 0"),
        ("array", r#"{"array":{}}"#, "declared as an array, found {}"),
        (
            "time",
            r#"{"time":"yesterday"}"#,
            r#"declared as a date-time, found "yesterday", which is not an RFC 3339 time with a zone"#,
        ),
        (
            "time",
            r#"{"time":"2500-01-01T00:00:00Z"}"#,
            "the time 2500-01-01T00:00:00Z is not within the years 1678 to 2261",
        ),
        (
            "array",
            &format!(r#"{{"array":"{long}"}}"#),
            &format!("declared as an array, found \"{}…", &long[1 + 100 - 60..]),
        ),
    ] {
        assert_eq!(reason(name, data), expected);
    }
    assert_eq!(
        reason("string", "[]"),
        "the data is no JSON object: invalid type: sequence, expected an object at line 1 column 0"
    );
    assert!(reason("string", r#"{"string":"\ud800"}"#).starts_with(r#"the string "\ud800" is no text: "#));
}

#[test]
fn integers_are_exact_the_last_of_equal_names_counts_and_nothing_is_null() {
    let (mut random, topics) = (StdRng::seed_from_u64(4), Topics::default());
    let table = Table::new(TableKind::Typed("host".into()), &properties(), topics.clone());
    let mut state = random_state(&mut random, &topics);
    let mut value = |name: &str, data: Option<&str>| {
        let mut fields = state.texts.fields();
        fields[Field::Data as usize] = data;
        state.texts = Texts::build(fields).expect("short");
        let column = table.schema.index_of(name).expect("a column");
        cell(&table.of_resources(&[column], &[Resource { state: &state, orphaned_by: None }]), 0, 0)
    };
    assert_eq!(value("integer", Some(r#"{"integer":9223372036854775807}"#)), json!(i64::MAX));
    assert_eq!(value("integer", Some(r#"{"integer":"x","integer":2.0E3}"#)), json!(2000));
    assert_eq!(value("integer", Some(r#"{"\u0069nteger":-0}"#)), json!(0));
    assert_eq!(value("number", Some(r#"{"number":-0.0}"#)), json!(0.0));
    assert_eq!(value("any", Some(r#"{"any":1.50e400}"#)), json!("1.50e400"));
    assert_eq!(value("array", Some(r#"{"array":[1.10,null]}"#)), json!("[1.10,null]"));
    assert_eq!(value("time", Some(r#"{"time":"1970-01-01T01:00:01+01:00"}"#)), json!(SECOND_NS));
    for data in [None, Some("{}"), Some(r#"{"string":null}"#), Some(r#"{"other":{"string":"x"}}"#)] {
        assert_eq!(value("string", data), Value::Null);
    }
    assert_eq!(value("string", Some(r#"{"string":""}"#)), json!(""));
}

#[test]
fn a_count_needs_no_column() {
    let (mut random, topics) = (StdRng::seed_from_u64(5), Topics::default());
    let states: Vec<State> = (0..3).map(|_| random_state(&mut random, &topics)).collect();
    let resources: Vec<_> = states.iter().map(|state| Resource { state, orphaned_by: None }).collect();
    let read = Table::new(TableKind::Resources, &[], topics).of_resources(&[], &resources);
    assert_eq!((read.batch.num_rows(), read.places), (3, vec![0, 1, 2]));
}

#[test]
fn rejects_are_shown_in_the_words_of_the_api() {
    let topics = Topics::default();
    let id = "019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10";
    let entry = |offset, observed_ms, id: Option<&str>| {
        let coordinates = Coordinates { topic: topics.intern("t").expect("room"), partition: 3, offset };
        QuarantineEntry {
            reject: Reject {
                id: id.map(|id| ResourceId::parse(id).expect("an id")),
                event_id: None,
                event_id_text: None,
                order: EventOrder { coordinates, arrival: 0 },
                observed_ms,
                reason: RejectReason::NotJson,
                detail: "cut off".into(),
                key: Some(b"a secret".as_slice().into()),
                value: None,
                headers: Vec::new(),
                total_bytes: 17,
            },
            status: QuarantineStatus::Open,
            first_seen: 2_000,
        }
    };
    let entries = [entry(7, 1_000, Some(id)), entry(8, i64::MAX, None), entry(9, 1_000, None)];
    let table = quarantine(&topics);
    let all: Vec<usize> = (0..table.schema.fields().len()).collect();
    let read = table.of_rejects(&all, &entries.each_ref());
    let row = |row| all.iter().map(|&column| cell(&read, row, column)).collect::<Vec<_>>();
    let expected = |offset: i64, key: Value| {
        [
            json!(format!("t:3:{offset}")),
            json!("t"),
            json!(3),
            json!(offset),
            json!(SECOND_NS),
            key,
            json!("not_json"),
            json!("cut off"),
            json!(2 * SECOND_NS),
            json!(17),
        ]
    };
    assert_eq!(read.places, [0, 2]);
    assert_eq!(row(0), expected(7, json!(id)));
    assert_eq!(row(1), expected(9, Value::Null));
    let [(1, failure)] = &read.failures[..] else { panic!("{read:?}") };
    assert_eq!((&*failure.input, &*failure.expression), (r#"{"id":"t:3:8"}"#, "timestamp"));
    assert!(failure.reason.ends_with("is not within the years 1678 to 2261"), "{failure:?}");
    // It is asked for no time.
    assert_eq!(table.of_rejects(&[0, 6], &entries.each_ref()).places, [0, 1, 2]);
}
