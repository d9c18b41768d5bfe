//! Pairs of rows with equal keys, from two arrangements, in the outermost scope or within a recursion.

use std::sync::Arc;
use std::time::Instant;

use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::operators::cursor::join::CursorTactic;
use differential_dataflow::operators::join::{Fresh, JoinTactic, join_with_tactic};
use differential_dataflow::trace::{BatchCursor, Cursor, Navigable, TraceReader};
use differential_dataflow::{AsCollection, VecCollection};
use timely::container::{CapacityContainerBuilder, PushInto};

use crate::dataflow::meter::Meter;
use crate::dataflow::shared_batch::Diff;
use crate::sql::Row;

/// What a join makes, as a container of updates.
type Pairs<T> = Vec<(Row, T, Diff)>;

/// A row for each pair of values with equal keys, as often as both are there.
pub(super) fn join<'scope, Left, Right, K, A, B>(
    left: Arranged<'scope, Left>,
    right: Arranged<'scope, Right>,
    meter: Arc<Meter>,
    pair: impl Fn(&A, &B) -> Row + 'static,
) -> VecCollection<'scope, Left::Time, Row, Diff>
where
    K: Ord + Clone + 'static,
    A: 'static,
    B: 'static,
    Left: TraceReader<Batch: Navigable> + 'static,
    Right: TraceReader<Batch: Navigable, Time = Left::Time> + 'static,
    for<'a> BatchCursor<Left>: Cursor<Key<'a> = &'a K, Val<'a> = &'a A, Time = Left::Time, Diff = Diff>,
    for<'a> BatchCursor<Right>: Cursor<Key<'a> = &'a K, Val<'a> = &'a B, Time = Left::Time, Diff = Diff>,
{
    let logic = move |_key: &K,
                      left: &A,
                      right: &B,
                      time: Left::Time,
                      left_count: &Diff,
                      right_count: &Diff,
                      made: &mut CapacityContainerBuilder<Pairs<Left::Time>>| {
        made.push_into((pair(left, right), time, left_count * right_count));
    };
    let tactic = CursorTactic::<Left::Batch, Right::Batch, _, _>::new(logic);
    join_with_tactic(left, right, "Join", Metered { tactic, meter }).as_collection()
}

/// A tactic that notes what it does.
struct Metered<J> {
    tactic: J,
    meter: Arc<Meter>,
}

impl<T, B0, B1, D, J> JoinTactic<T, B0, B1, Vec<D>> for Metered<J>
where
    D: 'static,
    J: JoinTactic<T, B0, B1, Vec<D>>,
{
    fn prep(&mut self, left: Vec<B0>, right: Vec<B1>, fresh: Fresh, meet: T) -> Box<dyn Iterator<Item = Vec<D>>> {
        let began = Instant::now();
        let work = self.tactic.prep(left, right, fresh, meet);
        self.meter.worked(began);
        Box::new(MeteredWork { work, meter: Arc::clone(&self.meter) })
    }
}

/// Work of a join that was put off, a container at a time.
struct MeteredWork<C> {
    work: Box<dyn Iterator<Item = C>>,
    meter: Arc<Meter>,
}

impl<D> Iterator for MeteredWork<Vec<D>> {
    type Item = Vec<D>;

    fn next(&mut self) -> Option<Vec<D>> {
        let began = Instant::now();
        let made = self.work.next();
        self.meter.gave(made.as_ref().map_or(0, Vec::len));
        self.meter.worked(began);
        made
    }
}
