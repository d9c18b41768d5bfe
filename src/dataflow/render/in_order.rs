//! Operators that act in order of time, once a time is complete: a shell around what each of them keeps.
//!
//! Times are totally ordered here, so what an operator holds is its state at one time, and an update moves it to the
//! next: no history, no batches to merge. The shell holds a capability at the earliest time at which the operator could
//! still say something by itself, and none where there is no such time; so its output never waits for more than its
//! input does. When the input ends the state is let go.
//!
//! An operator that would tell the same thing again and again while its dataflow hydrates is silent until then
//! (`hydration`).

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
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::progress::Antichain;

use super::hydration::{Hydration, Silence};
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

    /// Takes in all that is before `until` and tells nothing; no update before it will come any more. What is built with
    /// a [`Hydration`] has this and the next.
    fn absorb(&mut self, _until: Epoch, _meter: &Meter) {}

    /// Tells a portion of what it holds, at `time`; whether there is more of it. Nothing was told before.
    fn tell_portion(&mut self, _time: Epoch, _meter: &Meter, _made: &mut Vec<(Self::Made, Epoch, Diff)>) -> bool {
        false
    }

    /// The input has ended, and its frontier was `frontier` before: nobody will tell that it is later.
    fn end(&mut self, _frontier: Epoch) {}
}

/// Builds an operator. One with a [`Hydration`] is silent until its dataflow can be read.
pub(super) fn in_order<'scope, P, O>(
    updates: Stream<'scope, Epoch, Vec<(O::Datum, Epoch, O::Weight)>>,
    pact: P,
    name: &str,
    meter: Arc<Meter>,
    operator: O,
    hydration: Option<Hydration>,
) -> VecCollection<'scope, Epoch, O::Made, Diff>
where
    P: ParallelizationContract<Epoch, Vec<(O::Datum, Epoch, O::Weight)>>,
    O: InOrder,
{
    let scope = updates.scope();
    let stream = updates.unary_frontier(pact, name, move |first, info| {
        let activator = scope.activator_for(info.address);
        let capability = operator.next().map(|time| first.delayed(&time));
        let mut acting = Some(Acting { operator, capability, silence: None, made: Vec::new() });
        let mut hydration = hydration;
        let mut complete = 0;
        move |(input, frontier), output| {
            if meter.is_ending() {
                input.for_each(|_, _| {});
                acting = None;
            }
            let Some(now) = &mut acting else { return };
            let began = Instant::now();
            if let Some(hydration) = hydration.take() {
                now.silence = Silence::before(&hydration);
            }
            input.for_each(|time, updates| {
                meter.took(updates.len());
                now.operator.take(updates);
                if let Some(least) = time.least()
                    && now.capability.as_ref().is_none_or(|held| least < held.time())
                {
                    now.capability = time.retain_least(0);
                }
            });
            let until = match frontier.frontier().first() {
                Some(until) => {
                    complete = *until;
                    complete
                }
                None => {
                    now.operator.end(complete);
                    Epoch::MAX
                }
            };
            now.act(until, &meter, |capability, made| output.session(capability).give_container(made));
            meter.holds(now.operator.held());
            if now.tells(until) {
                activator.activate();
            } else if frontier.is_empty() {
                acting = None;
            }
            meter.worked(began);
        }
    });
    stream.as_collection()
}

/// An operator at work.
struct Acting<O: InOrder> {
    operator: O,
    capability: Option<Capability<Epoch>>,
    /// None where it is over.
    silence: Option<Silence>,
    made: Vec<(O::Made, Epoch, Diff)>,
}

impl<O: InOrder> Acting<O> {
    /// Whether there is more to be told of what it took in silently.
    fn tells(&self, until: Epoch) -> bool {
        self.silence.as_ref().is_some_and(|silence| silence.is_over(until))
    }

    /// Acts on all before `until`, or takes it in, or tells a portion of what was taken in.
    fn act(
        &mut self,
        until: Epoch,
        meter: &Meter,
        mut give: impl FnMut(&Capability<Epoch>, &mut Vec<(O::Made, Epoch, Diff)>),
    ) {
        if let Some(silence) = &mut self.silence {
            let absorbed = silence.absorbs_until(until);
            if self.operator.next().is_some_and(|next| next < absorbed) {
                self.operator.absorb(absorbed, meter);
            }
            let mut more = true;
            if silence.is_over(until) {
                let time = silence.portion(self.capability.as_ref().map_or(0, |held| *held.time()));
                more = self.operator.tell_portion(time, meter, &mut self.made);
                self.give(meter, &mut give);
            }
            if more {
                return self.wait_until(self.silence.as_ref().map(|silence| silence.earliest(until)));
            }
            self.silence = None;
        }
        if self.operator.next().is_some_and(|next| next < until) {
            self.operator.act(until, meter, &mut self.made);
            self.give(meter, &mut give);
        }
        match self.operator.next() {
            None => self.capability = None,
            next => self.wait_until(next),
        }
    }

    /// Hands on what was made.
    fn give(&mut self, meter: &Meter, give: &mut impl FnMut(&Capability<Epoch>, &mut Vec<(O::Made, Epoch, Diff)>)) {
        if !self.made.is_empty() {
            meter.gave(self.made.len());
            give(self.capability.as_ref().expect("held while something waits"), &mut self.made);
            // Where its allocation was not taken, it may be one of a slice, larger than an epoch will be.
            self.made = Vec::new();
        }
    }

    /// Nothing is said before this time any more.
    fn wait_until(&mut self, next: Option<Epoch>) {
        if let (Some(next), Some(capability)) = (next, &mut self.capability)
            && next > *capability.time()
        {
            capability.downgrade(&next);
        }
    }
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
