//! Change streams at their root: snapshot and frames make the state at every epoch, in every form and with filters, over
//! random logs of an Inventory with 1, 2 and 4 workers; and resumed after any of them the frames are the same bytes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::Value;
use tarn::http::streams::{Places, Reset, RowSelection, Subject};
use tarn::http::write_resource;
use tarn::model::{Epoch, Field};
use tarn::published::{CatalogView, Filter, ReadView, TokenKey};
use tarn::sql::{Format, Row};

use crate::history::{ALL, history};
use crate::support::engine::Run;
use crate::support::sse::{Event, events};

/// All rows of a view at an instant, as JSON.
fn rows_at(view: &ReadView, shown: &CatalogView) -> Vec<Value> {
    let rows: Vec<(&Row, usize)> = view.rows_from(shown.id, &[]).collect();
    let each: Vec<&Row> = rows.iter().flat_map(|(row, count)| std::iter::repeat_n(*row, *count)).collect();
    let batch = shown.plan.selected(&shown.plan.codec.decode(each.into_iter()));
    let written = Format::Json.write(&shown.plan.selected_schema(), &[batch]).expect("it can be written");
    serde_json::from_str(&format!("[{}]", String::from_utf8(written).expect("UTF-8"))).expect("JSON")
}

/// What a client has: things by name, as often as they are there.
type Held = BTreeMap<String, Vec<Value>>;

/// Rows under the text of their key, or of the whole row.
fn held(rows: Vec<Value>, key: Option<&[String]>) -> Held {
    let mut held = Held::new();
    for row in rows {
        held.entry(name_of(&row, key)).or_default().push(row);
    }
    held
}

fn name_of(row: &Value, key: Option<&[String]>) -> String {
    match key {
        None => row.to_string(),
        Some(key) => key.iter().map(|column| format!("{column}={} ", row[column])).collect(),
    }
}

fn list<'a>(event: &'a Event, name: &str) -> &'a [Value] {
    event.data[name].as_array().map_or(&[], Vec::as_slice)
}

/// What a client makes of a frame.
fn apply(held: &mut Held, event: &Event, key: Option<&[String]>) {
    for row in list(event, "left") {
        let rows = held.get_mut(&row.to_string()).expect("a row leaves that is there");
        rows.pop();
        held.retain(|_, rows| !rows.is_empty());
    }
    for row in list(event, "came") {
        held.entry(row.to_string()).or_default().push(row.clone());
    }
    for change in list(event, "changes") {
        let name = match change.get("resourceId") {
            Some(id) => id.to_string(),
            None => name_of(&change["key"], key),
        };
        let value = if change.get("resourceId").is_some() { &change["resource"] } else { &change["value"] };
        match value {
            Value::Null => drop(held.remove(&name)),
            value => drop(held.insert(name, vec![value.clone()])),
        }
    }
}

/// The state that the snapshot of an instant tells.
fn snapshot(subject: &Subject, places: &Places<'_>, view: &ReadView, shown: tarn::dataflow::ViewId) -> Vec<Value> {
    let (mut rows, mut place) = (Vec::new(), None);
    loop {
        let (part, next) = subject.part(places, view, shown, place.as_ref()).expect("a snapshot");
        for event in part.iter().flat_map(|part| events(part)) {
            assert_eq!((event.name.as_str(), event.id.is_some()), ("snapshot", event.data["last"] == true));
            assert_eq!(event.data["last"] == true, next.is_none());
            rows.extend(list(&event, "rows").to_vec());
        }
        match next {
            Some(next) => place = Some(next),
            None => return rows,
        }
    }
}

/// Follows a subject from the first of these instants to the last, and holds every state to what it is said to be.
fn follow(
    run: &Run,
    subject: &Subject,
    shown: tarn::dataflow::ViewId,
    views: &[Arc<ReadView>],
    key: Option<&[String]>,
    expected: &dyn Fn(&ReadView) -> Held,
    comparable: &dyn Fn(&Held) -> Held,
) -> Result<usize, Reset> {
    let places = Places { publisher: &run.publisher, topics: &run.topics, keys: run.keys };
    let (first, last) = (&views[0], views.last().expect("an instant"));
    let count = |epoch| subject.count_keys(&run.publisher, last, shown, epoch);
    let mut counts = count(first.epoch())?;
    let mut frames: Vec<(Epoch, Vec<u8>)> = Vec::new();
    let between = (first.epoch(), last.epoch());
    subject.frames(&places, shown, between, &mut counts, &mut |epoch, frame| {
        frames.push((epoch, frame));
        ControlFlow::Continue(())
    })?;
    let mut state = Held::new();
    for row in snapshot(subject, &places, first, shown) {
        let (name, value) = match (row.get("resourceId").filter(|_| row.get("resource").is_some()), key) {
            (Some(id), _) => (id.to_string(), row["resource"].clone()),
            (None, Some(_)) => (name_of(&row["key"], key), row["value"].clone()),
            (None, None) => (row.to_string(), row),
        };
        state.entry(name).or_default().push(value);
    }
    let mut states = vec![(first.epoch(), state.clone())];
    let mut next = frames.iter().peekable();
    for view in views {
        while let Some((epoch, frame)) = next.next_if(|(epoch, _)| *epoch <= view.epoch()) {
            let told = events(frame);
            assert_eq!(told.len(), 1, "one event a frame");
            let event = &told[0];
            assert_eq!((event.name.as_str(), &event.data["epoch"]), ("changes", &(*epoch).into()));
            assert_eq!(*epoch, view.epoch(), "a frame has the epoch that is seen");
            apply(&mut state, event, key);
        }
        assert_eq!(comparable(&state), comparable(&expected(view)), "at {}", view.epoch());
        states.push((view.epoch(), state.clone()));
    }
    assert!(next.peek().is_none());
    // After any of them it goes on with the same bytes, and any two instants have one frame between them.
    for (place, (at, before)) in states.iter().enumerate().step_by(1 + states.len() / 20) {
        let mut again = Vec::new();
        subject.frames(&places, shown, (*at, last.epoch()), &mut count(*at)?, &mut |epoch, frame| {
            again.push((epoch, frame));
            ControlFlow::Continue(())
        })?;
        let rest = &frames[frames.partition_point(|(epoch, _)| epoch <= at)..];
        assert!(again == rest, "resumed after {at}");
        let (until, after) = &states[(place * 2 + 3).min(states.len() - 1)];
        if at < until {
            let mut state = before.clone();
            let frame = subject.coalesced(&places, shown, (*at, *until))?;
            for event in frame.iter().flat_map(|frame| events(frame)) {
                assert_eq!((&event.data["coalesced"], &event.data["to"]), (&true.into(), &(*until).into()));
                apply(&mut state, &event, key);
            }
            assert_eq!(comparable(&state), comparable(after), "from {at} to {until} in one frame");
        }
    }
    Ok(frames.len())
}

/// A column of texts with one that is there at some time.
fn some_filter(views: &[Arc<ReadView>], shown: &CatalogView) -> Option<(String, String)> {
    let texts = shown.plan.columns.iter().filter(|column| column.is_text()).map(|column| &column.name);
    let rows = views.iter().flat_map(|view| rows_at(view, shown)).step_by(7).collect::<Vec<_>>();
    let mut found = texts.filter_map(|column| {
        let value = rows.iter().find_map(|row| row[column].as_str())?;
        Some((column.clone(), value.to_owned()))
    });
    found.next_back()
}

#[test]
fn snapshot_and_frames_of_a_view_are_its_rows_at_every_epoch() {
    let key = TokenKey::from_secret("s");
    let (mut frames, mut keyed, mut no_keys) = (0, 0, 0);
    for (seed, workers) in [(11, 1), (12, 2), (13, 4)] {
        let run = history(seed, workers, ALL);
        let last = run.views.last().expect("an epoch");
        for shown in last.catalog().views() {
            let is_shown = |view: &&Arc<ReadView>| {
                view.epoch() >= last.view_since(shown.id) && view.catalog().views().any(|there| there.id == shown.id)
            };
            let views: Vec<Arc<ReadView>> = run.views.iter().filter(is_shown).cloned().collect();
            let columns: Vec<String> = shown.plan.columns.iter().map(|column| column.name.clone()).collect();
            let filter = some_filter(&views, shown);
            for filter in [None, filter] {
                for of_key in [None, Some(columns[..1].to_vec()), Some(columns.clone())] {
                    let filters = filter.iter().map(|(column, value)| (column.clone(), vec![Some(value.clone())]));
                    let selection = RowSelection { filters: filters.collect(), key: of_key.clone() };
                    let subject = Subject::view(&shown.plan, &selection, &key, 0).expect("it can be followed");
                    let expected = |view: &ReadView| {
                        let mut rows = rows_at(view, shown);
                        if let Some((column, value)) = &filter {
                            rows.retain(|row| row[column].as_str() == Some(value));
                        }
                        held(rows, of_key.as_deref())
                    };
                    let same = Held::clone;
                    let told = follow(&run, &subject, shown.id, &views, of_key.as_deref(), &expected, &same);
                    let is_key = views.iter().all(|view| expected(view).values().all(|rows| rows.len() == 1));
                    let (name, id) = (&shown.plan.name, &shown.id);
                    match told {
                        Ok(told) => {
                            assert!(of_key.is_none() || is_key, "{name} {id:?}: {of_key:?} is no key");
                            frames += told;
                            keyed += usize::from(of_key.is_some());
                        }
                        Err(reset) => {
                            assert_eq!((reset, is_key), (Reset::NotAKey, false), "{name}: {of_key:?}");
                            assert!(of_key.is_some());
                            no_keys += 1;
                        }
                    }
                }
            }
        }
    }
    println!("{frames} frames, {keyed} keys, {no_keys} that are none");
    assert!(frames > 1_000 && keyed > 20 && no_keys > 3, "{frames} frames, {keyed} keys, {no_keys} that are none");
}

#[test]
fn snapshot_and_frames_of_resources_are_those_that_were_chosen_at_every_epoch() {
    let key = TokenKey::from_secret("s");
    let (mut frames, mut fewer) = (0, 0);
    for (seed, workers) in [(21, 1), (22, 2), (23, 4)] {
        let run = history(seed, workers, ALL);
        let of_hosts = [vec!["host".to_owned()], vec![], vec![], vec![]];
        let hosts = Filter { dimensions: of_hosts, ..Filter::default() };
        let orphans = Filter { orphaned: true, ..Filter::default() };
        for filter in [Filter::default(), hosts, orphans] {
            let expected = |view: &ReadView| {
                let mut held = Held::new();
                for state in view.all_states().iter().filter(|state| state.is_live()) {
                    let orphaned_by = view.orphaned_by(state.id);
                    let is_of_type = filter.dimensions[0].is_empty() || state.text(Field::ResourceType) == Some("host");
                    if is_of_type && orphaned_by.is_some() == filter.orphaned {
                        let mut json = Vec::new();
                        write_resource(&mut json, state, orphaned_by, &run.topics);
                        let json: Value = serde_json::from_slice(&json).expect("JSON");
                        held.insert(json["resourceId"].to_string(), vec![json]);
                    }
                }
                held
            };
            let without_events = |held: &Held| {
                let mut held = held.clone();
                for resource in held.values_mut().flatten().filter_map(Value::as_object_mut) {
                    resource.remove("updatedAt");
                    resource.remove("lastEvent");
                }
                held
            };
            let told = |with_repeats, comparable: &dyn Fn(&Held) -> Held| {
                let subject = Subject::resources(filter.clone(), with_repeats, &key, 0);
                let views = &run.views[1..];
                follow(&run, &subject, tarn::dataflow::ViewId(0), views, None, &expected, comparable).expect("followed")
            };
            let (all, without) = (told(true, &Held::clone), told(false, &without_events));
            frames += all;
            fewer += all - without;
        }
    }
    println!("{frames} frames, {fewer} of repeats alone");
    assert!(frames > 300, "{frames} frames");
}
