//! The operators as a session plans and evaluates them, and what they take out of random values.

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::DFSchema;
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::*;

/// A session of a dialect with the functions.
fn session(dialect: &str) -> SessionContext {
    let mut config = SessionConfig::new();
    config.options_mut().set("datafusion.sql_parser.dialect", dialect).expect("a dialect");
    let mut session = SessionContext::new_with_config(config);
    register(&mut session).expect("the names are free");
    session
}

/// The values of an expression over a column `data`, as texts.
fn values(expression: &str, data: &[Option<&str>]) -> Result<Vec<Option<String>>> {
    values_of(expression, &[("data", Arc::new(StringArray::from(data.to_vec())))])
}

fn values_of(expression: &str, columns: &[(&str, ArrayRef)]) -> Result<Vec<Option<String>>> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.iter().map(|(name, values)| (name, Arc::clone(values), true)),
    )?;
    let session = session("PostgreSQL");
    session.register_batch("t", batch)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let query = format!("SELECT {expression} FROM t");
    let batches = runtime.block_on(async { session.sql(&query).await?.collect().await })?;
    let mut all = Vec::new();
    for batch in batches {
        let values = cast(batch.column(0), &DataType::Utf8)?;
        all.extend(values.as_string::<i32>().iter().map(|value| value.map(str::to_owned)));
    }
    Ok(all)
}

/// The value of an expression over one `data`.
fn value(expression: &str, data: &str) -> Option<String> {
    values(expression, &[Some(data)]).expect(expression).remove(0)
}

#[test]
fn fields_and_elements() {
    let data =
        r#" {"a": {"b": "x\"\u00fc"}, "n": 1.50e400, "t": "plain", "z": null, "l": [10, [], "e"], "t": "last"} "#;
    for (expression, expected) in [
        ("data->'t'", Some(r#""last""#)),
        ("data->>'t'", Some("last")),
        ("data->'n'", Some("1.50e400")),
        ("data->>'n'", Some("1.50e400")),
        ("data->'z'", Some("null")),
        ("data->>'z'", None),
        ("data->'missing'", None),
        ("data->>'missing'", None),
        ("data->>'a'", Some(r#"{"b": "x\"\u00fc"}"#)),
        ("data->'a'->'b'", Some(r#""x\"\u00fc""#)),
        ("data->'a'->>'b'", Some("x\"ü")),
        ("data->'l'->0", Some("10")),
        ("data->'l'->>2", Some("e")),
        ("data->'l'->>-1", Some("e")),
        ("data->'l'->> -1", Some("e")),
        ("data->'l'->- 1", Some(r#""e""#)),
        ("data->'l'->-3", Some("10")),
        ("data->'l'->-4", None),
        ("data->'l'->3", None),
        ("data->'l'->(-9223372036854775807 - 1)", None),
        // Not the container that it is taken for.
        ("data->0", None),
        ("data->'l'->'0'", None),
        ("data->'t'->'a'", None),
        ("data->'n'->0", None),
        ("data->NULL", None),
        ("NULL->'a'", None),
        ("json_get_text(data, 't')", Some("last")),
        ("json_typeof(data)", Some("object")),
        ("json_typeof(data->'n')", Some("number")),
        ("json_typeof(data->'z')", Some("null")),
        ("json_array_length(data->'l')", Some("3")),
        ("json_array_length(data->'missing')", None),
    ] {
        assert_eq!(value(expression, data).as_deref(), expected, "{expression}");
    }
}

#[test]
fn operators_bind_as_in_postgresql() {
    let data = r#"{"a": "x", "n": 2, "b": {"c": "y"}}"#;
    for expression in [
        "data->>'a' = 'x'",
        "data->'b'->>'c' <> 'x'",
        "data->>'a' IN ('x', 'z')",
        "data->>'a' IS NOT NULL",
        "data->>'z' IS NULL AND data->>'a' LIKE '_'",
        "(data->>'n')::int + 1 = 3",
        "data->>'n' BETWEEN '1' AND '3'",
        "NOT data->>'a' = 'y'",
        "data->>('a' || '') = 'x'",
        "CASE data->>'a' WHEN 'x' THEN true END",
        "coalesce(data->>'z', data->>'a') = 'x'",
    ] {
        assert_eq!(value(expression, data).as_deref(), Some("true"), "{expression}");
    }
    // As in PostgreSQL, `||` binds as `->` does, and both from left to right.
    assert_eq!(value(r#"'{"a"' || ':1}' -> 'a'"#, data).as_deref(), Some("1"));
}

#[test]
fn the_generic_dialect_is_refused_with_a_hint() {
    let schema = DFSchema::try_from(Schema::new(vec![Field::new("data", DataType::Utf8, true)])).expect("a schema");
    let session = session("Generic");
    let planned = session.parse_sql_expr("data->>'a' = 'x'", &schema);
    let error = planned.and_then(|expression| session.create_physical_expr(expression, &schema));
    let error = error.expect_err("the right side is a comparison").to_string();
    assert!(error.contains("the right side of ->> is the name of a field or the number of an element, not Boolean"));
    assert!(error.contains("put the ->> with both its sides in parentheses"), "{error}");
}

#[test]
fn other_types_are_refused_or_taken_as_text() {
    let refused =
        |expression: &str, columns: &[(&str, ArrayRef)]| values_of(expression, columns).expect_err(expression);
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let error = refused("n->'a'", &[("n", Arc::clone(&number))]).to_string();
    assert!(error.contains("-> reads JSON from text, not from Int64"), "{error}");
    let error = refused("data->1.5", &[("data", Arc::new(StringArray::from(vec!["{}"])))]).to_string();
    assert!(error.contains("not Float64"), "{error}");
    let large: ArrayRef = Arc::new(datafusion::arrow::array::LargeStringArray::from(vec!["[7, 8]"]));
    let columns = [("data", large), ("n", number)];
    assert_eq!(values_of("data->n", &columns).expect("an index a row"), [Some("8".to_owned())]);
    assert_eq!(values_of("data->>(n::int)", &columns).expect("a narrow index"), [Some("8".to_owned())]);
}

#[test]
fn what_is_not_json_is_an_error_of_its_row() {
    for bad in ["", "{", "nonsense", "{} {}", r#"{"a":1,}"#, r#"{"a":01}"#, "[1,2", r#"{"a":"\q"}"#] {
        for expression in ["data->'a'", "data->>0", "json_typeof(data)", "json_array_length(data)"] {
            let error = values(expression, &[Some("[]"), Some(bad)]).expect_err(bad).to_string();
            assert!(error.contains("not JSON: "), "{error}");
        }
    }
    let error =
        values("data->>'a'", &[Some(r#"{"a":"\ud800"}"#)]).expect_err("a lone surrogate is no text").to_string();
    assert!(error.contains("->>: not JSON: "), "{error}");
    let error = values("json_array_length(data)", &[Some("{}")]).expect_err("no array").to_string();
    assert!(error.contains("json_array_length: the JSON is no array"), "{error}");
    // However deep, it is read; and nulls are no texts.
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let read = values("data->0 IS NOT NULL", &[Some(&deep), None]).expect("deep");
    assert_eq!(read, [Some("true".to_owned()), Some("false".to_owned())]);
}

/// Some value, shallow.
fn random_value(random: &mut StdRng, depth: u8) -> Value {
    let names = ["a", "b", "c\"", "ü", ""];
    match random.random_range(0..if depth == 0 { 5 } else { 9 }) {
        0 => Value::Null,
        1 => json!(random.random::<bool>()),
        2 => json!(random.random::<i64>()),
        // No more digits than the tree keeps.
        3 => json!(f64::from(random.random_range(-1_000_000..1_000_000)) / 8.0),
        4 => json!(*["", "x", "\u{0}\\\"", "😀", "null"].choose(random).expect("some")),
        5 | 6 => (0..random.random_range(0..4)).map(|_| random_value(random, depth - 1)).collect(),
        _ => {
            let fields = (0..random.random_range(0..4)).map(|_| {
                let name = *names.choose(random).expect("some");
                (name.to_owned(), random_value(random, depth - 1))
            });
            Value::Object(fields.collect())
        }
    }
}

#[test]
fn random_values_are_taken_apart_as_a_tree_is() {
    let mut random = StdRng::seed_from_u64(1);
    let trees: Vec<Value> = (0..5_000).map(|_| random_value(&mut random, 3)).collect();
    let texts: Vec<String> =
        trees.iter().map(|tree| if random.random() { tree.to_string() } else { format!(" {tree:#}\n") }).collect();
    let data: ArrayRef = Arc::new(texts.iter().map(|text| Some(text.as_str())).collect::<StringArray>());
    let fields: Vec<Option<&str>> = trees
        .iter()
        .map(|_| *[Some("a"), Some("c\""), Some("ü"), Some(""), None].choose(&mut random).expect("some"))
        .collect();
    let elements: Vec<Option<i64>> =
        trees.iter().map(|_| random.random_bool(0.9).then(|| random.random_range(-5..5))).collect();
    let columns = [
        ("data", data),
        ("f", Arc::new(StringArray::from(fields.clone())) as ArrayRef),
        ("e", Arc::new(Int64Array::from(elements.clone())) as ArrayRef),
    ];
    let as_text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    // What comes out is compared as a tree, because the text is the one that was written.
    let minified = |text: Option<String>| text.map(|text| text.parse::<Value>().expect("JSON").to_string());
    for (expression, operand) in [("f", true), ("'a'", true), ("e", false), ("-1", false), ("0", false)] {
        let got = values_of(&format!("data->{expression}"), &columns).expect("JSON");
        let got_text = values_of(&format!("data->>{expression}"), &columns).expect("JSON");
        for (row, tree) in trees.iter().enumerate() {
            let found = if operand {
                let name = if expression == "f" { fields[row] } else { Some("a") };
                name.and_then(|name| tree.as_object()?.get(name))
            } else {
                let number = if expression == "e" { elements[row] } else { expression.parse().ok() };
                number.and_then(|number| {
                    let all = tree.as_array()?;
                    let place = if number < 0 { number + i64::try_from(all.len()).ok()? } else { number };
                    all.get(usize::try_from(place).ok()?)
                })
            };
            assert_eq!(minified(got[row].clone()), found.map(Value::to_string), "{tree} -> {expression}");
            let is_container = found.is_some_and(|value| value.is_array() || value.is_object());
            let got_text = if is_container { minified(got_text[row].clone()) } else { got_text[row].clone() };
            assert_eq!(got_text, found.and_then(as_text), "{tree} ->> {expression}");
        }
    }
}

#[tokio::test]
async fn plans_name_the_functions() {
    let session = session("PostgreSQL");
    let plan = session.sql(r#"SELECT t.d->'a'->>'b' FROM (VALUES ('{}')) AS t(d)"#).await.expect("a plan");
    let plan = plan.into_unoptimized_plan().display_indent().to_string();
    assert!(plan.contains(r#"json_get_text(json_get(t.d, Utf8("a")), Utf8("b"))"#), "{plan}");
}
