//! The history checker: many clients read, write, follow and resume against the real binary under ingest, which is killed
//! again and again; everything that they are told must follow from the log alone.
//!
//! `TARN_CHECKER_RESTARTS=1000 TARN_CHECKER_READS=10000000 TARN_CHECKER_SEED=n cargo test --test it checker` does more.
//! What clients do follows from the seed, when they are served does not: a violation shows what its client did before.

pub mod client;
mod following;
mod forged;
mod roles;
mod rules;
mod truth;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::property::number;
use client::Client;
use world::{Shared, World};

/// What a client does until it is over.
type Role = Box<dyn FnOnce(&mut Client) -> Result<(), String> + Send>;

/// Begins a client; whatever ends it but the end of all is a violation.
fn begin(shared: &Arc<Shared>, name: &'static str, seed: u64, role: Role) -> JoinHandle<()> {
    let mut client = Client::new(shared, seed);
    std::thread::spawn(move || {
        let went = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| role(&mut client)));
        let what = match went {
            Ok(Ok(())) => return,
            Ok(Err(what)) => what,
            Err(_) => "it panicked".to_owned(),
        };
        client.shared.fail(format!("{name}: {what}\nbefore that:\n{}", client.history()));
    })
}

fn clients(shared: &Arc<Shared>, random: &mut StdRng) -> Vec<JoinHandle<()>> {
    let (states, to_compare) = channel();
    let roles: Vec<(&'static str, Role)> = vec![
        ("ingest", Box::new(roles::ingest)),
        ("reader 1", Box::new(roles::read)),
        ("reader 2", Box::new(roles::read)),
        ("reader 3", Box::new(roles::read)),
        ("writer 1", Box::new(roles::write)),
        ("writer 2", Box::new(roles::write)),
        ("comparer", Box::new(roles::compare)),
        ("follower", Box::new(move |client| roles::follow(client, &states))),
        ("auditor", Box::new(move |client| roles::audit(client, &to_compare))),
        ("resumer", Box::new(roles::resume)),
    ];
    roles.into_iter().map(|(name, role)| begin(shared, name, random.random(), role)).collect()
}

/// Waits until so many reads were answered.
fn reads(shared: &Shared, count: u64) {
    let (mut before, mut since) = (0, Instant::now());
    while !shared.is_over() && shared.reads.load(Ordering::Relaxed) < count {
        let now = shared.reads.load(Ordering::Relaxed);
        if now != before {
            (before, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < Duration::from_secs(60), "nobody is answered any more: {:?}", shared.counts());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn whatever_clients_are_told_follows_from_the_log() {
    let seed = number("TARN_CHECKER_SEED").unwrap_or_else(rand::random);
    let restarts = number("TARN_CHECKER_RESTARTS").unwrap_or(3);
    let wanted = number("TARN_CHECKER_READS").unwrap_or(3_000);
    println!("TARN_CHECKER_SEED={seed} TARN_CHECKER_RESTARTS={restarts} TARN_CHECKER_READS={wanted}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new();
    let shared = Arc::clone(&world.shared);
    for number in 0..200 {
        shared.append(number % truth::RESOURCES, random.random_bool(0.1));
    }
    let clients = clients(&shared, &mut random);
    for life in 0..=restarts {
        world.start([100, 1_000, 5_000][random.random_range(0..3)]);
        if life > 0 && random.random_bool(0.2) {
            // Before it is ready.
            std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
            world.kill();
            world.start(1_000);
        }
        world.go_on();
        reads(&shared, wanted * (life + 1) / (restarts + 1));
        if life < restarts && !shared.is_over() {
            std::thread::sleep(Duration::from_millis(random.random_range(0..500)));
            world.kill();
        }
        if shared.is_over() {
            break;
        }
    }
    shared.end();
    for client in clients {
        client.join().expect("it says what went wrong");
    }
    if let Some(what) = shared.failure() {
        panic!("TARN_CHECKER_SEED={seed}: {what}");
    }
    let mut last = Client::new(&shared, seed);
    let deadline = Instant::now() + Duration::from_secs(30);
    while roles::has_all(&mut last).unwrap_or_else(|what| panic!("at the end: {what}")).is_none() {
        assert!(Instant::now() < deadline, "not all of the log is there: {}", last.history());
    }
    let followed = shared.followed.lock().expect("no panic");
    println!("{:#?}\nresumed {}, resets {:?}", shared.counts(), followed.resumed, followed.resets);
    for what in ["states that were compared", "ids resumed", "reads that asked for a read point"] {
        assert!(shared.counts().get(what).is_some_and(|count| *count > 10), "{what}: {:?}", shared.counts());
    }
    assert!(followed.resumed + followed.resets.len() >= restarts as usize, "it was not followed over restarts");
}
