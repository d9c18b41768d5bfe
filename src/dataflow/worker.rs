//! The timely workers: each applies the ingest's commands, steps its dataflow, and hands over a cut when an epoch is
//! complete. Commands are the only way in. Each has a thread, but for the one of a simulation ([`SteppedWorker`]): what it
//! does in a turn is the same.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use timely::WorkerConfig;
use timely::communication::allocator::thread::Thread as OwnThread;
use timely::communication::{Allocator, WorkerGuards};
use timely::worker::Worker;

use super::counters::{Counters, IgnoredLog};
use super::cut::{CutSink, ViewId};
use super::discard;
use super::ending::{Ending, Endings};
use super::graph::{self, RecordsInput};
use super::index::HashKeys;
use super::merging::{self, Workload};
use super::restored::Restored;
use super::shard::Shard;
pub use super::shard::ShardConfig;
use super::views::{CatchingUp, Pace, Progress, VIEW, ViewCommand, Views};
use crate::decode::{Decoder, Limits};
use crate::model::Epoch;
use crate::source::RecordBatch;

/// How the workers are set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// How many workers.
    pub workers: usize,
    /// The limits of a record.
    pub limits: Limits,
    /// How a worker keeps its resources.
    pub shard: ShardConfig,
    /// How much merging an idle worker does at a time, in updates; none turns it off.
    pub idle_merge_effort: Option<usize>,
    /// How many states a worker takes back at a time; [`super::SLICE_STATES`] but in tests.
    pub slice_states: usize,
    /// How many keys a view that begins reads at a time; [`super::SLICE_KEYS`] but in tests.
    pub slice_keys: usize,
}

/// What a worker is told. In order, they make up one epoch after another: `Begin`, any `Records`, `Seal`.
#[derive(Debug)]
pub(super) enum Command {
    /// The next records belong to this epoch, greater than any before.
    Begin(Epoch),
    /// Decode and fold these.
    Records(RecordBatch),
    /// No more records at or before this epoch.
    Seal(Epoch),
    /// Compute a view, or no longer.
    View(ViewCommand, Endings),
}

/// The running workers.
pub struct Engine {
    commands: Vec<Sender<Command>>,
    threads: Vec<Thread>,
    /// None where the worker has no thread.
    guards: Option<WorkerGuards<()>>,
    next: usize,
    unwoken_bytes: usize,
    endings: Endings,
    /// How each view that no other one has read is let go.
    views: BTreeMap<ViewId, Ending>,
}

/// A worker with nothing to do looks at its commands as often as this, though nobody wakes it.
const REST: Duration = Duration::from_millis(100);
/// So much work is worth waking the workers for before the epoch is sealed.
const WAKE_BYTES: usize = 128 * 1024;
/// For so many turns what some views have is not handed over while others are about to have it too.
const FURTHER_TURNS_MAX: u32 = 4;

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({} workers)", self.commands.len())
    }
}

/// The workers could not be started.
#[derive(Debug, thiserror::Error)]
#[error("could not start the workers: {0}")]
pub struct StartError(String);

impl Engine {
    /// Starts the workers with what they are to hold; they deliver their cuts to `sink`. What was restored is seen once
    /// its epoch is sealed, which must be the first one.
    pub fn start(
        config: &EngineConfig,
        keys: HashKeys,
        restored: Restored,
        sink: Arc<dyn CutSink>,
        counters: Arc<Counters>,
        ignored: Arc<IgnoredLog>,
    ) -> Result<Self, StartError> {
        discard::begin();
        let (commands, receivers): (Vec<_>, Vec<_>) = (0..config.workers).map(|_| unbounded()).unzip();
        let shares = restored.shares(config.workers);
        let parts = Mutex::new(receivers.into_iter().zip(shares).map(Some).collect::<Vec<_>>());
        let (thread_sender, thread_receiver) = unbounded();
        let communication = timely::CommunicationConfig::Process(config.workers);
        let worker_config = worker_config(config);
        let setup = Setup { config: config.clone(), keys, sink, counters, ignored };
        let guards = timely::execute(timely::Config { communication, worker: worker_config }, move |worker| {
            let mut parts = parts.lock().expect("no worker panics while it takes its part");
            let (receiver, restored) = parts[worker.index()].take().expect("every worker takes its part once");
            drop(parts);
            // The starter waits for all; that it is gone can only mean that it panicked.
            let _ = thread_sender.send((worker.index(), std::thread::current()));
            let mut part = setup.part(worker, receiver, restored);
            while part.turn(worker, REST) {}
            part.end(worker);
        })
        .map_err(StartError)?;
        let mut threads: Vec<(usize, Thread)> = thread_receiver.iter().take(config.workers).collect();
        threads.sort_unstable_by_key(|(index, _)| *index);
        let threads = threads.into_iter().map(|(_, thread)| thread).collect();
        Ok(Self::of(commands, threads, Some(guards)))
    }

    /// The same with one worker that has no thread: it works when it is given a turn, on the thread that called this.
    pub fn stepped(
        config: &EngineConfig,
        keys: HashKeys,
        restored: Restored,
        sink: Arc<dyn CutSink>,
        counters: Arc<Counters>,
        ignored: Arc<IgnoredLog>,
    ) -> (Self, SteppedWorker) {
        let (commands, receiver) = unbounded();
        let mut worker =
            Worker::new(worker_config(config), Allocator::Thread(OwnThread::default()), Some(Instant::now()));
        let config = EngineConfig { workers: 1, ..config.clone() };
        let part = Setup { config, keys, sink, counters, ignored }.part(&mut worker, receiver, restored);
        (Self::of(vec![commands], Vec::new(), None), SteppedWorker { worker, part })
    }

    fn of(commands: Vec<Sender<Command>>, threads: Vec<Thread>, guards: Option<WorkerGuards<()>>) -> Self {
        let (endings, views) = (Endings::default(), BTreeMap::new());
        Self { commands, threads, guards, next: 0, unwoken_bytes: 0, endings, views }
    }

    /// Begins an epoch on all workers.
    pub(super) fn begin(&self, epoch: Epoch) {
        self.commands.iter().for_each(|worker| drop(worker.send(Command::Begin(epoch))));
    }

    /// Gives records to the next worker in turn. A worker that sleeps is woken only once there is some work for it:
    /// nothing is seen before the seal, which wakes them all, and a wake for every record would cost more than it.
    pub(super) fn records(&mut self, batch: RecordBatch) {
        self.next = (self.next + 1) % self.commands.len();
        self.unwoken_bytes += batch.bytes();
        drop(self.commands[self.next].send(Command::Records(batch)));
        if self.unwoken_bytes >= WAKE_BYTES {
            self.unwoken_bytes = 0;
            self.threads.iter().for_each(Thread::unpark);
        }
    }

    /// Seals an epoch on all workers.
    pub(super) fn seal(&mut self, epoch: Epoch) {
        self.unwoken_bytes = 0;
        self.commands.iter().for_each(|worker| drop(worker.send(Command::Seal(epoch))));
        self.threads.iter().for_each(Thread::unpark);
    }

    /// Passes on what views there are to be, in its place among the epochs. One that is removed and that nobody reads is
    /// let go at once: while it has much to do, the workers come to what they are told late.
    pub(super) fn view(&mut self, command: &ViewCommand) {
        let endings = self.endings.beside();
        match command {
            ViewCommand::Install(view) => {
                // What others read goes after them, which only the workers know.
                view.reads.values().for_each(|read| drop(self.views.remove(read)));
                self.views.insert(view.id, endings.of(VIEW));
            }
            ViewCommand::Remove(id) => self.views.remove(id).iter().for_each(Ending::begin),
        }
        self.commands.iter().for_each(|worker| drop(worker.send(Command::View(command.clone(), endings.clone()))));
        self.threads.iter().for_each(Thread::unpark);
    }

    /// Lets all views go: nobody sees them any more. They do nothing from then on, so that they hold nothing else up.
    pub(super) fn let_views_go(&self) {
        self.endings.begin_all();
    }

    /// Ends the workers when all they were told is done, but for views, and waits for them. Panics if one of them did.
    pub fn stop(self) {
        self.let_views_go();
        drop(self.commands);
        self.threads.iter().for_each(Thread::unpark);
        for result in self.guards.into_iter().flat_map(WorkerGuards::join) {
            result.expect("a worker does not panic");
        }
    }
}

fn worker_config(config: &EngineConfig) -> WorkerConfig {
    let mut worker_config = WorkerConfig::default();
    if let Some(effort) = config.idle_merge_effort {
        merging::configure(&mut worker_config, effort);
    }
    worker_config
}

/// What all workers are set up with.
struct Setup {
    config: EngineConfig,
    keys: HashKeys,
    sink: Arc<dyn CutSink>,
    counters: Arc<Counters>,
    ignored: Arc<IgnoredLog>,
}

impl Setup {
    /// Draws a worker's dataflow.
    fn part(&self, worker: &mut Worker, commands: Receiver<Command>, restored: Restored) -> Part {
        let decoder = Decoder::new(self.config.limits);
        let shard = Shard::new(self.config.shard, self.config.workers, self.keys, Arc::clone(&self.counters));
        let (counters, ignored) = (Arc::clone(&self.counters), Arc::clone(&self.ignored));
        let mut input = RecordsInput::new();
        let slices = restored.slices(self.config.slice_states);
        let traces =
            worker.dataflow(|scope| graph::build(scope, &mut input, decoder, shard, slices, counters, ignored));
        let views = Views::new(worker, &traces.tables(), self.keys, self.config.slice_keys);
        let (sink, workload, pace) = (Arc::clone(&self.sink), Workload::new(), Pace::new(self.config.slice_keys));
        Part { input: Some(input), traces, views, commands, sink, workload, pace, further: 0 }
    }
}

/// A worker's part: its dataflow, and what commands it.
struct Part {
    /// None once nobody can command it any more.
    input: Option<RecordsInput>,
    traces: graph::Traces,
    views: Views,
    commands: Receiver<Command>,
    sink: Arc<dyn CutSink>,
    workload: Workload,
    pace: Pace,
    /// In how many turns some views have come further than the last cut says.
    further: u32,
}

impl Part {
    /// Applies what it is told, steps the dataflow and hands over a cut if there is a new one; with nothing to do it
    /// sleeps for `rest` at most. Whether there may be more to do.
    fn turn(&mut self, worker: &mut Worker, rest: Duration) -> bool {
        let next = self.input.as_mut().map(|open| apply(open, &self.commands));
        // Until everything that was begun is in a cut, there is work somewhere in the dataflow.
        let at_work = self.input.as_ref().is_some_and(|open| *open.time() > self.traces.upper());
        self.workload.note(at_work, matches!(next, Some(Next::Now)));
        let began = Instant::now();
        let slice_keys = self.pace.slice(at_work || self.views.at_work(), began);
        let catching_up = self.views.turn(slice_keys);
        let rest = match catching_up {
            CatchingUp::Nothing | CatchingUp::Ahead => rest,
            CatchingUp::Waits => rest.min(self.pace.gap(began)),
            CatchingUp::Slice => Duration::ZERO,
        };
        let rest = if self.further > 0 { Duration::ZERO } else { rest };
        match &next {
            Some(Next::Wait) if !rest.is_zero() => drop(worker.step_or_park(Some(rest))),
            Some(Next::Now | Next::Wait) => drop(worker.step()),
            Some(Next::View(command, endings)) => self.views.command(worker, command, endings),
            Some(Next::End) => self.input = None,
            None => {}
        }
        match catching_up {
            CatchingUp::Slice => self.pace.took(began, Instant::now()),
            CatchingUp::Nothing => self.pace.forget(),
            CatchingUp::Waits | CatchingUp::Ahead => {}
        }
        self.hand_over(worker.index());
        next.is_some()
    }

    /// Hands over a cut if there is something new: of tables at once, of views when all have come as far, no more of them
    /// do, or that has taken some turns. An epoch that each view reaches in a turn of its own would make a cut for every one.
    fn hand_over(&mut self, worker: usize) {
        let floors = self.sink.floors();
        let (tables, views) = (self.traces.advance(floors.tables), self.views.advance(&floors));
        let is_due = match views {
            Progress::All => true,
            Progress::Some => tables || self.further >= FURTHER_TURNS_MAX,
            Progress::None => tables || self.further > 0,
        };
        self.further = if is_due || views == Progress::None { 0 } else { self.further + 1 };
        if is_due && let Some(cut) = self.traces.cut(|| self.views.cut()) {
            self.sink.deliver(worker, cut);
        }
    }

    /// The dataflow ends by itself once its input is closed and its traces are let go.
    fn end(self, worker: &mut Worker) {
        drop((self.input, self.views, self.traces));
        while worker.has_dataflows() {
            worker.step_or_park(Some(Duration::from_millis(10)));
        }
    }
}

/// A worker that has no thread: it works when it is given a turn. For simulations.
pub struct SteppedWorker {
    worker: Worker,
    part: Part,
}

impl std::fmt::Debug for SteppedWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SteppedWorker")
    }
}

impl SteppedWorker {
    /// What a worker with a thread does between two looks at its commands.
    pub fn turn(&mut self) {
        self.part.turn(&mut self.worker, Duration::ZERO);
    }

    /// Ends it, whatever it was told and has not done yet.
    pub fn end(mut self) {
        self.part.end(&mut self.worker);
    }
}

/// What a worker does after it has looked at its commands.
#[derive(Debug)]
enum Next {
    /// Steps and looks again at once.
    Now,
    /// Installs or removes a view, and looks again at once.
    View(ViewCommand, Endings),
    /// Steps, and sleeps until there is something to do.
    Wait,
    /// Closes its input: nobody can command it any more.
    End,
}

/// Applies commands up to the first records, so that folding goes on between two batches.
fn apply(input: &mut RecordsInput, commands: &Receiver<Command>) -> Next {
    loop {
        match commands.try_recv() {
            Ok(Command::Begin(epoch)) => input.advance_to(epoch),
            Ok(Command::Seal(epoch)) => input.advance_to(epoch + 1),
            Ok(Command::Records(batch)) => {
                input.send(batch);
                input.flush();
                return Next::Now;
            }
            Ok(Command::View(command, endings)) => return Next::View(command, endings),
            Err(TryRecvError::Empty) => return Next::Wait,
            Err(TryRecvError::Disconnected) => return Next::End,
        }
    }
}
