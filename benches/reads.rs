//! Reads over HTTP while 10,000 events a second are folded into a million resources, and how soon events are visible.
//!
//! `cargo bench --bench reads`; `TARN_BENCH_RESOURCES` and `TARN_BENCH_SECONDS` change its size. Point lookups are
//! compared with a bare axum handler that answers a constant of the same size, in turns, under the same ingest.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::Value;
use support::server::{Connection, Server, load};
use support::{median, print_table, quantile, setting};
use tarn::generate::{Generator, GeneratorConfig, RESOURCES_TOPIC};

const CONNECTIONS: usize = 16;
/// The two are measured in turns, so often.
const ROUNDS: usize = 7;

fn main() {
    if std::env::var_os(BARE).is_some() {
        return bare_handler();
    }
    let resources = setting("TARN_BENCH_RESOURCES", 1_000_000);
    let seconds = Duration::from_secs(setting("TARN_BENCH_SECONDS", 5));
    let settings = [
        ("TARN_SOURCE__KIND", "generator".to_owned()),
        ("TARN_SOURCE__GENERATOR__RESOURCES", resources.to_string()),
        ("TARN_SOURCE__GENERATOR__PRELOAD", (resources * 3).to_string()),
        ("TARN_SOURCE__GENERATOR__EVENTS_PER_SECOND", "10000".to_owned()),
    ];
    let server = Server::start(&settings, Stdio::null());
    server.wait_ready();
    // Types without a workspace cannot be asked for by one.
    let found = server.resources(20_000).into_iter();
    let found: Vec<Value> = found.filter(|one| !text(one, "/workspaceId").is_empty()).collect();
    lookups(&server, &found, seconds);
    pages(&server, &found);
    drop(server);
    freshness();
}

fn text<'a>(resource: &'a Value, pointer: &str) -> &'a str {
    resource.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn path_of(resource: &Value) -> String {
    format!("/api/tarn/v1/resources/{}", text(resource, "/resourceId"))
}

fn lookups(server: &Server, found: &[Value], time: Duration) {
    let mut connection = Connection::open(server.readers);
    let answer = found.iter().find_map(|one| connection.get(&path_of(one)).map(<[u8]>::to_vec)).unwrap();
    let bytes = answer.len();
    let paths: Vec<String> = found.iter().map(path_of).collect();
    let bare = Bare::start(&answer);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(load(bare.address, CONNECTIONS, time, |_| "/constant".to_owned()));
        ours.push(load(server.readers, CONNECTIONS, time, |n| paths[(n * 7_919) % paths.len()].clone()));
    }
    let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    let row = |what: &str, rate: f64, ratio: f64| vec![what.to_owned(), format!("{rate:.0}"), format!("{ratio:.2}")];
    let rows = [
        row(&format!("bare axum handler, {bytes} bytes"), median(theirs), 1.0),
        row("point lookup", median(ours), median(ratios)),
    ];
    let title = format!("reads: point lookups, {CONNECTIONS} connections, while 10,000 events a second are ingested");
    print_table(&title, &["what", "requests/s", "ratio"], &rows);
}

/// A process of its own, as the server is, whose only handler answers a constant.
struct Bare {
    child: Child,
    address: SocketAddr,
}

impl Drop for Bare {
    fn drop(&mut self) {
        // Already gone is fine too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bare {
    fn start(answer: &[u8]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.env(BARE, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer).unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().parse().unwrap() }
    }
}

/// Set for the process that is the bare handler.
const BARE: &str = "TARN_BENCH_BARE_HANDLER";

/// Answers standard input to every request; says its address first.
fn bare_handler() {
    let mut answer = Vec::new();
    std::io::stdin().read_to_end(&mut answer).unwrap();
    let answer: &'static [u8] = answer.leak();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        let handler = get(move || async move { ([(CONTENT_TYPE, "application/json")], answer) });
        axum::serve(listener, Router::new().route("/constant", handler)).await.unwrap();
    });
}

fn pages(server: &Server, found: &[Value]) {
    let some = |n: usize| &found[(n * 7_919) % found.len()];
    type PathOf<'a> = Box<dyn Fn(usize) -> String + 'a>;
    let filters: [(&str, PathOf<'_>); 4] = [
        ("workspace", Box::new(|n| format!("workspaceId={}", text(some(n), "/workspaceId")))),
        ("type", Box::new(|n| format!("resourceType={}", text(some(n), "/resourceType")))),
        (
            "reporter key",
            Box::new(|n| {
                let part = |pointer| text(some(n), pointer);
                format!(
                    "resourceType={}&reporterType={}&reporterInstanceId={}&localResourceId={}",
                    part("/resourceType"),
                    part("/reporter/type"),
                    part("/reporter/instanceId"),
                    part("/reporter/localResourceId")
                )
            }),
        ),
        (
            "workspace and type",
            Box::new(|n| {
                format!("workspaceId={}&resourceType={}", text(some(n), "/workspaceId"), text(some(n), "/resourceType"))
            }),
        ),
    ];
    let mut rows = Vec::new();
    for (name, filter) in &filters {
        let mut connection = Connection::open(server.readers);
        let mut millis: Vec<f64> = (0..2_000)
            .map(|n| {
                let path = format!("/api/tarn/v1/resources?limit=100&{}", filter(n));
                let began = Instant::now();
                connection.get(&path);
                began.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        millis.sort_by(f64::total_cmp);
        let quantiles = [0.5, 0.99, 1.0].map(|share| format!("{:.2}", quantile(&millis, share)));
        rows.push([vec![(*name).to_owned()], quantiles.to_vec()].concat());
    }
    print_table("reads: pages of 100 under the same ingest", &["by", "p50 ms", "p99 ms", "max ms"], &rows);
}

/// How long an event takes from Kafka to the published view, at 1,000 events a second, on librdkafka's mock broker.
fn freshness() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(RESOURCES_TOPIC, 1, 1).unwrap();
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("linger.ms", "0")
        .create()
        .unwrap();
    let settings = [("TARN_SOURCE__KAFKA__BROKERS", cluster.bootstrap_servers())];
    let server = Server::start(&settings, Stdio::null());
    let mut generator = Generator::new(GeneratorConfig::default());
    let began = Instant::now();
    let mut sent = 0_u64;
    while sent < 20_000 {
        while sent < (began.elapsed().as_secs_f64() * 1_000.0) as u64 {
            let record = generator.next().unwrap();
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
                headers.insert(Header { key: name, value: value.as_deref() })
            });
            let message = BaseRecord::to(RESOURCES_TOPIC)
                .key(record.key.as_deref().unwrap_or_default())
                .payload(record.value.as_deref().unwrap_or_default())
                .headers(headers);
            producer.send(message).map_err(|(error, _)| error).unwrap();
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(server.metric("tarn_records_total") >= sent as f64, "everything was read");
    let visible = "tarn_event_visible_seconds";
    let buckets: Vec<(f64, f64)> = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.25]
        .into_iter()
        .map(|bound| {
            let name = format!("{visible}_bucket{{since=\"arrival\",le=\"{bound}\"}}");
            (bound, server.metric(&name))
        })
        .collect();
    let count = server.metric(&format!("{visible}_count{{since=\"arrival\"}}"));
    let within = |share: f64| {
        let bound = buckets.iter().find(|(_, below)| *below >= count * share);
        bound.map_or("more than 250".to_owned(), |(bound, _)| format!("at most {}", bound * 1e3))
    };
    let rows = [vec![format!("{count:.0} events"), within(0.5), within(0.99)]];
    print_table("reads: polled from Kafka to visible, 1,000 events a second", &["of", "p50 ms", "p99 ms"], &rows);
}
