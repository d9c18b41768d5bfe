//! A log line back into key, value and headers.
//!
//! The fast road reads `kcat`'s own form field by field and unescapes straight into a scratch buffer; a payload whose
//! escaped schema is known is unescaped from its payload on only. Anything else takes the slow road through serde. A line
//! that is at fault says all the same whom it is about: its key and headers are read as far as they can be.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Fault, plain_bytes};
use super::schema_cache::{Prefix, SchemaCache};
use crate::model::RejectReason;
use crate::source::line::Fields;
use crate::source::{HeaderSpan, Span, Wire};

/// The parts of one line, unescaped; reused from line to line.
#[derive(Debug, Default)]
pub(super) struct LineParts {
    buffer: Vec<u8>,
    headers: Vec<HeaderSpan>,
    key: Option<Span>,
    value: Option<Span>,
    /// The schema that stood before the value's payload; the value is then the rest after it.
    pub(super) known: Option<Arc<Prefix>>,
}

impl LineParts {
    /// The parts as Kafka would give them.
    pub(super) fn wire(&self) -> Wire<'_> {
        Wire { buffer: &self.buffer, key: self.key, value: self.value, headers: &self.headers }
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.headers.clear();
        (self.key, self.value, self.known) = (None, None, None);
    }

    /// Reads `line`, whose coordinates end at `rest_at` (0: not known).
    pub(super) fn read(&mut self, line: &[u8], rest_at: usize, cache: &mut SchemaCache) -> Result<(), Fault> {
        self.clear();
        if rest_at > 0 && self.read_plain(line, rest_at, cache).is_some() {
            return Ok(());
        }
        self.clear();
        self.read_any(line)
    }

    fn read_plain(&mut self, line: &[u8], rest_at: usize, cache: &mut SchemaCache) -> Option<()> {
        let mut fields = Fields::resume(line, rest_at);
        let mut seen = [false; 3];
        loop {
            let (index, name) = match fields.name()? {
                b"headers" => (0, Part::Headers),
                b"key" => (1, Part::Key),
                b"payload" => (2, Part::Value),
                _ => return None,
            };
            if std::mem::replace(&mut seen[index], true) {
                return None;
            }
            match name {
                Part::Headers => self.read_headers(&mut fields)?,
                Part::Key => self.key = self.string_or_null(&mut fields)?,
                Part::Value => self.read_value(&mut fields, cache)?,
            }
            if !fields.comma()? {
                return (seen[2] && self.is_text()).then_some(());
            }
        }
    }

    /// Whether every part is text for itself: two broken ones side by side may make a whole.
    fn is_text(&self) -> bool {
        let Ok(text) = std::str::from_utf8(&self.buffer) else { return false };
        let in_headers = self.headers.iter().flat_map(|header| [Some(header.name), header.value]);
        in_headers.chain([self.key, self.value]).flatten().all(|span| text.is_char_boundary(span.start as usize))
    }

    fn read_headers(&mut self, fields: &mut Fields<'_>) -> Option<()> {
        fields.expect(b'[')?;
        while fields.peek()? != b']' {
            let name = self.string_or_null(fields)??;
            fields.expect(b',')?;
            let value = self.string_or_null(fields)?;
            self.headers.push(HeaderSpan { name, value });
            if fields.peek()? == b',' {
                fields.expect(b',')?;
            }
        }
        fields.expect(b']')
    }

    fn read_value(&mut self, fields: &mut Fields<'_>, cache: &mut SchemaCache) -> Option<()> {
        if fields.null() {
            return Some(());
        }
        let quoted = fields.rest().strip_prefix(b"\"")?;
        self.known = cache.of_escaped(quoted);
        let skipped = self.known.as_ref().map_or(0, |prefix| prefix.escaped.len());
        fields.skip(1 + skipped);
        self.value = Some(self.unescape_string(fields)?);
        Some(())
    }

    fn string_or_null(&mut self, fields: &mut Fields<'_>) -> Option<Option<Span>> {
        if fields.null() {
            return Some(None);
        }
        fields.expect(b'"')?;
        Some(Some(self.unescape_string(fields)?))
    }

    /// Unescapes up to the closing quote and past it.
    fn unescape_string(&mut self, fields: &mut Fields<'_>) -> Option<Span> {
        let start = self.buffer.len();
        let used = unescape(fields.rest(), &mut self.buffer)?;
        fields.skip(used);
        fields.skip_space();
        Some(Span::since(start, &self.buffer))
    }

    /// The slow road: any order, any escapes, a payload that someone turned into an object.
    fn read_any(&mut self, line: &[u8]) -> Result<(), Fault> {
        match std::str::from_utf8(line) {
            Ok(text) => self.read_text(Source { line, text }),
            Err(error) => {
                let text = of_same_length(line);
                // What it says is known already; only the parts that are whole are wanted.
                drop(self.read_text(Source { line, text: &text }));
                Err(Fault::new(RejectReason::InvalidText, format!("the line is not UTF-8: {error}")))
            }
        }
    }

    /// Key and headers first, and past what is at fault in them: a reject should know whom it is about.
    fn read_text(&mut self, source: Source<'_>) -> Result<(), Fault> {
        let parts: AnyLine<'_> = serde_json::from_str(source.text).map_err(|error| Fault::of_parser(&error, None))?;
        let mut fault = Ok(());
        match self.raw(source, parts.key, "key") {
            Ok(key) => self.key = key,
            Err(found) => fault = Err(found),
        }
        let headers = parts.headers.unwrap_or_default();
        let mut pairs = headers.chunks_exact(2);
        for pair in &mut pairs {
            fault = fault.and(self.read_header(source, pair[0], pair[1]));
        }
        fault?;
        if !pairs.remainder().is_empty() {
            return Err(Fault::new(RejectReason::InvalidHeader, "`headers` is a flat list of names and values"));
        }
        let Some(payload) = parts.payload else {
            let detail = "the line has no `payload`; a delete has one that is null or `{}`";
            return Err(Fault::new(RejectReason::NotALogLine, detail));
        };
        self.value = self.raw(source, Some(payload), "payload")?;
        Ok(())
    }

    fn read_header(&mut self, source: Source<'_>, name: &RawValue, value: &RawValue) -> Result<(), Fault> {
        let name = self.raw(source, Some(name), "header name")?;
        let name = name.ok_or_else(|| Fault::new(RejectReason::InvalidHeader, "a header has no name"))?;
        let value = self.raw(source, Some(value), "header value");
        // The last one of a name counts, also when nobody can read it.
        self.headers.push(HeaderSpan { name, value: value.as_ref().map_or(None, |value| *value) });
        value.map(drop)
    }

    /// A string's content, any other value as its JSON text, null as none.
    fn raw(&mut self, source: Source<'_>, value: Option<&RawValue>, what: &str) -> Result<Option<Span>, Fault> {
        let Some(text) = value.map(RawValue::get).filter(|text| *text != "null") else { return Ok(None) };
        if !source.is_whole(text) {
            return Err(Fault::new(RejectReason::InvalidText, format!("the {what} is not UTF-8")));
        }
        let start = self.buffer.len();
        if text.starts_with('"') {
            let content: String = serde_json::from_str(text)
                .map_err(|error| Fault::new(RejectReason::InvalidText, format!("the {what} is no text: {error}")))?;
            self.buffer.extend_from_slice(content.as_bytes());
        } else {
            self.buffer.extend_from_slice(text.as_bytes());
        }
        Ok(Some(Span::since(start, &self.buffer)))
    }
}

/// A line, and the text that is read in its place: the line itself, or one of the same length without what is no text.
#[derive(Clone, Copy)]
struct Source<'a> {
    line: &'a [u8],
    text: &'a str,
}

impl Source<'_> {
    /// Whether `part`, which borrows from the text, stands so in the line.
    fn is_whole(self, part: &str) -> bool {
        let at = part.as_ptr().addr() - self.text.as_ptr().addr();
        self.line.get(at..at + part.len()) == Some(part.as_bytes())
    }
}

/// The line with a question mark for every byte that is no text, so that places in both are the same.
fn of_same_length(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

#[derive(Clone, Copy)]
enum Part {
    Headers,
    Key,
    Value,
}

#[derive(Deserialize)]
struct AnyLine<'a> {
    #[serde(borrow)]
    headers: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
}

/// Null is a payload too; only a line without the field has none.
fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Appends the content of a JSON string whose opening quote is past; answers how much was used with the closing quote.
/// None for an escape that is not plain: the slow road tells what is wrong with it.
fn unescape(source: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    out.reserve(source.len().min(64 * 1024));
    let mut at = 0;
    loop {
        // Escapes stand every ten bytes or so: eight at a time is faster here than a search for the next one.
        while let Some(eight) = source.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            let plain = plain_bytes(*eight);
            out.extend_from_slice(eight);
            at += plain;
            if plain < 8 {
                out.truncate(out.len() - (8 - plain));
                break;
            }
        }
        match *source.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 1,
            // Not JSON, whatever some writer may think.
            0..0x20 => return None,
            plain => {
                out.push(plain);
                at += 1;
                continue;
            }
        }
        let escaped = *source.get(at)?;
        at += 1;
        match escaped {
            b'"' | b'\\' | b'/' => out.push(escaped),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let (character, used) = unicode_escape(source.get(at..)?)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                at += used;
            }
            _ => return None,
        }
    }
}

/// The character of `XXXX` or of `XXXX\uXXXX`, and how many bytes that took.
fn unicode_escape(source: &[u8]) -> Option<(char, usize)> {
    let unit = |bytes: &[u8]| {
        let digits = std::str::from_utf8(bytes).ok().filter(|_| bytes.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(digits, 16).ok()
    };
    let first = unit(source.get(..4)?)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 4));
    }
    let second = unit(source.get(4..10)?.strip_prefix(b"\\u")?)?;
    let decoded = char::decode_utf16([first as u16, second as u16]).next()?.ok()?;
    ((0xdc00..0xe000).contains(&second)).then_some((decoded, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, rest_at: usize) -> Result<LineParts, Fault> {
        let mut parts = LineParts::default();
        parts.read(line.as_bytes(), rest_at, &mut SchemaCache::default()).map(|()| parts)
    }

    #[test]
    fn both_roads_read_the_same() {
        let head = r#"{"topic":"t","partition":0,"offset":1,"ts":5,"#;
        let rest = r#""headers":["id","a\"b","txid",null],"key":"k\u00e9\ud83d\ude00","payload":"{\"a\":\"\\n\"}"}"#;
        let line = format!("{head}{rest}");
        for rest_at in [0, head.len()] {
            let parts = read(&line, rest_at).expect("a record");
            let wire = parts.wire();
            assert_eq!(wire.key(), Some("ké😀".as_bytes()));
            assert_eq!(wire.value(), Some(br#"{"a":"\n"}"#.as_slice()));
            let headers: Vec<_> = wire.headers().collect();
            assert_eq!(headers, [(b"id".as_slice(), Some(b"a\"b".as_slice())), (b"txid".as_slice(), None)]);
        }
    }

    #[test]
    fn a_payload_as_an_object_is_taken_as_its_text_and_a_lone_surrogate_is_refused() {
        let parts = read(r#"{"payload":{"a":[1]},"key":null}"#, 0).expect("a record");
        assert_eq!((parts.wire().key(), parts.wire().value()), (None, Some(br#"{"a":[1]}"#.as_slice())));
        assert_eq!(read(r#"{"payload":"\ud800"}"#, 1).expect_err("lone").reason, RejectReason::InvalidText);
        assert_eq!(
            read(r#"{"headers":["id"],"payload":null}"#, 1).expect_err("odd").reason,
            RejectReason::InvalidHeader
        );
        assert!(read(r#"{"payload":"x"} trailing"#, 1).is_err());
    }

    #[test]
    fn halves_of_a_character_in_two_parts_are_no_character() {
        let lines: [&[u8]; 2] = [
            b"{\"headers\":[\"id\",\"e\"],\"key\":\"k\xc3\",\"payload\":\"\xa9x\"}",
            b"{\"headers\":[\"id\",\"e\",\"x\",\"\xc3\"],\"key\":\"\xa9k\",\"payload\":\"x\"}",
        ];
        for line in lines {
            for rest_at in [0, 1] {
                let mut parts = LineParts::default();
                let fault = parts.read(line, rest_at, &mut SchemaCache::default()).expect_err("no text");
                assert_eq!(fault.reason, RejectReason::InvalidText);
                let (key, id) = (parts.wire().key(), parts.wire().headers().next());
                assert_eq!((key, id), (None, Some((b"id".as_slice(), Some(b"e".as_slice())))));
            }
        }
    }
}
