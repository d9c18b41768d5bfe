//! Whether a report says the same again (F20), where null and absent count as equal (F21).
//!
//! Debezium writes the nulls of arrays of objects by the fields that its inferred schema happens to have, and in any
//! order, so equal data can come in different bytes. Numbers are compared as they are written: 1 and 1.0 differ.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::Error as _;
use serde_json::value::RawValue;

use crate::model::{Field, Texts};

/// Whether `said` differs from `known` in nothing but the event's id.
pub(super) fn says_the_same(known: &Texts, said: &Texts) -> bool {
    Field::ALL.iter().all(|field| match field {
        Field::EventIdText => true,
        Field::Data => same_data(known.get(Field::Data), said.get(Field::Data)),
        _ => known.get(*field) == said.get(*field),
    })
}

fn same_data(known: Option<&str>, said: Option<&str>) -> bool {
    match (known, said) {
        (None, None) => true,
        (Some(known), Some(said)) if known == said => true,
        (Some(known), Some(said)) => could_be_equal(known, said) && equal_json(known, said).unwrap_or(false),
        _ => false,
    }
}

/// A cheap test that rules most changes out: without a null in play, equal data is a permutation of the same bytes.
fn could_be_equal(a: &str, b: &str) -> bool {
    let sum = |text: &str| text.bytes().map(u64::from).sum::<u64>();
    a.contains("null") || b.contains("null") || (a.len() == b.len() && sum(a) == sum(b))
}

/// Equality of two JSON values whose nesting the decoder has bounded.
fn equal_json(a: &str, b: &str) -> Result<bool, serde_json::Error> {
    match (a.as_bytes().first(), b.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => {
            let (a, b) = (fields(a)?, fields(b)?);
            if !a.keys().eq(b.keys()) {
                return Ok(false);
            }
            a.values().zip(b.values()).try_fold(true, |same, (a, b)| Ok(same && equal_json(a.get(), b.get())?))
        }
        (Some(b'['), Some(b'[')) => {
            let a: Vec<&RawValue> = serde_json::from_str(a)?;
            let b: Vec<&RawValue> = serde_json::from_str(b)?;
            if a.len() != b.len() {
                return Ok(false);
            }
            a.iter().zip(&b).try_fold(true, |same, (a, b)| Ok(same && equal_json(a.get(), b.get())?))
        }
        (Some(b'"'), Some(b'"')) => Ok(string(a)? == string(b)?),
        (Some(_), Some(_)) => Ok(a == b),
        _ => Err(serde_json::Error::custom("empty JSON text")),
    }
}

fn string(text: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    serde_json::from_str::<String>(text).map(Cow::Owned)
}

/// The fields of an object that are not null, by name.
fn fields(text: &str) -> Result<BTreeMap<String, &RawValue>, serde_json::Error> {
    let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
    fields.retain(|_, value| value.get() != "null");
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::same_data;

    #[test]
    fn null_and_absent_are_equal_and_order_of_keys_does_not_matter() {
        let same = |a, b| same_data(Some(a), Some(b));
        assert!(same(r#"{"nodes":[{"a":1,"b":null}]}"#, r#"{"nodes":[{"a":1}]}"#));
        assert!(same(r#"{"a":1,"b":{"c":"x"}}"#, r#"{"b":{"c":"x"},"a":1}"#));
        assert!(same(r#"{"a":null}"#, "{}"));
        assert!(same(r#"{"n":null,"a":"\u00e9"}"#, r#"{"a":"é"}"#));
    }

    #[test]
    fn other_values_differ() {
        let same = |a, b| same_data(Some(a), Some(b));
        assert!(!same(r#"{"a":1}"#, r#"{"a":2}"#));
        assert!(!same(r#"{"a":1,"b":null}"#, r#"{"a":1.0}"#));
        assert!(!same(r#"{"a":[1,null]}"#, r#"{"a":[1]}"#), "a null in a list has a place");
        assert!(!same(r#"{"a":12}"#, r#"{"a":21}"#), "the same bytes in another order are not the same number");
        assert!(!same_data(None, Some("{}")));
    }
}
