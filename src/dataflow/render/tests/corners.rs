//! Operators by themselves, where they have corners that chance seldom meets.

use std::sync::{Arc, Mutex};

use differential_dataflow::VecCollection;
use differential_dataflow::trace::TraceReader;
use timely::dataflow::{ProbeHandle, Scope};
use timely::progress::Antichain;

use super::driver::{Bag, Inputs, Running, Said, directly, keep, render};
use super::plans::Plan;
use crate::dataflow::index::HashKeys;
use crate::dataflow::meter::Meter;
use crate::dataflow::render::recursive::ROUNDS;
use crate::dataflow::render::{ByKeyTrace, Hydration, Index, Rendered, Sources, index};
use crate::dataflow::shared_batch::Diff;
use crate::model::Epoch;
use crate::sql::testing::row;
use crate::sql::{Keyed, Operator, RecursionId, Relation, Row};

/// Rows of two values, once each.
fn rows(rows: &[[i64; 2]]) -> Bag {
    rows.iter().map(|row| (row.map(Some).to_vec(), 1)).collect()
}

/// Counts up from the rows of source 0, as far as a program lets it.
fn counting(limit: i64) -> Plan {
    let id = RecursionId(7);
    let filter = format!("a < {limit}");
    let step =
        Plan::recursion(id).mapped(2, &[&filter], &["a + 1", "b"], |_row| unreachable!("not computed anew here"));
    Plan::source(0).recursive(id, step)
}

/// Whether the view as a whole is told to have failed.
fn is_endless(running: &Running<'_>) -> bool {
    let said = running.said.lock().unwrap();
    assert!(said.failures.iter().all(|(failure, ..)| failure.is_of_view()));
    said.failures_at(running.epoch - 1) > 0
}

#[test]
fn a_recursion_may_take_as_many_rounds_as_are_allowed() {
    let limit = i64::try_from(ROUNDS).unwrap();
    directly(&counting(limit).relation, 1, move |running| {
        running.change(0, &[0, 5], 1);
        running.go_on_at(1);
        assert!(!is_endless(running));
        assert_eq!(running.rows(2).len(), usize::try_from(limit).unwrap() + 1);
    });
}

#[test]
fn a_recursion_without_end_is_cut_off_and_goes_on_when_it_is_mended() {
    directly(&counting(i64::MAX).relation, 1, |running| {
        running.go_on_at(1);
        assert!(!is_endless(running), "without rows there is nothing to derive");
        running.change(0, &[0, 5], 1);
        running.go_on_at(2);
        assert!(is_endless(running));
        // Others come and go meanwhile.
        running.change(0, &[3, 6], 1);
        running.go_on_at(3);
        running.change(0, &[0, 5], -1);
        running.go_on_at(4);
        assert!(is_endless(running));
        running.change(0, &[3, 6], -1);
        running.go_on_at(5);
        assert!(!is_endless(running));
        assert!(running.rows(2).is_empty());
    });
}

#[test]
fn a_recursion_that_explodes_is_cut_off_for_good_and_time_goes_on() {
    let id = RecursionId(7);
    let twice = |output| Plan::recursion(id).mapped(2, &[], &[output, "b"], |_row| unreachable!("not computed anew"));
    let step = Plan::union(vec![twice("2 * a"), twice("2 * a + 1")]);
    directly(&Plan::source(0).recursive(id, step).relation, 1, |running| {
        running.change(0, &[1, 5], 1);
        running.go_on_at(1);
        assert!(is_endless(running));
        running.change(0, &[1, 5], -1);
        running.go_on_at(2);
        running.change(0, &[2, 5], 1);
        running.go_on_at(3);
        assert!(is_endless(running));
    });
}

#[test]
fn a_recursion_with_cycles_forgets_what_nothing_derives_any_more() {
    let plan = Plan::source(0).reachable(Plan::source(1), 1);
    directly(&plan.relation, 2, |running| {
        running.change(0, &[0, 1], 1);
        [[1, 2], [2, 3], [3, 1], [3, 4]].iter().for_each(|edge| running.change(1, edge, 1));
        running.go_on_at(1);
        assert_eq!(running.rows(2), rows(&[[0, 1], [0, 2], [0, 3], [0, 4]]));
        // The rows of the cycle derive one another, and nothing else derives them.
        running.change(1, &[1, 2], -1);
        running.go_on_at(2);
        assert_eq!(running.rows(2), rows(&[[0, 1]]));
    });
}

#[test]
fn rows_that_depend_on_no_table_come_and_go_by_the_clock() {
    let plan = Plan::constant(&[vec![Some(3), Some(4)]]).temporal(Some(10), Some(10));
    directly(&plan.relation, 0, |running| {
        let mut seen = Vec::new();
        for epoch in [1, 30, 31, 40, 41] {
            running.go_on_at(epoch);
            seen.push(running.rows(2).len());
        }
        assert_eq!(seen, [0, 0, 1, 1, 0]);
    });
}

#[test]
fn what_would_come_after_the_end_of_the_input_is_not_told() {
    let plan = Plan::source(0).temporal(Some(10), Some(1_000));
    let said = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&said);
    directly(&plan.relation, 1, move |running| {
        running.change(0, &[1, 1], 1);
        running.go_on_at(20);
        running.change(0, &[5, 5], 1);
        running.change(0, &[1, 2], 1);
        let shared = Arc::clone(&running.said);
        // The input ends here, and with it the epoch 20.
        running.inputs.sessions.clear();
        for _ in 0..10 {
            running.step();
        }
        told.lock().unwrap().append(&mut shared.lock().unwrap().rows);
    });
    let mut said = std::mem::take(&mut *said.lock().unwrap());
    said.sort();
    assert_eq!(said, [(row(&[Some(1), Some(1)]), 10, 1), (row(&[Some(1), Some(2)]), 20, 1)]);
}

#[test]
fn a_group_that_cannot_be_made_fails_until_it_can() {
    let plan = Plan::source(0).reduce(1);
    directly(&plan.relation, 1, |running| {
        let failing = |running: &Running<'_>| running.said.lock().unwrap().failures_at(running.epoch - 1);
        running.change(0, &[i64::MAX, 1], 1);
        running.change(0, &[4, 2], 1);
        running.go_on_at(1);
        assert_eq!((running.rows(2), failing(running)), (rows(&[[1, i64::MAX], [2, 4]]), 0));
        running.change(0, &[1, 1], 1);
        running.go_on_at(2);
        assert_eq!((running.rows(2), failing(running)), (rows(&[[2, 4]]), 1));
        running.change(0, &[2, 1], 1);
        running.go_on_at(3);
        assert_eq!((running.rows(2), failing(running)), (rows(&[[2, 4]]), 1));
        running.change(0, &[i64::MAX, 1], -1);
        running.go_on_at(4);
        assert_eq!((running.rows(2), failing(running)), (rows(&[[1, 3], [2, 4]]), 0));
    });
}

#[test]
fn what_occurs_twice_is_drawn_once_and_fails_once() {
    let part = Plan::source(0).apply(4);
    let plan = Plan::union(vec![part.clone().join(part.clone(), [0, 1]), part.clone(), part.clone()]);
    let fingerprint = part.relation.fingerprint;
    directly(&plan.relation, 1, move |running| {
        let drawn = running.inputs.meters.iter().filter(|meter| meter.relation() == fingerprint);
        let mut parts: Vec<_> = drawn.map(|meter| meter.part()).collect();
        parts.sort_unstable();
        // Evaluated once, and arranged by each of two keys.
        assert_eq!(parts, ["arrangement", "arrangement", "evaluate", "keys", "keys"]);
        running.change(0, &[0, 1], 1);
        running.go_on_at(1);
        assert_eq!(running.said.lock().unwrap().failures_at(0), 1);
    });
}

/// Sources that share an arrangement that is there already.
struct Sharing<'a> {
    inputs: &'a mut Inputs,
    side: &'a Keyed,
    trace: &'a mut ByKeyTrace,
}

impl<'scope> Sources<'scope> for Sharing<'_> {
    fn source(&mut self, scope: Scope<'scope, Epoch>, relation: &Arc<Relation>) -> Rendered<'scope> {
        self.inputs.source(scope, relation)
    }

    fn shared(&mut self, scope: Scope<'scope, Epoch>, side: &Keyed) -> Option<Index<'scope>> {
        let is_this = side.input.fingerprint == self.side.input.fingerprint;
        is_this.then(|| {
            let rows = self.trace.import(scope);
            Index { failures: rows.clone().flat_map_ref(|_, _| None), rows }
        })
    }

    fn clock(&mut self, scope: Scope<'scope, Epoch>) -> VecCollection<'scope, Epoch, Row, Diff> {
        self.inputs.clock(scope)
    }

    fn meter(&mut self, relation: &Relation, part: &'static str) -> Arc<Meter> {
        self.inputs.meter(relation, part)
    }

    fn hydration(&self) -> Hydration {
        self.inputs.hydration.clone()
    }

    fn hash_keys(&self) -> HashKeys {
        self.inputs.keys
    }
}

#[test]
fn an_arrangement_of_another_dataflow_joins_as_our_own_does() {
    let plan = Plan::source(0).join(Plan::source(1), [0, 0]);
    timely::execute_directly(move |worker| {
        let Operator::Apply { input: join, .. } = &plan.relation.operator else { panic!("two columns of a join") };
        let Operator::Join { left, right } = &join.operator else { panic!("a join") };
        let keys = HashKeys::random();
        let mut indexed = Inputs::new(2, keys);
        let mut trace = worker.dataflow(|scope| index(right, scope, &mut indexed).rows.trace);
        for (number, epoch) in (0..100_i64).zip(1..) {
            indexed.sessions[1].insert(row(&[Some(number % 10), Some(number)]));
            indexed.sessions[1].advance_to(epoch);
            indexed.sessions[1].flush();
            worker.step();
        }
        let mut upper = Antichain::new();
        while upper != Antichain::from_elem(100) {
            worker.step();
            trace.read_upper(&mut upper);
        }
        // What was before has been compacted when the other dataflow begins.
        trace.set_logical_compaction(Antichain::from_elem(90).borrow());
        trace.set_physical_compaction(Antichain::from_elem(100).borrow());
        let (mut inputs, probe, said) = (Inputs::new(2, keys), ProbeHandle::new(), Arc::<Mutex<Said>>::default());
        let kept = Arc::clone(&said);
        worker.dataflow(|scope| {
            let mut sharing = Sharing { inputs: &mut inputs, side: right, trace: &mut trace };
            let rendered = render(&plan.relation, scope, &mut sharing);
            keep(rendered.rows, &probe, move |mut rows| kept.lock().unwrap().rows.append(&mut rows));
        });
        assert_ne!(left.input.fingerprint, right.input.fingerprint);
        inputs.sessions[0].insert(row(&[Some(3), Some(0)]));
        inputs.sessions[0].advance_to(101);
        indexed.sessions[1].remove(row(&[Some(3), Some(13)]));
        indexed.sessions[1].advance_to(101);
        inputs.sessions[0].flush();
        indexed.sessions[1].flush();
        while probe.less_than(&101) {
            worker.step();
        }
        let said = said.lock().unwrap();
        let expected: Vec<_> = (0..10).map(|tens| [3, tens * 10 + 3]).collect();
        assert_eq!(said.at(99, 2), rows(&expected));
        let expected: Vec<_> = expected.into_iter().filter(|[_, value]| *value != 13).collect();
        assert_eq!(said.at(100, 2), rows(&expected));
    });
}

#[test]
fn a_join_that_is_let_go_makes_nothing_more_of_what_it_has_begun() {
    let plan = Plan::source(0).join(Plan::source(1), [0, 0]);
    directly(&plan.relation, 2, |running| {
        // All meet all, which is more than one turn makes.
        for number in 0..2_000 {
            running.change(0, &[1, number], 1);
            running.change(1, &[1, number], 1);
        }
        running.end_before(1);
        let said = |running: &Running<'_>| running.said.lock().unwrap().rows.len();
        while said(running) == 0 {
            running.step();
        }
        let before = said(running);
        assert!(before < 4_000_000, "it is not done: {before}");
        running.inputs.ending.begin();
        running.go_on_at(2);
        assert_eq!(said(running), before);
        // Nor of what comes.
        running.change(0, &[1, 5_000], 1);
        running.go_on_at(3);
        assert_eq!(said(running), before);
    });
}

#[test]
fn a_recursion_that_is_let_go_ends() {
    let id = RecursionId(7);
    let step = Plan::recursion(id).join(Plan::source(1), [1, 0]);
    let plan = Plan::source(0).recursive(id, step);
    directly(&plan.relation, 2, |running| {
        for number in 0..300 {
            running.change(1, &[number, number + 1], 1);
        }
        running.change(0, &[0, 0], 1);
        running.end_before(1);
        // Somewhere in its rounds, and what was derived by them goes.
        (0..40).for_each(|_| running.step());
        running.change(0, &[0, 0], -1);
        running.end_before(2);
        (0..40).for_each(|_| running.step());
        running.inputs.ending.begin();
        running.go_on_at(3);
    });
}
