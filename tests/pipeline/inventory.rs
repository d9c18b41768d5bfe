//! The writer: what Inventory does to PostgreSQL for every report and delete, with a simplified copy of its tables.
//!
//! Promises: one SERIALIZABLE transaction each, tried again on error 40001; in it the rows of the state and the two
//! messages in the log, word for word as Inventory writes them (kessel-events sections 1, 2 and 5). The rows are the
//! truth that Tarn is compared with (`truth`).

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::postgres::error::SqlState;
use ::postgres::types::ToSql;
use ::postgres::{Client, Error, IsolationLevel, Row, Transaction};
use rand::Rng;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// How often a transaction is tried. Inventory tries ten times, and its client again; here the two are one.
const TRIES: usize = 200;

/// Inventory's tables without what nothing here reads; times are microseconds since 1970, ids and data are texts.
/// The generation of common data is our own: it says of which life of the resource they are.
const TABLES: &str = "
CREATE TABLE resource (id text PRIMARY KEY, type text NOT NULL, common_version int, created_at bigint NOT NULL);
CREATE TABLE reporter_resources (
  resource_id text PRIMARY KEY REFERENCES resource, local_resource_id text NOT NULL, reporter_type text NOT NULL,
  resource_type text NOT NULL, reporter_instance_id text NOT NULL, api_href text NOT NULL, console_href text,
  representation_version int NOT NULL, generation int NOT NULL, tombstone bool NOT NULL, updated_at bigint NOT NULL,
  UNIQUE (local_resource_id, resource_type, reporter_type, reporter_instance_id));
CREATE TABLE reporter_representations (
  resource_id text NOT NULL REFERENCES reporter_resources, version int NOT NULL, generation int NOT NULL,
  data text NOT NULL, reporter_version text, PRIMARY KEY (resource_id, generation, version));
CREATE TABLE common_representations (
  resource_id text NOT NULL REFERENCES resource, version int NOT NULL, generation int NOT NULL,
  workspace_id text NOT NULL, PRIMARY KEY (resource_id, version));
";

const FIND: &str = "SELECT resource_id, representation_version, generation, tombstone FROM reporter_resources \
    WHERE local_resource_id = $1 AND resource_type = $2 AND reporter_type = $3 AND reporter_instance_id = $4";

const PUT_REPORTER_RESOURCE: &str = "INSERT INTO reporter_resources \
    VALUES ($1, $2, $4, $3, $5, $6, $7, $8, $9, false, $10) ON CONFLICT (resource_id) DO UPDATE SET \
    api_href = $6, console_href = $7, representation_version = $8, generation = $9, tombstone = false, updated_at = $10";

/// By what Inventory finds a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReporterKey {
    pub local_resource_id: String,
    pub resource_type: String,
    pub reporter_type: String,
    pub reporter_instance_id: String,
}

impl ReporterKey {
    fn parameters(&self) -> [&(dyn ToSql + Sync); 4] {
        [&self.local_resource_id, &self.resource_type, &self.reporter_type, &self.reporter_instance_id]
    }
}

/// What a reporter says.
#[derive(Debug, Clone)]
pub struct Report {
    pub key: ReporterKey,
    pub api_href: String,
    pub console_href: Option<String>,
    pub reporter_version: Option<String>,
    /// The common data, of which only this is in events.
    pub workspace_id: Option<String>,
    /// The reporter's data.
    pub data: Option<Value>,
}

/// A resource as a transaction leaves it.
struct Stored {
    id: String,
    version: i32,
    generation: i32,
    lives: bool,
}

impl Stored {
    fn of(row: &Row) -> Self {
        Self { id: row.get(0), version: row.get(1), generation: row.get(2), lives: !row.get::<_, bool>(3) }
    }
}

/// One process of Inventory's.
pub struct Inventory {
    client: Client,
    ids: Ids,
    tried_again: usize,
}

impl Inventory {
    /// On a database that has nothing yet.
    pub fn new(mut client: Client) -> Self {
        client.batch_execute(TABLES).expect("an empty database");
        Self::beside(client)
    }

    /// Another process on the same database.
    pub fn beside(client: Client) -> Self {
        Self { client, ids: Ids::default(), tried_again: 0 }
    }

    /// How many transactions met another one and were tried again.
    pub fn tried_again(&self) -> usize {
        self.tried_again
    }

    /// Whoever asks what the truth is.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// ReportResource; the resource's id.
    pub fn report(&mut self, report: &Report) -> String {
        self.transaction(|transaction, ids| report_in(transaction, ids, report))
    }

    /// DeleteResource; whether there was something to delete.
    pub fn delete(&mut self, key: &ReporterKey) -> bool {
        self.transaction(|transaction, ids| delete_in(transaction, ids, key))
    }

    /// What Inventory's job for many deletes does: the rows go, and no event says so.
    pub fn delete_in_bulk(&mut self, keys: &BTreeSet<ReporterKey>) {
        self.transaction(|transaction, _| {
            for key in keys {
                let Some(row) = transaction.query_opt(FIND, &key.parameters())? else { continue };
                let id = Stored::of(&row).id;
                for table in ["reporter_representations", "common_representations", "reporter_resources"] {
                    transaction.execute(&format!("DELETE FROM {table} WHERE resource_id = $1"), &[&id])?;
                }
                transaction.execute("DELETE FROM resource WHERE id = $1", &[&id])?;
            }
            Ok(())
        });
    }

    /// Puts a message into the log as it is, in a transaction of its own.
    pub fn emit(&mut self, prefix: &str, message: &str) {
        self.transaction(|transaction, _| emit(transaction, prefix, message));
    }

    fn transaction<T>(&mut self, work: impl Fn(&mut Transaction<'_>, &mut Ids) -> Result<T, Error>) -> T {
        let mut tries = 0;
        loop {
            tries += 1;
            let builder = self.client.build_transaction().isolation_level(IsolationLevel::Serializable);
            let mut transaction = builder.start().expect("PostgreSQL is there");
            let done = work(&mut transaction, &mut self.ids).and_then(|done| transaction.commit().map(|()| done));
            match done {
                Ok(done) => return done,
                Err(error) if met_another(&error) && tries < TRIES => {
                    self.tried_again += 1;
                    // Two that try again at once meet each other again.
                    std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..20)));
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

fn met_another(error: &Error) -> bool {
    error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE)
}

fn report_in(transaction: &mut Transaction<'_>, ids: &mut Ids, report: &Report) -> Result<String, Error> {
    let key = &report.key;
    let known = transaction.query_opt(FIND, &key.parameters())?.map(|row| Stored::of(&row));
    let now = now_us();
    let operation = if known.is_some() { "updated" } else { "created" };
    let stored = match known {
        Some(known) if known.lives => Stored { version: known.version + 1, ..known },
        // The same id, another life.
        Some(known) => Stored { version: 0, generation: known.generation + 1, ..known },
        None => Stored { id: ids.v7(), version: 0, generation: 0, lives: true },
    };
    let common_version: Option<i32> = match &report.workspace_id {
        None => None,
        Some(_) => {
            let sql = "SELECT coalesce(max(version) + 1, 0) FROM common_representations WHERE resource_id = $1";
            Some(transaction.query_one(sql, &[&stored.id])?.get(0))
        }
    };
    transaction.execute(
        "INSERT INTO resource VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET common_version = $3",
        &[&stored.id, &key.resource_type, &common_version, &now],
    )?;
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&stored.id];
    parameters.extend(key.parameters());
    let rest: [&(dyn ToSql + Sync); 5] =
        [&report.api_href, &report.console_href, &stored.version, &stored.generation, &now];
    parameters.extend(rest);
    transaction.execute(PUT_REPORTER_RESOURCE, &parameters)?;
    if let Some(data) = &report.data {
        transaction.execute(
            "INSERT INTO reporter_representations VALUES ($1, $2, $3, $4, $5)",
            &[&stored.id, &stored.version, &stored.generation, &data.to_string(), &report.reporter_version],
        )?;
    }
    if let (Some(workspace), Some(version)) = (&report.workspace_id, common_version) {
        transaction.execute(
            "INSERT INTO common_representations VALUES ($1, $2, $3, $4)",
            &[&stored.id, &version, &stored.generation, workspace],
        )?;
    }
    let payload = payload(report, &stored.id, operation, now);
    emit(transaction, "kessel.resources", &message(ids.v7(), "kessel.resources", &stored.id, operation, "", &payload))?;
    let reporter_version = report.data.as_ref().map(|_| stored.version);
    let tuples = tuples(key, common_version, reporter_version);
    let (id, txid) = (ids.v7(), ids.v7());
    emit(transaction, "kessel.tuples", &message(id, "kessel.tuples", &stored.id, operation, &txid, &tuples))?;
    Ok(stored.id)
}

fn delete_in(transaction: &mut Transaction<'_>, ids: &mut Ids, key: &ReporterKey) -> Result<bool, Error> {
    let known = transaction.query_opt(FIND, &key.parameters())?.map(|row| Stored::of(&row));
    let Some(known) = known.filter(|known| known.lives) else { return Ok(false) };
    let version = known.version + 1;
    transaction.execute(
        "UPDATE reporter_resources SET tombstone = true, representation_version = $2, updated_at = $3 \
         WHERE resource_id = $1",
        &[&known.id, &version, &now_us()],
    )?;
    let message_of =
        |id: String, kind: &str, txid: &str, payload: &Value| message(id, kind, &known.id, "deleted", txid, payload);
    emit(transaction, "kessel.resources", &message_of(ids.v7(), "kessel.resources", "", &json!({})))?;
    let (id, txid) = (ids.v7(), ids.v7());
    emit(transaction, "kessel.tuples", &message_of(id, "kessel.tuples", &txid, &tuples(key, None, Some(version))))?;
    Ok(true)
}

fn emit(transaction: &mut Transaction<'_>, prefix: &str, message: &str) -> Result<(), Error> {
    let sql = "SELECT pg_logical_emit_message(true, $1::text, $2::text)";
    transaction.execute(sql, &[&prefix, &message]).map(drop)
}

/// A message: fields in the order of Inventory's struct, those of the payload in the order of the alphabet.
pub fn message(id: String, kind: &str, resource: &str, operation: &str, txid: &str, payload: &Value) -> String {
    format!(
        r#"{{"id":"{id}","aggregatetype":"{kind}","aggregateid":"{resource}","operation":"{operation}","txid":"{txid}","payload":{payload}}}"#
    )
}

/// The event of a report.
fn payload(report: &Report, id: &str, operation: &str, now_us: i64) -> Value {
    let key = &report.key;
    let time = jiff::Timestamp::from_microsecond(now_us).expect("a time of this age").to_string();
    let at = if operation == "created" { "created_at" } else { "updated_at" };
    let resource_type = &key.resource_type;
    let mut metadata = json!({"id": id, "org_id": "", "resource_type": resource_type, at: time});
    let mut reporter = json!({
        "api_href": report.api_href,
        "local_resource_id": key.local_resource_id,
        "reporter_instance_id": key.reporter_instance_id,
        "reporter_type": key.reporter_type,
    });
    let put = |object: &mut Value, name: &str, value: &Option<String>| {
        if let Some(value) = value {
            object[name] = value.as_str().into();
        }
    };
    put(&mut metadata, "workspace_id", &report.workspace_id);
    put(&mut reporter, "console_href", &report.console_href);
    let mut data = Map::from_iter([("metadata".to_owned(), metadata)]);
    if let Some(of_reporter) = &report.data {
        put(&mut reporter, "reporter_version", &report.reporter_version);
        data.insert("resource_data".to_owned(), of_reporter.clone());
    }
    data.insert("reporter_data".to_owned(), reporter);
    json!({
        "data": data,
        "datacontenttype": "application/json",
        "id": v1(now_us),
        "source": "",
        "specversion": "1.0",
        "subject": format!("/resources/{resource_type}/{id}"),
        "time": time,
        "type": format!("redhat.inventory.resources.{resource_type}.{operation}"),
    })
}

/// The event on the sibling topic.
fn tuples(key: &ReporterKey, common_version: Option<i32>, reporter_version: Option<i32>) -> Value {
    let mut tuples = json!({"reporter_resource_key": {
        "local_resource_id": key.local_resource_id,
        "reporter": {"reporter_instance_id": key.reporter_instance_id, "reporter_type": key.reporter_type},
        "resource_type": key.resource_type,
    }});
    for (name, version) in [("common_version", common_version), ("reporter_representation_version", reporter_version)] {
        if let Some(version) = version {
            tuples[name] = version.into();
        }
    }
    tuples
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).expect("a time of this age")
}

/// A UUID v1: the time in 100 ns since 1582, and a node.
fn v1(now_us: i64) -> String {
    let ticks = now_us.unsigned_abs() * 10 + 0x01B2_1DD2_1381_4000;
    let high = (ticks & 0xffff_ffff) << 32 | ((ticks >> 32) & 0xffff) << 16 | 0x1000 | ((ticks >> 48) & 0xfff);
    Uuid::from_u64_pair(high, 0xac9f_0242_ac11_0002).to_string()
}

/// Ids as Inventory's library makes them: milliseconds, 12 bits of their fraction, each greater than the last one.
#[derive(Default)]
struct Ids {
    last: u64,
}

impl Ids {
    fn v7(&mut self) -> String {
        let now = now_us().unsigned_abs();
        let stamp = ((now / 1_000) << 12) | ((now % 1_000) * 4_096 / 1_000);
        self.last = stamp.max(self.last + 1);
        let high = (self.last >> 12) << 16 | 0x7000 | (self.last & 0xfff);
        let low = rand::random::<u64>() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000;
        Uuid::from_u64_pair(high, low).to_string()
    }
}
