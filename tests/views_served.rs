//! Views over HTTP: what there is, pages of rows in every form, rows that cannot be evaluated, explanations; all of it as
//! `/openapi.json` says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::Sender;

use datafusion::arrow::ipc::reader::StreamReader;
use serde_json::{Value, json};
use tarn::generate::Generated;

use crate::http::conforms;
use crate::served::{Answer, Served, Setup, eventually, exchange_bytes, get, parse};
use crate::support::reports::{delete, id, report};
use crate::views_changing::{RELOAD, post};

/// Everything that stands in a workspace, as often as it is there; not sorted by what is asked for.
const KINDS: &str = "-- Types by workspace.\nSELECT workspace_id, resource_type FROM resources ORDER BY workspace_id";
/// A view over a view.
const COUNTS: &str = "SELECT workspace_id, count(*) AS kinds FROM kinds GROUP BY workspace_id ORDER BY workspace_id";
/// A property that can have a wrong type.
const HOSTS: &str = "SELECT resource_id, ansible_host FROM host ORDER BY resource_id";

/// A folder of queries.
pub fn queries(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        write(folder.path(), name, text);
    }
    folder
}

/// Writes a query as an editor would: at once.
pub fn write(folder: &Path, name: &str, text: &str) {
    let (draft, path) = (folder.join(format!("{name}.draft")), folder.join(format!("{name}.sql")));
    fs::write(&draft, text).expect("room");
    fs::rename(draft, path).expect("one folder");
}

/// A service with the views of a folder.
pub fn with_views(folder: &Path) -> Setup {
    let mut setup = Setup::default();
    setup.config.views.directory = folder.display().to_string();
    setup.config.views.watch_interval_ms = 0;
    setup.config.ingest.idle_seal_interval_ms = 20;
    setup
}

/// `GET path` with an `Accept` header.
pub fn get_as(address: SocketAddr, path: &str, accept: &str) -> (Answer, Vec<u8>) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: tarn\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    let bytes = exchange_bytes(address, request.as_bytes());
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let answer = parse(&String::from_utf8_lossy(&bytes[..end])).expect("an answer");
    (answer, bytes[end..].to_vec())
}

/// Whether an answer is what the API's description says of it.
pub fn is_as_described(at: SocketAddr, schema: &str, answer: &Value) {
    let api = get(at, "/openapi.json").json();
    let described = &api["components"]["schemas"][schema];
    assert!(described.is_object(), "{schema} is described");
    let mut known = BTreeSet::new();
    conforms(&api, described, answer, &mut known).unwrap_or_else(|what| panic!("{schema}: {what}: {answer}"));
    let unknown: Vec<_> = answer.as_object().into_iter().flatten().filter(|(name, _)| !known.contains(*name)).collect();
    assert!(unknown.is_empty(), "{schema}: {unknown:?} are not described");
}

/// Waits until a view has so many rows.
fn has_rows(at: SocketAddr, path: &str, count: usize) {
    eventually("all rows", || get(at, path).json()["items"].as_array().is_some_and(|rows| rows.len() == count));
}

fn rows(at: SocketAddr, path: &str) -> Vec<Value> {
    let answer = get(at, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()["items"].as_array().expect("a list").clone()
}

/// All rows, page by page.
fn paged(at: SocketAddr, path: &str) -> Vec<Value> {
    paged_after(at, path, String::new())
}

/// All rows behind a page, of which this is the token as a parameter.
fn paged_after(at: SocketAddr, path: &str, mut token: String) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let answer = get(at, &format!("{path}{token}"));
        let page = answer.json();
        all.extend(page["items"].as_array().unwrap_or_else(|| panic!("{path}{token}: {}", answer.body)).clone());
        match page["nextPageToken"].as_str() {
            Some(next) => token = format!("&pageToken={next}"),
            None => return all,
        }
    }
}

/// Eleven resources in three workspaces: several of a type in one, so that rows are equal.
fn fill(feed: &Sender<Generated>) -> Vec<(String, String)> {
    let mut expected = Vec::new();
    for number in 0..11 {
        let workspace = ["blue", "green", "red"][number % 3];
        let kind = ["host", "host", "k8s_policy", "service"][number / 3];
        feed.send(report(number as i64, number, kind, workspace, json!({"severity": "LOW"}))).expect("fed");
        expected.push((workspace.to_owned(), kind.to_owned()));
    }
    expected.sort();
    expected
}

fn pairs(rows: &[Value]) -> Vec<(String, String)> {
    let text = |row: &Value, name: &str| row[name].as_str().expect("a text").to_owned();
    rows.iter().map(|row| (text(row, "workspace_id"), text(row, "resource_type"))).collect()
}

#[test]
fn rows_are_paged_filtered_and_ordered() {
    let folder = queries(&[("kinds", KINDS), ("counts", COUNTS)]);
    let (served, feed) = Served::fed(with_views(folder.path()));
    let at = served.readers;
    let expected = fill(&feed);
    let path = "/api/tarn/v1/views/kinds";
    has_rows(at, path, expected.len());

    assert_eq!(pairs(&rows(at, path)), expected);
    for limit in 1..=expected.len() + 1 {
        assert_eq!(pairs(&paged(at, &format!("{path}?limit={limit}"))), expected, "pages of {limit}");
    }
    let mut reordered = expected.clone();
    reordered.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    for limit in [1, 2, 4, 100] {
        let path = format!("{path}?orderBy=-resource_type&limit={limit}");
        assert_eq!(pairs(&paged(at, &path)), reordered, "pages of {limit} in another order");
    }
    let of = |keep: &dyn Fn(&(String, String)) -> bool| -> Vec<_> {
        expected.iter().filter(|row| keep(row)).cloned().collect()
    };
    let cases = [
        // A seek, two of them, one with a rest that is looked at, and a look at everything.
        ("workspace_id=blue", of(&|row| row.0 == "blue")),
        ("workspace_id=red&workspace_id=blue", of(&|row| row.0 != "green")),
        ("workspace_id=blue&resource_type=host", of(&|row| row.0 == "blue" && row.1 == "host")),
        ("resource_type=service&resource_type=k8s_policy", of(&|row| row.1 != "host")),
        ("workspace_id=violet", Vec::new()),
    ];
    for (filter, expected) in cases {
        for limit in [1, 100] {
            assert_eq!(pairs(&paged(at, &format!("{path}?{filter}&limit={limit}"))), expected, "{filter}");
        }
    }
    let page = get(at, &format!("{path}?limit=1")).json();
    is_as_described(at, "RowList", &page);
    let token = page["nextPageToken"].as_str().expect("there are more");
    for (query, words) in [
        (format!("pageToken={token}&workspace_id=blue"), "pageToken"),
        ("colour=red".to_owned(), "there is no column `colour`; the columns are workspace_id, resource_type"),
        ("orderBy=-colour".to_owned(), "colour"),
        ("orderBy=".to_owned(), "orderBy"),
        ("limit=0".to_owned(), "limit"),
        ("pageToken=x".to_owned(), "pageToken"),
    ] {
        let answer = get(at, &format!("{path}?{query}"));
        assert!(answer.status == 400 && answer.body.contains(words), "{query}: {}", answer.body);
    }
    let wrong = get(at, "/api/tarn/v1/views/counts?kinds=many");
    assert!(wrong.status == 400 && wrong.body.contains("`many` is no value of the column `kinds`"), "{}", wrong.body);
    assert_eq!(rows(at, "/api/tarn/v1/views/counts?kinds=4").len(), 2);
}

#[test]
fn pages_go_on_whatever_comes_and_goes() {
    let folder = queries(&[("kinds", KINDS)]);
    let (served, feed) = Served::fed(with_views(folder.path()));
    let at = served.readers;
    let expected = fill(&feed);
    let path = "/api/tarn/v1/views/kinds";
    has_rows(at, path, expected.len());
    for order in ["", "&orderBy=workspace_id,resource_type"] {
        // Two of the rows (blue, host), of which there are two: the page ends on the first of them.
        let first = get(at, &format!("{path}?limit=1{order}")).json();
        assert_eq!(pairs(first["items"].as_array().expect("a list")), expected[..1]);
        let token = first["nextPageToken"].as_str().expect("there are more").to_owned();
        let offset = if order.is_empty() { 100 } else { 200 };
        // The other one goes, and one that stands before the token comes.
        feed.send(delete(offset, 0)).expect("fed");
        feed.send(report(offset + 1, 50, "app", "amber", json!({}))).expect("fed");
        eventually("both", || {
            let now = pairs(&rows(at, path));
            now.iter().any(|row| row.0 == "amber") && now.iter().filter(|row| **row == expected[0]).count() == 1
        });
        let rest = pairs(&paged_after(at, &format!("{path}?limit=3{order}"), format!("&pageToken={token}")));
        assert_eq!(rest, expected[2..], "{order}");
        feed.send(delete(offset + 2, 50)).expect("fed");
        feed.send(report(offset + 3, 0, "host", "blue", json!({}))).expect("fed");
        eventually("as before", || pairs(&rows(at, path)) == expected);
    }
}

#[test]
fn rows_come_in_the_form_that_is_asked_for() {
    let folder = queries(&[("kinds", KINDS)]);
    let (served, feed) = Served::fed(with_views(folder.path()));
    let at = served.readers;
    let expected = fill(&feed);
    let path = "/api/tarn/v1/views/kinds?limit=10";
    has_rows(at, "/api/tarn/v1/views/kinds", expected.len());

    let (json, body) = get_as(at, path, "application/json");
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert_eq!(json.header("vary"), Some("accept, accept-encoding"));
    let page: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(pairs(page["items"].as_array().expect("a list")), expected[..10]);

    let (lines, body) = get_as(at, path, "application/x-ndjson");
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let body = String::from_utf8(body).expect("UTF-8");
    let rows: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(pairs(&rows), expected[..10]);

    let (csv, body) = get_as(at, path, "text/csv");
    assert_eq!(csv.header("content-type"), Some("text/csv"));
    let in_csv = expected[..10].iter().map(|(workspace, kind)| format!("{workspace},{kind}\n"));
    assert_eq!(
        String::from_utf8(body).expect("UTF-8"),
        format!("workspace_id,resource_type\n{}", in_csv.collect::<String>())
    );

    let (arrow, body) = get_as(at, path, "application/vnd.apache.arrow.stream");
    assert_eq!(arrow.header("content-type"), Some("application/vnd.apache.arrow.stream"));
    let mut reader = StreamReader::try_new(&body[..], None).expect("Arrow");
    assert_eq!(reader.schema().field(1).name(), "resource_type");
    assert_eq!(reader.next().expect("a batch").expect("whole").num_rows(), 10);

    for answer in
        [lines.header("tarn-next-page-token"), csv.header("tarn-next-page-token"), arrow.header("tarn-next-page-token")]
    {
        let token = answer.expect("there is one more");
        assert_eq!(get(at, &format!("{path}&pageToken={token}")).json()["items"].as_array().map(Vec::len), Some(1));
    }
    let (refused, _) = get_as(at, path, "image/png");
    assert_eq!(refused.status, 406);
    for answer in [lines, csv, arrow] {
        assert!(
            answer.header("tarn-epoch").is_some() && answer.header("vary") == Some("accept, accept-encoding"),
            "{}",
            answer.head
        );
        let told = (answer.header("tarn-view-health"), answer.header("cache-control"));
        assert_eq!(told, (Some("healthy"), Some("no-cache")), "{}", answer.head);
    }
    let (other, _) = get_as(at, path, "application/json;q=0, */*");
    assert_eq!(other.header("content-type"), Some("application/x-ndjson"));
}

/// The texts are JSON of thousands of bytes, all of which begin alike, and of different lengths.
#[test]
fn long_rows_and_long_errors_are_paged() {
    let long = "SELECT ansible_host, data FROM host";
    let folder = queries(&[("long", long), ("hosts", HOSTS)]);
    let (served, feed) = Served::fed(with_views(folder.path()));
    let at = served.readers;
    for number in 0..12_usize {
        // In the second half of them the name is no text.
        let long = format!("{}{number}", "x".repeat(if number % 2 == 0 { 100 } else { 9_000 + number }));
        let host = if number < 6 { json!(long) } else { json!([long]) };
        feed.send(report(number as i64, number, "host", "blue", json!({"ansible_host": host}))).expect("fed");
    }
    for path in ["/api/tarn/v1/views/long", "/api/tarn/v1/views/hosts/errors"] {
        has_rows(at, path, 6);
        let all = rows(at, path);
        for limit in 1..8 {
            assert_eq!(paged(at, &format!("{path}?limit={limit}")), all, "{path}: pages of {limit}");
        }
    }
    let ordered = |limit| paged(at, &format!("/api/tarn/v1/views/long?orderBy=-ansible_host&limit={limit}"));
    assert_eq!(ordered(1), ordered(100));
    let page = get(at, "/api/tarn/v1/views/hosts/errors?limit=2").json();
    is_as_described(at, "FailureList", &page);
    let token = page["nextPageToken"].as_str().expect("there are more");
    let elsewhere = get(at, &format!("/api/tarn/v1/views/hosts?pageToken={token}"));
    assert!(elsewhere.status == 400 && elsewhere.body.contains("pageToken"), "{}", elsewhere.body);
}

#[test]
fn rows_that_cannot_be_evaluated_are_told_until_they_are_mended() {
    let summary = "SELECT count(*) AS hosts FROM hosts";
    let folder = queries(&[("hosts", HOSTS), ("summary", summary), ("kinds", KINDS)]);
    let (served, feed) = Served::fed(with_views(folder.path()));
    let at = served.readers;
    feed.send(report(0, 1, "host", "blue", json!({"ansible_host": "one"}))).expect("fed");
    feed.send(report(1, 2, "host", "blue", json!({"ansible_host": ["two"]}))).expect("fed");
    let health = || -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let list = get(at, "/api/tarn/v1/views").json();
        is_as_described(at, "ViewList", &list);
        let items = list["items"].as_array().expect("a list").clone();
        items.iter().map(|item| (text(&item["name"]), text(&item["health"]))).collect()
    };
    let all = |hosts: &str| {
        BTreeMap::from(
            [("hosts", hosts), ("kinds", "healthy"), ("summary", hosts)]
                .map(|(name, health)| (name.to_owned(), health.to_owned())),
        )
    };
    eventually("an error", || health() == all("degraded"));
    assert_eq!(rows(at, "/api/tarn/v1/views/hosts"), [json!({"resource_id": id(1), "ansible_host": "one"})]);
    for (view, problem) in [("hosts", true), ("summary", true), ("kinds", false)] {
        let page = get(at, &format!("/api/tarn/v1/views/{view}")).json();
        is_as_described(at, "RowList", &page);
        assert_eq!((&page["health"], page["problem"].is_string()), (&json!(health()[view]), problem), "{page}");
    }
    let (in_csv, _) = get_as(at, "/api/tarn/v1/views/hosts", "text/csv");
    assert_eq!(in_csv.header("tarn-view-health"), Some("degraded"));
    let errors = get(at, "/api/tarn/v1/views/hosts/errors").json();
    is_as_described(at, "FailureList", &errors);
    let error = &errors["items"][0];
    assert_eq!((&errors["total"], &error["count"]), (&1.into(), &1.into()));
    assert_eq!((&error["input"]["resource_id"], &error["expression"]), (&json!(id(2)), &json!("ansible_host")));
    assert!(error["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{error}");
    assert_eq!(get(at, "/api/tarn/v1/views/summary/errors").json()["total"], 0, "it only reads one that has");
    let metrics = get(served.operators, "/metrics").body;
    assert!(metrics.contains("tarn_view_errors{view=\"hosts\"} 1"), "{metrics}");
    assert!(metrics.contains("tarn_view_health{view=\"hosts\",health=\"degraded\"} 1"), "{metrics}");
    let status = get(at, "/api/tarn/v1/status").json();
    is_as_described(at, "Status", &status);
    let of_hosts = status["views"].as_array().expect("a list").iter().find(|view| view["name"] == "hosts");
    assert_eq!(of_hosts.map(|view| (&view["errors"], &view["rows"])), Some((&1.into(), &1.into())));

    // One may lack rows and be of an older text at once.
    write(folder.path(), "hosts", "SELECT nothing FROM host");
    assert_eq!(post(served.operators, RELOAD).0, 200);
    let outdated = get(at, "/api/tarn/v1/views/hosts").json();
    let problem = outdated["problem"].as_str().expect("there is one");
    assert_eq!(outdated["health"], "outdated");
    assert!(problem.contains("nothing") && problem.contains("rows could not be evaluated"), "{problem}");
    write(folder.path(), "hosts", HOSTS);
    assert_eq!(post(served.operators, RELOAD).0, 200);

    feed.send(report(2, 2, "host", "blue", json!({"ansible_host": "two"}))).expect("fed");
    eventually("mended", || health() == all("healthy"));
    assert_eq!(rows(at, "/api/tarn/v1/views/hosts").len(), 2);
    assert_eq!(rows(at, "/api/tarn/v1/views/summary"), [json!({"hosts": 2})]);
    assert_eq!(get(at, "/api/tarn/v1/views/hosts/errors").json()["total"], 0);
}

#[test]
fn views_are_explained() {
    let joined = "SELECT host.workspace_id, count(*) AS pairs FROM host JOIN k8s_policy \
                  ON host.workspace_id = k8s_policy.workspace_id GROUP BY host.workspace_id";
    let folder = queries(&[("kinds", KINDS), ("one", joined), ("other", joined), ("odd", "SELECT random()")]);
    let (served, feed) = Served::fed(with_views(folder.path()));
    let at = served.readers;
    let expected = fill(&feed);
    has_rows(at, "/api/tarn/v1/views/kinds", expected.len());
    let explained = get(at, "/api/tarn/v1/views/one/explain").json();
    is_as_described(at, "Explanation", &explained);
    let operators = explained["operators"].as_array().expect("a list");
    assert_eq!(operators[0]["operator"], "rows");
    assert!(operators.iter().any(|operator| operator["operator"] == "join"), "{explained}");
    let arrangements = explained["arrangements"].as_array().expect("a list");
    assert_eq!(arrangements.len(), 2, "{explained}");
    for arrangement in arrangements {
        let operator = arrangement["operator"].as_u64().expect("an operator");
        assert!(arrangement["readers"] == 2 && operator > 1, "{arrangement}");
        assert!(arrangement["rows"].as_u64() > Some(0) && arrangement["bytesHeld"].as_u64() > Some(0), "{arrangement}");
    }
    assert_eq!((&explained["hydration"]["complete"], &explained["health"]), (&true.into(), &"healthy".into()));
    assert!(explained["cost"]["sharedBytesHeld"].as_u64() > Some(0), "{explained}");
    let list = get(at, "/api/tarn/v1/views").json();
    let of_one = list["items"].as_array().expect("a list").iter().find(|view| view["name"] == "one").expect("there");
    assert_eq!(of_one["cost"]["bytesHeld"], explained["cost"]["bytesHeld"]);

    let (text, body) = get_as(at, "/api/tarn/v1/views/one/explain", "text/plain");
    let body = String::from_utf8(body).expect("UTF-8");
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(body.starts_with("view one") && body.contains("└─ #2") && body.contains("with 2 readers"), "{body}");
    assert_eq!(get_as(at, "/api/tarn/v1/views/one/explain", "text/csv").0.status, 406);
    assert_eq!(get(at, "/api/tarn/v1/views/nothing/explain").status, 404);
    for path in ["odd", "odd/errors", "odd/explain"] {
        let refused = get(at, &format!("/api/tarn/v1/views/{path}"));
        assert!(refused.status == 422 && refused.body.contains("odd.sql:1:"), "{path}: {}", refused.body);
        assert_eq!(refused.header("retry-after"), None, "{path}");
    }
}
