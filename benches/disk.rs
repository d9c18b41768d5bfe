//! What lies on the disk after as many snapshots as an hour has, at most and in the end.
//!
//! `cargo bench --bench disk`; `TARN_BENCH_RESOURCES`, `TARN_BENCH_CHANGES` (between two snapshots) and
//! `TARN_BENCH_SNAPSHOTS` change its size. An hour has 360 snapshots at the interval of 10 s. Here they come a second
//! apart, each once its changes have been read, so the same runs are written in a few minutes; new generations begin when
//! the increments have grown past half the base, as they do in an hour, and never because a base is an hour old. The
//! size of the directory is looked at all the while: while a base is written there are three generations.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::data::{self, Generation, generation, mb, tree_bytes};
use support::feed::{Fed, Feed};
use support::{print_table, setting};

const SECOND_MS: u64 = 1_000;
/// How often the directory is looked at.
const LOOK: Duration = Duration::from_millis(50);

fn main() {
    let resources = setting("TARN_BENCH_RESOURCES", 1_000_000);
    let changes = setting("TARN_BENCH_CHANGES", 10_000);
    let snapshots = setting("TARN_BENCH_SNAPSHOTS", 360);
    let folder = data::folder();
    let data = folder.path().join("data");
    let (most, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut written = Written::default();
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                most.fetch_max(tree_bytes(&data), Ordering::AcqRel);
                std::thread::sleep(LOOK);
            }
        });
        written = hour(&data, resources, changes, snapshots);
        done.store(true, Ordering::Release);
    });
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    print(&written, &generation(&data), most.into_inner(), tree_bytes(&data));
    println!("{snapshots} snapshots of {changes} changes each, {resources} resources, in {minutes:.1} minutes");
}

/// What was written.
#[derive(Debug, Default)]
struct Written {
    snapshots: u64,
    generations: u64,
    bytes: u64,
    /// The packed bytes of the greatest base.
    base_bytes: u64,
}

/// Creates the resources, and changes some of them before each snapshot.
fn hour(data: &Path, resources: u64, changes: u64, snapshots: u64) -> Written {
    let mut feed = Feed::new(resources);
    let mut fed = Fed::start(data, SECOND_MS, &[]);
    feed.create(resources, &mut fed);
    fed.server.wait_read(resources);
    let first = fed.after(&feed.changes(changes));
    let mut written = Written::default();
    let mut last = first;
    while last.taken < first.taken + snapshots {
        let now = fed.after(&feed.changes(changes));
        written.bytes += now.bytes;
        if now.generation > last.generation {
            written.base_bytes = written.base_bytes.max(now.bytes);
        }
        last = now;
    }
    written.snapshots = last.taken - first.taken;
    written.generations = last.generation - first.generation;
    fed.server.stop();
    written
}

fn print(written: &Written, current: &Generation, most: u64, in_the_end: u64) {
    let state = written.base_bytes.max(current.base_bytes);
    let of_state = |bytes: u64| format!("{:.2}", bytes as f64 / state as f64);
    let row = |what: &str, bytes: u64| vec![what.to_owned(), mb(bytes), of_state(bytes)];
    let rows = [
        row("the state, packed: the greatest base", state),
        row("written as packed rows in all", written.bytes),
        row("current generation", current.on_disk_bytes),
        row("directory in the end", in_the_end),
        row("directory at most", most),
        row("three packed states and one generation", 3 * state + current.on_disk_bytes),
    ];
    let title = format!("disk: after {} snapshots, {} of them bases", written.snapshots, written.generations);
    print_table(&title, &["what", "MB", "of the packed state"], &rows);
}
