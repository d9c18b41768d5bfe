//! What an update costs, counted in comparisons of rows, and what is held: neither grows but as it must.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::driver::{Running, directly};
use super::plans::{Plan, Ranked};
use crate::sql::Keep;
use crate::sql::testing::comparisons;

/// The rows of a state; a change takes one away and brings another one.
fn some_row(random: &mut StdRng, size: i64) -> [i64; 2] {
    [random.random_range(0..size), random.random_range(0..size)]
}

/// Fills the sources with so many rows each.
fn fill(running: &mut Running<'_>, sources: usize, size: i64) {
    for source in 0..sources {
        (0..size).for_each(|number| running.change(source, &[number, number * 7_919 % size], 1));
    }
    running.go_on_at(1);
}

/// How many comparisons 200 changes of one row cost, an epoch each, in a state of so many rows.
fn cost(plan: &Plan, sources: usize, size: i64) -> u64 {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    directly(&plan.relation, sources, move |running| {
        fill(running, sources, size);
        let mut random = StdRng::seed_from_u64(1);
        let before = comparisons();
        for _ in 0..200 {
            let row = some_row(&mut random, size);
            running.change(random.random_range(0..sources), &row, 1);
            running.go_on_at(running.epoch + 1);
        }
        sender.send(comparisons() - before).unwrap();
    });
    receiver.recv().unwrap()
}

#[test]
fn an_update_costs_no_more_than_the_logarithm_of_what_is_held() {
    let (one, other) = (Plan::source(0), Plan::source(1));
    let ranked =
        Ranked { by_first: false, descending: true, nulls_first: false, offset: 2, limit: Some(10), with_number: true };
    let plans = [
        (1, one.clone().distinct()),
        (1, one.clone().reduce(0)),
        (1, one.clone().reduce(5)),
        // One group of all values, in order.
        (1, one.clone().reduce(6)),
        (1, one.clone().reduce(2)),
        (1, one.clone().top(ranked)),
        (1, one.clone().top(Ranked { by_first: true, ..ranked })),
        (1, one.clone().top(Ranked { limit: None, with_number: false, ..ranked })),
        // They wait for a time that does not come.
        (1, one.clone().temporal(Some(1_000_000), None)),
        (2, one.clone().join(other.clone(), [0, 0])),
        (2, one.clone().semijoin(other.clone(), [0, 0], Keep::Others)),
    ];
    for (sources, plan) in plans {
        let (small, large) = (cost(&plan, sources, 1_000), cost(&plan, sources, 100_000));
        println!("{small} {large} {}", plan.words);
        assert!(large <= small * 2 + 400, "{small} in a small state, {large} in a large one: {}", plan.words);
    }
}

#[test]
fn rows_that_wait_cost_nothing_while_time_passes_and_cancel_when_they_are_taken_back() {
    let plan = Plan::source(0).temporal(Some(1_000), Some(2_000));
    directly(&plan.relation, 1, |running| {
        for number in 1..=1_000 {
            running.change(0, &[number, number], 1);
        }
        running.go_on_at(1);
        let waiting = running.measures();
        // Each comes, and leaves.
        assert_eq!(waiting.rows, 2_000);
        let before = comparisons();
        (2..500).for_each(|epoch| running.go_on_at(epoch));
        assert_eq!((comparisons() - before, running.measures().steps), (0, waiting.steps));
        for number in 1..=1_000 {
            running.change(0, &[number, number], -1);
        }
        running.go_on_at(500);
        let after = running.measures();
        assert_eq!((after.rows, after.bytes), (0, 0));
        running.go_on_at(3_000_000);
        assert!(running.said.lock().unwrap().rows.is_empty());
    });
}

#[test]
fn nothing_is_held_of_rows_that_have_gone() {
    let one = Plan::source(0);
    let ranked =
        Ranked { by_first: true, descending: false, nulls_first: true, offset: 0, limit: Some(2), with_number: false };
    let plans = [
        one.clone().distinct(),
        one.clone().reduce(1),
        one.clone().reduce(2),
        one.clone().reduce(4),
        one.clone().top(ranked),
        one.clone().join(one.clone(), [0, 1]),
        one.clone().semijoin(one.clone().apply(0), [0, 0], Keep::Others),
    ];
    for plan in plans {
        let words = plan.words.clone();
        directly(&plan.relation, 1, move |running| {
            for number in 0..500 {
                running.change(0, &[number % 17, number % 31], 1);
            }
            running.go_on_at(1);
            let full = running.measures();
            assert!(full.rows > 0 && full.bytes > full.rows * 20, "{full:?}: {words}");
            for number in 0..500 {
                running.change(0, &[number % 17, number % 31], -1);
                running.go_on_at(running.epoch + 1);
            }
            let empty = running.measures();
            assert_eq!((empty.rows, empty.bytes), (0, 0), "{words}");
            assert_eq!(running.rows(2).len(), 0, "{words}");
        });
    }
}
