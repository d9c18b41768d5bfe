//! Strict JSON: one walk that refuses what two parsers could read differently, and white space taken out.
//!
//! Promises: text that [`check`] accepts is valid JSON with no key twice in an object, no lone surrogate, and nested at
//! most [`DEPTH_MAX`] deep, so nothing after it recurses further. Numbers are checked for form, never converted.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::model::RejectReason;

/// What is wrong with a text, in the terms of the quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: RejectReason,
    pub(super) detail: String,
}

impl Fault {
    pub(super) fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// A parser's error, in the terms of the quarantine.
    pub(super) fn of_parser(error: &serde_json::Error, found: Option<RejectReason>) -> Self {
        let detail = error.to_string();
        let reason = found.unwrap_or_else(|| {
            if detail.contains("recursion limit") {
                RejectReason::TooDeep
            } else if detail.contains("surrogate")
                || detail.contains("hex escape")
                || detail.contains("unicode")
                || detail.contains("control character")
            {
                RejectReason::InvalidText
            } else {
                RejectReason::NotJson
            }
        });
        Self { reason, detail }
    }
}

/// The reason that a visitor found, since serde's errors carry only text.
pub(super) type Found = Cell<Option<RejectReason>>;

/// Deeper nesting than this is refused (M6). Less than serde_json's own limit, so that a text is judged the same whether
/// it is read alone or inside its envelopes.
pub(super) const DEPTH_MAX: u8 = 100;
/// Levels that envelopes may add.
const ENVELOPE_LEVELS: u8 = 20;

/// Names already met in one object. Objects are small, so a list is faster than a set until it is not.
#[derive(Default)]
pub(super) struct Names<'de> {
    few: Vec<Cow<'de, str>>,
    many: std::collections::HashSet<Cow<'de, str>>,
}

impl<'de> Names<'de> {
    const FEW: usize = 32;

    /// Notes a name; an error when it was there.
    pub(super) fn note<E: serde::de::Error>(&mut self, name: Cow<'de, str>, found: &Found) -> Result<(), E> {
        let twice = self.few.contains(&name) || (!self.many.is_empty() && self.many.contains(&name));
        if twice {
            found.set(Some(RejectReason::DuplicateKey));
            return Err(E::custom(format_args!("the key {name:?} occurs twice in one object")));
        }
        if self.few.len() < Self::FEW {
            self.few.push(name);
        } else {
            self.many.insert(name);
        }
        Ok(())
    }
}

/// A name, borrowed where it has no escapes.
pub(super) struct Name<'de>(pub(super) Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// Walks any value and keeps nothing.
#[derive(Clone, Copy)]
pub(super) struct Strict<'f> {
    pub(super) found: &'f Found,
    /// So many levels may still be opened.
    pub(super) depth_left: u8,
}

impl Strict<'_> {
    /// The walk of what stands inside an array or object.
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        let Some(depth_left) = self.depth_left.checked_sub(1) else {
            self.found.set(Some(RejectReason::TooDeep));
            return Err(E::custom(format_args!("nested too deeply; at most {DEPTH_MAX} levels are allowed")));
        };
        Ok(Self { depth_left, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let inside = self.inside()?;
        while elements.next_element_seed(inside)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let inside = self.inside()?;
        let mut names = Names::default();
        while let Some(Name(name)) = fields.next_key()? {
            names.note(name, self.found)?;
            fields.next_value_seed(inside)?;
        }
        Ok(())
    }
}

/// Whether `text` is one strict JSON value; a number too great for a float is fine, it is kept as text.
pub(super) fn check(text: &str) -> Result<(), Fault> {
    check_inside(text, 0)
}

/// [`check`] for a value that stands `depth` levels deep in another.
pub(super) fn check_inside(text: &str, depth: u8) -> Result<(), Fault> {
    check_to_depth(text, DEPTH_MAX.saturating_sub(depth))
}

/// [`check`] for a whole value, with room for envelopes around an event that is checked for itself.
pub(super) fn check_enveloped(text: &str) -> Result<(), Fault> {
    check_to_depth(text, DEPTH_MAX + ENVELOPE_LEVELS)
}

fn check_to_depth(text: &str, depth_left: u8) -> Result<(), Fault> {
    let found = Found::default();
    let strict = Strict { found: &found, depth_left };
    let result = walk(text, strict);
    match result {
        Ok(()) => Ok(()),
        // serde_json converts numbers as it goes and refuses 1e400. That is a number all the same; make it a small one
        // and look at the rest.
        Err(error) if error.to_string().contains("number out of range") => {
            let result = walk(&with_small_numbers(text), strict);
            result.map_err(|error| Fault::of_parser(&error, found.get()))
        }
        Err(error) => Err(Fault::of_parser(&error, found.get())),
    }
}

fn walk(text: &str, strict: Strict<'_>) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    strict.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// The same text with numbers cut to fifteen digits in a row and exponents of zero, strings untouched.
fn with_small_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped, mut in_exponent, mut digits) = (false, false, false, 0);
    for c in text.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_digit() {
            digits += 1;
            if digits > 15 {
                continue;
            }
            out.push(if in_exponent { '0' } else { c });
            continue;
        } else {
            in_string = c == '"';
            in_exponent = (digits > 0 && matches!(c, 'e' | 'E')) || (in_exponent && matches!(c, '+' | '-'));
            digits = 0;
        }
        out.push(c);
    }
    out
}

/// A strict parse into something typed by a seed.
pub(super) fn parse_strict<'de, S: DeserializeSeed<'de>>(
    text: &'de str,
    seed: S,
    found: &Found,
) -> Result<S::Value, Fault> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = seed.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    parsed.map_err(|error| Fault::of_parser(&error, found.get()))
}

/// The value without white space between tokens, so that it can stand on a line of its own.
pub(super) fn minified(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if matches!(c, ' ' | '\t' | '\r' | '\n') {
            continue;
        } else {
            in_string = c == '"';
        }
        out.push(c);
    }
    Cow::Owned(out)
}

/// How many of eight bytes come before the first that is a quote, a backslash or a control character.
pub(super) fn plain_bytes(eight: [u8; 8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(eight);
    // The high bit of each byte that is less than `n`; above the first such byte there may be false ones.
    let less_than = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & HIGH;
    let equal_to = |byte: u8| less_than(word ^ (ONES * u64::from(byte)), 1);
    let special = less_than(word, 0x20) | equal_to(b'"') | equal_to(b'\\');
    (special.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_bytes_are_counted_as_one_by_one() {
        for special in [b'"', b'\\', 0, 0x1f, 0x20, b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff] {
            for other in [b'a', 0x21, 0x80, 0xdc, 0xa2, 0xff, b'"' + 1, b'"' | 0x80] {
                for at in 0..8 {
                    let mut eight = [other; 8];
                    eight[at] = special;
                    let is_plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
                    assert_eq!(plain_bytes(eight), eight.iter().take_while(|byte| is_plain(byte)).count(), "{eight:?}");
                }
            }
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        let reason = |text: &str| check(text).expect_err(text).reason;
        assert_eq!(reason(r#"{"a":1,"a":1}"#), RejectReason::DuplicateKey);
        assert_eq!(reason(r#"{"x":[{"a":1,"\u0061":1}]}"#), RejectReason::DuplicateKey);
        assert_eq!(reason(r#"["\ud800"]"#), RejectReason::InvalidText);
        assert_eq!(reason("{} {}"), RejectReason::NotJson);
        assert_eq!(reason("{\"a\":"), RejectReason::NotJson);
        assert_eq!(reason("\u{feff}{}"), RejectReason::NotJson);
        assert_eq!(reason("NaN"), RejectReason::NotJson);
        for depth in [200, 1_000_000] {
            assert_eq!(reason(&"[".repeat(depth)), RejectReason::TooDeep);
        }
        let many: String = (0..100).map(|i| format!("\"k{i}\":1,")).collect();
        assert_eq!(reason(&format!("{{{many}\"k77\":2}}")), RejectReason::DuplicateKey);
    }

    #[test]
    fn numbers_of_any_size_are_fine() {
        for text in ["1e400", "[-1E+999]", "123456789012345678901234567890", "-0", "0.1", r#"{"a":"1e400","b":1e400}"#]
        {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        assert_eq!(check(&"9".repeat(100_000)), Ok(()));
        assert!(check("[1e400").is_err() && check("1e").is_err() && check("01").is_err());
    }

    #[test]
    fn white_space_goes_only_between_tokens() {
        assert_eq!(minified("{ \"a b\" : [ 1 ,\n 2 ] , \"c\\\" d\" : \" \" }"), r#"{"a b":[1,2],"c\" d":" "}"#);
        assert!(matches!(minified("{\"a\":1}"), Cow::Borrowed(_)));
    }
}
