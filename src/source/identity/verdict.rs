//! Whether the log that is found is the one that was read: a pure decision.
//!
//! In: what was known of a partition and its log ([`Expected`]), and what is found now ([`Observed`]). Out: nothing
//! when it is the same log and has the next offset, else a [`Finding`] that names the fault and says what was expected
//! and what was found. Promises: a record that is gone is no evidence, because compaction and retention take records;
//! only a record that is there and is another one speaks against a log, and one that is the same speaks for it.
//! Not here: how any of it is learned.

use super::Fingerprint;

/// What is wrong with a log, in words for status, metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityFault {
    /// The cluster has another id.
    AnotherCluster,
    /// The topic has fewer partitions than it had, so it is another topic of that name.
    FewerPartitions,
    /// Other records stand where those stood that were read.
    Recreated,
    /// The log ends before the position, or was cut there and grew again.
    Truncated,
    /// The log begins after the position: retention took records that were not read.
    RetentionPassed,
}

impl IdentityFault {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Self::AnotherCluster, Self::FewerPartitions, Self::Recreated, Self::Truncated, Self::RetentionPassed];

    /// Its name over HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnotherCluster => "another_cluster",
            Self::FewerPartitions => "fewer_partitions",
            Self::Recreated => "recreated",
            Self::Truncated => "truncated",
            Self::RetentionPassed => "retention_passed",
        }
    }
}

/// A fault that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub fault: IdentityFault,
    /// What was expected, and what was found.
    pub detail: String,
}

/// What is known of a partition and its log.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// How many partitions the topic had.
    pub partition_count: Option<u32>,
    /// The next offset to be read; none when nothing was read.
    pub next: Option<i64>,
    /// Records that were read.
    pub fingerprints: Vec<Fingerprint>,
    /// What has been found already: of the whole log in another partition, or by the client. Without proof of the
    /// contrary it holds here too.
    pub suspected: Option<Finding>,
}

/// What became of a record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Where it stood.
    pub offset: i64,
    /// What stands there now; none when it is gone.
    pub record: Option<Fingerprint>,
}

/// What is found of a partition and its log.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The cluster's id, where it tells one.
    pub cluster_id: Option<String>,
    /// How many partitions the topic has.
    pub partition_count: u32,
    /// The first offset of the log.
    pub start: i64,
    /// The end of the log.
    pub end: i64,
    /// The fingerprinted records that may be in it, newest first, up to one that is the same.
    pub records: Vec<Seen>,
}

impl Finding {
    fn some(fault: IdentityFault, detail: String) -> Option<Self> {
        Some(Self { fault, detail })
    }
}

/// Whether a record that was read stands where it stood: then it is the same log.
pub fn is_proven(expected: &Expected, observed: &Observed) -> bool {
    observed.records.iter().any(|seen| is_same(expected, seen))
}

fn is_same(expected: &Expected, seen: &Seen) -> bool {
    seen.record.is_some_and(|record| expected.fingerprints.contains(&record))
}

/// What is wrong with the log; none when it is the one that was read and has the next offset.
pub fn judge(expected: &Expected, observed: &Observed) -> Option<Finding> {
    use IdentityFault as Fault;
    let matched = observed.records.iter().find(|seen| is_same(expected, seen));
    let another = observed.records.iter().find(|seen| seen.record.is_some() && !is_same(expected, seen));

    if let (Some(known), Some(found)) = (&expected.cluster_id, &observed.cluster_id)
        && known != found
    {
        return Finding::some(Fault::AnotherCluster, format!("cluster {known} was expected, and this is {found}"));
    }
    if let Some(known) = expected.partition_count.filter(|known| *known > observed.partition_count) {
        let found = observed.partition_count;
        let detail = format!("{known} partitions were expected, and the topic has {found}");
        return Finding::some(Fault::FewerPartitions, detail);
    }
    match &expected.suspected {
        // The same record at the same offset is no accident: this partition is still what it was.
        Some(Finding { fault: Fault::Recreated, .. }) if matched.is_some() => {}
        Some(Finding { fault: Fault::Truncated | Fault::RetentionPassed, .. }) | None => {}
        Some(suspected) => return Some(suspected.clone()),
    }
    if let Some(other) = another {
        let detail = contradiction(expected, other);
        return match matched {
            None => Finding::some(Fault::Recreated, detail),
            Some(Seen { offset, .. }) => {
                Finding::some(Fault::Truncated, format!("{detail}; the log is the same up to offset {offset}"))
            }
        };
    }
    if let Some(suspected) = expected.suspected.as_ref().filter(|suspected| suspected.fault != Fault::Recreated) {
        return Some(suspected.clone());
    }
    match expected.next {
        Some(next) if next > observed.end => Finding::some(Fault::Truncated, out_of_range(next, observed)),
        Some(next) if next < observed.start => Finding::some(Fault::RetentionPassed, out_of_range(next, observed)),
        _ => None,
    }
}

fn out_of_range(next: i64, observed: &Observed) -> String {
    format!("offset {next} is next, and the log has {} to {}", observed.start, observed.end)
}

fn contradiction(expected: &Expected, seen: &Seen) -> String {
    let words = |one: Option<&Fingerprint>| {
        one.map_or_else(
            || "nothing".to_owned(),
            |one| format!("one of time {} with checksum {:016x}", one.timestamp_ms, one.checksum),
        )
    };
    let known = expected.fingerprints.iter().find(|known| known.offset == seen.offset);
    let (known, found) = (words(known), words(seen.record.as_ref()));
    format!("the record at offset {} was {known}, and is {found}", seen.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, checksum: u64) -> Fingerprint {
        Fingerprint { offset, timestamp_ms: 1_700_000_000_000 + offset, checksum }
    }

    fn seen(offset: i64, checksum: Option<u64>) -> Seen {
        Seen { offset, record: checksum.map(|checksum| record(offset, checksum)) }
    }

    fn expected() -> Expected {
        Expected {
            cluster_id: Some("one".to_owned()),
            partition_count: Some(3),
            next: Some(100),
            fingerprints: vec![record(10, 1), record(50, 2), record(99, 3)],
            suspected: None,
        }
    }

    fn observed(records: &[Seen]) -> Observed {
        let (cluster_id, records) = (Some("one".to_owned()), records.to_vec());
        Observed { cluster_id, partition_count: 3, start: 0, end: 200, records }
    }

    fn fault(expected: &Expected, observed: &Observed) -> Option<IdentityFault> {
        judge(expected, observed).map(|finding| finding.fault)
    }

    fn suspecting(fault: IdentityFault) -> Expected {
        Expected { suspected: Finding::some(fault, "seen elsewhere".to_owned()), ..expected() }
    }

    #[test]
    fn the_same_log_is_the_same() {
        let known = expected();
        assert_eq!(judge(&known, &observed(&[seen(99, Some(3))])), None);
        assert_eq!(judge(&known, &observed(&[])), None, "nothing could be compared");
        let gone = [seen(99, None), seen(50, None), seen(10, None)];
        assert_eq!(judge(&known, &observed(&gone)), None, "compaction takes records");
        assert_eq!(judge(&known, &observed(&[seen(99, None), seen(50, Some(2))])), None);
        assert_eq!(judge(&known, &Observed { partition_count: 8, ..observed(&[]) }), None, "topics grow");
        assert_eq!(judge(&known, &Observed { cluster_id: None, ..observed(&[]) }), None, "it tells no id");
        assert_eq!(judge(&Expected::default(), &observed(&[])), None, "nothing is known");
    }

    #[test]
    fn another_cluster_and_fewer_partitions_are_named_before_anything_else() {
        let found = Observed { cluster_id: Some("two".to_owned()), ..observed(&[seen(99, Some(7))]) };
        let finding = judge(&expected(), &found).expect("a fault");
        assert_eq!(finding.fault, IdentityFault::AnotherCluster);
        assert_eq!(finding.detail, "cluster one was expected, and this is two");
        let finding = judge(&expected(), &Observed { partition_count: 2, ..observed(&[]) }).expect("a fault");
        assert_eq!(finding.fault, IdentityFault::FewerPartitions);
        assert_eq!(finding.detail, "3 partitions were expected, and the topic has 2");
    }

    #[test]
    fn other_records_speak_for_another_log_or_one_that_was_cut() {
        let all_others = observed(&[seen(99, Some(7)), seen(50, None), seen(10, Some(8))]);
        let finding = judge(&expected(), &all_others).expect("a fault");
        assert_eq!(finding.fault, IdentityFault::Recreated);
        assert!(finding.detail.contains("at offset 99 was one of time 1700000000099 with checksum 0000000000000003"));
        assert_eq!(fault(&expected(), &observed(&[seen(50, Some(7))])), Some(IdentityFault::Recreated));
        let another_time = Fingerprint { timestamp_ms: 1, ..record(99, 3) };
        let other = Seen { offset: 99, record: Some(another_time) };
        assert_eq!(fault(&expected(), &observed(&[other])), Some(IdentityFault::Recreated));
        let grown_again = observed(&[seen(99, Some(7)), seen(50, Some(2))]);
        let finding = judge(&expected(), &grown_again).expect("a fault");
        assert_eq!(finding.fault, IdentityFault::Truncated);
        assert!(finding.detail.ends_with("the log is the same up to offset 50"), "{}", finding.detail);
    }

    #[test]
    fn a_position_outside_of_the_log_is_named_unless_the_log_is_another_one() {
        let shorter = Observed { end: 60, ..observed(&[seen(50, Some(2))]) };
        let finding = judge(&expected(), &shorter).expect("a fault");
        assert_eq!(finding.fault, IdentityFault::Truncated);
        assert_eq!(finding.detail, "offset 100 is next, and the log has 0 to 60");
        let shorter = Observed { end: 60, ..observed(&[seen(50, Some(7))]) };
        assert_eq!(fault(&expected(), &shorter), Some(IdentityFault::Recreated));
        let cut = Observed { start: 101, ..observed(&[]) };
        assert_eq!(fault(&expected(), &cut), Some(IdentityFault::RetentionPassed));
        assert_eq!(fault(&Expected { next: None, ..expected() }, &cut), None, "nothing was read, nothing is lost");
        for next in [100, 101] {
            let edge = Observed { start: 100, end: 101, ..observed(&[]) };
            assert_eq!(fault(&Expected { next: Some(next), ..expected() }, &edge), None);
        }
    }

    #[test]
    fn a_suspicion_holds_unless_the_partition_proves_the_contrary() {
        use IdentityFault as Fault;
        for kind in Fault::ALL {
            let expected = suspecting(kind);
            let holds_against_proof = kind != Fault::Recreated;
            let held = |records: &[Seen]| fault(&expected, &observed(records)) == Some(kind);
            assert_eq!((held(&[]), held(&[seen(99, Some(3))])), (true, holds_against_proof), "{kind:?}");
        }
        let cut = suspecting(Fault::Truncated);
        assert_eq!(fault(&cut, &observed(&[seen(99, Some(7))])), Some(Fault::Recreated), "the worse one");
    }
}
