//! The corpus of the fuzz targets, replayed: every file, and every file with a few random bytes changed.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tarn::model::ResourceId;
use tarn::published::{Filter, PageToken, TokenKey};

#[path = "fuzz/properties.rs"]
mod properties;

fn replay(target: &str, property: fn(&[u8])) {
    let folder = format!("tests/fuzz/corpus/{target}");
    let mut random = StdRng::seed_from_u64(1);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is part of the repository") {
        let bytes = std::fs::read(entry.expect("a file").path()).expect("readable");
        files += 1;
        property(&bytes);
        for _ in 0..200 {
            let mut changed = bytes.clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..=changed.len());
                match random.random_range(0..3) {
                    0 => changed.insert(at, random.random()),
                    1 if at < changed.len() => drop(changed.remove(at)),
                    _ if at < changed.len() => changed[at] = random.random(),
                    _ => {}
                }
            }
            property(&changed);
        }
    }
    assert!(files >= 10, "{files} files in {folder}");
}

#[test]
fn records_of_the_corpus() {
    replay("record", properties::record);
}

#[test]
fn log_lines_of_the_corpus() {
    replay("log_line", properties::log_line);
}

#[test]
fn tokens_of_the_corpus() {
    replay("token", properties::token);
    // And true ones, with every character changed.
    let key = TokenKey::from_secret("fuzz");
    let after = ResourceId::parse("019ba0c4-5f6e-7c11-9c52-0d2f6d6b7a10").expect("a UUID");
    let text = PageToken { after }.encode(&Filter::default(), &key);
    properties::token(text.as_bytes());
    for at in 0..text.len() {
        for byte in 0..=255 {
            let mut changed = text.clone().into_bytes();
            changed[at] = byte;
            properties::token(&changed);
        }
    }
}
