//! A change stream of a view whose rows are more than a frame may hold goes on over a restart: what was taken back from a
//! snapshot is nothing that changed.

use std::fs::File;
use std::io::{BufWriter, Write};

use serde_json::json;

use crate::durable::{serve, started};
use crate::served::{eventually, get};
use crate::support::reports::report;
use crate::support::sse::Stream;
use crate::views_served::queries;

const CHANGES: &str = "/api/tarn/v1/views/hosts/changes";

#[test]
fn a_stream_of_much_goes_on_over_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, data) = (folder.path().join("log.ndjson"), folder.path().join("data"));
    let queries = queries(&[("hosts", "SELECT resource_id, ansible_host FROM host")]);
    let mut log = BufWriter::new(File::create(&path).expect("room"));
    for number in 0..60 {
        let mut line = Vec::new();
        let name = "x".repeat(50_000);
        report(number, number as usize, "host", "blue", json!({ "ansible_host": name })).write_line(&mut line);
        log.write_all(&line).expect("room");
    }
    log.flush().expect("room");
    let mut command = serve(&path.display().to_string(), &data);
    command.env("TARN_VIEWS__DIRECTORY", queries.path()).env("TARN_STREAMS__PROGRESS_INTERVAL_MS", "50");
    let (mut process, at) = started(&mut command);
    eventually("a snapshot of all", || {
        let snapshots = &get(at, "/api/tarn/v1/status").json()["snapshots"];
        get(at, "/readyz").status == 200
            && snapshots["taken"].as_u64() > Some(0)
            && snapshots["rows"].as_u64() >= Some(60)
    });
    let mut stream = Stream::open(at, CHANGES, None);
    let last = loop {
        let event = stream.event().expect("a stream");
        if let Some(id) = event.id {
            break id;
        }
    };
    process.0.kill().expect("it is there");
    process.0.wait().expect("it is ours");
    let (_process, at) = started(&mut command);
    let mut stream = Stream::open(at, CHANGES, Some(&last));
    let hello = stream.event().expect("a stream");
    assert_eq!(hello.data["resumed"], true, "{hello:?}");
    for _ in 0..3 {
        let event = stream.event().expect("a stream");
        assert_eq!(event.name, "progress", "{:.300}", event.text);
    }
}
