//! Whether a partition may be read: the state of comparing its log with what is known of it.
//!
//! In: reasons to compare, evidence, failures to get it. Out: when to ask for evidence, and what follows from it.
//! Promises: nothing is taken from the partition while its check is open; a fault counts when it was found twice in a
//! row, because a broker that has just become the leader may not know its log; a check that cannot be decided is tried
//! again, less and less often, and says why. Not here: the evidence (`checker`), the verdict (`identity::verdict`).

use std::time::{Duration, Instant};

use crate::source::identity::verdict::Finding;

/// The first wait before another attempt; it doubles up to the last.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A fault is looked at again after this.
const CONFIRM_AFTER: Duration = Duration::from_millis(500);

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Closed,
    /// Evidence is to be asked for.
    Due(Instant),
    /// Evidence has been asked for.
    OnItsWay,
}

/// What follows from evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The log is the one that is known; the partition may be read.
    Passed,
    /// It is looked at again.
    LookAgain,
    /// It is not.
    Fault(Finding),
}

/// The check of one partition.
#[derive(Debug, Default)]
pub(super) struct Check {
    state: State,
    /// What was found when it was last looked at.
    found: Option<Finding>,
    suspected: Option<Finding>,
    /// Why it is not decided.
    undecided: Option<String>,
    attempts: u32,
    /// Nothing speaks against the log or for it; the other partitions of the topic are heard first.
    defers: bool,
}

impl Check {
    /// Has the log compared, if it is not being so already; whether that is news.
    pub(super) fn want(&mut self, now: Instant) -> bool {
        let is_news = !self.is_open();
        if is_news {
            *self = Self { state: State::Due(now), ..Self::default() };
        }
        is_news
    }

    /// The same, with something found elsewhere that is likely to hold here too.
    pub(super) fn suspect(&mut self, finding: Finding, now: Instant) {
        self.want(now);
        self.suspected = Some(finding);
    }

    /// What is suspected.
    pub(super) fn suspected(&self) -> Option<&Finding> {
        self.suspected.as_ref()
    }

    /// Whether nothing may be taken from the partition.
    pub(super) fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// Why it is not decided; none when it is, or has only begun.
    pub(super) fn undecided(&self) -> Option<&str> {
        self.undecided.as_deref()
    }

    /// Whether evidence is to be asked for now; it is then taken to be on its way.
    pub(super) fn takes_inquiry(&mut self, now: Instant) -> bool {
        let is_due = matches!(self.state, State::Due(at) if at <= now);
        if is_due {
            self.state = State::OnItsWay;
        }
        is_due
    }

    /// Evidence could not be had; whether the reason is news.
    pub(super) fn on_undecided(&mut self, reason: String, now: Instant) -> bool {
        if !self.is_open() {
            return false;
        }
        let wait = BACKOFF_MIN.saturating_mul(1 << self.attempts.min(8)).min(BACKOFF_MAX);
        self.attempts += 1;
        self.state = State::Due(now + wait);
        let is_news = self.undecided.as_deref() != Some(&reason);
        self.undecided = Some(reason);
        is_news
    }

    /// Evidence came, and this was found in it.
    pub(super) fn on_evidence(&mut self, finding: Option<Finding>, now: Instant) -> Outcome {
        let Some(finding) = finding else {
            self.close();
            return Outcome::Passed;
        };
        let is_confirmed = self.found.as_ref().is_some_and(|found| found.fault == finding.fault);
        if is_confirmed {
            self.close();
            return Outcome::Fault(finding);
        }
        self.undecided = Some(format!("{}; it is looked at again", finding.detail));
        self.found = Some(finding);
        self.state = State::Due(now + CONFIRM_AFTER);
        Outcome::LookAgain
    }

    /// Nothing was found, but no record proves the log to be the same either: others of the topic are heard first.
    pub(super) fn defer(&mut self, now: Instant) {
        self.undecided = Some("the other partitions of the topic are compared first".to_owned());
        (self.found, self.defers) = (None, true);
        self.state = State::Due(now + CONFIRM_AFTER);
    }

    /// Whether it will soon say something that matters to others. Not while it waits for others itself, and not while
    /// there is no evidence: nobody waits for a partition without a leader.
    pub(super) fn is_to_be_heard(&self) -> bool {
        self.is_open() && !self.defers && (self.attempts == 0 || self.found.is_some())
    }

    /// It is over.
    pub(super) fn close(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::identity::verdict::IdentityFault;

    fn finding(fault: IdentityFault) -> Finding {
        Finding { fault, detail: "other records".to_owned() }
    }

    fn open(now: Instant) -> Check {
        let mut check = Check::default();
        assert!(!check.is_open() && check.want(now) && !check.want(now) && check.is_open());
        assert!(check.takes_inquiry(now) && !check.takes_inquiry(now), "one inquiry at a time");
        check
    }

    #[test]
    fn a_log_that_is_the_same_passes_at_once() {
        let now = Instant::now();
        let mut check = open(now);
        assert_eq!(check.on_evidence(None, now), Outcome::Passed);
        assert!(!check.is_open() && check.undecided().is_none());
    }

    #[test]
    fn a_fault_counts_when_it_is_found_twice_in_a_row() {
        let now = Instant::now();
        let (cut, other) = (finding(IdentityFault::Truncated), finding(IdentityFault::Recreated));
        let mut check = open(now);
        assert_eq!(check.on_evidence(Some(cut.clone()), now), Outcome::LookAgain);
        assert!(check.is_open() && check.undecided().is_some_and(|reason| reason.contains("other records")));
        assert!(!check.takes_inquiry(now) && check.takes_inquiry(now + CONFIRM_AFTER));
        assert_eq!(check.on_evidence(Some(other.clone()), now), Outcome::LookAgain, "another one");
        assert!(check.takes_inquiry(now + CONFIRM_AFTER));
        assert_eq!(check.on_evidence(Some(other.clone()), now), Outcome::Fault(other));
        assert!(!check.is_open());
        let mut check = open(now);
        assert_eq!(check.on_evidence(Some(cut), now), Outcome::LookAgain);
        assert_eq!(check.on_evidence(None, now), Outcome::Passed, "the leader knows its log by now");
    }

    #[test]
    fn others_wait_for_a_check_only_while_it_gets_on() {
        let now = Instant::now();
        let mut check = Check::default();
        assert!(!check.is_to_be_heard());
        check.want(now);
        assert!(check.is_to_be_heard());
        check.on_undecided("no leader".to_owned(), now);
        assert!(!check.is_to_be_heard());
        check.on_evidence(Some(finding(IdentityFault::Recreated)), now);
        assert!(check.is_to_be_heard());
        check.defer(now);
        assert!(check.is_open() && !check.is_to_be_heard() && check.takes_inquiry(now + CONFIRM_AFTER));
    }

    #[test]
    fn what_cannot_be_decided_is_tried_again_for_ever_and_says_why() {
        let now = Instant::now();
        let mut check = open(now);
        for wait_ms in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            assert_eq!(check.on_undecided("no answer".to_owned(), now), wait_ms == 500);
            assert_eq!(check.undecided(), Some("no answer"));
            assert!(!check.takes_inquiry(now + Duration::from_millis(wait_ms - 1)), "{wait_ms}");
            assert!(check.takes_inquiry(now + Duration::from_millis(wait_ms)), "{wait_ms}");
        }
        assert!(check.is_open());
    }
}
