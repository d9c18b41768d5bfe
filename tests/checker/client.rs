//! One client: asks on a connection that is kept, over restarts, and holds every answer to the rules. It remembers what it
//! asked and was told lately, for whoever has to find out what went wrong.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tarn::clock::now_ms;

use super::rules::{Asked, Content, Seen, Step, Told};
use super::truth::{KINDS, RESOURCES, host_of};
use super::world::{Here, Shared};
use crate::served::{Answer, parse};
use crate::support::reports::id;

/// So much of what a client did is shown.
const REMEMBERED: usize = 60;
/// An answer comes by then.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that is kept.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(at: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks, and awaits the answer.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: tarn\r\nContent-Length: {length}\r\n\r\n{body}");
        self.0.get_mut().write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut answer = parse(&head).ok_or(io::ErrorKind::InvalidData)?;
        let mut body = vec![0; answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
        self.0.read_exact(&mut body)?;
        while answer.header("transfer-encoding") == Some("chunked") {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
            let mut chunk = vec![0; length + 2];
            self.0.read_exact(&mut chunk)?;
            body.extend_from_slice(&chunk[..length]);
            if length == 0 {
                break;
            }
        }
        answer.body = String::from_utf8(body).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(answer)
    }
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Resource(usize),
    ByType,
    Total,
    Hosts,
    Query,
    Instant,
}

/// Everything of one instant, counted in three ways.
const SQL: &str = "SELECT (SELECT sum(n) FROM by_type) AS parts, (SELECT sum(n) FROM total) AS total, \
                   (SELECT count(*) FROM resources) AS here";

impl What {
    /// Anything, what is quick more often.
    pub fn any(random: &mut StdRng) -> Self {
        match random.random_range(0..100) {
            0..50 => Self::Resource(random.random_range(0..RESOURCES)),
            50..62 => Self::ByType,
            62..74 => Self::Total,
            74..90 => Self::Hosts,
            90..94 => Self::Query,
            _ => Self::Instant,
        }
    }

    fn request(self, query: &str) -> (&'static str, String, String) {
        let path = match self {
            Self::Resource(number) => format!("/api/tarn/v1/resources/{}?{query}", id(number)),
            Self::ByType => format!("/api/tarn/v1/views/by_type?{query}"),
            Self::Total => format!("/api/tarn/v1/views/total?{query}"),
            Self::Hosts => format!("/api/tarn/v1/views/hosts?limit=1000&{query}"),
            Self::Instant => format!("/api/tarn/v1/position?{query}"),
            Self::Query => {
                return ("POST", format!("/api/tarn/v1/query?{query}"), json!({ "sql": SQL }).to_string());
            }
        };
        ("GET", path.trim_end_matches(['?', '&']).to_owned(), String::new())
    }

    /// What an answer says.
    fn content(self, answer: &Answer) -> Option<Content> {
        let body = answer.json();
        let items = body["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let number = |row: &Value, name: &str| row[name].as_u64();
        Some(match self {
            Self::Resource(number) if answer.status == 404 => Content::Resource { number, last: None },
            Self::Resource(number) => Content::Resource { number, last: Some(body["lastEvent"]["offset"].as_i64()?) },
            Self::ByType => {
                let mut counts = [0; KINDS.len()];
                for row in items {
                    let kind = KINDS.iter().position(|kind| row["resource_type"] == *kind)?;
                    counts[kind] = number(row, "n")?;
                }
                Content::ByType(counts)
            }
            Self::Total => Content::Total(number(items.first()?, "n")?),
            Self::Hosts => Content::Hosts(items.iter().map(host_of).collect::<Option<_>>()?),
            Self::Query => {
                let row = items.first()?;
                // The sum of nothing is none.
                let sum = |name: &str| if row[name].is_null() { Some(0) } else { number(row, name) };
                Content::Query([sum("parts")?, sum("total")?, number(row, "here")?])
            }
            Self::Instant => Content::Instant,
        })
    }
}

/// What came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// An answer that holds.
    Told(Told),
    /// It is no longer kept.
    Gone,
    /// Nothing, for now.
    Nothing,
}

/// A client.
pub struct Client {
    pub shared: Arc<Shared>,
    pub random: StdRng,
    pub token: Option<(Told, String)>,
    pub life: usize,
    seen: Seen,
    connection: Option<(usize, Connection)>,
    history: VecDeque<String>,
}

impl Client {
    pub fn new(shared: &Arc<Shared>, seed: u64) -> Self {
        Self {
            shared: Arc::clone(shared),
            random: StdRng::seed_from_u64(seed),
            token: None,
            life: 0,
            seen: Seen::default(),
            connection: None,
            history: VecDeque::new(),
        }
    }

    /// What it did lately, oldest first.
    pub fn history(&self) -> String {
        self.history.iter().map(|line| format!("  {line}\n")).collect()
    }

    fn remember(&mut self, line: String) {
        self.history.push_back(line);
        if self.history.len() > REMEMBERED {
            self.history.pop_front();
        }
    }

    /// An answer of a life of the process; none where it is not there, or went away.
    pub fn ask(&mut self, here: &Here, method: &str, path: &str, body: &str) -> Result<Option<Answer>, String> {
        let began = now_ms();
        self.life = here.life;
        self.connection.take_if(|(life, _)| *life != here.life);
        if self.connection.is_none() {
            self.connection = Connection::open(here.at).ok().map(|connection| (here.life, connection));
        }
        let Some((_, connection)) = &mut self.connection else { return Ok(None) };
        let answer = connection.ask(method, path, body);
        let says = match &answer {
            Ok(answer) => format!("{} at {:?}", answer.status, answer.header("tarn-epoch")),
            Err(error) => format!("{error}"),
        };
        self.remember(format!("{began} life {}: {method} {path}: {says}", here.life));
        match answer {
            Ok(answer) => {
                if answer.header("connection") == Some("close") {
                    self.connection = None;
                }
                Ok(Some(answer))
            }
            Err(error) => {
                self.connection = None;
                self.shared.count("connection lost");
                match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(format!("{path}: no answer at all")),
                    io::ErrorKind::InvalidData => Err(format!("{path}: what came is no answer")),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Reads, and holds what is told to the rules.
    pub fn read(&mut self, mut asked: Asked, what: What, query: &str) -> Result<Came, String> {
        let Some(here) = self.shared.here() else {
            std::thread::sleep(Duration::from_millis(5));
            return Ok(Came::Nothing);
        };
        if let Asked::Acknowledged(end) = &mut asked {
            *end = here.fed.load(Ordering::Acquire);
        }
        let is_ready = here.is_ready();
        let (method, path, body) = what.request(query);
        let Some(answer) = self.ask(&here, method, &path, &body)? else {
            std::thread::sleep(Duration::from_millis(2));
            return Ok(Came::Nothing);
        };
        let is_absence = answer.status == 404 && matches!(what, What::Resource(_));
        match answer.status {
            200 => {}
            404 if is_absence => {}
            410 => return Ok(Came::Gone),
            503 | 504 => {
                self.shared.count(&format!("{} to {}", answer.status, name_of(&asked)));
                std::thread::sleep(Duration::from_millis(5));
                return Ok(Came::Nothing);
            }
            // Views come after all else, and SQL knows them by what is there.
            400 if !is_ready && answer.body.contains("no such table or view") => {
                self.shared.count("queries before the views");
                return Ok(Came::Nothing);
            }
            _ => return Err(format!("{path}: {} {}", answer.status, answer.body)),
        }
        let told = told_in(&answer).ok_or_else(|| format!("{path}: no instant in {}", answer.head))?;
        let content = what.content(&answer).ok_or_else(|| format!("{path}: what is {}?", answer.body))?;
        let step = Step { life: here.life, asked, told, content };
        let log = self.shared.log.read().expect("no panic");
        let taken = self.seen.take(&step, &log, &mut self.shared.epochs.lock().expect("no panic"));
        drop(log);
        self.remember(format!("  {step:?}"));
        taken.map_err(|why| format!("{path}: {why}\n{}", answer.body))?;
        self.shared.reads.fetch_add(1, Ordering::Relaxed);
        self.shared.count(&format!("reads that asked for {}", name_of(&step.asked)));
        if let Some(token) = answer.header("tarn-consistency-token") {
            self.token = Some((told, token.to_owned()));
        }
        Ok(Came::Told(told))
    }
}

/// The instant in an answer's head.
pub fn told_in(answer: &Answer) -> Option<Told> {
    let position = answer.header("tarn-position")?;
    let position = if position.is_empty() { 0 } else { position.rsplit(':').next()?.parse().ok()? };
    Some(Told { epoch: answer.header("tarn-epoch")?.parse().ok()?, position })
}

fn name_of(asked: &Asked) -> &'static str {
    match asked {
        Asked::Newest => "nothing",
        Asked::Token(_) => "a token",
        Asked::After(_) => "an event",
        Asked::Acknowledged(_) => "all of the log",
        Asked::At(_) => "a read point",
        Asked::AsOf(_) => "an epoch",
    }
}
