//! The real binary with faults in its system calls, by strace: killed before a chosen call, or given an error for it.
//!
//! In: a command, and which call of which file is met. Out: the same command, traced; the process that is started is the
//! binary itself, so signals and exit codes are its own. A call is counted by the thread that makes it, and by its file
//! where files are given. Nothing in the binary knows of it. Where strace is not there, or may not trace, a test says so
//! and ends; where `CI` is `true` it fails.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What happens to which system call.
#[derive(Debug, Clone)]
pub struct Injection {
    /// The call's name.
    pub call: String,
    /// As strace writes it: `signal=SIGKILL`, `error=EIO`.
    pub fault: String,
    /// Which of the calls of a thread, as strace writes it: `3`, `1+` (from the first one on).
    pub when: String,
    /// Only those with one of these files; none: all.
    pub files: Vec<PathBuf>,
}

impl Injection {
    pub fn kill(call: &str, nth: u32, file: PathBuf) -> Self {
        let (call, fault) = (call.to_owned(), "signal=SIGKILL".to_owned());
        Self { call, fault, when: nth.to_string(), files: vec![file] }
    }

    /// Whether the call is said to have been made, and is not made.
    pub fn is_a_lie(&self) -> bool {
        self.fault.starts_with("retval")
    }

    /// What strace is told to do.
    pub fn arguments(&self) -> Vec<String> {
        let Self { call, fault, when, files } = self;
        let mut arguments = vec!["-f".to_owned(), "-qq".to_owned(), "-y".to_owned()];
        arguments.extend(["-e".to_owned(), format!("trace={call}")]);
        arguments.extend(["-e".to_owned(), "signal=none".to_owned()]);
        arguments.extend(["-e".to_owned(), format!("inject={call}:{fault}:when={when}")]);
        for file in files {
            arguments.extend(["-P".to_owned(), file.display().to_string()]);
        }
        arguments
    }
}

/// Whether faults can be injected here.
pub fn may_inject(test: &str) -> bool {
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    let may = traced.is_ok_and(|output| output.status.success());
    if !may {
        skip(test, "strace (apt-get install strace), and leave to trace");
    }
    may
}

/// Says that a test does not run, past the harness, which keeps what is printed to itself; fails where that may not be.
pub fn skip(test: &str, needed: &str) {
    let words = format!("SKIPPED: {test} needs {needed}; with it `cargo test --test it {test}` runs it\n");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{words}");
    std::io::stderr().write_all(words.as_bytes()).expect("standard error is there");
}

/// The command under strace, which writes what it sees to `trace`. Its output goes nowhere, unless that is changed.
pub fn traced(command: &Command, strace: &[String], trace: &Path) -> Command {
    let mut traced = Command::new("strace");
    // The tracer is a grandchild: what is started, signalled and waited for is the binary.
    traced.arg("-D").args(strace).arg("-o").arg(trace).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    traced
}

pub fn injected(command: &Command, injection: &Injection, trace: &Path) -> Command {
    traced(command, &injection.arguments(), trace)
}
