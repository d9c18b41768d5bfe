//! The Connect schemas already understood: two thirds of a value that need not be parsed again.
//!
//! A JsonConverter value is `{"schema":S,"payload":P}`, and S repeats byte for byte for events of one type that carry
//! the same fields. Once a value was parsed as a whole, the bytes before P are kept, as they are and as a log line
//! escapes them; a value that begins with them goes on at P. Bounded; the least recently used prefix goes first.

use std::sync::Arc;

/// Kept prefixes. Production shows fewer than twenty.
const PREFIXES_MAX: usize = 64;
/// A longer prefix is not kept.
const PREFIX_BYTES_MAX: usize = 64 * 1024;

/// A value up to its payload.
#[derive(Debug)]
pub(super) struct Prefix {
    /// As the value has it.
    pub(super) plain: Box<[u8]>,
    /// As a log line escapes it.
    pub(super) escaped: Box<[u8]>,
}

/// Prefixes, most recently used first.
#[derive(Debug, Default)]
pub(super) struct SchemaCache {
    prefixes: Vec<Arc<Prefix>>,
}

impl SchemaCache {
    /// The kept prefix with which `value` begins.
    pub(super) fn of_value(&mut self, value: &[u8]) -> Option<Arc<Prefix>> {
        self.find(|prefix| value.starts_with(&prefix.plain))
    }

    /// The kept prefix with which the escaped text of a value begins.
    pub(super) fn of_escaped(&mut self, escaped: &[u8]) -> Option<Arc<Prefix>> {
        self.find(|prefix| escaped.starts_with(&prefix.escaped))
    }

    fn find(&mut self, matches: impl Fn(&Prefix) -> bool) -> Option<Arc<Prefix>> {
        let index = self.prefixes.iter().position(|prefix| matches(prefix))?;
        // One step forward a use: cheap, and a burst of one schema does not push the others far back.
        if index > 0 {
            self.prefixes.swap(index, index - 1);
        }
        self.prefixes.get(index.saturating_sub(1)).cloned()
    }

    /// Keeps `plain`, the bytes before the payload of a value that was parsed as a whole.
    pub(super) fn learn(&mut self, plain: &[u8]) {
        let known = self.prefixes.iter().any(|prefix| *prefix.plain == *plain);
        if known || plain.len() > PREFIX_BYTES_MAX {
            return;
        }
        let Ok(text) = std::str::from_utf8(plain) else { return };
        let quoted = serde_json::Value::from(text).to_string();
        let escaped = quoted.as_bytes()[1..quoted.len() - 1].into();
        if self.prefixes.len() == PREFIXES_MAX {
            self.prefixes.pop();
        }
        self.prefixes.push(Arc::new(Prefix { plain: plain.into(), escaped }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learned_prefix_is_found_plain_and_escaped_and_the_cache_is_bounded() {
        let mut cache = SchemaCache::default();
        cache.learn(br#"{"schema":{"a":1},"payload":"#);
        assert!(cache.of_value(br#"{"schema":{"a":1},"payload":{}}"#).is_some());
        assert!(cache.of_value(br#"{"schema":{"a":2},"payload":{}}"#).is_none());
        assert!(cache.of_escaped(br#"{\"schema\":{\"a\":1},\"payload\":{}}"#).is_some());
        for i in 0..1_000 {
            cache.learn(format!("{{\"schema\":{i},\"payload\":").as_bytes());
        }
        assert_eq!(cache.prefixes.len(), PREFIXES_MAX);
        assert!(cache.of_value(br#"{"schema":{"a":1},"payload":{}}"#).is_some(), "used ones stay");
    }
}
