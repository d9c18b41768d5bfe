//! Columns of properties: the data of each resource is parsed once for all that are asked for, without a tree and without
//! a copy of what is not asked for.
//!
//! An absent property and JSON's null are null. Of a name that occurs twice the last one counts, as for `->`.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder, TimestampNanosecondBuilder,
};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::number::{self, NumberFault};
use super::{Resource, TIME_ZONE, Unreadable, nanoseconds};
use crate::model::{Field, Timestamp};
use crate::sql::kessel_schema::{Kinds, Property, PropertyColumn};

/// So much of a value is shown where it is not as declared.
const SHOWN_CHARS: usize = 60;

/// Reads some properties of many resources.
pub(super) struct PropertyReader<'p> {
    columns: Vec<Column<'p>>,
}

/// A property's column as far as it has been read.
struct Column<'p> {
    /// Its place among all asked columns.
    place: usize,
    property: &'p Property,
    values: Values,
}

enum Values {
    Text(StringBuilder),
    Time(TimestampNanosecondBuilder),
    Boolean(BooleanBuilder),
    Integer(Int64Builder),
    Number(Float64Builder),
    Json(StringBuilder),
}

impl<'p> PropertyReader<'p> {
    /// An array for each property, in order; each property comes with its place among all asked columns.
    pub(super) fn read(
        properties: impl Iterator<Item = (usize, &'p Property)>,
        resources: &[Resource<'_>],
        unreadable: &mut Vec<Unreadable>,
    ) -> Vec<ArrayRef> {
        let column = |(place, property): (usize, &'p Property)| Column {
            place,
            property,
            values: Values::new(property.kinds.column(), resources.len()),
        };
        let mut reader = Self { columns: properties.map(column).collect() };
        let Some(first) = reader.columns.first().map(|column| column.place) else { return Vec::new() };
        let mut found = vec![None; reader.columns.len()];
        for (place, resource) in resources.iter().enumerate() {
            found.fill(None);
            if let Err(reason) = reader.find(resource.state.text(Field::Data), &mut found) {
                found.fill(None);
                unreadable.push(Unreadable { place, column: first, reason });
            }
            for (column, value) in reader.columns.iter_mut().zip(&found) {
                if let Err(reason) = column.values.append(value.map(RawValue::get), column.property.kinds) {
                    column.values.append_null();
                    unreadable.push(Unreadable { place, column: column.place, reason });
                }
            }
        }
        reader.columns.into_iter().map(|column| column.values.finish()).collect()
    }

    /// Finds the properties in the data of a resource.
    fn find<'a>(&self, data: Option<&'a str>, found: &mut [Option<&'a RawValue>]) -> Result<(), String> {
        let Some(data) = data else { return Ok(()) };
        let mut deserializer = serde_json::Deserializer::from_str(data);
        let properties = Properties { columns: &self.columns, found };
        let end = deserializer.deserialize_map(properties).and_then(|()| deserializer.end());
        end.map_err(|error| format!("the data is no JSON object: {error}"))
    }
}

/// Keeps what is asked for of an object.
struct Properties<'r, 'a> {
    columns: &'r [Column<'r>],
    found: &'r mut [Option<&'a RawValue>],
}

impl<'a> Visitor<'a> for Properties<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(place) = fields.next_key_seed(Name(self.columns))? {
            match place {
                Some(place) => self.found[place] = Some(fields.next_value()?),
                None => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Finds the column of a name.
struct Name<'r>(&'r [Column<'r>]);

impl<'a> DeserializeSeed<'a> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|column| &*column.property.name == name))
    }
}

impl Values {
    fn new(column: PropertyColumn, count: usize) -> Self {
        match column {
            PropertyColumn::Text => Self::Text(StringBuilder::with_capacity(count, 0)),
            PropertyColumn::Time => {
                Self::Time(TimestampNanosecondBuilder::with_capacity(count).with_timezone(TIME_ZONE))
            }
            PropertyColumn::Boolean => Self::Boolean(BooleanBuilder::with_capacity(count)),
            PropertyColumn::Integer => Self::Integer(Int64Builder::with_capacity(count)),
            PropertyColumn::Number => Self::Number(Float64Builder::with_capacity(count)),
            PropertyColumn::Json => Self::Json(StringBuilder::with_capacity(count, 0)),
        }
    }

    /// Appends a value, given as JSON; nothing where it cannot be held.
    fn append(&mut self, json: Option<&str>, declared: Kinds) -> Result<(), String> {
        let Some(json) = json.filter(|json| *json != "null") else {
            self.append_null();
            return Ok(());
        };
        let otherwise = || format!("declared as {declared}, found {}", shown(json));
        let kind = kind(json);
        let is_declared = match kind {
            Kinds::STRING => declared.contains(Kinds::STRING) || declared.contains(Kinds::TIME),
            Kinds::NUMBER => declared.contains(Kinds::NUMBER) || declared.contains(Kinds::INTEGER),
            other => declared.contains(other),
        };
        if !is_declared {
            return Err(otherwise());
        }
        let because = |fault| format!("{}, {fault}", otherwise());
        match self {
            Self::Text(values) => match plain(json) {
                Some(text) => values.append_value(text),
                None => values.append_value(unescaped(json)?),
            },
            Self::Time(values) => {
                let text = unescaped(json)?;
                let time = Timestamp::parse(&text).map_err(|error| format!("{}, which is {error}", otherwise()))?;
                values.append_option(time.map(nanoseconds).transpose()?);
            }
            Self::Boolean(values) => values.append_value(json == "true"),
            Self::Integer(values) => values.append_value(number::integer(json).map_err(because)?),
            Self::Number(values) => values.append_value(number::double(json).map_err(because)?),
            Self::Json(values) => {
                let needs_integer = kind == Kinds::NUMBER && !declared.contains(Kinds::NUMBER);
                // Here as text: it is an integer of any length.
                if needs_integer && number::integer(json) == Err(NumberFault::Fraction) {
                    return Err(because(NumberFault::Fraction));
                }
                values.append_value(json);
            }
        }
        Ok(())
    }

    fn append_null(&mut self) {
        match self {
            Self::Text(values) | Self::Json(values) => values.append_null(),
            Self::Time(values) => values.append_null(),
            Self::Boolean(values) => values.append_null(),
            Self::Integer(values) => values.append_null(),
            Self::Number(values) => values.append_null(),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut values) | Self::Json(mut values) => Arc::new(values.finish()),
            Self::Time(mut values) => Arc::new(values.finish()),
            Self::Boolean(mut values) => Arc::new(values.finish()),
            Self::Integer(mut values) => Arc::new(values.finish()),
            Self::Number(mut values) => Arc::new(values.finish()),
        }
    }
}

/// What a valid JSON value is, by its first byte. A number is one, whatever its value.
fn kind(json: &str) -> Kinds {
    match json.as_bytes().first() {
        Some(b'"') => Kinds::STRING,
        Some(b't' | b'f') => Kinds::BOOLEAN,
        Some(b'[') => Kinds::ARRAY,
        Some(b'{') => Kinds::OBJECT,
        _ => Kinds::NUMBER,
    }
}

/// The text of a JSON string that has no escapes.
fn plain(json: &str) -> Option<&str> {
    let inside = json.strip_prefix('"')?.strip_suffix('"')?;
    (!inside.contains('\\')).then_some(inside)
}

/// The text of a JSON string.
fn unescaped(json: &str) -> Result<String, String> {
    serde_json::from_str(json).map_err(|error| format!("the string {} is no text: {error}", shown(json)))
}

/// A value for people, cut off where it is long.
fn shown(json: &str) -> String {
    match json.char_indices().nth(SHOWN_CHARS) {
        None => json.to_owned(),
        Some((end, _)) => format!("{}…", &json[..end]),
    }
}
