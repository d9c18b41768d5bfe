//! Resources that change as a bench says, and the server that reads of it by a pipe and takes snapshots.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, Instant};

use tarn::generate::{FaultRates, Generator, GeneratorConfig, Popularity};

use super::data::settings;
use super::server::Server;

/// Of every so many records one is sent, when resources change: neighbours are not packed together.
const APART: usize = 4;

/// A log of hosts and others without end: each resource is created once, then they change in turn.
pub struct Feed(Generator);

impl Feed {
    pub fn new(resources: u64) -> Self {
        let faults = FaultRates { deletes: 0.0, ..FaultRates::default() };
        let resources = usize::try_from(resources).unwrap();
        Self(Generator::new(GeneratorConfig { resources, popularity: Popularity::Sweep, faults, ..Default::default() }))
    }

    pub fn create(&mut self, resources: u64, to: &mut Fed) {
        let (mut out, mut line) = (BufWriter::with_capacity(1 << 20, &mut to.input), Vec::new());
        for record in self.0.by_ref().take(usize::try_from(resources).unwrap()) {
            line.clear();
            record.write_line(&mut line);
            out.write_all(&line).unwrap();
        }
        drop(out);
        to.end_of_burst();
    }

    /// The lines of so many changes.
    pub fn changes(&mut self, count: u64) -> Vec<u8> {
        let mut lines = Vec::new();
        for record in self.0.by_ref().step_by(APART).take(usize::try_from(count).unwrap()) {
            record.write_line(&mut lines);
        }
        lines
    }
}

/// A server and the pipe that it reads its log from.
pub struct Fed {
    pub server: Server,
    pub input: ChildStdin,
}

/// What `/api/tarn/v1/status` says of the last snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub taken: u64,
    pub took_ms: u64,
    pub rows: u64,
    pub bytes: u64,
    pub generation: u64,
}

impl Fed {
    pub fn start(data: &Path, interval_ms: u64, more: &[(&'static str, String)]) -> Self {
        let mut server = Server::start(&[&settings("-", data, interval_ms)[..], more].concat(), Stdio::piped());
        let input = server.child.stdin.take().unwrap();
        Self { server, input }
    }

    /// Whoever reads a pipe waits for more while much of it comes at once; an empty line a little later ends that.
    pub fn end_of_burst(&mut self) {
        std::thread::sleep(Duration::from_millis(20));
        self.input.write_all(b"\n").unwrap();
    }

    pub fn taken(&self) -> Taken {
        let status = self.server.json("/api/tarn/v1/status");
        let number = |name: &str| status["snapshots"][name].as_u64().unwrap();
        assert_eq!(number("failed"), 0, "{status}");
        Taken {
            taken: number("taken"),
            took_ms: number("tookMs"),
            rows: number("rows"),
            bytes: number("bytes"),
            generation: number("generation"),
        }
    }

    /// The next snapshot, once these lines are written.
    pub fn after(&mut self, lines: &[u8]) -> Taken {
        let before = self.taken().taken;
        self.input.write_all(lines).unwrap();
        self.end_of_burst();
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            let now = self.taken();
            if now.taken > before {
                return now;
            }
            assert!(Instant::now() < deadline, "no snapshot is taken");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
