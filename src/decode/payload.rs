//! The event object, read in one strict pass into borrowed slots.
//!
//! Nothing is judged here but JSON itself: which fields must be there, and what they mean, is for `decode`. So a
//! relationship event with a number where a resource has a text is told from a resource with a wrong type.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json::{self, Fault, Found, Name, Names, Strict};
use crate::model::RejectReason;

/// What stood at the place of a text.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum Slot<'a> {
    /// Nothing, or null.
    #[default]
    Absent,
    /// A text.
    Text(Cow<'a, str>),
    /// Something else, by the name of its type.
    Other(&'static str),
}

impl Slot<'_> {
    /// The text, none where there is none.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Other(_) => None,
        }
    }

    /// The text; an error that names `field` where something else stands.
    pub(super) fn require_text(&self, field: &str) -> Result<Option<&str>, Fault> {
        match self {
            Self::Text(text) => Ok(Some(text)),
            Self::Absent => Ok(None),
            Self::Other(found) => {
                Err(Fault::new(RejectReason::WrongType, format!("`{field}` must be a string, found {found}")))
            }
        }
    }
}

/// The fields of an event object.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Payload<'a> {
    pub(super) specversion: Slot<'a>,
    pub(super) kind: Slot<'a>,
    pub(super) id: Slot<'a>,
    pub(super) source: Slot<'a>,
    pub(super) subject: Slot<'a>,
    pub(super) time: Slot<'a>,
    pub(super) metadata_id: Slot<'a>,
    pub(super) resource_type: Slot<'a>,
    pub(super) created_at: Slot<'a>,
    pub(super) updated_at: Slot<'a>,
    pub(super) workspace_id: Slot<'a>,
    pub(super) reporter_type: Slot<'a>,
    pub(super) reporter_instance_id: Slot<'a>,
    pub(super) local_resource_id: Slot<'a>,
    pub(super) api_href: Slot<'a>,
    pub(super) console_href: Slot<'a>,
    pub(super) reporter_version: Slot<'a>,
    /// The raw text of `data.resource_data`, none when absent or null.
    pub(super) resource_data: Option<&'a str>,
    /// Whether it is an event of the tuples topic by its fields.
    pub(super) is_tuple: bool,
    /// Whether `data.metadata` or `data` has the fields of a relationship.
    pub(super) is_relationship: bool,
    /// Where something other than an object stood in the place of one.
    pub(super) not_an_object: Option<&'static str>,
    /// Whether it has any of the fields by which an event object is told from other JSON (V9).
    pub(super) is_event: bool,
    /// Whether it has fields of an envelope, so that it may have to be unwrapped first.
    pub(super) may_be_envelope: bool,
    /// Whether it is known to be without white space between tokens.
    pub(super) is_compact: bool,
    /// Raw texts of unknown fields with how deep they stand, to be checked.
    unknown: Vec<(&'a str, u8)>,
}

impl<'a> Payload<'a> {
    /// Where the text goes that stands at `place` under `name`.
    pub(super) fn slot(&mut self, place: Place, name: &str) -> Option<&mut Slot<'a>> {
        Some(match (place, name) {
            (Place::Top, "specversion") => &mut self.specversion,
            (Place::Top, "type") => &mut self.kind,
            (Place::Top, "id") => &mut self.id,
            (Place::Top, "source") => &mut self.source,
            (Place::Top, "subject") => &mut self.subject,
            (Place::Top, "time") => &mut self.time,
            (Place::Metadata, "id") => &mut self.metadata_id,
            (Place::Metadata, "resource_type") => &mut self.resource_type,
            (Place::Metadata, "created_at") => &mut self.created_at,
            (Place::Metadata, "updated_at") => &mut self.updated_at,
            (Place::Metadata, "workspace_id") => &mut self.workspace_id,
            (Place::ReporterData, "reporter_type") => &mut self.reporter_type,
            (Place::ReporterData, "reporter_instance_id") => &mut self.reporter_instance_id,
            (Place::ReporterData, "local_resource_id") => &mut self.local_resource_id,
            (Place::ReporterData, "api_href") => &mut self.api_href,
            (Place::ReporterData, "console_href") => &mut self.console_href,
            (Place::ReporterData, "reporter_version") => &mut self.reporter_version,
            _ => return None,
        })
    }

    /// Notes what a name says of the kind of an object.
    pub(super) fn mark(&mut self, place: Place, name: &str) {
        match (place, name) {
            (Place::Top, "aggregatetype" | "aggregateid" | "payload") => self.may_be_envelope = true,
            (Place::Top, "specversion" | "data" | "type" | "subject") => self.is_event = true,
            (Place::Top, "reporter_resource_key") => (self.is_event, self.is_tuple) = (true, true),
            (Place::Top, "relation") => self.is_tuple = true,
            (Place::Data, "relationship_data") | (Place::Metadata, "relationship_type") => self.is_relationship = true,
            _ => {}
        }
    }
}

/// How deep a resource's data stands in the event object.
pub(super) const DATA_DEPTH: u8 = Place::Data.depth();

/// Parses an event object.
pub(super) fn parse(text: &str) -> Result<Payload<'_>, Fault> {
    let found = Found::default();
    let mut payload = Payload::default();
    let seed = Level { place: Place::Top, payload: &mut payload, found: &found };
    json::parse_strict(text, seed, &found)?;
    for (text, depth) in std::mem::take(&mut payload.unknown) {
        json::check_inside(text, depth)?;
    }
    if let Some(data) = payload.resource_data {
        json::check_inside(data, DATA_DEPTH)?;
    }
    Ok(payload)
}

/// The objects whose fields are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Top,
    Data,
    Metadata,
    ReporterData,
}

impl Place {
    /// How deep its fields stand in the event object.
    const fn depth(self) -> u8 {
        match self {
            Self::Top => 1,
            Self::Data => 2,
            Self::Metadata | Self::ReporterData => 3,
        }
    }

    /// The known object that stands there under `name`.
    pub(super) fn child(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Top, "data") => Some(Self::Data),
            (Self::Data, "metadata") => Some(Self::Metadata),
            (Self::Data, "reporter_data") => Some(Self::ReporterData),
            _ => None,
        }
    }

    /// Whether a resource's data stands there under `name`.
    pub(super) fn is_data(self, name: &str) -> bool {
        (self, name) == (Self::Data, "resource_data")
    }

    fn strict(self, found: &Found) -> Strict<'_> {
        Strict { found, depth_left: json::DEPTH_MAX - self.depth() }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Top => "payload",
            Self::Data => "data",
            Self::Metadata => "data.metadata",
            Self::ReporterData => "data.reporter_data",
        }
    }
}

/// Walks one known object.
struct Level<'p, 'a, 'f> {
    place: Place,
    payload: &'p mut Payload<'a>,
    found: &'f Found,
}

impl Level<'_, '_, '_> {
    fn not_an_object(self) {
        self.payload.not_an_object.get_or_insert(self.place.name());
    }
}

impl<'a> DeserializeSeed<'a> for Level<'_, 'a, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Level<'_, 'a, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the object `{}`", self.place.name())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut names = Names::default();
        while let Some(Name(name)) = fields.next_key::<Name<'a>>()? {
            let (found, place) = (self.found, self.place);
            self.payload.mark(place, &name);
            if let Some(slot) = self.payload.slot(place, &name) {
                *slot = fields.next_value_seed(SlotSeed(place.strict(found)))?;
            } else if let Some(place) = place.child(&name) {
                fields.next_value_seed(Level { place, payload: self.payload, found })?;
            } else if place.is_data(&name) {
                let raw: &'a RawValue = fields.next_value()?;
                self.payload.resource_data = Some(raw.get()).filter(|text| *text != "null");
            } else {
                // As raw text, because a number too great for a float is fine where nobody converts it (M8).
                let raw: &'a RawValue = fields.next_value()?;
                if raw.get().starts_with(['{', '[']) || raw.get().contains('\\') {
                    self.payload.unknown.push((raw.get(), place.depth()));
                }
            }
            names.note(name, found)?;
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.not_an_object();
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.not_an_object();
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.not_an_object();
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.not_an_object();
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.not_an_object();
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'a>>(self, elements: A) -> Result<(), A::Error> {
        let strict = self.place.strict(self.found);
        self.not_an_object();
        strict.visit_seq(elements)
    }
}

/// Reads a text, or walks whatever else stands there.
struct SlotSeed<'f>(Strict<'f>);

impl<'a> DeserializeSeed<'a> for SlotSeed<'_> {
    type Value = Slot<'a>;
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Slot<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for SlotSeed<'_> {
    type Value = Slot<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Slot<'a>, E> {
        Ok(Slot::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Slot<'a>, E> {
        Ok(Slot::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_unit<E>(self) -> Result<Slot<'a>, E> {
        Ok(Slot::Absent)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Slot<'a>, E> {
        Ok(Slot::Other("a boolean"))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Slot<'a>, E> {
        Ok(Slot::Other("a number"))
    }
    fn visit_u64<E>(self, _: u64) -> Result<Slot<'a>, E> {
        Ok(Slot::Other("a number"))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Slot<'a>, E> {
        Ok(Slot::Other("a number"))
    }
    fn visit_seq<A: SeqAccess<'a>>(self, elements: A) -> Result<Slot<'a>, A::Error> {
        self.0.visit_seq(elements).map(|()| Slot::Other("an array"))
    }
    fn visit_map<A: MapAccess<'a>>(self, fields: A) -> Result<Slot<'a>, A::Error> {
        self.0.visit_map(fields).map(|()| Slot::Other("an object"))
    }
}
