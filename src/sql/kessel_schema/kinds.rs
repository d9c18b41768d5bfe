//! What a property's value may be, by its JSON Schema, and what column holds it.
//!
//! | what the reporters declare | the column |
//! | --- | --- |
//! | a string | text |
//! | a string of format `date-time` | a time, so that it sorts and compares as one whatever its zone; Go's zero time is null |
//! | a boolean | a boolean |
//! | an integer | a 64-bit integer |
//! | a number, or a number and an integer | a double; an integer that it cannot hold exactly is refused |
//! | an array, an object, anything else, or several of these | text: the value's JSON as sent, strings in quotes |
//!
//! Null is allowed everywhere and is SQL's null. What a schema says beside that (lengths, patterns, ranges, other formats)
//! is Kessel's to check. A value that is not as declared is an error of its row in the queries that ask for the column
//! (`data ->> 'name'` has it all the same).

use std::fmt;

use serde_json::Value;

/// Kinds of JSON values. Not empty: what allows nothing but null allows anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u8);

/// What holds the values of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertyColumn {
    /// The text of a string.
    Text,
    /// The moment that a string says.
    Time,
    /// A boolean.
    Boolean,
    /// A 64-bit integer.
    Integer,
    /// A double.
    Number,
    /// The JSON of the value.
    Json,
}

impl Kinds {
    /// Any string.
    pub const STRING: Self = Self(1);
    /// A string that is an RFC 3339 time.
    pub const TIME: Self = Self(1 << 1);
    /// True or false.
    pub const BOOLEAN: Self = Self(1 << 2);
    /// A number without a fraction.
    pub const INTEGER: Self = Self(1 << 3);
    /// Any number.
    pub const NUMBER: Self = Self(1 << 4);
    /// An array.
    pub const ARRAY: Self = Self(1 << 5);
    /// An object.
    pub const OBJECT: Self = Self(1 << 6);
    /// Any value.
    pub const ANY: Self = Self(0b111_0101);

    /// Each kind alone, with its name.
    const NAMES: [(Self, &'static str); 7] = [
        (Self::STRING, "a string"),
        (Self::TIME, "a date-time"),
        (Self::BOOLEAN, "a boolean"),
        (Self::INTEGER, "an integer"),
        (Self::NUMBER, "a number"),
        (Self::ARRAY, "an array"),
        (Self::OBJECT, "an object"),
    ];

    /// What a schema allows beside null.
    pub(super) fn of_schema(schema: &Value) -> Self {
        Self::declared(schema).and_then(|kinds| kinds.normal()).unwrap_or(Self::ANY)
    }

    /// Those that either allows.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0).normal().expect("neither is empty")
    }

    /// Whether all of these are among them.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The column that holds such values.
    pub fn column(self) -> PropertyColumn {
        match self {
            Self::STRING => PropertyColumn::Text,
            Self::TIME => PropertyColumn::Time,
            Self::BOOLEAN => PropertyColumn::Boolean,
            Self::INTEGER => PropertyColumn::Integer,
            Self::NUMBER => PropertyColumn::Number,
            _ => PropertyColumn::Json,
        }
    }

    /// What a schema says of it; nothing where it does not say. Empty where it allows null alone.
    fn declared(schema: &Value) -> Option<Self> {
        match schema.get("type") {
            Some(Value::String(name)) => return Some(Self::of_type(name, schema)),
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                return Some(names.fold(Self(0), |kinds, name| kinds.or(Self::of_type(name, schema))));
            }
            _ => {}
        }
        if let Some(value) = schema.get("const") {
            return Some(Self::of_value(value));
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return Some(values.iter().map(Self::of_value).fold(Self(0), Self::or));
        }
        if let Some(choices) = ["anyOf", "oneOf"].iter().find_map(|any| schema.get(any)?.as_array()) {
            // One that does not say allows anything.
            return choices.iter().map(Self::declared).try_fold(Self(0), |kinds, choice| Some(kinds.or(choice?)));
        }
        schema.get("allOf")?.as_array()?.iter().find_map(Self::declared)
    }

    /// A type of a schema, by its name.
    fn of_type(name: &str, schema: &Value) -> Self {
        match name {
            "string" if schema.get("format").and_then(Value::as_str) == Some("date-time") => Self::TIME,
            "string" => Self::STRING,
            "boolean" => Self::BOOLEAN,
            "integer" => Self::INTEGER,
            "number" => Self::NUMBER,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            "null" => Self(0),
            _ => Self::ANY,
        }
    }

    /// What a value that stands in a schema is.
    fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self(0),
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(number) if number.is_f64() => Self::NUMBER,
            Value::Number(_) => Self::INTEGER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without those that a wider one makes needless; none where nothing is left.
    fn normal(self) -> Option<Self> {
        let mut kinds = self.0;
        for (wide, narrow) in [(Self::STRING, Self::TIME), (Self::NUMBER, Self::INTEGER)] {
            if self.contains(wide) {
                kinds &= !narrow.0;
            }
        }
        (kinds != 0).then_some(Self(kinds))
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(kind, _)| self.contains(*kind)).map(|(_, name)| *name);
        for (place, name) in names.enumerate() {
            f.write_str(if place > 0 { " or " } else { "" })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}
