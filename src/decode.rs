//! Decoding: a record in; an event, a skip or a reject out. No I/O, no state but the schemas already understood.
//!
//! Promises: every variant K1 to K4, V1 to V9, H1 to H7 and the legacy shapes of kessel-events 4.1 and 7 become the
//! event they mean; every poison becomes a [`Reject`] that says what is wrong; nothing panics and nothing recurses
//! further than a fixed depth. The steps: headers, key, envelope (`value`), event object (`payload`), and here what
//! they mean together. A value whose schema was seen before is parsed from its payload on (`schema_cache`).
//! Not here: which topics are wanted and what was read already (the ingest), what an event does (`fold`).

mod event;
mod headers;
mod identity;
mod json;
mod key;
mod line;
mod payload;
mod plain;
mod schema_cache;
mod value;

use std::borrow::Cow;

use crate::model::{Anomaly, Event, Reject, RejectReason, SkipReason};
use crate::source::{Content, Record, Wire};

pub(crate) use event::{lower, normal_type};
use headers::Headers;
use identity::Identity;
use json::Fault;
use key::Key;
use line::LineParts;
use schema_cache::{Prefix, SchemaCache};
use value::Shape;

/// A resource's data as it is kept: an object of strict JSON, without white space between tokens; else what is wrong.
pub(crate) fn normal_data(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.starts_with('{') {
        let found = text.chars().next().unwrap_or(' ');
        return Err(format!("`data` must be an object, found something that begins with {found:?}"));
    }
    json::check_inside(text, payload::DATA_DEPTH).map_err(|fault| format!("`data`: {}", fault.detail))?;
    Ok(json::minified(text))
}

/// The limits of a record.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A record whose key and value are greater goes to the quarantine unread.
    pub record_bytes_max: usize,
    /// This much of a rejected key or value is kept.
    pub reject_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { record_bytes_max: 1024 * 1024, reject_bytes_max: 64 * 1024 }
    }
}

/// What a record is.
#[derive(Debug)]
pub enum Decoded {
    /// An event.
    Event(Event),
    /// About something else.
    Skip(SkipReason),
    /// For the quarantine.
    Reject(Reject),
}

/// Decodes records one by one; every worker has its own.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    cache: SchemaCache,
    parts: LineParts,
    /// Of records that are done.
    anomalies: [u64; Anomaly::ALL.len()],
    /// Of the record at hand; begun anew when it is read again on the slow road.
    noted: [u64; Anomaly::ALL.len()],
}

/// A part of a record that decides what it is.
enum Verdict {
    Event(Event),
    Skip(SkipReason),
}

impl Decoder {
    /// A decoder that has understood no schema yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, cache: SchemaCache::default(), parts: LineParts::default(), anomalies: [0; 5], noted: [0; 5] }
    }

    /// How often each anomaly was met since the last call.
    pub fn take_anomalies(&mut self) -> impl Iterator<Item = (Anomaly, u64)> + use<> {
        Anomaly::ALL.into_iter().zip(std::mem::take(&mut self.anomalies))
    }

    /// Decodes one record.
    pub fn decode(&mut self, record: &Record<'_>) -> Decoded {
        self.noted = [0; 5];
        let decoded = match record.content {
            Content::Wire(wire) => self.decode_wire(record, &wire),
            Content::Broken(line) => {
                let detail = crate::source::line::frame(line).err().unwrap_or_default();
                Decoded::Reject(self.reject_line(record, line, Fault::new(RejectReason::NotALogLine, detail)))
            }
            Content::Line { line, rest_at } => {
                // Taken out so that its buffers and the rest of the decoder can be borrowed at once.
                let mut parts = std::mem::take(&mut self.parts);
                let decoded = self.decode_line(record, line, rest_at, &mut parts);
                self.parts = parts;
                decoded
            }
        };
        self.anomalies.iter_mut().zip(self.noted).for_each(|(total, noted)| *total += noted);
        decoded
    }

    fn decode_line(&mut self, record: &Record<'_>, line: &[u8], rest_at: usize, parts: &mut LineParts) -> Decoded {
        match parts.read(line, rest_at, &mut self.cache) {
            Ok(()) => match parts.known.take() {
                None => self.decode_wire(record, &parts.wire()),
                Some(prefix) => self.decode_rest(record, &parts.wire(), &prefix),
            },
            // What could be read of it says which resource it is about, and that it was met before.
            Err(fault) => {
                let wire = parts.wire();
                let (headers, _) = headers::read(&wire);
                let identity = Identity { key: key::read(wire.key()).ok(), header_id: headers.id, gleaned: None };
                let mut reject = self.reject_line(record, line, fault);
                reject.id = identity.resource();
                (reject.event_id, reject.event_id_text) = identity.event();
                reject.key = wire.key().map(|bytes| self.capped(bytes));
                Decoded::Reject(reject)
            }
        }
    }

    /// A record whose value stands in `wire` as a whole.
    fn decode_wire(&mut self, record: &Record<'_>, wire: &Wire<'_>) -> Decoded {
        let total_bytes = wire.key().map_or(0, <[u8]>::len) + wire.value().map_or(0, <[u8]>::len);
        let (headers, headers_fault) = headers::read(wire);
        let key = key::read(wire.key());
        if total_bytes > self.limits.record_bytes_max {
            let allowed = self.limits.record_bytes_max;
            let detail = format!("key and value have {total_bytes} bytes; at most {allowed} are allowed");
            let fault = Fault::new(RejectReason::RecordTooLarge, detail);
            return Decoded::Reject(self.reject(record, wire, headers, key, fault));
        }
        let known = wire.value().and_then(|value| Some((value, self.cache.of_value(value)?)));
        if let (Some((value, prefix)), Ok(key), Ok(())) = (known, &key, &headers_fault)
            && let Some(text) = payload_of(&value[prefix.plain.len()..])
            && let Ok(event) = self.interpret_text(record, &headers, key, text)
        {
            return event;
        }
        let verdict = headers_fault.and_then(|()| {
            let key = key.as_ref().map_err(Clone::clone)?;
            let shape = value::shape(wire.value(), &mut self.cache)?;
            self.interpret(record, &headers, key, shape)
        });
        match verdict {
            Ok(Verdict::Event(event)) => Decoded::Event(event),
            Ok(Verdict::Skip(reason)) => Decoded::Skip(reason),
            Err(fault) => Decoded::Reject(self.reject(record, wire, headers, key, fault)),
        }
    }

    /// A record whose value is the rest after a known schema.
    fn decode_rest(&mut self, record: &Record<'_>, wire: &Wire<'_>, prefix: &Prefix) -> Decoded {
        let rest = wire.value().unwrap_or_default();
        let (headers, headers_fault) = headers::read(wire);
        let total_bytes = wire.key().map_or(0, <[u8]>::len) + prefix.plain.len() + rest.len();
        if total_bytes <= self.limits.record_bytes_max
            && headers_fault.is_ok()
            && let Ok(key) = key::read(wire.key())
            && let Some(text) = payload_of(rest)
            && let Ok(decoded) = self.interpret_text(record, &headers, &key, text)
        {
            return decoded;
        }
        // Whatever is wrong with it, the slow road says so about the whole value.
        let mut whole = crate::source::RecordBatch::new();
        let value = [&*prefix.plain, rest].concat();
        let text_headers: Vec<_> = wire.headers().map(|(name, value)| (String::from_utf8_lossy(name), value)).collect();
        let headers = text_headers.iter().map(|(name, value)| (&**name, *value));
        whole.push_wire(record.order.coordinates, record.timestamp_ms, wire.key(), Some(&value), headers);
        match whole.iter().next().map(|whole| whole.content) {
            Some(Content::Wire(wire)) => self.decode_wire(record, &wire),
            _ => unreachable!("a record was just pushed as its parts"),
        }
    }

    /// The event in the text of a payload, an error where the slow road must look.
    fn interpret_text(
        &mut self,
        record: &Record<'_>,
        headers: &Headers<'_>,
        key: &Key,
        text: &str,
    ) -> Result<Decoded, Fault> {
        let shape = if text == "{}" {
            Shape::EmptyPayload
        } else {
            let payload = plain::parse(text).map_or_else(|| payload::parse(text), Ok)?;
            if payload.may_be_envelope || !payload.is_event {
                return Err(Fault::new(RejectReason::WrongShape, "not plainly an event"));
            }
            Shape::Parsed(Box::new(payload))
        };
        self.interpret(record, headers, key, shape).map(|verdict| match verdict {
            Verdict::Event(event) => Decoded::Event(event),
            Verdict::Skip(reason) => Decoded::Skip(reason),
        })
    }

    fn interpret(
        &mut self,
        record: &Record<'_>,
        headers: &Headers<'_>,
        key: &Key,
        shape: Shape<'_>,
    ) -> Result<Verdict, Fault> {
        self.noted = [0; 5];
        let mut noted = |anomaly: Anomaly| self.noted[anomaly as usize] += 1;
        if headers.repeated {
            noted(Anomaly::RepeatedHeader);
        }
        event::interpret(record, headers, key, shape, &mut noted)
    }

    fn capped(&self, bytes: &[u8]) -> Box<[u8]> {
        bytes[..bytes.len().min(self.limits.reject_bytes_max)].into()
    }

    fn reject(
        &self,
        record: &Record<'_>,
        wire: &Wire<'_>,
        headers: Headers<'_>,
        key: Result<Key, Fault>,
        fault: Fault,
    ) -> Reject {
        let gleaned = wire.value().filter(|value| value.len() <= self.limits.record_bytes_max).map(identity::glean);
        let identity = Identity { key: key.ok(), header_id: headers.id, gleaned };
        let (event_id, event_id_text) = identity.event();
        Reject {
            id: identity.resource(),
            event_id,
            event_id_text,
            order: record.order,
            observed_ms: record.timestamp_ms,
            reason: fault.reason,
            detail: fault.detail.into(),
            key: wire.key().map(|bytes| self.capped(bytes)),
            value: wire.value().map(|bytes| self.capped(bytes)),
            headers: wire
                .headers()
                .take(Reject::HEADERS_MAX)
                .map(|(name, value)| {
                    let name = String::from_utf8_lossy(&name[..name.len().min(Reject::HEADER_NAME_BYTES_MAX)]).into();
                    (name, value.map(|bytes| self.capped(bytes)))
                })
                .collect(),
            total_bytes: (wire.key().map_or(0, <[u8]>::len) + wire.value().map_or(0, <[u8]>::len)) as u64,
        }
    }

    fn reject_line(&self, record: &Record<'_>, line: &[u8], fault: Fault) -> Reject {
        Reject {
            id: None,
            event_id: None,
            event_id_text: None,
            order: record.order,
            observed_ms: record.timestamp_ms,
            reason: fault.reason,
            detail: fault.detail.into(),
            key: None,
            value: Some(self.capped(line)),
            headers: Vec::new(),
            total_bytes: line.len() as u64,
        }
    }
}

/// The payload's text in what follows `{"schema":..,"payload":`, if it is an object and nothing else follows.
fn payload_of(rest: &[u8]) -> Option<&str> {
    let rest = rest.trim_ascii_end().strip_suffix(b"}")?.trim_ascii_end();
    std::str::from_utf8(rest).ok().filter(|text| text.starts_with('{'))
}
