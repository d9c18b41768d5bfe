//! Snapshots and journals on simulated files: crashes and errors at every operation.
//!
//! A history of states is written by a service of many lives. Whatever happens, loading gives one of the states that
//! were written, whole, and none that is older than the last one that was confirmed. `TARN_SNAPSHOT_SEEDS` is how many
//! lives are tried, `TARN_SNAPSHOT_SEED` tries one.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tarn::snapshot::{Directory, Environment, Generations, Journal, JournalError, SnapshotError, StoreKind, Vfs};

use crate::support::simulated_files::{Fault, SimulatedVfs};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

const DATA: &str = "/data";

/// What was written, and what of it may not be lost any more.
#[derive(Default)]
struct History {
    states: Vec<Rows>,
    confirmed: Option<usize>,
}

impl History {
    /// The next state, and the rows that differ from the state before.
    fn next(&mut self, random: &mut StdRng) -> (Rows, Rows) {
        let mut state = self.states.last().cloned().unwrap_or_default();
        let mut changed = Rows::new();
        for _ in 0..random.random_range(0..20) {
            let key = vec![random.random_range(0..50), 1];
            let length = if random.random_bool(0.05) { 9_000 } else { random.random_range(0..300) };
            let value: Vec<u8> = (0..length).map(|_| random.random()).collect();
            changed.insert(key, value);
        }
        state.extend(changed.clone());
        self.states.push(state.clone());
        (state, changed)
    }
}

/// `seed` differs between lives, as the ids of runs do.
fn open(vfs: &SimulatedVfs, seed: u64) -> Result<Generations, SnapshotError> {
    let mut random = StdRng::seed_from_u64(seed);
    let environment =
        Environment { store: StoreKind::Files, now_ms: Box::new(|| 1_000), random: Box::new(move || random.random()) };
    Ok(Generations::new(Directory::open(Arc::new(vfs.clone()), Path::new(DATA))?, environment))
}

/// Loads and compares; `Err` if something could not be read.
fn load(generations: &mut Generations, history: &mut History) -> Result<(), String> {
    let loaded = generations
        .load(Rows::new, |rows, _, key, value| drop(rows.insert(key.to_vec(), value.to_vec())))
        .map_err(|error| error.to_string())?;
    if let Some(fallback) = loaded.fallbacks.first() {
        assert!(!fallback.error.is_damage(), "nothing was damaged: {}", fallback.error);
        return Err(fallback.error.to_string());
    }
    let Some((rows, manifest)) = loaded.contents else {
        assert_eq!(history.confirmed, None, "a confirmed state is lost");
        return Ok(());
    };
    let meta = &manifest.runs.last().expect("it works").meta;
    let state = usize::from_le_bytes(meta.as_slice().try_into().expect("it works"));
    assert!(history.confirmed.is_none_or(|confirmed| confirmed <= state), "{state} is before {:?}", history.confirmed);
    assert!(rows == history.states[state], "state {state} is not what was written");
    // What has been shown must not be lost either. The next life goes on from it.
    history.confirmed = Some(state);
    history.states.truncate(state + 1);
    Ok(())
}

/// Writes a state: as an increment if that is possible and wanted.
fn write(
    generations: &mut Generations,
    state: usize,
    rows: &Rows,
    changed: &Rows,
    increment: bool,
) -> Result<(), SnapshotError> {
    let (mut writer, rows) = if increment && generations.takes_increments() {
        (generations.begin_run()?, changed)
    } else {
        (generations.begin()?, rows)
    };
    for (key, value) in rows {
        writer.put(key, value)?;
    }
    writer.finish(state.to_le_bytes().to_vec()).map(drop)
}

/// A life: open, load, and write some states. `Err` if it could not even begin.
fn live(vfs: &SimulatedVfs, steps: usize, history: &mut History, random: &mut StdRng) -> Result<(), String> {
    let mut generations = open(vfs, random.random()).map_err(|error| error.to_string())?;
    load(&mut generations, history)?;
    let mut increments = history.confirmed.is_some();
    for _ in 0..steps {
        let (rows, changed) = history.next(random);
        let state = history.states.len() - 1;
        let increment = increments && random.random_bool(0.7);
        if increments && random.random_bool(0.1) {
            // Somebody changes his mind.
            if let Ok(mut writer) = generations.begin_run() {
                drop(writer.put(b"never", b"seen"));
            }
        }
        let mut result = write(&mut generations, state, &rows, &changed, increment);
        if result.is_err() && !vfs.stopped() {
            // Told; it has happened once, so a new generation is possible.
            result = write(&mut generations, state, &rows, &changed, false);
            assert!(result.is_ok(), "a new generation after an error: {result:?}");
        }
        if result.is_err() {
            return Ok(());
        }
        history.confirmed = Some(state);
        increments = true;
    }
    Ok(())
}

fn some_fault(random: &mut StdRng) -> Fault {
    match random.random_range(0..6) {
        0 => Fault::Error(ErrorKind::StorageFull),
        1 | 2 => Fault::Error(ErrorKind::Other),
        _ => Fault::Stop,
    }
}

/// Some lives, each of which ends badly.
fn lives(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut vfs = SimulatedVfs::new(seed);
    let mut history = History::default();
    for _ in 0..4 {
        vfs.fail_at(vfs.operations() + random.random_range(0..400), some_fault(&mut random));
        drop(live(&vfs, 6, &mut history, &mut random));
        if random.random_bool(0.7) {
            let kept = [0.0, 0.3, 0.9][random.random_range(0..3)];
            vfs = vfs.after_power_cut(random.random(), kept);
        }
        vfs.heal();
    }
    live(&vfs, 3, &mut history, &mut random).expect("nothing fails any more");
    let vfs = vfs.after_power_cut(seed, 0.0);
    live(&vfs, 0, &mut history, &mut random).expect("nothing fails any more");
}

fn seeds() -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("TARN_SNAPSHOT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TARN_SNAPSHOT_SEEDS").unwrap_or(2_000),
    }
}

fn for_seeds(test: &str, check: fn(u64)) {
    for seed in seeds() {
        if let Err(panic) = std::panic::catch_unwind(|| check(seed)) {
            eprintln!("seed {seed}; again: TARN_SNAPSHOT_SEED={seed} cargo test --test it {test}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn snapshots_survive_lives_that_end_badly() {
    for_seeds("snapshots_survive_lives_that_end_badly", lives);
}

#[test]
fn snapshots_survive_a_crash_and_an_error_at_every_operation() {
    let count = {
        let vfs = SimulatedVfs::new(1);
        live(&vfs, 6, &mut History::default(), &mut StdRng::seed_from_u64(1)).unwrap();
        vfs.operations()
    };
    let faults = [Fault::Stop, Fault::Error(ErrorKind::StorageFull), Fault::Error(ErrorKind::Other)];
    for (index, fault) in (0..count).flat_map(|index| faults.map(|fault| (index, fault))) {
        for kept in [0.0, 0.5, 1.0] {
            let vfs = SimulatedVfs::new(1);
            vfs.fail_at(index, fault);
            let (mut history, mut random) = (History::default(), StdRng::seed_from_u64(1));
            drop(live(&vfs, 6, &mut history, &mut random));
            let vfs = vfs.after_power_cut(index, kept);
            let result = live(&vfs, 2, &mut history, &mut random);
            assert_eq!(result, Ok(()), "{fault:?} at operation {index}, {kept} of what was not fsynced is kept");
        }
    }
}

#[test]
fn snapshots_go_on_when_a_full_disk_has_space_again() {
    for kind in [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem, ErrorKind::QuotaExceeded] {
        let vfs = SimulatedVfs::new(3);
        let mut generations = open(&vfs, 3).unwrap();
        let rows = Rows::from([(b"key".to_vec(), b"value".to_vec())]);
        write(&mut generations, 0, &rows, &rows, false).unwrap();
        vfs.fail_at(vfs.operations(), Fault::Full(kind));
        for _ in 0..3 {
            let error = write(&mut generations, 1, &rows, &rows, true).unwrap_err();
            assert!(matches!(&error, SnapshotError::Failed { source, .. } if source.kind() == kind), "{error}");
        }
        vfs.heal();
        write(&mut generations, 1, &rows, &rows, true).unwrap();
        let mut history = History { states: vec![rows.clone(), rows], confirmed: Some(1) };
        load(&mut open(&vfs.after_power_cut(0, 0.0), 4).unwrap(), &mut history).unwrap();
    }
}

/// Records 0, 1, 2, ... are appended by a service of many lives.
fn journal_lives(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut vfs = SimulatedVfs::new(seed);
    vfs.create_directory(Path::new(DATA)).expect("it works");
    vfs.sync_directory(Path::new("/")).expect("it works");
    let mut synced = 0_u64;
    for life in 0..6 {
        if life < 5 {
            vfs.fail_at(vfs.operations() + random.random_range(0..200), some_fault(&mut random));
        }
        let opened = Journal::open(Arc::new(vfs.clone()), Path::new(DATA), "numbers");
        assert!(life < 5 || opened.is_ok());
        if let Ok((journal, recovered)) = opened {
            assert_eq!(recovered.lost, None);
            let found: Vec<u64> = recovered
                .records
                .iter()
                .map(|(_, record)| u64::from_le_bytes(record[..8].try_into().expect("it works")))
                .collect();
            assert!(found.iter().copied().eq(0..found.len() as u64), "{found:?}");
            assert!(found.len() as u64 >= synced, "{} of {synced} are left", found.len());
            synced = append_numbers(journal, found.len() as u64, &vfs, &mut random);
        }
        if random.random_bool(0.7) {
            vfs = vfs.after_power_cut(random.random(), [0.0, 0.3, 0.9][random.random_range(0..3)]);
        }
        vfs.heal();
    }
}

/// Appends from `next` on; how many are synced when the machine stops or it is enough.
fn append_numbers(mut journal: Journal, mut next: u64, vfs: &SimulatedVfs, random: &mut StdRng) -> u64 {
    let mut synced = next;
    for _ in 0..60 {
        let result = match random.random_range(0..10) {
            0..6 => {
                let record = [&next.to_le_bytes()[..], &vec![7; random.random_range(0..900)]].concat();
                journal.append(&record).map(|_| next += 1)
            }
            6..8 => journal.sync().map(|()| synced = next),
            8 => match journal.unsynced() {
                // Others append while it is made durable.
                Some(unsynced) => {
                    let until = next;
                    let appended = journal.append(&next.to_le_bytes()).map(|_| next += 1);
                    let confirmed = journal.confirm(unsynced.sync()).map(|end| synced = end.map_or(synced, |_| until));
                    confirmed.and(appended)
                }
                None => Ok(()),
            },
            _ => journal.roll().map(|_| synced = next),
        };
        match result {
            Ok(()) | Err(JournalError::Failed { .. }) => {}
            Err(JournalError::InDoubt { .. }) => next = synced,
            Err(other) => panic!("{other}"),
        }
        if vfs.stopped() {
            break;
        }
    }
    synced
}

#[test]
fn snapshot_journals_survive_lives_that_end_badly() {
    for_seeds("snapshot_journals_survive_lives_that_end_badly", journal_lives);
}

#[test]
fn snapshot_journals_tell_what_is_lost_and_go_on_behind_it() {
    let vfs = SimulatedVfs::new(5);
    let data = Path::new(DATA);
    vfs.create_directory(data).unwrap();
    let open = || Journal::open(Arc::new(vfs.clone()), data, "numbers").unwrap();
    let count = |recovered: &tarn::snapshot::Recovered| recovered.records.len();
    let (mut journal, _) = open();
    for _ in 0..3 {
        for _ in 0..10 {
            journal.append(b"a record").unwrap();
        }
        journal.roll().unwrap();
    }
    assert_eq!(count(&open().1), 30);
    // In the middle: what stands behind it is not returned.
    vfs.change(&data.join("numbers-000002.log"), |bytes| bytes[100] ^= 1);
    let (mut journal, recovered) = open();
    assert!(recovered.lost.is_some() && count(&recovered) >= 10 && count(&recovered) < 20, "{recovered:?}");
    let left = count(&recovered);
    journal.append(b"after the loss").unwrap();
    journal.sync().unwrap();
    let (mut journal, recovered) = open();
    assert_eq!((count(&recovered), &recovered.lost), (left + 1, &None), "the loss was told");
    // Old segments go; a missing one in the middle is told.
    let segment = journal.roll().unwrap();
    journal.append(b"one more").unwrap();
    journal.sync().unwrap();
    journal.remove_before(segment).unwrap();
    assert_eq!(count(&open().1), 1);
    // That opening has written the record again.
    vfs.change(&data.join(format!("numbers-{:06}.log", segment + 1)), |bytes| bytes[9] ^= 1);
    assert!(open().1.lost.is_some());
}
