//! Tarn behind the real thing: PostgreSQL, Debezium in Kafka Connect, Apache Kafka and Tarn's own binary, on loopback,
//! broken in every way that production breaks. Each scenario ends in equality with PostgreSQL.
//!
//! Needs PostgreSQL, Java 17 and Maven; where one is missing these tests say so and end, and where `CI` is `true`, or
//! `TARN_PIPELINE` is `required` (where strace does not work, `.ci/run` leaves `CI` alone), they fail.
//! They run one at a time, since each has four programs at work. `cargo test --test it pipeline` runs them alone.

mod broker;
mod connect;
mod faults;
mod inventory;
mod lost_logs;
mod parts;
mod postgres;
mod programs;
mod scenarios;
mod soak;
mod tarn;
mod traffic;
mod truth;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

pub use self::postgres::Postgres;
use self::tarn::Tarn;
use crate::support::injected::skip;
use broker::{Broker, Security};
use connect::Connect;
use inventory::{Inventory, Report, ReporterKey};
use parts::{NEEDED, Parts};
use truth::{Resources, difference, shown, truth, without_creation};

/// One pipeline at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Where the parts are; none where a part is missing, which is a failure where they are required and said elsewhere.
fn parts(test: &str) -> Option<&'static Parts> {
    static PARTS: OnceLock<Result<Parts, String>> = OnceLock::new();
    found(test, NEEDED, PARTS.get_or_init(Parts::find).as_ref())
}

/// What was looked for; none where it is missing, which is a failure where it is required.
fn found<T>(test: &str, needed: &str, looked_for: Result<T, &String>) -> Option<T> {
    match looked_for {
        Ok(found) => Some(found),
        Err(missing) => {
            assert!(std::env::var("TARN_PIPELINE").as_deref() != Ok("required"), "{needed}; {missing}");
            skip(test, &format!("{needed}; {missing}"));
            None
        }
    }
}

/// PostgreSQL alone, in this folder, with what a test is told where it is missing.
pub fn postgres_alone(test: &str, folder: &Path) -> Option<Postgres> {
    let programs = parts::postgres_programs();
    let programs = found(test, "PostgreSQL (apt-get install postgresql)", programs.as_ref())?;
    Some(Postgres::start(programs, folder))
}

/// A test fails when what it waits for takes longer: four programs share two processors with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for something that must come.
fn patiently(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All parts, running. What is read from stands below what reads it, and so ends later.
struct Pipeline {
    tarn: Tarn,
    connect: Connect,
    inventory: Inventory,
    broker: Broker,
    postgres: Postgres,
    _folder: TempDir,
    parts: &'static Parts,
    began: Instant,
    _turn: MutexGuard<'static, ()>,
}

impl Pipeline {
    /// Starts everything, with so many partitions; none where a part is missing.
    fn start(test: &str, partitions: i32, security: Security) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = parts(test)?;
        let began = Instant::now();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let postgres = Postgres::start(parts.postgres(), path);
        let broker = Broker::start(parts, path, security);
        broker.create_topic(partitions);
        broker.create_other_topics();
        let connect = Connect::start(parts, path, &broker, &postgres);
        let inventory = Inventory::new(postgres.client());
        let tarn = Tarn::start(path, &broker);
        tarn.until_ready();
        println!("{test}: everything is there after {:.1?}", began.elapsed());
        Some(Self { tarn, connect, inventory, broker, postgres, _folder: folder, parts, began, _turn: turn })
    }

    /// The same as it is in production: one partition. Without passwords, which make no difference to most.
    fn usual(test: &str) -> Option<Self> {
        Self::start(test, 1, Security::Plaintext)
    }

    /// Waits until Tarn shows what is reported now, and with it all that was before.
    fn catch_up(&mut self) {
        let key = ReporterKey {
            local_resource_id: "marker".to_owned(),
            resource_type: "host".to_owned(),
            reporter_type: "hbi".to_owned(),
            reporter_instance_id: "redhat".to_owned(),
        };
        let id = self.inventory.report(&Report {
            key,
            api_href: "https://example.com/".to_owned(),
            console_href: None,
            reporter_version: None,
            workspace_id: None,
            data: Some(json!({"ansible_host": "marker"})),
        });
        let reported_at = truth(self.inventory.client())[&id]["updatedAt"].as_i64().expect("it was reported");
        let began = Instant::now();
        patiently("Tarn shows the marker", || self.tarn.shows(&id, reported_at));
        println!("  caught up in {:.1?}", began.elapsed());
    }

    /// Everything arrives, and Tarn's answer is PostgreSQL's.
    fn equals_postgres(&mut self) {
        self.is_equal(|resources| resources);
    }

    /// The same but for when resources were made, where events that told are lost.
    fn equals_postgres_but_for_creation(&mut self) {
        self.is_equal(without_creation);
    }

    fn is_equal(&mut self, part: impl Fn(Resources) -> Resources) {
        self.catch_up();
        let truth = part(truth(self.inventory.client()));
        assert!(truth.len() > 1, "something is there");
        // A partition is sent behind another one's back, so with several the marker may come first.
        let patience = if self.broker.watermarks().len() > 1 { Duration::from_secs(20) } else { Duration::ZERO };
        let deadline = Instant::now() + patience;
        while let Some(difference) = difference(&truth, &part(shown(self.tarn.readers(), false))) {
            assert!(Instant::now() < deadline, "{difference}\n{}", self.tarn.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("  {} resources are the same, {:.1?} after the beginning", truth.len(), self.began.elapsed());
    }

    /// Nothing was rejected, and nothing was lost.
    fn nothing_is_amiss(&self) {
        // That a broker is there again is known by its statistics, which may come after its records.
        self.tarn.until_phase("reading");
        let status = self.tarn.status();
        assert_eq!(status["complete"], true, "{status}");
        let quarantine = crate::served::get(self.tarn.readers(), "/api/tarn/v1/quarantine").json();
        assert_eq!(quarantine["items"], json!([]), "{quarantine}");
    }
}
