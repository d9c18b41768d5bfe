//! Tarn's real binary on the real Kafka, with a data directory.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::broker::{Broker, TOPIC};
use super::{PATIENCE, patiently};
use crate::command_line::{ANY_PORTS, Process, addresses, tarn};
use crate::served::get;

/// A Tarn, running or not.
pub struct Tarn {
    folder: PathBuf,
    running: Option<(Process, SocketAddr)>,
}

impl Tarn {
    /// Writes its configuration, as a user would, and starts it.
    pub fn start(folder: &Path, broker: &Broker) -> Self {
        let mut text = format!(
            "[source.kafka]\nbrokers = \"{}\"\ntopics = [\"{TOPIC}\"]\ndiscovery_interval_ms = 500\n\
             [source.kafka.properties]\n\"reconnect.backoff.max.ms\" = 500\n",
            broker.address()
        );
        for (name, value) in broker.properties() {
            writeln!(text, "\"{name}\" = \"{value}\"").expect("memory takes any write");
        }
        let data = folder.join("tarn");
        write!(text, "[snapshot]\ndirectory = \"{}\"\ninterval_ms = 1000\n", data.display())
            .expect("memory takes any write");
        fs::write(folder.join("tarn.toml"), text).expect("room");
        let mut tarn = Self { folder: folder.to_owned(), running: None };
        tarn.restart(&[]);
        tarn
    }

    /// Starts it again, or for the first time, with some keys changed by the environment.
    pub fn restart(&mut self, changed: &[(&str, &str)]) {
        let configuration = self.folder.join("tarn.toml").display().to_string();
        let mut command = tarn(&["serve", "--config", &configuration]);
        command.envs(ANY_PORTS).env("TARN_HTTP__DRAIN_MS", "0").envs(changed.iter().copied());
        let mut process = Process::start(&mut command);
        let (readers, _, mut said) = addresses(&mut process);
        let log = self.folder.join("tarn.log");
        let mut log = File::options().create(true).append(true).open(log).expect("a log");
        std::thread::spawn(move || std::io::copy(&mut said, &mut log));
        self.running = Some((process, readers));
    }

    pub fn readers(&self) -> SocketAddr {
        self.running.as_ref().expect("it runs").1
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// SIGTERM, which it obeys in order.
    pub fn stop(&mut self) {
        let (mut process, _) = self.running.take().expect("it runs");
        process.signal(Signal::TERM);
        assert_eq!(process.end(), Some(0));
    }

    /// Forgets all that it knew; it must not run.
    pub fn forget(&self) {
        assert!(self.running.is_none());
        fs::remove_dir_all(self.folder.join("tarn")).expect("ours");
    }

    pub fn status(&self) -> Value {
        get(self.readers(), "/api/tarn/v1/status").json()
    }

    pub fn is_ready(&self) -> bool {
        get(self.readers(), "/readyz").status == 200
    }

    pub fn until_ready(&self) {
        patiently("Tarn is ready", || self.is_ready());
    }

    /// Waits until what it says of its source is so.
    pub fn until_source(&self, what: &str, mut is_so: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let source = self.status()["sourceState"].clone();
            if is_so(&source) {
                return source;
            }
            assert!(Instant::now() < deadline, "{what}: not in time: {source}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the source is in this phase, and says how the first partition is.
    pub fn until_phase(&self, phase: &str) -> Value {
        self.until_source(phase, |source| source["phase"] == phase)["partitions"][0].clone()
    }

    /// Whether it shows this resource as of this event or a later one.
    pub fn shows(&self, id: &str, updated_us: i64) -> bool {
        let resource = get(self.readers(), &format!("/api/tarn/v1/resources/{id}")).json();
        let updated_at = resource["updatedAt"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        updated_at.is_some_and(|time| time.as_microsecond() >= updated_us)
    }

    /// Its resident memory in bytes, and how many files it has open.
    pub fn holds(&self) -> (u64, usize) {
        let process = &self.running.as_ref().expect("it runs").0.0;
        let of_process = Path::new("/proc").join(process.id().to_string());
        let status = fs::read_to_string(of_process.join("status")).expect("it runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let kilobytes: u64 = resident.and_then(|number| number.trim().parse().ok()).expect("a number");
        (kilobytes * 1024, fs::read_dir(of_process.join("fd")).expect("it runs").count())
    }

    /// What is kept of it, for a look when a test fails.
    pub fn log(&self) -> String {
        // Lines may still be on their way.
        std::thread::sleep(Duration::from_millis(50));
        fs::read_to_string(self.folder.join("tarn.log")).unwrap_or_default()
    }
}
