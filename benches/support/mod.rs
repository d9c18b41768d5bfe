//! What the benches share: generated logs, the reference of `speed_of_light`, measuring, one table to print.
//!
//! Every bench prints one table whose ratios come from one run, its reference and its subject in turns, because
//! machines differ and are noisy. Logs are made by the `tarn` binary of the same build and kept beside it.
#![allow(dead_code, reason = "every bench uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

pub mod data;
pub mod feed;
pub mod reference;
pub mod server;
pub mod stepped;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The binary of this build.
pub const TARN: &str = env!("CARGO_BIN_EXE_tarn");

/// A number from the environment, so that a bench can be made smaller or greater.
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: must be a whole number")),
        Err(_) => default,
    }
}

/// A generated log, made once: `tarn generate` with these arguments.
pub fn log(name: &str, arguments: &[&str]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !path.exists() {
        eprintln!("generating {}: tarn generate {}", path.display(), arguments.join(" "));
        // By the end of its name it is packed or not.
        let unfinished = path.with_file_name(format!("unfinished-{name}"));
        let status = Command::new(TARN).arg("generate").args(arguments).arg("-o").arg(&unfinished).status().unwrap();
        assert!(status.success(), "tarn generate failed");
        std::fs::rename(unfinished, &path).unwrap();
    }
    path
}

/// The log of the ingest benches: seed 1, a million events of 200,000 resources of every type.
pub fn ingest_log() -> (PathBuf, u64) {
    let events = setting("TARN_BENCH_EVENTS", 1_000_000);
    let (count, resources) = (events.to_string(), (events / 5).to_string());
    let name = format!("seed-1-{events}.jsonl");
    (log(&name, &["--seed", "1", "--events", &count, "--resources", &resources]), events)
}

/// Wall and CPU time of one run.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// Wall time.
    pub wall: Duration,
    /// CPU time of this process.
    pub cpu: Duration,
}

/// Runs something and says what it took.
pub fn spend(work: impl FnOnce()) -> Spent {
    let (cpu, began) = (cpu_time(), Instant::now());
    work();
    Spent { wall: began.elapsed(), cpu: cpu_time().saturating_sub(cpu) }
}

/// CPU time of this process so far, in steps of 10 ms.
pub fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// The middle one of several measurements.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value below which this share of sorted measurements lies.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1;
    sorted[index]
}

/// Prints a table in Markdown.
pub fn print_table(title: &str, head: &[&str], rows: &[Vec<String>]) {
    println!("\n## {title}\n");
    println!("| {} |", head.join(" | "));
    println!("|{}", " --- |".repeat(head.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!();
}
