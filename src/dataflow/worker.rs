//! The timely workers: each applies the ingest's commands, steps its dataflow, and hands over a cut when an epoch is
//! complete. Commands are the only way in.

use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use timely::WorkerConfig;
use timely::communication::WorkerGuards;
use timely::worker::Worker;

use super::counters::{Counters, IgnoredLog};
use super::cut::CutSink;
use super::graph::{self, RecordsInput};
use super::index::HashKeys;
use super::merging::{self, Workload};
use super::restored::Restored;
use super::shard::Shard;
pub use super::shard::ShardConfig;
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
}

/// The running workers.
pub struct Engine {
    commands: Vec<Sender<Command>>,
    threads: Vec<Thread>,
    guards: WorkerGuards<()>,
    next: usize,
    unwoken_bytes: usize,
}

/// So much work is worth waking the workers for before the epoch is sealed.
const WAKE_BYTES: usize = 128 * 1024;

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
        let (commands, receivers): (Vec<_>, Vec<_>) = (0..config.workers).map(|_| unbounded()).unzip();
        let shares = restored.shares(config.workers);
        let parts = Mutex::new(receivers.into_iter().zip(shares).map(Some).collect::<Vec<_>>());
        let (thread_sender, thread_receiver) = unbounded();
        let mut worker_config = WorkerConfig::default();
        if let Some(effort) = config.idle_merge_effort {
            merging::configure(&mut worker_config, effort);
        }
        let communication = timely::CommunicationConfig::Process(config.workers);
        let setup = config.clone();
        let guards = timely::execute(timely::Config { communication, worker: worker_config }, move |worker| {
            let mut parts = parts.lock().expect("no worker panics while it takes its part");
            let (receiver, restored) = parts[worker.index()].take().expect("every worker takes its part once");
            drop(parts);
            // The starter waits for all; that it is gone can only mean that it panicked.
            let _ = thread_sender.send((worker.index(), std::thread::current()));
            let decoder = Decoder::new(setup.limits);
            let shard = Shard::new(setup.shard, setup.workers, keys, Arc::clone(&counters));
            let mut input = RecordsInput::new();
            let traces = worker.dataflow(|scope| {
                let slices = restored.slices(setup.slice_states);
                graph::build(scope, &mut input, decoder, shard, slices, Arc::clone(&counters), Arc::clone(&ignored))
            });
            run(worker, input, traces, &receiver, &*sink);
        })
        .map_err(StartError)?;
        let mut threads: Vec<(usize, Thread)> = thread_receiver.iter().take(config.workers).collect();
        threads.sort_unstable_by_key(|(index, _)| *index);
        let threads = threads.into_iter().map(|(_, thread)| thread).collect();
        Ok(Self { commands, threads, guards, next: 0, unwoken_bytes: 0 })
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

    /// Ends the workers when all they were told is done, and waits for them. Panics if one of them did.
    pub fn stop(self) {
        drop(self.commands);
        self.threads.iter().for_each(Thread::unpark);
        for result in self.guards.join() {
            result.expect("a worker does not panic");
        }
    }
}

/// A worker's life.
fn run(
    worker: &mut Worker,
    input: RecordsInput,
    mut traces: graph::Traces,
    commands: &Receiver<Command>,
    sink: &dyn CutSink,
) {
    let mut input = Some(input);
    let mut workload = Workload::new();
    loop {
        let more = input.as_mut().map(|open| apply(open, commands));
        // Until everything that was begun is in a cut, there is work somewhere in the dataflow.
        let at_work = input.as_ref().is_some_and(|open| *open.time() > traces.upper());
        workload.note(at_work, matches!(more, Some(Next::Now)));
        match more {
            Some(Next::Now) => drop(worker.step()),
            Some(Next::Wait) => drop(worker.step_or_park(Some(Duration::from_millis(100)))),
            Some(Next::End) => input = None,
            None => {
                // The dataflow ends by itself once its input is closed and its traces are let go.
                if let Some(cut) = traces.cut(sink.published()) {
                    sink.deliver(worker.index(), cut);
                }
                drop(traces);
                while worker.has_dataflows() {
                    worker.step_or_park(Some(Duration::from_millis(10)));
                }
                return;
            }
        }
        if let Some(cut) = traces.cut(sink.published()) {
            sink.deliver(worker.index(), cut);
        }
    }
}

/// What a worker does after it has looked at its commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Steps and looks again at once.
    Now,
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
            Err(TryRecvError::Empty) => return Next::Wait,
            Err(TryRecvError::Disconnected) => return Next::End,
        }
    }
}
