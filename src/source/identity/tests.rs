//! What is kept of a log that is read: few fingerprints, well spread, all below the position that asks.

use super::*;

fn record(offset: i64) -> Fingerprint {
    Fingerprint { offset, timestamp_ms: offset, checksum: offset.unsigned_abs() }
}

fn position(next: i64) -> Position {
    let mut position = Position::default();
    position.advance(&"t".into(), 0, next);
    position
}

fn offsets(identity: &LogIdentity) -> Vec<i64> {
    identity.fingerprints("t", 0).iter().map(|one| one.offset).collect()
}

fn read(handle: &IdentityHandle, offset: i64, start: i64) {
    handle.on_read(&"t".into(), 0, Some(start), record(offset));
}

#[test]
fn key_and_value_are_told_apart_and_null_is_not_empty() {
    let (a, ab, b, empty) = (Some(&b"a"[..]), Some(&b"ab"[..]), Some(&b"b"[..]), Some(&b""[..]));
    let all = [(a, b), (ab, empty), (empty, ab), (ab, None), (None, ab), (None, None), (empty, empty), (None, empty)];
    let distinct: std::collections::BTreeSet<_> = all.iter().map(|(key, value)| checksum(*key, *value)).collect();
    assert_eq!(distinct.len(), all.len());
    // It is stored: another version of the hash must not make every log another one.
    assert_eq!(checksum(Some(b"key"), Some(b"value")), 14_371_564_852_308_961_356);
}

#[test]
fn for_any_position_there_is_a_fingerprint_not_much_before_it() {
    let handle = IdentityHandle::default();
    for offset in (0..10_000_000).step_by(1_000) {
        read(&handle, offset, 0);
    }
    assert!(offsets(&handle.get()).len() <= TRAIL_MAX);
    let head = 9_999_000;
    for back in [1, 1_000, 10_000, 100_000, 1_000_000, 5_000_000] {
        let known = offsets(&handle.known_below(&position(head - back)));
        let last = *known.last().expect("one below");
        assert!(last < head - back && head - back - last <= back.max(2_000), "{back} back: {known:?}");
        assert!(known.len() == 3 && known[0] == 0 && known[1] <= last - 10_000, "{known:?}");
    }
}

#[test]
fn an_identity_names_nothing_at_or_above_its_position() {
    let handle = IdentityHandle::default();
    handle.on_cluster("one");
    handle.on_topic(&"t".into(), 4);
    for offset in [3, 5, 9] {
        read(&handle, offset, 2);
    }
    assert_eq!(offsets(&handle.known_below(&position(9))), [3, 5]);
    assert_eq!(offsets(&handle.known_below(&position(10))), [3, 9]);
    assert!(offsets(&handle.known_below(&position(3))).is_empty());
    let known = handle.known_below(&Position::default());
    assert!(offsets(&known).is_empty(), "nothing of it was read");
    assert_eq!((known.cluster_id.as_deref(), known.partition_count("t")), (Some("one"), Some(4)));
    assert_eq!(known.topics["t"].partitions[&0].start_offset, Some(2));
}

#[test]
fn what_retention_took_or_a_rewind_undid_is_forgotten() {
    let handle = IdentityHandle::default();
    for offset in [3, 5, 9] {
        read(&handle, offset, 0);
    }
    read(&handle, 12, 4);
    assert_eq!(offsets(&handle.get()), [5, 9, 12]);
    read(&handle, 9, 4);
    assert_eq!(offsets(&handle.get()), [5, 9]);
    let observed = verdict::Observed { partition_count: 1, start: 0, end: 2, ..verdict::Observed::default() };
    handle.on_another(&"t".into(), 0, &observed);
    assert_eq!((offsets(&handle.get()), handle.get().partition_count("t")), (vec![], Some(1)));
}

#[test]
fn it_is_the_same_after_it_was_written_and_read() {
    let handle = IdentityHandle::default();
    handle.on_cluster("one");
    read(&handle, 3, 0);
    handle.on_read(&"t".into(), 0, None, Fingerprint { offset: 4, timestamp_ms: -1, checksum: u64::MAX });
    let text = serde_json::to_string(&handle.get()).expect("plain data");
    assert_eq!(serde_json::from_str::<LogIdentity>(&text).expect("what was written"), handle.get());
}
