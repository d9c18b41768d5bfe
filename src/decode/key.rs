//! The key: which resource a record is about (kessel-events 2.2, 4.1 K1 to K4).
//!
//! Production wraps the UUID in a schema envelope, whose bytes changed when the outbox table went, so only the decoded
//! id is identity. A text that is no UUID is an error (M2), unless it is the source URL that the direct era used as
//! key; nothing readable leaves the identity to the payload.

use serde_json::Value;

use super::json::{self, Fault};
use crate::model::{RejectReason, ResourceId};

/// A longer key is not read (M2).
const KEY_BYTES_MAX: usize = 1024;
/// What every production key begins with; the id is the 36 characters after it.
const ENVELOPES: [&[u8]; 2] = [
    br#"{"schema":{"type":"string","optional":true},"payload":""#,
    br#"{"schema":{"type":"string","optional":false},"payload":""#,
];

/// What a key says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The resource.
    Id(ResourceId),
    /// A text that is no UUID.
    Text(String),
    /// Null, empty or not readable.
    Nothing,
}

/// Reads a key.
pub(super) fn read(key: Option<&[u8]>) -> Result<Key, Fault> {
    let Some(bytes) = key.filter(|bytes| !bytes.is_empty()) else { return Ok(Key::Nothing) };
    if let Some(id) = in_known_envelope(bytes) {
        return Ok(Key::Id(id));
    }
    if bytes.len() > KEY_BYTES_MAX {
        let detail = format!("the key has {} bytes; at most {KEY_BYTES_MAX} are allowed", bytes.len());
        return Err(Fault::new(RejectReason::InvalidKey, detail));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(Key::Nothing) };
    let said = match text.trim_start().as_bytes().first() {
        Some(b'"' | b'{') => match unwrap_text(text) {
            Unwrapped::Text(text) => Some(text),
            Unwrapped::Null | Unwrapped::Unreadable => None,
            Unwrapped::Ambiguous => {
                return Err(Fault::new(RejectReason::DuplicateKey, "the key is an object that has a name twice"));
            }
        },
        _ if text == "null" => None,
        _ => Some(text.to_owned()),
    };
    Ok(match said {
        None => Key::Nothing,
        Some(text) if text.is_empty() => Key::Nothing,
        Some(text) => ResourceId::parse(&text).map_or(Key::Text(text), Key::Id),
    })
}

fn in_known_envelope(bytes: &[u8]) -> Option<ResourceId> {
    let rest = ENVELOPES.iter().find_map(|envelope| bytes.strip_prefix(*envelope))?;
    let id = rest.strip_suffix(b"\"}")?;
    ResourceId::parse(std::str::from_utf8(id).ok()?).ok()
}

/// What is inside an envelope.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unwrapped {
    Text(String),
    Null,
    /// A name occurs twice (M7).
    Ambiguous,
    Unreadable,
}

/// The text inside a JSON string, a schema envelope, or an object with `id`.
pub(super) fn unwrap_text(text: &str) -> Unwrapped {
    match json::check(text) {
        Ok(()) => {}
        Err(fault) if fault.reason == RejectReason::DuplicateKey => return Unwrapped::Ambiguous,
        Err(_) => return Unwrapped::Unreadable,
    }
    let Ok(mut value) = serde_json::from_str::<Value>(text) else { return Unwrapped::Unreadable };
    for _ in 0..3 {
        value = match value {
            Value::String(text) => return Unwrapped::Text(text),
            Value::Null => return Unwrapped::Null,
            Value::Object(mut fields) => match fields.remove("payload").or_else(|| fields.remove("id")) {
                Some(inner) => inner,
                None => return Unwrapped::Unreadable,
            },
            _ => return Unwrapped::Unreadable,
        };
    }
    Unwrapped::Unreadable
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10";

    #[test]
    fn every_shape_of_a_key() {
        let id = Key::Id(ResourceId::parse(ID).unwrap());
        for key in [
            format!(r#"{{"schema":{{"type":"string","optional":true}},"payload":"{ID}"}}"#),
            format!(r#"{{"schema":{{"type":"string","optional":false}},"payload":"{ID}"}}"#),
            format!(r#"{{ "schema": null, "payload": "{ID}" }}"#),
            format!("\"{ID}\""),
            ID.to_owned(),
            ID.to_uppercase(),
            format!(r#"{{"schema":{{}},"payload":{{"id":"{ID}"}}}}"#),
            format!(r#"{{"id":"{ID}"}}"#),
        ] {
            assert_eq!(read(Some(key.as_bytes())), Ok(Key::Id(ResourceId::parse(ID).unwrap())), "{key}");
        }
        assert_eq!(read(Some(ID.as_bytes())), Ok(id));
        for nothing in ["", "null", "{", "{\"schema\":{}}", "{\"payload\":null}", "{\"payload\":7}", "\""] {
            assert_eq!(read(Some(nothing.as_bytes())), Ok(Key::Nothing), "{nothing}");
        }
        assert_eq!(read(None), Ok(Key::Nothing));
        assert_eq!(read(Some(b"\xff\xfe")), Ok(Key::Nothing));
        assert_eq!(read(Some(b"a b")), Ok(Key::Text("a b".to_owned())));
        assert_eq!(read(Some(&[b'k'; 2000])).unwrap_err().reason, RejectReason::InvalidKey);
    }
}
