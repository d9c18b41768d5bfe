//! `WITH RECURSIVE .. UNION ..`: rows that are derived from rows that are derived, until there are no new ones.
//!
//! ```text
//!                       ┌──────────────── one round later ────────────────┐
//!                       v                                                 │
//!  start ──enter──> (+) recursion ──> step ──> (+ start) ──> distinct ──┬─┴─ up to the last round
//!                                                                       ├──leave──> rows
//!                                                                       └──leave──> what the last round still brings
//! ```
//!
//! Times are pairs of an epoch and a round, and rounds end when nothing changes any more. What does not depend on the
//! recursion is rendered outside and entered, arrangements included. The loop carries nothing beyond the last round that
//! is allowed, so a recursion without end costs that many rounds and no more, and the dataflow goes on: what the last
//! round would still bring is told as a failure of the view as a whole ([`Failure::of_view`]), which retracts when the
//! recursion comes to an end again. Until then what it has so far is exactly what so many rounds derive, so it can go on
//! from there. Rounds alone do not bound a recursion whose rows double in each of them: one that derives more than is
//! allowed is cut off for good, by leaving out all that it would still derive, before memory ends.

use std::sync::Arc;

use differential_dataflow::collection::concatenate;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::operators::iterate::Variable;
use differential_dataflow::trace::implementations::{KeyBatcher, KeyBuilder, KeySpine, ValBatcher, ValSpine};
use differential_dataflow::{AsCollection, VecCollection};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::core::OkErr;
use timely::dataflow::scope::Iterative;
use timely::order::Product;

use super::Renderer;
use super::distinct::consolidate;
use super::hashed::Hashed;
use super::join::join;
use super::programs::{apply, keyed, keys, without_key};
use crate::dataflow::index::HashKeys;
use crate::dataflow::meter::Meter;
use crate::dataflow::shared_batch::Diff;
use crate::model::Epoch;
use crate::sql::{Failure, Keep, Keyed, Operator, RecursionId, Relation, Row};

/// So many times rows may be derived from those of the time before.
pub(super) const ROUNDS: u64 = 1_000;
/// So many rows may be derived on a worker, each as often as there is a way to.
const DERIVED: Diff = if cfg!(test) { 100_000 } else { 10_000_000 };

/// An epoch and a round.
type Time = Product<Epoch, u64>;
/// Rows at such times.
type Rows<'inner> = VecCollection<'inner, Time, Row, Diff>;
/// Rows by key at such times.
type ByKey<'inner> = Arranged<'inner, TraceAgent<ValSpine<Hashed, Row, Time, Diff>>>;

/// The rows of `start`, and those of `step` over what is there already, each once.
pub(super) fn recursive<'scope>(
    renderer: &mut Renderer<'_, 'scope>,
    relation: &Relation,
    id: RecursionId,
    start: &Arc<Relation>,
    step: &Arc<Relation>,
) -> VecCollection<'scope, Epoch, Row, Diff> {
    let (scope, keys) = (renderer.scope, renderer.keys);
    let first = renderer.rows(start);
    let meter = renderer.meter(relation, "recursion");
    let mut failures = Vec::new();
    let rows = scope.iterative::<u64, _, _>(|inner| {
        let (variable, recursion) = Variable::new(inner, Product::new(0, 1));
        let once = Arc::clone(&meter);
        let mut round = Round { renderer, inner, id, recursion, meter: once, failures: Vec::new() };
        let derived = round.rows(step);
        let (derived, explosion) = bounded(derived);
        let all = distinct(first.enter(inner).concat(derived), keys, Arc::clone(&meter)).inner;
        let (within, beyond) = all.ok_err(|update| if update.1.inner <= ROUNDS { Ok(update) } else { Err(update) });
        variable.set(within.clone().as_collection());
        let endless = beyond.as_collection().map(|_row| {
            let reason = format!("the recursion still brings new rows after {ROUNDS} rounds");
            Failure::of_view("WITH RECURSIVE", &reason)
        });
        round.failures.extend([explosion, endless]);
        failures.extend(round.failures.into_iter().map(|failures| failures.leave(scope)));
        within.as_collection().leave(scope)
    });
    renderer.failures.append(&mut failures);
    // What one round brought and another one took away again does not go on.
    consolidate(rows, meter)
}

/// Rows until there are too many. A row leaves on the worker on which it came, so none can leave that was left out.
fn bounded<'inner>(rows: Rows<'inner>) -> (Rows<'inner>, VecCollection<'inner, Time, Failure, Diff>) {
    let (mut derived, mut is_cut_off) = (0, false);
    let (within, beyond) = rows.inner.ok_err(move |(row, time, change): (Row, Time, Diff)| {
        if is_cut_off {
            return Err((None, time, change));
        }
        derived += change;
        is_cut_off = derived > DERIVED;
        if !is_cut_off {
            return Ok((row, time, change));
        }
        let reason =
            format!("the recursion derives more than {DERIVED} rows: it is cut off until the view is replaced");
        Err((Some(Failure::of_view("WITH RECURSIVE", &reason)), time, 1))
    });
    (within.as_collection(), beyond.as_collection().flat_map(|failure| failure))
}

/// What is derived in a round.
struct Round<'a, 'b, 'scope, 'inner> {
    renderer: &'a mut Renderer<'b, 'scope>,
    inner: Iterative<'inner, Epoch, u64>,
    id: RecursionId,
    recursion: Rows<'inner>,
    /// Tells of the recursion as a whole.
    meter: Arc<Meter>,
    failures: Vec<VecCollection<'inner, Time, Failure, Diff>>,
}

impl<'inner> Round<'_, '_, '_, 'inner> {
    /// The rows of a relation, which may depend on the recursion.
    fn rows(&mut self, relation: &Arc<Relation>) -> Rows<'inner> {
        if !self.depends(relation) {
            return self.renderer.rows(relation).enter(self.inner);
        }
        match &relation.operator {
            Operator::Recursion { .. } => self.recursion.clone(),
            Operator::Apply { input, program } => {
                let rows = self.rows(input);
                let (rows, failures) = apply(rows, program, self.renderer.meter(relation, "evaluate"));
                self.failures.push(failures);
                rows
            }
            Operator::Join { left, right } => self.join(relation, left, right),
            Operator::Semijoin { left, right, keep } => self.semijoin(relation, left, right, *keep),
            Operator::Union { inputs } => {
                let inputs: Vec<_> = inputs.iter().map(|input| self.rows(input)).collect();
                concatenate(self.inner, inputs)
            }
            Operator::Distinct { input } => {
                let rows = self.rows(input);
                distinct(rows, self.renderer.keys, Arc::clone(&self.meter))
            }
            Operator::Constant { .. }
            | Operator::Table { .. }
            | Operator::View { .. }
            | Operator::Temporal { .. }
            | Operator::Reduce { .. }
            | Operator::Top { .. }
            | Operator::Recursive { .. } => unreachable!("planning refuses what is not monotone over a recursion"),
        }
    }

    fn join(&mut self, relation: &Relation, left: &Keyed, right: &Keyed) -> Rows<'inner> {
        let meter = self.renderer.meter(relation, "join");
        match (self.depends(&left.input), self.depends(&right.input)) {
            (true, false) => {
                let right = self.renderer.arranged(right).enter(self.inner);
                join(self.arranged(left), right, meter, Row::concat)
            }
            (false, _) => {
                let left = self.renderer.arranged(left).enter(self.inner);
                join(left, self.arranged(right), meter, Row::concat)
            }
            (true, true) => join(self.arranged(left), self.arranged(right), meter, Row::concat),
        }
    }

    fn semijoin(&mut self, relation: &Relation, left: &Keyed, right: &Keyed, keep: Keep) -> Rows<'inner> {
        if self.depends(&right.input) {
            assert!(keep == Keep::Matches, "planning refuses what is not monotone over a recursion");
            assert!(!self.depends(&left.input), "a recursion names itself once");
            let (rows, present) = (self.renderer.arranged(left).enter(self.inner), self.present(right));
            let meter = self.renderer.meter(relation, "join");
            return join(rows, present, meter, |row: &Row, _key: &Row| row.clone());
        }
        let present = self.renderer.present(right).enter(self.inner);
        let rows = self.rows(&left.input);
        let keyed = self.keyed(left, rows.clone());
        let meter = self.renderer.meter(relation, "join");
        let matches = join(Self::arrange(keyed.clone()), present, meter, |row: &Row, (): &()| row.clone());
        match keep {
            Keep::Matches => matches,
            Keep::Others => {
                let meter = self.renderer.meter(&left.input, "rows without key");
                let others = keyed.map(|(_key, row)| row).concat(matches.negate());
                others.concat(without_key(rows, &left.key, meter))
            }
        }
    }

    /// The keys of a side, each once.
    fn present(&mut self, side: &Keyed) -> ByKey<'inner> {
        let (rows, hash_keys) = (self.rows(&side.input), self.renderer.keys);
        let (found, failures) = keys(rows, &side.key, hash_keys, self.renderer.meter(&side.input, "keys"));
        self.failures.push(failures);
        let once = distinct(found.map(Hashed::into_row), hash_keys, Arc::clone(&self.meter));
        Self::arrange(once.map(move |key| (Hashed::new(hash_keys, key.clone()), key)))
    }

    fn arranged(&mut self, side: &Keyed) -> ByKey<'inner> {
        let rows = self.rows(&side.input);
        let keyed = self.keyed(side, rows);
        Self::arrange(keyed)
    }

    fn keyed(&mut self, side: &Keyed, rows: Rows<'inner>) -> VecCollection<'inner, Time, (Hashed, Row), Diff> {
        let meter = self.renderer.meter(&side.input, "keys");
        let (keyed, failures) = keyed(rows, &side.key, self.renderer.keys, meter);
        self.failures.push(failures);
        keyed
    }

    fn arrange(keyed: VecCollection<'inner, Time, (Hashed, Row), Diff>) -> ByKey<'inner> {
        let by_key = Exchange::new(|update: &((Hashed, Row), Time, Diff)| update.0.0.route());
        arrange_core::<_, _, _, ValSpine<Hashed, Row, Time, Diff>>(
            keyed.inner,
            by_key,
            "Recursion by key",
            ValBatcher::<Hashed, Row, Time, Diff>::new,
        )
    }

    fn depends(&self, relation: &Relation) -> bool {
        matches!(relation.operator, Operator::Recursion { id } if id == self.id)
            || relation.inputs().into_iter().any(|input| self.depends(input))
    }
}

/// Each row once, in each round.
fn distinct<'inner>(rows: Rows<'inner>, keys: HashKeys, meter: Arc<Meter>) -> Rows<'inner> {
    let by_row = Exchange::new(|update: &((Hashed, ()), Time, Diff)| update.0.0.route());
    let counted = arrange_core::<_, _, _, KeySpine<Hashed, Time, Diff>>(
        rows.map(move |row| (Hashed::new(keys, row), ())).inner,
        by_row,
        "Rows of a recursion",
        KeyBatcher::<Hashed, Time, Diff>::new,
    );
    counted
        .reduce_abelian::<_, KeyBuilder<Hashed, Time, Diff>, KeySpine<Hashed, Time, Diff>, Vec<Hashed>, _>(
            "Distinct",
            move |_row, counts, once| {
                // What comes then is no state that ever was: a row may be taken away by what never brought it.
                if meter.is_ending() {
                    return;
                }
                assert!(counts[0].1 > 0, "a row is taken away more often than it is there");
                once.push(((), 1));
            },
            |chunk, row, updates| {
                chunk.clear();
                chunk.extend(updates.drain(..).map(|(once, time, diff)| ((row.clone(), once), time, diff)));
            },
        )
        .as_collection(|row, ()| row.row().clone())
}
