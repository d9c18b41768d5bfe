//! The life of the ingest, and its next life: when the log turned out to be another one, the state is made anew from its
//! beginning, beside the one that is shown (policy `rebuild`).
//!
//! In: an ingest, and what another one is made of. Out: the end of the last one. Promises: what is shown stays as it was,
//! and is marked incomplete, until the new state holds everything that its log had when it was first heard of; then it is
//! replaced in one step, and how many resources are gone is counted and logged. A process that dies meanwhile begins
//! again. Not here: who finds that the log is another one (`source`), and keeping what was shown (`durable`).

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::{ServiceError, open_source};
use crate::clock::now_ms;
use crate::config::Config;
use crate::dataflow::{
    Binding, BindingLog, CutSink, Engine, HashKeys, Ingest, IngestConfig, IngestEnd, IngestShared, Restored, WallClock,
};
use crate::durable::Bindings;
use crate::model::{Position, ResourceId, Topics};
use crate::published::rebuilding::Rebuilding;
use crate::published::{Publisher, ReadView};
use crate::source::identity::{IdentityHandle, LogIdentity};
use crate::source::{SourceError, SourceStatus};

/// What another ingest is made of.
pub(super) struct Rebuilder {
    pub(super) config: Arc<Config>,
    pub(super) keys: HashKeys,
    pub(super) publisher: Arc<Publisher>,
    pub(super) status: SourceStatus,
    pub(super) identity: Arc<Mutex<IdentityHandle>>,
    pub(super) bindings: Option<Bindings>,
    pub(super) shared: IngestShared,
}

/// Runs an ingest, and another one after it whenever the log has turned out to be another one.
pub(super) fn run(first: Ingest, rebuilder: &Rebuilder) -> Result<IngestEnd, SourceError> {
    let mut end = first.run()?;
    while let Some(why) = end.another_log.take() {
        if rebuilder.shared.stop.load(Ordering::Acquire) {
            break;
        }
        tracing::error!(why, "the state is made anew from the beginning of the log");
        let next = rebuilder.begin(&end).map_err(|error| SourceError::Setup(error.to_string()))?;
        end = next.run()?;
    }
    Ok(end)
}

impl Rebuilder {
    /// An ingest that reads the log from its beginning into a state of its own.
    fn begin(&self, former: &IngestEnd) -> Result<Ingest, ServiceError> {
        let began_ms = now_ms();
        // Before anything else is another one: a snapshot must not be taken of the one and the other.
        self.publisher.begin_rebuilding();
        self.shared.resubmitted.begin_anew();
        self.status.update(|state| {
            state.begin_anew();
            state.rebuilds.running_since_ms = state.rebuilds.running_since_ms.or(Some(began_ms));
        });
        let IngestShared { topics, counters, ignored, .. } = &self.shared;
        let nothing = (Position::default(), LogIdentity::default());
        let source = open_source(&self.config, &nothing.0, &nothing.1, topics, &self.status)?;
        *self.identity.lock().expect("no holder of the log's identity panics") = source.identity();
        let incarnation = rand::random();
        let sink: Arc<dyn CutSink> = Arc::new(self.rebuilding(incarnation));
        let (workers, restored) = (self.config.engine(), Restored::default());
        let engine =
            Engine::start(&workers, self.keys, restored, Arc::clone(&sink), Arc::clone(counters), Arc::clone(ignored))?;
        let config = IngestConfig {
            ends_with_source: false,
            resume: own_topics(&former.position),
            last_epoch: former.last_epoch,
            incarnation,
            ..self.config.ingest()
        };
        let binding_log: Box<dyn BindingLog> = match &self.bindings {
            Some(bindings) => Box::new(OnceShown {
                publisher: Arc::clone(&self.publisher),
                bindings: bindings.clone(),
                hidden: VecDeque::new(),
            }),
            None => Box::new(()),
        };
        let shared = IngestShared { sink, ..self.shared.clone() };
        Ok(Ingest::new(config, source, Box::<WallClock>::default(), engine, binding_log, shared))
    }

    fn rebuilding(&self, incarnation: u64) -> Rebuilding {
        let (status, shown_in) = (self.status.clone(), self.status.clone());
        let is_complete = move |view: &ReadView| {
            status.look(|state| state.end_at_start.as_ref().is_some_and(|end| view.position().reached(end)))
        };
        let on_shown = move |former: Arc<ReadView>, view: Arc<ReadView>| {
            shown_in.update(|state| {
                (state.rebuilds.running_since_ms, state.incomplete_since_ms) = (None, None);
                state.rebuilds.finished += 1;
            });
            // Whoever looks for what is gone looks at every resource: not on the thread of a worker.
            let counting = std::thread::Builder::new().name("tarn-reconcile".to_owned());
            if let Err(error) = counting.spawn(move || reconcile(&shown_in, &former, &view)) {
                tracing::warn!(%error, "what is gone since the state was made anew could not be counted");
            }
        };
        let workers = self.config.workers();
        Rebuilding::new(Arc::clone(&self.publisher), workers, incarnation, Box::new(is_complete), Box::new(on_shown))
    }
}

/// The journal of bindings, which has no use for epochs that nobody can see.
struct OnceShown {
    publisher: Arc<Publisher>,
    bindings: Bindings,
    /// The last ones: when the state is shown, some of them are on their way to be.
    hidden: VecDeque<Binding>,
}

/// More epochs than these are not on their way.
const ON_THEIR_WAY_MAX: usize = 1_000;

impl BindingLog for OnceShown {
    fn note(&mut self, binding: &Binding) {
        self.hidden.push_back(binding.clone());
        if self.publisher.is_rebuilding() {
            let excess = self.hidden.len().saturating_sub(ON_THEIR_WAY_MAX);
            drop(self.hidden.drain(..excess));
            // What comes next does not follow what was written last.
            self.bindings.forsake();
        } else {
            self.hidden.drain(..).for_each(|binding| self.bindings.note(&binding));
        }
    }

    fn forsake(&mut self) {
        self.bindings.forsake();
    }
}

/// What was read again out of the quarantine is read: only the log begins anew.
fn own_topics(position: &Position) -> Position {
    let mut own = Position::default();
    for (topic, partition, next) in position.iter().filter(|(topic, ..)| *topic == Topics::RESUBMITTED) {
        own.advance(&topic.into(), partition, next);
    }
    own
}

/// Counts the resources that the log no longer mentions, and tells.
fn reconcile(status: &SourceStatus, former: &ReadView, view: &ReadView) {
    let is_live = |view: &ReadView, id: ResourceId| view.state(id).is_some_and(|state| state.is_live());
    let live = former.all_states().into_iter().filter(|state| state.is_live());
    let (mut before, mut gone) = (0_u64, Vec::new());
    for state in live {
        before += 1;
        if !is_live(view, state.id) {
            gone.push(state.id);
        }
    }
    let examples: Vec<String> = gone.iter().take(5).map(ResourceId::to_string).collect();
    let (epoch, count) = (view.epoch(), gone.len());
    tracing::warn!(epoch, before, gone = count, ?examples, "the state was made anew from the log, and is shown");
    status.update(|state| state.rebuilds.gone += count as u64);
}
