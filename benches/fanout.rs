//! What streams of changes cost: 1, 100 and 1,000 of one view while events come, beside none at all.
//!
//! `cargo bench --bench fanout`; `TARN_BENCH_STREAMS` (1,100,1000) says how many, `TARN_BENCH_SECONDS` how long, and
//! `TARN_BENCH_RATE` how many events come a second. Told: the CPU time of the server an epoch, and from the time of an
//! epoch, at which it began to be sealed, to when its frame had come to a client, over all of them: median and p99.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::server::Server;
use support::{print_table, setting};

/// A view whose rows all change with a report.
const VIEW: &str = "SELECT resource_id, workspace_id, updated_at FROM resources ORDER BY resource_id";
/// A stack of a thread that reads a socket.
const STACK_BYTES: usize = 128 * 1024;
/// So long after they were opened nothing is measured.
const WARM_UP: Duration = Duration::from_secs(2);

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Reads a stream until told to stop; how late each frame of changes came, ms, and how many there were.
fn listen(address: SocketAddr, is_measured: &AtomicBool, is_over: &AtomicBool) -> Vec<u64> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(b"GET /api/tarn/v1/views/fanout/changes HTTP/1.1\r\nHost: bench\r\n\r\n").unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let (mut late, mut rest) = (Vec::new(), Vec::new());
    let (name, field) = (memchr::memmem::Finder::new("event: changes"), b"\"epoch\":");
    while !is_over.load(Ordering::Relaxed) {
        let Ok(read) = stream.read(&mut buffer) else { continue };
        assert!(read > 0, "the stream has ended");
        let now = now_ms();
        rest.extend_from_slice(&buffer[..read]);
        let mut from = 0;
        while let Some(found) = name.find(&rest[from..]) {
            let at = from + found;
            let Some(epoch) = memchr::memmem::find(&rest[at..], field) else { break };
            let digits: Vec<u8> =
                rest[at + epoch + field.len()..].iter().copied().take_while(u8::is_ascii_digit).collect();
            if digits.len() < 13 || at + epoch + field.len() + digits.len() == rest.len() {
                break;
            }
            let epoch: u64 = std::str::from_utf8(&digits).unwrap().parse().unwrap();
            if is_measured.load(Ordering::Relaxed) {
                late.push(now.saturating_sub(epoch));
            }
            from = at + name.needle().len();
        }
        // What may be the beginning of a name or of an epoch stays.
        let kept = match name.find(&rest[from..]) {
            Some(at) => from + at,
            None => rest.len().saturating_sub(name.needle().len()).max(from),
        };
        rest.drain(..kept);
    }
    late
}

/// What one number of streams costs.
fn measure(folder: &std::path::Path, streams: usize, time: Duration, rate: u64) -> Vec<String> {
    let settings = [
        ("TARN_SOURCE__KIND", "generator".to_owned()),
        ("TARN_SOURCE__GENERATOR__RESOURCES", "10000".to_owned()),
        ("TARN_SOURCE__GENERATOR__PRELOAD", "10000".to_owned()),
        ("TARN_SOURCE__GENERATOR__EVENTS_PER_SECOND", rate.to_string()),
        ("TARN_VIEWS__DIRECTORY", folder.display().to_string()),
    ];
    let server = Server::start(&settings, Stdio::null());
    server.wait_ready();
    let (is_measured, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..streams)
        .map(|_| {
            let (address, measured, over) = (server.readers, Arc::clone(&is_measured), Arc::clone(&is_over));
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            thread.spawn(move || listen(address, &measured, &over)).unwrap()
        })
        .collect();
    std::thread::sleep(WARM_UP);
    let counted = || (server.cpu_time(), server.metric("tarn_epochs_sealed_total"));
    let made = || server.metric("tarn_stream_frames_made_total");
    let ((cpu_before, epochs_before), made_before) = (counted(), made());
    is_measured.store(true, Ordering::Relaxed);
    let began = Instant::now();
    std::thread::sleep(time);
    is_measured.store(false, Ordering::Relaxed);
    let ((cpu, epochs), made) = (counted(), made() - made_before);
    let took = began.elapsed();
    is_over.store(true, Ordering::Relaxed);
    let mut late: Vec<u64> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    late.sort_unstable();
    let part = |share: f64| match late.len() {
        0 => "-".to_owned(),
        count => format!("{} ms", late[((count as f64 * share) as usize).min(count - 1)]),
    };
    let (cpu, epochs) = (cpu - cpu_before, epochs - epochs_before);
    vec![
        streams.to_string(),
        format!("{:.0}", epochs / took.as_secs_f64()),
        format!("{made:.0}"),
        late.len().to_string(),
        format!("{:.0} µs", cpu.as_secs_f64() * 1e6 / epochs.max(1.0)),
        format!("{:.2}", cpu.as_secs_f64() / took.as_secs_f64()),
        part(0.5),
        part(0.99),
        format!("{} MiB", server.memory_bytes("VmRSS") / (1024 * 1024)),
    ]
}

fn main() {
    let time = Duration::from_secs(setting("TARN_BENCH_SECONDS", 10));
    let rate = setting("TARN_BENCH_RATE", 200);
    let sizes = std::env::var("TARN_BENCH_STREAMS").unwrap_or_else(|_| "0,1,100,1000".to_owned());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("fanout.sql"), VIEW).unwrap();
    let rows: Vec<Vec<String>> =
        sizes.split(',').map(|streams| measure(folder.path(), streams.trim().parse().unwrap(), time, rate)).collect();
    let title = format!("Streams of one view, {rate} events a second for {} s each", time.as_secs());
    print_table(
        &title,
        &["streams", "epochs/s", "frames made", "frames taken", "CPU an epoch", "cores", "median", "p99", "resident"],
        &rows,
    );
}
