//! Ad-hoc SQL over HTTP: what is answered, what is refused, and that no query takes more than it may.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::served::{Answer, Served, Setup, connect, eventually, exchange, hosts, parse};
use crate::support::reports::{id, report};
use crate::views_served::{is_as_described, queries, with_views};

/// More pairs than can be looked at.
const ENDLESS: &str = "SELECT count(*) FROM resources a, resources b, resources c, resources d WHERE a.data > b.data";

fn request(body: &str, accept: &str) -> String {
    format!(
        "POST /api/tarn/v1/query HTTP/1.1\r\nHost: tarn\r\nAccept: {accept}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

pub fn ask(at: SocketAddr, sql: &str) -> Answer {
    ask_with(at, &json!({ "sql": sql }).to_string())
}

/// The answer to a query, with these parameters of its instant.
pub fn ask_at(at: SocketAddr, parameters: &str, sql: &str) -> Answer {
    let request = request(&json!({ "sql": sql }).to_string(), "*/*");
    let request = request.replacen("/query", &format!("/query{parameters}"), 1);
    let text = exchange(at, request.as_bytes());
    parse(&text).unwrap_or_else(|| panic!("{sql} is answered with {text:?}"))
}

/// The answer to a body.
pub fn ask_with(at: SocketAddr, body: &str) -> Answer {
    let text = exchange(at, request(body, "*/*").as_bytes());
    parse(&text).unwrap_or_else(|| panic!("{body} is answered with {text:?}"))
}

/// A service with a thousand hosts.
fn with_hosts(setup: Setup) -> Served {
    let (served, feed) = Served::fed(setup);
    for host in hosts(1_000) {
        feed.send(host).expect("fed");
    }
    let at = served.readers;
    eventually("all hosts", || ask(at, "SELECT count(*) AS hosts FROM host").json()["items"][0]["hosts"] == 1_000);
    // The log may go on.
    std::mem::forget(feed);
    served
}

#[test]
fn queries_read_tables_and_views_of_one_instant() {
    let folder = queries(&[("counts", "SELECT workspace_id, count(*) AS hosts FROM host GROUP BY workspace_id")]);
    let (served, feed) = Served::fed(with_views(folder.path()));
    let at = served.readers;
    for number in 0..6 {
        let workspace = if number % 3 == 0 { "blue" } else { "green" };
        let name = if number == 5 { json!([5]) } else { json!(format!("host-{number}")) };
        feed.send(report(number as i64, number, "host", workspace, json!({"ansible_host": name}))).expect("fed");
    }
    let joined = "SELECT counts.workspace_id, counts.hosts, host.resource_id FROM counts JOIN host \
                  ON host.workspace_id = counts.workspace_id WHERE counts.workspace_id = 'blue' ORDER BY resource_id";
    let expected = [0, 3].map(|number| json!({"workspace_id": "blue", "hosts": 2, "resource_id": id(number)}));
    eventually("all rows", || ask(at, joined).json()["items"].as_array().map(Vec::len) == Some(2));
    let answer = ask(at, joined).json();
    is_as_described(at, "QueryAnswer", &answer);
    assert_eq!(answer["items"], Value::from(expected.to_vec()));
    assert_eq!((&answer["truncated"], &answer["unreadRows"]), (&false.into(), &0.into()));
    assert_eq!(answer["columns"][1], json!({"name": "hosts", "type": "bigint"}));
    // What cannot be read counts for nothing, and is counted.
    let names = ask(at, "SELECT ansible_host FROM host").json();
    assert_eq!((names["items"].as_array().map(Vec::len), &names["unreadRows"]), (Some(5), &1.into()), "{names}");
    let now = ask(at, "SELECT now() AS now").json();
    assert_eq!(now["items"][0]["now"].as_str().map(|text| &text[..19]), now["asOf"].as_str().map(|text| &text[..19]));
    let csv = exchange(at, request(r#"{"sql": "SELECT 1 AS one"}"#, "text/csv").as_bytes());
    let csv = parse(&csv).expect("an answer");
    assert_eq!((csv.body.as_str(), csv.header("tarn-truncated")), ("one\n1\n", Some("false")));
    assert_eq!(
        parse(&exchange(at, request(r#"{"sql": "SELECT 1"}"#, "image/png").as_bytes())).expect("one").status,
        406
    );
}

#[test]
fn what_is_no_query_is_refused() {
    let (served, _feed) = Served::fed(Setup::default());
    let at = served.readers;
    for (sql, words) in [
        ("CREATE TABLE t (a INT)", "query:1:1: CREATE"),
        ("DROP TABLE resources", "query:1:1: DROP"),
        ("INSERT INTO resources SELECT * FROM resources", "query:1:1: INSERT"),
        ("COPY resources TO '/tmp/x'", "only a SELECT is allowed"),
        ("SET datafusion.execution.batch_size = 1", "only a SELECT is allowed"),
        ("EXPLAIN SELECT 1", "only a SELECT is allowed"),
        ("SELECT 1; SELECT 2", "second statement"),
        ("SELECT colour\nFROM host, nowhere", "nowhere"),
        ("SELECT colour FROM host", "query:1:8: "),
        ("SELECT * FROM '/etc/passwd'", "query:1:"),
        ("", "write a SELECT"),
    ] {
        is_refused(at, sql, words);
    }
    for body in ["", "SELECT 1", r#"{"sql": 1}"#, r#"{"sql": "SELECT 1", "limit": 1}"#, &"x".repeat(200_000)] {
        let answer = parse(&exchange(at, request(body, "*/*").as_bytes())).expect("an answer");
        assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(400)), "{}", answer.body);
    }
    let divided = ask(at, "SELECT 1 / (SELECT count(*) FROM quarantine)");
    assert_eq!(divided.status, 422, "{}", divided.body);
}

#[test]
fn subqueries_that_cannot_be_taken_apart_are_told_by_what_is_written() {
    let (served, _feed) = Served::fed(Setup::default());
    for (condition, words) in [
        (
            "EXISTS (SELECT 1 FROM host b LEFT JOIN host c ON b.resource_id = c.resource_id AND c.topic = a.topic)",
            "ON in a subquery: names the row around the subquery in an outer join",
        ),
        (
            "EXISTS (SELECT 1 FROM (SELECT count(*) AS n FROM host b WHERE b.topic = a.topic) t WHERE n > 1)",
            "stands within a subquery in FROM that has an aggregate; select there",
        ),
        (
            "a.topic = (SELECT b.topic FROM host b WHERE b.resource_id = a.resource_id ORDER BY b.topic LIMIT 1)",
            "stands within what LIMIT or OVER counts, which is not done for each row around by itself; write max(..)",
        ),
        (
            "a.topic IN (SELECT b.topic FROM host b WHERE b.topic IN (SELECT c.topic FROM host c WHERE c.data = a.data))",
            "column a.data: is of a row further out than the one right around the subquery",
        ),
        (
            "a.\"offset\" > (SELECT max(b.\"offset\") FROM host b WHERE b.topic > a.topic)",
            "scalar subquery: has an aggregate or GROUP BY, and so meets the row around it by equalities alone",
        ),
    ] {
        is_refused(served.readers, &format!("SELECT resource_id FROM host a WHERE {condition}"), words);
    }
    let in_select = "SELECT a.topic IN (SELECT b.topic FROM host b WHERE b.data > a.data) AS t FROM host a";
    is_refused(served.readers, in_select, "query:1:53: IN (SELECT ..): is no condition in WHERE");
}

#[test]
fn what_views_do_not_have_means_what_it_does_elsewhere() {
    let (served, _feed) = Served::fed(Setup::default());
    let t = "(VALUES (1, 2), (2, 0), (3, 5)) AS t (a, b)";
    for (sql, rows) in [
        // An aggregate has a row of nothing too.
        (format!("SELECT a FROM {t} WHERE 5 = ALL (SELECT count(*) FROM (VALUES (1)) u (x) WHERE x = a)"), "[]"),
        (
            format!("SELECT a FROM {t} WHERE 5 <> ANY (SELECT count(*) FROM (VALUES (1)) u (x) WHERE x = a) ORDER BY a"),
            r#"[{"a":1},{"a":2},{"a":3}]"#,
        ),
        (format!("SELECT a FROM {t} WHERE a > ALL (SELECT max(x) FROM (VALUES (1)) u (x) WHERE x = a)"), "[]"),
        // Numbers of rows are numbers.
        (
            format!("SELECT row_number() OVER (ORDER BY a) / 2 AS h FROM {t} ORDER BY a"),
            r#"[{"h":0},{"h":1},{"h":1}]"#,
        ),
        (
            format!("SELECT rank() OVER (ORDER BY b) - row_number() OVER (ORDER BY a) AS d FROM {t} ORDER BY a"),
            r#"[{"d":1},{"d":-1},{"d":0}]"#,
        ),
        // Plans that DataFusion refuses are made again with fewer of its rules.
        (
            format!("SELECT a, sum(b) OVER (PARTITION BY a) AS s FROM {t} WHERE a = 2 AND a + 1 = 3"),
            r#"[{"a":2,"s":0}]"#,
        ),
        (
            format!("SELECT a, rank() OVER (ORDER BY a + b > 2) AS r FROM {t} ORDER BY a"),
            r#"[{"a":1,"r":2},{"a":2,"r":1},{"a":3,"r":2}]"#,
        ),
        (
            format!("SELECT a, a AS b FROM {t} UNION ALL SELECT 9, 9 ORDER BY 1 DESC, 2 LIMIT 2"),
            r#"[{"a":9,"b":9},{"a":3,"b":3}]"#,
        ),
        // The row of null is a group of its own.
        (
            "SELECT DISTINCT ON (b) b, a FROM (VALUES (1), (2), (3)) r (a) LEFT JOIN (SELECT 2 k, 5 b) t ON k = a ORDER BY b, a"
                .to_owned(),
            r#"[{"b":5,"a":2},{"b":null,"a":1}]"#,
        ),
    ] {
        let answer = ask(served.readers, &sql);
        let rows: Value = serde_json::from_str(rows).expect("rows");
        assert_eq!(answer.json()["items"], rows, "{sql}: {}", answer.body);
    }
    let in_condition = format!("SELECT a FROM {t} WHERE row_number() OVER (ORDER BY a) = 1");
    is_refused(served.readers, &in_condition, "OVER: stands in a condition, before there are windows");
    let built_on = format!("SELECT count(*) OVER v AS n FROM {t} WINDOW w AS (PARTITION BY a), v AS (w ORDER BY b)");
    is_refused(served.readers, &built_on, "window v: a window that builds on another one is not supported");
}

fn is_refused(at: SocketAddr, sql: &str, words: &str) {
    let answer = ask(at, sql);
    let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(answer.status == 400 && message.contains(words), "{sql}: {}", answer.body);
}

/// A query for a text that is as often twice as long.
fn doubled(text: &str, times: usize) -> String {
    let first = format!("SELECT {text} AS t FROM host LIMIT 1");
    (0..times).fold(first, |inner, _| format!("SELECT t || t AS t FROM ({inner}) AS inside"))
}

#[test]
fn a_query_takes_no_more_than_it_may() {
    let mut setup = Setup::default();
    let query = &mut setup.config.query;
    (query.timeout_ms, query.memory_bytes_max, query.rows_max) = (300, 1024 * 1024, 700);
    let served = with_hosts(setup);
    let at = served.readers;
    let cut = ask(at, "SELECT resource_id FROM host").json();
    assert_eq!((cut["items"].as_array().map(Vec::len), &cut["truncated"]), (Some(700), &true.into()));
    let whole = ask(at, "SELECT resource_id FROM host LIMIT 700").json();
    assert_eq!((whole["items"].as_array().map(Vec::len), &whole["truncated"]), (Some(700), &false.into()));
    let began = Instant::now();
    let long = ask(at, ENDLESS);
    assert!(long.status == 422 && long.body.contains("ended after 0.3 s"), "{}", long.body);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // Pairs that are only counted come from few batches, of which one makes millions.
    let began = Instant::now();
    let pairs = ask(at, "SELECT count(*) FROM resources a, resources b, resources c, resources d");
    assert!(pairs.status == 422 && pairs.body.contains("ended after 0.3 s"), "{}", pairs.body);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    eventually("its turn is free", || ask(at, "SELECT 1").status == 200);
    let texts = ask(at, "SELECT repeat(data, 1000000), lpad('x', 2000000000) FROM host");
    assert!(texts.status == 422 && texts.body.contains("could make a text of "), "{}", texts.body);
    // Each of many columns is short enough, but all together are not.
    let columns: Vec<String> = (0..100).map(|n| format!("repeat(data || '{n}', 100) AS c{n}")).collect();
    let wide = ask(at, &format!("SELECT {} FROM host", columns.join(", ")));
    assert!(wide.status == 422 && wide.body.contains("too much memory"), "{}", wide.body);
    assert_eq!(ask(at, "SELECT lpad(repeat('ab', 2), 6, '-') AS t").json()["items"][0]["t"], "--abab");
    let large = ask(at, "SELECT a.data AS one, b.data AS other FROM host a, host b ORDER BY a.data || b.data");
    assert!(large.status == 422 && large.body.contains("too much memory"), "{}", large.body);
    // Nothing of it is left.
    assert_eq!(ask(at, "SELECT count(*) AS hosts FROM host").json()["items"][0]["hosts"], 1_000);
}

#[test]
fn a_query_makes_no_text_that_is_too_long() {
    let served = with_hosts(Setup::default());
    let at = served.readers;
    for (sql, words) in [
        // Twice as long each time.
        (doubled("'0123456789abcdef'", 17), "|| would make a text of 2097152 bytes; 1048576 are allowed"),
        (doubled("data", 15), "|| would make a text of "),
        ("SELECT string_agg(repeat(data, 300), ',') AS t FROM host".to_owned(), "string_agg() would make a text of "),
        (
            "SELECT levenshtein(repeat(data, 300), repeat(data, 301)) AS l FROM host".to_owned(),
            "levenshtein() would compare ",
        ),
    ] {
        let refused = ask(at, &sql);
        assert!(refused.status == 422 && refused.body.contains(words), "{sql}: {}", refused.body);
    }
    let rows = ask(at, "SELECT length(repeat(data || data, 100)) AS bytes FROM host LIMIT 3").json();
    assert_eq!(rows["items"].as_array().map(Vec::len), Some(3), "{rows}");
}

#[test]
fn queries_wait_for_their_turn_and_end_with_their_client() {
    let folder = queries(&[("ids", "SELECT resource_id, api_href FROM host")]);
    let mut setup = with_views(folder.path());
    (setup.config.query.timeout_ms, setup.config.query.concurrent_max) = (60_000, 1);
    setup.config.http.queue_deadline_ms = 100;
    let served = with_hosts(setup);
    let at = served.readers;
    let mut patient = connect(at);
    let endless = request(&json!({ "sql": ENDLESS }).to_string(), "*/*");
    patient.write_all(endless.as_bytes()).expect("sent");
    eventually("it is at work", || ask(at, "SELECT 1").status == 503);
    // Reads of what is maintained go on meanwhile.
    let status = |path: &str| crate::served::get(at, &format!("/api/tarn/v1/{path}")).status;
    assert_eq!(status("resources?limit=1"), 200);
    // To sort a view anew is no such read.
    assert_eq!((status("views/ids?limit=1"), status("views/ids?limit=1&orderBy=api_href")), (200, 503));
    let began = Instant::now();
    drop(patient);
    eventually("its turn is free", || ask(at, "SELECT 1").status == 200);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(status("views/ids?limit=1&orderBy=api_href"), 200);
}

#[test]
fn sorting_a_view_anew_ends_with_its_client() {
    // A million rows.
    let pairs = "SELECT a.resource_id AS one, b.resource_id AS other FROM host AS a JOIN host AS b \
                 ON a.resource_type = b.resource_type";
    let folder = queries(&[("pairs", pairs)]);
    let mut setup = with_views(folder.path());
    (setup.config.query.timeout_ms, setup.config.query.concurrent_max) = (60_000, 1);
    setup.config.http.queue_deadline_ms = 50;
    let served = with_hosts(setup);
    let at = served.readers;
    let rows = || crate::served::get(at, "/api/tarn/v1/views").json()["items"][0]["rows"].as_u64();
    eventually("all rows", || rows() == Some(1_000_000));
    let path = "/api/tarn/v1/views/pairs?limit=1&orderBy=-other,one";
    let began = Instant::now();
    assert_eq!(crate::served::get(at, path).status, 200);
    let whole = began.elapsed();
    assert!(whole > Duration::from_millis(200), "too fast to be left: {whole:?}");
    let mut leaving = connect(at);
    leaving.write_all(format!("GET {path} HTTP/1.1\r\nHost: tarn\r\n\r\n").as_bytes()).expect("sent");
    eventually("it is at work", || ask(at, "SELECT 1").status == 503);
    let began = Instant::now();
    drop(leaving);
    eventually("its turn is free", || ask(at, "SELECT 1").status == 200);
    assert!(began.elapsed() < whole / 2, "{:?} of {whole:?}", began.elapsed());
}

#[test]
fn a_view_is_sorted_anew_within_the_time_of_a_query() {
    // Enough rows that nothing sorts them in a millisecond.
    let copy = |copy| format!("SELECT resource_id, api_href, {copy} AS copy FROM host");
    let sql = (0..50).map(copy).collect::<Vec<_>>().join(" UNION ALL ");
    let folder = queries(&[("ids", &sql)]);
    let mut setup = with_views(folder.path());
    (setup.config.query.timeout_ms, setup.config.query.concurrent_max) = (1, 1);
    let served = with_hosts(setup);
    let path = "/api/tarn/v1/views/ids?limit=1000";
    let rows = |answer: Answer| answer.json()["items"].as_array().map(Vec::len);
    eventually("all rows", || rows(crate::served::get(served.readers, path)) == Some(1_000));
    let ended = crate::served::get(served.readers, &format!("{path}&orderBy=-api_href"));
    assert!(ended.status == 422 && ended.body.contains("ended after 0.001 s"), "{}", ended.body);
    // What was given up has let its turn go.
    eventually("its turn is free", || ask(served.readers, "SELECT").status == 400);
}

#[test]
fn numbers_have_room_and_answers_have_a_form() {
    let (served, _feed) = Served::fed(Setup::default());
    let at = served.readers;
    let most = "CAST('9223372036854775807' AS BIGINT)";
    for sql in [
        format!("SELECT {most} + 1 AS x"),
        format!("SELECT -2 - {most} AS x"),
        format!("SELECT {most} * 2 AS x"),
        format!("SELECT x + 1 AS x FROM (VALUES ({most}), (1)) AS v (x)"),
        "SELECT CAST(2147483647 AS INT) + CAST(1 AS INT) AS x".to_owned(),
    ] {
        let answer = ask(at, &sql);
        assert!(answer.status == 422 && answer.body.contains("verflow"), "{sql}: {} {}", answer.status, answer.body);
    }
    let fits = ask(at, &format!("SELECT {most} - 1 + 1 AS x, 2 * 3 AS y")).json();
    assert_eq!(fits["items"], json!([{"x": i64::MAX, "y": 6}]));
    let named = ask(at, "SELECT x + 1 FROM (VALUES (1)) AS v (x)").json();
    assert_eq!(named["columns"][0]["name"], "v.x + Int64(1)");
    for sql in [
        "SELECT arrow_cast('x', 'Dictionary(Int32, Utf8)') AS d",
        "SELECT named_struct('a', arrow_cast('x', 'Dictionary(Int32, Utf8)')) AS d",
    ] {
        let answer = ask(at, sql);
        assert!(
            answer.status == 400 && answer.body.contains("CAST it to text"),
            "{sql}: {} {}",
            answer.status,
            answer.body
        );
    }
    let names = (1..20).map(|level| format!(", a{level} AS (SELECT l.x FROM a{0} l, a{0} r)", level - 1));
    let doubled = format!("WITH a0 AS (SELECT 1 AS x){} SELECT count(*) FROM a19", names.collect::<String>());
    let answer = ask(at, &doubled);
    assert!(answer.status == 400 && answer.body.contains("2000 are allowed"), "{} {}", answer.status, answer.body);
    let dear = "SELECT regexp_count(repeat('x', 60000), '(a|b|c|.){0,900}z{3}') AS n";
    let answer = ask(at, dear);
    assert!(
        answer.status == 422 && answer.body.contains("regexp_count() may take"),
        "{} {}",
        answer.status,
        answer.body
    );
    let dear = dear.replace("regexp_count(", "(").replace(", '(a", " ~ '(a");
    let answer = ask(at, &dear);
    assert!(answer.status == 422 && answer.body.contains("may take"), "{} {}", answer.status, answer.body);
}

#[test]
fn a_wide_answer_is_cut_or_says_how_much_fits() {
    let served = with_hosts(Setup::default());
    let at = served.readers;
    let columns = |count: usize, what: &str| {
        let columns = (0..count).map(|number| format!("{what} AS d{number}"));
        format!("SELECT {} FROM host", columns.collect::<Vec<_>>().join(", "))
    };
    let cut = ask(at, &columns(300, "repeat(resource_id, 10)"));
    assert_eq!(cut.status, 200, "{}", &cut.body[..cut.body.len().min(300)]);
    let cut = cut.json();
    let rows = cut["items"].as_array().map_or(0, Vec::len);
    assert!(cut["truncated"] == true && (10..500).contains(&rows), "{rows}");
    let answer = ask(at, &format!("{} LIMIT 2", columns(300, "repeat(resource_id, 2000)")));
    assert!(
        answer.status == 422 && answer.body.contains("select fewer columns"),
        "{} {}",
        answer.status,
        &answer.body[..answer.body.len().min(300)]
    );
}
