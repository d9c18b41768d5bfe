//! The fast road of an event object: one pass over the text as Inventory's connector writes it.
//!
//! In: the text of a payload. Out: its fields, borrowed, as the strict road (`payload`) reads them; none where anything
//! is met that is rare, and then the strict road judges: white space between tokens, escapes in names or in the fields of
//! an event, `\u` anywhere, a name twice, deep nesting, another type than text, whatever is no JSON. So nothing is refused
//! here, and no error is worded. Promises: what is answered is what the strict road would answer.

use super::json::plain_bytes;
use super::payload::{Payload, Place, Slot};

/// Deeper values take the strict road; no type of Kessel's nests deeper than five.
const DEPTH_MAX: u8 = 24;
/// So many names of objects that are not at their end yet; with more the strict road is taken.
const NAMES_MAX: usize = 64;

/// Parses an event object, if it is a plain one.
pub(super) fn parse(text: &str) -> Option<Payload<'_>> {
    let mut payload = Payload::default();
    payload.is_compact = true;
    let mut scan = Scan { text, at: 0, names: [(0, 0); NAMES_MAX], named: 0 };
    // Names are known by places in 32 bits.
    u32::try_from(text.len()).ok()?;
    scan.level(Place::Top, &mut payload)?;
    (scan.at == text.len()).then_some(payload)
}

/// A place in a text, and the names of the objects that it stands in.
struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// Where each begins and ends.
    names: [(u32, u32); NAMES_MAX],
    named: usize,
}

/// The names of one object: the first of them among those of a scan, and a bit for what each looks like.
struct Names {
    first: usize,
    looks: u64,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Whether `byte` is next; then it is past.
    fn takes(&mut self, byte: u8) -> bool {
        self.expect(byte).is_some()
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text.as_bytes().get(self.at..)?.starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    /// The content of a string as it is written, and whether there is an escape in it.
    fn string(&mut self) -> Option<(&'a str, bool)> {
        self.expect(b'"')?;
        let (bytes, start) = (self.text.as_bytes(), self.at);
        let mut has_escape = false;
        loop {
            while let Some(eight) = bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
                let plain = plain_bytes(*eight);
                self.at += plain;
                if plain < 8 {
                    break;
                }
            }
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    has_escape = true;
                    let escaped = *bytes.get(self.at + 1)?;
                    if !matches!(escaped, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') {
                        return None;
                    }
                    self.at += 2;
                }
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
        let content = self.text.get(start..self.at)?;
        self.at += 1;
        Some((content, has_escape))
    }

    /// A text without escapes.
    fn plain_string(&mut self) -> Option<&'a str> {
        self.string().and_then(|(content, has_escape)| (!has_escape).then_some(content))
    }

    fn names(&self) -> Names {
        Names { first: self.named, looks: 0 }
    }

    /// A name that the object has not had yet, and the colon.
    fn name(&mut self, names: &mut Names) -> Option<&'a str> {
        let start = self.at + 1;
        let name = self.plain_string()?;
        let bytes = name.as_bytes();
        let [first, last] = [bytes.first(), bytes.last()].map(|byte| u64::from(byte.copied().unwrap_or(0)));
        let look = 1 << ((bytes.len() as u64 * 7 + first * 5 + last) % 64);
        if names.looks & look != 0 {
            let is_known = |(start, end): &(u32, u32)| self.text.get(*start as usize..*end as usize) == Some(name);
            if self.names.get(names.first..self.named)?.iter().any(is_known) {
                return None;
            }
        }
        names.looks |= look;
        *self.names.get_mut(self.named)? = (start as u32, (start + bytes.len()) as u32);
        self.named += 1;
        self.expect(b':')?;
        Some(name)
    }

    /// Whether another field of the object follows; if not, it is past and its names are forgotten.
    fn another(&mut self, names: &Names) -> Option<bool> {
        if self.takes(b',') {
            return Some(true);
        }
        self.expect(b'}')?;
        self.named = names.first;
        Some(false)
    }

    /// An object whose fields are known.
    fn level(&mut self, place: Place, payload: &mut Payload<'a>) -> Option<()> {
        self.expect(b'{')?;
        if self.takes(b'}') {
            return Some(());
        }
        let mut names = self.names();
        loop {
            let name = self.name(&mut names)?;
            payload.mark(place, name);
            if let Some(slot) = payload.slot(place, name) {
                *slot = self.slot()?;
            } else if let Some(child) = place.child(name) {
                match self.peek()? {
                    b'n' => self.word("null")?,
                    _ => self.level(child, payload)?,
                }
            } else if place.is_data(name) {
                let start = self.at;
                self.value(DEPTH_MAX)?;
                payload.resource_data = self.text.get(start..self.at).filter(|text| *text != "null");
            } else {
                self.value(DEPTH_MAX)?;
            }
            if !self.another(&names)? {
                return Some(());
            }
        }
    }

    fn slot(&mut self) -> Option<Slot<'a>> {
        match self.peek()? {
            b'n' => self.word("null").map(|()| Slot::Absent),
            _ => self.plain_string().map(|text| Slot::Text(text.into())),
        }
    }

    /// Any value, of which nothing is kept.
    fn value(&mut self, depth_left: u8) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' => self.object(depth_left.checked_sub(1)?),
            b'[' => self.array(depth_left.checked_sub(1)?),
            b'n' => self.word("null"),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth_left: u8) -> Option<()> {
        self.expect(b'{')?;
        if self.takes(b'}') {
            return Some(());
        }
        let mut names = self.names();
        loop {
            self.name(&mut names)?;
            self.value(depth_left)?;
            if !self.another(&names)? {
                return Some(());
            }
        }
    }

    fn array(&mut self, depth_left: u8) -> Option<()> {
        self.expect(b'[')?;
        if self.takes(b']') {
            return Some(());
        }
        loop {
            self.value(depth_left)?;
            if !self.takes(b',') {
                return self.expect(b']');
            }
        }
    }

    /// A number of any size; it is not converted.
    fn number(&mut self) -> Option<()> {
        self.takes(b'-');
        if !self.takes(b'0') {
            self.digits()?;
        }
        if self.takes(b'.') {
            self.digits()?;
        }
        if self.takes(b'e') || self.takes(b'E') {
            let _ = self.takes(b'+') || self.takes(b'-');
            self.digits()?;
        }
        Some(())
    }

    /// One digit at least.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::decode::payload;

    /// The strict road's answer, in which it alone has not looked whether there is white space.
    fn strictly(text: &str) -> Option<Payload<'_>> {
        let mut payload = payload::parse(text).ok()?;
        payload.is_compact = true;
        Some(payload)
    }

    /// The payloads of recorded values that have one.
    fn payloads() -> Vec<String> {
        let lines = include_str!("../../tests/fixtures/kessel-records.jsonl").lines();
        let values = lines.filter_map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).expect("a record a line");
            record["payload"].as_str().map(str::to_owned)
        });
        let payloads = values.filter_map(|value| {
            let start = value.rfind(PAYLOAD)? + PAYLOAD.len() - 1;
            Some(value[start..value.len() - 1].to_owned())
        });
        payloads.collect()
    }

    /// What stands before the fields of a payload.
    const PAYLOAD: &str = r#","payload":{"#;

    #[test]
    fn what_the_connector_writes_is_plain_and_read_as_strictly() {
        let payloads = payloads();
        assert!(payloads.len() > 20, "{} were recorded", payloads.len());
        for text in payloads {
            let plain = parse(&text).unwrap_or_else(|| panic!("not plain: {text}"));
            assert_eq!(Some(plain), strictly(&text), "{text}");
        }
    }

    #[test]
    fn whatever_is_answered_is_what_the_strict_road_answers() {
        let mut random = StdRng::seed_from_u64(1);
        let parts = [
            "{",
            "}",
            "[",
            "]",
            "\"",
            ":",
            ",",
            "\\",
            "\\\"",
            "\\u0041",
            "\\ud800",
            " ",
            "\n",
            "\u{1}",
            "null",
            "true",
            "0",
            "01",
            "-",
            "1e400",
            ".5",
            "é",
            "\"a\":1,",
            "\"id\":null,",
            "{}",
            "[[]]",
            "\"data\":",
            "\"payload\":1,",
        ];
        let mut texts = payloads();
        // Those of deletes are empty.
        texts.retain(|text| text.len() > 100);
        let mut answered = 0;
        for _ in 0..100_000 {
            let mut text = texts[random.random_range(0..texts.len())].clone();
            for _ in 0..random.random_range(1..3) {
                let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
                let (start, length) = (random.random_range(0..places.len()), random.random_range(0..3));
                let end = places.get(start + length).copied().unwrap_or(text.len());
                let part = if random.random_bool(0.2) { "" } else { parts[random.random_range(0..parts.len())] };
                text.replace_range(places[start]..end, part);
            }
            if let Some(plain) = parse(&text) {
                answered += 1;
                assert_eq!(Some(plain), strictly(&text), "{text}");
            }
        }
        assert!(answered > 10_000, "{answered} were plain");
    }

    #[test]
    fn what_is_rare_is_left_to_the_strict_road() {
        let plain =
            r#"{"type":"t","data":{"resource_data":{"a":[1,-0.5e+3,"x\n",{}],"b":{"a":null}}},"x":[true,false]}"#;
        assert_eq!(parse(plain).expect("plain").resource_data, Some(r#"{"a":[1,-0.5e+3,"x\n",{}],"b":{"a":null}}"#));
        let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(60), "]".repeat(60));
        let many = format!("{{{}\"z\":1}}", (0..100).map(|i| format!("\"k{i}\":1,")).collect::<String>());
        let rare = [
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"b":1,"a":1}}"#,
            r#"{"a": 1}"#,
            r#"{"\u0061":1}"#,
            r#"{"id":"\n"}"#,
            r#"{"id":7}"#,
            r#"{"data":[]}"#,
            r#"{"x":01}"#,
            r#"{"x":1.}"#,
            r#"{"x":nul}"#,
            r#"{"x":1,}"#,
            r#"{"x":"}"#,
            "{",
            "",
            "[]",
            "{}{}",
            &deep,
            &many,
        ];
        for text in rare {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
