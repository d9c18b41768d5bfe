//! Which properties librdkafka gets: ours, then the user's, but for those that the source's promises rest on.
//!
//! In: the configuration. Out: the settings of the clients, or which property is refused and why. Promises: no
//! property of the user can make reading skip records, read back what was committed, or hide a dead partition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::config::ClientConfig;

use super::KafkaConfig;

/// What the reader sets unless the user says otherwise, with the reason where it is not the name.
const OURS: [(&str, &str); 18] = [
    ("isolation.level", "read_committed"),
    ("check.crcs", "true"),
    ("topic.metadata.refresh.interval.ms", "10000"),
    ("socket.keepalive.enable", "true"),
    ("socket.timeout.ms", "10000"),
    ("reconnect.backoff.max.ms", "2000"),
    ("fetch.wait.max.ms", "50"),
    // How long the fetcher sleeps when the queue is full; the default is a second for each time.
    ("fetch.queue.backoff.ms", "10"),
    // With many partitions these bound what is on its way. A larger record makes its partition's limit grow by itself.
    ("fetch.max.bytes", "8388608"),
    ("fetch.message.max.bytes", "524288"),
    ("receive.message.max.bytes", "100000000"),
    ("statistics.interval.ms", "500"),
    // The group is never joined; this is how long a commit waits for a coordinator.
    ("session.timeout.ms", "1000"),
    ("heartbeat.interval.ms", "500"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
];

/// Properties that have a key of their own, or that the promises rest on.
const REFUSED: [(&str, &str); 10] = [
    ("bootstrap.servers", "set `source.kafka.brokers`"),
    ("metadata.broker.list", "set `source.kafka.brokers`"),
    ("group.id", "set `source.kafka.group`"),
    ("auto.offset.reset", "set `source.kafka.lost_position`; a position is never reset in silence"),
    ("enable.auto.commit", "positions are Tarn's own"),
    ("auto.commit.enable", "positions are Tarn's own"),
    ("enable.auto.offset.store", "positions are Tarn's own"),
    ("enable.partition.eof", "the ends of partitions move the position"),
    ("allow.auto.create.topics", "Tarn creates no topics"),
    ("log.queue", "log lines go where Tarn's go"),
];

/// Statistics come at least this often: the state of partitions is read from them.
const STATISTICS_INTERVAL_MS_MAX: u64 = 5_000;

/// Memory for records that are fetched and not polled: for all partitions together, and the limits for one.
const QUEUED_KBYTES: usize = 32_768;
const QUEUED_KBYTES_MIN: usize = 512;
const QUEUED_KBYTES_MAX: usize = 16_384;

/// Whether a source can be made of this; the error names the key.
pub fn check(topics: &[String], properties: &BTreeMap<String, String>) -> Result<(), String> {
    if topics.is_empty() {
        return Err("`source.kafka.topics` is empty; name at least one topic".to_owned());
    }
    let mut seen = BTreeSet::new();
    for topic in topics {
        if topic.trim().is_empty() {
            return Err("`source.kafka.topics` holds an empty name".to_owned());
        }
        if topic.contains('\0') {
            return Err(format!("`source.kafka.topics` holds {topic:?}, which cannot be a topic's name"));
        }
        if !seen.insert(topic) {
            return Err(format!("`source.kafka.topics` names {topic:?} twice"));
        }
    }
    for (name, why) in REFUSED {
        if properties.contains_key(name) {
            return Err(format!("`source.kafka.properties` may not set `{name}`: {why}"));
        }
    }
    if let Some(text) = properties.get("statistics.interval.ms") {
        let interval = text.parse::<u64>().unwrap_or(0);
        if !(1..=STATISTICS_INTERVAL_MS_MAX).contains(&interval) {
            return Err(format!(
                "`source.kafka.properties` sets `statistics.interval.ms` to {text}; \
                 from 1 to {STATISTICS_INTERVAL_MS_MAX} is allowed"
            ));
        }
    }
    let mut client = ClientConfig::new();
    add(&mut client, properties);
    client.create_native_config().map_err(|error| format!("`source.kafka.properties`: {error}"))?;
    Ok(())
}

fn add(client: &mut ClientConfig, properties: &BTreeMap<String, String>) {
    client.set("allow.auto.create.topics", "false");
    for (name, value) in OURS {
        client.set(name, value);
    }
    for (name, value) in properties {
        client.set(name, value);
    }
}

/// The settings of the client that reads, given how many partitions there are to share the memory.
pub fn reader(config: &KafkaConfig, partitions: usize) -> ClientConfig {
    let queued = (QUEUED_KBYTES / partitions.max(1)).clamp(QUEUED_KBYTES_MIN, QUEUED_KBYTES_MAX);
    let mut client = ClientConfig::new();
    client.set("queued.max.messages.kbytes", queued.to_string());
    add(&mut client, &config.properties);
    client.set("bootstrap.servers", &config.brokers).set("group.id", &config.group);
    client
}

/// The settings of the client that asks: the same, without a group, so that its queue is its own.
pub(super) fn scout(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    add(&mut client, &config.properties);
    client.set("bootstrap.servers", &config.brokers).set("statistics.interval.ms", "0");
    client
}

/// The settings of the client that commits.
pub(super) fn committer(config: &KafkaConfig) -> ClientConfig {
    let mut client = scout(config);
    client.set("group.id", &config.group);
    client
}

/// The settings of a client that reads single records again: next to nothing is fetched beside them.
pub(super) fn checker(config: &KafkaConfig) -> ClientConfig {
    let mut client = committer(config);
    client.set("queued.min.messages", "1").set("queued.max.messages.kbytes", QUEUED_KBYTES_MIN.to_string());
    client.set("fetch.message.max.bytes", "65536");
    client
}

/// The settings of the client that listens to heartbeats: it has nothing to lose.
pub(super) fn heartbeats(config: &KafkaConfig) -> ClientConfig {
    let mut client = checker(config);
    client.set("auto.offset.reset", "latest").set("enable.partition.eof", "false");
    client
}

/// A broker that owes an answer for longer than this is not connected, whatever TCP believes.
pub(super) fn silence_max(config: &KafkaConfig) -> Duration {
    let millis = |name: &str, otherwise: u64| {
        config.properties.get(name).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let statistics = millis("statistics.interval.ms", 500);
    let fetch_wait = millis("fetch.wait.max.ms", 50);
    Duration::from_millis(2 * statistics + fetch_wait + 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(topics: &[&str], properties: &[(&str, &str)]) -> String {
        let topics: Vec<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check(&topics, &properties).err().unwrap_or_default()
    }

    #[test]
    fn properties_that_promises_rest_on_are_refused_by_name() {
        for (name, _) in REFUSED {
            assert!(refusal(&["t"], &[(name, "1")]).contains(name), "{name}");
        }
        assert!(refusal(&["t"], &[("statistics.interval.ms", "0")]).contains("statistics.interval.ms"));
        assert!(refusal(&["t"], &[("statistics.interval.ms", "5001")]).contains("5000"));
        assert!(refusal(&["t"], &[("no.such.property", "1")]).contains("no.such.property"));
        assert!(refusal(&["t"], &[("fetch.wait.max.ms", "often")]).contains("fetch.wait.max.ms"));
        assert!(refusal(&["t", "t"], &[]).contains("twice"));
        assert!(refusal(&[], &[]).contains("at least one topic"));
        assert_eq!(refusal(&["t", "u"], &[("security.protocol", "SASL_SSL"), ("statistics.interval.ms", "1000")]), "");
    }

    #[test]
    fn memory_is_shared_by_the_partitions_unless_the_user_says_otherwise() {
        let mut config = KafkaConfig::default();
        let queued = |config: &KafkaConfig, partitions| {
            reader(config, partitions).get("queued.max.messages.kbytes").map(str::to_owned)
        };
        assert_eq!(queued(&config, 1).as_deref(), Some("16384"));
        assert_eq!(queued(&config, 8).as_deref(), Some("4096"));
        assert_eq!(queued(&config, 1_000).as_deref(), Some("512"));
        config.properties.insert("queued.max.messages.kbytes".to_owned(), "2048".to_owned());
        assert_eq!(queued(&config, 8).as_deref(), Some("2048"));
    }

    #[test]
    fn librdkafka_was_built_with_what_kessel_needs() {
        let native = ClientConfig::new().create_native_config().expect("the defaults are valid");
        let features = native.get("builtin.features").expect("librdkafka tells its features");
        for feature in ["ssl", "sasl_plain", "sasl_scram", "sasl_oauthbearer", "zstd", "lz4", "snappy", "gzip"] {
            assert!(features.split(',').any(|built| built == feature), "{feature} is not in {features}");
        }
        for mechanism in ["PLAIN", "SCRAM-SHA-512", "OAUTHBEARER"] {
            assert_eq!(refusal(&["t"], &[("security.protocol", "SASL_SSL"), ("sasl.mechanism", mechanism)]), "");
        }
    }
}
