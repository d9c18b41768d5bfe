//! Overrides of the environment: `TARN_SECTION__KEY`, of the type that the key's default has.
//!
//! In: one variable of the environment. Out: the table with the value at its key, or what is wrong, by the variable's
//! name and never with its value, which may be a secret. `TARN_SECTION_KEY` is refused, since it would be passed over in
//! silence. Variables of other programs are nobody's business, whatever they hold.

use std::ffi::OsStr;

use toml::{Table, Value};

/// The section whose keys are others' (librdkafka's), so that there are no defaults to learn a type from.
const FREE_SECTION: [&str; 3] = ["source", "kafka", "properties"];

/// Puts a variable into `table` if it is one of ours; `defaults` says what keys there are and of what type.
pub(super) fn put(table: &mut Table, defaults: &Table, name: &OsStr, value: &OsStr) -> Result<(), String> {
    let Some((name, rest)) = name.to_str().and_then(|name| Some((name, name.strip_prefix("TARN_")?))) else {
        return Ok(());
    };
    if !rest.contains("__") {
        // What names no section may be anybody's: tests and benches have such names.
        return meant(&rest.to_lowercase(), defaults).map_or(Ok(()), |meant| {
            Err(format!("{name} is no key; two underscores follow a section: TARN_{}", meant.to_uppercase()))
        });
    }
    let value = value.to_str().ok_or_else(|| format!("{name} is not UTF-8"))?;
    let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
    let (key, sections) = path.split_last().ok_or_else(|| format!("{name} names no key"))?;
    let mut known = defaults;
    let mut here = table;
    for section in sections {
        known = match known.get(section) {
            Some(Value::Table(known)) => known,
            Some(_) => return Err(format!("{name}: `{section}` is no section")),
            None => return Err(format!("{name}: unknown section `{section}`")),
        };
        let next = here.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
        here = next.as_table_mut().ok_or_else(|| format!("{name}: `{section}` is no section"))?;
    }
    if sections == FREE_SECTION {
        // No property has an underscore in its name, and a shell takes no dot.
        here.insert(key.replace('_', "."), Value::String(value.to_owned()));
        return Ok(());
    }
    let value = match known.get(key) {
        Some(default) => parse(value, default).map_err(|what| format!("{name} must be {what}"))?,
        None => return Err(format!("{name}: unknown key `{key}`; known are {}", names(known))),
    };
    here.insert(key.clone(), value);
    Ok(())
}

/// `section__key` where `name` is `section_key`, whatever the key; none where it begins with no section.
fn meant(name: &str, known: &Table) -> Option<String> {
    let inside = |(section, value): (&String, &Value)| {
        let key = name.strip_prefix(section.as_str())?.strip_prefix('_').filter(|key| !key.is_empty())?;
        let key = value.as_table().map(|known| meant(key, known).unwrap_or_else(|| key.to_owned()))?;
        Some(format!("{section}__{key}"))
    };
    known.iter().find_map(inside)
}

fn names(known: &Table) -> String {
    known.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The value of a text, of the type of `default`; the error is what it must be.
fn parse(text: &str, default: &Value) -> Result<Value, &'static str> {
    match default {
        Value::String(_) => Ok(Value::String(text.to_owned())),
        Value::Integer(_) => text.trim().parse().map(Value::Integer).map_err(|_| "a whole number up to 2^63 - 1"),
        Value::Float(_) => text.trim().parse().map(Value::Float).map_err(|_| "a number"),
        Value::Boolean(_) => text.trim().parse().map(Value::Boolean).map_err(|_| "true or false"),
        Value::Array(_) => list(text),
        Value::Table(_) => Err("a section's key, not the section"),
        Value::Datetime(_) => text.parse().map(Value::Datetime).map_err(|_| "a date and time"),
    }
}

/// A list: texts separated by commas, or as TOML writes it.
fn list(text: &str) -> Result<Value, &'static str> {
    let text = text.trim();
    if text.starts_with('[') {
        let parsed = format!("list = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("list"));
        return parsed.ok_or("a list: texts separated by commas, or [\"as\", \"in\", \"TOML\"]");
    }
    let items = text.split(',').map(str::trim).filter(|_| !text.is_empty());
    Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
}
