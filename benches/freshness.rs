//! How long an event takes from the time in its id until a client can read it, at several rates, with and without views.
//!
//! `cargo bench --bench freshness`; `TARN_BENCH_RESOURCES` (100000), `TARN_BENCH_SECONDS` (20, of each line) and
//! `TARN_BENCH_RATE` (one rate instead of 1,000, 10,000 and 50,000 events a second) change it. The server makes its events
//! itself, by the clock of this machine. The client asks for the position until it is of another epoch, and then for
//! resources that change often: one whose last event is another one than before has become readable when that epoch did.
//! Of several events of a resource within an epoch only the last is seen, so resources are watched that change seldom
//! enough. Beside it stands what the server counts of all events.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::collections::HashMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::server::{Connection, Server};
use support::{print_table, quantile, setting};
use tarn::clock::now_ms;
use tarn::model::EventId;

/// So many resources are watched: what they cost must not be what is measured.
const WATCHED: usize = 40;
/// Between two looks at the position.
const PAUSE: Duration = Duration::from_micros(300);

fn main() {
    let resources = setting("TARN_BENCH_RESOURCES", 100_000);
    let time = Duration::from_secs(setting("TARN_BENCH_SECONDS", 20));
    let rates = match setting("TARN_BENCH_RATE", 0) {
        0 => vec![1_000, 10_000, 50_000],
        rate => vec![rate],
    };
    let mut rows = Vec::new();
    for (views, folder) in [("none", ""), ("shipped", "queries")] {
        for rate in &rates {
            rows.push(measure(resources, *rate, time, views, folder));
        }
    }
    let head = [
        "events/s asked",
        "events/s",
        "views",
        "epochs/s",
        "seen",
        "p50 ms",
        "p99 ms",
        "max ms",
        "all, p50 ms",
        "all, p99 ms",
        "in the slowest view, p99 ms",
    ];
    let title = format!("freshness: from the time in an event's id to its being readable, {resources} resources");
    print_table(&title, &head, &rows);
}

/// One line of the table.
fn measure(resources: u64, rate: u64, time: Duration, views: &str, folder: &str) -> Vec<String> {
    let settings = [
        ("TARN_SOURCE__KIND", "generator".to_owned()),
        ("TARN_SOURCE__GENERATOR__RESOURCES", resources.to_string()),
        ("TARN_SOURCE__GENERATOR__PRELOAD", (resources * 3).to_string()),
        ("TARN_SOURCE__GENERATOR__EVENTS_PER_SECOND", rate.to_string()),
        ("TARN_VIEWS__DIRECTORY", folder.to_owned()),
    ];
    let server = Server::start(&settings, Stdio::null());
    server.wait_ready();
    let mut watched = watched(&server, rate);
    let (before, events_before) = (Histograms::of(&server), server.metric("tarn_records_total"));
    let epochs_before = server.metric("tarn_epochs_sealed_total");
    let began = Instant::now();
    let mut millis = watch(&server, &mut watched, time);
    let seconds = began.elapsed().as_secs_f64();
    let after = Histograms::of(&server);
    millis.sort_by(f64::total_cmp);
    let of_seen = |share: f64| match millis.is_empty() {
        true => "-".to_owned(),
        false => format!("{:.1}", quantile(&millis, share)),
    };
    let per_second = |metric: &str, before: f64| format!("{:.0}", (server.metric(metric) - before) / seconds);
    let all = |share: f64| after.since(&before, "tarn_event_visible_seconds", share);
    vec![
        rate.to_string(),
        per_second("tarn_records_total", events_before),
        views.to_owned(),
        per_second("tarn_epochs_sealed_total", epochs_before),
        millis.len().to_string(),
        of_seen(0.5),
        of_seen(0.99),
        of_seen(1.0),
        all(0.5),
        all(0.99),
        after.since(&before, "tarn_view_event_visible_seconds", 0.99),
    ]
}

/// Resources that change, each with the id of its last event: about one in a second and seldom more often.
fn watched(server: &Server, rate: u64) -> Vec<(String, String)> {
    let last = |one: &Value| one.pointer("/lastEvent/id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let id = |one: &Value| one["resourceId"].as_str().unwrap().to_owned();
    let before: HashMap<String, String> = server.resources(20_000).iter().map(|one| (id(one), last(one))).collect();
    std::thread::sleep(Duration::from_secs(2));
    let now = server.resources(20_000);
    let changed: Vec<&Value> =
        now.iter().filter(|one| before.get(&id(one)).is_some_and(|before| *before != last(one))).collect();
    assert!(!changed.is_empty(), "at {rate} events a second nothing changes");
    let apart = changed.len().div_ceil(WATCHED);
    changed.iter().step_by(apart).map(|one| (id(one), last(one))).collect()
}

/// Milliseconds from the time in an event's id to its being readable, of the events that are seen within `time`.
fn watch(server: &Server, watched: &mut [(String, String)], time: Duration) -> Vec<f64> {
    let mut connection = Connection::open(server.readers);
    let mut json = move |path: &str| -> Option<Value> { Some(serde_json::from_slice(connection.get(path)?).unwrap()) };
    let (began, mut millis, mut known, mut is_first) = (Instant::now(), Vec::new(), 0, true);
    while began.elapsed() < time {
        let epoch = json("/api/tarn/v1/position").unwrap()["epoch"].as_u64().unwrap();
        if epoch == known {
            std::thread::sleep(PAUSE);
            continue;
        }
        let shown_ms = now_ms();
        for (id, last) in &mut *watched {
            // What was deleted comes again, or not.
            let Some(answer) = json(&format!("/api/tarn/v1/resources/{id}")) else { continue };
            let event = answer.pointer("/lastEvent/id").and_then(Value::as_str).unwrap_or_default();
            if event == last.as_str() {
                continue;
            }
            event.clone_into(last);
            // A later epoch was shown meanwhile.
            let seen_ms = if answer["epoch"].as_u64() == Some(epoch) { shown_ms } else { now_ms() };
            let happened_ms = EventId::of_text(event).0.time_ms().unwrap();
            if !is_first {
                millis.push(seen_ms.saturating_sub(happened_ms) as f64);
            }
        }
        (known, is_first) = (epoch, false);
    }
    millis
}

/// The counts of histograms since the beginning, by name, labels and bound; only those by the time in the id.
struct Histograms(HashMap<(String, String), Vec<(f64, f64)>>);

impl Histograms {
    fn of(server: &Server) -> Self {
        let metrics = support::server::get(server.operators, "/metrics");
        let mut found: HashMap<(String, String), Vec<(f64, f64)>> = HashMap::new();
        for line in metrics.lines().filter(|line| line.contains("since=\"id\",le=")) {
            let (series, count) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once("_bucket{").unwrap();
            let (labels, bound) = labels.trim_end_matches("\"}").split_once("le=\"").unwrap();
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            found.entry((name.to_owned(), labels.to_owned())).or_default().push((bound, count.parse().unwrap()));
        }
        Self(found)
    }

    /// Within which bound this share of what was counted since lies: the greatest of all series of a name.
    fn since(&self, before: &Self, name: &str, share: f64) -> String {
        let bounds = self.0.iter().filter(|((known, _), _)| known == name).map(|(series, counts)| {
            let earlier = |place: usize| before.0.get(series).map_or(0.0, |counts| counts[place].1);
            let new: Vec<f64> = counts.iter().enumerate().map(|(place, (_, count))| count - earlier(place)).collect();
            let all = new.last().copied().unwrap_or(0.0);
            let place = new.iter().position(|within| *within >= all * share).unwrap();
            counts[place].0 * 1e3
        });
        bounds.max_by(f64::total_cmp).map_or("-".to_owned(), |bound| format!("at most {bound}"))
    }
}
