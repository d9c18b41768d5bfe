//! The real parts: where PostgreSQL, Java and the jars are, and how they are fetched.
//!
//! Promises: what is missing is named, with what to do about it. The jars are fetched once, by Maven, into a folder in the
//! user's cache, whole or not at all.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::programs::{self, Program};

/// What is needed, and how to get it where there is Debian.
pub const NEEDED: &str = "PostgreSQL, Java 17 and Maven (apt-get install postgresql openjdk-17-jre-headless maven)";

/// The tests' own folder.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pipeline");

/// A fresh start of the JVM is most of a restart: no second compiler, no second thread of a collector.
const JAVA_OPTIONS: [&str; 5] = [
    "-Xmx256m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
];

/// Where the parts are.
#[derive(Debug)]
pub struct Parts {
    /// PostgreSQL's programs.
    postgres: PathBuf,
    /// The jars, and what is kept to start them faster.
    cache: PathBuf,
}

impl Parts {
    /// Looks for them, and fetches the jars; what is missing.
    pub fn find() -> Result<Self, String> {
        for (program, argument) in [("java", "-version"), ("mvn", "-version"), ("setpriv", "--version")] {
            let output = Command::new(program).arg(argument).output();
            output.map_err(|error| format!("`{program}` cannot be run here: {error}"))?;
        }
        let postgres = postgres_programs()?;
        Ok(Self { postgres, cache: fetched()? })
    }

    /// Where PostgreSQL's programs are.
    pub fn postgres(&self) -> &Path {
        &self.postgres
    }

    /// The folder that Connect finds the connector in.
    pub fn plugins(&self) -> PathBuf {
        self.cache.join("plugins")
    }

    fn java(&self) -> Command {
        let mut command = programs::command(Path::new("java"), None);
        command.args(JAVA_OPTIONS).arg("-cp").arg(format!("{}/kafka/*", self.cache.display()));
        command
    }

    /// A program of Kafka's that ends by itself.
    pub fn run_java(&self, main: &str, arguments: &[&str]) {
        let mut command = self.java();
        command.arg(main).args(arguments);
        programs::run(&mut command).expect("Kafka's tools work");
    }

    /// A program of Kafka's that goes on. The first time it leaves an archive of the classes that it loaded, and begins
    /// with that later, which takes it half as long.
    pub fn start_java(
        &self,
        name: &str,
        main: &str,
        properties: &Path,
        environment: &[(&str, String)],
        log: &Path,
    ) -> Program {
        let archive = self.cache.join(format!("{name}.jsa"));
        // Beside its place, which a move must not leave.
        let made = self.cache.join(format!("{name}.{}.jsa", std::process::id()));
        let mut command = self.java();
        command.envs(environment.iter().cloned());
        // Libraries that it unpacks, and leaves when it is killed, go with the test's folder.
        let folder = properties.parent().expect("it is in a folder");
        command.arg(format!("-Djava.io.tmpdir={}", folder.display()));
        if archive.exists() {
            command.arg(format!("-XX:SharedArchiveFile={}", archive.display()));
        } else {
            command.arg(format!("-XX:ArchiveClassesAtExit={}", made.display()));
        }
        command.arg(main).arg(properties);
        let program = Program::start(command, log);
        if archive.exists() { program } else { program.leaving(made, archive) }
    }
}

/// Where `initdb` is: on the path, or where Debian puts it, the newest first.
pub fn postgres_programs() -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let of_path = env::split_paths(&path).collect::<Vec<_>>();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut of_debian: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    of_debian.sort();
    let found = of_debian.into_iter().rev().chain(of_path).find(|folder| folder.join("initdb").exists());
    found.ok_or_else(|| "there is no `initdb` here".to_owned())
}

/// The folder with the jars that the `pom.xml` names, fetched if it is not there.
fn fetched() -> Result<PathBuf, String> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).unwrap_or_else(env::temp_dir);
    let base = base.join("tarn/pipeline");
    let pom = format!("{FOLDER}/pom.xml");
    let mut wanted = DefaultHasher::new();
    fs::read(&pom).map_err(|error| format!("{pom}: {error}"))?.hash(&mut wanted);
    let folder = base.join(format!("{:016x}", wanted.finish()));
    if folder.exists() {
        return Ok(folder);
    }
    fs::create_dir_all(&base).map_err(|error| format!("{}: {error}", base.display()))?;
    // Beside its place, so that a move is all that it takes, and another process that fetches does no harm.
    let making = tempfile::tempdir_in(&base).map_err(|error| format!("{}: {error}", base.display()))?;
    let mut maven = Command::new("mvn");
    maven.args(["-B", "-q", "-f", &pom, "process-resources"]).arg(format!("-Dinto={}", making.path().display()));
    programs::run(&mut maven)?;
    let made = making.keep();
    if fs::rename(&made, &folder).is_err() && !folder.exists() {
        return Err(format!("{} cannot be made", folder.display()));
    }
    Ok(folder)
}
