//! `tarn snapshot export` and `import`: what a data directory holds as lines of JSON, and back.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use tarn::durable::exchange::{self, ExchangeError, Exchanged, TableRules};
use tarn::snapshot::StoreKind;
use tarn::source::log_file::unpacked;

use super::replay::parse_time;
use super::{Refused, load, say};

const BUFFER_BYTES: usize = 1 << 20;
/// What is exported is as private as the directory that it comes from.
const FILE_MODE: u32 = 0o600;

/// Arguments of `tarn snapshot export`.
#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// The data directory.
    directory: PathBuf,
    /// Where to write; packed if the name ends in .gz or .zst [default: standard output].
    file: Option<PathBuf>,
}

/// Arguments of `tarn snapshot import`.
#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// The export, or a table of resources: plain, .gz or .zst; `-` for standard input.
    file: PathBuf,
    /// The data directory that is made: empty, or not there yet.
    directory: PathBuf,
    /// It is a table, a row a line, as `--exported-at` says by itself too.
    #[arg(long, requires = "exported_at")]
    table: bool,
    /// When the table was exported, in RFC 3339: what happened before counts as known. Rather too early than too late.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    exported_at: Option<u64>,
    /// The configuration, for the tolerance and the retention of a table.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Writes what the newest good generation holds.
pub(super) fn export(arguments: &ExportArguments, store: StoreKind) -> Result<()> {
    let scratch = std::env::temp_dir().join(format!("tarn-export-{:016x}", rand::random::<u64>()));
    let from = &arguments.directory;
    let Some(path) = &arguments.file else {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        return match exchange::export(from, &scratch, store, &mut out) {
            // Whoever reads has seen enough.
            Err(ExchangeError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map(drop).map_err(told),
        };
    };
    // A former export stays until the new one is whole. What is no file (a pipe) is written to as it is.
    let is_file = path.metadata().map_or(true, |metadata| metadata.is_file());
    let written = if is_file { with_suffix(path, ".part") } else { path.clone() };
    let exported = export_to(&written, packing(path), from, &scratch, store).and_then(|exported| {
        if is_file {
            std::fs::rename(&written, path).with_context(|| format!("could not write {}", path.display()))?;
        }
        Ok(exported)
    });
    if is_file && exported.is_err() {
        // It may not have been made.
        drop(std::fs::remove_file(&written));
    }
    let exported = exported?;
    say(&format!("generation {} is exported: {}\n", exported.generation, contents(&exported)))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// How a file is packed, by its name.
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

fn packing(path: &Path) -> Packing {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => Packing::Gzip,
        Some("zst") => Packing::Zstd,
        _ => Packing::Plain,
    }
}

fn export_to(path: &Path, packing: Packing, from: &Path, scratch: &Path, store: StoreKind) -> Result<Exchanged> {
    let failed = || format!("could not write {}", path.display());
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path);
    let file = file.with_context(failed)?;
    let durable = file.try_clone().with_context(failed)?;
    let mut buffer = BufWriter::with_capacity(BUFFER_BYTES, file);
    let exported = match packing {
        Packing::Plain => exchange::export(from, scratch, store, &mut buffer).map_err(told)?,
        Packing::Gzip => {
            let mut packed = flate2::write::GzEncoder::new(buffer, flate2::Compression::fast());
            let exported = exchange::export(from, scratch, store, &mut packed).map_err(told)?;
            packed.finish().and_then(|mut buffer| buffer.flush()).with_context(failed)?;
            exported
        }
        Packing::Zstd => {
            let mut packed = zstd::Encoder::new(buffer, 3).with_context(failed)?;
            let exported = exchange::export(from, scratch, store, &mut packed).map_err(told)?;
            packed.finish().and_then(|mut buffer| buffer.flush()).with_context(failed)?;
            exported
        }
    };
    // A pipe cannot be made durable.
    if durable.metadata().is_ok_and(|metadata| metadata.is_file()) {
        durable.sync_all().with_context(failed)?;
    }
    Ok(exported)
}

/// Makes a data directory of an export or a table.
pub(super) fn import(arguments: &ImportArguments, store: StoreKind) -> Result<()> {
    let rules = arguments.exported_at.map(|exported_at| rules(exported_at, arguments.config.as_deref())).transpose()?;
    let path = &arguments.file;
    let reader: Box<dyn Read + Send> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(File::open(path).with_context(|| format!("could not read {}", path.display()))?),
    };
    let reader = unpacked(reader).with_context(|| format!("could not read {}", path.display()))?;
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
    let imported = exchange::import(&mut reader, rules.as_ref(), &arguments.directory, store)
        .map_err(told)
        .with_context(|| format!("nothing of {} is imported", path.display()))?;
    say(&format!("generation {} is made: {}\n", imported.generation, contents(&imported)))
}

fn rules(exported_at_ms: u64, config: Option<&Path>) -> Result<TableRules> {
    let fold = load(config)?.fold;
    let rules = TableRules::new(exported_at_ms, fold.clock_skew_tolerance_ms, fold.tombstone_retention_ms);
    rules.map_err(|why| Refused(format!("--exported-at: {why}")).into())
}

fn contents(exchanged: &Exchanged) -> String {
    let Exchanged { epoch, resources, tombstones, quarantine, generation: _ } = exchanged;
    format!("{resources} resources, {tombstones} deleted, {quarantine} in quarantine, as of epoch {epoch}")
}

/// With the exit code of what was met.
fn told(error: ExchangeError) -> anyhow::Error {
    match error {
        ExchangeError::Line { .. } | ExchangeError::Refused(_) => Refused(error.to_string()).into(),
        ExchangeError::Snapshot(error) => error.into(),
        ExchangeError::Durable(error) => error.into(),
        ExchangeError::Read(_) | ExchangeError::Write(_) => error.into(),
    }
}
