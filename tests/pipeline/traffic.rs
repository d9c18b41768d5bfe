//! What reporters do, in the proportions and with the data of the generator: all types, moves, deletes, revivals.
//!
//! The generator makes events, which are taken back to what was reported. Ids, versions and what an event says are
//! Inventory's alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tarn::generate::{FaultRates, Generator, GeneratorConfig};

use super::inventory::{Inventory, Report, ReporterKey};

/// An endless row of reports and deletes.
pub struct Traffic {
    generator: Generator,
    /// Who was reported under which id of the generator's.
    keys: BTreeMap<String, ReporterKey>,
    /// The newest report of each that says everything.
    whole: BTreeMap<ReporterKey, Report>,
}

impl Traffic {
    /// About so many resources.
    pub fn new(seed: u64, resources: usize) -> Self {
        let faults = FaultRates { moves: 0.1, deletes: 0.06, revivals: 0.6, ..FaultRates::default() };
        let config = GeneratorConfig { seed, resources, faults, ..GeneratorConfig::default() };
        Self { generator: Generator::new(config), keys: BTreeMap::new(), whole: BTreeMap::new() }
    }

    /// Lets so many things happen.
    pub fn happen(&mut self, inventory: &mut Inventory, count: usize) {
        let mut happened = 0;
        while happened < count {
            happened += usize::from(self.step(inventory));
        }
    }

    /// Lets the next thing happen; whether Inventory takes it.
    pub fn step(&mut self, inventory: &mut Inventory) -> bool {
        let record = self.generator.next().expect("it is endless");
        let text = |text: Option<String>| serde_json::from_str::<Value>(&text.expect("no tombstones")).expect("JSON");
        let (key, value) = (text(record.key), text(record.value));
        let generated_id = key["payload"].as_str().expect("an id").to_owned();
        let Some(report) = reported(&value["payload"]["data"]) else {
            return self.keys.get(&generated_id).is_some_and(|key| inventory.delete(key));
        };
        self.keys.insert(generated_id, report.key.clone());
        if report.workspace_id.is_none() && report.data.is_none() {
            // Inventory refuses a report of nothing.
            return false;
        }
        if report.data.is_some() {
            let workspace_id =
                report.workspace_id.clone().or_else(|| self.whole.get(&report.key)?.workspace_id.clone());
            self.whole.insert(report.key.clone(), Report { workspace_id, ..report.clone() });
        }
        inventory.report(&report);
        true
    }

    /// Who was ever reported.
    pub fn known(&self) -> BTreeSet<ReporterKey> {
        self.whole.keys().cloned().collect()
    }

    /// Some report that says everything, of a host.
    pub fn some_whole(&self) -> Report {
        let hosts = self.whole.values().find(|report| report.key.resource_type == "host");
        hosts.expect("most are hosts").clone()
    }

    /// Every reporter says all that it has once more.
    pub fn report_everything(&self, inventory: &mut Inventory) {
        for report in self.whole.values() {
            inventory.report(report);
        }
    }
}

/// What was reported, by what the event says; nothing where it says nothing, as that of a delete.
fn reported(data: &Value) -> Option<Report> {
    let (metadata, reporter) = (&data["metadata"], &data["reporter_data"]);
    let text = |object: &Value, name: &str| object[name].as_str().map(str::to_owned);
    Some(Report {
        key: ReporterKey {
            local_resource_id: text(reporter, "local_resource_id")?,
            resource_type: text(metadata, "resource_type")?,
            reporter_type: text(reporter, "reporter_type")?,
            reporter_instance_id: text(reporter, "reporter_instance_id")?,
        },
        api_href: text(reporter, "api_href")?,
        console_href: text(reporter, "console_href"),
        reporter_version: text(reporter, "reporter_version"),
        workspace_id: text(metadata, "workspace_id"),
        data: data.get("resource_data").cloned(),
    })
}
