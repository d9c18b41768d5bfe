//! Damage to real files with sled in them: right rows, those of the generation before, or none; never wrong ones. And
//! what `tarn snapshot` says of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tempfile::TempDir;

use crate::snapshot_store::{Runs, in_child, load, on_thread, open, rows, write};

/// Two generations, of two runs each.
fn two_generations(path: &Path) -> [Runs; 2] {
    let mut generations = open(path, on_thread());
    let runs = [1, 2].map(|number| vec![rows(number, 2_000), rows(number + 10, 200)]);
    for runs in &runs {
        write(&mut generations, true, &runs[0]);
        write(&mut generations, false, &runs[1]);
    }
    runs
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).expect("it works") {
        let path = entry.expect("it works").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it works");
    fs::set_permissions(to, fs::metadata(from).expect("it works").permissions()).expect("it works");
    for entry in fs::read_dir(from).expect("it works") {
        let entry = entry.expect("it works");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("it works").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("it works");
        }
    }
}

/// A copy of a data directory in which one file was changed.
fn changed(original: &Path, file: &Path, change: impl FnOnce(&mut Vec<u8>)) -> TempDir {
    let folder = TempDir::new().expect("it works");
    copy_tree(original, folder.path());
    let target = folder.path().join(file.strip_prefix(original).expect("it works"));
    let mut bytes = fs::read(&target).expect("it works");
    change(&mut bytes);
    fs::write(&target, bytes).expect("it works");
    folder
}

/// Loads and says which of the generations it was.
fn loaded(path: &Path, runs: &[Runs; 2]) -> Option<usize> {
    let (found, fallbacks) = load(&mut open(path, in_child()));
    let place = found.map(|found| runs.iter().position(|runs| *runs == found).expect("rows are right or refused"));
    assert_eq!(fallbacks == 0, place == Some(1), "what was passed over is told");
    place
}

#[test]
fn no_flipped_bit_in_a_snapshot_gives_wrong_rows() {
    let folder = TempDir::new().unwrap();
    let original = folder.path().join("data");
    let runs = two_generations(&original);
    let mut random = StdRng::seed_from_u64(7);
    for byte in 0..fs::read(original.join("CURRENT")).unwrap().len() {
        let copy = changed(&original, &original.join("CURRENT"), |bytes| bytes[byte] ^= 1 << random.random_range(0..8));
        assert_eq!(loaded(copy.path(), &runs), Some(1));
    }
    let manifest = original.join("gen-000002/MANIFEST");
    for byte in 0..fs::read(&manifest).unwrap().len() {
        let copy = changed(&original, &manifest, |bytes| bytes[byte] ^= 1 << random.random_range(0..8));
        assert_eq!(loaded(copy.path(), &runs), Some(0));
        assert!(copy.path().join("condemned-000002").exists(), "it is kept as evidence");
    }
    let files = files(&original.join("gen-000002/store"));
    let lengths: Vec<u64> = files.iter().map(|file| fs::metadata(file).unwrap().len()).collect();
    let places: Vec<(usize, usize, u8)> = (0..flips())
        .map(|_| {
            let mut place = random.random_range(0..lengths.iter().sum());
            let file = lengths.iter().position(|length| place.checked_sub(*length).map(|rest| place = rest).is_none());
            (file.unwrap(), usize::try_from(place).unwrap(), 1 << random.random_range(0..8))
        })
        .collect();
    let falls_back = |(file, place, bit): &(usize, usize, u8)| {
        let copy = changed(&original, &files[*file], |bytes| bytes[*place] ^= bit);
        loaded(copy.path(), &runs) == Some(0)
    };
    // Most of the time is that of another process, which is waited for.
    let fallbacks: usize = std::thread::scope(|scope| {
        let falls_back = &falls_back;
        let parts = places.chunks(places.len().div_ceil(4).max(1));
        let threads: Vec<_> =
            parts.map(|some| scope.spawn(move || some.iter().filter(|flip| falls_back(flip)).count())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(fallbacks > 0, "some of them are met");
}

fn flips() -> usize {
    std::env::var("TARN_SNAPSHOT_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

#[test]
fn torn_and_swapped_snapshots_are_not_taken() {
    let folder = TempDir::new().unwrap();
    let original = folder.path().join("data");
    let runs = two_generations(&original);
    for file in files(&original.join("gen-000002")) {
        for part in [0, 1, 2, 3] {
            let copy = changed(&original, &file, |bytes| bytes.truncate(bytes.len() * part / 4));
            loaded(copy.path(), &runs);
        }
    }
    // Names of generations, of their stores and of their manifests.
    for (inside, expected) in [("", None), ("store", None), ("MANIFEST", None)] {
        let copy = changed(&original, &original.join("LOCK"), |_| ());
        let [first, second] = [1, 2].map(|number| copy.path().join(format!("gen-00000{number}")).join(inside));
        let aside = copy.path().join("aside");
        fs::rename(&first, &aside).unwrap();
        fs::rename(&second, &first).unwrap();
        fs::rename(&aside, &second).unwrap();
        assert_eq!(loaded(copy.path(), &runs), expected, "{inside}");
    }
    // An old generation over a new one.
    let copy = changed(&original, &original.join("LOCK"), |_| ());
    fs::remove_dir_all(copy.path().join("gen-000002")).unwrap();
    copy_tree(&original.join("gen-000001"), &copy.path().join("gen-000002"));
    assert_eq!(loaded(copy.path(), &runs), Some(0));
}

fn tarn(arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_tarn")).args(arguments).output().expect("it works");
    let text = [stdout, stderr].concat();
    (status.code().expect("it works"), String::from_utf8(text).expect("it works"))
}

#[test]
fn the_command_line_looks_after_snapshots() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let runs = two_generations(&data);
    let path = data.to_str().unwrap();
    let (code, text) = tarn(&["snapshot", "list", path, "--json"]);
    let listed: Value = serde_json::from_str(&text).unwrap();
    let generations = listed["generations"].as_array().unwrap();
    assert_eq!((code, generations.len()), (0, 2));
    assert_eq!((&generations[0]["number"], &generations[0]["current"]), (&2.into(), &true.into()));
    assert_eq!(generations[0]["rows"], 2_200);
    assert!(tarn(&["snapshot", "list", path]).1.lines().count() == 3);
    assert_eq!(tarn(&["snapshot", "verify", path]), (0, "generation 2 is good\ngeneration 1 is good\n".to_owned()));

    let copy = folder.path().join("copy");
    let (code, text) = tarn(&["snapshot", "backup", path, copy.to_str().unwrap()]);
    assert!(code == 0 && text.starts_with("generation 2 is copied: 2 runs, 2200 rows"), "{text}");
    assert_eq!(loaded(&copy, &runs), Some(1));

    let file = data.join("gen-000001/MANIFEST");
    let mut bytes = fs::read(&file).unwrap();
    bytes[30] ^= 1;
    fs::write(&file, bytes).unwrap();
    let (code, text) = tarn(&["snapshot", "verify", path]);
    assert!(code == 4 && text.contains("its checksum is wrong"), "{code}: {text}");
    assert_eq!(tarn(&["snapshot", "verify", path, "--generation", "2"]).0, 0);
    assert_eq!(tarn(&["snapshot", "verify", path, "--generation", "3"]).0, 2);
    let generations = open(&data, on_thread());
    assert_eq!(tarn(&["snapshot", "verify", path]).0, 5);
    drop(generations);
}
