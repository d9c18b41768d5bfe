//! Kafka Connect in distributed mode with Debezium's connector, set up as Kessel's production is (kessel-events
//! sections 1 and 2), by the files that `compose.yaml` uses.
//!
//! Promises: what is on the wire is what production writes. Other than there heartbeats come every second instead of
//! every five minutes, new partitions are looked for every second, and a worker that died is given up after two seconds
//! instead of ten, so that tests need not wait.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::broker::{Broker, START_MAX};
use super::parts::Parts;
use super::patiently;
use super::postgres::Postgres;
use super::programs::{Program, free_port};
use crate::served::{Answer, exchange, parse};

/// How workers and the connector are set up.
const WORKER: &str = include_str!("../../config/compose/connect.properties");
const SHIPPED: &str = include_str!("../../config/compose/inventory-connector.json");

/// The connector's name, in its worker and to itself.
const CONNECTOR: &str = "kessel-inventory-api-connector";

/// The replication slot.
const SLOT: &str = "inventory_api_debezium";

/// A worker, running or not.
pub struct Connect {
    parts: &'static Parts,
    folder: PathBuf,
    address: SocketAddr,
    /// By which the connector's settings name the database.
    environment: Vec<(&'static str, String)>,
    program: Option<Program>,
}

impl Connect {
    /// Starts a worker and the connector, and waits until it reads PostgreSQL.
    pub fn start(parts: &'static Parts, folder: &Path, broker: &Broker, postgres: &Postgres) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let environment = postgres.environment();
        let mut connect = Self { parts, folder: folder.to_owned(), address, environment, program: None };
        connect.write_properties(broker);
        connect.restart();
        connect.configure(&settings(&[]));
        connect.until_reading(postgres);
        connect
    }

    /// Starts the worker again, or for the first time, and waits until it answers.
    pub fn restart(&mut self) {
        let main = "org.apache.kafka.connect.cli.ConnectDistributed";
        let (properties, log) = (self.folder.join("connect.properties"), self.folder.join("connect.log"));
        let environment = &self.environment;
        let mut program = self.parts.start_java("connect", main, &properties, environment, &log);
        program.until("Connect answers", START_MAX, || self.asked("GET", "/connectors", None).is_some());
        self.program = Some(program);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.program.take().expect("it runs").kill();
    }

    /// Gives the connector these settings; it begins anew with them.
    pub fn configure(&self, settings: &Value) {
        patiently("the connector is taken", || {
            let path = format!("/connectors/{CONNECTOR}/config");
            // While the group is still forming, it is answered with 409.
            self.asked("PUT", &path, Some(settings)).is_some_and(|answer| matches!(answer.status, 200 | 201))
        });
    }

    /// Pauses the connector or lets it go on.
    pub fn act(&self, action: &str) {
        let path = format!("/connectors/{CONNECTOR}/{action}");
        let answer = self.asked("PUT", &path, None).expect("Connect is there");
        assert_eq!(answer.status, 202, "{answer:?}");
    }

    /// The state of the connector's only task.
    pub fn task(&self) -> String {
        let answer = self.asked("GET", &format!("/connectors/{CONNECTOR}/status"), None);
        let status = answer.map_or(Value::Null, |answer| answer.json());
        status["tasks"][0]["state"].as_str().unwrap_or("none").to_owned()
    }

    /// Waits until the connector reads PostgreSQL.
    pub fn until_reading(&self, postgres: &Postgres) {
        patiently("the connector reads", || self.task() == "RUNNING" && postgres.slot_is_read(SLOT));
    }

    /// An answer of Connect's, if it gives one.
    fn asked(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Answer> {
        std::net::TcpStream::connect(self.address).ok()?;
        let body = body.map_or(String::new(), Value::to_string);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: connect\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        parse(&exchange(self.address, request.as_bytes()))
    }

    /// The worker's properties as they are shipped, and behind them, since the last word counts, what is ours.
    fn write_properties(&self, broker: &Broker) {
        let text = format!(
            "{WORKER}\nbootstrap.servers={}\nlisteners=http://{}\nrest.advertised.host.name=127.0.0.1\n\
             plugin.path={}\noffset.storage.partitions=1\nstatus.storage.partitions=1\n\
             session.timeout.ms=2000\nheartbeat.interval.ms=500\nscheduled.rebalance.max.delay.ms=0\n\
             producer.metadata.max.age.ms=1000\n{}{}{}{}",
            broker.address(),
            self.address,
            self.parts.plugins().display(),
            broker.java_properties(""),
            broker.java_properties("producer."),
            broker.java_properties("consumer."),
            broker.java_properties("admin."),
        );
        fs::write(self.folder.join("connect.properties"), text).expect("room");
    }
}

/// The connector's settings as they are shipped, with some of a test's own.
pub fn settings(more: &[(&str, &str)]) -> Value {
    let mut settings: Value = serde_json::from_str(SHIPPED).expect("JSON");
    for (name, value) in [("heartbeat.interval.ms", "1000")].iter().chain(more) {
        settings[*name] = (*value).into();
    }
    settings
}
