//! Dataflows that cannot be read before some time: from then on they are what they are, and of what was before they say
//! no more than needed.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::check_from;
use super::driver::{History, directly};
use super::plans::{Plan, Ranked};
use crate::model::Epoch;

#[test]
fn random_plans_are_what_they_are_computed_anew_from_when_on_they_can_be_read() {
    // `TARN_CASES` for more.
    let cases = std::env::var("TARN_CASES").ok().map(|cases| cases.parse().expect("a number")).unwrap_or(200);
    for seed in 0..cases {
        let mut random = StdRng::seed_from_u64(seed);
        let plan = Plan::random(&mut random, 3, 1 + seed as usize % 4);
        let history = History::random(&mut random, 3, 30, 60);
        let readable_from = random.random_range(4..28);
        check_from(readable_from, &plan, &history, [1, 2, 4][seed as usize % 3], seed);
    }
}

/// What can be read from this epoch on.
const READABLE_FROM: Epoch = 60;

#[test]
fn who_keeps_groups_tells_each_of_them_once_and_not_for_each_slice() {
    let one = Plan::source(0);
    let ranked =
        Ranked { by_first: true, descending: true, nulls_first: false, offset: 1, limit: Some(2), with_number: true };
    let all = Ranked { offset: 0, limit: None, with_number: false, ..ranked };
    // Of 7 groups of 20 rows each: sums, values in order, the second and the third of each, all.
    let plans = [(one.clone().reduce(0), 7), (one.clone().reduce(2), 7)];
    let plans = plans.into_iter().chain([(one.clone().top(ranked), 14), (one.clone().top(all), 140)]);
    for (plan, expected) in plans {
        let words = plan.words.clone();
        directly(&plan.relation, 1, move |running| {
            running.inputs.hydration.readable_from(READABLE_FROM);
            for slice in 0..20 {
                (0..7).for_each(|group| running.change(0, &[group, slice], 1));
                running.go_on_at(slice as Epoch + 1);
            }
            assert!(running.said.lock().unwrap().rows.is_empty(), "it speaks before it is asked: {words}");
            running.go_on_at(READABLE_FROM + 1);
            let told = running.said.lock().unwrap().rows.clone();
            assert_eq!(told.len(), expected, "{words}");
            assert!(told.iter().all(|(_, time, _)| *time <= READABLE_FROM), "{told:?}: {words}");
            // In portions, so that nobody has to take all at once.
            let mut times: Vec<_> = told.iter().map(|(_, time, _)| *time).collect();
            times.dedup();
            assert!(times.len() >= 3, "{times:?}: {words}");
            // What changes then is told as ever.
            [30, -1].iter().for_each(|value| running.change(0, &[3, *value], 1));
            running.go_on_at(READABLE_FROM + 2);
            assert!(running.said.lock().unwrap().rows.len() > told.len(), "{words}");
        });
    }
}

#[test]
fn the_row_of_no_rows_is_told_once_too() {
    for (rows, expected) in [(0, 1), (5, 1)] {
        // A count of everything.
        let plan = Plan::source(0).reduce(5);
        directly(&plan.relation, 1, move |running| {
            running.inputs.hydration.readable_from(READABLE_FROM);
            for row in 0..rows {
                running.change(0, &[row, row], 1);
                running.go_on_at(row as Epoch + 1);
            }
            running.go_on_at(READABLE_FROM + 1);
            assert_eq!(running.said.lock().unwrap().rows.len(), expected);
        });
    }
}
