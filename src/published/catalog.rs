//! Which views there are to read, and when each is part of what is shown.
//!
//! In: the catalog that is wanted, the cuts of the workers. Out: the catalog that is shown, and how far everything in it
//! is complete. A new catalog is shown in one step, when every view in it has caught up: so a view that replaces another
//! one and those that read it change together, and nobody waits for them for longer than a moment. When that takes too
//! long, those that have caught up are shown without the others (`in_part`): whatever is shown reads what is shown. From
//! then on an epoch is shown only when they have it too. One that stays behind for too long is detached: it is not shown
//! until it has caught up, and nobody waits for it; one that is too long about that is suspended, with all that read it, and
//! may be let go: it is never shown again, another rendering of it is. Whoever folds a log to its end and looks then waits
//! for all of it instead, from the first epoch on. Not here: what makes views (`service`), how they are computed (`dataflow`).

#[cfg(test)]
pub(in crate::published) mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::dataflow::{Cut, ViewId};
use crate::model::Epoch;
use crate::sql::ViewPlan;

/// A view that stays behind for this long is detached.
const DETACH_AFTER: Duration = Duration::from_secs(5);

/// A detached view that does not come to have what all else had so long ago is suspended: what it has not worked off is
/// held in memory, and grows for as long as it is fed. One that a burst has left behind has caught up by then.
pub(super) const SUSPEND_AFTER: Duration = Duration::from_secs(60);

/// Views that are made together are shown together, but one that has not caught up for so long holds the others back no
/// more. Most are made within seconds; whoever changes a view, or waits for a process that starts, has patience for half a
/// minute.
pub(super) const WAIT_FOR_ALL: Duration = Duration::from_secs(30);

/// A view that has all that was complete so long ago has caught up: while much comes, views that read views are always a
/// step behind.
const CAUGHT_UP_WITHIN: Duration = Duration::from_millis(500);

/// A view that can be read.
#[derive(Debug)]
pub struct CatalogView {
    /// This rendering of it.
    pub id: ViewId,
    /// What it is.
    pub plan: Arc<ViewPlan>,
    /// When it was asked for, ms since 1970.
    pub since_ms: u64,
}

/// The views that are read together, by name.
#[derive(Debug, Default, Clone)]
pub struct Catalog {
    views: BTreeMap<Arc<str>, Arc<CatalogView>>,
}

impl Catalog {
    /// A catalog of these views.
    pub fn new(views: impl IntoIterator<Item = Arc<CatalogView>>) -> Self {
        Self { views: views.into_iter().map(|view| (Arc::clone(&view.plan.name), view)).collect() }
    }

    /// The view of a name.
    pub fn view(&self, name: &str) -> Option<&Arc<CatalogView>> {
        self.views.get(name)
    }

    /// All views, in order of name.
    pub fn views(&self) -> impl ExactSizeIterator<Item = &Arc<CatalogView>> {
        self.views.values()
    }

    fn is_same(&self, other: &Self) -> bool {
        self.views.len() == other.views.len() && self.views().zip(other.views()).all(|(one, two)| Arc::ptr_eq(one, two))
    }
}

/// The catalog that is wanted: one for all that show the same service.
pub(super) type Wanted = Arc<ArcSwap<Catalog>>;

/// What is shown, what is wanted, and who is left behind.
pub(super) struct Gate {
    pub(super) shown: Arc<Catalog>,
    wanted: Wanted,
    /// What was wanted when it was looked at last, and since when it is.
    wanted_since: Option<(Arc<Catalog>, Instant)>,
    pub(super) detached: Arc<BTreeSet<ViewId>>,
    /// What each of them is to reach, and when all else had reached it.
    awaited: BTreeMap<ViewId, (Epoch, Instant)>,
    /// Those that are given up, with their names.
    pub(super) suspended: Arc<BTreeMap<ViewId, Arc<str>>>,
    /// How far all else was complete when, as far as that is not shown yet.
    complete_since: VecDeque<(Epoch, Instant)>,
    /// How far all else was complete when, of late; the first one is no later than what counts as caught up.
    complete_lately: VecDeque<(Epoch, Instant)>,
    patience: Patience,
}

/// How long everything waits for a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// So that what is shown stays fresh.
    Fresh,
    /// For ever, so that what is shown is whole.
    Whole,
}

impl Gate {
    pub(super) fn new(wanted: Wanted, patience: Patience) -> Self {
        Self {
            shown: Arc::default(),
            wanted,
            wanted_since: None,
            detached: Arc::default(),
            awaited: BTreeMap::new(),
            suspended: Arc::default(),
            complete_since: VecDeque::new(),
            complete_lately: VecDeque::new(),
            patience,
        }
    }

    /// Notes that all else is complete up to `core`.
    pub(super) fn note(&mut self, core: Epoch, now: Instant) {
        if self.complete_lately.back().is_none_or(|(known, _)| *known < core) {
            self.complete_lately.push_back((core, now));
        }
        let is_long_ago = |(_, at): &(Epoch, Instant)| now.duration_since(*at) >= CAUGHT_UP_WITHIN;
        while self.complete_lately.get(1).is_some_and(is_long_ago) {
            self.complete_lately.pop_front();
        }
    }

    /// Whether what is complete up to `upper` has all that was complete a moment ago.
    fn has_caught_up(&self, upper: Epoch) -> bool {
        self.complete_lately.front().is_some_and(|(complete, _)| upper >= *complete)
    }

    /// Shows the wanted catalog if all of it has caught up, and can be read at what is shown next; or what there is of it,
    /// if that takes too long.
    pub(super) fn promote(&mut self, cuts: &[Option<Cut>], published: Epoch, now: Instant) {
        let wanted = self.wanted.load_full();
        let known = self.wanted_since.as_ref().filter(|(known, _)| Arc::ptr_eq(known, &wanted));
        let since = known.map_or(now, |(_, since)| *since);
        if known.is_none() {
            self.wanted_since = Some((Arc::clone(&wanted), now));
        }
        if Arc::ptr_eq(&wanted, &self.shown) {
            return;
        }
        self.suspend(BTreeMap::new());
        // Nothing is left of those that are to be made anew.
        let is_over = |view: &&Arc<CatalogView>| {
            self.suspended.contains_key(&view.id)
                && wanted.view(&view.plan.name).is_none_or(|wanted| wanted.id != view.id)
        };
        if self.shown.views().any(|view| is_over(&view)) {
            self.shown = Arc::new(Catalog::new(self.shown.views().filter(|view| !is_over(view)).map(Arc::clone)));
        }
        let is_complete = |view: &Arc<CatalogView>| {
            if self.suspended.contains_key(&view.id) {
                return false;
            }
            self.detached.contains(&view.id)
                || progress(cuts, view.id).is_some_and(|(from, upper)| from <= published && self.has_caught_up(upper))
        };
        let is_first = self.patience == Patience::Whole && published == 0;
        if is_first || wanted.views().all(is_complete) {
            self.shown = wanted;
        } else if self.patience == Patience::Fresh && now.duration_since(since) >= WAIT_FOR_ALL {
            let part = in_part(&self.shown, &wanted, is_complete);
            if !part.is_same(&self.shown) {
                self.shown = Arc::new(part);
            }
        }
    }

    /// Up to where everything that is shown is complete, when all else is up to `core`.
    pub(super) fn upper(&mut self, cuts: &[Option<Cut>], core: Epoch, published: Epoch, now: Instant) -> Epoch {
        let is_computed = |view: &&Arc<CatalogView>| !self.suspended.contains_key(&view.id);
        let shown = self.shown.views().filter(is_computed);
        let uppers: Vec<(ViewId, Epoch)> = shown.map(|view| (view.id, upper(cuts, view.id))).collect();
        // Those that have gone are forgotten.
        let is_behind = |id: &ViewId| uppers.iter().any(|(known, upper)| known == id && !self.has_caught_up(*upper));
        if !self.detached.iter().all(is_behind) {
            self.detached = Arc::new(self.detached.iter().copied().filter(is_behind).collect());
        }
        if self.patience == Patience::Fresh {
            self.give_up(&uppers, core, now);
        }
        let is_attached = |id: &ViewId| !self.detached.contains(id) && !self.suspended.contains_key(id);
        let attached = || uppers.iter().filter(|(id, _)| is_attached(id));
        let together = attached().map(|(_, upper)| *upper).min().map_or(core, |upper| upper.min(core));
        if self.complete_since.back().is_none_or(|(known, _)| *known < core) {
            self.complete_since.push_back((core, now));
        }
        let reached = together.max(published + 1);
        while self.complete_since.front().is_some_and(|(complete, _)| *complete <= reached) {
            self.complete_since.pop_front();
        }
        let is_late = |(_, since): &(Epoch, Instant)| now.duration_since(*since) >= DETACH_AFTER;
        let Some((awaited, _)) = self.complete_since.front().copied().filter(is_late) else { return together };
        if self.patience == Patience::Whole {
            return together;
        }
        let late: Vec<ViewId> = attached().filter(|(_, upper)| *upper < awaited).map(|(id, _)| *id).collect();
        tracing::warn!(views = ?late, "views are too far behind and are not shown until they have caught up");
        metrics::counter!("tarn_views_detached_total").increment(late.len() as u64);
        self.awaited.extend(late.iter().map(|id| (*id, (core, now))));
        self.detached = Arc::new(self.detached.iter().copied().chain(late).collect());
        let is_attached = |id: &ViewId| !self.detached.contains(id) && !self.suspended.contains_key(id);
        let attached = uppers.iter().filter(|(id, _)| is_attached(id));
        attached.map(|(_, upper)| *upper).min().map_or(core, |upper| upper.min(core))
    }

    /// Suspends those of the detached views that have been too long about what all else has.
    fn give_up(&mut self, uppers: &[(ViewId, Epoch)], core: Epoch, now: Instant) {
        let detached = Arc::clone(&self.detached);
        self.awaited.retain(|id, _| detached.contains(id));
        let mut late = BTreeMap::new();
        for (id, upper) in uppers.iter().filter(|(id, _)| detached.contains(id)) {
            let Some((awaited, since)) = self.awaited.get_mut(id) else { continue };
            if upper >= awaited {
                (*awaited, *since) = (core, now);
            } else if now.duration_since(*since) >= SUSPEND_AFTER {
                let name = self.shown.views().find(|view| view.id == *id).map(|view| Arc::clone(&view.plan.name));
                late.extend(name.map(|name| (*id, name)));
            }
        }
        if !late.is_empty() {
            self.suspend(late);
        }
    }

    /// Suspends these views and all that read one that is suspended; forgets those that are neither shown nor wanted.
    fn suspend(&mut self, late: BTreeMap<ViewId, Arc<str>>) {
        if late.is_empty() && self.suspended.is_empty() {
            return;
        }
        let wanted = self.wanted.load();
        let catalogs = [&*self.shown, &**wanted];
        let mut suspended = BTreeMap::clone(&self.suspended);
        suspended.retain(|id, _| catalogs.iter().any(|catalog| catalog.views().any(|view| view.id == *id)));
        suspended.extend(late);
        loop {
            let is_suspended = |catalog: &Catalog, name: &Arc<str>| {
                catalog.view(name).is_some_and(|view| suspended.contains_key(&view.id))
            };
            let reads_one = |catalog: &Catalog, view: &CatalogView| {
                !suspended.contains_key(&view.id) && view.plan.reads.iter().any(|name| is_suspended(catalog, name))
            };
            let readers: Vec<(ViewId, Arc<str>)> = catalogs
                .iter()
                .flat_map(|catalog| catalog.views().filter(|view| reads_one(catalog, view)))
                .map(|view| (view.id, Arc::clone(&view.plan.name)))
                .collect();
            if readers.is_empty() {
                break;
            }
            suspended.extend(readers);
        }
        let new: Vec<&Arc<str>> =
            suspended.iter().filter(|(id, _)| !self.suspended.contains_key(id)).map(|(_, name)| name).collect();
        if !new.is_empty() {
            tracing::warn!(views = ?new, "views have been behind for too long and are computed no more until they are reloaded");
            metrics::counter!("tarn_views_suspended_total").increment(new.len() as u64);
        }
        if suspended != *self.suspended {
            self.detached = Arc::new(self.detached.iter().filter(|id| !suspended.contains_key(id)).copied().collect());
            self.suspended = Arc::new(suspended);
        }
    }
}

/// What of a wanted catalog can be shown after `shown`: each view that is complete and reads complete ones alone. Of one
/// that is not, the former rendering stays if there is one, with the former ones of what that reads; and then their new
/// ones wait, and whatever reads these.
fn in_part(shown: &Catalog, wanted: &Catalog, is_complete: impl Fn(&Arc<CatalogView>) -> bool) -> Catalog {
    let is_unchanged = |name: &str| {
        let (one, other) = (shown.view(name), wanted.view(name));
        one.is_some_and(|one| other.is_some_and(|other| one.id == other.id))
    };
    let is_late = |view: &&Arc<CatalogView>| !is_unchanged(&view.plan.name) && !is_complete(view);
    let mut late: BTreeSet<&str> = wanted.views().filter(is_late).map(|view| &*view.plan.name).collect();
    // The names whose former rendering stays.
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    loop {
        let before = (late.len(), kept.len());
        kept.extend(late.iter().filter(|name| shown.view(name).is_some()));
        let read_by_kept = kept.iter().filter_map(|name| shown.view(name)).flat_map(|view| &view.plan.reads);
        let read_by_kept: Vec<&str> = read_by_kept.map(|name| &**name).filter(|name| !is_unchanged(name)).collect();
        kept.extend(read_by_kept);
        late.extend(&kept);
        let reads_late = |view: &&Arc<CatalogView>| view.plan.reads.iter().any(|name| late.contains(&**name));
        let reading: Vec<&str> = wanted.views().filter(reads_late).map(|view| &*view.plan.name).collect();
        late.extend(reading);
        if before == (late.len(), kept.len()) {
            break;
        }
    }
    let new = wanted.views().filter(|view| !late.contains(&*view.plan.name));
    Catalog::new(new.chain(kept.iter().filter_map(|name| shown.view(name))).map(Arc::clone))
}

pub(super) fn upper(cuts: &[Option<Cut>], id: ViewId) -> Epoch {
    progress(cuts, id).map_or(0, |(_, upper)| upper)
}

/// From which epoch on and up to which one a view is complete on all workers.
fn progress(cuts: &[Option<Cut>], id: ViewId) -> Option<(Epoch, Epoch)> {
    let mut all = (0, Epoch::MAX);
    for cut in cuts {
        let view = cut.as_ref()?.views.iter().find(|view| view.id == id)?;
        all = (all.0.max(view.readable_from), all.1.min(view.upper));
    }
    Some(all)
}
