//! `tarn generate`: a seeded, wire-exact log.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use tarn::config::GENERATED_RESOURCES_MAX;
use tarn::generate::{FaultRates, Generator, GeneratorConfig, Popularity};

use super::Refused;

/// The end of the generated time, ms since 1970 (in the year 5138): what a UUID v1 can tell.
const LATEST_MS: u64 = 100_000_000_000_000;
const GAP_US_MAX: u64 = 3_600_000_000;
const CLOCK_SKEW_MS_MAX: u64 = 86_400_000;

/// Arguments of `tarn generate`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where to write; packed if the name ends in .gz or .zst; standard output without.
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// The same seed gives the same log.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many records.
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// How many resources.
    #[arg(long, default_value_t = 20_000)]
    resources: usize,
    /// When the log begins, ms since 1970.
    #[arg(long, default_value_t = 1_795_000_000_000)]
    start_ms: u64,
    /// Microseconds between two events.
    #[arg(long, default_value_t = 1_000)]
    gap_us: u64,
    /// Exponent of the popularity; 0 takes the resources one after the other.
    #[arg(long, default_value_t = 1.0)]
    zipf: f64,
    /// Only hosts.
    #[arg(long)]
    hosts_only: bool,
    /// Share of events after which a suffix is sent again.
    #[arg(long, default_value_t = 0.0)]
    replays: f64,
    /// Share of events after which the last few are sent again.
    #[arg(long, default_value_t = 0.0)]
    batch_duplicates: f64,
    /// Share of updates that move the resource.
    #[arg(long, default_value_t = 0.02)]
    moves: f64,
    /// Share of events that delete.
    #[arg(long, default_value_t = 0.02)]
    deletes: f64,
    /// Share of draws of a deleted resource that revive it.
    #[arg(long, default_value_t = 0.3)]
    revivals: f64,
    /// Share of events that make a new id for a reporter key that is held.
    #[arg(long, default_value_t = 0.0)]
    ghosts: f64,
    /// Writers' clocks are up to this many ms behind.
    #[arg(long, default_value_t = 0)]
    clock_skew_ms: u64,
    /// Share of events in a legacy shape.
    #[arg(long, default_value_t = 0.0)]
    legacy: f64,
    /// Share of records that are no events.
    #[arg(long, default_value_t = 0.0)]
    poison: f64,
    /// Also write the sibling topic.
    #[arg(long)]
    tuples: bool,
}

/// What cannot be generated, by the name of the argument.
fn check(arguments: &Arguments) -> Result<(), Refused> {
    let shares = [
        ("--replays", arguments.replays),
        ("--batch-duplicates", arguments.batch_duplicates),
        ("--moves", arguments.moves),
        ("--deletes", arguments.deletes),
        ("--revivals", arguments.revivals),
        ("--ghosts", arguments.ghosts),
        ("--legacy", arguments.legacy),
        ("--poison", arguments.poison),
    ];
    for (name, share) in shares {
        if !(0.0..=1.0).contains(&share) {
            return Err(Refused(format!("{name} is {share}; it must be from 0 to 1")));
        }
    }
    if !(0.0..=10.0).contains(&arguments.zipf) {
        return Err(Refused(format!("--zipf is {}; it must be from 0 to 10", arguments.zipf)));
    }
    let numbers = [
        ("--resources", arguments.resources as u64, 1, GENERATED_RESOURCES_MAX),
        ("--start-ms", arguments.start_ms, 0, LATEST_MS),
        ("--gap-us", arguments.gap_us, 0, GAP_US_MAX),
        ("--clock-skew-ms", arguments.clock_skew_ms, 0, CLOCK_SKEW_MS_MAX),
    ];
    for (name, value, least, most) in numbers {
        if !(least..=most).contains(&value) {
            return Err(Refused(format!("{name} is {value}; it must be from {least} to {most}")));
        }
    }
    let lasts_ms = u128::from(arguments.events) * u128::from(arguments.gap_us) / 1_000;
    if u128::from(arguments.start_ms) + lasts_ms > u128::from(LATEST_MS) {
        return Err(Refused(format!(
            "--start-ms, --events and --gap-us: the log would end after {LATEST_MS} ms since 1970"
        )));
    }
    Ok(())
}

/// Writes the log.
pub fn run(arguments: Arguments) -> Result<()> {
    check(&arguments)?;
    let generator = Generator::new(GeneratorConfig {
        seed: arguments.seed,
        resources: arguments.resources,
        start_ms: arguments.start_ms,
        gap_us: arguments.gap_us,
        popularity: if arguments.zipf > 0.0 { Popularity::Zipf(arguments.zipf) } else { Popularity::Sweep },
        hosts_only: arguments.hosts_only,
        faults: FaultRates {
            replays: arguments.replays,
            batch_duplicates: arguments.batch_duplicates,
            moves: arguments.moves,
            deletes: arguments.deletes,
            revivals: arguments.revivals,
            ghosts: arguments.ghosts,
            clock_skew_ms: arguments.clock_skew_ms,
            legacy: arguments.legacy,
            poison: arguments.poison,
            tuples: arguments.tuples,
        },
    });
    let Some(path) = &arguments.output else {
        return write(generator, arguments.events, &mut BufWriter::new(io::stdout().lock()));
    };
    let file = File::create(path).with_context(|| format!("could not create {}", path.display()))?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => {
            let mut packed = flate2::write::GzEncoder::new(BufWriter::new(file), flate2::Compression::fast());
            write(generator, arguments.events, &mut packed)?;
            packed.finish()?.flush()?;
        }
        Some("zst") => {
            let mut packed = zstd::Encoder::new(BufWriter::new(file), 3)?;
            write(generator, arguments.events, &mut packed)?;
            packed.finish()?.flush()?;
        }
        _ => write(generator, arguments.events, &mut BufWriter::with_capacity(1 << 20, file))?,
    }
    Ok(())
}

fn write(generator: Generator, events: u64, out: &mut dyn Write) -> Result<()> {
    let mut line = Vec::new();
    let count = usize::try_from(events).unwrap_or(usize::MAX);
    let write_all = || {
        for record in generator.take(count) {
            line.clear();
            record.write_line(&mut line);
            out.write_all(&line)?;
        }
        out.flush()
    };
    match write_all() {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("could not write the log"),
    }
}
