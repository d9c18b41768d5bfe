//! The two headers that matter: `id` and `operation` (kessel-events 2.3, 4.1 H1 to H7).
//!
//! Plain text in production; a quoted JSON string or a schema envelope under other header converters. The last of
//! several with one name wins; unknown ones are passed over. A null value is as good as no header.

use std::borrow::Cow;

use super::json::Fault;
use super::key::{Unwrapped, unwrap_text};
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
    let (mut id_fault, mut operation_fault) = (Ok(()), Ok(()));
    for (name, value) in wire.headers() {
        let (slot, fault) = match name {
            b"id" => (&mut headers.id, &mut id_fault),
            b"operation" => (&mut headers.operation, &mut operation_fault),
            _ => continue,
        };
        headers.repeated |= slot.is_some() || fault.is_err();
        (*slot, *fault) = match value.map_or(Ok(None), |bytes| text(name, bytes)) {
            Ok(text) => (text, Ok(())),
            Err(fault) => (None, Err(fault)),
        };
    }
    headers.id = headers.id.filter(|id| !id.is_empty());
    (headers, id_fault.and(operation_fault))
}

/// The text of a header's value, none where an envelope holds null.
fn text<'a>(name: &[u8], bytes: &'a [u8]) -> Result<Option<Cow<'a, str>>, Fault> {
    let name = String::from_utf8_lossy(name);
    if bytes.len() > VALUE_BYTES_MAX {
        let detail = format!("the header `{name}` has {} bytes; at most {VALUE_BYTES_MAX} are allowed", bytes.len());
        return Err(Fault::new(RejectReason::InvalidHeader, detail));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Fault::new(RejectReason::InvalidHeader, format!("the header `{name}` is not UTF-8")))?;
    match text.as_bytes().first() {
        Some(b'"' | b'{') => match unwrap_text(text) {
            Unwrapped::Text(text) => Ok(Some(Cow::Owned(text))),
            Unwrapped::Null => Ok(None),
            Unwrapped::Ambiguous | Unwrapped::Unreadable => Err(Fault::new(
                RejectReason::InvalidHeader,
                format!("the header `{name}` is neither text nor an envelope of one"),
            )),
        },
        _ => Ok(Some(Cow::Borrowed(text))),
    }
}
