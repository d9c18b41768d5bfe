//! Snapshots on both stores: one suite that each passes, and what holds for directories.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tarn::snapshot::{self, Directory, DiskVfs, Environment, Generations, SnapshotError, StoreKind, Verification, Vfs};
use tempfile::TempDir;

use crate::support::simulated_files::SimulatedVfs;

/// Runs as they were put.
pub type Runs = Vec<Vec<(Vec<u8>, Vec<u8>)>>;

pub fn environment(store: StoreKind) -> Environment {
    let mut random = StdRng::from_os_rng();
    Environment { store, now_ms: Box::new(tarn::clock::now_ms), random: Box::new(move || random.random()) }
}

pub fn disk() -> Arc<dyn Vfs> {
    Arc::new(DiskVfs)
}

pub fn open(path: &Path, store: StoreKind) -> Generations {
    Generations::new(Directory::open(disk(), path).expect("it works"), environment(store))
}

pub fn on_thread() -> StoreKind {
    StoreKind::Sled(Verification::OnThread)
}

/// As the service does it.
pub fn in_child() -> StoreKind {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_tarn"));
    StoreKind::Sled(Verification::InChild { program, time_limit: Duration::from_secs(60) })
}

/// Writes a run: as a base, or as an increment.
pub fn write(generations: &mut Generations, base: bool, rows: &[(Vec<u8>, Vec<u8>)]) {
    let mut writer =
        if base { generations.begin().expect("it works") } else { generations.begin_run().expect("it works") };
    for (key, value) in rows {
        writer.put(key, value).expect("it works");
    }
    let run = writer.finish(rows.len().to_le_bytes().to_vec()).expect("it works");
    assert_eq!(run.rows, rows.len() as u64);
}

/// What is loaded, and how many generations were passed over.
pub fn load(generations: &mut Generations) -> (Option<Runs>, usize) {
    let loaded = generations
        .load(Runs::new, |runs, place, key, value| {
            runs.resize(runs.len().max(place + 1), Vec::new());
            runs[place].push((key.to_vec(), value.to_vec()));
        })
        .expect("it works");
    let runs = loaded.contents.map(|(mut runs, manifest)| {
        runs.resize(manifest.runs.len(), Vec::new());
        for (run, rows) in manifest.runs.iter().zip(&runs) {
            assert_eq!(run.meta, rows.len().to_le_bytes());
        }
        runs
    });
    (runs, loaded.fallbacks.len())
}

pub fn rows(seed: u64, count: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut rows = BTreeMap::new();
    for _ in 0..count {
        let key: [u8; 16] = random.random();
        let value = format!("{{\"seed\":{seed},\"value\":{}}}", random.random::<u64>());
        rows.insert(key.to_vec(), value.into_bytes());
    }
    rows.into_iter().collect()
}

fn large_rows() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut random = StdRng::seed_from_u64(1);
    let mut noise = |length: usize| (0..length).map(|_| random.random()).collect::<Vec<u8>>();
    [0, 1, 4_096, 200 << 10, 3_000_000]
        .into_iter()
        .enumerate()
        .flat_map(|(place, length)| {
            let key = vec![u8::try_from(place).expect("it works"); 3];
            [(key.clone(), noise(length)), ([key, vec![0]].concat(), vec![1; length])]
        })
        .collect()
}

/// What every store has to do.
fn conformance(vfs: &Arc<dyn Vfs>, path: &Path, store: &StoreKind) {
    let open =
        || Generations::new(Directory::open(Arc::clone(vfs), path).expect("it works"), environment(store.clone()));
    let mut generations = open();
    assert_eq!(load(&mut generations), (None, 0));
    assert!(!generations.takes_increments());
    assert!(matches!(generations.begin_run(), Err(SnapshotError::BeginAnother)));
    let runs = vec![large_rows(), rows(2, 5_000), Vec::new(), rows(3, 1)];
    write(&mut generations, true, &runs[0]);
    write(&mut generations, false, &runs[1]);
    // Abandoned, with blocks in the store.
    let mut writer = generations.begin_run().expect("it works");
    for (key, value) in rows(9, 60_000) {
        writer.put(&key, &value).expect("it works");
    }
    drop(writer);
    write(&mut generations, false, &runs[2]);
    drop(generations);

    let mut generations = open();
    assert_eq!(load(&mut generations), (Some(runs[..3].to_vec()), 0));
    write(&mut generations, false, &runs[3]);
    assert_eq!(load(&mut generations), (Some(runs.clone()), 0));
    let sizes = generations.sizes().expect("it works").expect("it works");
    assert_eq!((sizes.generation, sizes.runs), (1, 4));
    assert!(sizes.base_bytes > 3_000_000 && sizes.increments_bytes > 100_000, "{sizes:?}");
    assert!(sizes.on_disk_bytes > sizes.base_bytes + sizes.increments_bytes, "{sizes:?}");

    // A base that is dropped leaves nothing; those that are finished push out all but one.
    drop(generations.begin().expect("it works"));
    for seed in 10..13 {
        write(&mut generations, true, &rows(seed, 100));
    }
    assert_eq!(generations.candidates().expect("it works"), [4, 3]);
    write(&mut generations, false, &rows(13, 10));
    let newest = vec![rows(12, 100), rows(13, 10)];
    assert_eq!(load(&mut generations), (Some(newest.clone()), 0));
    generations.verify(3).expect("it works");

    // Without what is newest, the one before it; then none is written but a new one.
    generations.condemn(4).expect("it works");
    assert_eq!(load(&mut generations), (Some(vec![rows(11, 100)]), 0));
    assert!(!generations.takes_increments());
    write(&mut generations, true, &rows(14, 10));
    drop(generations);
    assert_eq!(load(&mut open()), (Some(vec![rows(14, 10)]), 0));
}

#[test]
fn snapshot_stores_conform() {
    let folder = TempDir::new().unwrap();
    conformance(&disk(), &folder.path().join("sled"), &on_thread());
    conformance(&disk(), &folder.path().join("files"), &StoreKind::Files);
    let simulated: Arc<dyn Vfs> = Arc::new(SimulatedVfs::new(1));
    conformance(&simulated, Path::new("/data"), &StoreKind::Files);
}

#[test]
fn snapshots_move_between_threads() {
    fn moves<T: Send>() {}
    moves::<Generations>();
    moves::<snapshot::Journal>();
    moves::<snapshot::RunWriter<'_>>();
}

#[test]
fn a_snapshot_refuses_rows_that_may_not_stand_there() {
    let folder = TempDir::new().unwrap();
    let mut generations = open(&folder.path().join("data"), StoreKind::Files);
    let mut writer = generations.begin().unwrap();
    writer.put(b"b", b"").unwrap();
    for key in [&b"b"[..], b"a", &[255; 65]] {
        assert!(matches!(writer.put(key, b""), Err(SnapshotError::Row(_))));
    }
    writer.put(b"c", b"").unwrap();
    assert_eq!(writer.finish(Vec::new()).unwrap().rows, 2);
}

#[test]
fn a_snapshot_directory_has_one_process_and_no_doors() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("data");
    let first = Directory::open(disk(), &path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let second = Directory::open(disk(), &path).unwrap_err();
    let message = format!("another tarn (pid {}) uses {}", std::process::id(), path.display());
    assert_eq!(second.to_string(), message);
    drop(first);

    let refused = |path: &Path| {
        let error = Directory::open(disk(), path).unwrap_err();
        assert!(matches!(error, SnapshotError::Refused { .. }), "{error}");
    };
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    refused(&link);
    refused(Path::new(&format!("{}/", link.display())));
    for mode in [0o770, 0o702] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        refused(&path);
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    symlink("/etc/passwd", path.join("CURRENT")).unwrap();
    refused(&path);
    fs::remove_file(path.join("CURRENT")).unwrap();
    refused(Path::new("/dev/null"));
    if std::os::unix::fs::chown(&path, Some(1), None).is_ok() {
        refused(&path);
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    }
    Directory::open(disk(), &path).unwrap();
}

#[test]
fn a_snapshot_directory_that_was_moved_is_told() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("data");
    let mut generations = open(&path, on_thread());
    write(&mut generations, true, &rows(1, 10));
    fs::rename(&path, folder.path().join("elsewhere")).unwrap();
    assert!(matches!(generations.begin_run(), Err(SnapshotError::Gone { .. })));
    fs::create_dir(&path).unwrap();
    assert!(matches!(generations.begin(), Err(SnapshotError::Gone { .. })));
}

#[test]
fn a_snapshot_directory_is_swept_but_not_if_it_is_newer() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("data");
    write(&mut open(&path, on_thread()), true, &rows(1, 10));
    let leave = || {
        fs::create_dir_all(path.join("gen.tmp-000007/store")).unwrap();
        fs::write(path.join("gen.tmp-000007/store/db"), b"x").unwrap();
        fs::write(path.join("CURRENT.tmp"), b"x").unwrap();
        fs::write(path.join("gen-000001/MANIFEST.tmp"), b"x").unwrap();
    };
    let left = || {
        ["gen.tmp-000007", "CURRENT.tmp", "gen-000001/MANIFEST.tmp"]
            .iter()
            .filter(|name| path.join(name).exists())
            .count()
    };
    leave();
    drop(open(&path, on_thread()));
    assert_eq!(left(), 0);
    leave();
    let manifest = path.join("gen-000001/MANIFEST");
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[8] += 1;
    let end = bytes.len() - 8;
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&manifest, bytes).unwrap();
    assert!(matches!(Directory::open(disk(), &path), Err(SnapshotError::Newer { found: 2, .. })));
    assert_eq!(left(), 3);
}

#[test]
fn a_snapshot_loads_when_sled_died_while_it_opened() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("data");
    write(&mut open(&path, on_thread()), true, &rows(1, 1_000));
    let store = path.join("gen-000001/store");
    let whole = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path());
    let whole = whole.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snap."));
    let mut wrong = fs::read(whole.last().unwrap()).unwrap();
    *wrong.last_mut().unwrap() ^= 1;
    for torn in [vec![], vec![0; 5], vec![0; 13], wrong] {
        fs::write(store.join("snap.00000000FFFFFFFF.generating"), torn).unwrap();
        assert_eq!(load(&mut open(&path, in_child())), (Some(vec![rows(1, 1_000)]), 0));
    }
}

#[test]
fn a_generation_whose_writer_died_is_read_and_written_no_more() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("data");
    let mut generations = open(&path, on_thread());
    write(&mut generations, true, &rows(1, 100));
    write(&mut generations, false, &rows(2, 10));
    drop(generations);
    let mut generations = open(&path, on_thread());
    assert_eq!(load(&mut generations), (Some(vec![rows(1, 100), rows(2, 10)]), 0));
    assert!(generations.takes_increments(), "nobody died");
    drop(generations.begin_run().unwrap());
    drop(generations);
    let mut generations = open(&path, on_thread());
    assert_eq!(load(&mut generations), (Some(vec![rows(1, 100), rows(2, 10)]), 0));
    assert!(!generations.takes_increments());
    write(&mut generations, true, &rows(3, 100));
    write(&mut generations, false, &rows(4, 10));
}

#[test]
fn a_snapshot_is_backed_up_while_it_is_written() {
    let folder = TempDir::new().unwrap();
    let (path, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let mut generations = open(&path, on_thread());
    write(&mut generations, true, &rows(1, 1_000));
    write(&mut generations, false, &rows(2, 100));
    let mut writer = generations.begin_run().unwrap();
    for (key, value) in rows(3, 60_000) {
        writer.put(&key, &value).unwrap();
    }
    let backup = snapshot::back_up(&disk(), &in_child(), &path, &copy).unwrap();
    assert_eq!(backup.manifest.runs.len(), 2);
    writer.finish(60_000_usize.to_le_bytes().to_vec()).unwrap();
    assert_eq!(load(&mut open(&copy, on_thread())), (Some(vec![rows(1, 1_000), rows(2, 100)]), 0));
    assert_eq!(load(&mut generations), (Some(vec![rows(1, 1_000), rows(2, 100), rows(3, 60_000)]), 0));
    let again = snapshot::back_up(&disk(), &in_child(), &path, &copy);
    assert!(matches!(again, Err(SnapshotError::Refused { .. })));
}
