//! The frames of a stream as server-sent events: names, ids, one JSON object a frame.
//!
//! Everything that a frame of changes says depends on its epoch and on what changed in it, so that it is byte for byte the
//! same whenever it is made.

use serde_json::{Value, json};

use super::reset::Reset;
use crate::http::answer::moment;
use crate::model::Epoch;
use crate::published::{StreamToken, TokenKey};

/// A client that lost its connection comes back after this, ms, unless it knows better.
const RETRY_MS: u64 = 1_000;

/// What makes the ids of a stream.
#[derive(Debug, Clone)]
pub struct Seal {
    pub(super) key: TokenKey,
    /// That of an id at no epoch.
    pub(super) token: StreamToken,
}

impl Seal {
    /// The id of an epoch.
    fn id(&self, epoch: Epoch) -> String {
        StreamToken { epoch, ..self.token }.encode(&self.key)
    }
}

/// A frame that is being written.
struct Writing(Vec<u8>);

impl Writing {
    fn begin(event: &str, id: Option<String>, bytes: usize) -> Self {
        let mut out = Vec::with_capacity(bytes + 192);
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.as_bytes());
        if let Some(id) = id {
            out.extend_from_slice(b"\nid: ");
            out.extend_from_slice(id.as_bytes());
        }
        out.extend_from_slice(b"\ndata: ");
        Self(out)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"\n\n");
        self.0
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// An object that is not closed: its epoch and time.
    fn instant(&mut self, epoch: Epoch) {
        self.add(format!(r#"{{"epoch":{epoch},"asOf":"{}""#, moment(epoch)).as_bytes());
    }
}

/// What changed, in the words of an envelope: each list is what stands in a JSON array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lists<'a>(pub(super) &'a [(&'static str, &'a [u8])]);

impl Lists<'_> {
    fn bytes(self) -> usize {
        self.0.iter().map(|(name, list)| name.len() + list.len() + 8).sum()
    }

    fn write(self, out: &mut Writing) {
        for (name, list) in self.0 {
            out.add(format!(r#","{name}":["#).as_bytes());
            out.add(list);
            out.add(b"]");
        }
    }
}

/// What changed in an epoch; or over all epochs after `from`, where the client missed some.
pub(super) fn changes(seal: &Seal, epoch: Epoch, from: Option<Epoch>, lists: Lists<'_>) -> Vec<u8> {
    let mut out = Writing::begin("changes", Some(seal.id(epoch)), lists.bytes());
    out.instant(epoch);
    if let Some(from) = from {
        out.add(format!(r#","coalesced":true,"from":{from},"to":{epoch}"#).as_bytes());
    }
    lists.write(&mut out);
    out.add(b"}");
    out.end()
}

/// A part of a snapshot; the last one has the id.
pub(super) fn snapshot(seal: &Seal, epoch: Epoch, rows: Lists<'_>, is_last: bool) -> Vec<u8> {
    let mut out = Writing::begin("snapshot", is_last.then(|| seal.id(epoch)), rows.bytes());
    out.instant(epoch);
    rows.write(&mut out);
    out.add(format!(r#","last":{is_last}}}"#).as_bytes());
    out.end()
}

/// Nothing changed until an epoch.
pub(super) fn progress(seal: &Seal, epoch: Epoch) -> Vec<u8> {
    let mut out = Writing::begin("progress", Some(seal.id(epoch)), 64);
    out.instant(epoch);
    out.add(b"}");
    out.end()
}

/// What begins every stream.
pub(super) fn hello(policy: &Value) -> Vec<u8> {
    let mut out = format!("retry: {RETRY_MS}\n").into_bytes();
    let mut writing = Writing::begin("hello", None, 1_024);
    writing.add(policy.to_string().as_bytes());
    out.extend(writing.end());
    out
}

/// The client forgets what it has; the empty id makes it forget where it was, too.
pub(super) fn reset(reset: Reset) -> Vec<u8> {
    let mut out = Writing::begin("reset", Some(String::new()), 256);
    let says = json!({"reason": reset.as_str(), "message": reset.message(), "final": reset.is_final()});
    out.add(says.to_string().as_bytes());
    out.end()
}

/// Nothing is to be said.
pub(super) const HEARTBEAT: &[u8] = b":\n\n";

/// The end of a stream that goes on elsewhere, or later; clients come back one after another.
pub(super) fn farewell(why: &str) -> Vec<u8> {
    let retry_ms = RETRY_MS / 2 + rand::random_range(0..RETRY_MS * 2);
    format!("retry: {retry_ms}\n: {why}\n\n").into_bytes()
}
