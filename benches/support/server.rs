//! A `tarn serve` of this build as a child, and just enough of an HTTP client to load it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::TARN;

/// A running server; killed when dropped.
pub struct Server {
    pub child: Child,
    pub readers: SocketAddr,
    pub operators: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is fine too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Server {
    /// Starts a server with these settings, `TARN_SECTION__KEY` and value.
    pub fn start(settings: &[(&str, String)], input: Stdio) -> Self {
        let (readers, operators) = (free_address(), free_address());
        let mut command = Command::new(TARN);
        command.arg("serve").stdin(input).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("TARN_HTTP__LISTEN", readers.to_string()).env("TARN_HTTP__ADMIN_LISTEN", operators.to_string());
        command.envs(settings.iter().map(|(name, value)| (*name, value.as_str())));
        let server = Self { child: command.spawn().unwrap(), readers, operators };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(readers).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Waits until it is ready.
    pub fn wait_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(600);
        while !get(self.readers, "/readyz").starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < deadline, "not ready in time");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until this many records were read and what they brought is visible.
    pub fn wait_read(&self, records: u64) {
        let deadline = Instant::now() + Duration::from_secs(1_200);
        while self.metric("tarn_records_total") < records as f64 {
            assert!(Instant::now() < deadline, "the log is not read in time");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.wait_ready();
    }

    /// Ends it as an operator does; how long that took, the last snapshot included.
    pub fn stop(mut self) -> Duration {
        let began = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "it ended with {status}");
        began.elapsed()
    }

    /// CPU time so far, that of its children that have ended included, in steps of 10 ms.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields = after_name.split_whitespace().skip(11).take(4);
        Duration::from_millis(fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10)
    }

    /// At least this many resources, if there are so many, in order of id.
    pub fn resources(&self, count: usize) -> Vec<Value> {
        let (mut found, mut token) = (Vec::new(), String::new());
        while found.len() < count {
            let page = self.json(&format!("/api/tarn/v1/resources?limit=1000{token}"));
            found.extend(page["items"].as_array().unwrap().iter().cloned());
            let Some(next) = page["nextPageToken"].as_str() else { break };
            token = format!("&pageToken={next}");
        }
        found
    }

    /// How many resources are live.
    pub fn live(&self) -> u64 {
        let answer = post(self.readers, "/api/tarn/v1/query", r#"{"sql": "SELECT count(*) AS live FROM resources"}"#);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let answer: Value = serde_json::from_str(body).unwrap();
        answer["items"][0]["live"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }

    /// A field of `/proc/PID/status` in bytes.
    pub fn memory_bytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
    }

    /// A sample of `/metrics`, the sum over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let answer = get(self.operators, "/metrics");
        let samples = answer.lines().filter(|line| line.starts_with(name));
        let of_name = samples.filter(|line| matches!(line.as_bytes().get(name.len()), Some(b' ' | b'{')));
        of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The body of an answer as JSON.
    pub fn json(&self, path: &str) -> Value {
        let answer = get(self.readers, path);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
    }
}

/// One request on a connection of its own; the whole answer.
pub fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"))
}

/// The same with a body.
pub fn post(address: SocketAddr, path: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    ask(address, &(head + body))
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; 1 << 20] }
    }

    /// Sends a request and reads its answer; the bytes of its body, none where there is nothing of that name.
    pub fn get(&mut self, path: &str) -> Option<&[u8]> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).unwrap();
            assert!(read > 0, "the server closed the connection");
            filled += read;
            let Some(head) = memchr::memmem::find(&self.buffer[..filled], b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.buffer[..head]).unwrap();
            let found = text.starts_with("HTTP/1.1 200");
            assert!(found || text.starts_with("HTTP/1.1 404"), "{path}: {text}");
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            let end = head + 4 + length.expect("a length");
            if end > self.buffer.len() {
                self.buffer.resize(end, 0);
            }
            if filled >= end {
                return found.then_some(&self.buffer[head + 4..end]);
            }
        }
    }
}

/// Requests a second that several connections get through, each as fast as it is answered.
pub fn load(address: SocketAddr, connections: usize, time: Duration, path: impl Fn(usize) -> String + Sync) -> f64 {
    let began = Instant::now();
    let path = &path;
    let total: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|client| {
                scope.spawn(move || {
                    let mut connection = Connection::open(address);
                    let (mut asked, mut answered) = (0, 0);
                    while began.elapsed() < time {
                        // What was deleted meanwhile is not counted.
                        answered += usize::from(connection.get(&path(client + asked * connections)).is_some());
                        asked += 1;
                    }
                    answered
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    total as f64 / began.elapsed().as_secs_f64()
}
