//! A running service behind real sockets, for the tests of its edges: on a generated log, or fed record by record.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;
use tarn::config::{Config, SourceKind};
use tarn::dataflow::WallClock;
use tarn::generate::{FaultRates, Generated, Generator, GeneratorConfig};
use tarn::http::server::{Caps, Deadlines, serve_within};
use tarn::http::{App, Scope, router};
use tarn::model::{Coordinates, Position, Topics};
use tarn::service::{Running, Service};
use tarn::source::{Limit, Phase, Polled, RecordBatch, Source, SourceError, SourceStatus};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How the listeners are set up.
pub struct Setup {
    pub config: Config,
    pub caps: Caps,
    pub deadlines: Deadlines,
}

impl Default for Setup {
    fn default() -> Self {
        let mut config = Config::default();
        config.views.directory.clear();
        config.dataflow.workers = 2;
        Self {
            config,
            caps: Caps { connections_max: 200, connections_per_address_max: 200 },
            deadlines: Deadlines::default(),
        }
    }
}

/// A running service.
pub struct Served {
    pub readers: SocketAddr,
    pub operators: SocketAddr,
    pub service: Service,
    pub app: Arc<App>,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    runtime: tokio::runtime::Runtime,
    _running: Running,
}

impl Served {
    fn around(setup: Setup, service: Service, running: Running) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let app = App::new(service.clone(), tarn::telemetry::start_metrics().ok());
        let (stop, stopped) = watch::channel(false);
        let (mut addresses, mut listeners) = (Vec::new(), Vec::new());
        for scope in [Scope::Read, Scope::Admin] {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
            addresses.push(listener.local_addr().expect("an address"));
            let router = router(Arc::clone(&app), scope);
            listeners.push(runtime.spawn(serve_within(listener, router, setup.caps, setup.deadlines, stopped.clone())));
        }
        let (readers, operators) = (addresses[0], addresses[1]);
        Self { readers, operators, service, app, stop, listeners, runtime, _running: running }
    }

    /// On a generated log with poison, replays, ghosts and a broken line.
    pub fn on_log(mut setup: Setup) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log.zst");
        let mut log = zstd::Encoder::new(std::fs::File::create(&path).expect("a file"), 1).expect("an encoder");
        let faults = FaultRates { poison: 0.01, replays: 0.001, ghosts: 0.01, ..Default::default() };
        let config = GeneratorConfig { resources: 500, faults, ..Default::default() };
        let mut lines = Vec::new();
        for record in Generator::new(config).take(3_000) {
            record.write_line(&mut lines);
        }
        lines.extend_from_slice(b"this is no record\n");
        log.write_all(&lines).expect("room");
        log.finish().expect("room");
        setup.config.source.kind = SourceKind::Log;
        setup.config.source.log.path = path.display().to_string();
        let (service, running) = tarn::service::start(
            setup.config.clone(),
            tarn::service::Time::Wall,
            tarn::snapshot::Verification::OnThread,
        )
        .expect("it starts");
        let served = Self::around(setup, service, running);
        eventually("ready", || served.service.is_ready());
        served
    }

    /// On what is sent to it.
    pub fn fed(setup: Setup) -> (Self, mpsc::Sender<Generated>) {
        Self::fed_at(setup, WallClock::default())
    }

    /// The same, at the time of a clock.
    pub fn fed_at(setup: Setup, clock: WallClock) -> (Self, mpsc::Sender<Generated>) {
        let (feed, records) = mpsc::channel();
        let (topics, status) = (Topics::default(), SourceStatus::default());
        status.update(|state| {
            state.phase = Phase::Reading;
            state.end_at_start = Some(Position::default());
        });
        let source = Box::new(Fed { records, topics: topics.clone() });
        let started = tarn::service::start_with(setup.config.clone(), source, Box::new(clock), topics, status);
        let (service, running) = started.expect("it starts");
        (Self::around(setup, service, running), feed)
    }

    /// Stops the listeners and says how long they took to drain.
    pub fn stop(self) -> Duration {
        let began = Instant::now();
        self.stop.send_replace(true);
        for listener in self.listeners {
            self.runtime.block_on(listener).expect("no panic");
        }
        began.elapsed()
    }
}

/// A source of what is sent to it.
struct Fed {
    records: mpsc::Receiver<Generated>,
    topics: Topics,
}

impl Source for Fed {
    fn poll(&mut self, batch: &mut RecordBatch, wait: Duration, _limit: Limit) -> Result<Polled, SourceError> {
        let record = match self.records.recv_timeout(wait) {
            Ok(record) => record,
            Err(mpsc::RecvTimeoutError::Timeout) => return Ok(Polled::Nothing),
            // The test is over, though the service may live on.
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(Polled::End),
        };
        let topic = self.topics.intern(record.topic).expect("few topics");
        let coordinates = Coordinates { topic, partition: 0, offset: record.offset };
        let headers = record.headers.iter().map(|(name, value)| (*name, value.as_deref().map(str::as_bytes)));
        let (key, value) = (record.key.as_deref().map(str::as_bytes), record.value.as_deref().map(str::as_bytes));
        batch.push_wire(coordinates, record.timestamp_ms, key, value, headers);
        Ok(Polled::Records)
    }
}

/// Hosts, each created once, the first `count` of a log.
pub fn hosts(count: usize) -> Vec<Generated> {
    let config = GeneratorConfig {
        resources: count,
        popularity: tarn::generate::Popularity::Sweep,
        hosts_only: true,
        ..Default::default()
    };
    Generator::new(config).take(count).collect()
}

/// Waits for something that must come.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The body as JSON, null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// A connection whose reads end.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
}

/// Everything that comes until the connection is closed.
pub fn rest(stream: &TcpStream) -> String {
    String::from_utf8(rest_bytes(stream)).expect("UTF-8")
}

fn rest_bytes(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset after the answer is an end too.
    drop(stream.read_to_end(&mut bytes));
    bytes
}

/// One answer from a connection that stays open; none when it is closed before.
pub fn next_answer(mut stream: &TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.extend_from_slice(&byte);
    }
    let mut answer = parse(&String::from_utf8(bytes).expect("UTF-8"))?;
    let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    answer.body = String::from_utf8(body).expect("UTF-8");
    Some(answer)
}

/// An answer taken apart.
pub fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// What is answered to these bytes until the connection is closed.
pub fn exchange(address: SocketAddr, request: &[u8]) -> String {
    String::from_utf8(exchange_bytes(address, request)).expect("UTF-8")
}

/// The same where the answer may be no text.
pub fn exchange_bytes(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    // It may be refused before it is sent to its end.
    drop(stream.write_all(request));
    rest_bytes(&stream)
}

/// `GET path`, on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: tarn\r\nConnection: close\r\n\r\n");
    let text = exchange(address, request.as_bytes());
    parse(&text).unwrap_or_else(|| panic!("{path} is answered with {text:?}"))
}
