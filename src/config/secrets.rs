//! Values that nobody may see: read so that no error quotes them, shown as if they were not there.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::{HttpSection, KafkaSection};

/// A text, however TOML would call it: a number or a boolean stands for itself, and never in an error.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text is expected")]
enum AnyText {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
}

impl AnyText {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
        }
    }
}

pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    AnyText::deserialize(deserializer).map(AnyText::text)
}

pub(super) fn properties<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Properties;

    impl<'de> Visitor<'de> for Properties {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("properties of librdkafka with their values")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut properties = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, AnyText>()? {
                properties.insert(name, value.text());
            }
            Ok(properties)
        }
    }

    deserializer.deserialize_map(Properties)
}

/// What a value is shown as that nobody may see.
fn veiled(secret: &str) -> &'static str {
    if secret.is_empty() { "" } else { "(secret)" }
}

impl fmt::Debug for KafkaSection {
    /// Of the properties only the names: passwords and keys are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { brokers, topics, group, lost_position, discovery_interval_ms, heartbeat_topic, properties } = self;
        f.debug_struct("KafkaSection")
            .field("brokers", brokers)
            .field("topics", topics)
            .field("group", group)
            .field("lost_position", lost_position)
            .field("discovery_interval_ms", discovery_interval_ms)
            .field("heartbeat_topic", heartbeat_topic)
            .field("properties", &properties.keys())
            .finish()
    }
}

impl fmt::Debug for HttpSection {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = toml::Table::try_from(self).unwrap_or_default();
        shown.insert("token_secret".to_owned(), veiled(&self.token_secret).into());
        write!(f, "HttpSection {shown:?}")
    }
}
