//! The two headers that matter: `id` and `operation` (kessel-events 2.3, 4.1 H1 to H7).
//!
//! Plain text in production; a quoted JSON string or a schema envelope under other header converters. The last of
//! several with one name wins; unknown ones are passed over. A null value is as good as no header.

use std::borrow::Cow;

use super::json::Fault;
use super::key::unwrap_text;
use crate::model::RejectReason;
use crate::source::Wire;

/// No header that Kessel writes is longer.
const VALUE_BYTES_MAX: usize = 1024;

/// What the headers say.
#[derive(Debug, Default)]
pub(super) struct Headers<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) operation: Option<Cow<'a, str>>,
    pub(super) repeated: bool,
}

/// Reads the headers of a record; what was found is kept even when one of them is at fault, so that the reject knows
/// its id.
pub(super) fn read<'a>(wire: &Wire<'a>) -> (Headers<'a>, Result<(), Fault>) {
    let mut headers = Headers::default();
    let mut result = Ok(());
    for (name, value) in wire.headers() {
        let slot = match name {
            b"id" => &mut headers.id,
            b"operation" => &mut headers.operation,
            _ => continue,
        };
        headers.repeated |= slot.is_some();
        match value.map(|bytes| text(name, bytes)).transpose() {
            Ok(text) => *slot = text,
            Err(fault) => result = Err(fault),
        }
    }
    headers.id = headers.id.filter(|id| !id.is_empty());
    (headers, result)
}

fn text<'a>(name: &[u8], bytes: &'a [u8]) -> Result<Cow<'a, str>, Fault> {
    let name = String::from_utf8_lossy(name);
    if bytes.len() > VALUE_BYTES_MAX {
        let detail = format!("the header `{name}` has {} bytes; at most {VALUE_BYTES_MAX} are allowed", bytes.len());
        return Err(Fault::new(RejectReason::InvalidHeader, detail));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Fault::new(RejectReason::InvalidHeader, format!("the header `{name}` is not UTF-8")))?;
    match text.as_bytes().first() {
        Some(b'"' | b'{') => unwrap_text(text).map(Cow::Owned).ok_or_else(|| {
            Fault::new(
                RejectReason::InvalidHeader,
                format!("the header `{name}` is neither text nor an envelope of one"),
            )
        }),
        _ => Ok(Cow::Borrowed(text)),
    }
}
