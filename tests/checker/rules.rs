//! What holds of every answer that a client gets. Pure: in goes what a client asked for and was told, step by step; out
//! comes the first thing that cannot be.
//!
//! - What is told is the state of the log at the position that is told with it, to the last event.
//! - An epoch names one position, whoever is told and in whichever life of the process; later epochs, later positions.
//! - An answer includes all that was asked for: a token, an event, all that the log held; or it is of exactly the instant
//!   that was leased or named.
//! - Without any of that, answers of one process never go back.

use std::collections::BTreeMap;

use super::truth::{Hosts, KINDS, Log};

/// The instant that an answer names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub epoch: u64,
    /// The next offset.
    pub position: i64,
}

/// What a client asked of the instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    Newest,
    /// That it includes what an answer had.
    Token(Told),
    /// That it includes an event.
    After(i64),
    /// That it includes all that the log held, which was at least so much.
    Acknowledged(i64),
    /// That it is the one that was leased.
    At(Told),
    /// That it is the one of an epoch that was told, in whatever life.
    AsOf(u64),
}

/// What an answer says of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Resource {
        number: usize,
        last: Option<i64>,
    },
    ByType([u64; KINDS.len()]),
    Total(u64),
    Hosts(Hosts),
    /// Counts of three kinds within one query: of the view by type, of the view of the total, of the table.
    Query([u64; 3]),
    /// An instant alone.
    Instant,
}

/// A question and its answer.
#[derive(Debug, Clone)]
pub struct Step {
    /// Which life of the process answered.
    pub life: usize,
    pub asked: Asked,
    pub told: Told,
    pub content: Content,
}

/// The position of every epoch that anybody was told.
#[derive(Debug, Default)]
pub struct Epochs(BTreeMap<u64, i64>);

impl Epochs {
    /// Where an epoch stands, if anybody was told.
    pub fn position(&self, epoch: u64) -> Option<i64> {
        self.0.get(&epoch).copied()
    }

    /// Where the last epoch until one stands that anybody was told; 0 if there is none.
    pub fn position_until(&self, epoch: u64) -> i64 {
        self.0.range(..=epoch).next_back().map_or(0, |(_, position)| *position)
    }

    /// Notes what somebody was told.
    pub fn note(&mut self, told: Told) -> Result<(), String> {
        let Told { epoch, position } = told;
        if let Some(known) = self.0.insert(epoch, position).filter(|known| *known != position) {
            return Err(format!("epoch {epoch} is at {position}, and was at {known} before"));
        }
        let before = self.0.range(..epoch).next_back().filter(|(_, known)| **known > position);
        let after = self.0.range(epoch + 1..).next().filter(|(_, known)| **known < position);
        match before.or(after) {
            Some((other, known)) => Err(format!("epoch {epoch} is at {position}, but epoch {other} is at {known}")),
            None => Ok(()),
        }
    }
}

/// What one client has seen.
#[derive(Debug, Default)]
pub struct Seen {
    life: usize,
    newest: Option<Told>,
}

impl Seen {
    /// Takes a step; why it cannot be, if so.
    pub fn take(&mut self, step: &Step, log: &Log, epochs: &mut Epochs) -> Result<(), String> {
        epochs.note(step.told)?;
        says_the_truth(&step.content, step.told.position, log)?;
        includes(step)?;
        if matches!(step.asked, Asked::At(_) | Asked::AsOf(_)) {
            return Ok(());
        }
        let before = self.newest.replace(step.told).filter(|_| step.life == self.life);
        self.life = step.life;
        match before {
            Some(before) if before.epoch > step.told.epoch => {
                Err(format!("one process answered with {before:?}, and then with {:?}", step.told))
            }
            _ => Ok(()),
        }
    }
}

fn says_the_truth(content: &Content, position: i64, log: &Log) -> Result<(), String> {
    let counts = log.counts(position);
    let total: u64 = counts.iter().sum();
    let expected = match content {
        Content::Resource { number, .. } => {
            Content::Resource { number: *number, last: log.resource(*number, position) }
        }
        Content::ByType(_) => Content::ByType(counts),
        Content::Total(_) => Content::Total(total),
        Content::Hosts(_) => Content::Hosts(log.hosts(position)),
        Content::Query(_) => Content::Query([total; 3]),
        Content::Instant => Content::Instant,
    };
    if position > log.end() {
        return Err(format!("position {position} is told of a log that ends at {}", log.end()));
    }
    match expected == *content {
        true => Ok(()),
        false => Err(format!("told {content:?} at {position}, where it is {expected:?}")),
    }
}

fn includes(step: &Step) -> Result<(), String> {
    let (asked, told) = (&step.asked, step.told);
    let holds = match *asked {
        Asked::Newest => true,
        Asked::Token(known) => told.epoch >= known.epoch && told.position >= known.position,
        Asked::After(offset) => told.position > offset,
        Asked::Acknowledged(end) => told.position >= end,
        Asked::At(leased) => told == leased,
        Asked::AsOf(epoch) => told.epoch == epoch,
    };
    if holds { Ok(()) } else { Err(format!("asked for {asked:?}, and answered with {told:?}")) }
}
