//! Clients that mean harm or are broken: slow, silent, greedy, ambiguous; and clients that are merely there at a stop.
//!
//! Deadlines are short here and bounds generous, so that a busy machine makes a test slow and not wrong.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tarn::generate::Generated;
use tarn::http::server::{Caps, Deadlines};

use crate::served::{Served, Setup, connect, eventually, exchange, get, hosts, next_answer, parse, rest};

const REQUEST: &[u8] = b"GET /api/tarn/v1/position HTTP/1.1\r\nHost: tarn\r\n\r\n";

fn short() -> Deadlines {
    Deadlines {
        first_byte: Duration::from_millis(300),
        head: Duration::from_millis(400),
        idle: Duration::from_millis(1_500),
        write_progress: Duration::from_secs(2),
        write_progress_pressed: Duration::from_millis(500),
        drain: Duration::from_secs(20),
    }
}

fn served() -> Served {
    Served::fed(Setup { deadlines: short(), ..Setup::default() }).0
}

/// Until the connection is closed by the other side.
fn closed_after(stream: &TcpStream, began: Instant) -> Duration {
    rest(stream);
    began.elapsed()
}

#[test]
fn silent_and_slow_connections_are_closed_in_time() {
    let served = served();
    let began = Instant::now();
    let silent = connect(served.readers);
    let slow = connect(served.readers);
    let dripping = slow.try_clone().expect("a second handle");
    std::thread::spawn(move || {
        // Each byte is in time; the head is not.
        for byte in REQUEST.iter().cycle().take(400) {
            if (&dripping).write_all(&[*byte & 0x5f | 0x40]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    });
    let took = closed_after(&silent, began);
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(8), "the silent one: {took:?}");
    let took = closed_after(&slow, began);
    assert!(took >= Duration::from_millis(350) && took < Duration::from_secs(8), "the slow one: {took:?}");
    assert_eq!(get(served.readers, "/livez").status, 200);
}

#[test]
fn an_idle_connection_has_its_own_longer_deadline() {
    let served = served();
    let stream = connect(served.readers);
    (&stream).write_all(REQUEST).expect("sent");
    assert_eq!(next_answer(&stream).map(|answer| answer.status), Some(200));
    // Longer than a head may take.
    std::thread::sleep(Duration::from_millis(700));
    (&stream).write_all(REQUEST).expect("sent");
    assert_eq!(next_answer(&stream).map(|answer| answer.status), Some(200), "still open");
    let began = Instant::now();
    let took = closed_after(&stream, began);
    assert!(took >= Duration::from_millis(1_000) && took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn who_closes_his_half_gets_his_answer() {
    let served = served();
    for _ in 0..50 {
        let stream = connect(served.readers);
        (&stream).write_all(REQUEST).expect("sent");
        stream.shutdown(Shutdown::Write).expect("half closed");
        assert_eq!(parse(&rest(&stream)).map(|answer| answer.status), Some(200));
    }
}

#[test]
fn connections_are_capped_in_all_and_by_address() {
    for (connections_max, connections_per_address_max) in [(4, 100), (100, 4)] {
        let caps = Caps { connections_max, connections_per_address_max };
        let deadlines = Deadlines { idle: Duration::from_secs(60), ..short() };
        let (served, _feed) = Served::fed(Setup { caps, deadlines, ..Setup::default() });
        let mut open = Vec::new();
        for _ in 0..4 {
            let stream = connect(served.readers);
            (&stream).write_all(REQUEST).expect("sent");
            assert!(next_answer(&stream).is_some());
            open.push(stream);
        }
        assert_eq!(exchange(served.readers, REQUEST), "", "one too many is closed");
        assert_eq!(get(served.operators, "/livez").status, 200, "operators have their own");
        open.pop();
        eventually("room again", || !exchange(served.readers, b"GET /livez HTTP/1.0\r\n\r\n").is_empty());
    }
}

#[test]
fn ambiguous_and_oversize_heads_are_refused_and_their_connection_closed() {
    let served = served();
    let head = "GET /api/tarn/v1/position HTTP/1.1\r\n";
    let smuggled = "GET /livez HTTP/1.1\r\nHost: tarn\r\n\r\n";
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: tarn\r\n\r\n", "x".repeat(100_000));
    let many = format!("{head}Host: tarn\r\n{}\r\n", "a: b\r\n".repeat(100));
    let large = format!("{head}Host: tarn\r\na: {}\r\n\r\n", "x".repeat(400_000));
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let cases = [
        (format!("{head}\r\n{smuggled}"), 400, "missing"),
        (format!("{head}Host: a\r\nHost: b\r\n\r\n{smuggled}"), 400, "twice"),
        (format!("{head}Host: a\r\n{both}{smuggled}"), 400, ""),
        (
            format!("{head}Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{smuggled}"),
            400,
            "",
        ),
        (format!("{head}Host: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcdef{smuggled}"), 400, ""),
        (format!("{head}Host: a\r\nContent-Length: 4\r\n\r\nabcd{smuggled}"), 400, "no body"),
        (format!("{head}Host : a\r\n\r\n{smuggled}"), 400, ""),
        (format!("{head}Host: a\r\nx: a\0b\r\n\r\n{smuggled}"), 400, ""),
        (format!("no http\r\n\r\n{smuggled}"), 400, ""),
        (long_path, 414, ""),
        (many, 431, ""),
        (large, 431, ""),
    ];
    for (request, status, words) in &cases {
        let shown: String = request.chars().take(120).collect();
        let text = exchange(served.readers, request.as_bytes());
        let answer = parse(&text).unwrap_or_else(|| panic!("{shown:?} is answered with {text:?}"));
        // A target that fills the whole buffer is a head that is too long.
        let allowed = if *status == 414 { vec![414, 431] } else { vec![*status] };
        assert!(allowed.contains(&answer.status), "{shown:?}: {}", answer.head);
        assert!(answer.body.contains(words), "{shown:?}: {text}");
        assert!(!text.contains("HTTP/1.1 200"), "{shown:?}: nothing after it is answered: {text}");
        assert!(answer.header("connection").is_some_and(|value| value == "close"), "{shown:?}: {}", answer.head);
    }
    // Odd, and clear.
    for (target, status) in [
        ("GET http://elsewhere/livez", 200),
        ("GET /./livez", 404),
        ("GET //livez", 404),
        ("GET /%2e%2e/livez", 404),
        ("GET /livez%00", 404),
        ("OPTIONS *", 404),
        ("CONNECT tarn:80", 404),
        ("BREW /livez", 405),
    ] {
        let request = format!("{target} HTTP/1.1\r\nHost: tarn\r\nConnection: close\r\n\r\n");
        let text = exchange(served.readers, request.as_bytes());
        assert_eq!(parse(&text).map(|answer| answer.status), Some(status), "{target}: {text}");
    }
    let without_body = format!("{head}Host: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(parse(&exchange(served.readers, without_body.as_bytes())).map(|answer| answer.status), Some(200));
}

/// Hosts whose data is so long.
fn heavy(count: usize, bytes: usize) -> Vec<Generated> {
    let lengthen = |host: Generated| {
        let value = host.value.map(|value| value.replace("host-", &format!("{}-", "h".repeat(bytes))));
        Generated { value, ..host }
    };
    hosts(count).into_iter().map(lengthen).collect()
}

fn heavily_served(change: impl FnOnce(&mut Setup)) -> Served {
    let mut setup = Setup { deadlines: short(), ..Setup::default() };
    change(&mut setup);
    let (served, feed) = Served::fed(setup);
    for host in heavy(24, 500_000) {
        feed.send(host).expect("fed");
    }
    eventually("all there", || served.service.publisher.view().census().resources == 24);
    // Nothing more comes, and the source goes on to wait for it.
    std::mem::forget(feed);
    served
}

#[test]
fn a_page_ends_when_it_is_long_enough() {
    let served = heavily_served(|_| {});
    let (mut seen, mut token) = (Vec::new(), String::new());
    let mut pages = 0;
    loop {
        let answer = get(served.readers, &format!("/api/tarn/v1/resources?limit=1000{token}"));
        assert!(answer.body.len() < 5_500_000, "{} bytes", answer.body.len());
        let page = answer.json();
        let ids = page["items"].as_array().expect("a list").iter().map(|item| item["resourceId"].clone());
        seen.extend(ids.map(|id| id.as_str().expect("an id").to_owned()));
        pages += 1;
        match page["nextPageToken"].as_str() {
            Some(next) => token = format!("&pageToken={next}"),
            None => break,
        }
    }
    assert!(pages >= 3 && seen.len() == 24 && seen.is_sorted(), "{} in {pages} pages", seen.len());
}

/// Connections that ask for pages without end and read nothing; each for another one, since the same are shared.
fn greedy(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let open = |number: usize| {
        let limit = 1_000 - number;
        let asked = format!("GET /api/tarn/v1/resources?limit={limit} HTTP/1.1\r\nHost: tarn\r\n\r\n").repeat(50);
        let stream = connect(address);
        (&stream).write_all(asked.as_bytes()).expect("sent");
        stream
    };
    (0..count).map(open).collect()
}

#[test]
fn requests_at_work_are_bounded_and_health_goes_on() {
    let served = heavily_served(|setup| setup.config.http.requests_max = 3);
    let waits: Vec<TcpStream> = (0..3)
        .map(|_| {
            let stream = connect(served.readers);
            let asked = "GET /api/tarn/v1/resources?after=never&timeout=3s HTTP/1.1\r\nHost: tarn\r\n\r\n";
            (&stream).write_all(asked.as_bytes()).expect("sent");
            stream
        })
        .collect();
    let mut shed = None;
    eventually("load is shed", || {
        shed = Some(get(served.readers, "/api/tarn/v1/position")).filter(|answer| answer.status == 503);
        shed.is_some()
    });
    let shed = shed.expect("just seen");
    assert_eq!((shed.header("retry-after"), &shed.json()["code"]), (Some("1"), &Value::from(503)), "{}", shed.head);
    assert!(shed.header("tarn-epoch").is_some());
    for (address, path) in [(served.readers, "/livez"), (served.readers, "/readyz"), (served.operators, "/metrics")] {
        assert_eq!(get(address, path).status, 200, "{path}");
    }
    eventually("room again", || get(served.readers, "/api/tarn/v1/position").status == 200);
    drop(waits);
}

#[test]
fn answers_that_nobody_takes_are_bounded() {
    const GREEDY: usize = 8;
    let served = heavily_served(|setup| {
        setup.config.http.response_bytes_max = 16 * 1024 * 1024;
        setup.config.http.queue_deadline_ms = 50;
        // All of those may be waiting for bytes at once, and one look-up.
        setup.config.http.requests_max = GREEDY + 1;
        // They are closed because others have to wait for them, or not at all.
        setup.deadlines.write_progress = Duration::from_secs(600);
        setup.deadlines.write_progress_pressed = Duration::from_secs(2);
    });
    let first = get(served.readers, "/api/tarn/v1/resources?limit=1").json();
    let id = first["items"][0]["resourceId"].as_str().expect("an id").to_owned();
    let greedy = greedy(served.readers, GREEDY);
    eventually("no more pages are rendered", || {
        let page = get(served.readers, "/api/tarn/v1/resources?limit=1");
        let look_ups = ["/api/tarn/v1/position", &format!("/api/tarn/v1/resources/{id}")];
        let looked_up = look_ups.map(|path| get(served.readers, path).status);
        assert_eq!(looked_up, [200; 2], "look-ups go on");
        page.status == 503
    });
    eventually("room again", || get(served.readers, "/api/tarn/v1/resources?limit=1").status == 200);
    drop(greedy);
}

/// Asks again and again on connections that are kept; how many answers came, or what went wrong.
fn busy(address: SocketAddr, answers: &AtomicUsize) -> Result<(), String> {
    loop {
        let Ok(stream) = TcpStream::connect(address) else { return Ok(()) };
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(|error| error.to_string())?;
        let mut kept = false;
        loop {
            let sent = (&stream).write_all(REQUEST);
            let answer = sent.ok().and_then(|()| next_answer(&stream));
            match answer {
                Some(answer) => {
                    answers.fetch_add(1, Ordering::Relaxed);
                    if answer.header("connection") == Some("close") {
                        break;
                    }
                    kept = true;
                }
                // The listener closed between connecting and asking, as good as a refusal.
                None if !kept => return Ok(()),
                None => return Err("a kept connection was closed on a request".to_owned()),
            }
        }
    }
}

#[test]
fn a_stop_fails_no_request_and_waits_for_nobody() {
    let served = served();
    let (address, answers) = (served.readers, AtomicUsize::new(0));
    let half = connect(address);
    (&half).write_all(b"GET /livez HT").expect("sent");
    let idle = connect(address);
    (&idle).write_all(REQUEST).expect("sent");
    assert!(next_answer(&idle).is_some());
    let drained = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| busy(address, &answers))).collect();
        eventually("all are busy", || answers.load(Ordering::Relaxed) > 100);
        served.app.drain();
        let ready = get(address, "/readyz");
        assert_eq!((ready.status, ready.header("connection")), (503, Some("close")), "{}", ready.head);
        assert_eq!(get(address, "/livez").status, 200, "still served while the stop is announced");
        std::thread::sleep(Duration::from_millis(400));
        let fresh_half = connect(address);
        (&fresh_half).write_all(b"GET /livez HT").expect("sent");
        let drained = served.stop();
        for client in clients {
            assert_eq!(client.join().expect("no panic"), Ok(()));
        }
        drained
    });
    assert!(drained < Duration::from_secs(5), "half a head is not waited for: {drained:?}");
    assert!(TcpStream::connect(address).is_err());
}
