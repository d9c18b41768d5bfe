//! What is rendered against what the relation is, computed anew in plain code at every time.
//!
//! * *Random plans* over random histories, on 1, 2 and 4 workers: rows, multiplicities and failures at every time, or at
//!   every time from which on it can be read.
//! * *Each operator* by itself, where it has corners that chance seldom meets.
//! * *Costs*: what an update costs does not grow with what is held.

mod corners;
mod costs;
mod driver;
mod hydrating;
mod plans;

use rand::SeedableRng;
use rand::rngs::StdRng;

use driver::{History, run};
use plans::{Now, Plan};

use crate::model::Epoch;

/// Whether a plan is at every time what it is when computed anew.
fn check(plan: &Plan, history: &History, workers: usize, seed: u64) {
    check_from(0, plan, history, workers, seed);
}

/// The same from `readable_from` on.
fn check_from(readable_from: Epoch, plan: &Plan, history: &History, workers: usize, seed: u64) {
    let said = run(&plan.relation, history, workers, seed, readable_from);
    for time in readable_from..history.end {
        let sources = history.at(time);
        let mut now = Now::new(&sources, time);
        let expected = (plan.naive)(&mut now);
        assert_eq!(said.at(time, 2), expected, "seed {seed}, {workers} workers, at {time}: {}", plan.words);
        let failed: i64 = now.failed.values().sum();
        assert_eq!(said.failures_at(time), failed, "failures; seed {seed}, at {time}: {}", plan.words);
    }
}

#[test]
fn random_plans_are_at_every_time_what_they_are_computed_anew() {
    // `TARN_CASES` for more.
    let cases = std::env::var("TARN_CASES").ok().map(|cases| cases.parse().expect("a number")).unwrap_or(200);
    for seed in 0..cases {
        let mut random = StdRng::seed_from_u64(seed);
        let plan = Plan::random(&mut random, 3, 1 + seed as usize % 4);
        let history = History::random(&mut random, 3, 30, 60);
        check(&plan, &history, [1, 2, 4][seed as usize % 3], seed);
    }
}
