//! Pairs of rows with equal keys, from two arrangements, in the outermost scope or within a recursion.

use std::sync::Arc;

use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::operators::join::join_with_tactic;
use differential_dataflow::trace::{BatchCursor, Cursor, Navigable, TraceReader};
use differential_dataflow::{AsCollection, VecCollection};

use super::pairing::Pairing;
use crate::dataflow::meter::Meter;
use crate::dataflow::shared_batch::Diff;
use crate::sql::Row;

/// A row for each pair of values with equal keys, as often as both are there.
pub(super) fn join<'scope, Left, Right, K, A, B>(
    left: Arranged<'scope, Left>,
    right: Arranged<'scope, Right>,
    meter: Arc<Meter>,
    pair: impl Fn(&A, &B) -> Row + 'static,
) -> VecCollection<'scope, Left::Time, Row, Diff>
where
    K: Ord + 'static,
    A: Ord + 'static,
    B: Ord + 'static,
    Left: TraceReader<Batch: Navigable> + 'static,
    Right: TraceReader<Batch: Navigable, Time = Left::Time> + 'static,
    for<'a> BatchCursor<Left>: Cursor<Key<'a> = &'a K, Val<'a> = &'a A, Time = Left::Time, Diff = Diff>,
    for<'a> BatchCursor<Right>: Cursor<Key<'a> = &'a K, Val<'a> = &'a B, Time = Left::Time, Diff = Diff>,
{
    join_with_tactic(left, right, "Join", Pairing::new(pair, meter)).as_collection()
}
