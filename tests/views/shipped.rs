//! The views that are shipped, over logs of a whole Inventory: deletes, revivals, moves, orphans, damaged records, and
//! enough time for what depends on it to come and go.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tarn::generate::{FaultRates, Generated, Generator, GeneratorConfig, Popularity};
use tarn::model::Topics;
use tarn::sql::{QueryFile, Tables, read_queries};

use super::cases::{Case, Wanted, refusals};

/// A log of `count` records, `gap_ms` apart, in which some hosts have neither Insights id nor subscription.
fn log(seed: u64, resources: usize, gap_ms: u64, count: usize) -> Vec<Generated> {
    let faults = FaultRates {
        moves: 0.2,
        deletes: 0.15,
        revivals: 0.5,
        ghosts: 0.1,
        legacy: 0.1,
        poison: 0.05,
        replays: 0.01,
        ..FaultRates::default()
    };
    let (gap_us, popularity) = (gap_ms * 1_000, Popularity::Sweep);
    let config = GeneratorConfig { seed, resources, gap_us, popularity, faults, ..GeneratorConfig::default() };
    let mut records: Vec<Generated> = Generator::new(config).take(count).collect();
    for (place, record) in records.iter_mut().enumerate() {
        let Some(mut value) = record.value.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
            continue;
        };
        if let Some(Value::Object(data)) = value.pointer_mut("/payload/data/resource_data") {
            match place % 5 {
                0 => drop(data.remove("insights_id")),
                1 => drop(data.insert("subscription_manager_id".to_owned(), Value::Null)),
                _ => {}
            }
        }
        record.value = Some(value.to_string());
    }
    records
}

fn shipped() -> Vec<QueryFile> {
    read_queries(Path::new("queries")).expect("a folder of queries")
}

#[test]
fn every_shipped_view_shows_what_its_text_answers_after_every_epoch() {
    let topics = Topics::default();
    let tables = Tables::read(Some(Path::new("config/kessel-schema")), &topics).expect("a schema folder");
    let tables = Arc::new(tables);
    assert!(refusals(&shipped(), &tables).is_empty(), "{:?}", refusals(&shipped(), &tables));
    let wanted: Vec<Wanted> =
        shipped().into_iter().map(|file| Wanted::new(&file.name, &file.text, file.text.contains("ORDER BY"))).collect();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let (minute, hour) = (60_000, 3_600_000);
    for (seed, workers, resources, gap_ms) in
        [(1, 1, 120, 100), (2, 2, 40, 10 * minute), (3, 4, 60, 4 * hour), (4, 2, 101, minute), (5, 4, 30, 12 * hour)]
    {
        let records: Vec<_> = log(seed, resources, gap_ms, 160).iter().map(Into::into).collect();
        let (some, others) = wanted.split_at(wanted.len() / 2);
        let steps = vec![(0, some.to_vec()), (50, others.to_vec()), (90, wanted.clone())];
        let case =
            Case { records, workers, epoch_records_max: 9, steps, restored: 30 * (seed as usize % 2), twins: vec![] };
        match case.check(&tables, &topics) {
            Ok(tally) => seen.extend(tally.names_with_rows),
            Err(wrong) => panic!("seed {seed}: {} {}", wrong.name.unwrap_or_default(), wrong.text),
        }
    }
    for view in &wanted {
        assert!(seen.contains(&view.name), "{} never had a row in this test", view.name);
    }
}
