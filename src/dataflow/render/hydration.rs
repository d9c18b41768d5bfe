//! The time before a dataflow can be read: who keeps groups takes in what is there without a word, and tells it once.
//!
//! A dataflow that begins late is given what is there in slices, each at an epoch of its own, and nobody can see any of
//! these but the last. An operator that told each group before and after every slice would make many times what it has
//! in the end, and everything behind it would have to take that back. So up to the last of these epochs it says nothing;
//! once nothing before its end can come any more, it tells what it holds, some entries at a time, each portion at an
//! epoch that is still before the last one where there are so many: whoever takes them can close a small batch after
//! each, and the worker does other things in between. Then it goes on as if it had always been there.

use std::cell::Cell;
use std::rc::Rc;

use crate::model::Epoch;

/// So many epochs before the last one are for what is told in the end; slices of what is read are before them.
const TELLING_EPOCHS: Epoch = 1024;
/// So many entries are looked at in a portion.
pub(super) const PORTION: usize = if cfg!(test) { 3 } else { 1024 };

/// From when on a dataflow can be read: known once all is drawn, before any operator works.
#[derive(Debug, Clone, Default)]
pub(in crate::dataflow) struct Hydration(Rc<Cell<Epoch>>);

impl Hydration {
    /// Says from when on.
    pub(in crate::dataflow) fn readable_from(&self, epoch: Epoch) {
        self.0.set(epoch);
    }

    /// The first epoch that can be seen; 0 where all can.
    pub(in crate::dataflow) fn last(&self) -> Epoch {
        self.0.get()
    }
}

/// The first epoch of those before `last`, which is the one that is read, that are left for telling: half of what
/// there is, where there are few.
pub(in crate::dataflow) fn first_telling(last: Epoch) -> Epoch {
    last - TELLING_EPOCHS.min(last / 2)
}

/// The silence of an operator before it can be read.
#[derive(Debug)]
pub(super) struct Silence {
    /// It tells at this epoch at the latest.
    last: Epoch,
    /// The next portion is told at this one.
    next: Epoch,
}

impl Silence {
    /// That of an operator that can be read from then on; none where there is nothing to be silent about.
    pub(super) fn before(hydration: &Hydration) -> Option<Self> {
        let last = hydration.last();
        (last > 0).then(|| Self { last, next: first_telling(last) })
    }

    /// All before this is taken in silently, given that nothing before `until` comes any more.
    pub(super) fn absorbs_until(&self, until: Epoch) -> Epoch {
        until.min(self.last.saturating_add(1))
    }

    /// Whether it is time to tell.
    pub(super) fn is_over(&self, until: Epoch) -> bool {
        until > self.last
    }

    /// The epoch of the next portion, of an operator that may not speak of anything before `earliest`.
    pub(super) fn portion(&mut self, earliest: Epoch) -> Epoch {
        let time = self.next.max(earliest).min(self.last);
        self.next = time.saturating_add(1);
        time
    }

    /// The earliest epoch at which something may still be told, while nothing before `until` comes any more.
    pub(super) fn earliest(&self, until: Epoch) -> Epoch {
        until.min(self.next).min(self.last)
    }
}
