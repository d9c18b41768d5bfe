//! The ingest: one thread that polls the source, mints epochs, and hands records to the workers.
//!
//! An epoch is begun by its first record and sealed when it is old enough or full; then its binding (which position it
//! seals) is announced, and only then do the workers learn that it is complete. An idle log seals an empty epoch now
//! and then, so that time goes on. Backpressure: at most so many epochs or bytes are sealed and not yet published, and
//! while some are on their way the next one waits for a while, since few large ones are worked off sooner than many.
//! Dropped here, before anything is decoded: records of topics that were not asked for, and those below the position
//! that this process resumed from (rule 1 of the design's section 3). The position goes forward alone, but for a
//! partition that the source says has gone back.

mod again;
mod config;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::counters::{self, Counters, IgnoredLog};
use super::cut::{Binding, BindingLog, CutSink};
use super::epochs::EpochSource;
use super::resealing::Resealing;
use super::views::{ViewCommand, ViewLog};
use super::worker::Engine;
use crate::clock::Clock;
use crate::model::{Coordinates, Epoch, Ignored, IgnoredReason, Position, SkipReason, TopicId, Topics, plausible_ms};
use crate::source::resubmitted::ResubmittedQueue;
use crate::source::{BufferPool, Limit, Polled, RecordBatch, Source, SourceError, SourceState, SourceStatus};
pub use config::{IngestConfig, IngestEnd};

/// The epoch under construction.
#[derive(Default)]
struct Open {
    epoch: Option<Epoch>,
    began: Option<Instant>,
    /// Batches that wait for their epoch, where only the records tell the time.
    held: Vec<RecordBatch>,
    bytes: usize,
    records: usize,
    newest_timestamp_ms: Option<i64>,
    /// Where its time began, if the log tells it.
    oldest_ms: Option<u64>,
}

/// How far reading has come: what one step leaves to the next.
pub struct Reading {
    open: Open,
    last_seal: Instant,
    last_commit: Instant,
    source_ended: bool,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("epoch", &self.open.epoch).finish_non_exhaustive()
    }
}

/// Where the log tells the time, an epoch spans no more of it than this: what is due in between (a tombstone that
/// expires) must not depend on how many records an epoch may have.
const LOG_TIME_SPAN_MS: u64 = 60_000;

/// While more epochs than this are on their way, the open one takes what comes meanwhile,
const FEW_IN_FLIGHT: usize = 3;
/// but is not held open for longer than so many times as long as usual.
const STRETCH: u32 = 10;
/// Whether others are done is looked at as often as this.
const PAUSE: Duration = Duration::from_millis(1);
/// The source is not waited for longer than this at a time.
const POLL_MAX: Duration = Duration::from_millis(50);

/// The ingest thread's state.
pub struct Ingest {
    config: IngestConfig,
    source: Box<dyn Source>,
    pool: BufferPool,
    clock: Arc<dyn Clock>,
    epochs: Box<dyn EpochSource>,
    engine: Engine,
    sink: Arc<dyn CutSink>,
    views: Receiver<ViewCommand>,
    binding_log: Box<dyn BindingLog>,
    topics: Topics,
    counters: Arc<Counters>,
    ignored: Arc<IgnoredLog>,
    resubmitted: ResubmittedQueue,
    status: SourceStatus,
    stop: Arc<AtomicBool>,
    resealing: Resealing,
    wanted: Vec<Option<bool>>,
    position: Position,
    last_binding: Arc<Position>,
    /// New epochs are greater.
    last_epoch: Epoch,
    /// The last one that was sealed here.
    sealed: Epoch,
    /// Whether the log has become another one, or ended: it need not have the places that were read before.
    places_may_be_gone: bool,
    arrivals: u64,
    /// How much came when the source was last asked: as much may come again.
    polled_bytes: usize,
    in_flight: VecDeque<(Epoch, usize)>,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("last_epoch", &self.last_epoch).finish_non_exhaustive()
    }
}

/// What the ingest shares with the rest of the service.
#[derive(Clone)]
pub struct IngestShared {
    /// Where cuts and bindings go.
    pub sink: Arc<dyn CutSink>,
    /// The topic names.
    pub topics: Topics,
    /// The counters.
    pub counters: Arc<Counters>,
    /// The last ignored events.
    pub ignored: Arc<IgnoredLog>,
    /// Records that are to be read again.
    pub resubmitted: ResubmittedQueue,
    /// How the source is doing.
    pub status: SourceStatus,
    /// Set to make the ingest seal what it has and end. What is shown from then on need not have any views.
    pub stop: Arc<AtomicBool>,
    /// By which it is told when to seal.
    pub clock: Arc<dyn Clock>,
    /// Which views the workers are to have.
    pub views: ViewLog,
}

impl Ingest {
    /// An ingest that is not running yet.
    pub fn new(
        config: IngestConfig,
        source: Box<dyn Source>,
        epochs: Box<dyn EpochSource>,
        engine: Engine,
        binding_log: Box<dyn BindingLog>,
        shared: IngestShared,
    ) -> Self {
        let IngestShared { sink, topics, counters, ignored, resubmitted, status, stop, clock, views } = shared;
        let mut config = config;
        let resealing = Resealing::new(std::mem::take(&mut config.bindings));
        let position = config.resume.clone();
        let last_epoch = if resealing.is_done() { config.last_epoch } else { 0 };
        Self {
            config,
            binding_log,
            resealing,
            source,
            pool: BufferPool::default(),
            clock,
            epochs,
            engine,
            views: views.follow(),
            sink,
            topics,
            counters,
            ignored,
            resubmitted,
            status,
            stop,
            wanted: Vec::new(),
            last_binding: Arc::new(position.clone()),
            position,
            last_epoch,
            sealed: 0,
            places_may_be_gone: false,
            arrivals: 0,
            polled_bytes: 0,
            in_flight: VecDeque::new(),
        }
    }

    /// Runs until the source ends or a stop is asked for; then everything read is sealed and published, and the
    /// workers have ended.
    pub fn run(mut self) -> Result<IngestEnd, SourceError> {
        let mut reading = self.reading();
        let result = loop {
            match self.step(&mut reading) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.finish(reading, result)
    }

    /// Reading that begins.
    pub fn reading(&self) -> Reading {
        let now = self.clock.instant();
        Reading { open: Open::default(), last_seal: now, last_commit: now, source_ended: false }
    }

    /// Seals what was read, waits until it is shown, and ends the workers.
    pub fn finish(mut self, mut reading: Reading, result: Result<(), SourceError>) -> Result<IngestEnd, SourceError> {
        // Whatever ended it, what was read is folded and shown.
        if reading.open.began.is_some() {
            self.seal(&mut reading.open);
        }
        if result.is_ok()
            && let Some(end) = self.epochs.end().filter(|end| *end > self.last_epoch)
        {
            let newest_timestamp_ms = i64::try_from(end).ok();
            self.seal(&mut Open { newest_timestamp_ms, ..Open::default() });
        }
        loop {
            // Who asks for an end reads no views any more, and has let go of them.
            if self.stop.load(Ordering::Acquire) {
                self.engine.let_views_go();
            }
            if self.sink.wait_published(self.sealed, Duration::from_millis(100)) {
                break;
            }
        }
        let (result, another_log) = match result {
            Err(SourceError::AnotherLog(why)) => {
                self.give_back_resubmitted();
                (Ok(()), Some(why))
            }
            result => (result, None),
        };
        let last_epoch = self.last_epoch.max(self.config.last_epoch);
        let end = IngestEnd { sealed: self.sealed, last_epoch, position: Arc::clone(&self.last_binding), another_log };
        self.source.commit(&self.position);
        self.engine.stop();
        result.map(|()| end)
    }

    /// Polls once and seals what is due; whether there may be more.
    pub fn step(&mut self, reading: &mut Reading) -> Result<bool, SourceError> {
        let stopping = self.stop.load(Ordering::Acquire);
        self.pass_on_views();
        if !stopping {
            self.reseal(&mut reading.open);
            self.take_resubmitted(&mut reading.open);
        }
        let mut polled = if stopping { Polled::End } else { self.poll(reading)? };
        if polled == Polled::End && !stopping && !self.config.ends_with_source {
            (reading.source_ended, polled) = (true, Polled::Nothing);
            self.places_may_be_gone = true;
        }
        self.source.note_ends(&mut self.position);
        let open = &mut reading.open;
        if polled == Polled::End && !self.resealing.is_done() {
            self.reseal(open);
            self.forsake(open, stopping, again::NO_LONGER_THERE);
        }
        if reading.source_ended && !self.resealing.is_done() {
            self.forsake(open, stopping, again::NO_LONGER_THERE);
        }
        let now = self.clock.instant();
        let old_enough = open.began.is_some_and(|began| now.duration_since(began) >= self.seal_after())
            && !self.waits_for_more(open, polled);
        let full = open.bytes >= self.config.epoch_bytes_max || open.records >= self.config.epoch_records_max;
        let idle = open.began.is_none()
            && !self.epochs.waits_for_records()
            && self.resealing.is_done()
            && now.duration_since(reading.last_seal) >= self.config.idle_seal_interval;
        if old_enough || full || idle {
            self.seal(open);
            reading.last_seal = self.clock.instant();
            if reading.last_seal.duration_since(reading.last_commit) >= self.config.commit_interval {
                self.source.commit(&self.position);
                reading.last_commit = self.clock.instant();
            }
        }
        if polled == Polled::End {
            return Ok(false);
        }
        self.wait_for_room();
        Ok(true)
    }

    fn pass_on_views(&mut self) {
        self.views.try_iter().for_each(|command| self.engine.view(&command));
    }

    /// How old the open epoch becomes. Where only records tell the time, they decide.
    fn seal_after(&self) -> Duration {
        self.config.seal_interval * if self.waits_for_others() { STRETCH } else { 1 }
    }

    fn waits_for_others(&self) -> bool {
        self.in_flight.len() > FEW_IN_FLIGHT && !self.epochs.waits_for_records()
    }

    /// A replay fills its epochs: how old they are says nothing while there is more to read.
    fn waits_for_more(&self, open: &Open, polled: Polled) -> bool {
        self.epochs.waits_for_records() && polled == Polled::Records && open.bytes < self.config.epoch_bytes_max
    }

    fn poll(&mut self, reading: &mut Reading) -> Result<Polled, SourceError> {
        let Reading { open, last_seal, last_commit: _, source_ended } = reading;
        let until = match open.began {
            Some(began) => began + self.config.seal_interval,
            None => *last_seal + self.config.idle_seal_interval,
        };
        let wait = until.saturating_duration_since(self.clock.instant());
        let wait = wait.clamp(if self.waits_for_others() { PAUSE } else { Duration::ZERO }, POLL_MAX);
        if *source_ended {
            std::thread::sleep(wait);
            return Ok(Polled::Nothing);
        }
        let mut batch = RecordBatch::pooled(&self.pool, self.polled_bytes + self.polled_bytes / 8);
        let room = self.config.epoch_records_max.saturating_sub(open.records).max(1);
        let span_ms = self.epochs.waits_for_records().then_some(LOG_TIME_SPAN_MS);
        let limit = Limit { bytes: self.config.chunk_bytes, records: room, span_ms };
        let polled = self.source.poll(&mut batch, wait, limit)?;
        self.polled_bytes = batch.bytes();
        for rewound in self.source.take_rewinds() {
            self.forsake(open, false, again::NO_LONGER_THERE);
            self.rewind(&rewound, open);
        }
        if !batch.is_empty() && !self.resealing.is_done() {
            self.take_for_resealing(batch, open);
        } else if !batch.is_empty() {
            let newest_ms = batch.timestamps_ms().filter(|ms| self.epochs.believes(*ms)).max().and_then(plausible_ms);
            if limit.is_passed_by(open.oldest_ms, newest_ms) {
                self.seal(open);
            }
            let oldest_ms = batch.timestamps_ms().filter(|ms| self.epochs.believes(*ms)).min().and_then(plausible_ms);
            open.oldest_ms = open.oldest_ms.or(oldest_ms);
            self.take(batch, open);
        }
        Ok(polled)
    }

    /// Takes a batch into the open epoch.
    fn take(&mut self, batch: RecordBatch, open: &mut Open) {
        let batch = self.accept(batch, open.epoch.unwrap_or(self.last_epoch));
        self.add(batch, open);
    }

    /// Moves the position past a batch; what is left of it was not read before and is asked for.
    fn accept(&mut self, mut batch: RecordBatch, epoch: Epoch) -> RecordBatch {
        counters::add(&self.counters.records, batch.len() as u64);
        counters::add(&self.counters.record_bytes, batch.bytes() as u64);
        let mut ignored = Vec::new();
        let mut names: Option<(TopicId, Arc<str>)> = None;
        if self.source.has_reproducible_order() && !batch.is_resubmitted() {
            batch.number(self.arrivals);
            self.arrivals += batch.len() as u64;
        }
        batch.retain(|coordinates, _| {
            let Coordinates { topic, partition, offset } = coordinates;
            let (_, name) = match &names {
                Some((known, _)) if *known == topic => names.as_ref().expect("just matched"),
                _ => names.insert((topic, self.topics.name(topic))),
            };
            let wanted = wanted(&mut self.wanted, topic, name, &self.config.topics);
            let read_before = self.config.resume.next_offset(name, partition).is_some_and(|next| offset < next);
            if read_before {
                counters::add(self.counters.ignored(IgnoredReason::AlreadyRead), 1);
                ignored.push(Ignored {
                    reason: IgnoredReason::AlreadyRead,
                    id: None,
                    event_id: None,
                    event_id_text: None,
                    coordinates,
                    epoch,
                });
                return false;
            }
            self.position.advance(name, partition, offset.saturating_add(1));
            if !wanted && !Topics::is_own(name) {
                let reason = if name.ends_with(".tuples") { SkipReason::Tuple } else { SkipReason::OtherTopic };
                counters::add(self.counters.skipped(reason), 1);
                return false;
            }
            true
        });
        self.ignored.note(ignored);
        batch
    }

    /// Adds records to the open epoch.
    fn add(&mut self, batch: RecordBatch, open: &mut Open) {
        open.began.get_or_insert_with(|| self.clock.instant());
        open.bytes += batch.bytes();
        open.records += batch.len();
        let newest_ms = batch.timestamps_ms().filter(|ms| self.epochs.believes(*ms)).max();
        open.newest_timestamp_ms = open.newest_timestamp_ms.max(newest_ms);
        if self.epochs.waits_for_records() {
            open.held.push(batch);
        } else {
            self.begin(open);
            if !batch.is_empty() {
                self.engine.records(batch);
            }
        }
    }

    /// Begins the open epoch on the workers, if it is not yet.
    fn begin(&mut self, open: &mut Open) -> Epoch {
        *open.epoch.get_or_insert_with(|| {
            let epoch = self.epochs.next(self.last_epoch, open.newest_timestamp_ms);
            assert!(epoch > self.last_epoch, "epochs strictly increase");
            self.engine.begin(epoch);
            epoch
        })
    }

    /// Seals the open epoch and leaves a fresh one.
    fn seal(&mut self, open: &mut Open) {
        let epoch = self.begin(open);
        let closed = std::mem::take(open);
        for batch in closed.held.into_iter().filter(|batch| !batch.is_empty()) {
            self.engine.records(batch);
        }
        if *self.last_binding != self.position {
            self.last_binding = Arc::new(self.position.clone());
        }
        let binding = self.binding(epoch, closed.began);
        self.binding_log.note(&binding);
        self.close(epoch, closed.began, closed.bytes);
    }

    fn binding(&self, epoch: Epoch, polled_at: Option<Instant>) -> Binding {
        let (position, incarnation) = (Arc::clone(&self.last_binding), self.config.incarnation);
        let whole_at = self.is_whole().then(|| self.clock.instant());
        Binding { epoch, position, incarnation, polled_at, whole_at, newest_event: None }
    }

    /// Whether everything is read that the log has, as far as is known of it.
    fn is_whole(&self) -> bool {
        let has_all = |state: &SourceState| {
            !state.phase.is_trouble() && state.end_at_start.is_some() && self.position.reached(&state.end)
        };
        self.resealing.is_done() && self.status.look(has_all)
    }

    /// Announces what an epoch seals, and seals it.
    fn close(&mut self, epoch: Epoch, polled_at: Option<Instant>, bytes: usize) {
        self.sink.bind(self.binding(epoch, polled_at));
        if let Some(polled_at) = polled_at {
            self.counters.stages.poll.record(self.clock.instant().saturating_duration_since(polled_at), 1);
        }
        self.engine.seal(epoch);
        (self.last_epoch, self.sealed) = (epoch, epoch);
        self.in_flight.push_back((epoch, bytes));
        counters::add(&self.counters.epochs_sealed, 1);
    }

    /// Waits until few enough epochs and bytes are on their way.
    fn wait_for_room(&mut self) {
        loop {
            // What is on its way may wait for them.
            self.pass_on_views();
            let published = self.sink.published();
            while self.in_flight.front().is_some_and(|(epoch, _)| *epoch <= published) {
                self.in_flight.pop_front();
            }
            let bytes: usize = self.in_flight.iter().map(|(_, bytes)| bytes).sum();
            let room =
                self.in_flight.len() <= self.config.in_flight_epochs_max && bytes <= self.config.in_flight_bytes_max;
            match self.in_flight.front() {
                Some((oldest, _)) if !room && !self.stop.load(Ordering::Acquire) => {
                    self.sink.wait_published(*oldest, Duration::from_millis(100));
                }
                _ => return,
            }
        }
    }
}

/// Whether a topic is read, decided once a topic.
fn wanted(known: &mut Vec<Option<bool>>, topic: TopicId, name: &str, asked: &[String]) -> bool {
    let index = topic.index();
    if known.len() <= index {
        known.resize(index + 1, None);
    }
    *known[index].get_or_insert_with(|| {
        if asked.is_empty() {
            !(name.ends_with(".tuples") || name.starts_with("debezium-heartbeat") || name == "outbox.event.workspace")
        } else {
            asked.iter().any(|asked| asked == name)
        }
    })
}
