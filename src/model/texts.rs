//! The text fields of an event or a state, in one allocation.
//!
//! A million resources hold ten short texts each; ten boxes apiece would cost more than the texts. So all lie end to
//! end in one `Box<str>` with their ends beside it. Absent and empty are different things here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The text fields, in the order in which they lie. `Data` is last, so its length is not limited to 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    /// `host`, `k8s_cluster`, ...; lower case.
    ResourceType,
    /// The workspace id as sent.
    WorkspaceId,
    /// `hbi`, `acm`, ...; lower case.
    ReporterType,
    /// The reporter's instance; lower case.
    ReporterInstanceId,
    /// The reporter's own id of the resource; case kept.
    LocalResourceId,
    /// Link to the reporter's API.
    ApiHref,
    /// Link to the reporter's console.
    ConsoleHref,
    /// The reporter's version.
    ReporterVersion,
    /// The event's id, only when it is no UUID.
    EventIdText,
    /// The reporter's data: a JSON object as sent, without white space between tokens.
    Data,
}

/// How many fields there are.
const FIELDS: usize = 10;
/// Fields before `Data`.
const SHORT_FIELDS: usize = FIELDS - 1;

impl Field {
    /// All fields, in order.
    pub const ALL: [Field; FIELDS] = [
        Field::ResourceType,
        Field::WorkspaceId,
        Field::ReporterType,
        Field::ReporterInstanceId,
        Field::LocalResourceId,
        Field::ApiHref,
        Field::ConsoleHref,
        Field::ReporterVersion,
        Field::EventIdText,
        Field::Data,
    ];

    fn index(self) -> usize {
        usize::from(self as u8)
    }
}

/// The fields before `Data` are longer than 65,535 bytes together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the text fields of an event are longer than 65535 bytes together")]
pub struct TextsTooLong;

/// Optional text for every [`Field`].
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Texts {
    text: Box<str>,
    ends: [u16; SHORT_FIELDS],
    present: u16,
}

impl Texts {
    /// Lays the given fields end to end.
    pub fn build(fields: [Option<&str>; FIELDS]) -> Result<Self, TextsTooLong> {
        let total = fields.iter().flatten().map(|text| text.len()).sum();
        let mut text = String::with_capacity(total);
        let mut ends = [0; SHORT_FIELDS];
        let mut present = 0;
        for (index, field) in fields.iter().enumerate() {
            if let Some(field) = field {
                present |= 1 << index;
                text.push_str(field);
            }
            if let Some(end) = ends.get_mut(index) {
                *end = u16::try_from(text.len()).map_err(|_| TextsTooLong)?;
            }
        }
        Ok(Self { text: text.into_boxed_str(), ends, present })
    }

    /// The text of a field, none when absent.
    #[inline]
    pub fn get(&self, field: Field) -> Option<&str> {
        let index = field.index();
        if self.present & (1 << index) == 0 {
            return None;
        }
        let start = if index == 0 { 0 } else { usize::from(self.ends[index - 1]) };
        let end = self.ends.get(index).map_or(self.text.len(), |end| usize::from(*end));
        Some(&self.text[start..end])
    }

    /// All fields as `build` takes them.
    pub fn fields(&self) -> [Option<&str>; FIELDS] {
        Field::ALL.map(|field| self.get(field))
    }

    /// Bytes of text held.
    pub fn len_bytes(&self) -> usize {
        self.text.len()
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for field in Field::ALL {
            if let Some(text) = self.get(field) {
                map.entry(&field, &text);
            }
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_empty_differ_and_every_field_comes_back() {
        let fields = [
            Some("host"),
            None,
            Some("hbi"),
            Some(""),
            Some("ü-1"),
            Some("a"),
            None,
            Some("1.0"),
            None,
            Some("{\"a\":\"ß\"}"),
        ];
        let texts = Texts::build(fields).expect("short");
        assert_eq!(texts.fields(), fields);
        assert_eq!(Texts::default().fields(), [None; FIELDS]);
    }

    #[test]
    fn data_may_be_long_and_the_others_may_not() {
        let long = "x".repeat(70_000);
        let mut fields = [None; FIELDS];
        fields[Field::Data.index()] = Some(long.as_str());
        assert_eq!(Texts::build(fields).expect("data is last").get(Field::Data).map(str::len), Some(70_000));
        fields[Field::ApiHref.index()] = Some(long.as_str());
        assert_eq!(Texts::build(fields), Err(TextsTooLong));
    }
}
