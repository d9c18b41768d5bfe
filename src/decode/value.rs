//! The shape of a value: which of the envelopes of kessel-events 4.1 (V1 to V9) it came in.
//!
//! Envelopes nest in old logs (a row inside a schema envelope inside a string), so they are taken off one by one, a few
//! at most.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::json::{self, Fault};
use super::payload::Payload;
use super::schema_cache::SchemaCache;
use crate::model::RejectReason;

/// At most this many envelopes around an event.
const ENVELOPES_MAX: usize = 5;

/// What is left of a value when its envelopes are off.
#[derive(Debug)]
pub(super) enum Shape<'a> {
    /// No value at all (V8).
    Tombstone,
    /// The payload is null (V7).
    NullPayload,
    /// The payload is `{}` (V6).
    EmptyPayload,
    /// An event object (V1 to V4).
    Event(Cow<'a, str>),
    /// The same, parsed before.
    Parsed(Box<Payload<'a>>),
    /// A row of the outbox (V5) around any of the others.
    Row(Row<'a>),
}

/// A row of the outbox table before the event router took it apart.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) aggregate_type: Option<String>,
    pub(super) aggregate_id: Option<String>,
    pub(super) operation: Option<String>,
    pub(super) id: Option<String>,
    pub(super) payload: Box<Shape<'a>>,
}

/// Takes the envelopes off a value.
pub(super) fn shape<'a>(value: Option<&'a [u8]>, cache: &mut SchemaCache) -> Result<Shape<'a>, Fault> {
    let Some(bytes) = value else { return Ok(Shape::Tombstone) };
    match bytes.first() {
        None => return Err(Fault::new(RejectReason::EmptyValue, "the value has no bytes; a delete is null or `{}`")),
        Some(0) => {
            let detail = "the value begins with a zero byte: it looks like Avro or Protobuf of a schema registry";
            return Err(Fault::new(RejectReason::BinaryFormat, detail));
        }
        Some(_) => {}
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Fault::new(RejectReason::InvalidText, format!("the value is not UTF-8: {error}")))?;
    json::check_enveloped(text)?;
    learn(text, cache);
    unwrap(Cow::Borrowed(text), ENVELOPES_MAX)
}

type Object<'a> = BTreeMap<String, &'a RawValue>;

/// Keeps the schema of a plain `{"schema":..,"payload":..}` for the next value.
fn learn(text: &str, cache: &mut SchemaCache) {
    let Ok(fields) = serde_json::from_str::<Object<'_>>(text) else { return };
    let (Some(schema), Some(payload), 2) = (fields.get("schema"), fields.get("payload"), fields.len()) else { return };
    // Both borrow from `text`, so the distance of their addresses is a place in it.
    let at = |raw: &RawValue| raw.get().as_ptr().addr() - text.as_ptr().addr();
    let (schema_at, payload_at) = (at(schema), at(payload));
    let closed = text.get(payload_at + payload.get().len()..) == Some("}");
    if schema_at < payload_at && payload.get().starts_with('{') && closed {
        cache.learn(&text.as_bytes()[..payload_at]);
    }
}

fn unwrap(text: Cow<'_, str>, envelopes_left: usize) -> Result<Shape<'_>, Fault> {
    if envelopes_left == 0 {
        return Err(Fault::new(
            RejectReason::WrongShape,
            format!("more than {ENVELOPES_MAX} envelopes around the event"),
        ));
    }
    match text {
        Cow::Borrowed(text) => unwrap_text(text, envelopes_left),
        // What borrows from a text that we own cannot outlive it: make it owned too.
        Cow::Owned(text) => unwrap_text(&text, envelopes_left).map(Shape::into_owned),
    }
}

fn unwrap_text(text: &str, envelopes_left: usize) -> Result<Shape<'_>, Fault> {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    match text.as_bytes().first() {
        Some(b'{') => unwrap_object(text, envelopes_left),
        Some(b'"') => {
            let inner: String = serde_json::from_str(text).map_err(|error| Fault::of_parser(&error, None))?;
            json::check_enveloped(&inner)?;
            unwrap(Cow::Owned(inner), envelopes_left - 1)
        }
        _ if text == "null" => Ok(Shape::NullPayload),
        _ => Err(Fault::new(RejectReason::WrongShape, "the value is JSON, but no object; an event is an object")),
    }
}

fn unwrap_object(text: &str, envelopes_left: usize) -> Result<Shape<'_>, Fault> {
    let fields: Object<'_> = serde_json::from_str(text).map_err(|error| Fault::of_parser(&error, None))?;
    let has = |name: &str| fields.contains_key(name);
    if fields.is_empty() {
        return Ok(Shape::EmptyPayload);
    }
    if has("aggregatetype") || has("aggregateid") {
        return unwrap_row(&fields, envelopes_left).map(Shape::Row);
    }
    if let Some(payload) = fields.get("payload").filter(|_| has("schema")) {
        return unwrap(Cow::Borrowed(payload.get()), envelopes_left - 1);
    }
    if ["specversion", "data", "type", "subject", "reporter_resource_key"].into_iter().any(has) {
        return Ok(Shape::Event(Cow::Borrowed(text)));
    }
    let names: Vec<&str> = fields.keys().map(String::as_str).take(8).collect();
    let detail = format!("an object with the fields {names:?} is neither an event nor an envelope of one");
    Err(Fault::new(RejectReason::WrongShape, detail))
}

fn unwrap_row<'a>(fields: &Object<'a>, envelopes_left: usize) -> Result<Row<'a>, Fault> {
    let text = |name: &str| -> Result<Option<String>, Fault> {
        let Some(raw) = fields.get(name).filter(|raw| raw.get() != "null") else { return Ok(None) };
        serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| Fault::new(RejectReason::WrongType, format!("`{name}` of the outbox row must be a string")))
    };
    let payload = match fields.get("payload") {
        Some(raw) => unwrap(Cow::Borrowed(raw.get()), envelopes_left - 1)?,
        None => Shape::NullPayload,
    };
    Ok(Row {
        aggregate_type: text("aggregatetype")?,
        aggregate_id: text("aggregateid")?,
        operation: text("operation")?,
        id: text("id")?,
        payload: Box::new(payload),
    })
}

impl Shape<'_> {
    fn into_owned(self) -> Shape<'static> {
        match self {
            Shape::Tombstone => Shape::Tombstone,
            Shape::NullPayload => Shape::NullPayload,
            Shape::EmptyPayload => Shape::EmptyPayload,
            Shape::Event(text) => Shape::Event(Cow::Owned(text.into_owned())),
            Shape::Parsed(_) => unreachable!("only what stands in the record itself is parsed beforehand"),
            Shape::Row(row) => Shape::Row(Row {
                aggregate_type: row.aggregate_type,
                aggregate_id: row.aggregate_id,
                operation: row.operation,
                id: row.id,
                payload: Box::new(row.payload.into_owned()),
            }),
        }
    }
}
