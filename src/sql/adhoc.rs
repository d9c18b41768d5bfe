//! Ad-hoc SQL: one query, read only, over one instant, within limits.
//!
//! Queries run on threads of their own, of low priority, so that they disturb neither ingestion nor other reads; dropping
//! the answer's future ends its query, at the next batch of one of its operators. What a row may not be read of (a value of another type than declared) is left out
//! and counted.

mod guards;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures_util::StreamExt;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::instant::{AtInstant, Instant, Read, Relation};
use super::row::Codec;
use super::session::{self, Effort};
use super::tables::Tables;
use super::type_name::type_name;
use super::view_plan::ViewPlan;
use crate::model::Epoch;

/// The name of the threads that queries run on.
pub const QUERY_THREAD: &str = "tarn-query";

/// What a query may use.
#[derive(Debug, Clone, Copy)]
pub struct QueryLimits {
    /// It is ended after this.
    pub timeout: Duration,
    /// It may hold this much.
    pub memory_bytes: usize,
    /// Its answer has at most this many rows.
    pub rows: usize,
    /// And about this many bytes.
    pub answer_bytes: usize,
}

/// What a query answers.
#[derive(Debug)]
pub struct QueryAnswer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows, in order.
    pub batches: Vec<RecordBatch>,
    /// Whether there are more than the limits allow.
    pub is_cut: bool,
    /// Rows of tables that could not be read, and count for nothing.
    pub unread: u64,
}

impl QueryAnswer {
    /// About how much its columns hold.
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(size).sum()
    }
}

/// Why a query is not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It cannot be understood, or may not be asked.
    #[error("{0}")]
    Refused(String),
    /// It reads a view that cannot be read at its instant.
    #[error("the view `{view}` cannot be read: {why:?}")]
    Absent {
        /// Which.
        view: String,
        /// Why it cannot.
        why: Absent,
    },
    /// It needs more than it may use.
    #[error("{0}")]
    TooMuch(String),
    /// A value cannot be computed.
    #[error("{0}")]
    Failed(String),
}

/// Why a view cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// It is known from this epoch on, which is after the instant.
    Before(Epoch),
    /// It is not there yet, or not now, which the words say.
    Now(String),
    /// It never is as long as its text is what it is.
    Refused(String),
}

/// What a query reads.
pub struct QueryInput {
    /// The tables.
    pub tables: Arc<Tables>,
    /// The views that can be read.
    pub views: Vec<Arc<ViewPlan>>,
    /// Those that cannot.
    pub absent: BTreeMap<String, Absent>,
    /// The instant.
    pub instant: Arc<dyn Instant>,
    /// Its epoch: what `now()` is.
    pub epoch: Epoch,
    /// How much is done to make it fast.
    pub effort: Effort,
}

/// Where queries run.
#[derive(Debug)]
pub struct QueryRunner {
    /// None once it is dropped.
    runtime: Option<Runtime>,
}

impl Drop for QueryRunner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped on a thread that must not wait.
            runtime.shutdown_background();
        }
    }
}

/// Ends the query when nobody waits for it any more.
struct EndOnDrop(tokio::task::AbortHandle);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells a look that nobody waits for it any more.
#[derive(Debug, Default)]
struct GiveUpOnDrop(Arc<AtomicBool>);

impl Drop for GiveUpOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl QueryRunner {
    /// Threads for so many queries at once.
    pub fn new(concurrent: usize) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(concurrent.max(1))
            .thread_name(QUERY_THREAD)
            .on_thread_start(crate::background::lower_priority)
            .enable_time()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// The answer to a query. `turn` is held on to until it has ended, which may be a little later than its answer comes.
    pub async fn run(
        &self,
        sql: String,
        input: QueryInput,
        limits: QueryLimits,
        turn: impl Send + 'static,
    ) -> Result<QueryAnswer, QueryError> {
        let runtime = self.runtime.as_ref().expect("there until it is dropped");
        let task = runtime.spawn(async move {
            let answer = answer(&sql, &input, limits).await;
            drop(turn);
            answer
        });
        let _end = EndOnDrop(task.abort_handle());
        in_time(task, limits.timeout).await?
    }

    /// What `look` finds, which is no SQL and is given what says whether it has been given up: nobody waits for it any
    /// more, or it took longer than `timeout`. `turn` is held on to as above.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
        timeout: Duration,
        turn: impl Send + 'static,
    ) -> Result<T, QueryError> {
        let runtime = self.runtime.as_ref().expect("there until it is dropped");
        let given_up = GiveUpOnDrop::default();
        let is_given_up = Arc::clone(&given_up.0);
        let task = runtime.spawn_blocking(move || {
            let found = look(&|| is_given_up.load(Ordering::Relaxed));
            drop(turn);
            found
        });
        in_time(task, timeout).await
    }
}

/// What a task comes to, if it does in time.
async fn in_time<T>(task: JoinHandle<T>, timeout: Duration) -> Result<T, QueryError> {
    match tokio::time::timeout(timeout, task).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.is_panic() => Err(QueryError::Failed("the evaluation panicked".to_owned())),
        Ok(Err(_)) => Err(QueryError::Failed("the query was ended".to_owned())),
        Err(_) => {
            let seconds = timeout.as_secs_f64();
            let why = format!("the query was ended after {seconds} s; ask for less, or add a view");
            Err(QueryError::TooMuch(why))
        }
    }
}

async fn answer(sql: &str, input: &QueryInput, limits: QueryLimits) -> Result<QueryAnswer, QueryError> {
    let environment = environment(limits).map_err(|error| QueryError::Failed(error.to_string()))?;
    let context = session::ad_hoc(input.epoch, environment, input.effort);
    let read = Arc::new(Read::default());
    let tables = input.tables.iter().map(|table| (table.kind.name().to_owned(), Relation::Table(Arc::clone(table))));
    let views = input.views.iter().map(|plan| (plan.name.to_string(), Relation::View(Arc::clone(plan))));
    for (name, relation) in tables.chain(views) {
        let provider = AtInstant { relation, instant: Arc::clone(&input.instant), read: Arc::clone(&read) };
        context.register_table(name, Arc::new(provider)).map_err(failed)?;
    }
    if !input.absent.is_empty()
        && let Some((view, why)) =
            session::names(&context, sql).iter().find_map(|name| input.absent.get_key_value(name))
    {
        return Err(QueryError::Absent { view: view.clone(), why: why.clone() });
    }
    let plan = session::one_query(&context, sql).await.map_err(QueryError::Refused)?;
    let refused = |objection| QueryError::Refused(session::refused(sql, objection));
    let plan = session::executable(&context, &plan).await.map_err(refused)?;
    let plan = guards::guarded(plan).and_then(yielding).map_err(failed)?;
    let schema = plan.schema();
    let mut names = BTreeSet::new();
    if let Some(twice) = schema.fields().iter().find(|field| !names.insert(field.name())) {
        let why = format!("two columns are called `{}`; give one another name with AS", twice.name());
        return Err(QueryError::Refused(why));
    }
    if let Some(field) = schema.fields().iter().find(|field| !Codec::supports(field.data_type())) {
        let kind = type_name(field.data_type());
        let why = format!("the column `{}` is {kind}, for which answers have no form; CAST it to text", field.name());
        return Err(QueryError::Refused(why));
    }
    let mut stream = execute_stream(plan, context.task_ctx()).map_err(failed)?;
    let (mut batches, mut rows, mut bytes, mut is_cut) = (Vec::new(), 0, 0, false);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(failed)?;
        let taken = fitting(&batch, limits.rows - rows, limits.answer_bytes.saturating_sub(bytes));
        is_cut = taken < batch.num_rows();
        if is_cut && taken == 0 && rows == 0 && limits.rows > 0 {
            let (row, allowed) = (size(&batch.slice(0, 1)), limits.answer_bytes);
            let why =
                format!("a row of the answer has {row} bytes, and an answer {allowed} at most; select fewer columns");
            return Err(QueryError::TooMuch(why));
        }
        let batch = batch.slice(0, taken);
        bytes += size(&batch);
        rows += taken;
        batches.push(batch);
        if is_cut {
            break;
        }
    }
    Ok(QueryAnswer { schema, batches, is_cut, unread: read.failures.load(Ordering::Relaxed) })
}

/// How many rows of a batch there is room for.
fn fitting(batch: &RecordBatch, rows: usize, bytes: usize) -> usize {
    let mut taken = batch.num_rows().min(rows);
    while taken > 0 {
        let held = size(&batch.slice(0, taken));
        if held <= bytes {
            break;
        }
        // About as many as there is room for, were all alike; fewer each time.
        let share = taken as u128 * bytes as u128 / held as u128;
        taken = usize::try_from(share).unwrap_or(0).min(taken - 1);
    }
    taken
}

/// About how much the columns of a batch hold, without what stands beside them in what they are slices of.
fn size(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()))
        .sum()
}

/// The same plan, each of whose operators gives way now and then: one that makes many batches of one, a join above all,
/// could not be ended otherwise.
fn yielding(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let each = |node| Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>));
    plan.transform_up(each).map(|transformed| transformed.data)
}

fn environment(limits: QueryLimits) -> Result<Arc<RuntimeEnv>, DataFusionError> {
    let nowhere = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let pool = Arc::new(GreedyMemoryPool::new(limits.memory_bytes));
    RuntimeEnvBuilder::new().with_memory_pool(pool).with_disk_manager_builder(nowhere).build_arc()
}

fn failed(error: DataFusionError) -> QueryError {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(what) => {
            QueryError::TooMuch(format!("the query needs too much memory: {what}"))
        }
        _ => QueryError::Failed(error.strip_backtrace()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use datafusion::arrow::array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn an_answer_is_cut_where_its_room_ends_within_a_batch_too() {
        let texts = |letters: usize| Arc::new(StringArray::from(vec!["x".repeat(letters); 100])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("a", texts(1_000)), ("b", texts(1_000))]).unwrap();
        assert_eq!(fitting(&batch, 1_000, 1_000_000), 100);
        assert_eq!(fitting(&batch, 7, 1_000_000), 7);
        let some = fitting(&batch, 1_000, 50_000);
        assert!((20..25).contains(&some), "{some}");
        assert_eq!((fitting(&batch, 1_000, 1_000), fitting(&batch, 0, 1_000_000)), (0, 0));
        assert!(size(&batch.slice(0, 1)) < 3_000);
    }

    #[test]
    fn a_look_ends_in_time_and_with_those_who_wait_for_it() {
        let runner = QueryRunner::new(1).unwrap();
        let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (ended, ends) = mpsc::channel();
        let look = |ended: mpsc::Sender<()>| {
            move |is_given_up: &dyn Fn() -> bool| {
                while !is_given_up() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                ended.send(()).unwrap();
            }
        };
        let (long, short) = (Duration::from_secs(600), Duration::from_millis(10));
        let left =
            waiting.block_on(async { tokio::time::timeout(short, runner.look(look(ended.clone()), long, ())).await });
        assert!(left.is_err());
        ends.recv_timeout(Duration::from_secs(60)).expect("nobody waits for it");
        let late = waiting.block_on(runner.look(look(ended), short, ()));
        assert!(matches!(late, Err(QueryError::TooMuch(why)) if why.contains("after 0.01 s")));
        ends.recv_timeout(Duration::from_secs(60)).expect("its time is over");
        assert_eq!(waiting.block_on(runner.look(|_| 7, long, ())).ok(), Some(7));
    }
}
