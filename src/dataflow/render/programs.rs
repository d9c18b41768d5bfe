//! Programs on rows, in the outermost scope or within a recursion: rows made of rows, and the keys of rows.

use std::sync::Arc;

use differential_dataflow::VecCollection;
use timely::progress::Timestamp;

use super::evaluate::{Made, Outcome, Repeats, evaluate};
use super::hashed::Hashed;
use crate::dataflow::index::HashKeys;
use crate::dataflow::meter::Meter;
use crate::dataflow::shared_batch::Diff;
use crate::sql::{Program, Row};

/// The rows that a program makes of rows.
pub(super) fn apply<'scope, T: Timestamp>(
    rows: VecCollection<'scope, T, Row, Diff>,
    program: &Arc<Program>,
    meter: Arc<Meter>,
) -> Outcome<'scope, T, Row, Diff> {
    let program = Arc::clone(program);
    let run = move |rows: &[&Row]| {
        let evaluated = program.run(rows);
        Made { rows: evaluated.rows, failures: evaluated.failures }
    };
    evaluate(rows, "Apply", meter, Repeats::Seldom, run, |row: Row, count| (row, count))
}

/// The keys that a program makes of rows.
pub(super) fn keys<'scope, T: Timestamp>(
    rows: VecCollection<'scope, T, Row, Diff>,
    key: &Arc<Program>,
    hash_keys: HashKeys,
    meter: Arc<Meter>,
) -> Outcome<'scope, T, Hashed, Diff> {
    let key = Arc::clone(key);
    let run = move |rows: &[&Row]| {
        let evaluated = key.run(rows);
        Made { rows: evaluated.rows, failures: evaluated.failures }
    };
    evaluate(rows, "Keys", meter, Repeats::Often, run, move |key: Row, count| (Hashed::new(hash_keys, key), count))
}

/// The rows with the keys that a program makes of them.
pub(super) fn keyed<'scope, T: Timestamp>(
    rows: VecCollection<'scope, T, Row, Diff>,
    key: &Arc<Program>,
    hash_keys: HashKeys,
    meter: Arc<Meter>,
) -> Outcome<'scope, T, (Hashed, Row), Diff> {
    let key = Arc::clone(key);
    let run = move |rows: &[&Row]| {
        let evaluated = key.run(rows);
        let keyed = evaluated.rows.into_iter();
        let keyed = keyed.map(|(place, key)| (place, (Hashed::new(hash_keys, key), rows[place].clone())));
        Made { rows: keyed.collect(), failures: evaluated.failures }
    };
    evaluate(rows, "Keyed", meter, Repeats::Seldom, run, |keyed: (Hashed, Row), count| (keyed, count))
}

/// The rows of which a program makes no key, though it could be evaluated. Why others could not is told with their keys.
pub(super) fn without_key<'scope, T: Timestamp>(
    rows: VecCollection<'scope, T, Row, Diff>,
    key: &Arc<Program>,
    meter: Arc<Meter>,
) -> VecCollection<'scope, T, Row, Diff> {
    let key = Arc::clone(key);
    let run = move |rows: &[&Row]| {
        let evaluated = key.run(rows);
        let mut is_without = vec![true; rows.len()];
        let others = evaluated.rows.iter().map(|(place, _)| place);
        others.chain(evaluated.failures.iter().map(|(place, _)| place)).for_each(|place| is_without[*place] = false);
        let without = rows.iter().enumerate().filter(|(place, _)| is_without[*place]);
        Made { rows: without.map(|(place, row)| (place, (*row).clone())).collect(), failures: Vec::new() }
    };
    evaluate(rows, "WithoutKey", meter, Repeats::Seldom, run, |row: Row, count| (row, count)).0
}
