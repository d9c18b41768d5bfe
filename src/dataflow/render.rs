//! From a relation to a dataflow: one exhaustive match, one operator a file.
//!
//! ```text
//!  Relation ──render──> rows ─────> what stores them, or arranges them for others
//!                  └──> failures ─> kept beside the view
//! ```
//!
//! In: relations and where their tables, views and shared arrangements come from ([`Sources`]). Out: two collections, the
//! rows, and the rows that could not be evaluated with the reason. A relation is drawn once however often it occurs in a
//! query, so its failures are told once too; so is an arrangement of its rows by some key.
//!
//! Promises: at every time the rows are those that the relation has of what the sources have at that time, with
//! multiplicities that are never negative; an update costs what it changes, and the logarithm of what is held; the output's
//! frontier waits for nothing but the sources'. A panic is a broken invariant: a row that leaves and was not there. What
//! data can bring about is a [`Failure`].
//!
//! Not here: how tables become rows and which arrangements are shared (`views`), what an expression means (`sql`).

mod arrange;
mod distinct;
mod evaluate;
mod hashed;
mod hydration;
mod in_order;
mod join;
mod pairing;
mod programs;
mod recursive;
mod reduce;
mod temporal;
#[cfg(test)]
mod tests;
mod top;

use std::collections::HashMap;
use std::sync::Arc;

use differential_dataflow::collection::concatenate;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::{AsCollection, VecCollection};
use timely::dataflow::Scope;
use timely::dataflow::operators::ToStream;

pub(super) use arrange::arrange;
use hashed::Hashed;
pub(super) use hydration::{Hydration, first_telling};

use super::index::HashKeys;
use super::meter::{Meter, STORE, bytes_of};
use super::shared_batch::{Diff, SharedSpine};
use crate::model::Epoch;
use crate::sql::{Failure, Fingerprint, Keep, Keyed, Operator, Relation, Row, ViewPlan};

/// Rows with times and multiplicities, and the rows that could not be evaluated.
pub(super) struct Rendered<'scope> {
    pub(super) rows: VecCollection<'scope, Epoch, Row, Diff>,
    pub(super) failures: VecCollection<'scope, Epoch, Failure, Diff>,
}

/// Rows by a key, and the rows that could not be evaluated.
pub(super) struct Index<'scope> {
    pub(super) rows: ByKey<'scope>,
    pub(super) failures: VecCollection<'scope, Epoch, Failure, Diff>,
}

/// Rows by a key, as readers of the arrangement have them.
pub(super) type ByKeyTrace = TraceAgent<SharedSpine<Hashed, Row>>;
/// Rows by a key.
type ByKey<'scope> = Arranged<'scope, ByKeyTrace>;
/// Keys.
type Present<'scope> = Arranged<'scope, TraceAgent<SharedSpine<Hashed, ()>>>;

/// Where rendering gets what it does not compute. All workers answer alike.
pub(super) trait Sources<'scope> {
    /// The rows of a table, put through its program, or of another view.
    fn source(&mut self, scope: Scope<'scope, Epoch>, relation: &Arc<Relation>) -> Rendered<'scope>;

    /// An arrangement that others have too; none: the view makes its own.
    fn shared(&mut self, scope: Scope<'scope, Epoch>, side: &Keyed) -> Option<Index<'scope>>;

    /// Nothing but a frontier: that of the tables. For rows that come and go with time and depend on no table.
    fn clock(&mut self, scope: Scope<'scope, Epoch>) -> VecCollection<'scope, Epoch, Row, Diff>;

    /// Where a part of what renders a relation notes what it does.
    fn meter(&mut self, relation: &Relation, part: &'static str) -> Arc<Meter>;

    /// From when on what is drawn can be read.
    fn hydration(&self) -> Hydration;

    /// How rows are spread over the workers; the same wherever arrangements are shared.
    fn hash_keys(&self) -> HashKeys;
}

/// Draws a view: its rows as they are stored.
pub(super) fn view<'scope>(
    plan: &ViewPlan,
    scope: Scope<'scope, Epoch>,
    sources: &mut dyn Sources<'scope>,
) -> Rendered<'scope> {
    let mut renderer = Renderer::new(scope, sources);
    let rows = renderer.rows(&plan.relation);
    let meter = renderer.meter(&plan.relation, STORE);
    let (rows, failures) = programs::apply(rows, &plan.stored, meter);
    renderer.failures.push(failures);
    Rendered { rows, failures: renderer.failures() }
}

/// Draws an arrangement that several views are to share.
pub(super) fn index<'scope>(
    side: &Keyed,
    scope: Scope<'scope, Epoch>,
    sources: &mut dyn Sources<'scope>,
) -> Index<'scope> {
    let mut renderer = Renderer::new(scope, sources);
    let rows = renderer.arrange(side);
    Index { rows, failures: renderer.failures() }
}

/// Draws relations into one scope.
struct Renderer<'a, 'scope> {
    scope: Scope<'scope, Epoch>,
    sources: &'a mut dyn Sources<'scope>,
    keys: HashKeys,
    rows: HashMap<Fingerprint, VecCollection<'scope, Epoch, Row, Diff>>,
    arranged: HashMap<(Fingerprint, String), ByKey<'scope>>,
    present: HashMap<(Fingerprint, String), Present<'scope>>,
    failures: Vec<VecCollection<'scope, Epoch, Failure, Diff>>,
}

impl<'a, 'scope> Renderer<'a, 'scope> {
    fn new(scope: Scope<'scope, Epoch>, sources: &'a mut dyn Sources<'scope>) -> Self {
        let (rows, arranged, present) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { scope, keys: sources.hash_keys(), sources, rows, arranged, present, failures: Vec::new() }
    }

    /// All that failed.
    fn failures(self) -> VecCollection<'scope, Epoch, Failure, Diff> {
        concatenate(self.scope, self.failures)
    }

    fn meter(&mut self, relation: &Relation, part: &'static str) -> Arc<Meter> {
        self.sources.meter(relation, part)
    }

    /// The rows of a relation, drawn if they are not yet.
    fn rows(&mut self, relation: &Arc<Relation>) -> VecCollection<'scope, Epoch, Row, Diff> {
        if let Some(drawn) = self.rows.get(&relation.fingerprint) {
            return drawn.clone();
        }
        let rows = self.draw(relation);
        self.rows.insert(relation.fingerprint, rows.clone());
        rows
    }

    fn draw(&mut self, relation: &Arc<Relation>) -> VecCollection<'scope, Epoch, Row, Diff> {
        let (rows, failures) = match &relation.operator {
            Operator::Constant { rows } => return self.constant(rows),
            Operator::Table { .. } | Operator::View { .. } => {
                let Rendered { rows, failures } = self.sources.source(self.scope, relation);
                (rows, failures)
            }
            Operator::Apply { input, program } => {
                programs::apply(self.rows(input), program, self.meter(relation, "evaluate"))
            }
            Operator::Temporal { input, bounds } => {
                let rows = self.ticking(input);
                let evaluating = self.meter(relation, "bounds");
                temporal::temporal(rows, bounds, evaluating, self.meter(relation, "wait"))
            }
            Operator::Join { left, right } => {
                let (left, right) = (self.arranged(left), self.arranged(right));
                return join::join(left, right, self.meter(relation, "join"), Row::concat);
            }
            Operator::Semijoin { left, right, keep } => return self.semijoin(relation, left, right, *keep),
            Operator::Reduce { input, grouping } => {
                let rows = self.rows(input);
                let (evaluating, hydration) = (self.meter(relation, "contributions"), self.sources.hydration());
                reduce::reduce(rows, grouping, self.keys, evaluating, self.meter(relation, "groups"), hydration)
            }
            Operator::Top { input, top } => {
                let rows = self.rows(input);
                let (evaluating, hydration) = (self.meter(relation, "order"), self.sources.hydration());
                top::top(rows, top, self.keys, evaluating, self.meter(relation, "ranking"), hydration)
            }
            Operator::Distinct { input } => {
                let (rows, keys) = (self.rows(input), self.keys);
                let hashed = rows.map(move |row| Hashed::new(keys, row));
                return distinct::distinct(hashed, self.meter(relation, "counts"), Hashed::into_row);
            }
            Operator::Union { inputs } => {
                let inputs: Vec<_> = inputs.iter().map(|input| self.rows(input)).collect();
                return concatenate(self.scope, inputs);
            }
            Operator::Recursive { id, start, step } => {
                return recursive::recursive(self, relation, *id, start, step);
            }
            Operator::Recursion { .. } => unreachable!("a recursion stands within its own step alone"),
        };
        self.failures.push(failures);
        rows
    }

    /// Rows that are always there: said once, by one worker.
    fn constant(&self, rows: &[Row]) -> VecCollection<'scope, Epoch, Row, Diff> {
        let rows = if self.scope.index() == 0 { rows.to_vec() } else { Vec::new() };
        rows.into_iter().map(|row| (row, 0, 1)).to_stream(self.scope).as_collection()
    }

    /// The rows of a relation, with a frontier that goes on as time does, even if nothing else could change them.
    fn ticking(&mut self, relation: &Arc<Relation>) -> VecCollection<'scope, Epoch, Row, Diff> {
        let rows = self.rows(relation);
        if reads(relation) { rows } else { rows.concat(self.sources.clock(self.scope)) }
    }

    /// Rows under a key: those that others have too, or our own.
    fn arranged(&mut self, side: &Keyed) -> ByKey<'scope> {
        let named = (side.input.fingerprint, side.key.description());
        if let Some(drawn) = self.arranged.get(&named) {
            return drawn.clone();
        }
        let arranged = match self.sources.shared(self.scope, side) {
            Some(Index { rows, failures }) => {
                self.failures.push(failures);
                rows
            }
            None => self.arrange(side),
        };
        self.arranged.insert(named, arranged.clone());
        arranged
    }

    fn arrange(&mut self, side: &Keyed) -> ByKey<'scope> {
        let rows = self.rows(&side.input);
        let (keyed, failures) = programs::keyed(rows, &side.key, self.keys, self.meter(&side.input, "keys"));
        self.failures.push(failures);
        let bytes = |key: &Hashed, row: &Row| key.bytes() + bytes_of(row) + size_of::<(Epoch, Diff)>();
        arrange(keyed.inner, "Arrange", self.meter(&side.input, "arrangement"), Hashed::route, bytes)
    }

    /// The keys of a side, each once.
    fn present(&mut self, side: &Keyed) -> Present<'scope> {
        let named = (side.input.fingerprint, side.key.description());
        if let Some(drawn) = self.present.get(&named) {
            return drawn.clone();
        }
        let rows = self.rows(&side.input);
        let (found, failures) = programs::keys(rows, &side.key, self.keys, self.meter(&side.input, "keys"));
        self.failures.push(failures);
        let once = distinct::distinct(found, self.meter(&side.input, "key counts"), |key| (key, ()));
        let bytes = |key: &Hashed, (): &()| key.bytes() + size_of::<(Epoch, Diff)>();
        let meter = self.meter(&side.input, "key arrangement");
        let present = arrange(once.inner, "Present", meter, Hashed::route, bytes);
        self.present.insert(named, present.clone());
        present
    }

    fn semijoin(
        &mut self,
        relation: &Relation,
        left: &Keyed,
        right: &Keyed,
        keep: Keep,
    ) -> VecCollection<'scope, Epoch, Row, Diff> {
        let (rows, present) = (self.arranged(left), self.present(right));
        let meter = self.meter(relation, "join");
        let matches = join::join(rows.clone(), present, meter, |row: &Row, (): &()| row.clone());
        if keep == Keep::Matches {
            return matches;
        }
        // Both stand where their key does, so what cancels does so at once.
        let with_key = rows.as_collection(|_key, row| row.clone()).concat(matches.negate());
        let others = distinct::consolidate(with_key, self.meter(relation, "difference"));
        if !left.key.may_drop() {
            return others;
        }
        let (rows, meter) = (self.rows(&left.input), self.meter(&left.input, "rows without key"));
        others.concat(programs::without_key(rows, &left.key, meter))
    }
}

/// Whether a relation reads a table or a view.
fn reads(relation: &Relation) -> bool {
    matches!(relation.operator, Operator::Table { .. } | Operator::View { .. })
        || relation.inputs().into_iter().any(|input| reads(input))
}
