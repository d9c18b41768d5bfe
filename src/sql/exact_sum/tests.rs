//! Sums against whole numbers of any size, of another library, and rounding against a search for the nearest float.

use std::num::NonZeroU64;

use num_bigint::BigInt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;

/// A float, or what would be the next one after the greatest, in units of the least.
fn exact(bits: u64) -> BigInt {
    let (exponent, fraction) = (bits >> 52 & 0x7ff, bits & ((1 << 52) - 1));
    let mantissa = if exponent == 0 { fraction } else { fraction | 1 << 52 };
    let magnitude = BigInt::from(mantissa) << exponent.saturating_sub(1);
    if bits >> 63 == 1 { -magnitude } else { magnitude }
}

/// The float nearest to a fraction of units, found by halving what it may be.
fn nearest(numerator: &BigInt, divisor: u64) -> f64 {
    let magnitude = BigInt::from(numerator.magnitude().clone());
    let distance = |bits: u64| exact(bits) * divisor - &magnitude;
    let infinity = f64::INFINITY.to_bits();
    let (mut below, mut above) = (0, infinity);
    while above - below > 1 {
        let middle = below + (above - below) / 2;
        if distance(middle) <= BigInt::ZERO { below = middle } else { above = middle }
    }
    let (down, up) = (-distance(below), distance(above));
    let bits = if down < up || (down == up && below % 2 == 0) { below } else { above };
    let sign = if *numerator < BigInt::ZERO { -1.0 } else { 1.0 };
    sign * f64::from_bits(bits)
}

fn random_float(random: &mut StdRng) -> f64 {
    match random.random_range(0..10) {
        0 => f64::from_bits(random.random::<u64>() & (1 << 63 | ((1 << 52) - 1))),
        1 => [0.0, -0.0, f64::MIN_POSITIVE, f64::MAX, -f64::MAX, 5e-324, 1e16, 1.0, -1e16][random.random_range(0..9)],
        2 | 3 => f64::from(random.random_range(-1_000_000..1_000_000)) / 100.0,
        4 => f64::from(random.random_range(-1_000..1_000)),
        _ => {
            let value = f64::from_bits(random.random());
            if value.is_finite() { value } else { 0.5 }
        }
    }
}

fn one() -> NonZeroU64 {
    NonZeroU64::MIN
}

fn sum_of(values: &[f64]) -> ExactSum {
    let mut sum = ExactSum::ZERO;
    values.iter().for_each(|value| sum.add_float(*value));
    sum
}

fn bits(value: f64) -> u64 {
    value.to_bits()
}

#[test]
fn sums_of_floats_are_rounded_once_in_any_order_and_leave_no_trace() {
    for seed in 0..3_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let length = random.random_range(0..40);
        let mut values: Vec<f64> = (0..length).map(|_| random_float(&mut random)).collect();
        if random.random_bool(0.2) {
            // Values that take each other away but for the last bits.
            let negatives: Vec<f64> = values.iter().map(|value| -value.next_up().min(f64::MAX)).collect();
            values.extend(negatives);
        }
        let expected: BigInt = values.iter().map(|value| exact(value.to_bits())).sum();
        let sum = sum_of(&values);
        assert_eq!(bits(sum.float(one())), bits(nearest(&expected, 1)), "seed {seed}");

        let divisor = random.random::<u64>() >> random.random_range(1..64);
        let divisor = NonZeroU64::new(divisor.max(1)).expect("at least one");
        assert_eq!(bits(sum.float(divisor)), bits(nearest(&expected, divisor.get())), "seed {seed} by {divisor}");

        values.shuffle(&mut random);
        assert_eq!(sum, sum_of(&values), "seed {seed}: the order does not matter");
        let (kept, gone) = values.split_at(random.random_range(0..=values.len()));
        let mut rest = sum;
        for value in gone {
            rest.add_times(&sum_of(&[*value]), -1);
        }
        assert_eq!(rest, sum_of(kept), "seed {seed}: what is taken away leaves no trace");
        rest.add_times(&sum_of(kept), -1);
        assert_eq!(rest, ExactSum::ZERO, "seed {seed}");
    }
}

#[test]
fn what_lies_between_two_floats_goes_to_the_even_one_and_what_is_beyond_to_the_nearer() {
    for seed in 0..2_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let value = f64::from_bits(random.random_range(1_u64 << 53..f64::MAX.to_bits()));
        let half = (value.next_up() - value) / 2.0;
        let least = f64::from_bits(1);
        assert_eq!(sum_of(&[value, half]).float(one()).to_bits() % 2, 0, "seed {seed}: {value:e} and a half");
        assert_eq!(sum_of(&[value, half, least]).float(one()), value.next_up(), "seed {seed}");
        assert_eq!(sum_of(&[value, half, -least]).float(one()), value, "seed {seed}");
        // The same as a mean: half of an odd number of the least floats.
        let odd = f64::from_bits(random.random_range(0..1_u64 << 50) * 2 + 1);
        let two = NonZeroU64::new(2).expect("not zero");
        let mean = sum_of(&[odd]).float(two);
        assert_eq!((mean.to_bits() % 2, bits(mean)), (0, bits(nearest(&exact(odd.to_bits()), 2))), "seed {seed}");
        assert_eq!(bits(sum_of(&[-odd]).float(two)), bits(-mean), "seed {seed}");
    }
}

#[test]
fn so_many_times_a_sum_is_added_so_often() {
    for seed in 0..500 {
        let mut random = StdRng::seed_from_u64(seed);
        let values: Vec<f64> = (0..random.random_range(0..5)).map(|_| random_float(&mut random)).collect();
        let (sum, count) = (sum_of(&values), random.random_range(-20..20));
        let mut often = sum_of(&[0.1]);
        (0..count).for_each(|_| often.add_times(&sum, 1));
        (count..0).for_each(|_| often.add_times(&sum, -1));
        let mut once = sum_of(&[0.1]);
        once.add_times(&sum, count);
        assert_eq!(once, often, "seed {seed}");
    }
}

#[test]
fn a_small_number_outlives_a_large_one() {
    let mut sum = sum_of(&[1e16, 1.0, -1e16]);
    assert_eq!(sum.float(one()), 1.0);
    assert_eq!(sum, sum_of(&[1.0]));
    sum.add_float(f64::MAX);
    sum.add_float(f64::MAX);
    assert_eq!(sum.float(one()), f64::INFINITY, "the sum is beyond what a float holds");
    assert_eq!(sum.float(NonZeroU64::new(2).expect("not zero")), f64::MAX, "and half of it is not");
    sum.add_times(&sum_of(&[f64::MAX]), -2);
    sum.add_times(&sum_of(&[5e-324]), -1);
    assert_eq!(sum.float(one()), 1.0);
    sum.add_times(&sum_of(&[1.0]), -1);
    assert_eq!(sum.float(one()), -5e-324);
}

#[test]
fn the_sum_of_nothing_is_zero_and_has_no_sign() {
    assert_eq!(bits(ExactSum::ZERO.float(one())), 0);
    assert_eq!(sum_of(&[-0.0, -0.0]), ExactSum::ZERO);
    assert_eq!(bits(sum_of(&[1.5, -1.5]).float(one())), 0);
}

#[test]
fn what_is_not_finite_is_taken_away_too() {
    let (nan, above, below) = (f64::NAN, f64::INFINITY, f64::NEG_INFINITY);
    assert_eq!(sum_of(&[1.0, above]).float(one()), above);
    assert_eq!(sum_of(&[below, f64::MAX, below]).float(one()), below);
    let mut sum = sum_of(&[above, 1.0, below, -nan]);
    assert_eq!(bits(sum.float(one())), bits(nan));
    sum.add_times(&sum_of(&[nan]), -1);
    assert_eq!(bits(sum.float(one())), bits(nan), "infinities of both signs have no sum");
    sum.add_times(&sum_of(&[below]), -1);
    assert_eq!(sum.float(one()), above);
    sum.add_times(&sum_of(&[above]), -1);
    assert_eq!(sum, sum_of(&[1.0]));
}

#[test]
fn sums_of_whole_numbers_are_exact() {
    for seed in 0..2_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let values: Vec<i256> = (0..random.random_range(1..20)).map(|_| random_integer(&mut random)).collect();
        let mut sum = ExactSum::ZERO;
        let mut expected = BigInt::ZERO;
        for value in &values {
            sum.add_integer(*value);
            expected += big(*value);
        }
        let divisor = NonZeroU64::new(random.random::<u64>() >> random.random_range(1..64)).unwrap_or(one());
        for divisor in [one(), divisor] {
            let expected = &expected / divisor.get();
            match sum.integer(divisor) {
                Some(value) => assert_eq!(big(value), expected, "seed {seed}"),
                None => assert!(*expected.magnitude() >= BigInt::from(1).magnitude() << 255_u32, "seed {seed}"),
            }
        }
        let mut small = ExactSum::ZERO;
        small.add_small_integer(values[0].to_parts().0 as i64);
        let mut wide = ExactSum::ZERO;
        wide.add_integer(i256::from(values[0].to_parts().0 as i64));
        assert_eq!(small, wide, "seed {seed}");
    }
}

/// From -2^255 up, of any size, and those where digits carry over.
fn random_integer(random: &mut StdRng) -> i256 {
    let words: [u64; 4] = std::array::from_fn(|_| match random.random_range(0..6) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << 63,
        3 => (1 << 63) - 1,
        _ => random.random(),
    });
    let mut bytes = [0; 32];
    words.iter().zip(bytes.chunks_mut(8)).for_each(|(word, bytes)| bytes.copy_from_slice(&word.to_le_bytes()));
    let shift = random.random_range(0..=255);
    i256::from_le_bytes(bytes) >> shift
}

fn big(value: i256) -> BigInt {
    BigInt::from_signed_bytes_le(&value.to_le_bytes())
}
