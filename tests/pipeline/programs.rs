//! Programs that run beside the tests: started, killed, stopped, and never left behind.
//!
//! Promises: a program ends when it is dropped, and when the test process ends however it does: the kernel kills it
//! with the thread that started it, so they are all started by one thread that lives as long as the process.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use rand::Rng;
use rustix::process::{Pid, Signal, getuid, kill_process};

/// A program that does not end by then when it is asked to is stuck.
const STOP_MAX: Duration = Duration::from_secs(60);

/// How much of a log is told when a test fails.
const TOLD_LINES: usize = 25;

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a command from the thread that outlives all tests.
fn spawn(command: Command) -> io::Result<Child> {
    static KEEPER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (orders, incoming) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in incoming {
                // Who asked may have given up.
                drop(answer.send(command.spawn()));
            }
        });
        orders
    });
    let (answer, child) = mpsc::channel();
    keeper.send((command, answer)).expect("the thread takes orders for ever");
    child.recv().expect("every order is answered")
}

/// A command for a program that the kernel kills with its parent; as another user where that is asked for.
pub fn command(program: &Path, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = user {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.arg(program).stdin(Stdio::null());
    command
}

/// Whether the tests run as root, which PostgreSQL refuses to.
pub fn is_root() -> bool {
    getuid().is_root()
}

/// A port that nobody listens on. Not one that the system gives to clients: one of those that tries to connect to a
/// program that is away could be given that very port, and would find itself.
pub fn free_port() -> u16 {
    loop {
        let port = rand::rng().random_range(20_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A running program.
pub struct Program {
    child: Child,
    log: PathBuf,
    /// What the program leaves when it ends in order, and where that goes then.
    leaves: Option<(PathBuf, PathBuf)>,
}

impl Program {
    /// Starts a program that writes what it says to `log`, behind what is there.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log");
        command.stdout(file.try_clone().expect("a log")).stderr(file);
        let child = spawn(command).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        Self { child, log: log.to_owned(), leaves: None }
    }

    /// The program leaves a file when it ends in order, which is then moved to its place.
    pub fn leaving(mut self, made: PathBuf, place: PathBuf) -> Self {
        self.leaves = Some((made, place));
        self
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_some()
    }

    /// Waits for something that the program does.
    pub fn until(&mut self, what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + patience;
        while !holds() {
            let ended = self.has_ended();
            assert!(!ended && Instant::now() < deadline, "{what} (ended: {ended})\n{}", tail(&self.log));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.leaves = None;
        // Dropping it does the rest.
    }

    /// SIGTERM, and waits until it has ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if !self.has_ended() {
            kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it is there");
        }
        let deadline = Instant::now() + STOP_MAX;
        while !self.has_ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Who is stuck is still writing it.
        let has_ended = self.has_ended();
        if let Some((made, place)) = self.leaves.take().filter(|_| has_ended) {
            // It is not there when the program was stopped before it had begun.
            drop(fs::rename(made, place));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", tail(&self.log));
        } else if self.leaves.is_some() {
            self.end();
        }
        // It may have ended by itself.
        drop((self.child.kill(), self.child.wait()));
    }
}

/// The end of a log, for people.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TOLD_LINES)..];
    format!("--- the end of {}:\n{}", log.display(), last.join("\n"))
}

/// Runs a program to its end; what it said if it failed.
pub fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&said)))
}
