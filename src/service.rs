//! The service put together: source, ingest, workers, publisher; and its life from start to stop.
//!
//! Everything that a reader may look at stands in [`Service`]; the ingest thread and the workers belong to [`Running`].

mod rebuild;
pub mod scripted;
pub mod view_health;
pub mod view_tests;
pub mod views;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::SystemClock;
use crate::config::{Config, SourceKind};
use crate::dataflow::{
    BindingLog, Counters, CutSink, Engine, EpochSource, HashKeys, IgnoredLog, Ingest, IngestConfig, IngestEnd,
    IngestShared, LogTime, StartError, WallClock,
};
use crate::durable::resubmitted::Resubmissions;
use crate::durable::{Durable, DurableError, Health, Machine, Recovered, Taker, TakerConfig, Watched};
use crate::generate::live::LiveGenerator;
use crate::generate::{FaultRates, GeneratorConfig};
use crate::model::{Epoch, Position, Topics};
use crate::published::{Publisher, TokenKey};
use crate::snapshot::{StoreKind, Verification};
use crate::source::identity::LogIdentity;
use crate::source::kafka::{KafkaConfig, KafkaSource};
use crate::source::log_file::{LogFile, LogPath};
use crate::source::{Source, SourceError, SourceStatus};
use crate::sql::{QueryRunner, SchemaFolderError};
use rebuild::Rebuilder;
use views::Views;

/// What readers look at.
#[derive(Debug, Clone)]
pub struct Service {
    /// The configuration.
    pub config: Arc<Config>,
    /// Where read views come from.
    pub publisher: Arc<Publisher>,
    /// The counters.
    pub counters: Arc<Counters>,
    /// The last ignored events.
    pub ignored: Arc<IgnoredLog>,
    /// The topic names.
    pub topics: Topics,
    /// How the source is doing.
    pub status: SourceStatus,
    /// The keys of the indexes' hashes.
    pub keys: HashKeys,
    /// The key of the tokens.
    pub token_key: TokenKey,
    /// Where records of the quarantine are submitted again.
    pub resubmissions: Resubmissions,
    /// The views.
    pub views: Views,
    /// Where ad-hoc queries run.
    pub queries: Arc<QueryRunner>,
    /// How snapshots go; none where the state is in memory alone.
    pub snapshots: Option<Arc<Health>>,
    /// When the process began, ms since 1970.
    pub started_ms: u64,
    /// No epoch that was shown before the process began is later.
    pub sealed_before: Epoch,
    /// Set once everything that the log had at start was visible; it stays so, whatever becomes of the source.
    pub was_ready: Arc<AtomicBool>,
}

/// Why the service could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The source could not be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The workers could not be started.
    #[error(transparent)]
    Workers(#[from] StartError),
    /// The ingest thread could not be started.
    #[error("could not start the ingest thread")]
    Thread(#[from] std::io::Error),
    /// The schemas from which tables are made cannot be used.
    #[error("the folder of resource schemas cannot be used")]
    Tables(#[from] SchemaFolderError),
    /// The data directory cannot be used.
    #[error("the data directory cannot be used")]
    Durable(#[source] DurableError),
}

/// The threads behind a service.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    views: Views,
    views_thread: JoinHandle<()>,
    taker: Option<Taker>,
    ingest: JoinHandle<Result<IngestEnd, SourceError>>,
}

impl Service {
    /// Whether everything that the log had at start is visible, but for views that take too long.
    pub fn is_ready(&self) -> bool {
        if self.was_ready.load(Ordering::Acquire) {
            return true;
        }
        let state = self.status.get();
        let reached = |end: Position| self.publisher.view().position().reached(&end);
        // Whether reading has stopped since does not matter: an end is told when every position is in its log.
        // Views are awaited last, and one that never catches up not for ever.
        let ready = !self.publisher.is_rebuilding()
            && state.end_at_start.is_some_and(reached)
            && self.publisher.shows_what_is_awaited(Instant::now());
        if ready {
            self.was_ready.store(true, Ordering::Release);
            self.publisher.keep_history();
        }
        ready
    }
}

impl Service {
    /// What is to be done now and then, whoever asks for what.
    fn look_after(&self) {
        self.is_ready();
        if let Some(behind) = self.publisher.fell_behind(Instant::now()) {
            let (behind_ms, shown) = (behind.as_millis(), self.publisher.published());
            tracing::warn!(
                behind_ms,
                shown,
                "nothing is published although epochs are sealed: a worker is at work on something that takes long"
            );
        }
    }
}

/// Where a service's time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// From the wall clock.
    Wall,
    /// From the records of a log, whose end is the service's.
    Log,
    /// The same, and when the log has ended it is this, in ms since 1970.
    LogUntil(Epoch),
}

/// Starts everything. Generations of snapshots are verified as `verification` says.
pub fn start(config: Config, time: Time, verification: Verification) -> Result<(Service, Running), ServiceError> {
    let topics = Topics::default();
    let status = SourceStatus::default();
    let directory = Some(config.snapshot.directory.clone()).filter(|path| !path.is_empty() && time == Time::Wall);
    let machine = Machine::here(StoreKind::Sled(verification));
    let durable = directory.map(|path| Durable::open(Path::new(&path), machine, &topics));
    let (mut durable, recovered) = durable.transpose().map_err(ServiceError::Durable)?.unzip();
    durable.iter_mut().try_for_each(Durable::sync_bindings).map_err(ServiceError::Durable)?;
    let recovered = recovered.unwrap_or_else(Recovered::nothing);
    // Before a source can say that it is: what was lost before a restart is lost since then.
    status.update(|state| state.incomplete_since_ms = recovered.incomplete_since_ms);
    let source = open_source(&config, &recovered.position, &recovered.identity, &topics, &status)?;
    let epochs: Box<dyn EpochSource> = match time {
        Time::Wall => Box::<WallClock>::default(),
        Time::Log => Box::<LogTime>::default(),
        Time::LogUntil(now) => Box::new(LogTime::ending(now)),
    };
    start_recovered(config, source, epochs, topics, status, durable, recovered)
}

/// Starts everything around a source that is at hand, with nothing that outlives the process.
pub fn start_with(
    config: Config,
    source: Box<dyn Source>,
    epochs: Box<dyn EpochSource>,
    topics: Topics,
    status: SourceStatus,
) -> Result<(Service, Running), ServiceError> {
    start_recovered(config, source, epochs, topics, status, None, Recovered::nothing())
}

fn start_recovered(
    config: Config,
    source: Box<dyn Source>,
    epochs: Box<dyn EpochSource>,
    topics: Topics,
    status: SourceStatus,
    durable: Option<Durable>,
    recovered: Recovered,
) -> Result<(Service, Running), ServiceError> {
    let Recovered { restored, position, bindings, last_epoch, incarnation, token_secret, .. } = recovered;
    let (restored_epoch, restored_states) = (restored.epoch, restored.states.len());
    let began_ms = crate::clock::now_ms();
    let keys = HashKeys::random();
    let counters = Arc::new(Counters::default());
    counters.event_ids.begin_after(restored_epoch);
    let ignored = Arc::new(IgnoredLog::default());
    // Who replays a log looks at its end, and wants all of it.
    let publisher = match epochs.waits_for_records() {
        true => Publisher::of_everything(config.workers(), incarnation),
        false => Publisher::new(config.workers(), incarnation).keeping(config.history()),
    };
    let publisher = Arc::new(publisher);
    let engine_sink = Arc::clone(&publisher) as Arc<dyn CutSink>;
    let engine =
        Engine::start(&config.engine(), keys, restored, engine_sink, Arc::clone(&counters), Arc::clone(&ignored))?;
    let stop = Arc::new(AtomicBool::new(false));
    let views = Views::open(&config.views, &topics, Arc::clone(&publisher))?;
    let resubmissions = durable.as_ref().map_or_else(|| Resubmissions::in_memory(&topics), Durable::resubmissions);
    let shared = IngestShared {
        sink: Arc::clone(&publisher) as Arc<dyn CutSink>,
        topics: topics.clone(),
        counters: Arc::clone(&counters),
        ignored: Arc::clone(&ignored),
        resubmitted: resubmissions.queue(),
        status: status.clone(),
        stop: Arc::clone(&stop),
        clock: Arc::new(SystemClock),
        views: views.log(),
    };
    let config = Arc::new(config);
    let identity = Arc::new(Mutex::new(source.identity()));
    let rebuilder = Rebuilder {
        config: Arc::clone(&config),
        keys,
        publisher: Arc::clone(&publisher),
        status: status.clone(),
        identity: Arc::clone(&identity),
        bindings: durable.as_ref().map(Durable::bindings),
        shared: shared.clone(),
    };
    let ingest = IngestConfig {
        ends_with_source: epochs.waits_for_records(),
        resume: position,
        bindings,
        last_epoch,
        incarnation,
        ..config.ingest()
    };
    let binding_log: Box<dyn BindingLog> = match &durable {
        Some(durable) => Box::new(durable.bindings()),
        None => Box::new(()),
    };
    let ingest = Ingest::new(ingest, source, epochs, engine, binding_log, shared);
    let ingest =
        std::thread::Builder::new().name("tarn-ingest".to_owned()).spawn(move || rebuild::run(ingest, &rebuilder))?;
    // What was there before is there again before anybody can ask.
    while publisher.published() < restored_epoch {
        publisher.wait_published(restored_epoch, Duration::from_millis(100));
    }
    if restored_epoch > 0 {
        let took_ms = crate::clock::now_ms().saturating_sub(began_ms);
        tracing::info!(
            epoch = restored_epoch,
            states = restored_states,
            took_ms,
            "the state of the last snapshot is back"
        );
    }
    let token_key = match (config.http.token_secret.as_str(), token_secret.as_str()) {
        ("", "") => TokenKey::random(),
        ("", kept) => TokenKey::from_secret(kept),
        (secret, _) => TokenKey::from_secret(secret),
    };
    let snapshots = durable.as_ref().map(Durable::health);
    let taking = TakerConfig {
        interval: Duration::from_millis(config.snapshot.interval_ms),
        tombstone_retention_ms: config.fold.tombstone_retention_ms,
    };
    let watched =
        Watched { publisher: Arc::clone(&publisher), topics: topics.clone(), status: status.clone(), identity };
    let taker = durable.map(|durable| durable.take_snapshots(taking, watched));
    let taker = taker.transpose().map_err(ServiceError::Durable)?;
    let queries = Arc::new(QueryRunner::new(config.query.concurrent_max)?);
    let service = Service {
        config,
        publisher,
        counters,
        ignored,
        topics,
        status,
        keys,
        token_key,
        resubmissions,
        views,
        queries,
        snapshots,
        started_ms: crate::clock::now_ms(),
        sealed_before: last_epoch,
        was_ready: Arc::new(AtomicBool::new(false)),
    };
    // History begins when the service is ready, whether or not anybody asks.
    let looked_at = service.clone();
    let interval = Duration::from_millis(service.config.views.watch_interval_ms);
    let views_thread = service.views.watch(interval, move || looked_at.look_after())?;
    let running = Running { stop, views: service.views.clone(), views_thread, taker, ingest };
    Ok((service, running))
}

/// One arm a source.
fn open_source(
    config: &Config,
    resume: &Position,
    known: &LogIdentity,
    topics: &Topics,
    status: &SourceStatus,
) -> Result<Box<dyn Source>, SourceError> {
    let section = &config.source;
    Ok(match section.kind {
        SourceKind::Kafka => {
            let kafka = KafkaConfig {
                brokers: section.kafka.brokers.clone(),
                topics: section.kafka.topics.clone(),
                group: section.kafka.group.clone(),
                lost_position: section.kafka.lost_position,
                discovery_interval: Duration::from_millis(section.kafka.discovery_interval_ms),
                heartbeat_topic: section.kafka.heartbeat_topic.clone(),
                properties: section.kafka.properties.clone(),
                resume: resume.clone(),
                known: known.clone(),
            };
            Box::new(KafkaSource::new(kafka, topics.clone(), status.clone())?)
        }
        SourceKind::Log => {
            let path = LogPath::parse(&section.log.path);
            Box::new(LogFile::open(&path, topics.clone(), status.clone())?)
        }
        SourceKind::Generator => {
            let generator = GeneratorConfig {
                seed: section.generator.seed,
                resources: section.generator.resources,
                start_ms: crate::clock::now_ms().saturating_sub(section.generator.preload),
                faults: FaultRates {
                    replays: 0.0002,
                    batch_duplicates: 0.0002,
                    poison: 0.0005,
                    ghosts: 0.002,
                    ..FaultRates::default()
                },
                ..GeneratorConfig::default()
            };
            let rate = section.generator.events_per_second;
            Box::new(LiveGenerator::new(generator, rate, section.generator.preload, None, topics, status.clone())?)
        }
    })
}

impl Running {
    /// Asks the ingest to seal what it has and end. Views are let go meanwhile: nobody reads them any more.
    pub fn stop(&self) {
        if !self.stop.load(Ordering::Acquire) {
            self.views.let_go();
            self.stop.store(true, Ordering::Release);
        }
    }

    /// Whether the ingest has ended.
    pub fn has_ended(&self) -> bool {
        self.ingest.is_finished()
    }

    /// Waits for the end; everything read is then visible, and in a snapshot where there are any.
    pub fn join(self) -> Result<IngestEnd, SourceError> {
        let end = self.ingest.join().expect("the ingest does not panic");
        self.views.stop();
        self.views_thread.join().expect("the thread of the views does not panic");
        if let Some(taker) = self.taker {
            taker.stop();
        }
        end
    }
}
