//! What a view costs: what its operators hold and how long they were at work, of all workers together.
//!
//! Meters run on while they are read, so what they say may be an epoch or two ahead of the instant.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::view::ReadView;
use crate::dataflow::{Measures, SharedUse, ViewId};
use crate::model::Epoch;
use crate::sql::Fingerprint;

/// A part of what renders a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartCost {
    /// Which relation.
    pub relation: Fingerprint,
    /// What it does for it.
    pub part: &'static str,
    /// What it did and holds.
    pub measures: Measures,
}

/// An arrangement that a view shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedCost {
    /// Whose rows it holds.
    pub relation: Fingerprint,
    /// By which key, as SQL.
    pub key: String,
    /// How many dataflows read it: views, and arrangements that are made of it.
    pub readers: usize,
    /// What its parts did and hold.
    pub parts: Vec<PartCost>,
}

/// What a view costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewCost {
    /// What it has to itself.
    pub own: Vec<PartCost>,
    /// What it has together with others.
    pub shared: Vec<SharedCost>,
}

impl ViewCost {
    /// What it has to itself, added up.
    pub fn own_total(&self) -> Measures {
        total(&self.own)
    }

    /// What it has together with others, added up.
    pub fn shared_total(&self) -> Measures {
        self.shared.iter().fold(Measures::default(), |sum, shared| sum + total(&shared.parts))
    }
}

/// Parts, added up.
pub fn total(parts: &[PartCost]) -> Measures {
    parts.iter().fold(Measures::default(), |sum, part| sum + part.measures)
}

/// Parts of several workers, those of one relation together, in order.
#[derive(Default)]
struct Sums(BTreeMap<(Fingerprint, &'static str), Measures>);

impl Sums {
    fn add(&mut self, relation: Fingerprint, part: &'static str, measures: Measures) {
        let sum = self.0.entry((relation, part)).or_default();
        *sum = *sum + measures;
    }

    fn parts(self) -> Vec<PartCost> {
        let parts = self.0.into_iter();
        parts.map(|((relation, part), measures)| PartCost { relation, part, measures }).collect()
    }
}

impl ReadView {
    /// What a view costs.
    pub fn view_cost(&self, id: ViewId) -> ViewCost {
        let mut own = Sums::default();
        let mut shared: BTreeMap<(Fingerprint, &str), (usize, Sums)> = BTreeMap::new();
        for share in self.shares(id) {
            share.meters.iter().for_each(|meter| own.add(meter.relation(), meter.part(), meter.read()));
            for one in share.shared.iter().map(Arc::as_ref) {
                let SharedUse { relation, key, meters, .. } = one;
                // All workers share alike.
                let (readers, sums) = shared.entry((*relation, key)).or_default();
                *readers = one.readers();
                meters.iter().for_each(|meter| sums.add(meter.relation(), meter.part(), meter.read()));
            }
        }
        let shared = shared.into_iter().map(|((relation, key), (readers, sums))| SharedCost {
            relation,
            key: key.to_owned(),
            readers,
            parts: sums.parts(),
        });
        ViewCost { own: own.parts(), shared: shared.collect() }
    }

    /// From which epoch on a view is complete, and up to which one; none where it is not there.
    pub fn view_progress(&self, id: ViewId) -> Option<(Epoch, Epoch)> {
        let all = self.shares(id).map(|share| (share.readable_from, share.upper));
        all.reduce(|(from, upper), (other_from, other_upper)| (from.max(other_from), upper.min(other_upper)))
    }
}
