//! The lines of an export behind its header: one a resource or tombstone, in the shape of the API with what recognises
//! redeliveries beside it; then tombstones that are kept beyond their time, the quarantine, header ids of rejects; and
//! the last line, which says how many came before it, so that a file that was cut off is noticed.
//!
//! Every line has a `kind`. It is read twice, because a tagged enum would not leave `data` as it stands.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{ExchangeError, Imported, intern, parser_words, resource_id};
use crate::dataflow::WHILE_PINNED;
use crate::durable::rows::Row;
use crate::model::{Coordinates, EventId, EventOrder, QuarantineEntry, QuarantineStatus, Reject, RejectReason, Topics};

mod state;

use state::StateLine;

/// Every kind that a line may have.
const KINDS: &str =
    "\"resource\", \"tombstone\", \"keptTombstone\", \"quarantine\", \"seenReject\" and \"end\" are allowed";

#[derive(Deserialize)]
struct Kind<'a> {
    kind: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeptLine<'a> {
    kind: Cow<'a, str>,
    resource_id: Cow<'a, str>,
    /// The epoch at which it is forgotten; null as long as an older holder of its reporter key is there.
    until: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine<'a> {
    name: Cow<'a, str>,
    /// base64.
    value: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct QuarantineLine<'a> {
    kind: Cow<'a, str>,
    topic: Cow<'a, str>,
    partition: i32,
    offset: i64,
    arrival: u64,
    record_timestamp_ms: i64,
    resource_id: Option<Cow<'a, str>>,
    event_id: Option<Cow<'a, str>>,
    reason: Cow<'a, str>,
    detail: Cow<'a, str>,
    status: Cow<'a, str>,
    epoch: u64,
    total_bytes: u64,
    /// base64, as the next one.
    key: Option<Cow<'a, str>>,
    value: Option<Cow<'a, str>>,
    headers: Vec<HeaderLine<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SeenRejectLine<'a> {
    kind: Cow<'a, str>,
    epoch: u64,
    arrival: u64,
    topic: Cow<'a, str>,
    partition: i32,
    offset: i64,
    resource_id: Option<Cow<'a, str>>,
    event_id: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndLine<'a> {
    kind: Cow<'a, str>,
    /// How many lines come before it; not counted where it is absent.
    #[serde(default)]
    lines: Option<u64>,
}

fn json(line: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(line).expect("memory takes a line")
}

/// The line of a row; none for one that stands on the line of another.
pub(super) fn written(row: &Row, topics: &Topics) -> Option<Vec<u8>> {
    Some(match row {
        Row::InQuarantine(..) => return None,
        Row::State(state) => json(&StateLine::of(state, &topics.name(state.last.coordinates.topic))),
        Row::Kept(id, until) => json(&KeptLine {
            kind: "keptTombstone".into(),
            resource_id: id.to_string().into(),
            until: Some(*until).filter(|until| *until != WHILE_PINNED),
        }),
        Row::Rejected(entry) => json(&quarantine_line(entry, &topics.name(entry.coordinates().topic))),
        Row::SeenReject((epoch, order), (id, event_id)) => {
            let EventOrder { coordinates: Coordinates { topic, partition, offset }, arrival } = *order;
            json(&SeenRejectLine {
                kind: "seenReject".into(),
                epoch: *epoch,
                arrival,
                topic: (*topics.name(topic)).into(),
                partition,
                offset,
                resource_id: id.map(|id| id.to_string().into()),
                event_id: event_id.to_string().into(),
            })
        }
    })
}

/// The last line, behind so many others.
pub(super) fn end(lines: u64) -> Vec<u8> {
    json(&EndLine { kind: "end".into(), lines: Some(lines) })
}

/// What is said of an export without its last line.
pub(super) fn cut_off() -> ExchangeError {
    let why = "the export is cut off: its last line must be of kind \"end\", and it is not there";
    ExchangeError::Refused(why.to_owned())
}

fn quarantine_line<'a>(entry: &'a QuarantineEntry, topic: &'a str) -> QuarantineLine<'a> {
    let QuarantineEntry { reject, status, first_seen } = entry;
    let Reject { id, event_id, event_id_text, order, observed_ms, reason, detail, key, value, headers, total_bytes } =
        reject;
    let packed = |bytes: &Option<Box<[u8]>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes).into());
    let header = |(name, value): &'a (Box<str>, _)| HeaderLine { name: (&**name).into(), value: packed(value) };
    QuarantineLine {
        kind: "quarantine".into(),
        topic: topic.into(),
        partition: order.coordinates.partition,
        offset: order.coordinates.offset,
        arrival: order.arrival,
        record_timestamp_ms: *observed_ms,
        resource_id: id.map(|id| id.to_string().into()),
        event_id: shown_event_id(event_id_text.as_deref(), *event_id),
        reason: reason.as_str().into(),
        detail: (&**detail).into(),
        status: status.as_str().into(),
        epoch: *first_seen,
        total_bytes: *total_bytes,
        key: packed(key),
        value: packed(value),
        headers: headers.iter().map(header).collect(),
    }
}

/// An event's id as it was sent.
fn shown_event_id<'a>(text: Option<&'a str>, id: Option<EventId>) -> Option<Cow<'a, str>> {
    text.map(Cow::Borrowed).or_else(|| id.map(|id| id.to_string().into()))
}

/// Reads a line into the import; whether it is the last one.
pub(super) fn read(line: &str, number: u64, topics: &Topics, imported: &mut Imported) -> Result<bool, String> {
    let kind: Kind<'_> = parsed(line)?;
    match &*kind.kind {
        "resource" | "tombstone" => {
            let line: StateLine<'_> = parsed(line)?;
            let state = line.state(&Reading { epoch: imported.meta.epoch, topics })?;
            imported.add(Row::State(Arc::new(state)))?;
        }
        "keptTombstone" => kept(&parsed(line)?, imported)?,
        "quarantine" => quarantine(&parsed(line)?, topics, imported)?,
        "seenReject" => seen_reject(&parsed(line)?, topics, imported)?,
        "end" => {
            let end: EndLine<'_> = parsed(line)?;
            return match end.lines {
                Some(lines) if lines + 1 != number => Err(format!(
                    "{lines} lines come before it in the whole export, and here {} do; without `lines` they are not \
                     counted",
                    number - 1
                )),
                _ => Ok(true),
            };
        }
        other => return Err(format!("`kind` is {other:?}; {KINDS}")),
    }
    Ok(false)
}

fn parsed<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| parser_words(&error))
}

/// What lines are read with.
struct Reading<'a> {
    epoch: u64,
    topics: &'a Topics,
}

impl Reading<'_> {
    fn coordinates(&self, topic: &str, partition: i32, offset: i64) -> Result<Coordinates, String> {
        if partition < 0 || offset < 0 {
            return Err("`partition` and `offset` are 0 or more".to_owned());
        }
        Ok(Coordinates { topic: intern(self.topics, topic)?, partition, offset })
    }

    fn epoch(&self, epoch: u64) -> Result<u64, String> {
        if epoch == 0 || epoch > self.epoch {
            return Err(format!("`epoch` is {epoch}; 1 to that of the export, {}, is allowed", self.epoch));
        }
        Ok(epoch)
    }
}

/// The id that stands in lists of ids: a UUID in any case.
fn event_uuid(text: &str, field: &str) -> Result<EventId, String> {
    let id = resource_id(text, field)?;
    EventId::from_uuid(id.uuid())
        .ok_or_else(|| format!("`{field}` is {text:?}, which ends in zeros as no event's id does"))
}

fn kept(line: &KeptLine<'_>, imported: &mut Imported) -> Result<(), String> {
    let id = resource_id(&line.resource_id, "resourceId")?;
    imported.add(Row::Kept(id, line.until.unwrap_or(WHILE_PINNED)))
}

fn quarantine(line: &QuarantineLine<'_>, topics: &Topics, imported: &mut Imported) -> Result<(), String> {
    let reading = Reading { epoch: imported.meta.epoch, topics };
    let statuses = [QuarantineStatus::Open, QuarantineStatus::PartlySuperseded];
    let status = statuses.into_iter().find(|status| status.as_str() == line.status);
    let (event_id, is_text) = line.event_id.as_deref().map(EventId::of_text).unzip();
    let headers = line.headers.iter().map(|header| Ok((Box::from(&*header.name), bytes(&header.value, "headers")?)));
    let reject = Reject {
        id: line.resource_id.as_deref().map(|id| resource_id(id, "resourceId")).transpose()?,
        event_id,
        event_id_text: line.event_id.as_deref().filter(|_| is_text == Some(true)).map(Box::from),
        order: EventOrder {
            coordinates: reading.coordinates(&line.topic, line.partition, line.offset)?,
            arrival: line.arrival,
        },
        observed_ms: line.record_timestamp_ms,
        reason: RejectReason::parse(&line.reason).ok_or_else(|| {
            let known: Vec<_> = RejectReason::ALL.iter().map(|reason| reason.as_str()).collect();
            format!("`reason` is {:?}; allowed are {}", line.reason, known.join(", "))
        })?,
        detail: Box::from(&*line.detail),
        key: bytes(&line.key, "key")?,
        value: bytes(&line.value, "value")?,
        headers: headers.collect::<Result<_, String>>()?,
        total_bytes: line.total_bytes,
    };
    let status = status
        .ok_or_else(|| format!("`status` is {:?}; \"open\" and \"partly superseded\" are allowed", line.status))?;
    let entry = QuarantineEntry { reject, status, first_seen: reading.epoch(line.epoch)? };
    imported.add(Row::InQuarantine((entry.first_seen, entry.reject.order), status))?;
    imported.add(Row::Rejected(Arc::new(entry)))
}

fn bytes(text: &Option<Cow<'_, str>>, field: &str) -> Result<Option<Box<[u8]>>, String> {
    let Some(text) = text else { return Ok(None) };
    let bytes = STANDARD.decode(&**text).map_err(|error| format!("`{field}` is no base64: {error}"))?;
    Ok(Some(bytes.into()))
}

fn seen_reject(line: &SeenRejectLine<'_>, topics: &Topics, imported: &mut Imported) -> Result<(), String> {
    let reading = Reading { epoch: imported.meta.epoch, topics };
    let coordinates = reading.coordinates(&line.topic, line.partition, line.offset)?;
    let key = (reading.epoch(line.epoch)?, EventOrder { coordinates, arrival: line.arrival });
    let id = line.resource_id.as_deref().map(|id| resource_id(id, "resourceId")).transpose()?;
    imported.add(Row::SeenReject(key, (id, event_uuid(&line.event_id, "eventId")?)))
}
