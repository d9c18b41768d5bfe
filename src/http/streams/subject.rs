//! What a stream follows: a view or the resources, what is chosen of it, and in which words it is told.
//!
//! Makes the frames of any epochs that are kept, the parts of a snapshot, and the frame that stands for several epochs.
//! Streams of one subject are told the same, so they share all of it. Not here: who is told what when (`channel`, `client`).

use std::ops::ControlFlow;
use std::sync::Arc;

use super::frame::{self, Lists, Seal};
use super::reset::Reset;
use super::written::{entries, images, rows};
use crate::dataflow::{Diff, ViewId};
use crate::model::{Epoch, ResourceId};
use crate::published::stream::keys::{KeyCounts, after_images};
use crate::published::stream::{self, resources};
use crate::published::{Filter, Publisher, ReadView, RowLimits, RowPlace, StreamToken, TokenKey};
use crate::service::Service;
use crate::service::view_health::Health;
use crate::sql::{KeyColumns, Reading, ReadingError, Row, ViewPlan};

/// No frame of changes is longer.
pub(super) const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A part of a snapshot is about so long.
pub(super) const CHUNK_BYTES: usize = 128 * 1024;
/// So many rows are looked at for one.
const LOOKS_MAX: usize = 20_000;
/// So many resources are looked at for one.
const CHUNK_RESOURCES: usize = 200;
/// No more rows are told apart by a key.
const KEYS_MAX: usize = 2_000_000;
/// So many are counted at a time.
const COUNTED_ROWS: usize = 4_096;

/// What is chosen of a view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RowSelection {
    /// As those of a read ([`Reading::new`]).
    pub filters: Vec<(String, Vec<Option<String>>)>,
    /// The columns of the key, where after-images are wanted.
    pub key: Option<Vec<String>>,
}

/// What a stream follows.
#[derive(Debug)]
pub struct Subject {
    followed: Followed,
    seal: Seal,
    name: String,
}

#[derive(Debug)]
enum Followed {
    View { plan: Arc<ViewPlan>, reading: Reading, key: Option<KeyColumns> },
    Resources { filter: Filter, with_repeats: bool },
}

/// Whether a subject can be followed at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// As this rendering, if it is a view.
    Ready(ViewId),
    /// Not now.
    Paused,
    /// No more.
    Over(Reset),
}

/// Where a snapshot goes on.
#[derive(Debug, Clone)]
pub enum Place {
    /// After this row.
    Row(RowPlace),
    /// After this resource.
    Resource(ResourceId),
}

/// What is called with each frame; whether more are wanted.
pub type Each<'a> = &'a mut dyn FnMut(Epoch, Vec<u8>) -> ControlFlow<()>;

impl Subject {
    /// A view.
    pub fn view(
        plan: &Arc<ViewPlan>,
        selection: &RowSelection,
        key: &TokenKey,
        incarnation: u64,
    ) -> Result<Self, ReadingError> {
        let reading = Reading::new(plan, &selection.filters, &[])?;
        let columns = selection.key.as_ref().map(|names| KeyColumns::new(plan, names)).transpose()?;
        let subject = format!("{} {:?} {:?}", plan.name, plan.fingerprint, plan.columns);
        let selected = format!("{selection:?}");
        let followed = Followed::View { plan: Arc::clone(plan), reading, key: columns };
        Ok(Self::new(followed, &subject, &selected, key, incarnation))
    }

    /// The resources.
    pub fn resources(filter: Filter, with_repeats: bool, key: &TokenKey, incarnation: u64) -> Self {
        let selected = format!("{filter:?} {with_repeats}");
        Self::new(Followed::Resources { filter, with_repeats }, "resources", &selected, key, incarnation)
    }

    fn new(followed: Followed, subject: &str, selected: &str, key: &TokenKey, incarnation: u64) -> Self {
        let (of, selection) = (StreamToken::hash(subject), StreamToken::hash(selected));
        let token = StreamToken { incarnation, epoch: 0, subject: of, selection };
        let name = format!("{incarnation} {subject} {selected}");
        Self { followed, seal: Seal { key: key.clone(), token }, name }
    }

    /// What tells it from all others.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What metrics call it: streams of one view are counted together.
    pub(super) fn label(&self) -> String {
        match &self.followed {
            Followed::View { plan, .. } => plan.name.to_string(),
            Followed::Resources { .. } => "resources".to_owned(),
        }
    }

    /// Whether it can be followed at an instant.
    pub(super) fn standing(&self, service: &Service, view: &ReadView) -> Standing {
        if view.incarnation() != self.seal.token.incarnation {
            return Standing::Over(Reset::Incarnation);
        }
        let Followed::View { plan, .. } = &self.followed else { return Standing::Ready(ViewId(0)) };
        let Some(condition) = service.view_condition(view, &plan.name) else {
            return Standing::Over(Reset::Removed);
        };
        match (condition.health, condition.shown) {
            (Health::Detached | Health::Hydrating, _) => Standing::Paused,
            (Health::Suspended, _) => Standing::Over(Reset::Suspended),
            (_, None) => Standing::Over(Reset::Removed),
            (_, Some(shown)) if shown.plan.fingerprint == plan.fingerprint && shown.plan.columns == plan.columns => {
                Standing::Ready(shown.id)
            }
            _ => Standing::Over(Reset::Subject),
        }
    }

    /// When it was last shown to be another one than before.
    pub(super) fn changed(&self, view: &ReadView, at: ViewId) -> Epoch {
        match self.followed {
            Followed::View { .. } => view.rows_changed(at),
            Followed::Resources { .. } => view.tables_changed(),
        }
    }

    /// Whether all changes later than an epoch are kept.
    pub(super) fn is_kept(&self, publisher: &Publisher, at: ViewId, epoch: Epoch) -> bool {
        match self.followed {
            Followed::View { .. } => publisher.rows_changed(at, epoch, epoch).is_ok(),
            Followed::Resources { .. } => publisher.resources_changed(epoch, epoch).is_ok(),
        }
    }

    /// What a client that comes back has seen: its token, if it is one of this subject.
    pub(super) fn epoch_of(&self, id: &str) -> Result<Epoch, Reset> {
        let token = StreamToken::decode(id, &self.seal.key).map_err(|_| Reset::Id)?;
        let own = &self.seal.token;
        if token.incarnation != own.incarnation {
            return Err(Reset::Incarnation);
        }
        if token.subject != own.subject {
            return Err(Reset::Subject);
        }
        if token.selection == own.selection { Ok(token.epoch) } else { Err(Reset::Selection) }
    }

    /// The keys that are there at an epoch that is kept; none where no key is asked for.
    pub fn count_keys(
        &self,
        publisher: &Publisher,
        view: &ReadView,
        at: ViewId,
        epoch: Epoch,
    ) -> Result<Option<KeyCounts>, Reset> {
        let Followed::View { reading, key: Some(key), .. } = &self.followed else { return Ok(None) };
        let mut counts = KeyCounts::default();
        for range in reading.ranges() {
            let is_within = |row: &Row| range.end.as_deref().is_none_or(|end| row.bytes() < end);
            let mut rows = view.rows_from(at, &range.start).take_while(|(row, _)| is_within(row));
            loop {
                let some: Vec<(&Row, usize)> = rows.by_ref().take(COUNTED_ROWS).collect();
                if some.is_empty() {
                    break;
                }
                let passing = reading.passing(&some.iter().map(|(row, _)| *row).collect::<Vec<_>>());
                let counted = some.into_iter().zip(passing).filter(|(_, passes)| *passes);
                let counted: Vec<(&Row, Diff)> = counted.map(|((row, count), _)| (row, count as Diff)).collect();
                counts.add(key, &counted);
                if counts.len() > KEYS_MAX {
                    return Err(Reset::TooManyKeys);
                }
            }
        }
        let changes = publisher.rows_changed(at, epoch, view.epoch()).map_err(|_| Reset::Retention)?;
        let counts = counts.before(key, &stream::coalesced(stream::passing(reading, changes)));
        if counts.are_distinct() { Ok(Some(counts)) } else { Err(Reset::NotAKey) }
    }

    /// Of the keys that are there at `until`, those that changed since `after`, as they were then.
    pub(super) fn keys_before(
        &self,
        publisher: &Publisher,
        counts: &KeyCounts,
        at: ViewId,
        (after, until): (Epoch, Epoch),
    ) -> Result<KeyCounts, Reset> {
        let Followed::View { reading, key: Some(key), .. } = &self.followed else { return Ok(KeyCounts::default()) };
        let changes = publisher.rows_changed(at, after, until).map_err(|_| Reset::Retention)?;
        let changed = stream::passing(reading, changes);
        let touched: Vec<(Row, Diff)> = changed.iter().flat_map(|(_, rows)| rows).cloned().collect();
        Ok(counts.of(key, &touched).before(key, &stream::coalesced(changed)))
    }

    /// Gives `each` the frames of the epochs after one until another one, in order. Where there is a key, `counts` are of
    /// those that were there before.
    pub fn frames(
        &self,
        service: &Places<'_>,
        at: ViewId,
        (after, until): (Epoch, Epoch),
        counts: &mut Option<KeyCounts>,
        each: Each<'_>,
    ) -> Result<(), Reset> {
        match &self.followed {
            Followed::View { reading, key, .. } => {
                let changes = service.publisher.rows_changed(at, after, until).map_err(|_| Reset::Retention)?;
                for (epoch, changed) in stream::passing(reading, changes) {
                    if let (Some(key), Some(counts)) = (key, counts.as_mut()) {
                        counts.apply(key, &changed).map_err(|_| Reset::NotAKey)?;
                    }
                    let frame = self.frame_of_rows(reading, key.as_ref(), epoch, None, &changed)?;
                    if each(epoch, frame).is_break() {
                        break;
                    }
                }
            }
            Followed::Resources { filter, with_repeats } => {
                let changes = service.publisher.resources_followed(after, until).map_err(|_| Reset::Retention)?;
                for (epoch, changed) in changes {
                    let images = changed.iter().filter_map(|change| change.image(filter, *with_repeats)).collect();
                    let frame = self.frame_of_resources(service, epoch, None, images)?;
                    if let Some(frame) = frame
                        && each(epoch, frame).is_break()
                    {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// The one frame that stands for all epochs after one until another one; nothing where nothing changed after all.
    pub fn coalesced(
        &self,
        service: &Places<'_>,
        at: ViewId,
        (after, until): (Epoch, Epoch),
    ) -> Result<Option<Vec<u8>>, Reset> {
        match &self.followed {
            Followed::View { reading, key, .. } => {
                let changes = service.publisher.rows_changed(at, after, until).map_err(|_| Reset::Retention)?;
                let changed = stream::coalesced(stream::passing(reading, changes));
                if changed.is_empty() {
                    return Ok(None);
                }
                self.frame_of_rows(reading, key.as_ref(), until, Some(after), &changed).map(Some)
            }
            Followed::Resources { filter, with_repeats } => {
                let changes = service.publisher.resources_followed(after, until).map_err(|_| Reset::Retention)?;
                let changed = resources::coalesced(changes);
                let images = changed.iter().filter_map(|change| change.image(filter, *with_repeats)).collect();
                self.frame_of_resources(service, until, Some(after), images)
            }
        }
    }

    fn frame_of_rows(
        &self,
        reading: &Reading,
        key: Option<&KeyColumns>,
        epoch: Epoch,
        from: Option<Epoch>,
        changed: &[(Row, Diff)],
    ) -> Result<Vec<u8>, Reset> {
        let bytes = changed.iter().map(|(row, diff)| row.bytes().len().saturating_mul(diff.unsigned_abs()));
        if bytes.fold(0, usize::saturating_add) > FRAME_BYTES_MAX {
            return Err(Reset::TooLarge);
        }
        let frame = match key {
            None => {
                let of = |sign: Diff| {
                    let those = changed.iter().filter(move |(_, diff)| diff.signum() == sign);
                    those.flat_map(|(row, diff)| std::iter::repeat_n(row, diff.unsigned_abs())).collect::<Vec<_>>()
                };
                let (left, came) = (rows(reading, &of(-1))?, rows(reading, &of(1))?);
                frame::changes(&self.seal, epoch, from, Lists(&[("left", &left), ("came", &came)]))
            }
            Some(key) => {
                let images = after_images(key, changed).map_err(|_| Reset::NotAKey)?;
                let entries = entries(reading, key, images.iter().map(|image| (&image.row, image.is_there)))?;
                frame::changes(&self.seal, epoch, from, Lists(&[("changes", &entries)]))
            }
        };
        if frame.len() > FRAME_BYTES_MAX { Err(Reset::TooLarge) } else { Ok(frame) }
    }

    fn frame_of_resources(
        &self,
        service: &Places<'_>,
        epoch: Epoch,
        from: Option<Epoch>,
        changed: Vec<resources::ResourceImage>,
    ) -> Result<Option<Vec<u8>>, Reset> {
        if changed.is_empty() {
            return Ok(None);
        }
        let mut written = Vec::new();
        for image in &changed {
            images(&mut written, std::iter::once((image.id, image.resource.as_ref())), service.topics);
            if written.len() > FRAME_BYTES_MAX {
                return Err(Reset::TooLarge);
            }
        }
        Ok(Some(frame::changes(&self.seal, epoch, from, Lists(&[("changes", &written)]))))
    }

    /// A part of the snapshot of an instant after a place, if it has anything, and where the next one begins.
    pub fn part(
        &self,
        service: &Places<'_>,
        view: &ReadView,
        at: ViewId,
        after: Option<&Place>,
    ) -> Result<(Option<Vec<u8>>, Option<Place>), Reset> {
        let (name, items, next) = match &self.followed {
            Followed::View { reading, key, .. } => {
                let after = match after {
                    Some(Place::Row(place)) => Some(place),
                    _ => None,
                };
                let limits =
                    RowLimits { rows: LOOKS_MAX, bytes: CHUNK_BYTES / 2, looks: LOOKS_MAX, is_given_up: &|| false };
                let page = view.view_page(at, reading, after, &limits).expect("nobody gives it up");
                let items = match key {
                    None => rows(reading, &page.rows)?,
                    Some(key) => entries(reading, key, page.rows.iter().map(|row| (*row, true)))?,
                };
                ("rows", items, page.next.map(Place::Row))
            }
            Followed::Resources { filter, .. } => {
                let after = match after {
                    Some(Place::Resource(id)) => Some(*id),
                    _ => None,
                };
                let page = view.page(filter, after, CHUNK_RESOURCES, service.keys);
                let mut next = page.next_after.map(Place::Resource);
                let mut items = Vec::new();
                for (state, orphaned_by) in page.items {
                    if items.len() >= CHUNK_BYTES {
                        // Before this one, which the next part begins with.
                        next = state.id.predecessor().map(Place::Resource);
                        break;
                    }
                    let id = state.id;
                    images(&mut items, std::iter::once((id, Some(&(state, orphaned_by)))), service.topics);
                }
                ("rows", items, next)
            }
        };
        let is_last = next.is_none();
        let part = (is_last || !items.is_empty())
            .then(|| frame::snapshot(&self.seal, view.epoch(), Lists(&[(name, &items)]), is_last));
        Ok((part, next))
    }

    /// Nothing changed until an epoch.
    pub(super) fn progress(&self, epoch: Epoch) -> Vec<u8> {
        frame::progress(&self.seal, epoch)
    }
}

/// Where frames are made from.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The changes.
    pub publisher: &'a Publisher,
    /// The names of topics.
    pub topics: &'a crate::model::Topics,
    /// The keys of the indexes' hashes.
    pub keys: crate::dataflow::HashKeys,
}

impl<'a> From<&'a Service> for Places<'a> {
    fn from(service: &'a Service) -> Self {
        Self { publisher: &service.publisher, topics: &service.topics, keys: service.keys }
    }
}
