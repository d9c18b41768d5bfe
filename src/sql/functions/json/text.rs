//! JSON texts taken apart: what stands at a place is a slice of the text itself.
//!
//! A text is read to its end, so that what is not JSON is found wherever that is, and so that the last of equal names wins.
//! Nothing recurses, however deep the text is.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member<'k> {
    /// In the field of an object.
    Field(&'k str),
    /// In the element of an array, from 0, or from the end where it is negative: -1 is the last one.
    Element(i64),
}

/// A text is no JSON.
#[derive(Debug, thiserror::Error)]
#[error("not JSON: {0}")]
pub(super) struct NotJson(#[from] serde_json::Error);

/// What stands there; nothing where there is no such place.
pub(super) fn get<'a>(json: &'a str, member: Member<'_>) -> Result<Option<&'a str>, NotJson> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let found = match (member, first(json)) {
        (Member::Field(name), Some(b'{')) => deserializer.deserialize_map(Field(name)),
        (Member::Element(number), Some(b'[')) => deserializer.deserialize_seq(Element(number)),
        _ => IgnoredAny::deserialize(&mut deserializer).map(|_| None),
    }?;
    deserializer.end()?;
    Ok(found.map(RawValue::get))
}

/// A JSON value as text: a string without its quotes, null as nothing, everything else as it stands.
pub(super) fn unquoted(json: &str) -> Result<Option<Cow<'_, str>>, NotJson> {
    if json == "null" {
        return Ok(None);
    }
    let Some(inside) = json.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return Ok(Some(Cow::Borrowed(json)));
    };
    if inside.contains('\\') { Ok(Some(Cow::Owned(serde_json::from_str(json)?))) } else { Ok(Some(inside.into())) }
}

/// The kind of a JSON value.
pub(super) fn type_of(json: &str) -> Result<&'static str, NotJson> {
    serde_json::from_str::<IgnoredAny>(json)?;
    Ok(match first(json) {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    })
}

/// How many elements an array has; none for anything else.
pub(super) fn array_length(json: &str) -> Result<Option<i64>, NotJson> {
    if first(json) != Some(b'[') {
        serde_json::from_str::<IgnoredAny>(json)?;
        return Ok(None);
    }
    let elements: Vec<IgnoredAny> = serde_json::from_str(json)?;
    Ok(i64::try_from(elements.len()).ok())
}

/// The first byte of a value, which says what it is.
fn first(json: &str) -> Option<u8> {
    json.bytes().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Finds a field's value.
struct Field<'k>(&'k str);

impl<'a> Visitor<'a> for Field<'_> {
    type Value = Option<&'a RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = fields.next_key_seed(Is(self.0))? {
            if is_it {
                found = Some(fields.next_value()?);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a name is this one.
struct Is<'k>(&'k str);

impl<'a> DeserializeSeed<'a> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// Finds an element.
struct Element(i64);

impl<'a> Visitor<'a> for Element {
    type Value = Option<&'a RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let Ok(number) = usize::try_from(self.0) else {
            let mut all: Vec<&RawValue> = Vec::new();
            while let Some(element) = elements.next_element()? {
                all.push(element);
            }
            let from_end = usize::try_from(self.0.unsigned_abs()).ok();
            return Ok(from_end.and_then(|back| all.len().checked_sub(back)).map(|place| all[place]));
        };
        for _ in 0..number {
            if elements.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = elements.next_element()?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}
