//! A state as lines of JSON and back: Kessel cannot say again what it once said, so what Tarn keeps must be able to move.
//!
//! In and out: an *export* is a header, a line for everything that one instant held (`lines`), and a last line that says
//! that nothing is missing. A *table* (`table`) is what another system knew: a row a line, without what recognises
//! redeliveries, so everything up to the time of its export counts as known.
//!
//! Promises: an export, imported, is exported as the same lines, but for the incarnation: what the instance that it came
//! from showed later is not what the new one will show. An import is checked to its last line before anything is
//! written, and counts as a whole or not at all. Exporting changes nothing in the directory, and a tarn may run on it.
//! Failure: a line that is not right is refused with its number ([`ExchangeError::Line`]). Not here: files and packing
//! (the command line), and what rows mean (`rows`).

mod header;
mod lines;
mod table;

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::sync::Arc;

use super::machine::Machine;
use super::recovery::{DurableError, Runs};
use super::rows::Row;
use super::{RunMeta, topic_names};
use crate::model::{Epoch, ResourceId, TopicId, Topics};
use crate::snapshot::{Directory, DiskVfs, Generations, SnapshotError, StoreKind, Vfs, back_up, holds_nothing};

pub use table::TableRules;

/// A longer line is none that an export has: several times the longest record.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// Why an export or an import was not done.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// A line of what is imported is not right.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it, and what is allowed.
        why: String,
    },
    /// What is imported is not right as a whole.
    #[error("{0}")]
    Refused(String),
    /// What is imported cannot be read.
    #[error("could not read what is to be imported")]
    Read(#[source] io::Error),
    /// The export cannot be written.
    #[error("could not write the export")]
    Write(#[source] io::Error),
    /// Snapshots cannot be read or written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// What a snapshot holds cannot be read.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

/// What was exported or imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// The instant.
    pub epoch: Epoch,
    /// The generation that was read or written.
    pub generation: u64,
    /// Live resources.
    pub resources: u64,
    /// Deleted ones that are remembered.
    pub tombstones: u64,
    /// Records in the quarantine.
    pub quarantine: u64,
}

impl Exchanged {
    fn count(&mut self, row: &Row) {
        match row {
            Row::State(state) if state.is_live() => self.resources += 1,
            Row::State(_) => self.tombstones += 1,
            Row::InQuarantine(..) => self.quarantine += 1,
            Row::Rejected(_) | Row::Kept(..) | Row::SeenReject(..) => {}
        }
    }
}

/// What an import is made of: everything at one instant, as the rows of a base, in order of their keys.
struct Imported {
    meta: RunMeta,
    rows: BTreeMap<Vec<u8>, Row>,
}

impl Imported {
    /// Adds a row, which must be the only one with its key.
    fn add(&mut self, row: Row) -> Result<(), String> {
        let what = match &row {
            Row::State(state) => format!("the resource {}", state.id),
            Row::Kept(id, _) => format!("the kept tombstone {id}"),
            Row::Rejected(_) | Row::InQuarantine(..) => "this quarantine entry".to_owned(),
            Row::SeenReject(..) => "this header id of a reject".to_owned(),
        };
        match self.rows.insert(row.key(), row) {
            None => Ok(()),
            Some(_) => Err(format!("{what} stands on a line before; every one is allowed once")),
        }
    }
}

/// Writes what the newest good generation of `from` holds. It is read from a verified copy in `scratch`, which must not
/// exist, and does not afterwards.
pub fn export(from: &Path, scratch: &Path, store: StoreKind, out: &mut dyn Write) -> Result<Exchanged, ExchangeError> {
    let vfs: Arc<dyn Vfs> = Arc::new(DiskVfs);
    vfs.create_directory(scratch).map_err(|source| {
        let path = scratch.to_owned();
        SnapshotError::Failed { doing: "create", path, source }
    })?;
    let exported = export_copied(&vfs, from, scratch, store, out);
    if let Err(error) = vfs.remove_tree(scratch) {
        tracing::warn!(%error, path = %scratch.display(), "could not remove the copy that was exported");
    }
    exported
}

fn export_copied(
    vfs: &Arc<dyn Vfs>,
    from: &Path,
    scratch: &Path,
    store: StoreKind,
    out: &mut dyn Write,
) -> Result<Exchanged, ExchangeError> {
    let generation = back_up(vfs, &store, from, scratch)?.manifest.generation;
    let directory = Directory::open_existing(Arc::clone(vfs), scratch)?;
    let mut runs = Runs::default();
    let manifest = Generations::new(directory, Machine::here(store).environment())
        .read(generation, |run, key, value| runs.take(run, key, value))?;
    let topics = Topics::default();
    let (restored, meta) = runs.finish(&manifest, &topics)?;
    let mut exported = Exchanged { epoch: meta.epoch, generation, ..Exchanged::default() };
    let mut out = Lines { out, count: 0 };
    out.write(&header::written(&meta))?;
    let mut states = restored.states;
    states.sort_unstable_by_key(|state| state.id);
    let mut kept = restored.kept;
    kept.sort_unstable();
    let entries = restored.quarantine.into_iter().map(|entry| {
        let key = (entry.first_seen, entry.reject.order);
        [Row::InQuarantine(key, entry.status), Row::Rejected(entry)]
    });
    let rows = (states.into_iter().map(Row::State))
        .chain(kept.into_iter().map(|(id, until)| Row::Kept(id, until)))
        .chain(entries.flatten())
        .chain(restored.seen_rejects.into_iter().map(|(key, reject)| Row::SeenReject(key, reject)));
    for row in rows {
        exported.count(&row);
        // What stands in the quarantine is a line with its record.
        if let Some(line) = lines::written(&row, &topics) {
            out.write(&line)?;
        }
    }
    out.write(&lines::end(out.count))?;
    out.out.flush().map_err(ExchangeError::Write)?;
    Ok(exported)
}

/// Counts what it writes.
struct Lines<'a> {
    out: &'a mut dyn Write,
    count: u64,
}

impl Lines<'_> {
    fn write(&mut self, line: &[u8]) -> Result<(), ExchangeError> {
        self.count += 1;
        self.out.write_all(line).and_then(|()| self.out.write_all(b"\n")).map_err(ExchangeError::Write)
    }
}

/// Reads an export, or a table where its rules are given, and makes a data directory of it in `to`, which must be empty
/// or not exist, or hold what an import has left that was killed. Whether it is an export is told by its first line.
pub fn import(
    input: &mut dyn BufRead,
    table: Option<&TableRules>,
    to: &Path,
    store: StoreKind,
) -> Result<Exchanged, ExchangeError> {
    let vfs: Arc<dyn Vfs> = Arc::new(DiskVfs);
    let was_there = vfs.status(to).is_ok();
    refuse_full(&*vfs, to)?;
    let imported = read_all(input, table)?;
    let directory = Directory::open(Arc::clone(&vfs), to)?;
    // Another process may have been faster.
    refuse_full(&*vfs, to)?;
    directory.begin_anew()?;
    let mut generations = Generations::new(directory, Machine::here(store).environment());
    let written = write_base(&mut generations, imported);
    // Its lock is still held.
    if written.is_err() {
        remove_rests(&*vfs, to, was_there);
    }
    Ok(written?)
}

fn refuse_full(vfs: &dyn Vfs, to: &Path) -> Result<(), SnapshotError> {
    if !holds_nothing(vfs, to) {
        let why = "it is not empty; an import goes into a directory that is empty or not there".to_owned();
        return Err(SnapshotError::Refused { path: to.to_owned(), why });
    }
    Ok(())
}

/// Nothing in the directory counted, so everything in it is ours.
fn remove_rests(vfs: &dyn Vfs, to: &Path, was_there: bool) {
    let entries = vfs.list(to).unwrap_or_default();
    let removed = if was_there {
        entries.iter().try_for_each(|entry| match entry.kind {
            crate::snapshot::Kind::Directory => vfs.remove_tree(&to.join(&entry.name)),
            _ => vfs.remove_file(&to.join(&entry.name)),
        })
    } else {
        vfs.remove_tree(to)
    };
    if let Err(error) = removed {
        tracing::warn!(%error, path = %to.display(), "could not remove what the import left");
    }
}

fn write_base(generations: &mut Generations, imported: Imported) -> Result<Exchanged, SnapshotError> {
    let mut exchanged = Exchanged { epoch: imported.meta.epoch, ..Exchanged::default() };
    let mut writer = generations.begin()?;
    for (key, row) in &imported.rows {
        exchanged.count(row);
        writer.put(key, &row.value())?;
    }
    let meta = serde_json::to_vec(&imported.meta).expect("memory takes what stands beside the rows");
    writer.finish(meta)?;
    exchanged.generation = generations.sizes()?.map_or(0, |sizes| sizes.generation);
    Ok(exchanged)
}

/// The next line that is not blank, with its number.
fn next_line(input: &mut dyn BufRead, number: &mut u64, line: &mut Vec<u8>) -> Result<bool, ExchangeError> {
    loop {
        line.clear();
        let read = input.take(LINE_BYTES_MAX).read_until(b'\n', line).map_err(ExchangeError::Read)?;
        if read == 0 {
            return Ok(false);
        }
        *number += 1;
        if read as u64 == LINE_BYTES_MAX {
            let why = format!("it is longer than {LINE_BYTES_MAX} bytes, the most that is allowed");
            return Err(ExchangeError::Line { line: *number, why });
        }
        if !line.trim_ascii().is_empty() {
            return Ok(true);
        }
    }
}

/// All of the input, checked.
fn read_all(input: &mut dyn BufRead, table: Option<&TableRules>) -> Result<Imported, ExchangeError> {
    let (mut number, mut line) = (0, Vec::new());
    if !next_line(input, &mut number, &mut line)? {
        return Err(ExchangeError::Refused("there is no line to import".to_owned()));
    }
    let told = |line, why| ExchangeError::Line { line, why };
    let topics = Topics::default();
    let is_export = header::begins_export(&line);
    let mut imported = match table {
        None => header::read(&line, &topics).map_err(|why| told(number, why))?,
        Some(_) if is_export => {
            let why = "it is the header of an export, which says by itself when it was made; --table and --exported-at \
                       are for tables";
            return Err(told(number, why.to_owned()));
        }
        Some(rules) => rules.meta(),
    };
    let mut ended = false;
    if table.is_none() && !next_line(input, &mut number, &mut line)? {
        return Err(lines::cut_off());
    }
    loop {
        if ended {
            return Err(told(number, "it stands behind the line of kind \"end\", which is the last one".to_owned()));
        }
        let text = text(&line).map_err(|why| told(number, why))?;
        let added = match table {
            Some(rules) => rules.row(text, &topics).and_then(|state| imported.add(Row::State(Arc::new(state)))),
            None => lines::read(text, number, &topics, &mut imported).map(|is_end| ended = is_end),
        };
        added.map_err(|why| told(number, why))?;
        if !next_line(input, &mut number, &mut line)? {
            break;
        }
    }
    if table.is_none() && !ended {
        return Err(lines::cut_off());
    }
    imported.meta.topics = topic_names(&topics);
    Ok(imported)
}

fn intern(topics: &Topics, name: &str) -> Result<TopicId, String> {
    topics.intern(name).ok_or_else(|| "more than 65,536 topics, the most that are allowed".to_owned())
}

fn resource_id(text: &str, field: &str) -> Result<ResourceId, String> {
    ResourceId::parse(text).map_err(|error| format!("`{field}` is {text:?}: {error}"))
}

fn text(line: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())
}

/// What a parser says of a line, without the number that it gives to the only line that it sees.
fn parser_words(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let words = words.rsplit_once(" at line 1 column ").map_or(words.as_str(), |(words, _)| words);
    format!("{words} (column {})", error.column())
}

#[cfg(test)]
mod tests;
