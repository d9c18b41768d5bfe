//! A thread that asks the cluster: which one it is, which partitions there are, and where they begin and end.
//!
//! In: partitions to look at, and readers who want to know where the log ends now. Out: [`News`], by a channel and a
//! bell; the end, to those readers. Promises: whoever polls the source never waits
//! for an answer of the cluster; every question is answered, be it with an error; it ends within a second. Not here:
//! what follows from an answer (`partition`), and when to ask again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryIter, unbounded};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::ending::Beside;
use super::listener::{Bell, Complaint, Listener, Says};
use super::{KafkaConfig, properties};
use crate::model::Position;
use crate::source::end_of_log::{Bell as EndBell, EndOfLog};
use crate::source::{Phase, SourceError};

/// How long one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How often topics are looked for that have not been found.
const MISSING_INTERVAL: Duration = Duration::from_millis(500);

/// How often the cluster's id is asked for while all is well. The binding leaks its text, so not with every look.
const NAME_INTERVAL: Duration = Duration::from_secs(600);

/// A partition whose watermarks are wanted.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// The next offset when the question was asked; it comes back with the answer.
    pub(super) next: Option<i64>,
}

/// What the thread is asked.
enum Question {
    Watermarks(Ask),
    /// Where the log ends: who wants to know waits elsewhere.
    EndOfLog,
}

/// Where a partition begins and ends, or why nobody knows.
pub(super) type Watermarks = Result<(i64, i64), (Option<RDKafkaErrorCode>, String)>;

/// What the scout found.
#[derive(Debug)]
pub(super) enum News {
    /// The cluster's id.
    Cluster { id: String },
    /// The partitions of a topic.
    Partitions { topic: Arc<str>, numbers: Vec<i32> },
    /// The cluster answered that the topic cannot be read.
    TopicTrouble { topic: Arc<str>, phase: Phase, reason: String },
    /// The cluster did not answer, or the client has something to complain of.
    Trouble(Complaint),
    /// Where a partition begins and ends.
    Watermarks { ask: Ask, answer: Watermarks },
}

/// The thread, from outside.
pub(super) struct Scout {
    asks: Option<Sender<Question>>,
    /// Wakes the thread for those who ask where the log ends.
    end_bell: Option<Arc<EndBell>>,
    news: Receiver<News>,
    thread: Beside,
}

impl Scout {
    /// Starts the thread, which begins to look for the topics.
    pub(super) fn start(
        config: &KafkaConfig,
        topics: Vec<Arc<str>>,
        end_of_log: EndOfLog,
        bell: Bell,
    ) -> Result<Self, SourceError> {
        let listener = Listener::default();
        let client = properties::scout(config)
            .create_with_context(listener.clone())
            .map_err(|error| SourceError::Setup(error.to_string()))?;
        let (asks, questions) = unbounded();
        let (tell, news) = unbounded();
        let (interval, answering) = (config.discovery_interval, end_of_log.clone());
        let thread = Beside::start("tarn-kafka-scout", ANSWER_WITHIN, move |stop| {
            let end_of_log = answering;
            Errand { client, listener, topics, end_of_log, interval, stop, tell, bell }.run(&questions);
        });
        let thread = thread.map_err(|error| SourceError::Setup(format!("could not start the scout: {error}")))?;
        let asks_of_bell = asks.clone();
        let end_bell: Arc<EndBell> = Arc::new(move || drop(asks_of_bell.send(Question::EndOfLog)));
        end_of_log.wake(&end_bell);
        Ok(Self { asks: Some(asks), end_bell: Some(end_bell), news, thread })
    }

    /// Asks for watermarks; false when the thread is no more.
    pub(super) fn ask(&self, ask: Ask) -> bool {
        self.asks.as_ref().is_some_and(|asks| asks.send(Question::Watermarks(ask)).is_ok())
    }

    /// What came since the last time.
    pub(super) fn news(&self) -> TryIter<'_, News> {
        self.news.try_iter()
    }

    /// Asks the thread to end, without waiting for it.
    pub(super) fn begin_stop(&mut self) {
        self.thread.begin_stop();
        (self.asks, self.end_bell) = (None, None);
    }
}

impl Drop for Scout {
    fn drop(&mut self) {
        self.begin_stop();
    }
}

/// The thread, from inside.
struct Errand {
    client: BaseConsumer<Listener>,
    listener: Listener,
    topics: Vec<Arc<str>>,
    end_of_log: EndOfLog,
    interval: Duration,
    stop: Arc<AtomicBool>,
    tell: Sender<News>,
    bell: Bell,
}

impl Errand {
    fn run(&self, questions: &Receiver<Question>) {
        let (mut next_look, mut next_name) = (Instant::now(), Instant::now());
        while !self.stop.load(Ordering::Acquire) {
            if Instant::now() >= next_look {
                let complete = self.look();
                if complete && Instant::now() >= next_name {
                    self.name_cluster();
                    next_name = Instant::now() + NAME_INTERVAL;
                }
                let interval = if complete { self.interval } else { self.interval.min(MISSING_INTERVAL) };
                next_look = Instant::now() + interval;
            }
            self.listener.serve(&self.client, |complaint| {
                // Whoever answers next may be another one: it is not left unasked for a whole interval.
                next_name = Instant::now();
                next_look = next_look.min(next_name + MISSING_INTERVAL);
                self.send(News::Trouble(complaint));
            });
            // Log lines wait no longer than a second.
            let until = next_look.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
            match questions.recv_timeout(until) {
                Ok(Question::Watermarks(ask)) => self.answer(ask),
                Ok(Question::EndOfLog) => self.tell_end_of_log(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn send(&self, news: News) {
        // Nobody listens any more: the stop is on its way.
        drop(self.tell.send(news));
        self.bell.ring();
    }

    /// Looks at every topic; whether all were found.
    fn look(&self) -> bool {
        let mut complete = true;
        for topic in &self.topics {
            if self.stop.load(Ordering::Acquire) {
                return false;
            }
            let news = self.partitions_of(topic);
            complete &= matches!(news, News::Partitions { .. });
            self.send(news);
        }
        complete
    }

    fn partitions_of(&self, topic: &Arc<str>) -> News {
        let metadata = match self.client.fetch_metadata(Some(topic), ANSWER_WITHIN) {
            Ok(metadata) => metadata,
            Err(error) => {
                let reason = format!("no metadata of {topic}: {error}");
                return News::Trouble(Complaint { says: Says::NobodyAnswers, reason });
            }
        };
        let known = metadata.topics().iter().find(|known| known.name() == &**topic);
        let numbers: Vec<i32> = known
            .filter(|known| known.error().is_none())
            .into_iter()
            .flat_map(|known| known.partitions().iter().map(|partition| partition.id()))
            .collect();
        if numbers.is_empty() {
            let code = known.and_then(|known| known.error()).map(RDKafkaErrorCode::from);
            return topic_trouble(topic, code);
        }
        News::Partitions { topic: Arc::clone(topic), numbers }
    }

    /// Answers all who have asked where the log ends.
    fn tell_end_of_log(&self) {
        if let Some(question) = self.end_of_log.take() {
            let end = self.find_end_of_log();
            self.end_of_log.answer(question, end);
        }
    }

    /// The end of every partition that there is now; partitions that were not known are read from now on too.
    fn find_end_of_log(&self) -> Result<Position, String> {
        let mut asked = TopicPartitionList::new();
        for topic in &self.topics {
            let news = self.partitions_of(topic);
            match &news {
                News::Partitions { numbers, .. } => {
                    let add = |number: &i32| asked.add_partition_offset(topic, *number, Offset::End);
                    numbers.iter().try_for_each(add).map_err(|error| error.to_string())?;
                }
                News::Trouble(Complaint { reason, .. }) | News::TopicTrouble { reason, .. } => {
                    return Err(reason.clone());
                }
                News::Cluster { .. } | News::Watermarks { .. } => {}
            }
            self.send(news);
        }
        // The "time" of the end stands for the latest offset: all partitions in one question to each broker.
        let told = self.client.offsets_for_times(asked, ANSWER_WITHIN);
        let told = told.map_err(|error| format!("the ends of the partitions are not told: {error}"))?;
        let mut end = Position::default();
        for partition in told.elements() {
            let (topic, number) = (partition.topic(), partition.partition());
            match (partition.error(), partition.offset()) {
                (Ok(()), Offset::Offset(next)) => end.advance(&topic.into(), number, next),
                (Err(error), _) => return Err(format!("the end of {topic} [{number}] is not told: {error}")),
                (Ok(()), offset) => return Err(format!("the end of {topic} [{number}] is told as {offset:?}")),
            }
        }
        Ok(end)
    }

    /// Tells which cluster has answered.
    fn name_cluster(&self) {
        // Told with the partitions, so it is at hand.
        if let Some(id) = self.client.client().fetch_cluster_id(Duration::ZERO) {
            self.send(News::Cluster { id });
        }
    }

    fn answer(&self, ask: Ask) {
        let answer = self.client.fetch_watermarks(&ask.topic, ask.partition, ANSWER_WITHIN);
        let answer = answer.map_err(|error| (error.rdkafka_error_code(), format!("no watermarks: {error}")));
        self.send(News::Watermarks { ask, answer });
    }
}

fn topic_trouble(topic: &Arc<str>, code: Option<RDKafkaErrorCode>) -> News {
    use RDKafkaErrorCode as Code;
    let phase = match code {
        Some(Code::TopicAuthorizationFailed) => Phase::Forbidden,
        // Being created, or moved: it has no leader, or no partition yet.
        Some(Code::LeaderNotAvailable) => Phase::Leaderless,
        _ => Phase::Missing,
    };
    let reason = code.map_or_else(|| "the topic has no partitions".to_owned(), |code| code.to_string());
    News::TopicTrouble { topic: Arc::clone(topic), phase, reason }
}
