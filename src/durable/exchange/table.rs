//! A row of another system's table of resources, as a state.
//!
//! The columns are those of the tables that views read (`resources`, `deleted_resources`, `orphaned_resources`). Such a
//! row does not say which events made it, so every event up to the table's export, less what clocks may differ, counts
//! as known (the floor of the duplicate rule). There is no position: the log is read from its beginning, and what it has
//! from then on is folded again. Promises: only `resource_id` is required; a column that is not known is refused by name.
//! Not promised: where writers' clocks differ, a resource that was reported within twice the tolerance before the export
//! may show the report before its last one until the next comes; records without any id are folded again, and records
//! that are no events come into the quarantine again.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::RunMeta;
use super::super::rows::ROWS_VERSION;
use super::{Imported, intern, parser_words, resource_id};
use crate::clock::now_ms;
use crate::decode::{lower, normal_data, normal_type};
use crate::model::{
    Coordinates, Epoch, EventId, LastEvent, Lifecycle, ResourceId, SeenIds, State, Texts, Timestamp, Topics, Uncommon,
    plausible_ms,
};
use crate::source::identity::LogIdentity;

/// The topic of rows that name none; no record can come from it.
const NO_TOPIC: &str = "(table)";

/// How a table is read.
#[derive(Debug, Clone, Copy)]
pub struct TableRules {
    exported_at_ms: u64,
    clock_skew_tolerance_ms: u64,
    tombstone_retention_ms: u64,
    /// The instant of the import, in which its rows count as folded: a tombstone is kept from then on, since the log
    /// that is read may still have what came before it.
    epoch: Epoch,
}

type Text<'a> = Option<Cow<'a, str>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<'a> {
    resource_id: Cow<'a, str>,
    resource_type: Text<'a>,
    workspace_id: Text<'a>,
    reporter_type: Text<'a>,
    reporter_instance_id: Text<'a>,
    local_resource_id: Text<'a>,
    api_href: Text<'a>,
    console_href: Text<'a>,
    reporter_version: Text<'a>,
    created_at: Text<'a>,
    updated_at: Text<'a>,
    event_id: Text<'a>,
    event_time: Text<'a>,
    topic: Text<'a>,
    partition: Option<i32>,
    offset: Option<i64>,
    /// An object, or its text.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    last_workspace_id: Text<'a>,
    deleted_at: Text<'a>,
    /// Of an orphan. Which resource takes whose place is found out anew.
    orphaned_by: Text<'a>,
}

/// The times that a row names.
struct Times {
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    deleted_at: Option<Timestamp>,
    event_time: Option<Timestamp>,
}

/// An empty text says as little as none.
fn said<'a>(text: &'a Text<'_>) -> Option<&'a str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn time(text: &Text<'_>, column: &str) -> Result<Option<Timestamp>, String> {
    let Some(text) = said(text) else { return Ok(None) };
    Timestamp::parse(text)
        .map_err(|error| format!("`{column}` is {text:?}: {error}; such as 2026-11-23T06:47:23.785Z is allowed"))
}

impl TableRules {
    /// Rules for a table that was exported at a time, ms since 1970.
    ///
    /// # Errors
    /// In words, for a time that has not come: events until then would count as known.
    pub fn new(exported_at_ms: u64, clock_skew_tolerance_ms: u64, tombstone_retention_ms: u64) -> Result<Self, String> {
        let epoch = now_ms();
        if exported_at_ms > epoch.saturating_add(clock_skew_tolerance_ms) {
            return Err("the time of the table's export has not come yet; events until then would be lost".to_owned());
        }
        Ok(Self { exported_at_ms, clock_skew_tolerance_ms, tombstone_retention_ms, epoch })
    }

    /// What an import of the table begins with.
    pub(super) fn meta(&self) -> Imported {
        let meta = RunMeta {
            version: ROWS_VERSION,
            epoch: self.epoch,
            position: Vec::new(),
            topics: Vec::new(),
            tombstone_retention_ms: self.tombstone_retention_ms,
            incarnation: rand::random(),
            identity: LogIdentity::default(),
            incomplete_since_ms: None,
            bindings_segment: 0,
        };
        Imported { meta, rows: Default::default() }
    }

    /// The state that a row stands for, or what is wrong with it.
    pub(super) fn row(&self, line: &str, topics: &Topics) -> Result<State, String> {
        let row: Row<'_> = serde_json::from_str(line).map_err(|error| parser_words(&error))?;
        let id = resource_id(&row.resource_id, "resource_id")?;
        said(&row.orphaned_by).map(|id| resource_id(id, "orphaned_by")).transpose()?;
        let times = Times {
            created_at: time(&row.created_at, "created_at")?,
            updated_at: time(&row.updated_at, "updated_at")?,
            deleted_at: time(&row.deleted_at, "deleted_at")?,
            event_time: time(&row.event_time, "event_time")?,
        };
        check_kind(&row, times.deleted_at.is_some())?;
        let (event_id, is_text) = said(&row.event_id).map(EventId::of_text).unzip();
        let lifecycle = match times.deleted_at {
            Some(_) => Lifecycle::Deleted { deleted_at: times.deleted_at },
            None => Lifecycle::Live { created_at: times.created_at, updated_at: times.updated_at },
        };
        let observed_ms = self.observed_ms(event_id, &times);
        Ok(State {
            id,
            lifecycle,
            texts: texts(&row, is_text == Some(true))?,
            last: LastEvent {
                id: event_id,
                coordinates: coordinates(&row, topics)?,
                observed_ms: i64::try_from(observed_ms).unwrap_or(i64::MAX),
                epoch: self.epoch,
            },
            seen: self.seen(event_id),
            uncommon: self.uncommon(id, &times),
        })
    }

    /// When the row's event was seen, as far as is known: at the table's export at the latest.
    fn observed_ms(&self, event_id: Option<EventId>, times: &Times) -> u64 {
        let stated = times.event_time.or(times.deleted_at).or(times.updated_at).or(times.created_at);
        let stated_ms = stated.and_then(|time| plausible_ms(time.millis()));
        let ms = event_id.and_then(EventId::time_ms).or(stated_ms);
        ms.map_or(self.exported_at_ms, |ms| ms.min(self.exported_at_ms))
    }

    /// The row's event is listed where everything before it counts as known too. A later one is not: the log is read
    /// from before it, where events stand that it followed, and it has to follow them again.
    fn seen(&self, event_id: Option<EventId>) -> SeenIds {
        let floor_ms = self.exported_at_ms.saturating_sub(self.clock_skew_tolerance_ms);
        let listed = event_id.filter(|id| id.time_ms().is_some_and(|ms| ms <= floor_ms));
        SeenIds::kept(listed.into_iter().collect(), Vec::new(), Some(floor_ms))
    }

    /// An id without a time of its own is as old as its resource.
    fn uncommon(&self, id: ResourceId, times: &Times) -> Option<Box<Uncommon>> {
        let created_ms = times.created_at.and_then(|time| plausible_ms(time.millis()));
        let first_met_ms = Some(created_ms.unwrap_or(self.exported_at_ms));
        Uncommon::of(first_met_ms.filter(|_| !id.is_v7()), Vec::new())
    }
}

/// What a tombstone keeps, and what it does not.
fn check_kind(row: &Row<'_>, is_deleted: bool) -> Result<(), String> {
    if !is_deleted {
        return match said(&row.last_workspace_id) {
            None => Ok(()),
            Some(_) => Err("`last_workspace_id` is that of a deleted row, and `deleted_at` is not there".to_owned()),
        };
    }
    let of_live = [
        ("workspace_id", row.workspace_id.is_some()),
        ("api_href", row.api_href.is_some()),
        ("console_href", row.console_href.is_some()),
        ("reporter_version", row.reporter_version.is_some()),
        ("created_at", row.created_at.is_some()),
        ("updated_at", row.updated_at.is_some()),
        ("data", row.data.is_some()),
        ("orphaned_by", row.orphaned_by.is_some()),
    ];
    match of_live.iter().find(|(_, is_said)| *is_said) {
        None => Ok(()),
        Some((column, _)) => Err(format!(
            "`{column}` must be null or absent where `deleted_at` is there; a deleted row has resource_id, \
             resource_type, the reporter key's columns, last_workspace_id, deleted_at, and its event's"
        )),
    }
}

fn coordinates(row: &Row<'_>, topics: &Topics) -> Result<Coordinates, String> {
    let (name, partition, offset) = match (said(&row.topic), row.partition, row.offset) {
        (None, None, None) => (NO_TOPIC, 0, 0),
        (Some(topic), Some(partition), Some(offset)) if partition >= 0 && offset >= 0 => (topic, partition, offset),
        _ => {
            let why = "`topic`, `partition` and `offset` go together, the last two 0 or more; all may be absent";
            return Err(why.to_owned());
        }
    };
    Ok(Coordinates { topic: intern(topics, name)?, partition, offset })
}

/// The texts as the decoder keeps them.
fn texts(row: &Row<'_>, is_text: bool) -> Result<Texts, String> {
    let data = row.data.map(|data| data_text(data.get())).transpose()?;
    let data = data.as_deref().map(normal_data).transpose()?;
    let texts = Texts::build([
        said(&row.resource_type).map(normal_type).as_deref(),
        said(&row.workspace_id).or(said(&row.last_workspace_id)),
        said(&row.reporter_type).map(lower).as_deref(),
        said(&row.reporter_instance_id).map(lower).as_deref(),
        said(&row.local_resource_id),
        said(&row.api_href),
        said(&row.console_href),
        said(&row.reporter_version),
        said(&row.event_id).filter(|_| is_text),
        data.as_deref(),
    ]);
    texts.map_err(|error| error.to_string())
}

/// The data's JSON, taken out of a text where it is one.
fn data_text(raw: &str) -> Result<Cow<'_, str>, String> {
    if !raw.starts_with('"') {
        return Ok(Cow::Borrowed(raw));
    }
    let text: String = serde_json::from_str(raw).map_err(|error| format!("`data`: {}", parser_words(&error)))?;
    Ok(Cow::Owned(text.trim().to_owned()))
}
