//! Regular expressions: how long they take is bounded before they are made ready.
//!
//! A search takes at most about as many steps as the text has bytes, times the states of the pattern. `{0,900}` makes nine
//! hundred of one. Often it takes far fewer, but what is dear is a row's failure and not everybody's wait.

use datafusion::common::{Result, exec_err};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::given::Given;

/// A pattern has no more states.
const STATES_MAX: u64 = 50_000;
/// And a search no more steps for a row.
const STEPS_MAX: u64 = 16 * 1024 * 1024;
/// A class of letters of all languages has more ranges than it becomes states.
const CLASS_STATES_MAX: u64 = 256;

/// Whether a pattern keeps to the bound in every text that there can be.
pub(in crate::sql) fn is_always_quick(pattern: &str) -> bool {
    states(pattern).saturating_mul(super::TEXT_BYTES_MAX) <= STEPS_MAX
}

/// An error where the search in a text of some row may take too long; the text is the first argument, its pattern the
/// second.
pub(super) fn check(called: &str, given: &Given) -> Result<()> {
    let mut constant = None;
    for row in 0..given.rows() {
        let states = match constant {
            Some(states) => states,
            None => given.text(1, row).map_or(0, |pattern| states(&pattern)),
        };
        constant = given.count().gt(&1).then(|| given.is_constant(1).then_some(states)).flatten();
        if states > STATES_MAX {
            return exec_err!(
                "{called} has a pattern that becomes {states} states; {STATES_MAX} are allowed, so let it repeat less"
            );
        }
        let steps = given.size(0, row).saturating_mul(states);
        if steps > STEPS_MAX {
            return exec_err!(
                "{called} may take {steps} steps (bytes of the text times states of the pattern); {STEPS_MAX} are \
                 allowed, so give it a shorter text or let the pattern repeat less"
            );
        }
    }
    Ok(())
}

/// About how many states a pattern becomes; none where it is no pattern, which whoever makes it ready says.
fn states(pattern: &str) -> u64 {
    regex_syntax::parse(pattern).map_or(0, |parsed| states_of(&parsed))
}

fn states_of(pattern: &Hir) -> u64 {
    let sum = |parts: &[Hir]| parts.iter().fold(0_u64, |sum, part| sum.saturating_add(states_of(part)));
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(Class::Bytes(_)) => 1,
        HirKind::Class(Class::Unicode(class)) => {
            let ranges = class.iter().map(|range| if range.end().is_ascii() { 1 } else { 4 });
            ranges.sum::<u64>().min(CLASS_STATES_MAX)
        }
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min.saturating_add(1)).max(1);
            states_of(&repetition.sub).saturating_mul(u64::from(times)).saturating_add(1)
        }
        HirKind::Capture(capture) => states_of(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) => sum(parts),
        HirKind::Alternation(parts) => sum(parts).saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_count_as_often_as_they_repeat() {
        assert_eq!(states("abc"), 3);
        assert_eq!(states("^[a-z0-9]+$"), 2 + 2 * 2 + 1);
        assert_eq!(states("(no pattern"), 0);
        assert!((5_000..50_000).contains(&states("(a|b|c|.){0,900}z{3}")), "{}", states("(a|b|c|.){0,900}z{3}"));
        assert!(states("((a{1000}){1000}){1000}") > STATES_MAX);
        assert!(is_always_quick("^web-[0-9]+$") && !is_always_quick(r"\d{3}"));
    }
}
