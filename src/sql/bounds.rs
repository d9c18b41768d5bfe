//! From when and until when a row counts: what becomes of comparisons with `now()`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Int64Type;

use super::failure::Failure;
use super::program::Program;
use super::row::{Codec, Row};
use crate::model::Epoch;

/// From when and until when a row counts, by the time of the epoch.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// One column, a 64-bit integer: the first epoch (ms since 1970) at which the row counts; dropped or null: never.
    /// None: since ever.
    pub from: Option<Arc<Program>>,
    /// One column, a 64-bit integer: the first epoch at which it no longer does; dropped or null: it never counts.
    /// None: for ever.
    pub until: Option<Arc<Program>>,
}

/// When a row counts: from the first epoch until just before the second; for ever, where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    /// The first epoch at which it counts.
    pub from: Epoch,
    /// The first at which it no longer does; later than `from`.
    pub until: Option<Epoch>,
}

/// What became of some rows.
#[derive(Debug, Default)]
pub struct Intervals {
    /// With the places of the rows that ever count, in order.
    pub rows: Vec<(usize, Interval)>,
    /// The rows of which it could not be said.
    pub failures: Vec<(usize, Failure)>,
}

impl Bounds {
    /// When rows of the input's codec count. Of a row for which both bounds fail, the first failure is told.
    pub fn run(&self, rows: &[&Row]) -> Intervals {
        let mut failures = Vec::new();
        let mut bound = |program: &Option<Arc<Program>>, none: Option<Epoch>| match program {
            None => vec![Some(none); rows.len()],
            Some(program) => {
                let mut epochs = vec![None; rows.len()];
                for (place, epoch) in epochs_of(program, rows, &mut failures) {
                    epochs[place] = Some(Some(epoch));
                }
                epochs
            }
        };
        let (from, until) = (bound(&self.from, Some(0)), bound(&self.until, None));
        // Sorting is stable, so that the failure of `from` stands first.
        failures.sort_by_key(|(place, _)| *place);
        failures.dedup_by_key(|(place, _)| *place);
        let interval = |(from, until): (Option<Option<Epoch>>, Option<Option<Epoch>>)| {
            let (from, until) = (from??, until?);
            until.is_none_or(|until| from < until).then_some(Interval { from, until })
        };
        let rows = from.into_iter().zip(until).map(interval).enumerate();
        Intervals { rows: rows.filter_map(|(place, interval)| Some((place, interval?))).collect(), failures }
    }
}

/// The epochs that a program makes of rows; one before the beginning of time is the beginning.
fn epochs_of(program: &Program, rows: &[&Row], failures: &mut Vec<(usize, Failure)>) -> Vec<(usize, Epoch)> {
    let evaluated = program.run(rows);
    failures.extend(evaluated.failures);
    let codec = Codec::new(Arc::clone(program.schema()));
    let columns = codec.decode(evaluated.rows.iter().map(|(_, row)| row));
    let epochs = columns.column(0).as_primitive::<Int64Type>();
    let places = evaluated.rows.iter().map(|(place, _)| *place).enumerate();
    let valid = places.filter(|(index, _)| epochs.is_valid(*index));
    valid.map(|(index, place)| (place, Epoch::try_from(epochs.value(index)).unwrap_or(0))).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn a_row_counts_between_its_bounds_if_it_has_both() {
        let columns = [("a", DataType::Int64), ("b", DataType::Int64)];
        let program = |text| Some(Arc::new(Program::parse(&columns, &[], &[("epoch", text)])));
        let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
        let column = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let given = [
            column(vec![Some(5), Some(-7), None, Some(5), Some(9), Some(1)]),
            column(vec![Some(8), Some(3), Some(8), Some(5), None, Some(0)]),
        ];
        let rows = Codec::new(Arc::new(Schema::new(fields))).encode(&given, 6);
        let run = |from, until| {
            let intervals = Bounds { from, until }.run(&rows.iter().collect::<Vec<_>>());
            let rows = intervals.rows.into_iter().map(|(place, interval)| (place, interval.from, interval.until));
            (rows.collect::<Vec<_>>(), intervals.failures.into_iter().map(|(place, _)| place).collect::<Vec<_>>())
        };
        assert_eq!(run(program("a"), program("b")), (vec![(0, 5, Some(8)), (1, 0, Some(3))], vec![]));
        let from_a = vec![(0, 5, None), (1, 0, None), (3, 5, None), (4, 9, None), (5, 1, None)];
        assert_eq!(run(program("a"), None), (from_a, vec![]));
        let until_b = vec![(0, 0, Some(8)), (1, 0, Some(3)), (2, 0, Some(8)), (3, 0, Some(5))];
        assert_eq!(run(None, program("b")), (until_b, vec![]));
        let (rows, failures) = run(program("a"), program("10 / b"));
        assert_eq!((rows, failures), (vec![(1, 0, Some(3))], vec![5]));
    }
}
