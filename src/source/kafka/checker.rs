//! A thread that looks at a log for what was read of it before: its cluster, its ends, and the records again.
//!
//! In: [`Inquiry`]s. Out: for each of them [`Evidence`], by a channel and a bell. Promises: whoever polls the source
//! never waits for it; every inquiry is answered within [`ROUND_WITHIN`] of its turn, be it with the reason why there
//! is no evidence; it ends within a second. What is asked together has a client of its own, which knows nothing of a
//! cluster that was there before, and which lives no longer. Not here: what the evidence means (`identity::verdict`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryIter, unbounded};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::ending::Beside;
use super::intake;
use super::listener::{Bell, Listener};
use crate::source::identity::Fingerprint;
use crate::source::identity::verdict::{Observed, Seen};

/// How long one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How long a round may take, whatever is asked; what is not known by then is asked again.
const ROUND_WITHIN: Duration = Duration::from_secs(5);

/// At most so many partitions are looked at in a round.
const ROUND_PARTITIONS_MAX: usize = 256;

/// How long to wait for records before looking whether it is time to stop.
const WAIT: Duration = Duration::from_millis(50);

/// A partition whose log is to be looked at.
#[derive(Debug)]
pub(super) struct Inquiry {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// The records to be read again.
    pub(super) fingerprints: Vec<Fingerprint>,
}

/// What was seen of a partition, or why nothing was.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) observed: Result<Observed, String>,
}

/// The thread, from outside.
pub(super) struct Checker {
    inquiries: Option<Sender<Vec<Inquiry>>>,
    evidence: Receiver<Evidence>,
    thread: Beside,
}

impl Checker {
    /// Starts the thread, which makes a client when there is something to look at.
    pub(super) fn start(config: ClientConfig, bell: Bell) -> std::io::Result<Self> {
        let (inquiries, questions) = unbounded();
        let (tell, evidence) = unbounded();
        let thread = Beside::start("tarn-kafka-checker", ANSWER_WITHIN, move |stop| {
            Errand { config, stop, tell, bell }.run(&questions);
        })?;
        Ok(Self { inquiries: Some(inquiries), evidence, thread })
    }

    /// Has partitions looked at; false when the thread is no more.
    pub(super) fn ask(&self, together: Vec<Inquiry>) -> bool {
        self.inquiries.as_ref().is_some_and(|inquiries| inquiries.send(together).is_ok())
    }

    /// What came since the last time.
    pub(super) fn evidence(&self) -> TryIter<'_, Evidence> {
        self.evidence.try_iter()
    }

    /// Asks the thread to end, without waiting for it.
    pub(super) fn begin_stop(&mut self) {
        self.thread.begin_stop();
        self.inquiries = None;
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.begin_stop();
    }
}

/// The thread, from inside.
struct Errand {
    config: ClientConfig,
    stop: Arc<AtomicBool>,
    tell: Sender<Evidence>,
    bell: Bell,
}

/// A partition that is being looked at.
struct Look {
    inquiry: Inquiry,
    observed: Result<Observed, String>,
    /// Where its records come out.
    queue: Option<PartitionQueue<Listener>>,
    /// The record that is being read again.
    wanted: Option<i64>,
}

impl Errand {
    fn run(&self, inquiries: &Receiver<Vec<Inquiry>>) {
        while let Ok(together) = inquiries.recv() {
            let listener = Listener::default();
            let client = self.config.create_with_context::<_, BaseConsumer<Listener>>(listener.clone());
            let client = client.map(Arc::new).map_err(|error| format!("no client: {error}"));
            let mut looks = together.into_iter().map(Look::new).peekable();
            while looks.peek().is_some() {
                let mut round: Vec<Look> = looks.by_ref().take(ROUND_PARTITIONS_MAX).collect();
                match &client {
                    Ok(client) => self.round(client, &listener, &mut round),
                    Err(reason) => round.iter_mut().for_each(|look| look.give_up(reason.clone())),
                }
                self.answer(round);
            }
            // The client's end takes a while here; nobody waits for it.
        }
    }

    fn answer(&self, looks: Vec<Look>) {
        for look in looks {
            let Inquiry { topic, partition, .. } = look.inquiry;
            // Nobody listens any more: the stop is on its way.
            drop(self.tell.send(Evidence { topic, partition, observed: look.observed }));
        }
        self.bell.ring();
    }

    /// Looks at some partitions.
    fn round(&self, client: &Arc<BaseConsumer<Listener>>, listener: &Listener, looks: &mut [Look]) {
        let until = Instant::now() + ROUND_WITHIN;
        self.ask_cluster(client, looks, until);
        let bell = Bell::new();
        while !self.is_over(until) {
            // The words of errors; what matters of them is answered, or not answered in time.
            listener.serve(client, |complaint| {
                tracing::debug!(reason = complaint.reason, "the client that checks reports an error");
            });
            let mut is_busy = false;
            for look in looks.iter_mut() {
                is_busy |= look.go_on(client, listener, &bell);
            }
            if !is_busy {
                break;
            }
            bell.wait(WAIT);
        }
        for look in looks {
            // What was not looked at must not pass for gone.
            if look.wanted.is_some() || !look.inquiry.fingerprints.is_empty() {
                look.give_up("the records were not read in time".to_owned());
            }
            // Before the client that it belongs to.
            look.queue = None;
        }
        if let Err(error) = client.unassign() {
            tracing::debug!(%error, "partitions that were looked at are still fetched");
        }
    }

    fn is_over(&self, until: Instant) -> bool {
        self.stop.load(Ordering::Acquire) || Instant::now() >= until
    }

    /// What the cluster says of itself, of the topics, and of the ends of the partitions.
    fn ask_cluster(&self, client: &BaseConsumer<Listener>, looks: &mut [Look], until: Instant) {
        let mut counted: Vec<(Arc<str>, Result<u32, String>)> = Vec::new();
        let mut cluster_id: Option<String> = None;
        for look in looks.iter_mut() {
            let topic = Arc::clone(&look.inquiry.topic);
            if self.is_over(until) {
                look.give_up("the cluster did not answer in time".to_owned());
                continue;
            }
            let known = counted.iter().find(|(name, _)| *name == topic).map(|(_, count)| count.clone());
            let count = known.unwrap_or_else(|| {
                let count = count_partitions(client, &topic);
                counted.push((Arc::clone(&topic), count.clone()));
                count
            });
            look.observed = count.and_then(|partition_count| {
                let (start, end) = client
                    .fetch_watermarks(&topic, look.inquiry.partition, ANSWER_WITHIN)
                    .map_err(|error| format!("no watermarks: {error}"))?;
                // Told with the topic's partitions, so it is at hand. The binding leaks the text: once a round.
                cluster_id = cluster_id.take().or_else(|| client.client().fetch_cluster_id(Duration::ZERO));
                let cluster_id = cluster_id.clone();
                Ok(Observed { cluster_id, partition_count, start, end, records: Vec::new() })
            });
            look.prepare();
        }
    }
}

fn count_partitions(client: &BaseConsumer<Listener>, topic: &str) -> Result<u32, String> {
    let metadata =
        client.fetch_metadata(Some(topic), ANSWER_WITHIN).map_err(|error| format!("no metadata: {error}"))?;
    let Some(known) = metadata.topics().iter().find(|known| known.name() == topic) else {
        return Err("the cluster does not tell of the topic".to_owned());
    };
    match known.error().map(RDKafkaErrorCode::from) {
        Some(code) => Err(format!("no metadata: {code}")),
        None if known.partitions().is_empty() => Err("the topic has no partitions".to_owned()),
        None => Ok(u32::try_from(known.partitions().len()).unwrap_or(u32::MAX)),
    }
}

impl Look {
    fn new(inquiry: Inquiry) -> Self {
        Self { inquiry, observed: Err("not looked at".to_owned()), queue: None, wanted: None }
    }

    fn give_up(&mut self, reason: String) {
        self.observed = Err(reason);
        self.wanted = None;
        self.inquiry.fingerprints.clear();
    }

    /// Leaves the records that the log may have, the newest last.
    fn prepare(&mut self) {
        let Ok(observed) = &self.observed else { return self.inquiry.fingerprints.clear() };
        self.inquiry.fingerprints.retain(|one| (observed.start..observed.end).contains(&one.offset));
        self.inquiry.fingerprints.sort_by_key(|one| one.offset);
    }

    /// Reads on, if there is anything left to be read; whether there still is.
    fn go_on(&mut self, client: &Arc<BaseConsumer<Listener>>, listener: &Listener, bell: &Bell) -> bool {
        if let Some(wanted) = self.wanted {
            self.take(wanted, listener);
        }
        if self.wanted.is_none()
            && let Some(next) = self.inquiry.fingerprints.last().map(|one| one.offset)
            && let Err(error) = self.seek(client, next, bell)
        {
            self.give_up(format!("could not be assigned: {error}"));
        }
        self.wanted.is_some()
    }

    /// Has the record at `offset` fetched.
    fn seek(&mut self, client: &Arc<BaseConsumer<Listener>>, offset: i64, bell: &Bell) -> KafkaResult<()> {
        let (topic, partition) = (&*self.inquiry.topic, self.inquiry.partition);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        if self.queue.is_some() {
            client.incremental_unassign(&list)?;
        } else {
            // Split off first: it then gets everything.
            let no_queue = KafkaError::Subscription("the partition has no queue".to_owned());
            let mut queue = client.split_partition_queue(topic, partition).ok_or(no_queue)?;
            let bell = bell.clone();
            queue.set_nonempty_callback(move || bell.ring());
            self.queue = Some(queue);
        }
        client.incremental_assign(&list)?;
        self.wanted = Some(offset);
        Ok(())
    }

    /// Takes what came in place of the record that is being read again.
    fn take(&mut self, wanted: i64, listener: &Listener) {
        let Some(queue) = &self.queue else { return };
        let record = loop {
            match queue.poll(Duration::ZERO) {
                None => return,
                Some(Ok(message)) if message.offset() < wanted => {}
                Some(Ok(message)) => break Some(intake::fingerprint(&message)).filter(|one| one.offset == wanted),
                Some(Err(KafkaError::PartitionEOF(_))) => break None,
                Some(Err(error)) => {
                    let reason = listener.reason(&error);
                    return self.give_up(format!("the record at offset {wanted} could not be read: {reason}"));
                }
            }
        };
        let known = self.inquiry.fingerprints.pop();
        if let Ok(observed) = &mut self.observed {
            observed.records.push(Seen { offset: wanted, record });
        }
        if record == known {
            // One that is the same says all.
            self.inquiry.fingerprints.clear();
        }
        self.wanted = None;
    }
}
