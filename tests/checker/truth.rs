//! The log as it was written, and what follows from it: the state at any position, found without anything of the service.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tarn::generate::Generated;

use crate::support::reports::{delete, report};

/// The types of resources; a resource's number says which one it has.
pub const KINDS: [&str; 3] = ["host", "k8s_cluster", "k8s_policy"];
/// So many resources there are at most.
pub const RESOURCES: usize = 60;

/// Hosts that are there, each with the offset of the event that made it so.
pub type Hosts = BTreeMap<usize, i64>;

/// The log. Its offsets begin at 0 and have no gaps.
#[derive(Debug, Default)]
pub struct Log {
    /// Whether each event deletes.
    deletes: Vec<bool>,
    of_resource: BTreeMap<usize, Vec<i64>>,
    /// How many there are of each type, after each event.
    counts: Vec<[u64; KINDS.len()]>,
}

/// The type of a resource.
pub fn kind(number: usize) -> usize {
    number % KINDS.len()
}

/// The header id of the event at an offset, made at a time.
pub fn event_id(offset: i64, ms: u64) -> String {
    let time = format!("{ms:012x}");
    format!("{}-{}-7000-8000-{offset:012}", &time[..8], &time[8..])
}

impl Log {
    /// The offset of the next event.
    pub fn end(&self) -> i64 {
        self.deletes.len() as i64
    }

    /// Writes an event; a delete of what is not there is a report.
    pub fn append(&mut self, number: usize, deletes: bool, ms: u64) -> Generated {
        let offset = self.end();
        let deletes = deletes && self.resource(number, offset).is_some();
        let mut counts = self.counts.last().copied().unwrap_or_default();
        match (deletes, self.resource(number, offset)) {
            (true, _) => counts[kind(number)] -= 1,
            (false, None) => counts[kind(number)] += 1,
            (false, Some(_)) => {}
        }
        self.counts.push(counts);
        self.deletes.push(deletes);
        self.of_resource.entry(number).or_default().push(offset);
        let mut record = match deletes {
            true => delete(offset, number),
            false => {
                let says = json!({"ansible_host": format!("s{offset}")});
                report(offset, number, KINDS[kind(number)], ["blue", "green"][number % 2], says)
            }
        };
        record.timestamp_ms = ms as i64;
        record.headers[0].1 = Some(event_id(offset, ms));
        record
    }

    /// The offset of the event that made a resource what it is at a position; none where it is not there.
    pub fn resource(&self, number: usize, position: i64) -> Option<i64> {
        let offsets = self.of_resource.get(&number)?;
        let before = offsets.partition_point(|offset| *offset < position);
        let last = *offsets.get(before.checked_sub(1)?)?;
        (!self.deletes[last as usize]).then_some(last)
    }

    /// How many there are of each type at a position.
    pub fn counts(&self, position: i64) -> [u64; KINDS.len()] {
        let last = usize::try_from(position - 1).ok().and_then(|last| self.counts.get(last));
        last.copied().unwrap_or_default()
    }

    /// The hosts at a position.
    pub fn hosts(&self, position: i64) -> Hosts {
        let hosts = self.of_resource.keys().filter(|number| kind(**number) == 0);
        hosts.filter_map(|number| Some((*number, self.resource(*number, position)?))).collect()
    }
}

/// A row of the view of hosts: which one, and the offset of the event that made it so.
pub fn host_of(row: &Value) -> Option<(usize, i64)> {
    let number = row["resource_id"].as_str()?.rsplit('-').next()?.parse().ok()?;
    Some((number, row["ansible_host"].as_str()?.strip_prefix('s')?.parse().ok()?))
}
