//! What is shown when, by cuts and a clock that are written down: views that come together, in part, late, and not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{CAUGHT_UP_WITHIN, Catalog, CatalogView, DETACH_AFTER, SUSPEND_AFTER, WAIT_FOR_ALL, in_part};
use crate::dataflow::{Binding, Cut, CutSink, Fresh, ViewCut, ViewId};
use crate::model::{Epoch, Topics};
use crate::published::{Publisher, ReadView};
use crate::sql::{QueryFile, Tables, ViewPlan, plan_queries};

/// `base`, `over` that reads it, `top` that reads both, and `other` that reads none of them.
fn plans() -> BTreeMap<&'static str, Arc<ViewPlan>> {
    let texts = [
        ("base", "SELECT resource_id FROM resources"),
        ("other", "SELECT count(*) AS resources FROM resources"),
        ("over", "SELECT count(*) AS rows FROM base"),
        ("top", "SELECT rows FROM over UNION ALL SELECT count(*) FROM base"),
    ];
    let files = texts.map(|(name, sql)| QueryFile::new(name, sql));
    let tables = Tables::read(None, &Topics::default()).expect("tables that are always there");
    let planned = plan_queries(&files, &tables);
    assert!(planned.refusals.is_empty(), "{:?}", planned.refusals);
    let plan = |name| planned.views.iter().find(|plan| &*plan.name == name).expect("it is planned");
    texts.map(|(name, _)| (name, Arc::clone(plan(name)))).into()
}

/// A service of one worker whose cuts and whose time are given.
pub(in crate::published) struct Scripted {
    plans: BTreeMap<&'static str, Arc<ViewPlan>>,
    pub(in crate::published) publisher: Arc<Publisher>,
    began: Instant,
}

impl Scripted {
    pub(in crate::published) fn new() -> Self {
        Self { plans: plans(), publisher: Arc::new(Publisher::new(1, 0)), began: Instant::now() }
    }

    /// These renderings are wanted.
    pub(in crate::published) fn want(&self, views: &[(&str, u64)]) {
        let views = views.iter().map(|(name, id)| {
            let plan = Arc::clone(&self.plans[name]);
            Arc::new(CatalogView { id: ViewId(*id), plan, since_ms: 0 })
        });
        self.publisher.want(Arc::new(Catalog::new(views)));
    }

    /// The moment so long after the beginning.
    pub(in crate::published) fn at(&self, after: Duration) -> Instant {
        self.began + after
    }

    /// Seals an epoch and delivers it: renderings with the epochs up to which they have it.
    fn deliver(&self, epoch: Epoch, after: Duration, views: &[(u64, Epoch)]) {
        self.publisher.bind(binding(epoch));
        self.publisher.deliver_at(0, cut(epoch, views), self.at(after));
    }

    /// What is shown: names with renderings.
    fn shown(&self) -> Vec<(String, u64)> {
        shown(&self.publisher.view())
    }
}

/// The names and renderings of a read view.
pub(in crate::published) fn shown(view: &ReadView) -> Vec<(String, u64)> {
    view.catalog().views().map(|view| (view.plan.name.to_string(), view.id.0)).collect()
}

pub(crate) fn binding(epoch: Epoch) -> Binding {
    Binding { epoch, ..Binding::nothing(0) }
}

/// Everything up to an epoch, and views up to theirs.
pub(crate) fn cut(epoch: Epoch, views: &[(u64, Epoch)]) -> Cut {
    let view = |(id, last): &(u64, Epoch)| ViewCut {
        id: ViewId(*id),
        upper: last + 1,
        readable_from: 0,
        since: 0,
        fresh: Vec::new(),
        fresh_failures: Vec::new(),
        rows: Vec::new(),
        failures: Vec::new(),
        meters: Arc::new([]),
        shared: Arc::new([]),
    };
    Cut {
        upper: epoch + 1,
        since: 0,
        states: Vec::new(),
        index: Vec::new(),
        holders: Vec::new(),
        orphans: Vec::new(),
        quarantine: Vec::new(),
        kept: Vec::new(),
        seen_rejects: Vec::new(),
        views: views.iter().map(view).collect(),
        fresh: Fresh::default(),
        folded: Vec::new(),
    }
}

fn named(views: &[(&str, u64)]) -> Vec<(String, u64)> {
    views.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect()
}

const MOMENT: Duration = Duration::from_millis(10);

#[test]
fn views_that_come_together_are_shown_together() {
    let script = Scripted::new();
    script.want(&[("base", 1), ("other", 2), ("over", 3)]);
    script.deliver(1, MOMENT, &[(1, 1), (2, 1)]);
    assert_eq!(script.shown(), named(&[]), "one is missing");
    script.deliver(2, 2 * MOMENT, &[(1, 2), (2, 2), (3, 2)]);
    assert_eq!(script.shown(), named(&[("base", 1), ("other", 2), ("over", 3)]));
    // Each time, and the former ones until then.
    script.want(&[("base", 4), ("other", 2), ("over", 5)]);
    script.deliver(3, 3 * MOMENT, &[(1, 3), (2, 3), (3, 3), (4, 3)]);
    assert_eq!(script.shown(), named(&[("base", 1), ("other", 2), ("over", 3)]));
    script.deliver(4, 4 * MOMENT, &[(1, 4), (2, 4), (3, 4), (4, 4), (5, 4)]);
    assert_eq!(script.shown(), named(&[("base", 4), ("other", 2), ("over", 5)]));
    assert!(script.publisher.shows_what_is_wanted());
}

#[test]
fn a_view_that_never_catches_up_holds_the_others_back_for_a_while_only() {
    let script = Scripted::new();
    script.want(&[("base", 1), ("other", 2), ("over", 3)]);
    script.deliver(1, MOMENT, &[(1, 1), (2, 1)]);
    script.deliver(2, WAIT_FOR_ALL - MOMENT, &[(1, 2), (2, 2)]);
    assert_eq!(script.shown(), named(&[]));
    assert!(!script.publisher.shows_what_is_awaited(script.at(WAIT_FOR_ALL)));
    script.deliver(3, WAIT_FOR_ALL + MOMENT, &[(1, 3), (2, 3)]);
    assert_eq!(script.shown(), named(&[("base", 1), ("other", 2)]));
    assert!(!script.publisher.shows_what_is_wanted());
    assert!(script.publisher.shows_what_is_awaited(script.at(2 * WAIT_FOR_ALL)), "long enough since it was asked");
    // It is shown when it is there after all.
    script.deliver(4, 2 * WAIT_FOR_ALL, &[(1, 4), (2, 4), (3, 4)]);
    assert!(script.publisher.shows_what_is_wanted());
}

#[test]
fn what_is_not_there_anew_stays_as_it_was_with_what_it_reads() {
    let script = Scripted::new();
    script.want(&[("base", 1), ("other", 2), ("over", 3), ("top", 4)]);
    script.deliver(1, MOMENT, &[(1, 1), (2, 1), (3, 1), (4, 1)]);
    script.want(&[("base", 5), ("other", 6), ("over", 7), ("top", 8)]);
    let former = [(1, 9), (2, 9), (3, 9), (4, 9)];
    // All but the last one, which reads two of the others.
    let most = [former.as_slice(), &[(5, 9), (6, 9), (7, 9)]].concat();
    script.deliver(2, 2 * MOMENT, &most);
    script.deliver(3, 2 * MOMENT + WAIT_FOR_ALL, &most);
    assert_eq!(script.shown(), named(&[("base", 1), ("other", 6), ("over", 3), ("top", 4)]));
    let needed: BTreeSet<ViewId> = [1, 3, 4, 6].map(ViewId).into();
    assert_eq!(script.publisher.renderings_shown(), needed, "the former ones are not removed");
    script.deliver(4, 3 * MOMENT + WAIT_FOR_ALL, &[most.as_slice(), &[(8, 9)]].concat());
    assert_eq!(script.shown(), named(&[("base", 5), ("other", 6), ("over", 7), ("top", 8)]));
}

/// Whether each view of a catalog stands beside the renderings that it was made to read.
fn is_closed(catalog: &Catalog, made_to_read: &BTreeMap<ViewId, BTreeMap<&str, ViewId>>) -> bool {
    catalog.views().all(|view| {
        let mut read = made_to_read[&view.id].iter();
        read.all(|(name, id)| catalog.view(name).is_some_and(|shown| shown.id == *id))
    })
}

/// Every way in which four views can be there, change, come, go, and be late.
#[test]
fn a_part_of_a_catalog_is_closed_and_takes_nothing_away() {
    let plans = plans();
    let names: Vec<&str> = plans.keys().copied().collect();
    let mut seen = BTreeSet::new();
    for case in 0..1_u32 << (4 * names.len()) {
        let bit = |kind: usize, name: &str| {
            let place = names.iter().position(|known| *known == name).expect("a name");
            case >> (kind * names.len() + place) & 1 == 1
        };
        let (is_there, is_wanted, is_edited, is_complete) = (0, 1, 2, 3);
        let reads =
            |name: &str| plans[name].reads.iter().map(|read| names[names.binary_search(&&**read).expect("a name")]);
        let all_read_too =
            |kind: usize| names.iter().all(|name| !bit(kind, name) || reads(name).all(|read| bit(kind, read)));
        if !all_read_too(is_there) || !all_read_too(is_wanted) {
            continue;
        }
        let mut made_to_read: BTreeMap<ViewId, BTreeMap<&str, ViewId>> = BTreeMap::new();
        let (mut shown, mut wanted) = (BTreeMap::new(), BTreeMap::<&str, Arc<CatalogView>>::new());
        for name in ["base", "other", "over", "top"] {
            let mut make = |among: &BTreeMap<&str, Arc<CatalogView>>, id| {
                let read = reads(name).map(|read| (read, among[read].id)).collect();
                made_to_read.insert(ViewId(id), read);
                Arc::new(CatalogView { id: ViewId(id), plan: Arc::clone(&plans[name]), since_ms: 0 })
            };
            let id = names.iter().position(|known| *known == name).expect("a name") as u64;
            if bit(is_there, name) {
                let view = make(&shown, id);
                shown.insert(name, view);
            }
            if bit(is_wanted, name) {
                let reads_new = reads(name).any(|read| shown.get(read).is_none_or(|old| old.id != wanted[read].id));
                let is_new = !bit(is_there, name) || bit(is_edited, name) || reads_new;
                let view = if is_new { make(&wanted, 10 + id) } else { Arc::clone(&shown[name]) };
                wanted.insert(name, view);
            }
        }
        let (shown, wanted) = (Catalog::new(shown.into_values()), Catalog::new(wanted.into_values()));
        let part = in_part(&shown, &wanted, |view| bit(is_complete, &view.plan.name));
        assert!(is_closed(&part, &made_to_read), "{case:b}: {shown:?} and {wanted:?}: {part:?}");
        for view in part.views() {
            let is_of = |catalog: &Catalog| catalog.view(&view.plan.name).is_some_and(|known| known.id == view.id);
            assert!(is_of(&shown) || (is_of(&wanted) && bit(is_complete, &view.plan.name)), "{case:b}: {part:?}");
        }
        for view in wanted.views().filter(|view| shown.view(&view.plan.name).is_some()) {
            assert!(part.view(&view.plan.name).is_some(), "{case:b}: {} is gone: {part:?}", view.plan.name);
        }
        if wanted.views().all(|view| bit(is_complete, &view.plan.name)) {
            assert!(part.is_same(&wanted), "{case:b}: all are complete: {part:?}");
        }
        let is_new =
            |name: &str| wanted.view(name).is_some_and(|view| part.view(name).is_some_and(|of| of.id == view.id));
        seen.insert(names.iter().map(|name| is_new(name)).collect::<Vec<_>>());
    }
    assert!(seen.len() >= 8, "parts of many kinds: {}", seen.len());
}

#[test]
fn time_alone_makes_a_view_late() {
    let script = Scripted::new();
    script.want(&[("base", 1), ("other", 2)]);
    script.deliver(1, MOMENT, &[(1, 1), (2, 1)]);
    // One does not come on, and no worker has anything more to say.
    script.deliver(2, 2 * MOMENT, &[(1, 1), (2, 2)]);
    script.publisher.look_at(script.at(DETACH_AFTER));
    assert_eq!(script.publisher.published(), 1);
    script.publisher.look_at(script.at(2 * MOMENT + DETACH_AFTER));
    let view = script.publisher.view();
    assert_eq!(view.epoch(), 2);
    assert!(view.is_detached(ViewId(1)) && !view.is_detached(ViewId(2)));
    // It is shown again when it has what all else had a moment ago.
    script.deliver(3, 3 * MOMENT + DETACH_AFTER, &[(1, 1), (2, 3)]);
    assert!(script.publisher.view().is_detached(ViewId(1)));
    script.deliver(4, 4 * MOMENT + DETACH_AFTER, &[(1, 4), (2, 4)]);
    assert!(!script.publisher.view().is_detached(ViewId(1)));
}

#[test]
fn views_that_are_always_a_step_behind_have_caught_up() {
    let script = Scripted::new();
    script.want(&[("base", 1), ("over", 2)]);
    let mut first_shown = None;
    for epoch in 1..=100 {
        // All else goes on with every cut, and what reads a view has what that had two cuts before.
        script.deliver(
            epoch,
            MOMENT * u32::try_from(epoch).expect("few"),
            &[(1, epoch - 1), (2, epoch.saturating_sub(2))],
        );
        if script.shown().len() == 2 {
            first_shown.get_or_insert(epoch);
            assert!(script.publisher.published() + 2 <= epoch, "no epoch without them");
        }
    }
    let first_shown = first_shown.expect("they are shown");
    assert!(MOMENT * u32::try_from(first_shown).expect("few") <= CAUGHT_UP_WITHIN + 4 * MOMENT, "{first_shown}");
    assert_eq!(script.publisher.published(), 98);
    assert!(!script.publisher.view().is_detached(ViewId(2)));
}

#[test]
fn a_view_that_is_behind_for_too_long_is_given_up_with_those_that_read_it() {
    let script = Scripted::new();
    script.want(&[("base", 1), ("other", 2), ("over", 3)]);
    script.deliver(1, MOMENT, &[(1, 1), (2, 1), (3, 1)]);
    script.deliver(2, 2 * MOMENT, &[(1, 1), (2, 2), (3, 1)]);
    let detached = 2 * MOMENT + DETACH_AFTER;
    script.deliver(3, detached, &[(1, 1), (2, 3), (3, 1)]);
    assert!(script.publisher.view().is_detached(ViewId(1)));
    // What it gets on by is not enough.
    script.deliver(4, detached + SUSPEND_AFTER / 2, &[(1, 2), (2, 4), (3, 1)]);
    script.deliver(5, detached + SUSPEND_AFTER - MOMENT, &[(1, 2), (2, 5), (3, 1)]);
    assert_eq!(script.publisher.renderings_suspended(), BTreeSet::new(), "a moment too early");
    script.deliver(6, detached + SUSPEND_AFTER, &[(1, 2), (2, 6), (3, 1)]);
    let view = script.publisher.view();
    assert_eq!(script.publisher.renderings_suspended(), [1, 3].map(ViewId).into());
    assert!(!view.is_detached(ViewId(1)) && view.catalog().view("base").is_some(), "it is one or the other");
    // The workers know it no more, and nobody waits for it.
    let later = detached + 2 * SUSPEND_AFTER;
    script.deliver(7, later, &[(2, 7)]);
    assert_eq!((script.publisher.published(), script.shown().len()), (7, 3));
    // Made anew it is as one that never was there.
    script.want(&[("base", 4), ("other", 2), ("over", 5)]);
    script.deliver(8, later + MOMENT, &[(2, 8)]);
    assert_eq!(script.shown(), named(&[("other", 2)]));
    script.deliver(9, later + 2 * MOMENT, &[(2, 9), (4, 9), (5, 9)]);
    assert_eq!(script.shown(), named(&[("base", 4), ("other", 2), ("over", 5)]));
    assert_eq!(script.publisher.renderings_suspended(), BTreeSet::new());
}

#[test]
fn a_view_that_gets_on_is_not_given_up() {
    let script = Scripted::new();
    script.want(&[("base", 1), ("other", 2)]);
    script.deliver(1, MOMENT, &[(1, 1), (2, 1)]);
    // A second an epoch, and half a minute behind for ten minutes.
    for epoch in 2..600 {
        let after = Duration::from_secs(epoch);
        script.deliver(epoch, after, &[(1, epoch.saturating_sub(30).max(1)), (2, epoch)]);
        assert_eq!(script.publisher.view().is_detached(ViewId(1)), epoch >= 7, "{epoch}");
    }
    assert_eq!(script.publisher.renderings_suspended(), BTreeSet::new());
    script.deliver(600, Duration::from_secs(600), &[(1, 600), (2, 600)]);
    assert!(!script.publisher.view().is_detached(ViewId(1)));
}

#[test]
fn a_view_that_comes_to_read_one_that_is_given_up_says_so() {
    let script = Scripted::new();
    script.want(&[("base", 1), ("other", 2)]);
    script.deliver(1, MOMENT, &[(1, 1), (2, 1)]);
    for (epoch, after) in [(2, DETACH_AFTER), (3, 2 * DETACH_AFTER), (4, 3 * DETACH_AFTER + SUSPEND_AFTER)] {
        script.deliver(epoch, after, &[(1, 1), (2, epoch)]);
    }
    assert_eq!(script.publisher.renderings_suspended(), [1].map(ViewId).into());
    script.want(&[("base", 1), ("other", 2), ("over", 3)]);
    script.deliver(5, 4 * DETACH_AFTER + SUSPEND_AFTER, &[(2, 5)]);
    let view = script.publisher.view();
    assert!(view.was_never_shown("over") && !view.was_never_shown("base"));
    assert_eq!(script.publisher.renderings_suspended(), [1, 3].map(ViewId).into());
}

#[test]
fn what_is_sealed_and_not_shown_is_late_by_the_clock() {
    let script = Scripted::new();
    let at = |seconds| Instant::now() + Duration::from_secs(seconds);
    assert_eq!(script.publisher.behind(at(100)), Duration::ZERO, "nothing is sealed");
    script.publisher.bind(binding(1));
    script.publisher.bind(binding(2));
    let behind = script.publisher.behind(at(10));
    assert!((9..=11).contains(&behind.as_secs()), "{behind:?}");
    assert_eq!(script.publisher.fell_behind(at(1)), None);
    assert!(script.publisher.fell_behind(at(10)).is_some());
    assert_eq!(script.publisher.fell_behind(at(11)), None, "it is told once");
    script.publisher.deliver_at(0, cut(1, &[]), script.at(Duration::ZERO));
    assert!(script.publisher.behind(at(10)) > Duration::ZERO, "the second one is not shown");
    script.publisher.deliver_at(0, cut(2, &[]), script.at(Duration::ZERO));
    assert_eq!((script.publisher.behind(at(10)), script.publisher.fell_behind(at(10))), (Duration::ZERO, None));
    script.publisher.bind(binding(3));
    assert!(script.publisher.fell_behind(at(10)).is_some(), "and again the next time");
}
