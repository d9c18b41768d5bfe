//! What changed as JSON: what stands in the arrays of a frame.

use super::reset::Reset;
use crate::http::resource_json::write_resource;
use crate::model::{ResourceId, Topics};
use crate::published::stream::resources::Seen;
use crate::sql::{Format, KeyColumns, Reading, Row};

/// Rows, as lists of them have them.
pub(super) fn rows(reading: &Reading, rows: &[&Row]) -> Result<Vec<u8>, Reset> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    Format::Json.write(reading.schema(), &[reading.columns(rows)]).map_err(|_| Reset::Unwritable)
}

/// Keys, each with its row, or null where it is not there.
pub(super) fn entries<'a>(
    reading: &Reading,
    key: &KeyColumns,
    images: impl Iterator<Item = (&'a Row, bool)>,
) -> Result<Vec<u8>, Reset> {
    let images: Vec<(&Row, bool)> = images.collect();
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let all: Vec<&Row> = images.iter().map(|(row, _)| *row).collect();
    let there: Vec<&Row> = images.iter().filter(|(_, is_there)| *is_there).map(|(row, _)| *row).collect();
    let lines = Format::JsonLines;
    let keys = lines.write(key.schema(), &[key.columns(&all)]).map_err(|_| Reset::Unwritable)?;
    let values = lines.write(reading.schema(), &[reading.columns(&there)]).map_err(|_| Reset::Unwritable)?;
    let mut values = values.split(|byte| *byte == b'\n');
    let mut out = Vec::with_capacity(keys.len() * 2 + images.len() * 20);
    for ((_, is_there), key) in images.iter().zip(keys.split(|byte| *byte == b'\n')) {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"key":"#);
        out.extend_from_slice(key);
        out.extend_from_slice(br#","value":"#);
        let value = if *is_there { values.next() } else { None };
        out.extend_from_slice(value.unwrap_or(b"null"));
        out.push(b'}');
    }
    Ok(out)
}

/// Appends ids, each with its resource, or null where it is not there.
pub(super) fn images<'a>(
    out: &mut Vec<u8>,
    images: impl Iterator<Item = (ResourceId, Option<&'a Seen>)>,
    topics: &Topics,
) {
    for (id, resource) in images {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(format!(r#"{{"resourceId":"{id}","resource":"#).as_bytes());
        match resource {
            Some((state, orphaned_by)) => write_resource(out, state, *orphaned_by, topics),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
    }
}
