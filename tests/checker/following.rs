//! What holds of a stream of changes: a snapshot and the frames after it make the state at every epoch; what is told goes on
//! without a gap or a repeat, or begins anew and says so; and told again after any of its ids it is the same, byte by byte.
//! Pure: events go in, and out comes the first thing that cannot be.

use super::truth::{Hosts, host_of};
use crate::support::sse::Event;

/// Where a stream can be resumed.
#[derive(Debug, Clone)]
pub struct Mark {
    pub id: String,
    /// Which life of the process told it.
    pub life: usize,
    /// So many frames came before.
    pub frames: usize,
}

/// The state that a client has from a stream.
#[derive(Debug, Default)]
pub struct Followed {
    pub hosts: Hosts,
    pub epoch: u64,
    pub last_id: Option<String>,
    /// Frames of changes since the last beginning, as they came.
    pub frames: Vec<String>,
    pub marks: Vec<Mark>,
    pub resets: Vec<String>,
    pub resumed: usize,
    pub coalesced: usize,
    is_begun: bool,
    awaits_reset: bool,
}

/// No more marks are kept, nor frames before them.
const MARKS_MAX: usize = 4_000;

impl Followed {
    /// Takes an event; whether the state is whole, so that it can be compared.
    pub fn take(&mut self, life: usize, event: &Event) -> Result<bool, String> {
        if self.awaits_reset && event.name != "reset" {
            return Err(format!("it does not go on, and says {} without a reset", event.name));
        }
        let epoch = event.data["epoch"].as_u64();
        match event.name.as_str() {
            "hello" => return self.begin(event).map(|()| false),
            "reset" => {
                let reason = event.data["reason"].as_str().unwrap_or_default().to_owned();
                let told_in = self.marks.last().map_or(life, |mark| mark.life);
                if !may_be_reset(&reason, told_in, life) {
                    return Err(format!("the stream is reset: {}", event.text));
                }
                self.resets.push(reason);
                self.forget();
                self.hosts.clear();
                (self.is_begun, self.awaits_reset, self.last_id) = (false, false, None);
                return Ok(false);
            }
            "snapshot" => {
                if self.is_begun {
                    return Err("a snapshot in the midst of changes".to_owned());
                }
                for (number, last) in hosts(event, "rows")? {
                    if self.hosts.insert(number, last).is_some() {
                        return Err(format!("host {number} twice in a snapshot"));
                    }
                }
                if event.data["last"] != true {
                    return Ok(false);
                }
                self.is_begun = true;
            }
            "changes" => self.change(event)?,
            "progress" => {}
            _ => return Err(format!("what is {}?", event.text)),
        }
        let Some(epoch) = epoch else { return Err(format!("no epoch in {}", event.text)) };
        let is_new = if event.name == "changes" { epoch > self.epoch } else { epoch >= self.epoch };
        if !is_new || !self.is_begun {
            return Err(format!("a {} of epoch {epoch} after epoch {}", event.name, self.epoch));
        }
        self.epoch = epoch;
        self.mark(life, event)?;
        Ok(true)
    }

    fn begin(&mut self, event: &Event) -> Result<(), String> {
        let is_resumed = event.data["resumed"] == true;
        match (self.last_id.is_some(), is_resumed) {
            (false, true) => return Err("resumed without an id".to_owned()),
            (true, false) => self.awaits_reset = true,
            (true, true) => self.resumed += 1,
            // What came of a snapshot that was cut off counts for nothing.
            (false, false) => self.hosts.clear(),
        }
        Ok(())
    }

    fn change(&mut self, event: &Event) -> Result<(), String> {
        for (number, last) in hosts(event, "left")? {
            if self.hosts.remove(&number) != Some(last) {
                return Err(format!("host {number} as of {last} leaves, and is not there: {}", event.text));
            }
        }
        for (number, last) in hosts(event, "came")? {
            if let Some(known) = self.hosts.insert(number, last) {
                return Err(format!("host {number} as of {last} comes, and is there as of {known}: {}", event.text));
            }
        }
        if event.data["coalesced"] == true {
            // Who comes back is told each of them.
            self.coalesced += 1;
            self.forget();
        } else {
            self.frames.push(event.text.clone());
        }
        Ok(())
    }

    fn mark(&mut self, life: usize, event: &Event) -> Result<(), String> {
        let Some(id) = event.id.clone().filter(|id| !id.is_empty()) else {
            return Err(format!("no id in {}", event.text));
        };
        self.last_id = Some(id.clone());
        self.marks.push(Mark { id, life, frames: self.frames.len() });
        if self.marks.len() > MARKS_MAX {
            self.marks.drain(..MARKS_MAX / 2);
            let gone = self.marks[0].frames;
            self.frames.drain(..gone);
            self.marks.iter_mut().for_each(|mark| mark.frames -= gone);
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.frames.clear();
        self.marks.clear();
    }
}

/// Whether what was told in a life may not be told again in another one: it is from before the snapshot.
pub fn may_be_reset(reason: &str, told_in: usize, life: usize) -> bool {
    told_in != life && reason == "retention"
}

fn hosts(event: &Event, list: &str) -> Result<Vec<(usize, i64)>, String> {
    let rows = event.data[list].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().map(|row| host_of(row).ok_or_else(|| format!("{row} is no host"))).collect()
}

/// Whether a stream that was resumed tells what it told before.
pub fn is_the_same(told_before: &[String], told_again: &[String]) -> Result<(), String> {
    match told_before.iter().zip(told_again).find(|(before, again)| before != again) {
        Some((before, again)) => Err(format!("told before:\n{before}\nand when resumed:\n{again}")),
        None => Ok(()),
    }
}
