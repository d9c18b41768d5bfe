//! Views that come, change, break and go while the service runs: by watching the folder and by asking, each together with
//! those that read it; what many of them leave behind; and that one with minutes of work goes at once.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tarn::generate::Generated;

use crate::adhoc::ask;
use crate::command_line::{ANY_PORTS, Process, addresses, tarn};
use crate::durable::drain;
use crate::served::{Served, eventually, exchange, get, hosts, parse};
use crate::support::reports::report;
use crate::views_served::{is_as_described, queries, with_views, write};

/// `POST path` without a body.
pub fn post(address: SocketAddr, path: &str) -> (u16, Value) {
    let request = format!("POST {path} HTTP/1.1\r\nHost: tarn\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let text = exchange(address, request.as_bytes());
    let answer = parse(&text).unwrap_or_else(|| panic!("{path} is answered with {text:?}"));
    (answer.status, answer.json())
}

/// Reads the folder of queries again.
pub const RELOAD: &str = "/api/tarn/v1/views/reload";

/// A view of a constant, and one that reads it: whoever sees both sees one of the other.
fn constant(number: usize) -> String {
    format!("SELECT {number} AS number, count(*) AS hosts FROM host")
}

/// The numbers of both views, as one answer set tells them.
fn numbers(at: SocketAddr) -> Option<(u64, u64)> {
    let sql = json!({"sql": "SELECT first.number AS one, second.number AS other FROM first, second"}).to_string();
    let request = format!(
        "POST /api/tarn/v1/query HTTP/1.1\r\nHost: tarn\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{sql}",
        sql.len()
    );
    let answer = parse(&exchange(at, request.as_bytes())).expect("an answer").json();
    let row = answer["items"].get(0)?;
    Some((row["one"].as_u64()?, row["other"].as_u64()?))
}

#[test]
fn a_view_comes_changes_breaks_and_goes_by_asking() {
    let folder = queries(&[("first", &constant(1)), ("second", "SELECT number FROM first")]);
    let (served, feed) = Served::fed(with_views(folder.path()));
    let (at, operators) = (served.readers, served.operators);
    feed.send(report(0, 1, "host", "blue", json!({}))).expect("fed");
    eventually("views", || numbers(at) == Some((1, 1)));
    assert_eq!(post(at, RELOAD).0, 405, "it is for operators; here there could be a view of this name to read");

    let (status, reloaded) = post(operators, RELOAD);
    assert_eq!(status, 200);
    assert_eq!((&reloaded["made"], &reloaded["removed"], &reloaded["refused"]), (&json!([]), &json!([]), &json!([])));
    // A comment is no change of what it means, but of what is told of it.
    write(folder.path(), "first", &format!("-- The first.\n{}", constant(1)));
    assert_eq!(post(operators, RELOAD).1["made"], json!([]));
    eventually("its description", || get(at, "/api/tarn/v1/views").json()["items"][0]["description"] == "The first.");

    write(folder.path(), "third", "SELECT 3 AS number");
    write(folder.path(), "first", &constant(2));
    let (_, reloaded) = post(operators, RELOAD);
    is_as_described(operators, "ViewsReloaded", &reloaded);
    assert_eq!(reloaded["made"], json!(["first", "second", "third"]), "with what reads it");
    eventually("both", || numbers(at) == Some((2, 2)));
    eventually("the third", || get(at, "/api/tarn/v1/views/third").status == 200);

    // What is refused goes on as it was, and says so; what is new and refused says why it is not there.
    write(folder.path(), "first", "SELECT number FROM nowhere");
    write(folder.path(), "fourth", "SELECT * FROM host ORDER BY random()");
    let (_, reloaded) = post(operators, RELOAD);
    let refused = reloaded["refused"].as_array().expect("a list");
    assert_eq!(refused.iter().map(|one| &one["view"]).collect::<Vec<_>>(), ["first", "fourth"]);
    assert!(refused[0]["problem"].as_str().is_some_and(|why| why.contains("first.sql:1:20: ")), "{refused:?}");
    assert_eq!(numbers(at), Some((2, 2)));
    let list = get(at, "/api/tarn/v1/views").json();
    let health: Vec<_> = list["items"].as_array().expect("a list").iter().map(|view| view["health"].clone()).collect();
    assert_eq!(health, ["outdated", "refused", "healthy", "healthy"]);
    let fourth = get(at, "/api/tarn/v1/views/fourth");
    assert!(fourth.status == 422 && fourth.body.contains("fourth.sql:1:"), "{}", fourth.body);

    fs::remove_file(folder.path().join("third.sql")).expect("it is there");
    fs::remove_file(folder.path().join("fourth.sql")).expect("it is there");
    write(folder.path(), "first", &constant(5));
    assert_eq!(post(operators, RELOAD).1["removed"], json!(["third"]));
    eventually("both", || numbers(at) == Some((5, 5)));
    eventually("it is gone", || get(at, "/api/tarn/v1/views/third").status == 404);
    fs::remove_dir_all(folder.path()).expect("it is ours");
    assert_eq!(post(operators, RELOAD).0, 422, "no folder is not an empty one");
    assert_eq!(numbers(at), Some((5, 5)));
}

#[test]
fn a_change_of_a_file_is_seen_and_swapped_in_one_step() {
    let folder = queries(&[("first", &constant(1)), ("second", "SELECT number FROM first")]);
    let mut setup = with_views(folder.path());
    setup.config.views.watch_interval_ms = 10;
    let (served, feed) = Served::fed(setup);
    let at = served.readers;
    let hosts: Vec<Generated> = hosts(200);
    let mut sent = hosts.into_iter();
    eventually("views", || numbers(at) == Some((1, 1)));
    for number in 2..7 {
        write(folder.path(), "first", &constant(number));
        eventually("the change", || {
            if let Some(host) = sent.next() {
                feed.send(host).expect("fed");
            }
            // Never one of the old and one of the new.
            let (one, other) = numbers(at).expect("they are there all the time");
            assert_eq!(one, other);
            one == number as u64
        });
    }
}

/// Resident memory of a process.
fn resident_bytes(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.0.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// How much a process may grow over so many reloads; what leaks is a view of thousands of rows each time.
const GROWTH_BYTES_MAX: u64 = 24 * 1024 * 1024;

#[test]
fn reloads_leave_no_memory_behind() {
    let reloads: usize = std::env::var("TARN_RELOADS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let text = |number: usize| {
        format!(
            "SELECT host.resource_id, host.workspace_id, other.hosts, {number} AS number FROM host JOIN \
             (SELECT workspace_id, count(*) AS hosts FROM host GROUP BY workspace_id) AS other \
             ON host.workspace_id = other.workspace_id"
        )
    };
    let folder = queries(&[("wide", &text(0)), ("over", "SELECT number, count(*) AS rows FROM wide GROUP BY number")]);
    let mut command = tarn(&["demo", "--resources", "3000", "--rate", "200"]);
    command.envs(ANY_PORTS).env("TARN_VIEWS__DIRECTORY", folder.path()).env("TARN_VIEWS__WATCH_INTERVAL_MS", "0");
    let mut process = Process::start(&mut command);
    let (readers, operators, log) = addresses(&mut process);
    drain(log);
    let shows = |number: usize| {
        let rows = get(readers, "/api/tarn/v1/views/over").json();
        rows["items"][0]["number"] == number && rows["items"].as_array().map(Vec::len) == Some(1)
    };
    eventually("views", || shows(0));
    let mut before = 0;
    // The first ones make the room that the others use.
    let warm = reloads / 3;
    for number in 1..=reloads {
        write(folder.path(), "wide", &text(number));
        assert_eq!(post(operators, RELOAD).0, 200);
        eventually("the change", || shows(number));
        if number == warm {
            before = settled(&process);
        }
    }
    let after = settled(&process);
    eprintln!("{before} bytes after {warm} reloads, {after} after {reloads}");
    assert!(after < before + GROWTH_BYTES_MAX, "{before} bytes after {warm} reloads, {after} after {reloads}");
}

/// What a process takes when it has given back what it does not need; that takes a moment.
fn settled(process: &Process) -> u64 {
    let mut least = u64::MAX;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        least = least.min(resident_bytes(process));
        std::thread::sleep(Duration::from_millis(50));
    }
    least
}

/// All pairs of resources, of which none is a row: hundreds of millions to look at.
const SKEWED: &str = "SELECT a.resource_id FROM resources AS a JOIN resources AS b \
                      ON length(a.resource_id) = length(b.resource_id) AND a.resource_id || b.resource_id = 'none'";

/// How much of a processor a process takes.
fn load(process: &Process) -> f64 {
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.0.id())).expect("it runs");
        let after_name = stat.rsplit(") ").next().expect("a name").to_owned();
        let fields: Vec<u64> = after_name.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
        (fields[11] + fields[12]) as f64
    };
    let (before, began) = (ticks(), Instant::now());
    std::thread::sleep(Duration::from_millis(500));
    // Linux counts hundredths of a second.
    (ticks() - before) / 100.0 / began.elapsed().as_secs_f64()
}

#[test]
fn a_join_with_minutes_of_work_goes_at_once_and_holds_up_no_stop() {
    let folder = queries(&[("counted", "SELECT count(*) AS resources FROM resources")]);
    let mut command = tarn(&["demo", "--resources", "20000", "--rate", "5"]);
    command.envs(ANY_PORTS).env("TARN_VIEWS__DIRECTORY", folder.path()).env("TARN_VIEWS__WATCH_INTERVAL_MS", "0");
    command.env("TARN_HTTP__DRAIN_MS", "0").env("TARN_DATAFLOW__WORKERS", "2");
    let mut process = Process::start(&mut command);
    let (readers, operators, log) = addresses(&mut process);
    drain(log);
    eventually("ready", || get(readers, "/readyz").status == 200);
    eventually("nothing to do", || load(&process) < 0.3);
    let begin = || {
        write(folder.path(), "skewed", SKEWED);
        assert_eq!(post(operators, RELOAD).1["made"], json!(["skewed"]));
        // How much of a processor it gets is a matter of what else the machine does.
        eventually("it is at work", || load(&process) > 0.1);
        // Until there is much of it.
        std::thread::sleep(Duration::from_secs(2));
        let views = get(readers, "/api/tarn/v1/views").json();
        let views = views["items"].as_array().expect("a list");
        assert!(views.iter().any(|view| view["name"] == "skewed" && view["health"] == "hydrating"), "{views:?}");
        // Neither its rows nor a query that names it are there yet, which is no fault of who asks.
        let told = get(readers, "/api/tarn/v1/views/skewed");
        let asked = ask(readers, "SELECT count(*) FROM skewed");
        assert_eq!((told.status, asked.status), (503, 503), "{} {}", told.body, asked.body);
    };
    begin();
    fs::remove_file(folder.path().join("skewed.sql")).expect("it is there");
    let began = Instant::now();
    assert_eq!(post(operators, RELOAD).1["removed"], json!(["skewed"]));
    eventually("it is let go", || load(&process) < 0.3);
    eprintln!("let go within {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    begin();
    let began = Instant::now();
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
    eprintln!("stopped within {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
