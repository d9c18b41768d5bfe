//! Data directories of the benches: where they are, what is in them, how large they are.
//!
//! They lie beside the build, on the disk that it is on: a folder in memory would make every fsync cost nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::TARN;

/// A folder that goes away with the bench.
pub fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The settings of a server on a log and a data directory.
pub fn settings(log: &str, data: &Path, interval_ms: u64) -> Vec<(&'static str, String)> {
    vec![
        ("TARN_SOURCE__KIND", "log".to_owned()),
        ("TARN_SOURCE__LOG__PATH", log.to_owned()),
        ("TARN_SNAPSHOT__DIRECTORY", data.display().to_string()),
        ("TARN_SNAPSHOT__INTERVAL_MS", interval_ms.to_string()),
    ]
}

/// So long that no snapshot is taken but the one at the end.
pub const NEVER_MS: u64 = 86_400_000;

/// The generation that counts.
#[derive(Debug, Clone, Copy)]
pub struct Generation {
    /// Its runs.
    pub runs: usize,
    /// Packed bytes of its base.
    pub base_bytes: u64,
    /// Packed bytes of all its runs.
    pub packed_bytes: u64,
    /// Bytes of its files.
    pub on_disk_bytes: u64,
}

/// What `tarn snapshot list` says of the current generation.
pub fn generation(data: &Path) -> Generation {
    let output = Command::new(TARN).args(["snapshot", "list", "--json"]).arg(data).output().unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let generations = list["generations"].as_array().unwrap();
    let current = generations.iter().find(|generation| generation["current"] == true).unwrap();
    let stored: Vec<u64> =
        current["runs"].as_array().unwrap().iter().map(|run| run["storedBytes"].as_u64().unwrap()).collect();
    Generation {
        runs: stored.len(),
        base_bytes: stored[0],
        packed_bytes: stored.iter().sum(),
        on_disk_bytes: current["onDiskBytes"].as_u64().unwrap(),
    }
}

/// Bytes of all files below a folder; what vanishes meanwhile counts nothing.
pub fn tree_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => tree_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

/// A copy of a data directory that nobody uses.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp");
}

/// Megabytes, as text.
pub fn mb(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}
