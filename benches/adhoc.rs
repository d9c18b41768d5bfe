//! What a maintained view's read costs against the same text asked ad hoc of the same state.
//!
//! `cargo bench --bench adhoc`; `TARN_BENCH_RESOURCES` and `TARN_BENCH_ROUNDS` change its size. Nothing is ingested
//! meanwhile; the first page of a hundred rows is asked for by both.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};
use support::server::{Server, get, post};
use support::{median, print_table, setting};

fn main() {
    let resources = setting("TARN_BENCH_RESOURCES", 1_000_000);
    let rounds = setting("TARN_BENCH_ROUNDS", 5);
    let settings = [
        ("TARN_SOURCE__KIND", "generator".to_owned()),
        ("TARN_SOURCE__GENERATOR__RESOURCES", resources.to_string()),
        // Some are reported often and some seldom: not all are there after so many events.
        ("TARN_SOURCE__GENERATOR__PRELOAD", (resources * 4).to_string()),
        ("TARN_SOURCE__GENERATOR__EVENTS_PER_SECOND", "1".to_owned()),
        ("TARN_QUERY__TIMEOUT_MS", "60000".to_owned()),
        ("TARN_QUERY__MEMORY_BYTES_MAX", "4000000000".to_owned()),
    ];
    let server = Server::start(&settings, Stdio::null());
    server.wait_ready();
    let list = server.json("/api/tarn/v1/views");
    let names = list["items"].as_array().unwrap().iter().map(|view| view["name"].as_str().unwrap());
    let rows: Vec<Vec<String>> = names.map(|name| measured(&server, name, rounds)).collect();
    let live = server.live();
    let title = format!("adhoc: {live} live resources, the first hundred rows, median of {rounds}");
    print_table(&title, &["view", "maintained ms", "ad hoc ms", "ratio"], &rows);
}

/// Both ways to ask, in turns.
fn measured(server: &Server, name: &str, rounds: u64) -> Vec<String> {
    let path = format!("/api/tarn/v1/views/{name}?limit=100");
    let sql = server.json(&format!("/api/tarn/v1/views/{name}/explain"))["sql"].as_str().unwrap().to_owned();
    let sql = format!("SELECT * FROM ({}) LIMIT 100", sql.trim().trim_end_matches(';'));
    let question = json!({ "sql": sql }).to_string();
    let (mut maintained, mut asked, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let began = Instant::now();
        let of_view = rows(&get(server.readers, &path));
        maintained.push(began.elapsed().as_secs_f64() * 1e3);
        let began = Instant::now();
        let of_query = rows(&post(server.readers, "/api/tarn/v1/query", &question));
        asked.push(began.elapsed().as_secs_f64() * 1e3);
        assert_eq!(of_view, of_query, "{name}");
        ratios.push(asked.last().unwrap() / maintained.last().unwrap());
    }
    vec![
        name.to_owned(),
        format!("{:.2}", median(maintained)),
        format!("{:.2}", median(asked)),
        format!("{:.0}", median(ratios)),
    ]
}

/// How many rows an answer has.
fn rows(answer: &str) -> usize {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let answer: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    answer["items"].as_array().unwrap_or_else(|| panic!("{answer}")).len()
}
