//! Tokens: small, opaque, versioned, authenticated.
//!
//! A *consistency token* names the position that an answer reflects, and the log it belongs to; a *page token* says
//! where a list of resources goes on, and for which filter; a *quarantine token* and a *row token* where the lists of
//! rejects and of a view's rows go on; a *stream token* which epoch somebody who follows changes has reached. All end in a MAC, so nobody reads positions into them or makes one up; a token of
//! another process's key, of another version or a damaged one is refused with a reason.

use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use siphasher::sip::SipHasher13;

use super::pages::Filter;
use super::row_place::{PREFIX_BYTES, RowKey, RowPlace};
use crate::model::{Epoch, Position, ResourceId};

const CONSISTENCY_VERSION: u8 = 1;
const PAGE_VERSION: u8 = 65;
const QUARANTINE_VERSION: u8 = 129;
const ROW_VERSION: u8 = 194;
const DIFFERENCE_VERSION: u8 = 226;
const STATES_VERSION: u8 = 242;
const STREAM_VERSION: u8 = 250;
const MAC_BYTES: usize = 12;
/// A longer text is no token of ours: a position of two hundred partitions fits.
pub const TOKEN_CHARS_MAX: usize = 12_288;

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not the text of a token.
    #[error("it is damaged: tokens are passed on exactly as they were given")]
    Damaged,
    /// The MAC is not ours.
    #[error("it was not made by this instance, or was changed")]
    Foreign,
    /// A token of another version or kind.
    #[error("it is a token of another kind or version")]
    OtherKind,
    /// A page token of another list.
    #[error(
        "it belongs to another list, or to one with other filters, another order or, of a view, another text; keep these the same \
             from page to page, or begin with the first page"
    )]
    OtherFilter,
}

/// The key of the MACs.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

impl TokenKey {
    /// A key from the system's randomness.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// A key from a secret of the configuration.
    pub fn from_secret(secret: &str) -> Self {
        use sha2::Digest;
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    fn mac(&self, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.0).expect("any length of key will do");
        mac.update(body);
        mac
    }

    fn seal(&self, mut body: Vec<u8>) -> String {
        let tag = self.mac(&body).finalize().into_bytes();
        body.extend_from_slice(&tag[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(body)
    }

    /// The body of a token of `version`.
    fn open(&self, text: &str, version: u8) -> Result<Vec<u8>, TokenError> {
        if text.len() > TOKEN_CHARS_MAX {
            return Err(TokenError::Damaged);
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Damaged)?;
        let body_bytes = bytes.len().checked_sub(MAC_BYTES).ok_or(TokenError::Damaged)?;
        let tag = bytes.split_off(body_bytes);
        self.mac(&bytes).verify_truncated_left(&tag).map_err(|_| TokenError::Foreign)?;
        match bytes.first() {
            Some(first) if *first == version => Ok(bytes),
            _ => Err(TokenError::OtherKind),
        }
    }
}

/// The position that an answer reflects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyToken {
    /// Which life of the durable state it belongs to.
    pub incarnation: u64,
    /// The epoch of the answer.
    pub epoch: Epoch,
    /// Hash of topic, partition, next offset.
    pub next_offsets: Vec<(u32, i32, i64)>,
}

impl ConsistencyToken {
    /// The token of a position.
    pub fn of(incarnation: u64, epoch: Epoch, position: &Position) -> Self {
        let next_offsets =
            position.iter().map(|(topic, partition, next)| (topic_hash(topic), partition, next)).collect();
        Self { incarnation, epoch, next_offsets }
    }

    /// Whether an instant of the same life of the state is no older than that of the token, in any partition.
    pub fn is_reached(&self, epoch: Epoch, position: &Position) -> bool {
        let is_read = |(topic, partition, wanted): &(u32, i32, i64)| {
            let of_partition = position.iter().filter(|(_, known, _)| known == partition);
            let mut of_topic = of_partition.filter(|(name, ..)| topic_hash(name) == *topic);
            *wanted <= 0 || of_topic.any(|(_, _, next)| next >= *wanted)
        };
        epoch >= self.epoch && self.next_offsets.iter().all(is_read)
    }

    /// As text.
    pub fn encode(&self, key: &TokenKey) -> String {
        let mut body = vec![CONSISTENCY_VERSION];
        body.extend_from_slice(&self.incarnation.to_be_bytes());
        put_varint(&mut body, self.epoch);
        for (topic, partition, next) in &self.next_offsets {
            body.extend_from_slice(&topic.to_be_bytes());
            put_varint(&mut body, u64::from(partition.unsigned_abs()));
            put_varint(&mut body, next.unsigned_abs());
        }
        key.seal(body)
    }

    /// From text.
    pub fn decode(text: &str, key: &TokenKey) -> Result<Self, TokenError> {
        let body = key.open(text, CONSISTENCY_VERSION)?;
        let mut rest = body.get(1..).ok_or(TokenError::Damaged)?;
        let incarnation = u64::from_be_bytes(take(&mut rest)?);
        let epoch = get_varint(&mut rest)?;
        let mut next_offsets = Vec::new();
        while !rest.is_empty() {
            let topic = u32::from_be_bytes(take(&mut rest)?);
            let partition = i32::try_from(get_varint(&mut rest)?).map_err(|_| TokenError::Damaged)?;
            let next = i64::try_from(get_varint(&mut rest)?).map_err(|_| TokenError::Damaged)?;
            next_offsets.push((topic, partition, next));
        }
        Ok(Self { incarnation, epoch, next_offsets })
    }
}

/// Where a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageToken {
    /// After this id.
    pub after: ResourceId,
}

impl PageToken {
    /// As text, for a list with this filter.
    pub fn encode(&self, filter: &Filter, key: &TokenKey) -> String {
        let mut body = vec![PAGE_VERSION];
        body.extend_from_slice(self.after.uuid().as_bytes());
        body.extend_from_slice(&filter_hash(filter).to_be_bytes());
        key.seal(body)
    }

    /// From text, for a list with this filter.
    pub fn decode(text: &str, filter: &Filter, key: &TokenKey) -> Result<Self, TokenError> {
        let body = key.open(text, PAGE_VERSION)?;
        let mut rest = body.get(1..).ok_or(TokenError::Damaged)?;
        let after = ResourceId::from_uuid(uuid::Uuid::from_bytes(take(&mut rest)?));
        if u64::from_be_bytes(take(&mut rest)?) != filter_hash(filter) || !rest.is_empty() {
            return Err(TokenError::OtherFilter);
        }
        Ok(Self { after })
    }
}

/// Where a list of rows goes on, and of which list: `list` names the view, its columns, filters and order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowToken {
    /// Where.
    pub place: RowPlace,
}

impl RowToken {
    /// As text, for a list that is named so.
    pub fn encode(&self, list: &str, key: &TokenKey) -> String {
        let mut body = vec![ROW_VERSION];
        body.extend_from_slice(&list_hash(list).to_be_bytes());
        put_place(&mut body, &self.place);
        key.seal(body)
    }

    /// From text, for a list that is named so.
    pub fn decode(text: &str, list: &str, key: &TokenKey) -> Result<Self, TokenError> {
        let body = key.open(text, ROW_VERSION)?;
        let mut rest = body.get(1..).ok_or(TokenError::Damaged)?;
        if u64::from_be_bytes(take(&mut rest)?) != list_hash(list) {
            return Err(TokenError::OtherFilter);
        }
        Ok(Self { place: get_place(rest)? })
    }
}

/// Where a list of what changed in a view goes on, and between which epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferenceToken {
    /// From here
    pub from: Epoch,
    /// to there.
    pub to: Epoch,
    /// Where.
    pub place: RowPlace,
}

impl DifferenceToken {
    /// As text, for a list that is named so.
    pub fn encode(&self, list: &str, key: &TokenKey) -> String {
        let mut body = vec![DIFFERENCE_VERSION];
        body.extend_from_slice(&list_hash(list).to_be_bytes());
        put_varint(&mut body, self.from);
        put_varint(&mut body, self.to);
        put_place(&mut body, &self.place);
        key.seal(body)
    }

    /// From text, for a list that is named so.
    pub fn decode(text: &str, list: &str, key: &TokenKey) -> Result<Self, TokenError> {
        let body = key.open(text, DIFFERENCE_VERSION)?;
        let mut rest = body.get(1..).ok_or(TokenError::Damaged)?;
        if u64::from_be_bytes(take(&mut rest)?) != list_hash(list) {
            return Err(TokenError::OtherFilter);
        }
        let (from, to) = (get_varint(&mut rest)?, get_varint(&mut rest)?);
        Ok(Self { from, to, place: get_place(rest)? })
    }
}

/// Where the list of the states of a resource, newest first, goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatesToken {
    /// With those of earlier epochs.
    pub before: Epoch,
}

impl StatesToken {
    /// As text, for this resource.
    pub fn encode(&self, id: ResourceId, key: &TokenKey) -> String {
        let mut body = vec![STATES_VERSION];
        body.extend_from_slice(id.uuid().as_bytes());
        put_varint(&mut body, self.before);
        key.seal(body)
    }

    /// From text, for this resource.
    pub fn decode(text: &str, id: ResourceId, key: &TokenKey) -> Result<Self, TokenError> {
        let body = key.open(text, STATES_VERSION)?;
        let mut rest = body.get(1..).ok_or(TokenError::Damaged)?;
        if take(&mut rest)? != *id.uuid().as_bytes() {
            return Err(TokenError::OtherFilter);
        }
        Ok(Self { before: get_varint(&mut rest)? })
    }
}

/// A place is the last part of a body.
fn put_place(body: &mut Vec<u8>, place: &RowPlace) {
    put_varint(body, place.copies);
    body.extend_from_slice(place.key.prefix());
    body.extend_from_slice(place.key.digest().map(<[u8; 32]>::as_slice).unwrap_or_default());
}

fn get_place(mut rest: &[u8]) -> Result<RowPlace, TokenError> {
    let copies = get_varint(&mut rest)?;
    let (prefix, mut digest) = rest.split_at(rest.len().min(PREFIX_BYTES));
    let digest = if digest.is_empty() { None } else { Some(take(&mut digest)?) };
    Ok(RowPlace { key: RowKey::from_parts(prefix.to_vec(), digest), copies })
}

fn list_hash(list: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    list.hash(&mut hasher);
    hasher.finish()
}

/// Where the list of the quarantine goes on: after the place of the last entry shown, which may have cleared since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineToken {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Its place among the records that were read, where several stand at one offset.
    pub arrival: u64,
}

impl QuarantineToken {
    /// As text.
    pub fn encode(&self, key: &TokenKey) -> String {
        let mut body = vec![QUARANTINE_VERSION];
        body.extend_from_slice(&self.partition.to_be_bytes());
        body.extend_from_slice(&self.offset.to_be_bytes());
        put_varint(&mut body, self.arrival);
        body.extend_from_slice(self.topic.as_bytes());
        key.seal(body)
    }

    /// From text.
    pub fn decode(text: &str, key: &TokenKey) -> Result<Self, TokenError> {
        let body = key.open(text, QUARANTINE_VERSION)?;
        let mut rest = body.get(1..).ok_or(TokenError::Damaged)?;
        let partition = i32::from_be_bytes(take(&mut rest)?);
        let offset = i64::from_be_bytes(take(&mut rest)?);
        let arrival = get_varint(&mut rest)?;
        let topic = std::str::from_utf8(rest).map_err(|_| TokenError::Damaged)?.to_owned();
        Ok(Self { topic, partition, offset, arrival })
    }
}

/// What somebody who follows changes has seen: all of them up to an epoch, of one life of the state and of one selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamToken {
    /// Which life of the durable state.
    pub incarnation: u64,
    /// The epoch.
    pub epoch: Epoch,
    /// A hash of what is followed: of a view, what it computes.
    pub subject: u64,
    /// A hash of what is chosen of it, and how it is told.
    pub selection: u64,
}

impl StreamToken {
    /// The hash of a text that names what is followed, or what is chosen of it.
    pub fn hash(text: &str) -> u64 {
        list_hash(text)
    }

    /// As text.
    pub fn encode(&self, key: &TokenKey) -> String {
        let mut body = vec![STREAM_VERSION];
        body.extend_from_slice(&self.incarnation.to_be_bytes());
        body.extend_from_slice(&self.subject.to_be_bytes());
        body.extend_from_slice(&self.selection.to_be_bytes());
        put_varint(&mut body, self.epoch);
        key.seal(body)
    }

    /// From text.
    pub fn decode(text: &str, key: &TokenKey) -> Result<Self, TokenError> {
        let body = key.open(text, STREAM_VERSION)?;
        let mut rest = body.get(1..).ok_or(TokenError::Damaged)?;
        let incarnation = u64::from_be_bytes(take(&mut rest)?);
        let subject = u64::from_be_bytes(take(&mut rest)?);
        let selection = u64::from_be_bytes(take(&mut rest)?);
        let epoch = get_varint(&mut rest)?;
        if !rest.is_empty() {
            return Err(TokenError::Damaged);
        }
        Ok(Self { incarnation, epoch, subject, selection })
    }
}

fn filter_hash(filter: &Filter) -> u64 {
    // Fixed keys: the MAC protects it, and it must outlive the process.
    let mut hasher = SipHasher13::new_with_keys(0x7061_6765, 0x0074_6f6b_656e);
    filter.hash(&mut hasher);
    hasher.finish()
}

fn topic_hash(topic: &str) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(0x746f, 0x0070_6963);
    hasher.write(topic.as_bytes());
    (hasher.finish() >> 32) as u32
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], TokenError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(TokenError::Damaged)?;
    *rest = tail;
    Ok(*head)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn get_varint(rest: &mut &[u8]) -> Result<u64, TokenError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take(rest)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift).ok_or(TokenError::Damaged)?;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(TokenError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        let mut position = Position::default();
        position.advance(&"outbox.event.kessel.resources".into(), 0, 1_234_567);
        position.advance(&"outbox.event.kessel.resources".into(), 1, i64::MAX);
        position
    }

    #[test]
    fn tokens_come_back_and_every_changed_character_is_noticed() {
        let key = TokenKey::from_secret("s");
        let token = ConsistencyToken::of(7, 1_795_416_443_785, &position());
        let text = token.encode(&key);
        assert!(text.len() < 80, "{} characters", text.len());
        assert_eq!(ConsistencyToken::decode(&text, &key), Ok(token));
        assert_eq!(ConsistencyToken::decode(&text, &TokenKey::from_secret("t")), Err(TokenError::Foreign));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(ConsistencyToken::decode(std::str::from_utf8(&changed).unwrap(), &key).is_err(), "at {at}");
        }
        for cut in 0..text.len() {
            assert!(ConsistencyToken::decode(&text[..cut], &key).is_err());
        }
    }

    #[test]
    fn a_token_is_reached_by_what_is_no_older_in_any_partition() {
        let token = ConsistencyToken::of(7, 100, &position());
        assert!(token.is_reached(100, &position()) && token.is_reached(101, &position()));
        assert!(!token.is_reached(99, &position()), "an earlier epoch");
        let mut behind = Position::default();
        behind.advance(&"outbox.event.kessel.resources".into(), 0, 1_234_566);
        behind.advance(&"outbox.event.kessel.resources".into(), 1, i64::MAX);
        assert!(!token.is_reached(101, &behind), "a partition that is behind");
        let mut other = Position::default();
        other.advance(&"another.topic".into(), 0, i64::MAX);
        other.advance(&"outbox.event.kessel.resources".into(), 1, i64::MAX);
        assert!(!token.is_reached(101, &other), "a partition that is not there");
        assert!(ConsistencyToken::of(7, 0, &Position::default()).is_reached(0, &Position::default()));
    }

    #[test]
    fn a_stream_token_comes_back_and_no_other_does() {
        let key = TokenKey::from_secret("s");
        let selection = StreamToken::hash("one");
        let token = StreamToken { incarnation: u64::MAX, epoch: 1_795_416_443_785, subject: 7, selection };
        let text = token.encode(&key);
        assert!(text.len() < 64, "{} characters", text.len());
        assert_eq!(StreamToken::decode(&text, &key), Ok(token));
        assert_eq!(StreamToken::decode(&text, &TokenKey::from_secret("t")), Err(TokenError::Foreign));
        let other = ConsistencyToken::of(7, 1, &position()).encode(&key);
        assert_eq!(StreamToken::decode(&other, &key), Err(TokenError::OtherKind));
        assert_eq!(ConsistencyToken::decode(&text, &key), Err(TokenError::OtherKind));
        assert_ne!(selection, StreamToken::hash("other"));
    }

    #[test]
    fn a_page_token_belongs_to_its_filter_and_is_no_consistency_token() {
        let key = TokenKey::random();
        let after = ResourceId::parse("019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10").unwrap();
        let hosts = Filter { dimensions: [vec!["host".into()], vec![], vec![], vec![]], ..Filter::default() };
        let text = PageToken { after }.encode(&hosts, &key);
        assert_eq!(PageToken::decode(&text, &hosts, &key), Ok(PageToken { after }));
        assert_eq!(PageToken::decode(&text, &Filter::default(), &key), Err(TokenError::OtherFilter));
        assert_eq!(ConsistencyToken::decode(&text, &key), Err(TokenError::OtherKind));
        let entry = QuarantineToken { topic: "a:b".into(), partition: 7, offset: i64::MAX, arrival: 9 };
        assert_eq!(QuarantineToken::decode(&entry.encode(&key), &key), Ok(entry));
        assert_eq!(QuarantineToken::decode(&text, &key), Err(TokenError::OtherKind));
        assert_eq!(PageToken::decode(&"A".repeat(TOKEN_CHARS_MAX + 1), &hosts, &key), Err(TokenError::Damaged));
    }
}
