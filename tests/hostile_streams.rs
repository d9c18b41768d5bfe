//! Silent, slow and never-reading connections and stuck change streams, all at once against the real binary: those who read
//! as they should notice next to nothing, memory stays bounded, and each that does harm is closed in time.
//!
//! `TARN_HOSTILE=8000 cargo test --release --test it hostile_streams` opens so many, as far as descriptors go, and asks for
//! a 99th percentile under 50 ms; a few hundred are opened otherwise, and the bound is one for a busy machine.

use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::checker::client::Connection;
use crate::command_line::{ANY_PORTS, Process, addresses, tarn};
use crate::durable::drain;
use crate::property::number;
use crate::served::{eventually, get};
use crate::views_served::queries;

/// Each is closed so long after it began to do harm: a stream is stuck once the connection holds no more by itself.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);
/// Which it does not before this.
const FILLED_WITHIN: Duration = Duration::from_secs(30);
/// More than it took before.
const MEMORY_BYTES_MAX: u64 = 300 * 1024 * 1024;
/// Requests that are sent at once by those who read no answer.
const PIPELINED: usize = 500;
/// Rows so long that a stream is soon stuck, and so few that its snapshot is shared.
const WIDE: &str = "SELECT resource_id, data AS a, data AS b, data AS c, data AS d, data AS e FROM resources";

/// What one of them does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// Connects, and no more.
    Silent,
    /// Sends its head byte by byte.
    Slow,
    /// Asks for pages, and reads none.
    NeverReading,
    /// Follows changes, and reads none.
    StuckOnRows,
    StuckOnResources,
}

const ALL: [Harm; 5] = [Harm::Silent, Harm::Slow, Harm::NeverReading, Harm::StuckOnRows, Harm::StuckOnResources];

/// Opens one that holds little by itself, so that it is soon stuck.
async fn open(at: SocketAddr, harm: Harm) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4_096)?;
    let mut stream = socket.connect(at).await?;
    let path = match harm {
        Harm::Silent | Harm::Slow => return Ok(stream),
        Harm::NeverReading => "/api/tarn/v1/resources?limit=200",
        Harm::StuckOnRows => "/api/tarn/v1/views/wide/changes",
        Harm::StuckOnResources => "/api/tarn/v1/resources/changes?repeats=true",
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: tarn\r\n\r\n");
    let count = if harm == Harm::NeverReading { PIPELINED } else { 1 };
    // As much of it as is taken at once.
    drop(tokio::time::timeout(Duration::from_millis(200), stream.write_all(request.repeat(count).as_bytes())).await);
    Ok(stream)
}

/// Opens one and keeps it, whatever happens to it.
async fn harm(at: SocketAddr, harm: Harm) {
    let Ok(mut stream) = open(at, harm).await else { return };
    if harm == Harm::Slow {
        for byte in b"GET /livez HTTP/1.1\r\nHost: tarn\r\nx-and-so-on: ".iter().chain(std::iter::repeat(&b'x')) {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    std::future::pending::<()>().await;
}

/// A number that Linux tells of a process, in KiB.
fn memory_bytes(process: &Process, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.0.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("Linux tells");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// How many sockets a process has open.
fn sockets(process: &Process) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", process.0.id())).expect("it runs");
    let is_socket = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    open.flatten().filter(is_socket).count()
}

/// What an ordinary client sees: how long each look-up took, and how many were not answered well.
fn look_up(at: SocketAddr, ids: &[String], is_over: &AtomicBool, seen: &Mutex<(Vec<Duration>, usize)>) {
    let mut connection = None;
    for id in ids.iter().cycle().take_while(|_| !is_over.load(Ordering::Relaxed)) {
        let began = Instant::now();
        let asked = connection
            .take()
            .map_or_else(|| Connection::open(at), Ok)
            .and_then(|mut open: Connection| Ok((open.ask("GET", &format!("/api/tarn/v1/resources/{id}"), "")?, open)));
        let mut seen = seen.lock().expect("no panic");
        match asked {
            Ok((answer, open)) if answer.status < 500 => {
                connection = Some(open);
                seen.0.push(began.elapsed());
            }
            _ => seen.1 += 1,
        }
        drop(seen);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Lets this process have as many descriptors as it may; how many that are.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // What it is then counts.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.map_or(1_000_000, |limit| limit as usize)
}

fn serve(connections: usize, queries: &std::path::Path) -> Process {
    let mut command = tarn(&["serve"]);
    command.envs(ANY_PORTS).env("TARN_SOURCE__KIND", "generator").env("TARN_VIEWS__DIRECTORY", queries);
    command.env("TARN_SOURCE__GENERATOR__RESOURCES", "200").env("TARN_SOURCE__GENERATOR__PRELOAD", "1000");
    command.env("TARN_SOURCE__GENERATOR__EVENTS_PER_SECOND", "150");
    let connections = (connections + 100).to_string();
    for name in ["HTTP__CONNECTIONS_MAX", "HTTP__CONNECTIONS_PER_ADDRESS_MAX"] {
        command.env(format!("TARN_{name}"), &connections);
    }
    command.env("TARN_HTTP__DRAIN_MS", "0");
    Process::start(&mut command)
}

#[test]
fn who_reads_as_he_should_notices_nothing_of_those_who_do_not() {
    let wanted = number("TARN_HOSTILE");
    let count = (wanted.unwrap_or(400) as usize).min(descriptors().saturating_sub(600));
    let late = Duration::from_millis(if wanted.is_some() { 50 } else { 1_500 });
    let folder = queries(&[("wide", WIDE)]);
    let mut process = serve(count, folder.path());
    let (at, operators, log) = addresses(&mut process);
    drain(log);
    eventually("ready", || get(at, "/readyz").status == 200 && get(at, "/api/tarn/v1/views/wide").status == 200);
    let listed = get(at, "/api/tarn/v1/resources?limit=500").json();
    let ids: Vec<String> = listed["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["resourceId"].as_str().expect("an id").to_owned())
        .collect();
    let (is_over, seen) = (AtomicBool::new(false), Mutex::default());
    let (mut most, mut closed) = (0, None);
    let base_bytes = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| look_up(at, &ids, &is_over, &seen));
        }
        std::thread::sleep(Duration::from_secs(2));
        let (base_bytes, base_sockets) = (memory_bytes(&process, "VmRSS"), sockets(&process));
        println!("before: p99 {:?}, {} MiB, {base_sockets} sockets", percentile(&seen), base_bytes >> 20);
        *seen.lock().expect("no panic") = (Vec::new(), 0);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        for kind in ALL.iter().cycle().take(count) {
            runtime.spawn(harm(at, *kind));
        }
        let began = Instant::now();
        while closed.is_none() && began.elapsed() < (CLOSED_WITHIN + FILLED_WITHIN) * 2 {
            let open = sockets(&process).saturating_sub(base_sockets);
            most = most.max(open);
            // A client that comes again may just be at it.
            closed = (began.elapsed() > Duration::from_secs(5) && open <= 2).then(|| began.elapsed());
            std::thread::sleep(Duration::from_millis(100));
        }
        is_over.store(true, Ordering::Relaxed);
        base_bytes
    });
    let grown = memory_bytes(&process, "VmHWM").saturating_sub(base_bytes);
    let metrics = get(operators, "/metrics").body;
    let of_http: Vec<_> = metrics.lines().filter(|line| line.starts_with("tarn_http_requests_shed")).collect();
    let (p99, (taken, failed)) = (percentile(&seen), {
        let seen = seen.lock().expect("no panic");
        (seen.0.len(), seen.1)
    });
    println!(
        "{count}: at most {most} open, closed after {closed:?}; {taken} look-ups, {failed} failed, p99 {p99:?}; {} MiB more; {of_http:?}",
        grown >> 20
    );
    assert!(most * 10 >= count * 8, "{most} of {count} were open");
    assert!(closed.is_some_and(|closed| closed < CLOSED_WITHIN + FILLED_WITHIN), "{closed:?}");
    assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes more");
    assert!(taken > 500 && failed * 100 <= taken, "{failed} of {taken} look-ups failed");
    assert!(p99 < late, "{p99:?}");
}

fn percentile(seen: &Mutex<(Vec<Duration>, usize)>) -> Duration {
    let mut all = seen.lock().expect("no panic").0.clone();
    all.sort_unstable();
    all.get(all.len() * 99 / 100).copied().unwrap_or_default()
}
