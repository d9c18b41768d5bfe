//! The line of a resource or a tombstone.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::resource_id;
use super::{Reading, event_uuid, shown_event_id};
use crate::decode::normal_data;
use crate::model::{EventId, Field, LastEvent, Lifecycle, SeenIds, State, Texts, Timestamp, Uncommon};

const RESOURCE: &str = "resource";
const TOMBSTONE: &str = "tombstone";

type Text<'a> = Option<Cow<'a, str>>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct StateLine<'a> {
    kind: Cow<'a, str>,
    resource_id: Cow<'a, str>,
    resource_type: Text<'a>,
    /// Of a tombstone: the last one.
    workspace_id: Text<'a>,
    reporter: Reporter<'a>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    created_at: Text<'a>,
    updated_at: Text<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted_at: Text<'a>,
    last_event: Last<'a>,
    seen: Seen<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_met_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former_keys: Vec<FormerKey<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Reporter<'a> {
    #[serde(rename = "type")]
    reporter_type: Text<'a>,
    instance_id: Text<'a>,
    local_resource_id: Text<'a>,
    api_href: Text<'a>,
    console_href: Text<'a>,
    version: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Last<'a> {
    id: Text<'a>,
    /// The time in the id, else that of the record.
    time: Cow<'a, str>,
    topic: Cow<'a, str>,
    partition: i32,
    offset: i64,
    record_timestamp_ms: i64,
    epoch: u64,
}

/// What recognises redeliveries.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Seen<'a> {
    recent: Vec<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    future: Vec<Cow<'a, str>>,
    floor_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FormerKey<'a> {
    resource_type: Text<'a>,
    reporter_type: Text<'a>,
    reporter_instance_id: Text<'a>,
    local_resource_id: Text<'a>,
}

/// RFC 3339; what that cannot say, since records may claim to be of any time, as seconds and nanoseconds behind an `@`.
fn time_text(time: Timestamp) -> String {
    let text = time.to_string();
    if Timestamp::parse(&text) == Ok(Some(time)) {
        return text;
    }
    let (seconds, nanoseconds) = time.parts();
    format!("@{seconds}.{nanoseconds:09}")
}

fn time(text: &Text<'_>, field: &str) -> Result<Option<Timestamp>, String> {
    let Some(text) = text.as_deref() else { return Ok(None) };
    if let Some((seconds, nanoseconds)) = text.strip_prefix('@').and_then(|parts| parts.split_once('.'))
        && let (Ok(seconds), Ok(nanoseconds)) = (seconds.parse(), nanoseconds.parse())
    {
        return Ok(Some(Timestamp::from_parts(seconds, nanoseconds)));
    }
    Timestamp::parse(text).map_err(|error| format!("`{field}` is {text:?}: {error}"))
}

fn owned<'a>(text: Option<&'a str>) -> Text<'a> {
    text.map(Cow::Borrowed)
}

impl<'a> StateLine<'a> {
    pub(super) fn of(state: &'a State, topic: &'a str) -> Self {
        let State { id, lifecycle, texts: _, last, seen, uncommon } = state;
        let (kind, created_at, updated_at, deleted_at) = match *lifecycle {
            Lifecycle::Live { created_at, updated_at } => (RESOURCE, created_at, updated_at, None),
            Lifecycle::Deleted { deleted_at } => (TOMBSTONE, None, None, deleted_at),
        };
        let time = |time: Option<Timestamp>| time.map(|time| time_text(time).into());
        let ids = |ids: &[EventId]| ids.iter().map(|id| id.to_string().into()).collect();
        let text = |field| owned(state.text(field));
        Self {
            kind: kind.into(),
            resource_id: id.to_string().into(),
            resource_type: text(Field::ResourceType),
            workspace_id: text(Field::WorkspaceId),
            reporter: Reporter {
                reporter_type: text(Field::ReporterType),
                instance_id: text(Field::ReporterInstanceId),
                local_resource_id: text(Field::LocalResourceId),
                api_href: text(Field::ApiHref),
                console_href: text(Field::ConsoleHref),
                version: text(Field::ReporterVersion),
            },
            // The decoder made it from JSON that it had checked.
            data: state.text(Field::Data).and_then(|text| serde_json::from_str(text).ok()),
            created_at: time(created_at),
            updated_at: time(updated_at),
            deleted_at: time(deleted_at),
            last_event: Last {
                id: shown_event_id(state.text(Field::EventIdText), last.id),
                time: time_text(last.time()).into(),
                topic: topic.into(),
                partition: last.coordinates.partition,
                offset: last.coordinates.offset,
                record_timestamp_ms: last.observed_ms,
                epoch: last.epoch,
            },
            seen: Seen {
                recent: ids(&seen.recent),
                future: ids(seen.future.as_deref().map_or(&[][..], |future| future)),
                floor_ms: seen.floor_ms(),
            },
            first_met_ms: state.first_met_ms(),
            former_keys: uncommon.iter().flat_map(|uncommon| &uncommon.former_keys).map(former_key).collect(),
        }
    }

    /// The state that the line stands for, or what is wrong with it.
    pub(super) fn state(&self, reading: &Reading<'_>) -> Result<State, String> {
        let (event_id, is_text) = self.last_event.id.as_deref().map(EventId::of_text).unzip();
        let Last { topic, partition, offset, record_timestamp_ms, epoch, .. } = &self.last_event;
        let last = LastEvent {
            id: event_id,
            coordinates: reading.coordinates(topic, *partition, *offset)?,
            observed_ms: *record_timestamp_ms,
            epoch: reading.epoch(*epoch)?,
        };
        let expected = time_text(last.time());
        if self.last_event.time != expected {
            let found = &self.last_event.time;
            return Err(format!("`lastEvent.time` is {found:?}; its id and record's timestamp make it {expected:?}"));
        }
        let former_keys = self.former_keys.iter().map(former_texts).collect::<Result<Vec<_>, _>>()?;
        Ok(State {
            id: resource_id(&self.resource_id, "resourceId")?,
            lifecycle: self.lifecycle()?,
            texts: self.texts(is_text == Some(true))?,
            last,
            seen: self.seen()?,
            uncommon: Uncommon::of(self.first_met_ms, former_keys),
        })
    }

    fn lifecycle(&self) -> Result<Lifecycle, String> {
        let created_at = time(&self.created_at, "createdAt")?;
        let updated_at = time(&self.updated_at, "updatedAt")?;
        let deleted_at = time(&self.deleted_at, "deletedAt")?;
        match (&*self.kind, created_at.or(updated_at), deleted_at) {
            (TOMBSTONE, None, deleted_at) => Ok(Lifecycle::Deleted { deleted_at }),
            (TOMBSTONE, Some(_), _) => Err("a tombstone has neither `createdAt` nor `updatedAt`".to_owned()),
            (_, _, None) => Ok(Lifecycle::Live { created_at, updated_at }),
            (_, _, Some(_)) => Err("a resource has no `deletedAt`; a tombstone has".to_owned()),
        }
    }

    fn texts(&self, is_text: bool) -> Result<Texts, String> {
        let data = self.data.map(|data| normal_data(data.get())).transpose()?;
        let reporter = &self.reporter;
        let texts = Texts::build([
            self.resource_type.as_deref(),
            self.workspace_id.as_deref(),
            reporter.reporter_type.as_deref(),
            reporter.instance_id.as_deref(),
            reporter.local_resource_id.as_deref(),
            reporter.api_href.as_deref(),
            reporter.console_href.as_deref(),
            reporter.version.as_deref(),
            self.last_event.id.as_deref().filter(|_| is_text),
            data.as_deref(),
        ]);
        texts.map_err(|error| error.to_string())
    }

    fn seen(&self) -> Result<SeenIds, String> {
        let ids = |ids: &[Cow<'_, str>], field: &str| -> Result<Vec<EventId>, String> {
            ids.iter().map(|id| event_uuid(id, field)).collect()
        };
        let recent = ids(&self.seen.recent, "seen.recent")?;
        Ok(SeenIds::kept(recent, ids(&self.seen.future, "seen.future")?, self.seen.floor_ms))
    }
}

fn former_key(texts: &Texts) -> FormerKey<'_> {
    FormerKey {
        resource_type: owned(texts.get(Field::ResourceType)),
        reporter_type: owned(texts.get(Field::ReporterType)),
        reporter_instance_id: owned(texts.get(Field::ReporterInstanceId)),
        local_resource_id: owned(texts.get(Field::LocalResourceId)),
    }
}

fn former_texts(key: &FormerKey<'_>) -> Result<Texts, String> {
    let texts = Texts::build(Field::ALL.map(|field| match field {
        Field::ResourceType => key.resource_type.as_deref(),
        Field::ReporterType => key.reporter_type.as_deref(),
        Field::ReporterInstanceId => key.reporter_instance_id.as_deref(),
        Field::LocalResourceId => key.local_resource_id.as_deref(),
        _ => None,
    }));
    texts.map_err(|error| format!("`formerKeys`: {error}"))
}
