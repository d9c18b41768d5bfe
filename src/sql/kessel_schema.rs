//! A Kessel schema folder: which resource types there are, and which properties their reporters may send.
//!
//! In: the folder that Kessel Inventory itself reads (`resources/TYPE/reporters/REPORTER/TYPE.json`, JSON Schema of draft
//! 7 each). Out: for each type its properties in alphabetical order, whatever the order of files and of reporters.
//!
//! - The schemas of a type's reporters are united: a property of any is one of the type, of all kinds that any allows.
//! - `common_representation.json` is not read: an event carries the data of its reporter alone, and of the common data
//!   the workspace, which is a column of every table. A column for anything else of it would always be null.
//! - Nothing is required and additional properties are allowed, as in Kessel, which checks no more when a report is partial.
//!
//! Not here: what columns are made of properties (`table`), what a state holds.

mod kinds;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

pub use kinds::{Kinds, PropertyColumn};

/// The resource types of a schema folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KesselSchema {
    types: BTreeMap<Arc<str>, Vec<Property>>,
}

/// What reporters may send under a name in the data of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name in the data.
    pub name: Arc<str>,
    /// What its value may be.
    pub kinds: Kinds,
}

/// A schema folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaFolderError {
    /// It is not there, or not to be read.
    #[error("{}: {error}; a schema folder has `resources/TYPE/reporters/REPORTER/TYPE.json`", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is no JSON Schema of an object.
    #[error("{}: {detail}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A name that tables or columns cannot have.
    #[error("{}: {name:?} cannot name a {what}: {allowed}", path.display())]
    Name {
        /// Where it stands.
        path: PathBuf,
        /// The name.
        name: String,
        /// What it would name.
        what: &'static str,
        /// Which names are allowed.
        allowed: &'static str,
    },
}

/// What a table may be called, so that no query needs to quote it.
const TYPE_NAMES: &str = "allowed are lower-case letters, digits and `_`, with no digit at the start, and no name that a \
                          table of Tarn has";
/// What a column may be called.
const PROPERTY_NAMES: &str = "allowed are letters, digits, `_` and `-`, with a letter or `_` at the start";
/// Columns of this prefix may be made of properties that are called as a common column.
const NO_COLLISION: &str = "a property that is called as a common column already gets this name";

impl KesselSchema {
    /// The types in a folder. `taken` are the names of tables that have nothing to do with it, `common` those of columns
    /// that every type has.
    pub fn read(folder: &Path, taken: &[&str], common: &[&str]) -> Result<Self, SchemaFolderError> {
        let mut types = BTreeMap::new();
        for (path, name) in folders(&folder.join("resources"))? {
            let is_plain = is_name(&name, |byte| byte.is_ascii_lowercase() || byte == b'_', |_| false);
            if !is_plain || taken.contains(&name.as_str()) {
                return Err(SchemaFolderError::Name { path, name, what: "table", allowed: TYPE_NAMES });
            }
            let properties = type_properties(&path, &name, common)?;
            types.insert(Arc::from(name), properties);
        }
        Ok(Self { types })
    }

    /// Its types in alphabetical order, each with its properties in alphabetical order.
    pub fn types(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &[Property])> {
        self.types.iter().map(|(name, properties)| (name, properties.as_slice()))
    }
}

/// The column of a property beside those that every table of a type has. SQL takes upper case for lower where a name is
/// not quoted, so the case makes no other name.
pub(super) fn column_name(property: &str, common: &[&str]) -> String {
    let collides = common.iter().any(|column| column.eq_ignore_ascii_case(property));
    if collides { format!("data_{property}") } else { property.to_owned() }
}

/// What all reporters of a type may send.
fn type_properties(folder: &Path, name: &str, common: &[&str]) -> Result<Vec<Property>, SchemaFolderError> {
    let mut united: BTreeMap<String, Kinds> = BTreeMap::new();
    for (reporter, _) in folders(&folder.join("reporters"))? {
        let path = reporter.join(name).with_extension("json");
        for (property, schema) in properties(&path)? {
            let kinds = Kinds::of_schema(&schema);
            united.entry(property).and_modify(|known| *known = known.union(kinds)).or_insert(kinds);
        }
    }
    for property in united.keys() {
        let refused = |allowed| {
            let (path, name) = (folder.to_owned(), property.clone());
            Err(SchemaFolderError::Name { path, name, what: "column", allowed })
        };
        if !is_name(property, |byte| byte.is_ascii_alphabetic() || byte == b'_', |byte| byte == b'-') {
            return refused(PROPERTY_NAMES);
        }
        let same = |other: &String| column_name(other, common) == *property;
        if united.keys().any(|other| other != property && same(other)) {
            return refused(NO_COLLISION);
        }
    }
    Ok(united.into_iter().map(|(name, kinds)| Property { name: name.into(), kinds }).collect())
}

/// The properties that a reporter's schema declares.
fn properties(path: &Path) -> Result<Map<String, Value>, SchemaFolderError> {
    let invalid = |detail: String| SchemaFolderError::Invalid { path: path.to_owned(), detail };
    let text = fs::read(path).map_err(|error| SchemaFolderError::Unreadable { path: path.to_owned(), error })?;
    let schema = serde_json::from_slice(&text).map_err(|error| invalid(format!("not JSON: {error}")))?;
    let Value::Object(mut schema) = schema else {
        return Err(invalid("a JSON Schema is an object".to_owned()));
    };
    match schema.remove("properties") {
        None => Ok(Map::new()),
        Some(Value::Object(properties)) => Ok(properties),
        Some(other) => Err(invalid(format!("`properties` is an object, found {other}"))),
    }
}

/// The folders in a folder, in alphabetical order; files and what is hidden are passed over.
fn folders(path: &Path) -> Result<Vec<(PathBuf, String)>, SchemaFolderError> {
    let unreadable = |error| SchemaFolderError::Unreadable { path: path.to_owned(), error };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let inside = entry.map_err(unreadable)?.path();
        let name = inside.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if inside.is_dir() && !name.starts_with('.') {
            found.push((inside, name));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a name begins as allowed and goes on with that, digits, and what is allowed only inside.
fn is_name(name: &str, start: impl Fn(u8) -> bool, inside: impl Fn(u8) -> bool) -> bool {
    let goes_on = |byte: u8| start(byte) || byte.is_ascii_digit() || inside(byte);
    name.bytes().next().is_some_and(&start) && name.bytes().all(goes_on)
}

#[cfg(test)]
mod tests;
