//! Snapshots of the newest read view, and the thread that takes them on a timer and at the end.
//!
//! An increment holds what changed since the run before; when the increments have grown past half the base, the base is an
//! hour old, or more time has passed than tombstones are kept, a new generation is begun beside it. The batches of a read view never change, so nothing waits for
//! this, and it holds no lock that anybody else needs. What is much work is done with a low priority, but for the last
//! one, for which the process waits. What fails is told and tried again, in a new generation.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bindings::{Bindings, Syncing};
use super::machine::Machine;
use super::recovery::Durable;
use super::resubmitted::Resubmissions;
use super::rows::{ROWS_VERSION, Row};
use super::{Health, RunMeta, position, stored_position, topic_names};
use crate::background::{Pace, lower_priority};
use crate::model::{Epoch, Position, Topics};
use crate::published::{Publisher, ReadView};
use crate::snapshot::{Generations, RunInfo, RunWriter, SnapshotError, keep_aside};
use crate::source::SourceStatus;
use crate::source::identity::IdentityHandle;

/// When to take snapshots, and what to say with them.
#[derive(Debug, Clone, Copy)]
pub struct TakerConfig {
    /// Between two snapshots.
    pub interval: Duration,
    /// How long tombstones are kept.
    pub tombstone_retention_ms: u64,
}

/// A base this old is followed by another one.
const BASE_AGE_MS_MAX: u64 = 3_600_000;
/// While nothing new is read, a snapshot is taken this often nevertheless, so that few epochs are to be made again.
const IDLE_MS_MAX: u64 = 600_000;
/// The run, and the number of its generation.
type Taken = Result<(RunInfo, u64), SnapshotError>;

/// The running thread.
#[derive(Debug)]
pub struct Taker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Snapshots>,
    syncing: Option<Syncing>,
}

/// What snapshots are taken of.
#[derive(Debug)]
pub struct Watched {
    /// Where read views come from.
    pub publisher: Arc<Publisher>,
    /// The topic names.
    pub topics: Topics,
    /// How the source is doing.
    pub status: SourceStatus,
    /// What tells its log from another one; another handle when the state is made anew from another log.
    pub identity: Arc<Mutex<IdentityHandle>>,
}

/// Who waits for a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    /// Nobody: it is written in the background.
    Whenever,
    /// The caller, on whose thread all of it is done.
    Now,
}

/// After the log has turned out to be another one, what is known of it is ahead of what is published for a moment. A
/// snapshot then would hold an old position as one of the new log.
const SETTLING: Duration = Duration::from_secs(30);

/// What was before a state was made anew is given up after so many attempts to keep it, with the usual time in between.
const KEEP_ATTEMPTS_MAX: u32 = 60;

/// What it takes to take a snapshot.
pub struct Snapshots {
    config: TakerConfig,
    path: PathBuf,
    machine: Machine,
    generations: Generations,
    bindings: Bindings,
    resubmissions: Resubmissions,
    health: Arc<Health>,
    watched: Watched,
    last: Option<RunMeta>,
    /// The epochs and positions of the generations that are kept, of their bases or what was loaded; the newest last.
    kept: Vec<(Epoch, Position)>,
    /// How often the log had turned out to be another one that is read on, and until when what is known of it may be
    /// ahead of what is published.
    others: u64,
    settles_at: Option<Instant>,
    /// How often the state had been made anew, and how often what was before could not be kept.
    rebuilt: u64,
    keep_attempts: u32,
}

impl Taker {
    pub(super) fn start(
        interval: Duration,
        mut snapshots: Snapshots,
        syncing: Option<Syncing>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("tarn-snapshot".to_owned()).spawn(move || {
            lower_priority();
            let mut next = Instant::now() + interval;
            while !stopping.load(Ordering::Acquire) {
                std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
                if Instant::now() >= next {
                    snapshots.take_when(Urgency::Whenever);
                    next = Instant::now() + interval;
                }
            }
            snapshots
        })?;
        Ok(Self { stop, thread, syncing })
    }

    /// Takes the last snapshot, of what is published by now, and ends.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        let mut snapshots = self.thread.join().expect("the thread of snapshots does not panic");
        // Somebody waits for this one.
        snapshots.take();
        self.syncing.into_iter().for_each(Syncing::stop);
    }
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Snapshots {
    pub(super) fn new(config: TakerConfig, durable: Durable, watched: Watched) -> Self {
        let Durable { generations, bindings, syncing: _, resubmissions, health, last, path, machine } = durable;
        let kept = last.iter().map(|meta| (meta.epoch, position(&meta.position))).collect();
        Self {
            config,
            path,
            machine,
            generations,
            bindings,
            resubmissions,
            health,
            watched,
            last,
            kept,
            rebuilt: 0,
            keep_attempts: 0,
            others: 0,
            settles_at: None,
        }
    }

    /// Takes a snapshot, if anything is new; what fails is told.
    pub fn take(&mut self) {
        self.take_when(Urgency::Now);
    }

    fn take_when(&mut self, urgency: Urgency) {
        if !self.is_settled() || self.watched.publisher.is_rebuilding() {
            return;
        }
        let identity = self.watched.identity.lock().expect("no holder of the log's identity panics").clone();
        let view = self.watched.publisher.view();
        // Told before the identity becomes another one: so this one is of the log that the view was read from.
        if self.watched.publisher.is_rebuilding() {
            return;
        }
        let lost = self.incomplete_since_ms();
        if view.epoch() == 0 || self.last.as_ref().is_some_and(|last| !is_news(last, &view, lost)) {
            return;
        }
        let began = self.machine.clock.instant();
        let epoch = view.epoch();
        let taken = self.keep_what_was().and_then(|()| self.write(view, &identity, urgency));
        let took_ms = u64::try_from(self.machine.clock.instant().duration_since(began).as_millis()).unwrap_or(u64::MAX);
        match taken {
            Ok((run, generation)) => {
                tracing::debug!(epoch, generation, rows = run.rows, took_ms, "snapshot taken");
                self.health.update(|health| {
                    if health.last_error.take().is_some() {
                        tracing::info!("snapshots are taken again");
                    }
                    health.epoch = Some(epoch);
                    health.finished_ms = Some(self.machine.clock.now_ms());
                    (health.took_ms, health.rows, health.bytes) = (took_ms, run.rows, run.stored_bytes);
                    health.generation = generation;
                    health.taken += 1;
                });
            }
            Err(error) => {
                tracing::error!(%error, "no snapshot could be taken; reading goes on, and it is tried again");
                self.health.update(|health| {
                    health.failed += 1;
                    health.last_error = Some(error.to_string());
                });
            }
        }
    }

    /// Whether what is known of the log is what was read.
    fn is_settled(&mut self) -> bool {
        let others = self.watched.identity.lock().expect("no holder of the log's identity panics").others();
        if others > self.others {
            self.settles_at = Some(self.machine.clock.instant() + SETTLING);
        }
        self.others = others;
        self.settles_at.is_none_or(|settles_at| self.machine.clock.instant() >= settles_at)
    }

    /// Before the first snapshot of a state that was made anew: a copy of the last one of the former state. The log no
    /// longer has what is in it.
    fn keep_what_was(&mut self) -> Result<(), SnapshotError> {
        let rebuilt = self.watched.status.look(|state| state.rebuilds.finished);
        if rebuilt == self.rebuilt {
            return Ok(());
        }
        if let Some(last) = &self.last {
            let Machine { vfs, store, .. } = &self.machine;
            let copy = self.path.join(format!("before-rebuild-{}", last.epoch));
            match keep_aside(vfs, store, &self.path, &copy) {
                Ok(()) => {
                    tracing::warn!(copy = %copy.display(), "the last snapshot from before the state was made anew is kept");
                }
                Err(error) if self.keep_attempts < KEEP_ATTEMPTS_MAX => {
                    self.keep_attempts += 1;
                    return Err(error);
                }
                // Without any snapshot more would be lost.
                Err(error) => {
                    tracing::error!(%error, "what was before the state was made anew could not be kept; it is given up");
                }
            }
        }
        self.keep_attempts = 0;
        self.rebuilt = rebuilt;
        Ok(())
    }

    fn write(&mut self, view: Arc<ReadView>, identity: &IdentityHandle, urgency: Urgency) -> Taken {
        let before = match &self.last {
            Some(last) if self.takes_increment(last, &view)? => Some((last.epoch, last.bindings_segment)),
            _ => None,
        };
        // Bindings from a new generation on stand in a segment of their own, so that older ones can go with theirs.
        let segment = before.map_or_else(|| self.bindings.roll().unwrap_or(0), |(_, segment)| segment);
        let meta = self.meta(&view, identity, segment);
        let stored = serde_json::to_vec(&meta).expect("memory takes what stands beside the rows");
        let mut writer = if before.is_some() { self.generations.begin_run()? } else { self.generations.begin()? };
        let (after, instant) = (before.map_or(0, |(epoch, _)| epoch), (view.epoch(), (**view.position()).clone()));
        let mut pace = match urgency {
            Urgency::Now => Pace::fast(),
            Urgency::Whenever => Pace::slow(),
        };
        put_rows(&mut writer, &view, after, || pace.keep())?;
        // Whoever is the last to let go of what was merged since has a million states to look at.
        drop(view);
        let run = writer.finish(stored)?;
        self.last = Some(meta);
        if before.is_none() {
            self.forget_before(instant);
        }
        Ok((run, self.generations.sizes()?.map_or(0, |sizes| sizes.generation)))
    }

    /// Whether the next run goes into the generation of the last one.
    fn takes_increment(&self, last: &RunMeta, view: &ReadView) -> Result<bool, SnapshotError> {
        let Some(sizes) = self.generations.sizes()? else { return Ok(false) };
        Ok(self.generations.takes_increments()
            && last.tombstone_retention_ms == self.config.tombstone_retention_ms
            && last.incarnation == view.incarnation()
            // Else a tombstone may have come and gone since, and what it deleted would be live in the base for ever.
            && view.epoch() <= last.epoch.saturating_add(self.config.tombstone_retention_ms)
            && sizes.increments_bytes <= sizes.base_bytes / 2
            && sizes.age_ms < BASE_AGE_MS_MAX)
    }

    fn meta(&self, view: &ReadView, identity: &IdentityHandle, bindings_segment: u64) -> RunMeta {
        RunMeta {
            version: ROWS_VERSION,
            epoch: view.epoch(),
            position: stored_position(view.position()),
            topics: topic_names(&self.watched.topics),
            identity: identity.known_below(view.position()),
            tombstone_retention_ms: self.config.tombstone_retention_ms,
            incarnation: view.incarnation(),
            // What is lost after the instant is found to be lost again by whoever goes on from it.
            incomplete_since_ms: self.incomplete_since_ms(),
            bindings_segment,
        }
    }

    fn incomplete_since_ms(&self) -> Option<u64> {
        self.watched.status.look(|state| state.incomplete_since_ms)
    }

    /// What the journals say from before the older of the two generations that are kept is of no use any more.
    fn forget_before(&mut self, base: (Epoch, Position)) {
        self.kept.push(base);
        if self.kept.len() > 2 {
            self.kept.remove(0);
        }
        let Some((oldest, position)) = self.kept.first() else { return };
        if let Err(error) = self.bindings.forget_to(*oldest) {
            tracing::warn!(%error, "old bindings could not be removed");
        }
        // With one generation nobody knows yet what another one needs.
        if self.kept.len() == 2
            && let Err(error) = self.resubmissions.forget_read(position)
        {
            tracing::warn!(%error, "records that were submitted again could not be removed");
        }
    }
}

/// Whether a view holds what the last snapshot does not, or lacks events that it did not lack.
fn is_news(last: &RunMeta, view: &ReadView, incomplete_since_ms: Option<u64>) -> bool {
    view.epoch() > last.epoch
        && (last.incarnation != view.incarnation()
            || last.incomplete_since_ms != incomplete_since_ms
            || stored_position(view.position()) != last.position
            || view.epoch() - last.epoch >= IDLE_MS_MAX)
}

/// The rows of a view in order of their keys: all, or those that are new since the epoch `after`.
fn put_rows(
    writer: &mut RunWriter<'_>,
    view: &ReadView,
    after: Epoch,
    mut keep_pace: impl FnMut(),
) -> Result<(), SnapshotError> {
    let mut put = |row: &Row| {
        keep_pace();
        writer.put(&row.key(), &row.value())
    };
    let quarantine = view.quarantine();
    let mut rejected: Vec<_> = quarantine.iter().map(|entry| ((entry.first_seen, entry.reject.order), entry)).collect();
    rejected.sort_unstable_by_key(|(key, _)| *key);
    for (_, entry) in rejected.iter().filter(|((first_seen, _), _)| after == 0 || *first_seen > after) {
        put(&Row::Rejected(Arc::clone(entry)))?;
    }
    for (id, until) in view.kept() {
        put(&Row::Kept(id, until))?;
    }
    for (key, entry) in &rejected {
        put(&Row::InQuarantine(*key, entry.status))?;
    }
    for (key, reject) in view.seen_rejects_since(after) {
        put(&Row::SeenReject(key, reject))?;
    }
    for state in view.states_since(after) {
        put(&Row::State(state))?;
    }
    Ok(())
}
