//! Which resource and which event a rejected record is about, as far as anything in it can still be read.
//!
//! A reject that knows its resource is cleared by a later good event, and one that knows its event makes no second
//! entry when it comes again. So this looks harder than decoding does: it takes off envelopes without asking whether
//! they are right, and the row of an outbox (V5) wins over key and headers as it does when it is decoded.

use serde_json::Value;

use super::key::Key;
use crate::model::{EventId, ResourceId};

/// Envelopes that are taken off; more are never written.
const ENVELOPES_MAX: usize = 6;

/// What a value says about itself.
#[derive(Debug, Default)]
pub(super) struct Gleaned {
    /// `aggregateid` of a row.
    row_resource: Option<ResourceId>,
    /// `id` of a row.
    row_event: Option<String>,
    /// `data.metadata.id` or the end of `subject`.
    resource: Option<ResourceId>,
    /// `id` of the event object.
    event: Option<String>,
}

/// Everything that may say which resource and event a record is about.
#[derive(Debug)]
pub(super) struct Identity<'a> {
    pub(super) key: Option<Key>,
    pub(super) header_id: Option<std::borrow::Cow<'a, str>>,
    pub(super) gleaned: Option<Gleaned>,
}

impl Identity<'_> {
    /// The resource: a row's aggregate, else the key, else what the payload says.
    pub(super) fn resource(&self) -> Option<ResourceId> {
        let gleaned = self.gleaned.as_ref();
        let in_row = gleaned.and_then(|gleaned| gleaned.row_resource);
        let in_key = match &self.key {
            // The key of a raw row is the row's own id.
            Some(Key::Id(id)) => Some(*id).filter(|id| {
                let row_event = gleaned.and_then(|gleaned| gleaned.row_event.as_deref());
                row_event.is_none_or(|event| ResourceId::parse(event).ok() != Some(*id))
            }),
            _ => None,
        };
        in_row.or(in_key).or_else(|| gleaned.and_then(|gleaned| gleaned.resource))
    }

    /// The event: a row's id, else the header, else the payload's; with its text where that is no UUID.
    pub(super) fn event(&self) -> (Option<EventId>, Option<Box<str>>) {
        let gleaned = self.gleaned.as_ref();
        let text = gleaned
            .and_then(|gleaned| gleaned.row_event.as_deref())
            .or(self.header_id.as_deref())
            .or_else(|| gleaned.and_then(|gleaned| gleaned.event.as_deref()));
        let Some(text) = text.filter(|text| !text.is_empty()) else { return (None, None) };
        let (id, is_text) = EventId::of_text(text);
        (Some(id), is_text.then(|| text.chars().take(256).collect::<String>().into()))
    }
}

/// Looks into a value.
pub(super) fn glean(value: &[u8]) -> Gleaned {
    let mut gleaned = Gleaned::default();
    let Ok(mut value) = serde_json::from_slice::<Value>(value) else { return gleaned };
    for _ in 0..ENVELOPES_MAX {
        value = match value {
            Value::String(text) => match serde_json::from_str(&text) {
                Ok(inner) => inner,
                Err(_) => return gleaned,
            },
            Value::Object(mut fields) => {
                let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
                if fields.contains_key("aggregatetype") || fields.contains_key("aggregateid") {
                    gleaned.row_resource = text("aggregateid").and_then(|text| ResourceId::parse(text).ok());
                    gleaned.row_event = text("id").map(str::to_owned);
                } else if !fields.contains_key("payload") {
                    gleaned.event = text("id").map(str::to_owned);
                    let stated =
                        fields.get("data").and_then(|data| data.pointer("/metadata/id")).and_then(Value::as_str);
                    let in_subject = || text("subject")?.rsplit('/').next();
                    let parsed = |text: &str| ResourceId::parse(text).ok();
                    gleaned.resource = stated.and_then(parsed).or_else(|| in_subject().and_then(parsed));
                    return gleaned;
                }
                match fields.remove("payload") {
                    Some(inner) => inner,
                    None => return gleaned,
                }
            }
            _ => return gleaned,
        };
    }
    gleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10";
    const EVENT: &str = "01a20728-cb89-7978-b430-a1ace1ebe8c8";

    fn of(key: Option<Key>, value: &str) -> (Option<String>, Option<String>) {
        let identity = Identity { key, header_id: None, gleaned: Some(glean(value.as_bytes())) };
        (identity.resource().map(|id| id.to_string()), identity.event().0.map(|id| id.to_string()))
    }

    #[test]
    fn envelopes_do_not_hide_who_a_record_is_about() {
        let event = format!(r#"{{"id":"{EVENT}","data":{{"metadata":{{"id":"{ID}"}}}}}}"#);
        let quoted = Value::from(event.as_str()).to_string();
        let both = (Some(ID.to_owned()), Some(EVENT.to_owned()));
        assert_eq!(of(None, &event), both);
        assert_eq!(of(None, &quoted), both, "V4");
        assert_eq!(of(None, &format!(r#"{{"schema":{{}},"payload":{quoted}}}"#)), both, "V3");
        let row = format!(r#"{{"aggregatetype":"r","aggregateid":"{ID}","id":"{EVENT}","payload":"{{}}"}}"#);
        assert_eq!(of(None, &row), both, "V5");
        let own_key = Some(Key::Id(ResourceId::parse(EVENT).unwrap()));
        assert_eq!(of(own_key, &row), both, "the row's key is the row's id");
        assert_eq!(of(None, r#"{"subject":"/resources/host/x","id":"order-17"}"#).0, None);
        let deep = "[".repeat(10_000);
        assert_eq!(of(None, &deep), (None, None));
    }
}
