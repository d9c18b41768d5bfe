//! Columns of rejects, in the words of the HTTP API: an entry's `id` is the one that it is looked up by.
//!
//! The `key` is the id of the resource that the record is about, where it could be told, and no bytes of the record: these
//! may be anything, so they are for operators, and whoever asks in SQL is a reader.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray, TimestampNanosecondArray};

use super::columns::RejectSource;
use super::{TIME_ZONE, Unreadable, nanoseconds};
use crate::model::{QuarantineEntry, Timestamp, Topics};

/// The values of these columns, and which of them are none.
pub(super) fn columns(
    sources: &[RejectSource],
    rejects: &[&QuarantineEntry],
    topics: &Topics,
) -> (Vec<ArrayRef>, Vec<Unreadable>) {
    let mut unreadable = Vec::new();
    let arrays = sources.iter().enumerate().map(|(column, source)| {
        let mut readable = |(place, value): (usize, Result<i64, String>)| {
            value.map_err(|reason| unreadable.push(Unreadable { place, column, reason })).ok()
        };
        let entries = rejects.iter();
        let texts = |text: &dyn Fn(&QuarantineEntry) -> Option<String>| -> ArrayRef {
            Arc::new(rejects.iter().map(|entry| text(entry)).collect::<StringArray>())
        };
        match source {
            RejectSource::Id => texts(&|entry| Some(id(entry, topics))),
            RejectSource::Topic => texts(&|entry| Some(topics.name(entry.coordinates().topic).to_string())),
            RejectSource::Key => texts(&|entry| entry.reject.id.map(|id| id.to_string())),
            RejectSource::Reason => texts(&|entry| Some(entry.reject.reason.as_str().to_owned())),
            RejectSource::Detail => texts(&|entry| Some(entry.reject.detail.to_string())),
            RejectSource::Partition => {
                Arc::new(entries.map(|entry| entry.coordinates().partition).collect::<Int32Array>())
            }
            RejectSource::Offset => Arc::new(entries.map(|entry| entry.coordinates().offset).collect::<Int64Array>()),
            RejectSource::Bytes => {
                let bytes = entries.map(|entry| integer(entry.reject.total_bytes));
                Arc::new(bytes.enumerate().map(readable).collect::<Int64Array>())
            }
            RejectSource::Timestamp => {
                let times = entries.map(|entry| nanoseconds(Timestamp::from_millis(entry.reject.observed_ms)));
                of_utc(times.enumerate().map(&mut readable).collect())
            }
            RejectSource::FirstSeen => {
                let times = entries.map(|entry| nanoseconds(Timestamp::from_millis(integer(entry.first_seen)?)));
                of_utc(times.enumerate().map(&mut readable).collect())
            }
        }
    });
    (arrays.collect(), unreadable)
}

/// An entry's id: where its record stands.
pub(super) fn id(entry: &QuarantineEntry, topics: &Topics) -> String {
    let at = entry.coordinates();
    format!("{}:{}:{}", topics.name(at.topic), at.partition, at.offset)
}

fn of_utc(times: TimestampNanosecondArray) -> ArrayRef {
    Arc::new(times.with_timezone(TIME_ZONE))
}

fn integer(number: u64) -> Result<i64, String> {
    i64::try_from(number).map_err(|_| format!("{number} is beyond a 64-bit integer"))
}
