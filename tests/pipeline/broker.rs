//! Apache Kafka: one node in KRaft mode, broker and controller at once, and what an operator does to its topics.
//!
//! Promises: the same port and the same log over restarts; with [`Security::Scram`] nobody gets in without a password
//! and nothing travels in the clear. Topics are made by who sets the pipeline up, never by the broker: a client that asks
//! for one that was deleted does not bring it back.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::parts::Parts;
use super::programs::{self, Program, command, free_port};

/// The topic that Tarn reads.
pub const TOPIC: &str = tarn::generate::RESOURCES_TOPIC;

/// The topic that tells that the connector is alive.
pub const HEARTBEATS: &str = "debezium-heartbeat.kessel-inventory";

/// The topics that Connect writes to beside the first.
const OTHER_TOPICS: [&str; 2] = [tarn::generate::TUPLES_TOPIC, HEARTBEATS];

/// Whoever starts it may wait so long; two processors can be busy with other tests.
pub const START_MAX: Duration = Duration::from_secs(120);

/// How long a request to the broker may take.
const REQUEST_MAX: Duration = Duration::from_secs(30);

const USER: &str = "tarn";
const PASSWORD: &str = "only-of-this-test";

/// How clients get to the broker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// As they are.
    Plaintext,
    /// As in Kessel's production: SASL_SSL with SCRAM-SHA-512.
    Scram,
}

/// A Kafka, running or not.
pub struct Broker {
    parts: &'static Parts,
    folder: PathBuf,
    port: u16,
    security: Security,
    program: Option<Program>,
}

impl Broker {
    /// Makes an empty one and starts it.
    pub fn start(parts: &'static Parts, folder: &Path, security: Security) -> Self {
        let mut broker = Self { parts, folder: folder.to_owned(), port: free_port(), security, program: None };
        if security == Security::Scram {
            broker.make_certificate();
        }
        let properties = broker.write_properties();
        let mut arguments = vec!["format", "-t", "dGFybi1waXBlbGluZS10ZQ", "-c", &properties];
        let scram = format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]");
        if security == Security::Scram {
            arguments.extend(["--add-scram", &scram]);
        }
        parts.run_java("kafka.tools.StorageTool", &arguments);
        broker.restart();
        broker
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it again, or for the first time, and waits until it answers.
    pub fn restart(&mut self) {
        let log = self.folder.join("kafka.log");
        let properties = self.folder.join("kafka.properties");
        let mut program = self.parts.start_java("kafka", "kafka.Kafka", &properties, &[], &log);
        let consumer: BaseConsumer = self.client().create().expect("a client");
        program.until("Kafka answers", START_MAX, || consumer.fetch_metadata(None, Duration::from_secs(1)).is_ok());
        self.program = Some(program);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.program.take().expect("it runs").kill();
    }

    /// SIGTERM.
    pub fn stop(&mut self) {
        self.program.take().expect("it runs").stop();
    }

    /// How clients of librdkafka get to it, but for where it is.
    pub fn properties(&self) -> Vec<(&'static str, String)> {
        match self.security {
            Security::Plaintext => Vec::new(),
            Security::Scram => vec![
                ("security.protocol", "SASL_SSL".to_owned()),
                ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
                ("sasl.username", USER.to_owned()),
                ("sasl.password", PASSWORD.to_owned()),
                ("ssl.ca.location", self.certificate().display().to_string()),
            ],
        }
    }

    /// How clients in Java get to it, each line behind `prefix`.
    pub fn java_properties(&self, prefix: &str) -> String {
        let mut lines = String::new();
        if self.security == Security::Scram {
            for (name, value) in [
                ("security.protocol", "SASL_SSL".to_owned()),
                ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
                ("sasl.jaas.config", login()),
                ("ssl.truststore.type", "PEM".to_owned()),
                ("ssl.truststore.location", self.certificate().display().to_string()),
            ] {
                writeln!(lines, "{prefix}{name}={value}").expect("memory takes any write");
            }
        }
        lines
    }

    fn certificate(&self) -> PathBuf {
        self.folder.join("broker.pem")
    }

    /// A client of it.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address()).set("reconnect.backoff.max.ms", "200");
        for (name, value) in self.properties() {
            config.set(name, value);
        }
        // While the broker is away clients would say so again and again.
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        config
    }

    fn administer<R, F: Future<Output = R>>(&self, act: impl FnOnce(&AdminClient<DefaultClientContext>) -> F) -> R {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = self.client().create().expect("a client");
        runtime.block_on(act(&client))
    }

    /// Makes the topic that Tarn reads.
    pub fn create_topic(&self, partitions: i32) {
        self.create(TOPIC, partitions);
    }

    /// Makes the others.
    pub fn create_other_topics(&self) {
        for topic in OTHER_TOPICS {
            self.create(topic, 1);
        }
    }

    fn create(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let made = self.administer(|admin| admin.create_topics([&topic], &options())).expect("Kafka answers");
        assert_eq!(made, [Ok(name.to_owned())]);
    }

    pub fn delete_topic(&self) {
        let deleted = self.administer(|admin| admin.delete_topics(&[TOPIC], &options())).expect("Kafka answers");
        assert_eq!(deleted, [Ok(TOPIC.to_owned())]);
    }

    /// Gives the topic more partitions, `count` in all.
    pub fn add_partitions(&self, count: usize) {
        let partitions = NewPartitions::new(TOPIC, count);
        let added = self.administer(|admin| admin.create_partitions([&partitions], &options())).expect("Kafka answers");
        assert_eq!(added, [Ok(TOPIC.to_owned())]);
    }

    /// Packs what is written to the topic from now on, whatever the producer does.
    pub fn pack(&self, codec: &str) {
        let packed = AlterConfig::new(ResourceSpecifier::Topic(TOPIC)).set("compression.type", codec);
        let altered = self.administer(|admin| admin.alter_configs([&packed], &options())).expect("Kafka answers");
        assert!(altered.iter().all(Result::is_ok), "{altered:?}");
    }

    /// How the batches of the first partition are packed, as the log's format numbers it; 0 is not at all.
    pub fn codecs(&self) -> BTreeSet<u8> {
        let folder = self.folder.join(format!("kafka/{TOPIC}-0"));
        let logs = fs::read_dir(folder).expect("it is there").map(|file| file.expect("it is there").path());
        let mut codecs = BTreeSet::new();
        for log in logs.filter(|path| path.extension().is_some_and(|end| end == "log")) {
            let bytes = fs::read(log).expect("it is there");
            let mut rest = &bytes[..];
            // A batch: its offset (8 bytes), the length of what follows (4), and in byte 22 the end of its attributes. What is
            // laid out for later batches is zero.
            while let Some(length) = rest.get(8..12).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes) {
                let end = 12 + length as usize;
                if length == 0 || rest.len() < end {
                    break;
                }
                codecs.insert(rest[22] & 7);
                rest = &rest[end..];
            }
        }
        codecs
    }

    /// Takes what is before `offset` from a partition, as retention does.
    pub fn delete_before(&self, partition: i32, offset: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(TOPIC, partition, Offset::Offset(offset)).expect("an offset");
        self.administer(|admin| admin.delete_records(&offsets, &options())).expect("they are gone");
    }

    /// Where each partition begins and ends.
    pub fn watermarks(&self) -> Vec<(i64, i64)> {
        let consumer: BaseConsumer = self.client().create().expect("a client");
        let metadata = consumer.fetch_metadata(Some(TOPIC), REQUEST_MAX).expect("Kafka answers");
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let mut ids: Vec<i32> = partitions.map(|partition| partition.id()).collect();
        ids.sort_unstable();
        ids.iter().map(|id| consumer.fetch_watermarks(TOPIC, *id, REQUEST_MAX).expect("Kafka answers")).collect()
    }

    /// The end of another topic, of one partition.
    pub fn end_of(&self, topic: &str) -> i64 {
        let consumer: BaseConsumer = self.client().create().expect("a client");
        consumer.fetch_watermarks(topic, 0, REQUEST_MAX).expect("Kafka answers").1
    }

    /// A key of its own, whose certificate clients trust.
    fn make_certificate(&self) {
        let store = self.folder.join("broker.p12");
        let keytool = |arguments: &[&str]| {
            let mut keytool = command(Path::new("keytool"), None);
            keytool.args(arguments).args(["-alias", "broker", "-storepass", PASSWORD, "-keystore"]).arg(&store);
            programs::run(&mut keytool).expect("keytool comes with Java");
        };
        let names = "SAN=ip:127.0.0.1";
        keytool(&["-genkeypair", "-keyalg", "EC", "-dname", "CN=broker", "-validity", "2", "-ext", names]);
        keytool(&["-exportcert", "-rfc", "-file", &self.certificate().display().to_string()]);
    }

    /// Writes how the node is set up; where that is.
    fn write_properties(&self) -> String {
        let (log, controller) = (self.folder.join("kafka"), free_port());
        let protocol = if self.security == Security::Scram { "SASL_SSL" } else { "PLAINTEXT" };
        let mut text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             listeners={protocol}://127.0.0.1:{},CONTROLLER://127.0.0.1:{controller}\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,{protocol}:{protocol}\n\
             inter.broker.listener.name={protocol}\nlog.dirs={}\n",
            self.port,
            log.display()
        );
        // One node; as little as possible to start; and one that was killed is given up, and let in again, soon.
        text.push_str(
            "auto.create.topics.enable=false\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
             broker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=500\n\
             group.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=1000\n\
             num.network.threads=1\nnum.io.threads=2\nlog.cleaner.threads=1\n",
        );
        if self.security == Security::Scram {
            let store = self.folder.join("broker.p12");
            write!(
                text,
                "sasl.enabled.mechanisms=SCRAM-SHA-512\nsasl.mechanism.inter.broker.protocol=SCRAM-SHA-512\n\
                 listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={}\n\
                 ssl.keystore.type=PKCS12\nssl.keystore.location={}\nssl.keystore.password={PASSWORD}\n\
                 ssl.truststore.type=PEM\nssl.truststore.location={}\n",
                login(),
                store.display(),
                self.certificate().display()
            )
            .expect("memory takes any write");
        }
        let path = self.folder.join("kafka.properties");
        fs::write(&path, text).expect("room");
        path.display().to_string()
    }
}

/// How a client in Java says who it is.
fn login() -> String {
    let class = "org.apache.kafka.common.security.scram.ScramLoginModule";
    format!(r#"{class} required username="{USER}" password="{PASSWORD}";"#)
}

fn options() -> AdminOptions {
    let patience = Some(REQUEST_MAX);
    AdminOptions::new().request_timeout(patience).operation_timeout(patience)
}
