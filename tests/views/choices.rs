//! Random decisions that are remembered, so that what was made of them can be made again, and smaller.
//!
//! Whoever generates asks for decisions, one by one. Given back with some left out or lessened, they make something else
//! that is alike and simpler: 0 is always the simplest choice, and where none are left, all are 0. So shrinking knows
//! nothing of what is generated.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Where decisions come from.
#[derive(Debug)]
pub struct Choices {
    taken: Vec<u32>,
    given: Vec<u32>,
    random: Option<StdRng>,
}

impl Choices {
    /// New ones.
    pub fn of_seed(seed: u64) -> Self {
        Self { taken: Vec::new(), given: Vec::new(), random: Some(StdRng::seed_from_u64(seed)) }
    }

    /// These, and then zeros.
    pub fn given(given: Vec<u32>) -> Self {
        Self { taken: Vec::new(), given, random: None }
    }

    /// What was decided.
    pub fn taken(self) -> Vec<u32> {
        self.taken
    }

    /// One of so many.
    pub fn below(&mut self, count: usize) -> usize {
        let count = u32::try_from(count).expect("few choices");
        let choice = match (&mut self.random, self.given.get(self.taken.len())) {
            (Some(random), _) => random.random_range(0..count),
            (None, given) => given.copied().unwrap_or(0).min(count - 1),
        };
        self.taken.push(choice);
        choice as usize
    }

    /// Between these, both included.
    pub fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    /// Something that is so in so many of a hundred cases; 0 is no.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent
    }

    /// One of these; the first is the simplest.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// The place of one of these weights; the first is the simplest.
    pub fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut choice = self.below(weights.iter().sum());
        for (place, weight) in weights.iter().enumerate() {
            if choice < *weight {
                return place;
            }
            choice -= weight;
        }
        unreachable!("the choice is below the sum")
    }
}

/// The simplest decisions found for which `fails` still holds, within so many tries. It is given candidates and answers
/// with the decisions that were in fact taken, where it holds.
pub fn shrink(mut best: Vec<u32>, mut tries: usize, mut fails: impl FnMut(Vec<u32>) -> Option<Vec<u32>>) -> Vec<u32> {
    let is_simpler = |one: &Vec<u32>, other: &Vec<u32>| (one.len(), one) < (other.len(), other);
    loop {
        let before = best.clone();
        let mut width = best.len().next_power_of_two();
        while width > 0 {
            let mut at = 0;
            while at < best.len() {
                let end = (at + width).min(best.len());
                let without = [&best[..at], &best[end..]].concat();
                let mut zeroed = best.clone();
                zeroed[at..end].fill(0);
                let mut halved = best.clone();
                halved[at..end].iter_mut().for_each(|choice| *choice /= 2);
                let mut lessened = best.clone();
                lessened[at] = lessened[at].saturating_sub(1);
                let simpler = [without, zeroed, halved, lessened].into_iter().find_map(|candidate| {
                    if tries == 0 || !is_simpler(&candidate, &best) {
                        return None;
                    }
                    tries -= 1;
                    fails(candidate).filter(|taken| is_simpler(taken, &best))
                });
                match simpler {
                    Some(simpler) => best = simpler,
                    None => at += width,
                }
            }
            width /= 2;
        }
        if tries == 0 || best == before {
            return best;
        }
    }
}

#[test]
fn what_fails_is_shrunk_to_what_matters() {
    let make = |choices: &mut Choices| -> Vec<usize> {
        let count = choices.below(20);
        (0..count).map(|_| choices.below(1_000)).collect()
    };
    for seed in 0..50 {
        let mut choices = Choices::of_seed(seed);
        let has_great = |made: &[usize]| made.iter().any(|one| *one >= 100);
        if !has_great(&make(&mut choices)) {
            continue;
        }
        let least = shrink(choices.taken(), 1_000, |candidate| {
            let mut choices = Choices::given(candidate);
            has_great(&make(&mut choices)).then(|| choices.taken())
        });
        let made = make(&mut Choices::given(least));
        let left: Vec<&usize> = made.iter().filter(|one| **one > 0).collect();
        assert!(matches!(left[..], [100..200]), "seed {seed}: {made:?}");
    }
}
