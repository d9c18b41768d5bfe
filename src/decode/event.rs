//! What headers, key and event object mean together: operation, identity, fields.
//!
//! One function a question, each with the row of kessel-events 4.1 that answers it.

use std::borrow::Cow;

use super::Verdict;
use super::headers::Headers;
use super::json::{Fault, minified};
use super::key::Key;
use super::payload::{self, Payload, Slot};
use super::value::{Row, Shape};
use crate::model::{Anomaly, Event, EventId, Operation, RejectReason, ResourceId, SkipReason, Texts, Timestamp};
use crate::source::Record;

const TYPE_PREFIX: &str = "redhat.inventory.resources.";
const RELATIONSHIP_TYPES: [&str; 2] =
    ["redhat.inventory.resources_relationship.", "redhat.inventory.resources-relationship."];
const RELATIONSHIP_SUBJECTS: [&str; 2] = ["/resources_relationship/", "/resources-relationship/"];
/// A longer name, id or version is none that Kessel writes (256 characters there).
const SHORT_BYTES_MAX: usize = 1024;
/// A longer link is none that Kessel writes (512 characters there).
const HREF_BYTES_MAX: usize = 4096;

/// What a record says, with the sources of each answer side by side.
struct Sayings<'a, 'h> {
    record: &'a Record<'a>,
    header_id: Option<&'h str>,
    header_operation: Option<&'h str>,
    key: &'a Key,
}

/// Decides what a record is.
pub(super) fn interpret(
    record: &Record<'_>,
    headers: &Headers<'_>,
    key: &Key,
    shape: Shape<'_>,
    noted: &mut impl FnMut(Anomaly),
) -> Result<Verdict, Fault> {
    match shape {
        Shape::Row(row) => interpret_row(record, headers, row, key, noted),
        shape => {
            let header_id = headers.id.as_deref();
            let header_operation = headers.operation.as_deref();
            Sayings { record, header_id, header_operation, key }.interpret_shape(shape, noted)
        }
    }
}

/// V5: operation and ids come from the row, the headers fill in what it does not say.
fn interpret_row(
    record: &Record<'_>,
    headers: &Headers<'_>,
    row: Row<'_>,
    key: &Key,
    noted: &mut impl FnMut(Anomaly),
) -> Result<Verdict, Fault> {
    if row.aggregate_type.as_deref().is_some_and(|aggregate| aggregate.contains("tuples")) {
        return Ok(Verdict::Skip(SkipReason::Tuple));
    }
    // The key of a raw row is the row's own id (K3), so the aggregate's is the identity wherever it is one.
    let aggregate = text_of(&row.aggregate_id).and_then(|text| ResourceId::parse(text).ok()).map(Key::Id);
    let row_id = text_of(&row.id);
    let nothing = Key::Nothing;
    let key = match key {
        Key::Id(id) if row_id.is_some_and(|row_id| ResourceId::parse(row_id).ok() == Some(*id)) => &nothing,
        key => key,
    };
    let sayings = Sayings {
        record,
        header_id: row_id.or(headers.id.as_deref()),
        header_operation: text_of(&row.operation).or(headers.operation.as_deref()),
        key: aggregate.as_ref().unwrap_or(key),
    };
    match *row.payload {
        Shape::Row(_) => Err(Fault::new(RejectReason::WrongShape, "an outbox row inside an outbox row")),
        shape => sayings.interpret_shape(shape, noted),
    }
}

/// A text of a row; empty is as good as absent.
fn text_of(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

impl Sayings<'_, '_> {
    fn interpret_shape(&self, shape: Shape<'_>, noted: &mut impl FnMut(Anomaly)) -> Result<Verdict, Fault> {
        match shape {
            Shape::Tombstone => match self.stated_operation()? {
                None | Some(Operation::Deleted) => self.delete(&Payload::default(), noted),
                Some(stated) => Err(Fault::new(
                    RejectReason::ContradictoryTombstone,
                    format!("a null value deletes, but the header `operation` says `{}`", stated.as_str()),
                )),
            },
            Shape::NullPayload | Shape::EmptyPayload => match self.stated_operation()? {
                Some(Operation::Deleted) => self.delete(&Payload::default(), noted),
                stated => {
                    let says = stated.map_or("is missing".to_owned(), |stated| format!("says `{}`", stated.as_str()));
                    let detail = format!(
                        "the payload is empty, which only a delete's may be, and the header `operation` {says}"
                    );
                    Err(Fault::new(RejectReason::EmptyPayload, detail))
                }
            },
            Shape::Event(text) => self.event(&payload::parse(&text)?, noted),
            Shape::Parsed(payload) => self.event(&payload, noted),
            Shape::Row(_) => unreachable!("rows are taken apart before"),
        }
    }

    /// H4: the header's operation, none where it is missing.
    fn stated_operation(&self) -> Result<Option<Operation>, Fault> {
        self.header_operation.map(parse_operation).transpose()
    }

    fn event(&self, payload: &Payload<'_>, noted: &mut impl FnMut(Anomaly)) -> Result<Verdict, Fault> {
        // First, whatever the headers say: what deletes a relationship or tuples has a resource's key and leaves it.
        if let Some(reason) = skip_reason(payload) {
            return Ok(Verdict::Skip(reason));
        }
        // F16: whatever a delete carries, and in whatever version, is not looked at.
        if self.stated_operation()? == Some(Operation::Deleted) {
            return self.delete(payload, noted);
        }
        if let Some(version) = payload.specversion.require_text("specversion")?.filter(|version| *version != "1.0") {
            return Err(Fault::new(RejectReason::UnknownVersion, format!("specversion {version:?}; known is \"1.0\"")));
        }
        let kind = payload.kind.require_text("type")?;
        let (type_in_kind, operation_in_kind) = split_kind(kind)?;
        let operation = match (self.stated_operation()?, operation_in_kind) {
            (Some(stated), said) => {
                if said.is_some_and(|said| said != stated.as_str()) {
                    noted(Anomaly::OperationDiffersFromType);
                }
                stated
            }
            (None, Some(said)) => parse_operation(said)?,
            (None, None) => {
                let detail = "neither a header `operation` nor a `type` says what happened";
                return Err(Fault::new(RejectReason::MissingOperation, detail));
            }
        };
        if operation == Operation::Deleted {
            return self.delete(payload, noted);
        }
        if let Some(place) = payload.not_an_object {
            return Err(Fault::new(RejectReason::WrongType, format!("`{place}` must be an object")));
        }
        self.report(operation, payload, type_in_kind, noted)
    }

    /// F16: whatever else a delete carries is not looked at.
    fn delete(&self, payload: &Payload<'_>, noted: &mut impl FnMut(Anomaly)) -> Result<Verdict, Fault> {
        let id = self.identity(payload, noted)?;
        let (event_id, id_text) = self.event_id(payload, noted)?;
        let texts = [None, None, None, None, None, None, None, None, id_text.as_deref(), None];
        let texts = Texts::build(texts).map_err(|error| Fault::new(RejectReason::FieldTooLong, error.to_string()))?;
        Ok(Verdict::Event(Event {
            id,
            operation: Operation::Deleted,
            event_id,
            order: self.record.order,
            observed_ms: self.record.timestamp_ms,
            reported_at: None,
            created_at: None,
            texts,
        }))
    }

    fn report(
        &self,
        operation: Operation,
        payload: &Payload<'_>,
        type_in_kind: Option<&str>,
        noted: &mut impl FnMut(Anomaly),
    ) -> Result<Verdict, Fault> {
        let texts_of_identity = [
            (&payload.id, "id"),
            (&payload.source, "source"),
            (&payload.subject, "subject"),
            (&payload.metadata_id, "data.metadata.id"),
        ];
        for (slot, field) in texts_of_identity {
            slot.require_text(field)?;
        }
        let id = self.identity(payload, noted)?;
        let (event_id, id_text) = self.event_id(payload, noted)?;
        let stated_type = short(&payload.resource_type, "data.metadata.resource_type")?;
        let resource_type = stated_type
            .or(type_in_kind)
            .or_else(|| type_in_subject(payload))
            .ok_or_else(|| missing("data.metadata.resource_type"))?;
        let resource_type = normal_type(resource_type);
        let reporter_type = required(&payload.reporter_type, "data.reporter_data.reporter_type")?;
        let instance = payload.reporter_instance_id.require_text("data.reporter_data.reporter_instance_id")?;
        let instance = instance.ok_or_else(|| missing("data.reporter_data.reporter_instance_id"))?;
        let instance = limited(instance, "data.reporter_data.reporter_instance_id", SHORT_BYTES_MAX)?;
        let data = payload.resource_data;
        if let Some(text) = data.filter(|text| !text.starts_with('{')) {
            let found = text.chars().next().unwrap_or(' ');
            let detail = format!("`data.resource_data` must be an object, found something that begins with {found:?}");
            return Err(Fault::new(RejectReason::WrongType, detail));
        }
        let data = data.map(|text| if payload.is_compact { Cow::Borrowed(text) } else { minified(text) });
        let created_at = time(&payload.created_at, "data.metadata.created_at")?;
        let updated_at = time(&payload.updated_at, "data.metadata.updated_at")?;
        // Inventory writes one moment in two places.
        let stated_time = match () {
            () if payload.time == payload.created_at => created_at,
            () if payload.time == payload.updated_at => updated_at,
            () => time(&payload.time, "time")?,
        };
        // H7: where the header decides against the `type`, the time stands under the other name.
        let reported_at = match operation {
            Operation::Created => created_at.or(stated_time).or(updated_at),
            Operation::Updated | Operation::Deleted => updated_at.or(stated_time).or(created_at),
        };
        let texts = Texts::build([
            Some(&*resource_type),
            short(&payload.workspace_id, "data.metadata.workspace_id")?,
            Some(&*lower(reporter_type)),
            Some(&*lower(instance)),
            Some(required(&payload.local_resource_id, "data.reporter_data.local_resource_id")?),
            href(&payload.api_href, "data.reporter_data.api_href")?,
            href(&payload.console_href, "data.reporter_data.console_href")?,
            short(&payload.reporter_version, "data.reporter_data.reporter_version")?,
            id_text.as_deref(),
            data.as_deref(),
        ]);
        Ok(Verdict::Event(Event {
            id,
            operation,
            event_id,
            order: self.record.order,
            observed_ms: self.record.timestamp_ms,
            reported_at,
            created_at,
            texts: texts.map_err(|error| Fault::new(RejectReason::FieldTooLong, error.to_string()))?,
        }))
    }

    /// K1 to K4, F17: the key; else the payload's id; else the last segment of the subject.
    fn identity(&self, payload: &Payload<'_>, noted: &mut impl FnMut(Anomaly)) -> Result<ResourceId, Fault> {
        match self.key {
            Key::Id(id) => {
                let said = payload.metadata_id.text();
                if said.is_some_and(|said| ResourceId::parse(said).ok() != Some(*id)) {
                    noted(Anomaly::IdDiffersFromKey);
                }
                Ok(*id)
            }
            // The direct era used the event's source as key.
            Key::Text(text) if !text.is_empty() && payload.source.text() == Some(text) => {
                identity_in(payload).ok_or_else(|| no_identity("the key is the event's source"))
            }
            Key::Text(text) => {
                let shown: String = text.chars().take(64).collect();
                Err(Fault::new(RejectReason::InvalidKey, format!("the key {shown:?} is no UUID")))
            }
            Key::Nothing => identity_in(payload).ok_or_else(|| no_identity("the key is null, empty or not readable")),
        }
    }

    /// H5: the header's id, else the payload's, else none. The text where the id is no UUID.
    fn event_id(
        &self,
        payload: &Payload<'_>,
        noted: &mut impl FnMut(Anomaly),
    ) -> Result<(Option<EventId>, Option<String>), Fault> {
        let text = match (self.header_id, payload.id.text().filter(|id| !id.is_empty())) {
            (Some(id), _) => limited(id, "the id of the event", SHORT_BYTES_MAX)?,
            (None, Some(id)) => {
                noted(Anomaly::NoHeaderId);
                limited(id, "id", SHORT_BYTES_MAX)?
            }
            (None, None) => {
                noted(Anomaly::NoId);
                return Ok((None, None));
            }
        };
        let (id, is_text) = EventId::of_text(text);
        Ok((Some(id), is_text.then(|| text.to_owned())))
    }
}

fn parse_operation(text: &str) -> Result<Operation, Fault> {
    Operation::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        Fault::new(RejectReason::UnknownOperation, format!("operation {shown:?}; known are created, updated, deleted"))
    })
}

/// F18, and the sibling topic.
fn skip_reason(payload: &Payload<'_>) -> Option<SkipReason> {
    let begins = |slot: &Slot<'_>, prefixes: [&str; 2]| {
        slot.text().is_some_and(|text| prefixes.iter().any(|prefix| text.starts_with(prefix)))
    };
    if begins(&payload.kind, RELATIONSHIP_TYPES) || begins(&payload.subject, RELATIONSHIP_SUBJECTS) {
        return Some(SkipReason::Relationship);
    }
    // F19: a resource may have more fields than we know; only what does not say that it is one is told by them.
    if begins(&payload.kind, [TYPE_PREFIX, TYPE_PREFIX]) || begins(&payload.subject, ["/resources/", "/resources/"]) {
        return None;
    }
    if payload.is_relationship {
        return Some(SkipReason::Relationship);
    }
    payload.is_tuple.then_some(SkipReason::Tuple)
}

/// Resource type and operation in `redhat.inventory.resources.<type>.<operation>`.
fn split_kind(kind: Option<&str>) -> Result<(Option<&str>, Option<&str>), Fault> {
    let Some(kind) = kind.filter(|kind| !kind.is_empty()) else { return Ok((None, None)) };
    let rest = kind.strip_prefix(TYPE_PREFIX).and_then(|rest| rest.rsplit_once('.'));
    let (resource_type, operation) = rest.ok_or_else(|| {
        let shown: String = kind.chars().take(128).collect();
        Fault::new(
            RejectReason::UnknownVersion,
            format!("event type {shown:?}; known are {TYPE_PREFIX}<type>.<operation>"),
        )
    })?;
    Ok((Some(resource_type).filter(|text| !text.is_empty()), Some(operation)))
}

/// `/resources/<type>/<id>`.
fn type_in_subject<'a>(payload: &'a Payload<'_>) -> Option<&'a str> {
    let (resource_type, _) = payload.subject.text()?.strip_prefix("/resources/")?.split_once('/')?;
    Some(resource_type).filter(|text| !text.is_empty())
}

fn identity_in(payload: &Payload<'_>) -> Option<ResourceId> {
    let stated = payload.metadata_id.text().and_then(|text| ResourceId::parse(text).ok());
    stated.or_else(|| ResourceId::parse(payload.subject.text()?.rsplit('/').next()?).ok())
}

/// A resource type as it is kept: lower case, `/` and the dashes of the first months as `_`.
pub(crate) fn normal_type(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte == b'/' || byte == b'-' || byte.is_ascii_uppercase()) {
        return Cow::Owned(text.to_ascii_lowercase().replace(['/', '-'], "_"));
    }
    Cow::Borrowed(text)
}

/// A reporter's type or instance as it is kept.
pub(crate) fn lower(text: &str) -> Cow<'_, str> {
    if text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Borrowed(text);
    }
    if text.chars().any(char::is_uppercase) { Cow::Owned(text.to_lowercase()) } else { Cow::Borrowed(text) }
}

fn missing(field: &str) -> Fault {
    Fault::new(RejectReason::MissingField, format!("`{field}` is missing"))
}

fn no_identity(why: &str) -> Fault {
    let detail = format!("{why}, and neither `data.metadata.id` nor `subject` has the UUID of a resource");
    Fault::new(RejectReason::NoIdentity, detail)
}

fn limited<'a>(text: &'a str, field: &str, bytes_max: usize) -> Result<&'a str, Fault> {
    if text.len() > bytes_max {
        let detail = format!("`{field}` has {} bytes; at most {bytes_max} are allowed", text.len());
        return Err(Fault::new(RejectReason::FieldTooLong, detail));
    }
    Ok(text)
}

/// A text of limited length; empty is as good as absent (F8, F9).
fn short<'a>(slot: &'a Slot<'_>, field: &str) -> Result<Option<&'a str>, Fault> {
    optional(slot, field, SHORT_BYTES_MAX)
}

fn href<'a>(slot: &'a Slot<'_>, field: &str) -> Result<Option<&'a str>, Fault> {
    optional(slot, field, HREF_BYTES_MAX)
}

fn optional<'a>(slot: &'a Slot<'_>, field: &str, bytes_max: usize) -> Result<Option<&'a str>, Fault> {
    let text = slot.require_text(field)?.filter(|text| !text.is_empty());
    text.map(|text| limited(text, field, bytes_max)).transpose()
}

fn required<'a>(slot: &'a Slot<'_>, field: &str) -> Result<&'a str, Fault> {
    short(slot, field)?.ok_or_else(|| missing(field))
}

/// F15: Go's zero time is no time.
fn time(slot: &Slot<'_>, field: &str) -> Result<Option<Timestamp>, Fault> {
    let Some(text) = slot.require_text(field)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    Timestamp::parse(text).map_err(|error| {
        let shown: String = text.chars().take(64).collect();
        Fault::new(RejectReason::InvalidTimestamp, format!("`{field}` is {shown:?}: {error}"))
    })
}
