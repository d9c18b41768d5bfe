//! How often values are there, in order: cheap for one value, since most groups of most queries have few, and the
//! logarithm of how many they are for a million.

use std::collections::BTreeMap;

use super::super::row::Row;

/// With more values than this they are put into a tree. A leaf of one has room for about as many and takes it at once,
/// which a million groups of one value each would feel.
const FEW: usize = 12;

/// Values with counts that are not zero, in order.
#[derive(Debug)]
pub(super) enum Counts {
    Few(Vec<(Row, i64)>),
    Many(BTreeMap<Row, i64>),
}

impl Default for Counts {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Counts {
    /// How often a value is there.
    pub(super) fn get(&self, value: &Row) -> i64 {
        match self {
            Self::Few(few) => few.binary_search_by(|(known, _)| known.cmp(value)).map_or(0, |place| few[place].1),
            Self::Many(many) => many.get(value).copied().unwrap_or(0),
        }
    }

    /// Says how often a value is there.
    pub(super) fn set(&mut self, value: &Row, count: i64) {
        match self {
            Self::Few(few) => match (few.binary_search_by(|(known, _)| known.cmp(value)), count) {
                (Ok(place), 0) => drop(few.remove(place)),
                (Ok(place), _) => few[place].1 = count,
                (Err(_), 0) => {}
                (Err(place), _) if few.len() < FEW => {
                    few.reserve_exact(1);
                    few.insert(place, (value.clone(), count));
                }
                (Err(_), _) => {
                    let many = few.drain(..).chain([(value.clone(), count)]);
                    *self = Self::Many(many.collect());
                }
            },
            Self::Many(many) if count == 0 => {
                many.remove(value);
                // At half of what made it one, so that it does not go back and forth.
                if many.len() <= FEW / 2 {
                    *self = Self::Few(std::mem::take(many).into_iter().collect());
                }
            }
            Self::Many(many) => match many.get_mut(value) {
                Some(known) => *known = count,
                None => drop(many.insert(value.clone(), count)),
            },
        }
    }

    /// How many different values there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    /// Whether there is no value.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The least value that is there.
    pub(super) fn least(&self) -> Option<&Row> {
        match self {
            Self::Few(few) => few.iter().find(|(_, count)| *count > 0).map(|(value, _)| value),
            Self::Many(many) => many.iter().find(|(_, count)| **count > 0).map(|(value, _)| value),
        }
    }

    /// The greatest value that is there.
    pub(super) fn greatest(&self) -> Option<&Row> {
        match self {
            Self::Few(few) => few.iter().rfind(|(_, count)| *count > 0).map(|(value, _)| value),
            Self::Many(many) => many.iter().rfind(|(_, count)| **count > 0).map(|(value, _)| value),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn few_and_many_are_what_one_map_would_be() {
        let mut random = StdRng::seed_from_u64(1);
        for most in [3, 10, 20, 60] {
            let (mut counts, mut known) = (Counts::default(), BTreeMap::new());
            for _ in 0..2_000 {
                let value = Row::from(&[random.random_range(0..most)][..]);
                let count = random.random_range(-1..2);
                counts.set(&value, count);
                known.insert(value, count);
                known.retain(|_, count| *count != 0);
                assert!(known.iter().all(|(value, count)| counts.get(value) == *count));
                assert_eq!((counts.len(), counts.is_empty()), (known.len(), known.is_empty()));
                let mut there = known.iter().filter(|(_, count)| **count > 0).map(|(value, _)| value);
                let (least, greatest) = (there.next(), there.next_back());
                assert_eq!((counts.least(), counts.greatest()), (least, greatest.or(least)));
            }
        }
    }
}
