//! The real binary under ingest, killed again and again; and what all clients share.
//!
//! It reads its log from a pipe: after a restart it is given again from before its snapshot, and goes on when it is ready.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tarn::clock::now_ms;

use super::following::Followed;
use super::rules::{Epochs, Told};
use super::truth::{Log, event_id};
use crate::command_line::{ANY_PORTS, Process, addresses, tarn};
use crate::durable::drain;
use crate::served::get;
use crate::views_served::queries;

/// A life of the process.
#[derive(Debug, Clone)]
pub struct Here {
    pub life: usize,
    pub at: SocketAddr,
    /// So much of the log its pipe has taken.
    pub fed: Arc<AtomicI64>,
    /// When it was ready.
    pub ready_ms: Arc<AtomicU64>,
}

impl Here {
    /// Whether it is ready, and its log goes on.
    pub fn is_ready(&self) -> bool {
        self.ready_ms.load(Ordering::Relaxed) < u64::MAX
    }
}

/// The lines that may be given again.
#[derive(Debug, Default)]
struct Lines {
    first: i64,
    lines: VecDeque<Arc<[u8]>>,
}

/// What clients share.
#[derive(Debug, Default)]
pub struct Shared {
    pub log: RwLock<Log>,
    pub epochs: Mutex<Epochs>,
    pub followed: Mutex<Followed>,
    /// The last token that anybody was given.
    pub token: Mutex<Option<(Told, String)>>,
    pub reads: AtomicU64,
    lines: Mutex<Lines>,
    here: Mutex<Option<Here>>,
    counts: Mutex<BTreeMap<String, u64>>,
    failure: Mutex<Option<String>>,
    is_over: AtomicBool,
}

impl Shared {
    /// The process that is served by now.
    pub fn here(&self) -> Option<Here> {
        self.here.lock().expect("no panic").clone()
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Ends all clients.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// The first violation, which ends everything.
    pub fn fail(&self, what: String) {
        self.failure.lock().expect("no panic").get_or_insert(what);
        self.end();
    }

    pub fn failure(&self) -> Option<String> {
        self.failure.lock().expect("no panic").clone()
    }

    /// Counts what happened.
    pub fn count(&self, what: &str) {
        *self.counts().entry(what.to_owned()).or_default() += 1;
    }

    pub fn counts(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.counts.lock().expect("no panic")
    }

    /// Writes an event to the log: its offset and its id.
    pub fn append(&self, number: usize, deletes: bool) -> (i64, String) {
        let mut log = self.log.write().expect("no panic");
        let ms = now_ms();
        let record = log.append(number, deletes, ms);
        let mut line = Vec::new();
        record.write_line(&mut line);
        self.lines.lock().expect("no panic").lines.push_back(line.into());
        (record.offset, event_id(record.offset, ms))
    }

    /// Some lines from an offset on.
    fn lines(&self, next: i64) -> Vec<Arc<[u8]>> {
        let lines = self.lines.lock().expect("no panic");
        let begin = usize::try_from(next - lines.first).expect("lines are let go long after they were read");
        lines.lines.iter().skip(begin).take(100).cloned().collect()
    }

    fn first_line(&self) -> i64 {
        self.lines.lock().expect("no panic").first
    }

    fn let_go_until(&self, first: i64) {
        let mut lines = self.lines.lock().expect("no panic");
        while lines.first < first && lines.lines.pop_front().is_some() {
            lines.first += 1;
        }
    }
}

/// What the feeder of a life is told.
#[derive(Debug, Default)]
struct Feeding {
    goes_on: AtomicBool,
    is_over: AtomicBool,
}

/// The process, and who feeds it.
pub struct World {
    pub shared: Arc<Shared>,
    pub life: usize,
    folder: tempfile::TempDir,
    queries: tempfile::TempDir,
    process: Option<Process>,
    feeder: Option<JoinHandle<()>>,
    feeding: Arc<Feeding>,
    /// Before these offsets nothing is needed any more, some lives later.
    floors: VecDeque<i64>,
}

/// The views that are read.
const VIEWS: [(&str, &str); 3] = [
    ("by_type", "SELECT resource_type, count(*) AS n FROM resources GROUP BY resource_type"),
    ("total", "SELECT count(*) AS n FROM resources"),
    ("hosts", "SELECT resource_id, ansible_host FROM host ORDER BY resource_id"),
];
/// So many lives later than a snapshot was seen, what is before it is let go.
const LIVES_KEPT: usize = 5;

impl World {
    pub fn new() -> Self {
        Self {
            shared: Arc::default(),
            life: 0,
            folder: tempfile::tempdir().expect("a folder"),
            queries: queries(&VIEWS),
            process: None,
            feeder: None,
            feeding: Arc::default(),
            floors: VecDeque::new(),
        }
    }

    /// Starts the process, which is then given all that it may have to read again.
    pub fn start(&mut self, snapshot_interval_ms: u64) {
        self.life += 1;
        let data = self.folder.path().join("data");
        let mut command = serve(&data, self.queries.path());
        command.env("TARN_SNAPSHOT__INTERVAL_MS", snapshot_interval_ms.to_string()).stdin(Stdio::piped());
        let mut process = Process::start(&mut command);
        let pipe = process.0.stdin.take().expect("a pipe");
        let fed = Arc::new(AtomicI64::new(0));
        self.feeding = Arc::default();
        let (shared, feeding, so_far) = (Arc::clone(&self.shared), Arc::clone(&self.feeding), Arc::clone(&fed));
        self.feeder = Some(std::thread::spawn(move || feed(&shared, pipe, &feeding, &so_far)));
        let (at, _, log) = addresses(&mut process);
        drain(log);
        self.process = Some(process);
        let here = Here { life: self.life, at, fed, ready_ms: Arc::new(AtomicU64::new(u64::MAX)) };
        *self.shared.here.lock().expect("no panic") = Some(here);
    }

    /// Waits until it is ready, and lets its log go on.
    pub fn go_on(&mut self) {
        let here = self.shared.here().expect("it is started");
        let deadline = Instant::now() + Duration::from_secs(90);
        while get(here.at, "/readyz").status != 200 {
            assert!(Instant::now() < deadline, "it is not ready: {}", get(here.at, "/api/tarn/v1/status").body);
            std::thread::sleep(Duration::from_millis(10));
        }
        // Before the first snapshot nothing outlives the process: whatever begins then is another life of the state.
        while !self.folder.path().join("data/CURRENT").exists() {
            assert!(Instant::now() < deadline, "no snapshot is taken");
            std::thread::sleep(Duration::from_millis(10));
        }
        here.ready_ms.store(now_ms(), Ordering::Relaxed);
        self.feeding.goes_on.store(true, Ordering::Relaxed);
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(here) = self.shared.here() {
            let status = get(here.at, "/api/tarn/v1/status").json();
            let epoch = status["snapshots"]["epoch"].as_u64().unwrap_or(0);
            let until = self.shared.epochs.lock().expect("no panic").position_until(epoch);
            self.floors.push_back(until);
        }
        if let Some(mut process) = self.process.take() {
            process.0.kill().expect("it is there");
            process.0.wait().expect("it is ours");
        }
        *self.shared.here.lock().expect("no panic") = None;
        self.feeding.is_over.store(true, Ordering::Relaxed);
        if let Some(feeder) = self.feeder.take() {
            feeder.join().expect("no panic");
        }
        if self.floors.len() > LIVES_KEPT {
            self.shared.let_go_until(self.floors.pop_front().expect("there are some"));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shared.end();
        self.feeding.is_over.store(true, Ordering::Relaxed);
    }
}

fn serve(data: &Path, queries: &Path) -> std::process::Command {
    let mut command = tarn(&["serve"]);
    command.envs(ANY_PORTS).env("TARN_SOURCE__KIND", "log").env("TARN_SOURCE__LOG__PATH", "-");
    command.env("TARN_SNAPSHOT__DIRECTORY", data).env("TARN_VIEWS__DIRECTORY", queries);
    command.env("TARN_HTTP__DRAIN_MS", "0").env("TARN_DATAFLOW__WORKERS", "2");
    command.env("TARN_INGEST__IDLE_SEAL_INTERVAL_MS", "50").env("TARN_STREAMS__RESUME_WAIT_MS", "30000");
    command.env("TARN_STREAMS__PROGRESS_INTERVAL_MS", "50");
    command
}

/// Writes the log into a pipe until nobody reads it: what there is, and when it may go on, what is written.
fn feed(shared: &Shared, mut pipe: ChildStdin, life: &Feeding, fed: &AtomicI64) {
    let mut next = shared.first_line();
    let at_start = shared.log.read().expect("no panic").end();
    while !life.is_over.load(Ordering::Relaxed) {
        let may_go_on = next < at_start || life.goes_on.load(Ordering::Relaxed);
        let lines = if may_go_on { shared.lines(next) } else { Vec::new() };
        if lines.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        next += lines.len() as i64;
        if pipe.write_all(&lines.concat()).and_then(|()| pipe.flush()).is_err() {
            return;
        }
        fed.store(next, Ordering::Release);
    }
}
