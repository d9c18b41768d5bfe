//! Resource ids and event ids: 128 bits each, ordered as their UUIDs are.
//!
//! A resource id is the UUID that Inventory made (v7 today). An event id is the header `id` of a record, a UUID v7;
//! anything else that a person put there is accepted, hashed to a UUID v8, and then good for equality only.

use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use uuid::Uuid;

/// 100 ns intervals between 1582-10-15 (UUID v1) and 1970-01-01.
const GREGORIAN_OFFSET_TICKS: u64 = 0x01B2_1DD2_1381_4000;

/// A text that should have been a UUID and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID of 36 characters")]
pub struct ParseIdError;

/// The identity of a resource: the UUID in a record's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceId {
    high: u64,
    low: u64,
}

/// The identity of an event: the header `id`, stable over redeliveries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId {
    high: u64,
    /// No UUID of a known variant ends in 64 zeros, so an `Option<EventId>` needs no more room.
    low: NonZeroU64,
}

/// Parses the hyphenated form of 36 characters, in either case; no braces, no `urn:uuid:`.
fn parse_hyphenated(text: &str) -> Result<Uuid, ParseIdError> {
    if text.len() != 36 {
        return Err(ParseIdError);
    }
    Uuid::try_parse(text).map_err(|_| ParseIdError)
}

/// Milliseconds since 1970 inside a UUID v7 or v1; none for other versions.
fn uuid_time_ms(high: u64) -> Option<u64> {
    match (high >> 12) & 0xf {
        7 => Some(high >> 16),
        1 => {
            let ticks = ((high & 0xfff) << 48) | (((high >> 16) & 0xffff) << 32) | (high >> 32);
            ticks.checked_sub(GREGORIAN_OFFSET_TICKS).map(|since_1970| since_1970 / 10_000)
        }
        _ => None,
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid().as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid().as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ResourceId {
    /// The least id, where every page begins.
    pub const MIN: Self = Self { high: 0, low: 0 };

    /// The id with these 128 bits.
    pub fn from_uuid(uuid: Uuid) -> Self {
        let (high, low) = uuid.as_u64_pair();
        Self { high, low }
    }

    /// The id as a UUID.
    pub fn uuid(self) -> Uuid {
        Uuid::from_u64_pair(self.high, self.low)
    }

    /// Milliseconds since 1970 inside the id, if it is a UUID v7 or v1.
    pub fn time_ms(self) -> Option<u64> {
        uuid_time_ms(self.high)
    }

    /// Parses the hyphenated text form.
    pub fn parse(text: &str) -> Result<Self, ParseIdError> {
        parse_hyphenated(text).map(Self::from_uuid)
    }

    /// The next id in order, none after the greatest.
    pub fn successor(self) -> Option<Self> {
        let next = self.uuid().as_u128().checked_add(1)?;
        Some(Self::from_uuid(Uuid::from_u128(next)))
    }

    /// The id before in order, none before the least.
    pub fn predecessor(self) -> Option<Self> {
        let before = self.uuid().as_u128().checked_sub(1)?;
        Some(Self::from_uuid(Uuid::from_u128(before)))
    }

    /// A well spread hash, the same in every process: which worker owns the resource.
    pub fn shard_hash(self) -> u64 {
        let mixed = (self.high ^ self.low.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ (mixed >> 32)
    }

    /// Whether the id carries its time of creation in its first bits (UUID v7).
    pub fn is_v7(self) -> bool {
        (self.high >> 12) & 0xf == 7
    }
}

impl EventId {
    /// The id that a text names: its UUID, or a UUID v8 hashed from it. The flag says that the text was no UUID,
    /// so that whoever shows the id keeps the text.
    pub fn of_text(text: &str) -> (Self, bool) {
        if let Ok(uuid) = parse_hyphenated(text)
            && let (high, low) = uuid.as_u64_pair()
            && let Some(low) = NonZeroU64::new(low)
        {
            return (Self { high, low }, false);
        }
        let hash = SipHasher13::new_with_keys(0x7461_726e, 0x6576_656e_7469_6473).hash(text.as_bytes());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&hash.h1.to_be_bytes());
        bytes[8..].copy_from_slice(&hash.h2.to_be_bytes());
        let (high, low) = uuid::Builder::from_custom_bytes(bytes).into_uuid().as_u64_pair();
        (Self { high, low: NonZeroU64::new(low).expect("a custom UUID has the bits of its variant") }, true)
    }

    /// The id as a UUID.
    pub fn uuid(self) -> Uuid {
        Uuid::from_u64_pair(self.high, self.low.get())
    }

    /// The id that a UUID is; none for one that ends in 64 zeros, which is no event's.
    pub fn from_uuid(uuid: Uuid) -> Option<Self> {
        let (high, low) = uuid.as_u64_pair();
        NonZeroU64::new(low).map(|low| Self { high, low })
    }

    /// Milliseconds since 1970 inside the id, if it is a UUID v7 or v1.
    pub fn time_ms(self) -> Option<u64> {
        uuid_time_ms(self.high)
    }
}

/// `SipHasher13` as a one-shot function over bytes.
trait HashBytes {
    fn hash(self, bytes: &[u8]) -> siphasher::sip128::Hash128;
}

impl HashBytes for SipHasher13 {
    fn hash(mut self, bytes: &[u8]) -> siphasher::sip128::Hash128 {
        std::hash::Hasher::write(&mut self, bytes);
        self.finish128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_version_7_and_version_1() {
        let (v7, text) = EventId::of_text("01a20728-cb89-7978-b430-a1ace1ebe8c8");
        assert!(!text);
        assert_eq!(v7.time_ms(), Some(0x01a2_0728_cb89));
        // 2026-11-23T06:47:23.785268Z, from the recorded sample.
        let (v1, _) = EventId::of_text("bd0fe82a-e709-11f1-ac9f-0242ac110002");
        let ms = v1.time_ms().expect("version 1 has a time");
        assert!((1_795_416_443_000..1_795_416_445_000).contains(&ms), "{ms}");
        assert_eq!(EventId::of_text("6fa459ea-ee8a-4ca4-894e-db77e160355e").0.time_ms(), None);
    }

    #[test]
    fn any_text_is_an_event_id_but_only_a_uuid_is_a_resource_id() {
        let (a, is_text) = EventId::of_text("order-17");
        assert!(is_text);
        assert_eq!(a, EventId::of_text("order-17").0);
        assert_ne!(a, EventId::of_text("order-18").0);
        assert_eq!(a.time_ms(), None);
        for bad in ["", "order-17", "{019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10}", "019ba0c45f6e7c119c520d2f6d6b7a10"] {
            assert!(ResourceId::parse(bad).is_err(), "{bad}");
        }
        let id = ResourceId::parse("019BA0C4-5F6E-7C11-9C52-0D2F6D6B7A10").expect("upper case is a UUID too");
        assert_eq!(id.to_string(), "019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10");
        assert!(id.is_v7() && id.successor().expect("not the last") > id);
    }
}
