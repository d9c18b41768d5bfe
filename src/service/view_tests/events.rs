//! Events as tests write them, made into the records that Kessel's connector would write of them.
//!
//! Promises: what a test does not say is as it would be in production, and the same every time; ids grow in the order in
//! which resources are first named in a case, as those of Inventory grow in order of creation.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::{Builder, Uuid};

use super::moment;
use crate::generate::RESOURCES_TOPIC;
use crate::generate::wire;
use crate::model::{Epoch, Timestamp};
use crate::service::scripted::ScriptedRecord;

/// Ids made of names begin with this time, in ms since 1970: 2020-01-01.
const FIRST_ID_MS: u64 = 1_577_836_800_000;
/// More of one event are not made.
const TIMES_MAX: u32 = 100_000;

/// An event: one of the three.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventText {
    /// So many of it; `{n}` in its texts is the number of each, from 1.
    times: Option<u32>,
    report: Option<ReportText>,
    delete: Option<DeleteText>,
    record: Option<RecordText>,
}

/// A report; called as the columns of `resources`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReportText {
    resource_id: String,
    /// `created` for the first report of a resource, else `updated`.
    operation: Option<ReportKind>,
    resource_type: Option<String>,
    workspace_id: Option<String>,
    reporter_type: Option<String>,
    reporter_instance_id: Option<String>,
    local_resource_id: Option<String>,
    api_href: Option<String>,
    console_href: Option<String>,
    reporter_version: Option<String>,
    event_id: Option<String>,
    event_time: Option<String>,
    data: Option<Map<String, Value>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReportKind {
    Created,
    Updated,
}

/// A delete.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteText {
    resource_id: String,
    event_id: Option<String>,
    event_time: Option<String>,
}

/// A record as it is, for what cannot be said otherwise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordText {
    topic: Option<String>,
    partition: Option<i32>,
    offset: Option<i64>,
    timestamp: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
    key: Option<Value>,
    value: Option<Value>,
}

/// Makes the records of one case.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    ids: BTreeMap<String, Uuid>,
    /// Resources that were reported.
    reported: BTreeSet<Uuid>,
    records: i64,
}

impl Recorder {
    /// What resources are called, by their ids.
    pub(super) fn names(self) -> BTreeMap<String, String> {
        self.ids.into_iter().map(|(name, id)| (id.to_string(), name)).collect()
    }

    /// The records of an event in a step at `epoch`.
    pub(super) fn records(&mut self, event: &EventText, epoch: Epoch) -> Result<Vec<ScriptedRecord>, String> {
        let times = event.times.unwrap_or(1);
        if !(1..=TIMES_MAX).contains(&times) {
            return Err(format!("`times` is {times}; it must be from 1 to {TIMES_MAX}"));
        }
        (1..=times).map(|number| self.record(event, &number.to_string(), epoch)).collect()
    }

    fn record(&mut self, event: &EventText, number: &str, epoch: Epoch) -> Result<ScriptedRecord, String> {
        let said = |text: &str| text.replace("{n}", number);
        self.records += 1;
        match (&event.report, &event.delete, &event.record) {
            (Some(report), None, None) => self.report(report, &said, epoch),
            (None, Some(delete), None) => {
                let id = self.id_of(&said(&delete.resource_id));
                let time = time_of(delete.event_time.as_deref(), epoch)?;
                let event_id = self.event_id(delete.event_id.as_deref().map(said), time);
                let headers = headers(event_id, "deleted");
                Ok(self.wire(epoch, headers, wire::key(id), wire::DELETE_VALUE.to_owned()))
            }
            (None, None, Some(record)) => self.raw(record, &said, epoch),
            _ => Err("an event is one of `report`, `delete` and `record`".to_owned()),
        }
    }

    fn report(
        &mut self,
        report: &ReportText,
        said: &impl Fn(&str) -> String,
        epoch: Epoch,
    ) -> Result<ScriptedRecord, String> {
        let name = said(&report.resource_id);
        let id = self.id_of(&name);
        let is_first = self.reported.insert(id);
        let kind = report.operation.unwrap_or(if is_first { ReportKind::Created } else { ReportKind::Updated });
        let (operation, time_field) = match kind {
            ReportKind::Created => ("created", "created_at"),
            ReportKind::Updated => ("updated", "updated_at"),
        };
        let time = time_of(report.event_time.as_deref(), epoch)?;
        let text = |given: &Option<String>| given.as_deref().map(said);
        let or = |given: &Option<String>, usual: &str| Some(text(given).unwrap_or_else(|| usual.to_owned()));
        let resource_type = text(&report.resource_type).unwrap_or_else(|| "host".to_owned());
        let (reporter, instance) = usual_reporter(&resource_type);
        let moment = Timestamp::from_millis(i64::try_from(time).unwrap_or(i64::MAX)).to_string();
        let metadata = object([
            (time_field, Some(moment.clone())),
            ("id", Some(id.to_string())),
            ("org_id", Some(String::new())),
            ("resource_type", Some(resource_type.clone())),
            ("workspace_id", text(&report.workspace_id)),
        ]);
        let reporter_data = object([
            ("api_href", text(&report.api_href)),
            ("console_href", text(&report.console_href)),
            ("local_resource_id", or(&report.local_resource_id, &name)),
            ("reporter_instance_id", or(&report.reporter_instance_id, instance)),
            ("reporter_type", or(&report.reporter_type, reporter)),
            ("reporter_version", text(&report.reporter_version)),
        ]);
        let mut data = json!({"metadata": metadata, "reporter_data": reporter_data});
        if let Some(said_data) = &report.data {
            data["resource_data"] = replaced(&Value::Object(said_data.clone()), said);
        }
        let event_id = self.event_id(text(&report.event_id), time);
        let payload = json!({
            "data": data, "datacontenttype": "application/json", "id": event_id, "source": "", "specversion": "1.0",
            "subject": format!("/resources/{resource_type}/{id}"), "time": moment,
            "type": format!("redhat.inventory.resources.{resource_type}.{operation}"),
        });
        Ok(self.wire(epoch, headers(event_id, operation), wire::key(id), wire::value(&payload)))
    }

    fn raw(
        &mut self,
        record: &RecordText,
        said: &impl Fn(&str) -> String,
        epoch: Epoch,
    ) -> Result<ScriptedRecord, String> {
        let timestamp = time_of(record.timestamp.as_deref(), epoch)?;
        let bytes = |given: &Option<Value>| match given.as_ref()? {
            Value::Null => None,
            Value::String(text) => Some(said(text)),
            other => Some(replaced(other, said).to_string()),
        };
        let headers = record.headers.iter();
        Ok(ScriptedRecord {
            topic: record.topic.as_deref().map_or_else(|| RESOURCES_TOPIC.to_owned(), said),
            partition: record.partition.unwrap_or(0),
            offset: record.offset.unwrap_or(self.records - 1),
            timestamp_ms: i64::try_from(timestamp).unwrap_or(i64::MAX),
            headers: headers.map(|(name, value)| (name.clone(), value.as_deref().map(said))).collect(),
            key: bytes(&record.key),
            value: bytes(&record.value),
        })
    }

    fn wire(&self, epoch: Epoch, headers: Vec<(String, Option<String>)>, key: String, value: String) -> ScriptedRecord {
        ScriptedRecord {
            topic: RESOURCES_TOPIC.to_owned(),
            partition: 0,
            offset: self.records - 1,
            timestamp_ms: i64::try_from(epoch).unwrap_or(i64::MAX),
            headers,
            key: Some(key),
            value: Some(value),
        }
    }

    /// The id of a resource: its name where that is one.
    fn id_of(&mut self, name: &str) -> Uuid {
        if let Ok(id) = Uuid::try_parse(name) {
            return id;
        }
        let next = FIRST_ID_MS + self.ids.len() as u64;
        *self.ids.entry(name.to_owned()).or_insert_with(|| version_7(next, 0))
    }

    /// What the header `id` says: a UUID of the event's time, where nothing else is said.
    fn event_id(&self, given: Option<String>, time: Epoch) -> String {
        given.unwrap_or_else(|| version_7(time, self.records.unsigned_abs()).to_string())
    }
}

/// A UUID of version 7.
fn version_7(ms: u64, number: u64) -> Uuid {
    let mut rest = [0; 10];
    rest[2..].copy_from_slice(&number.to_be_bytes());
    Builder::from_unix_timestamp_millis(ms, &rest).into_uuid()
}

fn headers(event_id: String, operation: &str) -> Vec<(String, Option<String>)> {
    let header = |name: &str, value: String| (name.to_owned(), Some(value));
    vec![header("id", event_id), header("operation", operation.to_owned()), header("txid", String::new())]
}

fn time_of(given: Option<&str>, epoch: Epoch) -> Result<Epoch, String> {
    given.map_or(Ok(epoch), |text| moment::parse(text, epoch))
}

/// Who reports resources of a type, and at which instance.
fn usual_reporter(resource_type: &str) -> (&'static str, &'static str) {
    match resource_type {
        "host" => ("hbi", "redhat"),
        "k8s_cluster" | "k8s_policy" => ("acm", "hub"),
        "notifications_integration" => ("notifications", "redhat"),
        "service" | "billing_account" => ("features", "features"),
        _ => ("reporter", "instance"),
    }
}

/// An object of the fields that are said.
fn object<const COUNT: usize>(fields: [(&str, Option<String>); COUNT]) -> Value {
    let said = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?))));
    Value::Object(said.collect())
}

/// The value with every text in it as it is said.
fn replaced(value: &Value, said: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(said(text)),
        Value::Array(items) => items.iter().map(|item| replaced(item, said)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), replaced(value, said))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}
