//! Relations of two columns together with what they are, computed anew in plain code from what the sources hold.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;

use super::driver::Bag;
use crate::model::Epoch;
use crate::sql::testing::{Call, Values, grouping, numbered_program, program, relation, row, top};
use crate::sql::{AggregateFunction, Bounds, Fingerprint, Keep, Keyed, Operator, RecursionId, Relation};

/// What there is at some time.
pub(super) struct Now<'a> {
    pub(super) sources: &'a [Bag],
    pub(super) time: Epoch,
    /// How many rows failed, by where they did: a relation that occurs twice is computed once.
    pub(super) failed: BTreeMap<Fingerprint, i64>,
    /// What a recursion has so far.
    recursion: Option<Bag>,
}

impl<'a> Now<'a> {
    pub(super) fn new(sources: &'a [Bag], time: Epoch) -> Self {
        Self { sources, time, failed: BTreeMap::new(), recursion: None }
    }
}

/// A relation, and what it is.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) relation: Arc<Relation>,
    pub(super) naive: Rc<dyn Fn(&mut Now<'_>) -> Bag>,
    /// Tells it from others.
    pub(super) words: String,
}

/// What a program makes of a row: none, a row, or a failure.
type Scalar = fn(&[Option<i64>]) -> Result<Option<Values>, ()>;

/// Programs over two columns: filters, outputs, and the same in plain code.
const PROGRAMS: [(&[&str], &[&str], Scalar); 6] = [
    (&[], &["b", "a"], |row| Ok(Some(vec![row[1], row[0]]))),
    (&[], &["a", "a + b"], |row| Ok(Some(vec![row[0], row[0].zip(row[1]).map(|(a, b)| a + b)]))),
    (&["a > 2"], &["a", "b"], |row| Ok(row[0].filter(|a| *a > 2).map(|_| row.to_vec()))),
    (&["b IS NOT NULL", "b < 5"], &["b % 3", "a"], |row| {
        Ok(row[1].filter(|b| *b < 5).map(|b| vec![Some(b % 3), row[0]]))
    }),
    (&[], &["12 / a", "b"], |row| match row[0] {
        Some(0) => Err(()),
        a => Ok(Some(vec![a.map(|a| 12 / a), row[1]])),
    }),
    (&[], &["a", "a"], |row| Ok(Some(vec![row[0], row[0]]))),
];

/// What aggregates make of the rows of a group.
type Finish = fn(&[(Values, i64)]) -> Values;

/// Groupings of two columns: keys, aggregates, and the same in plain code.
const GROUPINGS: [(&[&str], &[Call<'_>], Finish); 8] = [
    (&["a"], &[(AggregateFunction::Count, None, None, false)], |rows| vec![Some(sum(rows, |_| Some(1)).unwrap_or(0))]),
    (&["b"], &[(AggregateFunction::Sum, Some("a"), None, false)], |rows| vec![sum(rows, |row| row[0])]),
    (&["a"], &[(AggregateFunction::Least, Some("b"), None, false)], |rows| vec![values_of(rows, 1).min()]),
    (&["b"], &[(AggregateFunction::Greatest, Some("a"), Some("a < 4"), false)], |rows| {
        vec![values_of(rows, 0).filter(|a| *a < 4).max()]
    }),
    (&["a"], &[(AggregateFunction::Count, Some("b"), None, true)], |rows| {
        vec![i64::try_from(values_of(rows, 1).collect::<BTreeSet<_>>().len()).ok()]
    }),
    (
        &[],
        &[
            (AggregateFunction::Count, Some("a"), Some("b > 2"), false),
            (AggregateFunction::Sum, Some("b"), None, false),
        ],
        |rows| {
            let is_counted = |row: &Values| row[0].filter(|_| row[1].is_some_and(|b| b > 2)).map(|_| 1);
            vec![Some(sum(rows, is_counted).unwrap_or(0)), sum(rows, |row| row[1])]
        },
    ),
    (
        &[],
        &[(AggregateFunction::Least, Some("a"), None, false), (AggregateFunction::Sum, Some("b"), None, true)],
        |rows| {
            let distinct: BTreeSet<i64> = values_of(rows, 1).collect();
            vec![values_of(rows, 0).min(), distinct.first().map(|_| distinct.iter().sum())]
        },
    ),
    (&["a", "b"], &[], |_rows| vec![]),
];

/// The sum of what is made of each row; none where nothing is.
fn sum(rows: &[(Values, i64)], value: impl Fn(&Values) -> Option<i64>) -> Option<i64> {
    rows.iter().filter_map(|(row, count)| Some(value(row)? * count)).reduce(|a, b| a + b)
}

/// The values of a column that are not null.
fn values_of(rows: &[(Values, i64)], column: usize) -> impl Iterator<Item = i64> {
    rows.iter().filter_map(move |(row, _)| row[column])
}

/// The first rows by the second column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranked {
    /// Of each group of equal first columns.
    pub(super) by_first: bool,
    pub(super) descending: bool,
    pub(super) nulls_first: bool,
    pub(super) offset: usize,
    pub(super) limit: Option<usize>,
    pub(super) with_number: bool,
}

impl Ranked {
    /// Sorts as the order does.
    fn rank(self, value: Option<i64>) -> (bool, i64) {
        let comes_later = value.is_none() != self.nulls_first;
        (comes_later, value.map_or(0, |value| if self.descending { -value } else { value }))
    }
}

impl Plan {
    fn new(operator: Operator, columns: usize, words: String, naive: impl Fn(&mut Now<'_>) -> Bag + 'static) -> Self {
        Self { relation: relation(operator, columns, &words), naive: Rc::new(naive), words }
    }

    pub(super) fn source(number: usize) -> Self {
        let words = format!("source {number}");
        let operator = Operator::View { view: number.to_string().into() };
        Self::new(operator, 2, words, move |now| now.sources[number].clone())
    }

    pub(super) fn constant(rows: &[Values]) -> Self {
        let words = format!("constant {rows:?}");
        let operator = Operator::Constant { rows: rows.iter().map(|values| row(values)).collect() };
        let rows = rows.to_vec();
        Self::new(operator, 2, words, move |_now| bag(rows.iter().map(|row| (row.clone(), 1))))
    }

    pub(super) fn apply(self, number: usize) -> Self {
        let (filters, outputs, scalar) = PROGRAMS[number];
        self.mapped(2, filters, outputs, scalar)
    }

    /// Columns of so many.
    pub(super) fn mapped(self, columns: usize, filters: &[&str], outputs: &[&str], scalar: Scalar) -> Self {
        let words = format!("apply({}, {filters:?} {outputs:?})", self.words);
        let program = program(columns, filters, outputs);
        let fingerprint = Fingerprint::of(&words);
        let operator = Operator::Apply { input: self.relation, program };
        let naive = self.naive;
        Self::new(operator, outputs.len(), words, move |now| {
            let (mut made, mut failed) = (Vec::new(), 0);
            for (row, count) in naive(now) {
                match scalar(&row) {
                    Ok(row) => made.extend(row.map(|row| (row, count))),
                    Err(()) => failed += count,
                }
            }
            now.failed.insert(fingerprint, failed);
            bag(made)
        })
    }

    /// Pairs of equal columns that are not null; of the four columns, the first and the last.
    pub(super) fn join(self, other: Self, columns: [usize; 2]) -> Self {
        let words = format!("join({}, {}, {columns:?})", self.words, other.words);
        let (left, right) = (self.keyed(columns[0]), other.keyed(columns[1]));
        let naive = (self.naive, other.naive);
        let pairs = Self::new(Operator::Join { left, right }, 4, words, move |now| {
            let (left, right) = (naive.0(now), naive.1(now));
            let mut pairs = Vec::new();
            for (a, a_count) in &left {
                for (b, b_count) in &right {
                    if a[columns[0]].is_some() && a[columns[0]] == b[columns[1]] {
                        pairs.push(([&a[..], &b[..]].concat(), a_count * b_count));
                    }
                }
            }
            bag(pairs)
        });
        pairs.mapped(4, &[], &["a", "d"], |row| Ok(Some(vec![row[0], row[3]])))
    }

    pub(super) fn semijoin(self, other: Self, columns: [usize; 2], keep: Keep) -> Self {
        let words = format!("semijoin({}, {}, {columns:?} {keep:?})", self.words, other.words);
        let (left, right) = (self.keyed(columns[0]), other.keyed(columns[1]));
        let naive = (self.naive, other.naive);
        Self::new(Operator::Semijoin { left, right, keep }, 2, words, move |now| {
            let (left, right) = (naive.0(now), naive.1(now));
            let keys: BTreeSet<i64> = right.keys().filter_map(|row| row[columns[1]]).collect();
            let matches = |row: &Values| row[columns[0]].is_some_and(|key| keys.contains(&key));
            bag(left.into_iter().filter(|(row, _)| matches(row) == (keep == Keep::Matches)))
        })
    }

    fn keyed(&self, column: usize) -> Keyed {
        let name = ["a", "b"][column];
        let key = program(2, &[&format!("{name} IS NOT NULL")], &[name]);
        Keyed { input: Arc::clone(&self.relation), key }
    }

    pub(super) fn distinct(self) -> Self {
        let words = format!("distinct({})", self.words);
        let naive = self.naive;
        Self::new(Operator::Distinct { input: self.relation }, 2, words, move |now| once(naive(now)))
    }

    pub(super) fn union(plans: Vec<Self>) -> Self {
        let words: Vec<_> = plans.iter().map(|plan| plan.words.clone()).collect();
        let words = format!("union({})", words.join(", "));
        let inputs = plans.iter().map(|plan| Arc::clone(&plan.relation)).collect();
        Self::new(Operator::Union { inputs }, 2, words, move |now| {
            bag(plans.iter().flat_map(|plan| (plan.naive)(now)).collect::<Vec<_>>())
        })
    }

    /// Rows that count from a multiple of the first column on, until one of the second.
    pub(super) fn temporal(self, from: Option<i64>, until: Option<i64>) -> Self {
        let words = format!("temporal({}, {from:?} {until:?})", self.words);
        let bound = |factor: Option<i64>, name| factor.map(|factor| program(2, &[], &[&format!("{name} * {factor}")]));
        let bounds = Bounds { from: bound(from, "a"), until: bound(until, "b") };
        let naive = self.naive;
        Self::new(Operator::Temporal { input: self.relation, bounds }, 2, words, move |now| {
            let rows = naive(now);
            let time = i64::try_from(now.time).expect("small");
            let begun = |row: &Values| from.is_none_or(|factor| row[0].is_some_and(|a| a * factor <= time));
            let ended = |row: &Values| until.is_some_and(|factor| row[1].is_none_or(|b| b * factor <= time));
            bag(rows.into_iter().filter(|(row, _)| begun(row) && !ended(row)))
        })
    }

    /// What can be reached from the rows of `self` along those of `edges`: another second column at every step.
    pub(super) fn reachable(self, edges: Self, id: u32) -> Self {
        let step = Self::recursion(RecursionId(id)).join(edges, [1, 0]);
        self.recursive(RecursionId(id), step)
    }

    /// The rows of `self`, and those of `step` over what is there already.
    pub(super) fn recursive(self, id: RecursionId, step: Self) -> Self {
        let words = format!("recursive({}, {})", self.words, step.words);
        let (start, naive, step_naive) = (Arc::clone(&self.relation), self.naive, step.naive);
        Self::new(Operator::Recursive { id, start, step: step.relation }, 2, words, move |now| {
            let start = naive(now);
            let mut all = once(start.clone());
            loop {
                now.recursion = Some(all.clone());
                let more = step_naive(now);
                let next = once(bag(start.clone().into_iter().chain(more)));
                if next == all {
                    now.recursion = None;
                    return all;
                }
                all = next;
            }
        })
    }

    /// The recursion itself, for a step.
    pub(super) fn recursion(id: RecursionId) -> Self {
        Self::new(Operator::Recursion { id }, 2, format!("recursion {id:?}"), |now| {
            now.recursion.clone().expect("within a recursion")
        })
    }

    /// A row of two columns for each group.
    pub(super) fn reduce(self, number: usize) -> Self {
        let words = format!("reduce({}, {number})", self.words);
        let (keys, calls, finish) = GROUPINGS[number];
        let operator = Operator::Reduce { input: self.relation, grouping: grouping(keys, calls) };
        let naive = self.naive;
        Self::new(operator, 2, words, move |now| {
            let mut groups: BTreeMap<Values, Vec<(Values, i64)>> = BTreeMap::new();
            if keys.is_empty() {
                groups.insert(Values::new(), Vec::new());
            }
            for (row, count) in naive(now) {
                let key = keys.iter().map(|key| row[usize::from(*key == "b")]).collect();
                groups.entry(key).or_default().push((row, count));
            }
            bag(groups.into_iter().map(|(key, rows)| ([key, finish(&rows)].concat(), 1)))
        })
    }

    /// The first rows of each group, by the second column.
    pub(super) fn top(self, of: Ranked) -> Self {
        let words = format!("top({}, {of:?})", self.words);
        let partition: &[&str] = if of.by_first { &["a"] } else { &[] };
        let order = [("b", of.descending, of.nulls_first)];
        let top = top(partition, &order, of.offset, of.limit, of.with_number);
        let naive = self.naive;
        let columns = if of.with_number { 3 } else { 2 };
        let first = Self::new(Operator::Top { input: self.relation, top }, columns, words, move |now| {
            let mut groups: BTreeMap<Option<i64>, Vec<Values>> = BTreeMap::new();
            for (row, count) in naive(now) {
                let key = row[0].filter(|_| of.by_first);
                let group = groups.entry(key).or_default();
                group.extend(std::iter::repeat_n(row, usize::try_from(count).expect("not negative")));
            }
            let kept = groups.into_values().flat_map(|mut rows| {
                rows.sort_by_key(|row| (of.rank(row[1]), row.clone()));
                let numbered = rows.into_iter().zip(1..).skip(of.offset).take(of.limit.unwrap_or(usize::MAX));
                numbered.map(|(mut row, number)| {
                    row.extend(of.with_number.then_some(Some(number)));
                    (row, 1)
                })
            });
            bag(kept.collect::<Vec<_>>())
        });
        if !of.with_number {
            return first;
        }
        let words = format!("numbers of {}", first.words);
        let program = numbered_program(&["b", "CAST(number AS BIGINT)"]);
        let naive = first.naive;
        Self::new(Operator::Apply { input: first.relation, program }, 2, words, move |now| {
            bag(naive(now).into_iter().map(|(row, count)| (vec![row[1], row[2]], count)))
        })
    }

    /// Some relation over so many sources.
    pub(super) fn random(random: &mut StdRng, sources: usize, depth: usize) -> Self {
        if depth == 0 {
            return if random.random_bool(0.1) {
                Self::constant(&[vec![Some(1), None], vec![Some(3), Some(2)], vec![Some(3), Some(2)]])
            } else {
                Self::source(random.random_range(0..sources))
            };
        }
        let columns = [random.random_range(0..2), random.random_range(0..2)];
        let input = Self::random(random, sources, depth - 1);
        match random.random_range(0..12) {
            0 | 1 => input.apply(random.random_range(0..PROGRAMS.len())),
            2 => {
                let other = random.random_range(0..depth);
                input.join(Self::random(random, sources, other), columns)
            }
            3 => {
                let keep = if random.random_bool(0.5) { Keep::Matches } else { Keep::Others };
                let other = random.random_range(0..depth);
                input.semijoin(Self::random(random, sources, other), columns, keep)
            }
            4 => input.distinct(),
            5 => {
                let other = random.random_range(0..depth);
                Self::union(vec![input, Self::random(random, sources, other)])
            }
            6 => {
                let mut factor = || random.random_bool(0.7).then(|| random.random_range(-1..7));
                input.temporal(factor(), factor())
            }
            7 | 8 => input.reduce(random.random_range(0..GROUPINGS.len())),
            9 | 10 => input.top(Ranked {
                by_first: random.random(),
                descending: random.random(),
                nulls_first: random.random(),
                offset: random.random_range(0..3),
                limit: random.random_bool(0.8).then(|| random.random_range(0..4)),
                with_number: random.random(),
            }),
            _ => {
                let edges = random.random_range(0..depth);
                let edges = Self::random(random, sources, edges);
                input.reachable(edges, random.random())
            }
        }
    }
}

/// Rows with counts, added up.
pub(super) fn bag(rows: impl IntoIterator<Item = (Values, i64)>) -> Bag {
    let mut bag = Bag::new();
    for (row, count) in rows {
        *bag.entry(row).or_default() += count;
    }
    bag.retain(|_, count| *count != 0);
    bag
}

fn once(rows: Bag) -> Bag {
    rows.into_keys().map(|row| (row, 1)).collect()
}
