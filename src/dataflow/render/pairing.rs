//! The pairs of a join, made little by little.
//!
//! In: batches of both sides, as differential's join hands them over ([`JoinTactic`]). Out: an iterator that makes their
//! pairs as it is asked to. Differential's own makes all pairs of a key in one go; where thousands of rows meet thousands
//! under one key that is more than memory has, and nothing else gets on meanwhile. This one stops within a key too: the
//! place where the left cursor stands is all that it has to remember. And it makes nothing more once the dataflow is being
//! let go, however much has been put off.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use differential_dataflow::consolidation::consolidate;
use differential_dataflow::lattice::Lattice;
use differential_dataflow::operators::ValueHistory;
use differential_dataflow::operators::join::{Fresh, JoinTactic};
use differential_dataflow::trace::cursor::{CursorList, cursor_list};
use differential_dataflow::trace::{Cursor, Navigable};
use timely::container::{CapacityContainerBuilder, ContainerBuilder, PushInto};
use timely::progress::Timestamp;

use crate::dataflow::meter::Meter;
use crate::dataflow::shared_batch::Diff;
use crate::sql::Row;

/// What a join makes, as a container of updates.
pub(super) type Pairs<T> = Vec<(Row, T, Diff)>;

/// About so many pairs are made in one go; more only where one row on the left meets more than that.
const PAIRS: usize = if cfg!(test) { 16 } else { 256 * 1024 };

/// Fewer edits than this are not worth the replay of their history.
const FEW: usize = 10;

/// Makes a row of each pair.
pub(super) struct Pairing<F> {
    pair: Rc<F>,
    meter: Arc<Meter>,
}

impl<F> Pairing<F> {
    /// Makes rows by this, and notes there what it does.
    pub(super) fn new(pair: F, meter: Arc<Meter>) -> Self {
        Self { pair: Rc::new(pair), meter }
    }
}

impl<K, A, B, T, Left, Right, F> JoinTactic<T, Left, Right, Pairs<T>> for Pairing<F>
where
    K: Ord + 'static,
    A: Ord + 'static,
    B: Ord + 'static,
    T: Timestamp + Lattice,
    Left: Navigable + 'static,
    Right: Navigable + 'static,
    Left::Cursor: for<'a> Cursor<Key<'a> = &'a K, Val<'a> = &'a A, Time = T, Diff = Diff>,
    Right::Cursor: for<'a> Cursor<Key<'a> = &'a K, Val<'a> = &'a B, Time = T, Diff = Diff>,
    F: Fn(&A, &B) -> Row + 'static,
{
    fn prep(
        &mut self,
        left: Vec<Left>,
        right: Vec<Right>,
        fresh: Fresh,
        meet: T,
    ) -> Box<dyn Iterator<Item = Pairs<T>>> {
        let began = Instant::now();
        // The times of the fresh side are no earlier anyway; those of the other one are fewer this way.
        let (left_from, right_from) = match fresh {
            Fresh::Input0 => (None, Some(meet)),
            Fresh::Input1 => (Some(meet), None),
        };
        let (left, right) = (Side::new(left, left_from), Side::new(right, right_from));
        let (pair, meter) = (Rc::clone(&self.pair), Arc::clone(&self.meter));
        self.meter.worked(began);
        Box::new(Work { left, right, pair, meter, builder: CapacityContainerBuilder::default(), made: VecDeque::new() })
    }
}

/// One side of some work.
struct Side<B: Navigable, T> {
    cursor: CursorList<B::Cursor>,
    batches: Vec<B>,
    /// Earlier times count as this one.
    from: Option<T>,
}

/// The edits of some values: what came or went when.
type Edits<'a, V, T> = Vec<(&'a V, T, Diff)>;

impl<B, T> Side<B, T>
where
    B: Navigable,
    B::Cursor: Cursor<Time = T, Diff = Diff>,
    T: Timestamp + Lattice,
{
    fn new(batches: Vec<B>, from: Option<T>) -> Self {
        let (cursor, batches) = cursor_list(batches);
        Self { cursor, batches, from }
    }
}

/// Takes the edits of one value after another of the present key, until they are so many.
fn take<'a, C, V, T>(
    cursor: &mut C,
    batches: &'a C::Storage,
    from: Option<&T>,
    enough: usize,
    edits: &mut Edits<'a, V, T>,
) where
    C: Cursor<Val<'a> = &'a V, Time = T, Diff = Diff>,
    V: Ord + 'static,
    T: Timestamp + Lattice,
{
    edits.clear();
    let mut of_value: Vec<(T, Diff)> = Vec::new();
    while edits.len() < enough
        && let Some(value) = cursor.get_val(batches)
    {
        cursor.map_times(batches, |time, diff| {
            let mut time = C::owned_time(time);
            if let Some(from) = from {
                time.join_assign(from);
            }
            of_value.push((time, C::owned_diff(diff)));
        });
        consolidate(&mut of_value);
        edits.extend(of_value.drain(..).map(|(time, diff)| (value, time, diff)));
        cursor.step_val(batches);
    }
}

/// Pairs that are still to be made.
struct Work<Left: Navigable, Right: Navigable, T, F> {
    left: Side<Left, T>,
    right: Side<Right, T>,
    pair: Rc<F>,
    meter: Arc<Meter>,
    builder: CapacityContainerBuilder<Pairs<T>>,
    /// Full containers that nobody has taken yet.
    made: VecDeque<Pairs<T>>,
}

impl<K, A, B, T, Left, Right, F> Iterator for Work<Left, Right, T, F>
where
    K: Ord + 'static,
    A: Ord + 'static,
    B: Ord + 'static,
    T: Timestamp + Lattice,
    Left: Navigable,
    Right: Navigable,
    Left::Cursor: for<'a> Cursor<Key<'a> = &'a K, Val<'a> = &'a A, Time = T, Diff = Diff>,
    Right::Cursor: for<'a> Cursor<Key<'a> = &'a K, Val<'a> = &'a B, Time = T, Diff = Diff>,
    F: Fn(&A, &B) -> Row,
{
    type Item = Pairs<T>;

    fn next(&mut self) -> Option<Pairs<T>> {
        // What was begun is let go with what it holds.
        if self.meter.is_ending() {
            return None;
        }
        let began = Instant::now();
        if self.made.is_empty() {
            self.make();
        }
        let made = self.made.pop_front();
        self.meter.gave(made.as_ref().map_or(0, Vec::len));
        self.meter.worked(began);
        made
    }
}

impl<K, A, B, T, Left, Right, F> Work<Left, Right, T, F>
where
    K: Ord + 'static,
    A: Ord + 'static,
    B: Ord + 'static,
    T: Timestamp + Lattice,
    Left: Navigable,
    Right: Navigable,
    Left::Cursor: for<'a> Cursor<Key<'a> = &'a K, Val<'a> = &'a A, Time = T, Diff = Diff>,
    Right::Cursor: for<'a> Cursor<Key<'a> = &'a K, Val<'a> = &'a B, Time = T, Diff = Diff>,
    F: Fn(&A, &B) -> Row,
{
    /// Makes pairs until a container is full, or there are no more.
    fn make(&mut self) {
        let Self { left, right, pair, meter: _, builder, made } = self;
        let (mut lefts, mut rights) = (Edits::new(), Edits::new());
        let mut histories = (ValueHistory::new(), ValueHistory::new());
        while made.is_empty() {
            let keys = (left.cursor.get_key(&left.batches), right.cursor.get_key(&right.batches));
            let (Some(left_key), Some(right_key)) = keys else {
                while let Some(last) = builder.finish() {
                    made.push_back(std::mem::take(last));
                }
                return;
            };
            match left_key.cmp(right_key) {
                Ordering::Less => left.cursor.seek_key(&left.batches, right_key),
                Ordering::Greater => right.cursor.seek_key(&right.batches, left_key),
                Ordering::Equal => {
                    // All on the right, and of the left what comes next.
                    right.cursor.rewind_vals(&right.batches);
                    take(&mut right.cursor, &right.batches, right.from.as_ref(), usize::MAX, &mut rights);
                    let enough = PAIRS.div_ceil(rights.len().max(1));
                    take(&mut left.cursor, &left.batches, left.from.as_ref(), enough, &mut lefts);
                    each_pair(&lefts, &rights, &mut histories, |left, right, time, count| {
                        builder.push_into((pair(left, right), time, count));
                    });
                    if left.cursor.get_val(&left.batches).is_none() {
                        left.cursor.step_key(&left.batches);
                        right.cursor.step_key(&right.batches);
                    }
                    while let Some(full) = builder.extract() {
                        made.push_back(std::mem::take(full));
                    }
                }
            }
        }
    }
}

/// A history of each side.
type Histories<'a, A, B, T> = (ValueHistory<&'a A, T, Diff>, ValueHistory<&'a B, T, Diff>);

/// Calls `each` with the pairs of some edits, each at the later of both times. Pairs of what came and went are left out
/// where there are many: they are replayed in order of time, and what has cancelled by then meets nobody.
fn each_pair<'a, A, B, T>(
    lefts: &Edits<'a, A, T>,
    rights: &Edits<'a, B, T>,
    histories: &mut Histories<'a, A, B, T>,
    mut each: impl FnMut(&A, &B, T, Diff),
) where
    A: Ord,
    B: Ord,
    T: Timestamp + Lattice,
{
    if lefts.len() < FEW || rights.len() < FEW {
        for (left, left_time, left_count) in lefts {
            for (right, right_time, right_count) in rights {
                each(left, right, left_time.join(right_time), left_count * right_count);
            }
        }
        return;
    }
    let (left, right) = histories;
    left.load_iter(lefts.iter().cloned(), None);
    right.load_iter(rights.iter().cloned(), None);
    loop {
        let is_left_next = match (left.time(), right.time()) {
            (None, None) => return,
            (Some(left), Some(right)) => left < right,
            (left, _) => left.is_some(),
        };
        if is_left_next {
            replay(left, right, |left, right, time, count| each(left, right, time, count));
        } else {
            replay(right, left, |right, left, time, count| each(left, right, time, count));
        }
    }
}

/// Takes the next edit of one history, which meets what the other one has by then.
fn replay<'a, V, W, T>(
    next: &mut ValueHistory<&'a V, T, Diff>,
    other: &mut ValueHistory<&'a W, T, Diff>,
    mut each: impl FnMut(&V, &W, T, Diff),
) where
    V: Ord,
    W: Ord,
    T: Timestamp + Lattice,
{
    let meet = next.meet().expect("there is a next edit");
    other.advance_buffer_by(meet);
    let (value, time, count) = next.edit().expect("there is a next edit");
    for ((met, met_time), met_count) in other.buffer() {
        each(value, met, time.join(met_time), count * met_count);
    }
    next.step();
}
