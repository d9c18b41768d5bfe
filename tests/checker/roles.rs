//! What clients do: some read, some write and read what they wrote, one leases instants and compares views at each, one
//! follows changes, one compares its state with the past, and one resumes its stream from anywhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use rand::Rng;
use tarn::generate::RESOURCES_TOPIC;

use super::client::{Came, Client, What, told_in};
use super::following::{Followed, Mark, is_the_same, may_be_reset};
use super::rules::{Asked, Told};
use super::truth::{Hosts, RESOURCES};
use crate::support::sse::Stream;

const CHANGES: &str = "/api/tarn/v1/views/hosts/changes";
/// How long a read waits at most.
const TIMEOUT: &str = "timeout=10s";

/// Events, in bursts, until it is over.
pub fn ingest(client: &mut Client) -> Result<(), String> {
    while !client.shared.is_over() {
        // What could not be read meanwhile would only have to be read later.
        if client.shared.here().is_some_and(|here| here.is_ready()) {
            for _ in 0..client.random.random_range(1..10) {
                client.shared.append(client.random.random_range(0..RESOURCES), client.random.random_bool(0.15));
            }
        }
        std::thread::sleep(Duration::from_millis(client.random.random_range(1..40)));
    }
    Ok(())
}

/// Reads in every way.
pub fn read(client: &mut Client) -> Result<(), String> {
    while !client.shared.is_over() {
        let what = What::any(&mut client.random);
        let known = match client.random.random_bool(0.5) {
            true => client.token.clone(),
            false => client.shared.token.lock().expect("no panic").clone(),
        };
        let came = match (client.random.random_range(0..20), known) {
            (0..9, _) | (_, None) => client.read(Asked::Newest, what, "")?,
            (9..11, _) => {
                let query = format!("consistency=atLeastAsAcknowledged&{TIMEOUT}");
                client.read(Asked::Acknowledged(0), what, &query)?
            }
            (_, Some((told, token))) => {
                let query = format!("consistency=atLeastAsFresh&token={token}&{TIMEOUT}");
                client.read(Asked::Token(told), what, &query)?
            }
        };
        match came {
            // Others go on where this one was.
            Came::Told(_) if client.random.random_bool(0.3) => {
                *client.shared.token.lock().expect("no panic") = client.token.clone();
            }
            Came::Gone => return Err("what is newest is gone".to_owned()),
            _ => {}
        }
    }
    Ok(())
}

/// Writes, and reads what was written by its place and by its id.
pub fn write(client: &mut Client) -> Result<(), String> {
    while !client.shared.is_over() {
        let Some(here) = client.shared.here() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let number = client.random.random_range(0..RESOURCES);
        let (offset, id) = client.shared.append(number, client.random.random_bool(0.2));
        let place = format!("after={RESOURCES_TOPIC}:0:{offset}&{TIMEOUT}");
        for query in [place, format!("after={id}&{TIMEOUT}")] {
            let what = if client.random.random_bool(0.8) { What::Resource(number) } else { What::Hosts };
            let mut came = Came::Nothing;
            while came == Came::Nothing && !client.shared.is_over() {
                came = client.read(Asked::After(offset), what, &query)?;
            }
            // Ids that were read before a restart may be forgotten, places never.
            if came == Came::Gone && (client.life == here.life || !query.contains(&id)) {
                return Err(format!("{query} is gone, and was written in life {}", here.life));
            }
        }
    }
    Ok(())
}

/// Leases an instant and reads everything at it.
pub fn compare(client: &mut Client) -> Result<(), String> {
    while !client.shared.is_over() {
        let Some(here) = client.shared.here().filter(|here| here.is_ready()) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let Some(leased) = client.ask(&here, "POST", "/api/tarn/v1/read-points?ttl=30s", "")? else { continue };
        if leased.status == 503 {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let (told, body) = (told_in(&leased), leased.json());
        let (Some(told), Some(at)) = (told, body["at"].as_str().filter(|_| leased.status == 201)) else {
            return Err(format!("what is {} {}?", leased.status, leased.body));
        };
        for round in 0..2 {
            for what in [What::ByType, What::Total, What::Query, What::Hosts, What::any(&mut client.random)] {
                let came = client.read(Asked::At(told), what, &format!("at={at}"))?;
                if came == Came::Gone && client.life == here.life {
                    return Err(format!("a read point is gone at once: {}", leased.body));
                }
            }
            // Time goes on, and the instant does not.
            std::thread::sleep(Duration::from_millis(client.random.random_range(0..30) * round));
        }
        client.ask(&here, "POST", &format!("/api/tarn/v1/read-points/{at}/release"), "")?;
    }
    Ok(())
}

/// The state at an epoch, as it follows from a stream.
#[derive(Debug)]
pub struct State {
    epoch: u64,
    hosts: Hosts,
}

/// Follows changes over restarts.
pub fn follow(client: &mut Client, states: &Sender<State>) -> Result<(), String> {
    let shared = Arc::clone(&client.shared);
    let followed = || shared.followed.lock().expect("no panic");
    while !shared.is_over() {
        let last = followed().last_id.clone();
        let stream =
            shared.here().and_then(|here| Some((Stream::try_open(here.at, CHANGES, last.as_deref()).ok()?, here)));
        let Some((mut stream, here)) = stream else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        match stream.head.split(' ').nth(1) {
            Some("200") => {}
            Some("503") | None => {
                shared.count("streams refused");
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            Some(_) => return Err(format!("a stream is answered with {}", stream.head)),
        }
        while let Some(event) = stream.event().filter(|_| !shared.is_over()) {
            let mut followed = followed();
            if followed.take(here.life, &event).map_err(|why| format!("life {}: {why}", here.life))? {
                shared.count(&format!("events of {} followed", event.name));
                let state = State { epoch: followed.epoch, hosts: followed.hosts.clone() };
                if event.name != "progress" || client.random.random_bool(0.2) {
                    // Whoever compares may have come to its end.
                    drop(states.send(state));
                }
            }
        }
        shared.count("streams ended");
    }
    Ok(())
}

/// Compares states that were followed with what is told of their epochs.
pub fn audit(client: &mut Client, states: &Receiver<State>) -> Result<(), String> {
    for State { epoch, hosts } in states {
        let shared = Arc::clone(&client.shared);
        // No more than it can look at: the newest are there longest.
        let mut came = Came::Nothing;
        while came == Came::Nothing && !shared.is_over() {
            came = client.read(Asked::AsOf(epoch), What::Hosts, &format!("asOf={epoch}&{TIMEOUT}"))?;
        }
        let position = match came {
            Came::Told(told) => told.position,
            Came::Gone => {
                let ready_ms = shared.here().map_or(u64::MAX, |here| here.ready_ms.load(Ordering::Relaxed));
                if epoch > ready_ms.saturating_add(2_000) {
                    return Err(format!("epoch {epoch} is gone, and the service is ready since {ready_ms}"));
                }
                shared.count("epochs that are gone");
                let Some(position) = shared.epochs.lock().expect("no panic").position(epoch) else { continue };
                position
            }
            Came::Nothing => continue,
        };
        let expected = shared.log.read().expect("no panic").hosts(position);
        if hosts != expected {
            return Err(format!("followed until epoch {epoch}: {hosts:?}; at {position} it is {expected:?}"));
        }
        shared.count("states that were compared");
    }
    Ok(())
}

/// Resumes the stream that was followed, from anywhere.
pub fn resume(client: &mut Client) -> Result<(), String> {
    let shared = Arc::clone(&client.shared);
    while !shared.is_over() {
        let here = shared.here();
        let picked = pick(client, &shared.followed.lock().expect("no panic"));
        let (Some(here), Some((Mark { id, life, .. }, expected))) = (here, picked) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let Ok(mut stream) = Stream::try_open(here.at, CHANGES, Some(&id)) else { continue };
        let Some(hello) = stream.event() else { continue };
        if hello.data["resumed"] != true {
            let reset = stream.event();
            let Some(why) = reset.as_ref().map(|reset| reset.data["reason"].as_str().unwrap_or_default()) else {
                continue;
            };
            if !may_be_reset(why, life, here.life) {
                return Err(format!("{id} of life {life} is not resumed in life {}: {reset:?}", here.life));
            }
            shared.count(&format!("ids that were told to begin anew: {why}"));
            continue;
        }
        let mut again = Vec::new();
        while again.len() < expected.len() {
            let Some(event) = stream.event() else { break };
            match event.name.as_str() {
                "changes" => again.push(event.text),
                "progress" => {}
                _ => return Err(format!("{id} of life {life} is resumed, and then: {}", event.text)),
            }
        }
        is_the_same(&expected, &again).map_err(|why| format!("{id} of life {life} in life {}: {why}", here.life))?;
        shared.count(if life == here.life { "ids resumed" } else { "ids resumed over a restart" });
        if again.len() == expected.len() {
            shared.count("streams that were told again to their end");
        }
    }
    Ok(())
}

/// An id, and some of what was told after it.
fn pick(client: &mut Client, followed: &Followed) -> Option<(Mark, Vec<String>)> {
    let marks = &followed.marks;
    // Late ones more often: those of a former life are soon gone.
    let late = marks.len().saturating_sub(200);
    let from = if client.random.random_bool(0.5) { late } else { 0 };
    let mark = marks.get(client.random.random_range(from..marks.len().max(from + 1)))?;
    let told = followed.frames.iter().skip(mark.frames).take(client.random.random_range(1..40)).cloned();
    Some((mark.clone(), told.collect()))
}

/// Whether somebody was told all that was written.
pub fn has_all(client: &mut Client) -> Result<Option<Told>, String> {
    let end = client.shared.log.read().expect("no panic").end();
    match client.read(Asked::Newest, What::Hosts, "")? {
        Came::Told(told) if told.position == end => Ok(Some(told)),
        _ => Ok(None),
    }
}
