//! Operators that act in order of time, once a time is complete: a shell around what each of them keeps.
//!
//! Times are totally ordered here, so what an operator holds is its state at one time, and an update moves it to the
//! next: no history, no batches to merge. The shell holds a capability at the earliest time at which the operator could
//! still say something by itself, and none where there is no such time; so its output never waits for more than its
//! input does. When the input ends the state is let go.

use std::sync::Arc;
use std::time::Instant;

use differential_dataflow::batcher::Batcher as _;
use differential_dataflow::batcher::Extract as _;
use differential_dataflow::batcher::merge::chunker::ContainerChunker;
use differential_dataflow::batcher::merge::vec::VecMerger;
use differential_dataflow::batcher::merge::{MergeBatcher, Sealer};
use differential_dataflow::difference::Semigroup;
use differential_dataflow::{AsCollection, Data, VecCollection};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::ParallelizationContract;
use timely::dataflow::operators::generic::Operator;
use timely::progress::Antichain;

use crate::dataflow::meter::{Held, Meter};
use crate::dataflow::shared_batch::Diff;
use crate::model::Epoch;

/// What an operator does and keeps.
pub(super) trait InOrder: 'static {
    /// What its updates are about.
    type Datum: Data;
    /// By how much they change it.
    type Weight: Semigroup + 'static;
    /// What it makes.
    type Made: Data;

    /// Takes updates, leaving none.
    fn take(&mut self, updates: &mut Vec<(Self::Datum, Epoch, Self::Weight)>);

    /// Acts on all that is before `until`; no update before it will come any more.
    fn act(&mut self, until: Epoch, meter: &Meter, made: &mut Vec<(Self::Made, Epoch, Diff)>);

    /// The earliest time at which something waits to be acted on.
    fn next(&self) -> Option<Epoch>;

    /// What is kept.
    fn held(&self) -> Held;

    /// The input has ended, and its frontier was `frontier` before: nobody will tell that it is later.
    fn end(&mut self, _frontier: Epoch) {}
}

/// Builds an operator.
pub(super) fn in_order<'scope, P, O>(
    updates: Stream<'scope, Epoch, Vec<(O::Datum, Epoch, O::Weight)>>,
    pact: P,
    name: &str,
    meter: Arc<Meter>,
    operator: O,
) -> VecCollection<'scope, Epoch, O::Made, Diff>
where
    P: ParallelizationContract<Epoch, Vec<(O::Datum, Epoch, O::Weight)>>,
    O: InOrder,
{
    let stream = updates.unary_frontier(pact, name, move |first, _info| {
        let mut capability = operator.next().map(|time| first.delayed(&time));
        let mut operator = Some(operator);
        let mut complete = 0;
        let mut made = Vec::new();
        move |(input, frontier), output| {
            if meter.is_ending() {
                input.for_each(|_, _| {});
                (operator, capability) = (None, None);
            }
            let Some(operator_now) = &mut operator else { return };
            let began = Instant::now();
            input.for_each(|time, updates| {
                meter.took(updates.len());
                operator_now.take(updates);
                if let Some(least) = time.least()
                    && capability.as_ref().is_none_or(|held| least < held.time())
                {
                    capability = time.retain_least(0);
                }
            });
            let until = match frontier.frontier().first() {
                Some(until) => {
                    complete = *until;
                    complete
                }
                None => {
                    operator_now.end(complete);
                    Epoch::MAX
                }
            };
            if operator_now.next().is_some_and(|next| next < until) {
                operator_now.act(until, &meter, &mut made);
                if !made.is_empty() {
                    meter.gave(made.len());
                    let capability = capability.as_ref().expect("held while something waits");
                    output.session(capability).give_container(&mut made);
                    // Where its allocation was not taken, it may be one of a slice, larger than an epoch will be.
                    made = Vec::new();
                }
            }
            match (operator_now.next(), &mut capability) {
                (Some(next), Some(capability)) if next > *capability.time() => capability.downgrade(&next),
                (Some(_), _) => {}
                (None, _) => capability = None,
            }
            meter.holds(operator_now.held());
            if frontier.is_empty() {
                (operator, capability) = (None, None);
            }
            meter.worked(began);
        }
    });
    stream.as_collection()
}

/// Updates of a container, sorted and consolidated as part of a chain of such.
type Chunk<D, R> = Vec<(D, Epoch, R)>;

/// Leaves a chain of updates as it is.
struct Chain;

impl<D, R> Sealer<Chunk<D, R>> for Chain {
    type Output = Vec<Chunk<D, R>>;

    fn seal(chain: &mut Vec<Chunk<D, R>>) -> Option<Self::Output> {
        (!chain.is_empty()).then(|| std::mem::take(chain))
    }
}

/// Updates that wait until their time is complete; those that cancel do so while they wait.
pub(super) struct Waiting<D: Data, R: Semigroup + 'static> {
    batcher: MergeBatcher<ContainerChunker<Chunk<D, R>>, VecMerger<D, Epoch, R>, Chain>,
    next: Option<Epoch>,
}

impl<D: Data, R: Semigroup + 'static> Waiting<D, R> {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { batcher: MergeBatcher::new(None, 0), next: None }
    }

    /// Takes updates, leaving none.
    pub(super) fn put(&mut self, updates: &mut Vec<(D, Epoch, R)>) {
        let first = updates.iter().map(|(_, time, _)| *time).min();
        self.next = [self.next, first].into_iter().flatten().min();
        self.batcher.insert(updates);
        updates.clear();
    }

    /// The earliest time of those that wait, or an earlier one.
    pub(super) fn next(&self) -> Option<Epoch> {
        self.next
    }

    /// Those before `until`, in chunks, sorted over all of them by what they are about, then by time.
    pub(super) fn chunks_until(&mut self, until: Epoch) -> Vec<Chunk<D, R>> {
        if self.next.is_none_or(|next| next >= until) {
            return Vec::new();
        }
        let (chunks, rest) = self.batcher.extract(Antichain::from_elem(until).borrow());
        self.next = rest.first().copied();
        chunks.unwrap_or_default()
    }

    /// The same one by one.
    pub(super) fn until(&mut self, until: Epoch) -> impl Iterator<Item = (D, Epoch, R)> {
        self.chunks_until(until).into_iter().flatten()
    }
}
