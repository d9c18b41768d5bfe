//! Server-sent events, and a client that reads them from a connection as they come.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    pub data: Value,
    /// As it came.
    pub text: String,
}

impl Event {
    /// The event of some lines; none where they are comments alone.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.trim_start())
        };
        Some(Self {
            name: field("event")?.to_owned(),
            id: field("id").map(str::to_owned),
            data: serde_json::from_str(field("data")?).expect("JSON"),
            text: text.to_owned(),
        })
    }
}

/// The events of some bytes, which are whole.
pub fn events(bytes: &[u8]) -> Vec<Event> {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    assert!(text.ends_with("\n\n"), "{text:?} is whole");
    text.split_terminator("\n\n").filter_map(Event::parse).collect()
}

/// A client.
pub struct Stream {
    pub head: String,
    reader: BufReader<TcpStream>,
    text: String,
    /// Everything that was no event.
    pub comments: Vec<String>,
}

impl Stream {
    /// Opens a stream after an event, if that is given.
    pub fn open(address: SocketAddr, path: &str, last_event_id: Option<&str>) -> Self {
        Self::try_open(address, path, last_event_id).expect("it listens, and answers")
    }

    /// The same where nobody may be there.
    pub fn try_open(address: SocketAddr, path: &str, last_event_id: Option<&str>) -> io::Result<Self> {
        let mut connection = TcpStream::connect(address)?;
        connection.set_read_timeout(Some(Duration::from_secs(30)))?;
        let id = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nHost: tarn\r\nAccept: text/event-stream\r\n{id}\r\n");
        connection.write_all(request.as_bytes())?;
        let mut reader = BufReader::new(connection);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                break;
            }
        }
        Ok(Self { head, reader, text: String::new(), comments: Vec::new() })
    }

    /// The next event; none at the end of the stream.
    pub fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let rest = self.text.split_off(end + 2);
                let text = std::mem::replace(&mut self.text, rest);
                match Event::parse(&text) {
                    Some(event) => return Some(event),
                    None => self.comments.push(text),
                }
                continue;
            }
            let mut line = String::new();
            if self.reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; length + 2];
            self.reader.read_exact(&mut chunk).ok()?;
            if length == 0 {
                return None;
            }
            self.text.push_str(std::str::from_utf8(&chunk[..length]).expect("frames are not cut within a character"));
        }
    }

    /// The next event that tells more than that nothing changed.
    pub fn telling(&mut self) -> Event {
        loop {
            let event = self.event().expect("a stream that goes on");
            if event.name != "progress" {
                return event;
            }
        }
    }
}
