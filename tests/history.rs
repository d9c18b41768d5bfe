//! The recent past: every instant that is kept is what was shown then, and what changed between two of them is what makes
//! one of the other; with 1, 2 and 4 workers, over logs of an Inventory with deletes, revivals, orphans and poison.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use tarn::generate::{FaultRates, Generator, GeneratorConfig, Popularity};
use tarn::model::{Epoch, ResourceId, Topics};
use tarn::published::{HistoryLimits, NotKept, ReadView};
use tarn::sql::{Row, Tables, read_queries};

use crate::support::engine::{Given, Run, Script, Setup, run};

/// Everything is kept.
pub const ALL: HistoryLimits = HistoryLimits {
    retention_ms: 100 * 365 * 86_400_000,
    share: 1e6,
    instant_updates_min: usize::MAX,
    view_changes_min: usize::MAX,
};

/// A run of the shipped views over a log.
pub fn history(seed: u64, workers: usize, history: HistoryLimits) -> Run {
    let faults = FaultRates {
        moves: 0.2,
        deletes: 0.15,
        revivals: 0.5,
        ghosts: 0.1,
        poison: 0.05,
        replays: 0.01,
        ..FaultRates::default()
    };
    let config = GeneratorConfig {
        seed,
        resources: 40,
        gap_us: 3_600_000_000,
        popularity: Popularity::Sweep,
        faults,
        ..GeneratorConfig::default()
    };
    let records: Vec<Given> = Generator::new(config).take(300).map(|record| Given::from(&record)).collect();
    let topics = Topics::default();
    let tables = Arc::new(Tables::read(Some(Path::new("config/kessel-schema")), &topics).expect("a schema folder"));
    let files = read_queries(Path::new("queries")).expect("a folder of queries");
    let script = Script { tables, topics, steps: vec![(0, files[..5].to_vec()), (100, files)] };
    run(records, &Setup { workers, epoch_records_max: 5, history, script, ..Setup::default() })
}

type Resources = BTreeMap<ResourceId, (Epoch, bool, Option<ResourceId>)>;

/// What a read view says of resources.
fn resources(view: &ReadView) -> Resources {
    let states = view.all_states();
    states.iter().map(|state| (state.id, (state.last.epoch, state.is_live(), view.orphaned_by(state.id)))).collect()
}

type Rows = BTreeMap<Row, isize>;

/// The rows of the views that it shows, of those that last shows too.
fn rows(view: &ReadView, last: &ReadView) -> BTreeMap<String, Rows> {
    let shown = last.catalog().views().filter(|shown| last.view_since(shown.id) <= view.epoch());
    let shown = shown.filter(|shown| view.catalog().views().any(|there| there.id == shown.id));
    let rows = |id| view.rows_from(id, &[]).map(|(row, count)| (row.clone(), count as isize)).collect();
    shown.map(|shown| (shown.plan.name.to_string(), rows(shown.id))).collect()
}

#[test]
fn an_instant_that_is_kept_is_what_was_shown() {
    let small = HistoryLimits { share: 0.0, instant_updates_min: 60, ..ALL };
    let (mut kept, mut gone, mut compared) = (0, 0, 0);
    for (seed, workers, limits) in [(1, 1, ALL), (2, 2, ALL), (3, 4, ALL), (4, 1, small), (5, 4, small)] {
        let run = history(seed, workers, limits);
        let last = run.last();
        for shown in &run.views {
            let then = match run.publisher.at(shown.epoch()) {
                Ok(then) => then,
                Err(NotKept::Before { since }) => {
                    assert!(since > shown.epoch() && limits == small, "it is kept from {since} on");
                    gone += 1;
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            kept += 1;
            assert_eq!((then.epoch(), then.position()), (shown.epoch(), shown.position()));
            assert_eq!(resources(&then), resources(shown), "at {}", shown.epoch());
            assert_eq!(then.quarantine(), shown.quarantine(), "at {}", shown.epoch());
            let (now, before) = (rows(&then, last), rows(shown, last));
            compared += now.values().map(BTreeMap::len).sum::<usize>();
            assert_eq!(now, before, "at {}", shown.epoch());
            // Between two epochs it is what the former was.
            let later = run.publisher.at(shown.epoch() + 1).expect("later than what is kept");
            assert!(later.epoch() == shown.epoch() || later.epoch() == shown.epoch() + 1);
        }
        let after = run.publisher.at(last.epoch() + 1).map(|view| view.epoch());
        assert_eq!(after, Err(NotKept::After { shown: last.epoch() }));
    }
    assert!(kept > 150 && gone > 20 && compared > 3_000, "{kept} kept, {gone} gone, {compared} rows compared");
}

#[test]
fn what_changed_between_two_instants_makes_one_of_the_other() {
    let small = HistoryLimits { view_changes_min: 40, share: 0.0, instant_updates_min: 40, ..ALL };
    let (mut told, mut refused) = (0, 0);
    for (seed, workers, limits) in [(6, 1, ALL), (7, 2, ALL), (8, 4, ALL), (9, 2, small)] {
        let run = history(seed, workers, limits);
        let (views, last) = (&run.views, run.last());
        let epochs: BTreeSet<Epoch> = views.iter().map(|view| view.epoch()).collect();
        for (first, second) in (0..views.len()).flat_map(|first| [(first, first + 1), (first, first * 2 + 3)]) {
            let (Some(from), Some(to)) = (views.get(first), views.get(second)) else { continue };
            let (before, after) = (rows(from, last), rows(to, last));
            for (name, mut rows) in before {
                let id = last.catalog().view(&name).expect("it is shown at last").id;
                let changes = match run.publisher.rows_changed(id, from.epoch(), to.epoch()) {
                    Ok(changes) => changes,
                    Err(_) => {
                        assert_eq!(limits, small);
                        refused += 1;
                        continue;
                    }
                };
                for (epoch, changed) in changes {
                    assert!(epochs.contains(&epoch) && from.epoch() < epoch && epoch <= to.epoch());
                    for (row, count) in changed {
                        told += 1;
                        let sum = rows.entry(row).or_default();
                        *sum += count;
                        assert!(count != 0 && *sum >= 0, "a row leaves that is not there");
                    }
                }
                rows.retain(|_, count| *count > 0);
                assert_eq!(rows, after[&name], "{name} from {} to {}", from.epoch(), to.epoch());
            }
            let Ok(changes) = run.publisher.resources_changed(from.epoch(), to.epoch()) else { continue };
            let listed: BTreeSet<ResourceId> = changes.into_iter().flat_map(|(_, ids)| ids).collect();
            let (before, after) = (resources(from), resources(to));
            let ids = before.keys().chain(after.keys());
            for id in ids.filter(|id| before.get(id) != after.get(id)) {
                assert!(listed.contains(id), "{id} changed from {} to {}", from.epoch(), to.epoch());
            }
        }
    }
    assert!(told > 1_000 && refused > 20, "{told} rows told, {refused} refused");
}
