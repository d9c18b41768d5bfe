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
    let records: Vec<Given> = Generator::new(config).take(200).map(|record| Given::from(&record)).collect();
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
        // The first may be that in which there is nothing yet.
        for shown in run.views.iter().filter(|shown| shown.epoch() > 0) {
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
            let (mut now, before) = (rows(&then, last), rows(shown, last));
            // One that came later can be read as it was before it was shown.
            now.retain(|name, _| before.contains_key(name));
            compared += now.values().map(BTreeMap::len).sum::<usize>();
            assert_eq!(now, before, "at {}", shown.epoch());
            // Between two epochs it is what the former was.
            if shown.epoch() < last.epoch() {
                let later = run.publisher.at(shown.epoch() + 1).expect("later than what is kept");
                assert!(later.epoch() == shown.epoch() || later.epoch() == shown.epoch() + 1);
            }
        }
        let after = run.publisher.at(last.epoch() + 1).map(|view| view.epoch());
        assert_eq!(after, Err(NotKept::After { shown: last.epoch() }));
    }
    assert!(kept > 150 && gone > 20 && compared > 3_000, "{kept} kept, {gone} gone, {compared} rows compared");
}

#[test]
fn what_changed_between_two_instants_makes_one_of_the_other() {
    let small = HistoryLimits { view_changes_min: 10, share: 0.0, instant_updates_min: 10, ..ALL };
    let (mut told, mut refused) = (0, 0);
    for (seed, workers, limits) in [(6, 1, ALL), (7, 2, ALL), (8, 4, ALL), (9, 2, small)] {
        let run = history(seed, workers, limits);
        let (views, last) = (&run.views, run.last());
        let epochs: BTreeSet<Epoch> = views.iter().map(|view| view.epoch()).collect();
        for view in last.catalog().views() {
            let half = views[views.len() / 2].epoch();
            let all = run.publisher.rows_changed(view.id, half, last.epoch());
            // One that came later has no changes before.
            let is_late = limits == ALL && last.view_since(view.id) > half;
            assert!(all.is_ok() || limits == small || is_late, "{}: {all:?}", view.plan.name);
            refused += usize::from(all.is_err());
        }
        for (first, second) in (0..views.len()).flat_map(|first| [(first, first + 1), (first, first * 2 + 3)]) {
            let (Some(from), Some(to)) = (views.get(first), views.get(second)) else { continue };
            let (before, after) = (rows(from, last), rows(to, last));
            for (name, mut rows) in before {
                let id = last.catalog().view(&name).expect("it is shown at last").id;
                let before_of_name = rows.clone();
                let changes = run.publisher.rows_changed(id, from.epoch(), to.epoch());
                for (epoch, changed) in changes.expect("changes are kept for no shorter than instants") {
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
                let difference = run.publisher.difference(last, id, Some(from.epoch()), Some(to.epoch()));
                let difference = difference.expect("its changes are kept");
                assert_eq!((difference.from, difference.to), (from.epoch(), to.epoch()));
                assert!(difference.rows.is_sorted_by(|one, other| one.0 < other.0), "each row once");
                let mut rows = before_of_name;
                for (row, diff) in difference.rows {
                    assert!(diff != 0);
                    *rows.entry(row).or_default() += diff;
                }
                rows.retain(|_, count| *count != 0);
                assert_eq!(rows, after[&name], "{name} from {} to {} at once", from.epoch(), to.epoch());
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
    assert!(told > 1_000 && refused > 0, "{told} rows told, {refused} refused");
}

#[test]
fn the_states_of_a_resource_are_those_that_were_shown() {
    let small = HistoryLimits { share: 0.0, instant_updates_min: 60, ..ALL };
    let (mut compared, mut before) = (0, 0);
    for (seed, workers, limits) in [(10, 1, ALL), (11, 2, ALL), (12, 4, ALL), (13, 2, small)] {
        let run = history(seed, workers, limits);
        let last = run.last();
        let ids: BTreeSet<ResourceId> = run.views.iter().flat_map(|view| resources(view).into_keys()).collect();
        for id in ids {
            let (since, states) = run.publisher.states_from(last, id);
            assert!(states.is_sorted_by(|one, other| one.epoch < other.epoch), "an entry an epoch");
            assert!(states.iter().all(|one| since <= one.epoch && one.epoch <= last.epoch()));
            for shown in &run.views {
                if shown.epoch() < since {
                    before += 1;
                    continue;
                }
                let then = states.iter().rev().find(|one| one.epoch <= shown.epoch());
                let state = then.and_then(|one| one.state.as_ref());
                assert_eq!(state, shown.state(id), "{id} at {}", shown.epoch());
                if state.is_some() {
                    assert_eq!(
                        then.and_then(|one| one.orphaned_by),
                        shown.orphaned_by(id),
                        "{id} at {}",
                        shown.epoch()
                    );
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 5_000 && before > 100, "{compared} compared, {before} before history");
}

#[test]
fn what_was_last_changed_when_is_what_it_was_then() {
    for (seed, workers) in [(14, 1), (15, 4)] {
        let run = history(seed, workers, ALL);
        let (mut same, mut other) = (0, 0);
        for shown in &run.views {
            let mut is_as = |changed: Epoch, is_same: &dyn Fn(&ReadView) -> bool| {
                let since = run.views.iter().filter(|view| (changed..=shown.epoch()).contains(&view.epoch()));
                same += since.clone().count() - 1;
                other += usize::from(changed == shown.epoch());
                assert!(since.clone().all(|view| is_same(view)), "nothing changed from {changed} to {}", shown.epoch());
            };
            is_as(shown.tables_changed(), &|view| resources(view) == resources(shown));
            is_as(shown.quarantine_changed(), &|view| view.quarantine() == shown.quarantine());
            for one in shown.catalog().views() {
                let rows = |view: &ReadView| view.rows_from(one.id, &[]).map(|(row, n)| (row.clone(), n)).collect();
                let failures = |view: &ReadView| view.failures(one.id).map(|(row, n)| (row.clone(), n)).collect();
                let is_there = |view: &ReadView| view.catalog().views().any(|there| there.id == one.id);
                let (now, failed): (Vec<_>, Vec<_>) = (rows(shown), failures(shown));
                is_as(shown.rows_changed(one.id), &|view| !is_there(view) || rows(view) == now);
                is_as(shown.failures_changed(one.id), &|view| !is_there(view) || failures(view) == failed);
            }
        }
        assert!(same > 200 && other > 50, "{same} the same as before, {other} changed");
    }
}
