//! The HTTP surface through real sockets: shapes, filters, pages, errors, scopes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tarn::config::{Config, SourceKind};
use tarn::http::server::{Caps, serve};
use tarn::http::{App, Scope, router, routes};
use tarn::service::{Running, Service};
use tokio::net::TcpListener;

/// A running service on a generated log file.
struct Served {
    readers: SocketAddr,
    operators: SocketAddr,
    service: Service,
    _running: Running,
    _runtime: tokio::runtime::Runtime,
}

fn served() -> Served {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.zst");
    let mut log = zstd::Encoder::new(std::fs::File::create(&path).expect("a file"), 1).expect("an encoder");
    let faults = tarn::generate::FaultRates { poison: 0.01, replays: 0.001, ghosts: 0.01, ..Default::default() };
    let config = tarn::generate::GeneratorConfig { resources: 500, faults, ..Default::default() };
    let mut line = Vec::new();
    for record in tarn::generate::Generator::new(config).take(3_000) {
        record.write_line(&mut line);
    }
    line.extend_from_slice(b"this is no record\n");
    log.write_all(&line).expect("room");
    log.finish().expect("room");
    let mut config = Config::default();
    config.source.kind = SourceKind::Log;
    config.source.log.path = path.display().to_string();
    config.dataflow.workers = 2;
    let (service, running) = tarn::service::start(config, false).expect("it starts");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let metrics = tarn::telemetry::start_metrics().ok();
    let (readers, operators) = runtime.block_on(async {
        let app = App::new(service.clone(), metrics);
        let caps = Caps { connections_max: 100, connections_per_address_max: 100 };
        let mut addresses = Vec::new();
        for scope in [Scope::Read, Scope::Admin] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            addresses.push(listener.local_addr().expect("an address"));
            let (stop, stopped) = tokio::sync::watch::channel(false);
            // Never stopped: the runtime ends with the test.
            std::mem::forget(stop);
            tokio::spawn(serve(listener, router(Arc::clone(&app), scope), caps, stopped));
        }
        (addresses[0], addresses[1])
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    while !service.is_ready() {
        assert!(Instant::now() < deadline, "not ready in time: {:?}", service.status.get());
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(folder);
    Served { readers, operators, service, _running: running, _runtime: runtime }
}

fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: tarn\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_owned(), body.to_owned())
}

fn json(address: SocketAddr, path: &str) -> (u16, Value) {
    let (status, _, body) = get(address, path);
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

#[test]
fn the_surface() {
    let served = served();
    let at = served.readers;
    pages_show_every_resource_once(&served);
    let (status, head, _) = get(at, "/api/tarn/v1/position");
    assert_eq!(status, 200);
    for header in ["tarn-as-of", "tarn-position", "tarn-consistency-token", "tarn-source-connected: true"] {
        assert!(head.contains(header), "{header} in {head}");
    }
    let (_, position) = json(at, "/api/tarn/v1/position");
    assert_eq!(position["position"][0]["offset"], 3_000);
    let (_, quarantine) = json(at, "/api/tarn/v1/quarantine?limit=1000");
    let items = quarantine["items"].as_array().expect("a list");
    assert!(items.len() > 5 && items.iter().any(|item| item["reason"] == "not_a_log_line"), "{quarantine}");
    let id = items[0]["id"].as_str().expect("an id");
    assert_eq!(json(at, &format!("/api/tarn/v1/quarantine/{id}")).0, 404, "the bytes are for operators");
    let (status, entry) = json(served.operators, &format!("/api/tarn/v1/quarantine/{id}"));
    assert!(status == 200 && entry["value"]["base64"].is_string(), "{entry}");
    let (_, ignored) = json(at, "/api/tarn/v1/ignored");
    assert!(ignored["items"].as_array().is_some_and(|items| items.iter().all(|item| item["reason"].is_string())));
    assert_eq!(json(at, "/livez").1["status"], "OK");
    assert_eq!(json(at, "/readyz").0, 200);
    assert_eq!(json(at, "/metrics").0, 404);
    assert!(get(served.operators, "/metrics").2.contains("tarn_records_total"));
    assert_eq!(json(at, "/api/tarn/v1/status").1["sourceState"]["phase"], "ended");
    errors_say_what_is_allowed(at);
    let (_, api) = json(at, "/openapi.json");
    for (route, _) in routes() {
        assert!(api["paths"].get(route.path).is_some(), "{} is described", route.path);
    }
}

fn pages_show_every_resource_once(served: &Served) {
    let census = served.service.publisher.view().census();
    for (query, expected) in [("", census.resources), ("orphaned=true&", census.orphaned)] {
        let (mut ids, mut token) = (Vec::new(), String::new());
        loop {
            let (status, page) = json(served.readers, &format!("/api/tarn/v1/resources?{query}limit=37{token}"));
            assert_eq!(status, 200, "{page}");
            let items = page["items"].as_array().expect("a list").iter();
            ids.extend(items.map(|item| item["resourceId"].as_str().expect("an id").to_owned()));
            match page["nextPageToken"].as_str() {
                Some(next) => token = format!("&pageToken={next}"),
                None => break,
            }
        }
        assert!(ids.is_sorted() && ids.len() == expected, "{} of {expected}", ids.len());
        let (status, one) = json(served.readers, &format!("/api/tarn/v1/resources/{}", ids[0]));
        assert_eq!((status, one["resourceId"].as_str()), (200, Some(ids[0].as_str())));
        assert_eq!(one.get("orphanedBy").is_some(), !query.is_empty());
        assert!(one["asOf"].is_string() && one["consistencyToken"].is_string());
    }
    let (_, clusters) =
        json(served.readers, "/api/tarn/v1/resources?resourceType=k8s_cluster&resourceType=K8S_POLICY&limit=1000");
    let types = clusters["items"].as_array().expect("a list").iter().map(|item| item["resourceType"].as_str());
    assert!(types.clone().count() > 0 && types.clone().all(|kind| matches!(kind, Some("k8s_cluster" | "k8s_policy"))));
}

fn errors_say_what_is_allowed(at: SocketAddr) {
    let cases = [
        ("/api/tarn/v1/resources?limit=0", 400, "from 1 to 1000"),
        ("/api/tarn/v1/resources?limit=1001", 400, "from 1 to 1000"),
        ("/api/tarn/v1/resources?limit=x", 400, "limit"),
        ("/api/tarn/v1/resources?limit=1&limit=2", 400, "once"),
        ("/api/tarn/v1/resources?colour=red", 400, "workspaceId"),
        ("/api/tarn/v1/resources?resourceType=", 400, "empty"),
        ("/api/tarn/v1/resources?orphaned=maybe", 400, "true or false"),
        ("/api/tarn/v1/resources?pageToken=zzzz", 400, "pageToken"),
        ("/api/tarn/v1/resources?workspaceId=%ff", 400, "UTF-8"),
        ("/api/tarn/v1/resources/nonsense", 400, "invalid UUID"),
        ("/api/tarn/v1/resources/019ba0c4-5f6e-7c11-9c52-ffffffffffff", 404, "resource not found"),
        ("/api/tarn/v1/nothing", 404, "openapi.json"),
    ];
    for (path, status, words) in cases {
        let (got, body) = json(at, path);
        assert_eq!((got, body["code"].as_u64()), (status, Some(u64::from(status))), "{path}");
        assert!(body["message"].as_str().is_some_and(|message| message.contains(words)), "{path}: {body}");
    }
    let long = format!("/api/tarn/v1/resources?workspaceId={}", "w".repeat(20_000));
    assert_eq!(json(at, &long).0, 400);
}
