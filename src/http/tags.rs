//! Entity tags: what an answer says is named by when it last changed, so that who has it need not be sent it again.
//!
//! A tag is weak: an answer of a later instant that says the same of what was asked for has the same one, though its
//! `asOf` has moved on. It begins with the epoch of the last change; a hash has the life of the state, the request and
//! whatever else the answer depends on. Compared as RFC 9110 says for `If-None-Match`. Not here: which changes count for
//! which answer (the handlers), when that was (`published`).

use std::convert::Infallible;
use std::hash::{Hash, Hasher};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use siphasher::sip::SipHasher13;

use crate::model::Epoch;

/// What an answer depends on, beside the request: when it last changed, and all else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    changed: Epoch,
    rest: u64,
}

impl Mark {
    /// What was changed last at `changed` and depends on `rest` too.
    pub(super) fn of(changed: Epoch, rest: &impl Hash) -> Self {
        Self { changed, rest: hash(rest) }
    }

    /// The tag of the answer to a request that is told from others by `request`, in a life of the state.
    pub(super) fn tag(self, incarnation: u64, request: &impl Hash) -> Tag {
        let hash = hash(&(incarnation, self.rest, request));
        // Written by hand: a look-up of one resource has one too, and formatting is slow.
        let mut text = [0; TEXT_BYTES];
        let mut length = 0;
        let mut put = |bytes: &[u8]| {
            text[length..length + bytes.len()].copy_from_slice(bytes);
            length += bytes.len();
        };
        put(b"W/\"");
        put(&hex(self.changed));
        put(b"-");
        put(&hex(hash));
        put(b"\"");
        Tag(HeaderValue::from_bytes(&text).expect("hex digits are a header's value"))
    }
}

/// Keys that never change: a tag is compared with one that a process before this one gave.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x656e_7469, 0x7479_7461);
    value.hash(&mut hasher);
    hasher.finish()
}

const DIGITS: usize = 16;
const TEXT_BYTES: usize = 2 * DIGITS + 5;

fn hex(number: u64) -> [u8; DIGITS] {
    std::array::from_fn(|place| {
        let nibble = (number >> (4 * (DIGITS - 1 - place))) & 0xf;
        b"0123456789abcdef"[nibble as usize]
    })
}

/// The tag of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag(HeaderValue);

impl Tag {
    /// What an answer has as the value of `ETag`.
    pub(super) fn of_value(value: HeaderValue) -> Self {
        Self(value)
    }

    /// As the value of `ETag`.
    pub(super) fn into_value(self) -> HeaderValue {
        self.0
    }
}

/// What a client has already.
#[derive(Debug, Clone, Default)]
pub(super) struct IfNoneMatch(Vec<HeaderValue>);

impl<S: Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.get_all(header::IF_NONE_MATCH).iter().cloned().collect()))
    }
}

impl IfNoneMatch {
    /// Whether nothing is said of it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it says that any answer will do.
    pub(super) fn is_any(&self) -> bool {
        self.0.iter().any(|value| value.as_bytes().trim_ascii() == b"*")
    }

    /// Whether the answer with this tag is among it.
    pub(super) fn has(&self, tag: &Tag) -> bool {
        let known = opaque_tags(tag.0.as_bytes()).next();
        known.is_some_and(|known| self.0.iter().any(|value| opaque_tags(value.as_bytes()).any(|one| one == known)))
    }
}

/// The tags of a list without what says that they are weak; none from where it is no such list.
fn opaque_tags(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while let Some((b' ' | b'\t' | b',', after)) = rest.split_first() {
            rest = after;
        }
        let quoted = rest.strip_prefix(b"W/").unwrap_or(rest).strip_prefix(b"\"")?;
        let length = quoted.iter().position(|byte| *byte == b'"')?;
        rest = &quoted[length + 1..];
        Some(&quoted[..length])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(lists: &[&str], tag: &Tag) -> bool {
        IfNoneMatch(lists.iter().map(|list| list.parse().unwrap()).collect()).has(tag)
    }

    #[test]
    fn tags_are_found_in_lists_whether_weak_or_strong() {
        let tag = Mark::of(7, &"rows").tag(1, &"path");
        let text = tag.0.to_str().unwrap();
        assert!(text.starts_with("W/\"0000000000000007-") && text.ends_with('"') && text.len() == TEXT_BYTES, "{text}");
        let strong = text.trim_start_matches("W/");
        assert!(has(&[text], &tag) && has(&[strong], &tag));
        assert!(has(&[&format!("\"a,b\" ,, W/\"\",\t{text} , \"c\"")], &tag) && has(&["\"a\"", text], &tag));
        let inner = strong.trim_matches('"');
        for other in ["", "*", inner, &format!("\"x{inner}\""), &format!("\"a {text}"), &format!("w/{strong}")] {
            assert!(!has(&[other], &tag), "{other}");
        }
        assert!(IfNoneMatch(vec![" * ".parse().unwrap()]).is_any() && !IfNoneMatch(vec![tag.0.clone()]).is_any());
    }

    #[test]
    fn a_tag_names_all_that_an_answer_depends_on() {
        let tag = Mark::of(7, &"rows").tag(1, &"path");
        assert_eq!(tag, Mark::of(7, &"rows").tag(1, &"path"));
        for other in [
            Mark::of(8, &"rows").tag(1, &"path"),
            Mark::of(7, &"row").tag(1, &"path"),
            Mark::of(7, &"rows").tag(2, &"path"),
            Mark::of(7, &"rows").tag(1, &"paths"),
        ] {
            assert_ne!(tag, other);
        }
    }
}
