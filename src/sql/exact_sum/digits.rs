//! Whole numbers of any size, small where they are zero.
//!
//! In base 2^64 with digits from -2^63 to 2^63 - 1 every whole number is written in one way alone, so equal numbers are
//! equal values. Such a number stays short where a small one is taken from a large one: 2^1000 - 1 has two digits that are
//! not zero, where with digits from zero up it would have sixteen. Only those that are not zero are kept, two of them in
//! place. Places go up to 63; whoever adds sees to it that no carry passes the last.

use serde::{Deserialize, Serialize};

/// A whole number, or several, laid so far apart that they do not meet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Digits {
    /// A bit for each place whose digit is not zero.
    places: u64,
    kept: Kept,
}

/// The digits that are not zero, lowest place first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Kept {
    /// Two at most; what is not used is zero.
    InPlace([i64; 2]),
    /// Three at least.
    Apart(Box<[i64]>),
}

impl Digits {
    /// Nothing.
    pub(super) const ZERO: Self = Self { places: 0, kept: Kept::InPlace([0; 2]) };

    /// Whether it is nothing.
    pub(super) fn is_zero(&self) -> bool {
        self.places == 0
    }

    /// A bit for each place whose digit is not zero.
    pub(super) fn places(&self) -> u64 {
        self.places
    }

    /// The digits that are not zero with their places, lowest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        let digits = match &self.kept {
            Kept::InPlace(two) => &two[..self.count()],
            Kept::Apart(digits) => digits,
        };
        let mut places = self.places;
        digits.iter().map(move |digit| {
            let place = places.trailing_zeros();
            places &= places - 1;
            (place, *digit)
        })
    }

    /// Adds a digit at a place, and what it carries over at the places above.
    #[inline]
    pub(super) fn add_at(&mut self, mut place: u32, mut digit: i64) {
        while digit != 0 {
            let rank = self.rank(place);
            if self.places & (1 << place) == 0 {
                return self.insert(place, rank, digit);
            }
            let slot = match &mut self.kept {
                Kept::InPlace(two) => &mut two[rank],
                Kept::Apart(digits) => &mut digits[rank],
            };
            let (sum, carries) = slot.overflowing_add(digit);
            if sum == 0 {
                self.remove(place, rank)
            } else {
                *slot = sum
            }
            digit = if carries { digit.signum() } else { 0 };
            place += 1;
        }
    }

    /// Adds so many times another one.
    pub(super) fn add_times(&mut self, other: &Self, count: i64) {
        for (place, digit) in other.iter() {
            let product = i128::from(digit) * i128::from(count);
            let low = product as i64;
            self.add_at(place, low);
            self.add_at(place + 1, ((product - i128::from(low)) >> 64) as i64);
        }
    }

    fn count(&self) -> usize {
        self.places.count_ones() as usize
    }

    /// How many digits below a place are not zero.
    #[inline]
    fn rank(&self, place: u32) -> usize {
        (self.places & ((1 << place) - 1)).count_ones() as usize
    }

    fn insert(&mut self, place: u32, rank: usize, digit: i64) {
        match &mut self.kept {
            Kept::InPlace(two) if two[1] == 0 => {
                if rank == 0 {
                    two[1] = two[0];
                }
                two[rank] = digit;
            }
            Kept::InPlace(two) => {
                let mut three = [two[0], two[1], 0];
                three.copy_within(rank..2, rank + 1);
                three[rank] = digit;
                self.kept = Kept::Apart(Box::new(three));
            }
            Kept::Apart(digits) => {
                let (below, above) = digits.split_at(rank);
                *digits = [below, &[digit], above].concat().into();
            }
        }
        self.places |= 1 << place;
    }

    fn remove(&mut self, place: u32, rank: usize) {
        match &mut self.kept {
            Kept::InPlace(two) => {
                if rank == 0 {
                    two[0] = two[1];
                }
                two[1] = 0;
            }
            Kept::Apart(digits) => {
                let rest = [&digits[..rank], &digits[rank + 1..]].concat();
                self.kept = match *rest {
                    [low, high] => Kept::InPlace([low, high]),
                    _ => Kept::Apart(rest.into()),
                };
            }
        }
        self.places &= !(1 << place);
    }
}
