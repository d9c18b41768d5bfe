//! The real binary on a bad day of its disk: full, read-only, with a limit of file sizes, with an fsync that fails, taken
//! by another process. Reading and answering go on from memory, it is told, and when the disk works again snapshots are
//! taken again without a restart.
//!
//! A small disk of its own needs the right to mount one (root, or user namespaces); calls that fail need strace. What
//! cannot be had is said, and in CI it is a failure.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::command_line::{Process, addresses, tarn, text};
use crate::crash_points::{World, names, newest_generation};
use crate::durable::{drain, next_offset, serve, started};
use crate::served::{eventually, get};
use crate::support::injected::{Injection, may_inject, skip};

const EVENTS: i64 = 3_000;
/// For a test with many steps that each want something new: enough for a machine that is busy with others.
const MANY_EVENTS: i64 = 15_000;

fn snapshots(readers: SocketAddr) -> Value {
    get(readers, "/api/tarn/v1/status").json()["snapshots"].clone()
}

fn count(readers: SocketAddr, name: &str) -> u64 {
    snapshots(readers)[name].as_u64().expect("a number")
}

/// The value of a metric without labels.
fn metric(operators: SocketAddr, name: &str) -> f64 {
    let metrics = get(operators, "/metrics").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is not in {metrics}"))
}

/// A service that is fed a log by its standard input; its addresses.
fn fed(command: &mut Command) -> (Process, SocketAddr, SocketAddr) {
    let mut process = Process::start(command.stdin(Stdio::piped()).stderr(Stdio::piped()));
    let (readers, operators, rest) = addresses(&mut process);
    drain(rest);
    (process, readers, operators)
}

/// The lines of a log, given in parts; each is waited for.
struct Feed {
    input: std::process::ChildStdin,
    lines: Vec<String>,
    given: usize,
}

impl Feed {
    fn new(process: &mut Process, log: &str) -> Self {
        let lines = fs::read_to_string(log).expect("a log").lines().map(|line| format!("{line}\n")).collect();
        Self { input: process.0.stdin.take().expect("a pipe"), lines, given: 0 }
    }

    /// Gives some lines, which become visible: reading goes on.
    fn give(&mut self, readers: SocketAddr, count: usize) {
        let until = (self.given + count).min(self.lines.len());
        let some = self.lines[self.given..until].concat();
        std::io::Write::write_all(&mut self.input, some.as_bytes()).expect("it reads");
        self.given = until;
        eventually("what was given is visible", || next_offset(readers) >= i64::try_from(until).expect("few"));
    }

    /// A few, now and then: there is something new for snapshots for as long as a slow machine needs.
    fn give_some(&mut self, readers: SocketAddr) {
        self.give(readers, 4);
        std::thread::sleep(Duration::from_millis(20));
    }

    fn give_rest(mut self, readers: SocketAddr) {
        self.give(readers, self.lines.len());
    }
}

/// A small disk in a namespace of its own, which goes when the last process in it ends.
struct SmallDisk {
    holder: Child,
    path: PathBuf,
}

impl SmallDisk {
    /// A disk of so many MiB at `path`, if that is possible here.
    fn new(test: &str, path: &Path, mib: u32) -> Option<Self> {
        fs::create_dir(path).expect("ours");
        let mount =
            format!("mount -t tmpfs -o mode=700,size={mib}m tmpfs '{}' && echo mounted && read end", path.display());
        let mut holder = Command::new("unshare")
            .args(["-rm", "sh", "-c", &mount])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut word = [0; 7];
        let said = std::io::Read::read_exact(holder.stdout.as_mut().expect("a pipe"), &mut word);
        let disk = Self { holder, path: path.to_owned() };
        if said.is_err() {
            skip(test, "the right to mount a small disk (root, or user namespaces)");
            return None;
        }
        Some(disk)
    }

    /// The same command among those who see the disk.
    fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        let holder = self.holder.id().to_string();
        inside.args(["-t", &holder, "-U", "-m", "--preserve-credentials", "--"]);
        inside.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        inside.stdout(Stdio::piped()).stderr(Stdio::piped());
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside
    }

    /// A path on the disk, as it is seen from outside.
    fn seen(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.holder.id(), self.path.join(name).display()))
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = fs::File::create(self.seen("filler")).expect("room for a name");
        for size in [1 << 16, 1 << 12, 1] {
            while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.seen("filler")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop((self.holder.kill(), self.holder.wait()));
    }
}

#[test]
fn a_disk_that_fills_up_stops_nothing_and_snapshots_come_back_with_room() {
    let world = World::new(EVENTS);
    let Some(disk) = SmallDisk::new("a_disk_that_fills_up", &world.path("disk"), 24) else { return };
    let data = world.path("disk/data");
    let mut command = disk.inside(&serve("-", &data));
    let (mut process, readers, operators) = fed(&mut command);
    let mut feed = Feed::new(&mut process, &world.log);
    eventually("snapshots are taken", || {
        feed.give_some(readers);
        count(readers, "taken") > 3
    });
    disk.fill();
    feed.give(readers, 500);
    eventually("it is told", || {
        count(readers, "failed") > 1 && snapshots(readers)["lastError"].to_string().contains("No space left")
    });
    let age = metric(operators, "tarn_snapshot_age_seconds");
    std::thread::sleep(Duration::from_millis(300));
    assert!(metric(operators, "tarn_snapshot_age_seconds") > age + 0.2, "the age tells it");
    assert!(metric(operators, "tarn_snapshots_failed_total") > 1.0);
    feed.give(readers, 500);
    assert_eq!(get(readers, "/api/tarn/v1/resources?limit=1").status, 200);
    assert_eq!(get(readers, "/livez").status, 200);
    disk.free();
    eventually("snapshots are taken again", || {
        feed.give_some(readers);
        snapshots(readers)["lastError"].is_null()
    });
    eventually("bindings are written again", || snapshots(readers)["bindingsError"].is_null());
    feed.give_rest(readers);
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
    // A start on a full disk is refused with words and touches nothing; with room it is a start like any other.
    disk.fill();
    let refused = disk.inside(&serve(&world.log, &data)).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused.stderr).contains("No space left"), "{refused:?}");
    disk.free();
    let (mut process, readers) = started(&mut disk.inside(&serve(&world.log, &data)));
    assert_eq!(next_offset(readers), EVENTS, "the last snapshot is there");
    eventually("the log is read", || get(readers, "/readyz").status == 200);
    world.assert_right(readers, "after a full disk");
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
}

#[test]
fn a_new_directory_on_a_full_disk_is_refused_with_words() {
    let world = World::new(300);
    let Some(disk) = SmallDisk::new("a_new_directory_on_a_full_disk", &world.path("disk"), 4) else { return };
    let data = world.path("disk/data");
    disk.fill();
    let refused = disk.inside(&serve(&world.log, &data)).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused.stderr).contains("No space left"), "{refused:?}");
    disk.free();
    let (_process, readers) = started(&mut disk.inside(&serve(&world.log, &data)));
    eventually("the log is read", || get(readers, "/readyz").status == 200);
    world.assert_right(readers, "with room");
}

#[test]
fn a_limit_of_file_sizes_stops_nothing_and_is_told() {
    let world = World::new(EVENTS);
    let data = world.path("data");
    // Of the shell's blocks: less than a sled has when it begins.
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 100 && exec \"$0\" \"$@\""]);
    let command = serve(&world.log, &data);
    limited.arg(command.get_program()).args(command.get_args()).stdout(Stdio::null()).stderr(Stdio::piped());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (mut process, readers) = started(&mut limited);
    eventually("the log is read", || get(readers, "/readyz").status == 200);
    eventually("it is told", || count(readers, "failed") > 0);
    let told = snapshots(readers)["lastError"].to_string();
    assert!(told.contains("File too large"), "{told}");
    world.assert_right(readers, "under a limit");
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0), "it ends in order");
    world.assert_goes_on(&data, "without a limit");
}

/// A service whose calls fail from outside while this lives.
struct Failing(Child);

impl Failing {
    fn attach(process: &Process, injection: &Injection) -> Self {
        let mut strace = Command::new("strace");
        strace.args(injection.arguments()).args(["-o", "/dev/null", "-p", &process.0.id().to_string()]);
        Self(strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs"))
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        // In order, so that it lets go of whom it traces. One that is told so while a traced thread starts a process can
        // wait for that thread for ever, which waits for its child, which waits for strace: then the kernel lets go.
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("it is there");
        let patience = Instant::now() + Duration::from_secs(2);
        while Instant::now() < patience {
            if self.0.try_wait().expect("it is ours").is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop((self.0.kill(), self.0.wait()));
    }
}

#[test]
fn a_disk_that_becomes_read_only_stops_nothing_and_is_told() {
    if !may_inject("a_disk_that_becomes_read_only") {
        return;
    }
    let world = World::new(EVENTS);
    let data = world.path("data");
    let (mut process, readers, _) = fed(&mut serve("-", &data));
    let mut feed = Feed::new(&mut process, &world.log);
    feed.give(readers, 500);
    eventually("a snapshot is taken", || count(readers, "taken") > 0);
    let calls = "openat,mkdir,rename,unlink,unlinkat,pwrite64,ftruncate";
    let read_only =
        Injection { call: calls.to_owned(), fault: "error=EROFS".to_owned(), when: "1+".to_owned(), files: Vec::new() };
    let failing = Failing::attach(&process, &read_only);
    let mut rounds = 0;
    eventually("it is told", || {
        rounds += 1;
        feed.give_some(readers);
        snapshots(readers)["lastError"].to_string().contains("Read-only file system")
    });
    assert_eq!(get(readers, "/api/tarn/v1/resources?limit=1").status, 200);
    drop(failing);
    eventually("snapshots are taken again", || {
        feed.give_some(readers);
        snapshots(readers)["lastError"].is_null()
    });
    feed.give_rest(readers);
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0), "after {rounds} rounds");
    world.assert_goes_on(&data, "after a read-only disk");
}

/// Whose fsync fails: of an increment in generation `N`, of the base of the next one, of what names it.
const FSYNCS: [&str; 7] = [
    "gen-N/store/db",
    "gen-N/store",
    "gen-N/MANIFEST.tmp",
    "gen-N",
    "gen.tmp-N/store/conf",
    "gen.tmp-N/MANIFEST.tmp",
    "CURRENT.tmp",
];

#[test]
fn a_generation_with_an_fsync_that_failed_is_never_written_again() {
    if !may_inject("a_generation_with_an_fsync_that_failed") {
        return;
    }
    let world = World::new(MANY_EVENTS);
    let data = world.path("data");
    let (mut process, readers, _) = fed(&mut serve("-", &data));
    let mut feed = Feed::new(&mut process, &world.log);
    eventually("a generation is there", || {
        feed.give_some(readers);
        count(readers, "taken") > 1
    });
    for file in FSYNCS {
        let (before, newest) = (count(readers, "failed"), newest_generation(&data));
        let numbers = newest..newest + 20;
        let files = numbers.map(|number| data.join(file.replace("-N", &format!("-{number:06}")))).collect();
        let (call, fault, when) = ("fsync".to_owned(), "error=EIO".to_owned(), "1".to_owned());
        let failing = Failing::attach(&process, &Injection { call, fault, when, files });
        eventually(&format!("{file}: it is told"), || {
            feed.give_some(readers);
            count(readers, "failed") > before
        });
        let failed_in = newest_generation(&data);
        drop(failing);
        eventually(&format!("{file}: another generation is begun"), || {
            feed.give_some(readers);
            newest_generation(&data) > failed_in && snapshots(readers)["lastError"].is_null()
        });
    }
    feed.give_rest(readers);
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
    world.assert_goes_on(&data, "after all of them");
}

#[test]
fn a_second_process_leaves_the_first_one_and_its_files_alone() {
    let world = World::new(300);
    let data = world.path("data");
    let (mut first, readers) = started(&mut serve(&world.log, &data));
    eventually("the log is read", || get(readers, "/readyz").status == 200);
    // The first one has nothing left to write: what goes from now on, somebody else took.
    let mut before = Vec::new();
    eventually("its snapshots hold everything", || {
        let (former, settled) = (std::mem::replace(&mut before, names(&data)), Duration::from_millis(500));
        std::thread::sleep(settled);
        former == before && count(readers, "taken") > 0 && !before.iter().any(|name| name.ends_with(".generating"))
    });
    for arguments in [vec!["serve"], vec!["snapshot", "verify", data.to_str().expect("UTF-8")]] {
        let mut second = tarn(&arguments);
        second.envs(serve(&world.log, &data).get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = second.output().expect("it runs");
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        assert!(text(&output.stderr).contains(&format!("another tarn (pid {})", first.0.id())), "{output:?}");
    }
    assert!(before.iter().all(|name| names(&data).contains(name)));
    world.assert_right(readers, "beside another one");
    // The kernel frees the lock of whoever was killed.
    first.0.kill().expect("it is there");
    first.0.wait().expect("it is ours");
    world.assert_goes_on(&data, "after it");
}

#[test]
fn a_deleted_directory_is_told_and_not_made_again() {
    let world = World::new(EVENTS);
    let data = world.path("data");
    let (mut process, readers, _) = fed(&mut serve("-", &data));
    let mut feed = Feed::new(&mut process, &world.log);
    feed.give(readers, 500);
    eventually("a snapshot is taken", || count(readers, "taken") > 0);
    fs::remove_dir_all(&data).expect("ours");
    eventually("it is told", || {
        feed.give_some(readers);
        snapshots(readers)["lastError"].to_string().contains("was moved or deleted")
    });
    feed.give_rest(readers);
    assert!(!data.exists());
    process.signal(Signal::TERM);
    assert_eq!(process.end(), Some(0));
    world.assert_goes_on(&data, "with nothing");
}
