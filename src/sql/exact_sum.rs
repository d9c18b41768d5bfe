//! Sums that are exact: whatever is added, in whatever order, and taken away again, leaves no trace.
//!
//! In: numbers of 64-bit floating point, or whole numbers of up to 256 bits; a sum is of one kind, and whoever made it
//! knows which. Out: the sum or the mean, rounded once, to the nearest float (of two equally near the one that is even), or
//! as a whole number. Equal sums are equal values. What is not finite is counted apart, so that it can be taken away too.
//!
//! A finite float is a multiple of 2^-1074, so a sum of floats is a whole number of those. The unit here is 2^-1088: then a
//! place of [`Digits`] ends where fractions begin, and whole numbers, which are most of what is summed, have one digit.

mod digits;
#[cfg(test)]
mod tests;

use std::num::NonZeroU64;

use datafusion::arrow::datatypes::i256;
use serde::{Deserialize, Serialize};

use digits::Digits;

/// The sum of some numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExactSum(Digits);

/// The bit of the unit at which the lowest bit of a float stands.
const FLOAT_SHIFT: u32 = 14;
/// Bits of a float's mantissa, the first of which is not written.
const MANTISSA_BITS: u32 = f64::MANTISSA_DIGITS;
/// The exponent of what is not finite.
const NOT_FINITE: u64 = 0x7ff;
/// Places of the number itself: the greatest float, 2^63 times, ends in the 34th.
const NUMBER_PLACES: usize = 36;
/// Places of counters, far above.
const NAN_PLACE: u32 = 61;
const INFINITY_PLACE: u32 = 62;
const NEGATIVE_INFINITY_PLACE: u32 = 63;

impl Default for ExactSum {
    fn default() -> Self {
        Self::ZERO
    }
}

impl ExactSum {
    /// Of no number.
    pub const ZERO: Self = Self(Digits::ZERO);

    /// Whether nothing is left.
    pub fn is_zero(&self) -> bool {
        self.0.is_zero()
    }

    /// Adds a float.
    pub fn add_float(&mut self, value: f64) {
        let bits = value.to_bits();
        let fraction = bits & ((1 << (MANTISSA_BITS - 1)) - 1);
        let exponent = bits >> (MANTISSA_BITS - 1) & NOT_FINITE;
        if exponent == NOT_FINITE {
            let place = match (fraction, value > 0.0) {
                (0, true) => INFINITY_PLACE,
                (0, false) => NEGATIVE_INFINITY_PLACE,
                _ => NAN_PLACE,
            };
            return self.0.add_at(place, 1);
        }
        // Subnormal floats have the least exponent, and no bit that is not written.
        let mantissa = if exponent == 0 { fraction } else { fraction | 1 << (MANTISSA_BITS - 1) };
        let shift = exponent.max(1) as u32 - 1 + FLOAT_SHIFT;
        let magnitude = i128::from(mantissa) << (shift % 64);
        let wide = if value.is_sign_negative() { -magnitude } else { magnitude };
        let low = wide as i64;
        self.0.add_at(shift / 64, low);
        self.0.add_at(shift / 64 + 1, ((wide - i128::from(low)) >> 64) as i64);
    }

    /// Adds a whole number.
    pub fn add_small_integer(&mut self, value: i64) {
        self.0.add_at(0, value);
    }

    /// Adds a whole number.
    pub fn add_integer(&mut self, value: i256) {
        let (low, high) = value.to_parts();
        let words = [low as u64, (low >> 64) as u64, high as u64];
        for (place, word) in (0..).zip(words) {
            // A word from 2^63 up is the digit that is 2^64 less, and one at the place above.
            self.0.add_at(place, word as i64);
            self.0.add_at(place + 1, i64::from((word as i64) < 0));
        }
        self.0.add_at(3, (high >> 64) as i64);
    }

    /// Adds another sum so many times, or takes it away.
    pub fn add_times(&mut self, other: &Self, count: i64) {
        match count {
            1 => other.0.iter().for_each(|(place, digit)| self.0.add_at(place, digit)),
            _ => self.0.add_times(&other.0, count),
        }
    }

    /// The sum divided by a number, as the nearest float.
    pub fn float(&self, divisor: NonZeroU64) -> f64 {
        if let Some(value) = self.not_finite() {
            return value;
        }
        let Number { negative, mut limbs } = self.number();
        let rest = divide(&mut limbs, divisor);
        let sign = u64::from(negative) << 63;
        let Some(top) = limbs.iter().rposition(|limb| *limb != 0) else {
            // Less than any float, or nothing at all.
            return f64::from_bits(sign);
        };
        let length = 64 * top as u32 + 64 - limbs[top].leading_zeros();
        // What is shifted out is below the mantissa, and below what any float has.
        let shift = length.saturating_sub(MANTISSA_BITS).max(FLOAT_SHIFT);
        let mantissa = bits_from(&limbs, shift);
        let half = bits_from(&limbs, shift - 1) & 1 == 1;
        let beyond = rest || has_bits_below(&limbs, shift - 1);
        let up = half && (beyond || mantissa & 1 == 1);
        // The exponent of a float follows its mantissa, and carries over from it as it should: what is rounded up to the
        // next power of two is that, and what is beyond the greatest float is infinite.
        let exponent = u64::from(shift - FLOAT_SHIFT) << (MANTISSA_BITS - 1);
        let rounded = exponent + mantissa + u64::from(up);
        f64::from_bits(sign | rounded.min(NOT_FINITE << (MANTISSA_BITS - 1)))
    }

    /// The sum divided by a number, without its fraction; none if it is beyond 256 bits.
    pub fn integer(&self, divisor: NonZeroU64) -> Option<i256> {
        let Number { negative, mut limbs } = self.number();
        divide(&mut limbs, divisor);
        let (words, above) = limbs.split_at(4);
        let wide = |low: u64, high: u64| u128::from(high) << 64 | u128::from(low);
        let magnitude = i256::from_parts(wide(words[0], words[1]), wide(words[2], words[3]) as i128);
        let fits = above.iter().all(|limb| *limb == 0) && !magnitude.is_negative();
        fits.then(|| if negative { magnitude.wrapping_neg() } else { magnitude })
    }

    /// What the sum is if not all that was added is finite.
    fn not_finite(&self) -> Option<f64> {
        let has = |place: u32| self.0.places() >> place & 1 == 1;
        match (has(NAN_PLACE), has(INFINITY_PLACE), has(NEGATIVE_INFINITY_PLACE)) {
            (false, false, false) => None,
            (false, true, false) => Some(f64::INFINITY),
            (false, false, true) => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    /// What is finite of it.
    fn number(&self) -> Number {
        let mut digits = [0; NUMBER_PLACES];
        let mut highest = 0;
        for (place, digit) in self.0.iter().take_while(|(place, _)| (*place as usize) < NUMBER_PLACES) {
            digits[place as usize] = digit;
            highest = digit;
        }
        let negative = highest < 0;
        let mut carry = 0;
        let limbs = digits.map(|digit| {
            let sign = if negative { -1 } else { 1 };
            let limb = sign * i128::from(digit) + carry;
            carry = limb >> 64;
            limb as u64
        });
        Number { negative, limbs }
    }
}

/// A whole number with digits from zero up, lowest first.
struct Number {
    negative: bool,
    limbs: [u64; NUMBER_PLACES],
}

/// Divides in place; whether there is a rest.
fn divide(limbs: &mut [u64], divisor: NonZeroU64) -> bool {
    if divisor == NonZeroU64::MIN {
        return false;
    }
    let divisor = u128::from(divisor.get());
    let mut rest = 0;
    for limb in limbs.iter_mut().rev().skip_while(|limb| **limb == 0) {
        let wide = rest << 64 | u128::from(*limb);
        *limb = (wide / divisor) as u64;
        rest = wide % divisor;
    }
    rest != 0
}

/// The 64 bits from a bit on.
fn bits_from(limbs: &[u64], bit: u32) -> u64 {
    let (place, offset) = ((bit / 64) as usize, bit % 64);
    let above = limbs.get(place + 1).copied().unwrap_or(0);
    (u128::from(above) << 64 >> offset) as u64 | limbs[place] >> offset
}

/// Whether any bit below a bit is set.
fn has_bits_below(limbs: &[u64], bit: u32) -> bool {
    let (place, offset) = ((bit / 64) as usize, bit % 64);
    limbs[..place].iter().any(|limb| *limb != 0) || limbs[place] & ((1 << offset) - 1) != 0
}
