//! The first line of an export: which instant it is, and how far the log was read at it.

use serde::{Deserialize, Serialize};

use super::super::rows::ROWS_VERSION;
use super::super::{RunMeta, position};
use super::{Imported, intern, parser_words, text};
use crate::model::{Timestamp, Topics};
use crate::source::identity::LogIdentity;

/// The version of the format.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    tarn_export: u32,
    epoch: u64,
    /// The epoch for people; it is not read.
    #[serde(default)]
    as_of: Option<String>,
    /// How far the log was read. Without it the log is read from its beginning.
    #[serde(default)]
    position: Vec<Place>,
    /// In the order of their numbers.
    #[serde(default)]
    topics: Vec<String>,
    /// As text: many programs cannot read so great a number.
    #[serde(default)]
    incarnation: Option<String>,
    tombstone_retention_ms: u64,
    /// What tells the log from another one, as snapshots have it.
    #[serde(default)]
    log_identity: LogIdentity,
    /// Since when events are missing, if any are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incomplete_since_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    topic: String,
    partition: i32,
    offset: i64,
}

/// What tells a header from a row.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    #[serde(rename = "tarnExport")]
    _tarn_export: serde::de::IgnoredAny,
}

/// Whether a line is the header of an export, of whatever version.
pub(super) fn begins_export(line: &[u8]) -> bool {
    serde_json::from_slice::<Mark>(line).is_ok()
}

pub(super) fn written(meta: &RunMeta) -> Vec<u8> {
    let place = |(topic, partition, offset): &(String, i32, i64)| Place {
        topic: topic.clone(),
        partition: *partition,
        offset: *offset,
    };
    let as_of = Timestamp::from_millis(i64::try_from(meta.epoch).unwrap_or(i64::MAX));
    let header = Header {
        tarn_export: VERSION,
        epoch: meta.epoch,
        as_of: Some(as_of.to_string()),
        position: meta.position.iter().map(place).collect(),
        topics: meta.topics.clone(),
        incarnation: Some(format!("{:016x}", meta.incarnation)),
        tombstone_retention_ms: meta.tombstone_retention_ms,
        log_identity: meta.identity.clone(),
        incomplete_since_ms: meta.incomplete_since_ms,
    };
    serde_json::to_vec(&header).expect("memory takes a header")
}

/// What an import begins with; topics get the numbers that they had.
pub(super) fn read(line: &[u8], topics: &Topics) -> Result<Imported, String> {
    let text = text(line)?;
    if !begins_export(line) {
        // A table is told from a file that is no JSON at all.
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
            return Err(format!("it is not JSON: {}", parser_words(&error)));
        }
        let why = "it is no header of an export ({\"tarnExport\":1,...}); a table of resources is allowed with \
                   --exported-at TIME";
        return Err(why.to_owned());
    }
    let header: Header = serde_json::from_str(text).map_err(|error| parser_words(&error))?;
    if header.tarn_export != VERSION {
        return Err(format!("it is an export of version {}; this tarn reads version {VERSION}", header.tarn_export));
    }
    if header.epoch == 0 {
        return Err("`epoch` is 0; it is milliseconds since 1970, 1 or more".to_owned());
    }
    for name in &header.topics {
        intern(topics, name)?;
    }
    if let Some(place) = header.position.iter().find(|place| place.partition < 0 || place.offset < 0) {
        return Err(format!("`position` of {}: partition and offset are 0 or more", place.topic));
    }
    let stored: Vec<_> = header.position.into_iter().map(|at| (at.topic, at.partition, at.offset)).collect();
    let identity = match stored.is_empty() {
        // It may be another log that is read from its beginning.
        true => LogIdentity::default(),
        false => header.log_identity.known_below(&position(&stored)),
    };
    let meta = RunMeta {
        version: ROWS_VERSION,
        epoch: header.epoch,
        position: stored,
        topics: Vec::new(),
        tombstone_retention_ms: header.tombstone_retention_ms,
        // The instance that it came from may have gone on: its later epochs are not ours.
        incarnation: rand::random(),
        identity,
        incomplete_since_ms: header.incomplete_since_ms,
        bindings_segment: 0,
    };
    Ok(Imported { meta, rows: Default::default() })
}
