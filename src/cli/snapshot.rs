//! `tarn snapshot`: what lies in a data directory, whether it is good, a copy of it, and its contents as lines of JSON.
//!
//! `list`, `backup` and `export` take no lock: they work beside a tarn that runs. `verify` opens stores, so it takes the
//! lock.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tarn::snapshot::{
    self, Directory, DiskVfs, Environment, GenerationInfo, Generations, RunInfo, SnapshotError, StoreKind,
    Verification, Vfs,
};

use super::exchange::{self, ExportArguments, ImportArguments};
use super::{Refused, in_child, say};

/// As long as a billion rows take.
const VERIFY_TIME_MAX: Duration = Duration::from_secs(3600);

/// Arguments of `tarn snapshot`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the generations in a data directory.
    List {
        /// The data directory.
        directory: PathBuf,
        /// For machines.
        #[arg(long)]
        json: bool,
    },
    /// Reads generations whole and compares them with what they say they hold; no tarn may run on the directory.
    Verify {
        /// The data directory.
        directory: PathBuf,
        /// Only this one [default: all].
        #[arg(long)]
        generation: Option<u64>,
    },
    /// Copies the newest good generation; a tarn may run on the directory.
    Backup {
        /// The data directory.
        directory: PathBuf,
        /// Where the copy goes, as a data directory of its own: empty, or not there yet.
        target: PathBuf,
    },
    /// Writes what the newest good generation holds as lines of JSON; a tarn may run on the directory. A copy of the
    /// generation is made in TMPDIR meanwhile.
    Export(ExportArguments),
    /// Makes a data directory of an export, or of a table of resources that another system knows.
    Import(ImportArguments),
    /// Verifies one generation in this process, which may die of it: the service asks so.
    #[command(hide = true)]
    VerifyStore {
        /// The generation's directory.
        generation: PathBuf,
    },
}

/// Does what the arguments say.
pub fn run(arguments: Arguments) -> Result<()> {
    let disk: Arc<dyn Vfs> = Arc::new(DiskVfs);
    match arguments.command {
        Command::List { directory, json } => list(&*disk, &directory, json),
        Command::Verify { directory, generation } => verify(disk, &directory, generation),
        Command::Backup { directory, target } => {
            let backup = snapshot::back_up(&disk, &store()?, &directory, &target)?;
            let manifest = &backup.manifest;
            say(&format!(
                "generation {} is copied: {} runs, {} rows, {} bytes\n",
                manifest.generation,
                manifest.runs.len(),
                rows(&manifest.runs),
                backup.on_disk_bytes
            ))
        }
        Command::Export(arguments) => exchange::export(&arguments, store()?),
        Command::Import(arguments) => exchange::import(&arguments, store()?),
        Command::VerifyStore { generation } => {
            // Who asks may be killed, and the next one finds the store in use, or its files going.
            #[cfg(target_os = "linux")]
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            Ok(snapshot::verify_store(&disk, &StoreKind::Sled(Verification::OnThread), &generation)?)
        }
    }
}

/// sled in another process of this binary.
fn store() -> Result<StoreKind> {
    Ok(StoreKind::Sled(in_child(VERIFY_TIME_MAX)?))
}

fn rows(runs: &[RunInfo]) -> u64 {
    runs.iter().map(|run| run.rows).sum()
}

fn list(disk: &dyn Vfs, directory: &Path, json: bool) -> Result<()> {
    let generations = snapshot::list(disk, directory)?;
    if json {
        let shown: Vec<Value> = generations.iter().map(generation_json).collect();
        return say(&format!("{}\n", json!({ "generations": shown })));
    }
    if generations.is_empty() {
        return say("there is no generation\n");
    }
    let mut text = String::from("generation  current  runs          rows   bytes on disk  finished\n");
    for generation in &generations {
        let current = if generation.current { "*" } else { "" };
        let (number, bytes) = (generation.number, generation.on_disk_bytes);
        match &generation.manifest {
            Ok(manifest) => {
                let (count, rows) = (manifest.runs.len(), rows(&manifest.runs));
                let finished = manifest.runs.last().map(|run| time(run.finished_ms)).unwrap_or_default();
                writeln!(text, "{number:>10}  {current:>7}  {count:>4}  {rows:>12}  {bytes:>14}  {finished}")?;
            }
            Err(error) => writeln!(text, "{number:>10}  {current:>7}  {error}")?,
        }
    }
    say(&text)
}

fn generation_json(generation: &GenerationInfo) -> Value {
    let runs = generation.manifest.as_ref().map(|manifest| {
        let run = |run: &RunInfo| {
            json!({
                "id": format!("{:016x}", run.id),
                "rows": run.rows,
                "blocks": run.blocks,
                "bytes": run.bytes,
                "storedBytes": run.stored_bytes,
                "digest": format!("{:032x}", run.digest),
                "finished": time(run.finished_ms),
                "metaBytes": run.meta.len(),
            })
        };
        manifest.runs.iter().map(run).collect::<Vec<_>>()
    });
    json!({
        "number": generation.number,
        "current": generation.current,
        "rows": generation.manifest.as_ref().map(|manifest| rows(&manifest.runs)).ok(),
        "onDiskBytes": generation.on_disk_bytes,
        "error": runs.as_ref().err().map(ToString::to_string),
        "runs": runs.ok(),
    })
}

/// RFC 3339; empty for what no clock shows.
fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map(|time| time.to_string()).unwrap_or_default()
}

fn verify(disk: Arc<dyn Vfs>, directory: &Path, generation: Option<u64>) -> Result<()> {
    let environment = Environment {
        store: store()?,
        now_ms: Box::new(tarn::clock::now_ms),
        // Nothing is written.
        random: Box::new(|| 0),
    };
    let mut generations = Generations::new(Directory::open_existing(disk, directory)?, environment);
    let candidates = generations.candidates()?;
    let chosen: Vec<u64> =
        candidates.into_iter().filter(|number| generation.is_none_or(|chosen| chosen == *number)).collect();
    if chosen.is_empty() {
        return Err(Refused(format!("{} has no such generation", directory.display())).into());
    }
    let mut worst: Option<SnapshotError> = None;
    for number in chosen {
        match generations.verify(number) {
            Ok(()) => say(&format!("generation {number} is good\n"))?,
            Err(error) => {
                say(&format!("generation {number}: {error}\n"))?;
                // Damage is what the exit code is asked about.
                if worst.as_ref().is_none_or(|worst| !worst.is_damage()) {
                    worst = Some(error);
                }
            }
        }
    }
    worst.map_or(Ok(()), |error| Err(error.into()))
}
