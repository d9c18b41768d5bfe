//! One line of a log in the shape of `kcat -C -J`, read field by field without building a tree.
//!
//! `kcat` writes topic, partition, offset, timestamp first, then headers, key and payload. [`frame`] reads the first
//! four on the ingest thread; the decoder goes on from there with [`Fields`] on a worker. Whatever order or spacing a
//! line has, [`frame`] finds its coordinates or says what is missing.

use std::borrow::Cow;

use serde::Deserialize;

/// The coordinates of a line.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The topic.
    pub topic: Cow<'a, str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record's timestamp, ms since 1970; -1 where the line has none.
    pub timestamp_ms: i64,
    /// Where the first field after the coordinates begins; 0 where that is not one place.
    pub rest_at: usize,
}

/// The coordinates of `line`, or what is wrong with it.
pub fn frame(line: &[u8]) -> Result<Frame<'_>, String> {
    match frame_in_order(line) {
        Some(frame) => Ok(frame),
        None => frame_any_order(line),
    }
}

/// The fast path: all four before headers, key and payload, no escapes in the topic.
fn frame_in_order(line: &[u8]) -> Option<Frame<'_>> {
    let mut fields = Fields::begin(line)?;
    let (mut topic, mut partition, mut offset, mut timestamp_ms) = (None, None, None, None);
    loop {
        let rest_at = fields.at;
        let name = fields.name()?;
        match name {
            b"topic" if topic.is_none() => topic = Some(std::str::from_utf8(fields.plain_string()?).ok()?),
            b"partition" if partition.is_none() => partition = Some(i32::try_from(fields.integer()?).ok()?),
            b"offset" if offset.is_none() => offset = Some(fields.integer()?),
            b"ts" if timestamp_ms.is_none() => timestamp_ms = Some(fields.integer()?),
            // Twice: the other road says so (M7).
            b"topic" | b"partition" | b"offset" | b"ts" => return None,
            // Nobody looks at it again, so what is no text is noticed here.
            b"tstype" => drop(std::str::from_utf8(fields.plain_string()?).ok()?),
            b"broker" => drop(fields.integer()?),
            _ => {
                let frame = Frame {
                    topic: Cow::Borrowed(topic?),
                    partition: partition?,
                    offset: offset?,
                    timestamp_ms: timestamp_ms?,
                    rest_at,
                };
                return Some(frame);
            }
        }
        if !fields.comma()? {
            return None;
        }
    }
}

/// What a line must have, in whatever order.
#[derive(Deserialize)]
struct AnyOrder<'a> {
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    partition: Option<i32>,
    offset: Option<i64>,
    ts: Option<i64>,
}

fn frame_any_order(line: &[u8]) -> Result<Frame<'_>, String> {
    let fields: AnyOrder<'_> =
        serde_json::from_slice(line).map_err(|error| format!("the line is no record in JSON: {error}"))?;
    let missing = |name: &str| format!("the line has no `{name}`; a record has topic, partition, offset, key, payload");
    Ok(Frame {
        topic: fields.topic.ok_or_else(|| missing("topic"))?,
        partition: fields.partition.ok_or_else(|| missing("partition"))?,
        offset: fields.offset.ok_or_else(|| missing("offset"))?,
        timestamp_ms: fields.ts.unwrap_or(-1),
        rest_at: 0,
    })
}

/// A cursor over the fields of a flat JSON object. Every method answers none when the text is not of the plain form
/// that it expects; the caller then takes the slow road.
#[derive(Debug)]
pub struct Fields<'a> {
    line: &'a [u8],
    /// Where the next field, or the rest of this one, begins.
    pub at: usize,
}

impl<'a> Fields<'a> {
    /// Before the first field of the object that `line` is.
    pub fn begin(line: &'a [u8]) -> Option<Self> {
        let mut fields = Self { line, at: 0 };
        fields.expect(b'{')?;
        fields.skip_space();
        Some(fields)
    }

    /// At the field that begins at `at`.
    pub fn resume(line: &'a [u8], at: usize) -> Self {
        Self { line, at }
    }

    /// The name of the next field, and past its colon.
    pub fn name(&mut self) -> Option<&'a [u8]> {
        let name = self.plain_string()?;
        self.expect(b':')?;
        self.skip_space();
        Some(name)
    }

    /// A string without escapes.
    pub fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let rest = self.line.get(self.at..)?;
        let length = memchr::memchr2(b'"', b'\\', rest)?;
        if rest.get(length) != Some(&b'"') || rest.get(..length)?.iter().any(|byte| *byte < 0x20) {
            return None;
        }
        self.at += length + 1;
        self.skip_space();
        rest.get(..length)
    }

    /// An integer.
    pub fn integer(&mut self) -> Option<i64> {
        let rest = self.line.get(self.at..)?;
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
        let number = std::str::from_utf8(rest.get(..length)?).ok()?.parse().ok()?;
        self.at += length;
        self.skip_space();
        Some(number)
    }

    /// The word `null`, if it is next.
    pub fn null(&mut self) -> bool {
        let found = self.line.get(self.at..).is_some_and(|rest| rest.starts_with(b"null"));
        if found {
            self.at += 4;
            self.skip_space();
        }
        found
    }

    /// Past a comma: true; past the end of the object with nothing after it: false.
    pub fn comma(&mut self) -> Option<bool> {
        match self.line.get(self.at)? {
            b',' => {
                self.at += 1;
                self.skip_space();
                Some(true)
            }
            b'}' => {
                self.at += 1;
                self.skip_space();
                (self.at == self.line.len()).then_some(false)
            }
            _ => None,
        }
    }

    /// Past this byte and white space after it.
    pub fn expect(&mut self, byte: u8) -> Option<()> {
        if self.line.get(self.at) != Some(&byte) {
            return None;
        }
        self.at += 1;
        // A string's content begins right after its quote, white space included.
        if byte != b'"' {
            self.skip_space();
        }
        Some(())
    }

    /// The next byte.
    pub fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.line.get(self.at..).unwrap_or(&[])
    }

    /// Past `count` bytes.
    pub fn skip(&mut self, count: usize) {
        self.at += count;
    }

    /// Past white space.
    pub fn skip_space(&mut self) {
        while matches!(self.line.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_found_in_kcats_order_and_in_any_other() {
        let kcat = br#"{"topic":"t","partition":3,"offset":17,"tstype":"create","ts":1795416444080,"broker":1,"headers":[],"key":null,"payload":"{}"}"#;
        let found = frame(kcat).expect("a record");
        assert_eq!((&*found.topic, found.partition, found.offset, found.timestamp_ms), ("t", 3, 17, 1_795_416_444_080));
        assert!(kcat[found.rest_at..].starts_with(b"\"headers\""));
        let spaced = br#" { "payload" : null, "offset" : 1 , "topic" : "a\u0062", "partition": 0 } "#;
        let found = frame(spaced).expect("a record");
        assert_eq!((&*found.topic, found.offset, found.timestamp_ms, found.rest_at), ("ab", 1, -1, 0));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(frame(b"{\"topic\":\"t\",\"partition\":0,\"payload\":null}").unwrap_err().contains("`offset`"));
        assert!(frame(b"not json").unwrap_err().contains("no record in JSON"));
        assert!(frame(b"").is_err() && frame(b"{}").is_err() && frame(b"[1]").is_err());
    }

    #[test]
    fn a_line_that_is_no_text_before_its_coordinates_end_is_read_as_a_whole() {
        let line = b"{\"topic\":\"t\",\"partition\":0,\"offset\":1,\"tstype\":\"\xff\",\"ts\":5,\"payload\":null}";
        assert_eq!(frame(line).expect("a record").rest_at, 0);
    }
}
