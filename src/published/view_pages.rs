//! Pages of a view's rows: in its own order by seeking, in another one by looking at all of them.
//!
//! Rows are looked at in pieces, and between two of them a page can be given up. Those that begin alike for longer than a
//! place can tell are looked at together, since they stand in the order of their hashes. What a page holds is bounded in
//! rows and bytes, and so is what is kept while all rows are looked at. Not here: where a list goes on ([`RowPlace`]).

use std::collections::BTreeMap;
use std::iter::Peekable;

use super::row_place::{PREFIX_BYTES, RowKey, RowPlace, begin_alike, prefix_of};
use super::view::ReadView;
use crate::dataflow::ViewId;
use crate::sql::{RANGE_START_BYTES_MAX, Reading, Row, RowRange};

/// So many rows are looked at together,
const CHUNK_ROWS: usize = 1024;
/// or fewer, when they have so many bytes.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Rows of two ranges never begin alike for as long as a place can tell, so none stands between those of another.
const _: () = assert!(RANGE_START_BYTES_MAX <= PREFIX_BYTES);

/// What a page may hold and cost.
pub struct RowLimits<'a> {
    /// It has at most this many rows, and
    pub rows: usize,
    /// ends with the row that makes it so long.
    pub bytes: usize,
    /// In the view's own order it ends, and may be empty, when so many rows were looked at.
    pub looks: usize,
    /// Whether nobody waits for it any more; asked now and then.
    pub is_given_up: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for RowLimits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RowLimits({} rows, {} bytes, {} looks)", self.rows, self.bytes, self.looks)
    }
}

impl RowLimits<'_> {
    /// Whether so much is a page.
    fn are_reached(&self, rows: u64, bytes: u64) -> bool {
        rows >= self.rows as u64 || bytes >= self.bytes as u64
    }
}

/// Nobody waits for the page any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the page was given up")]
pub struct GivenUp;

/// Some rows of a view.
#[derive(Debug)]
pub struct RowsPage<'a> {
    /// In order; a row as often as it is there.
    pub rows: Vec<&'a Row>,
    /// Where the list goes on; none at its end.
    pub next: Option<RowPlace>,
}

impl ReadView {
    /// The rows that pass, after a place.
    pub fn view_page(
        &self,
        id: ViewId,
        reading: &Reading,
        after: Option<&RowPlace>,
        limits: &RowLimits<'_>,
    ) -> Result<RowsPage<'_>, GivenUp> {
        if reading.is_reordered() {
            self.sorted_page(id, reading, after, limits)
        } else {
            self.sought_page(id, reading, after, limits)
        }
    }

    fn sought_page(
        &self,
        id: ViewId,
        reading: &Reading,
        after: Option<&RowPlace>,
        limits: &RowLimits<'_>,
    ) -> Result<RowsPage<'_>, GivenUp> {
        let mut filling = Filling::new(after, limits);
        let (mut looks, mut last) = (limits.looks, None);
        for range in reading.ranges() {
            let start = after.map_or(range.start.as_slice(), |after| after.key.prefix().max(&range.start));
            let mut rows = self.rows_from(id, start).take_while(|(row, _)| is_within(row, range)).peekable();
            while rows.peek().is_some() {
                // Behind the place that it began at: among long rows that begin alike this may take a second look.
                if looks == 0 && last.as_ref() != after {
                    return Ok(RowsPage { rows: filling.rows, next: last });
                }
                let some = chunk(&mut rows, looks.max(1), limits)?;
                looks = looks.saturating_sub(some.len());
                let passing = reading.passing(&some.iter().map(|(row, _)| *row).collect::<Vec<_>>());
                let shown = some.iter().zip(passing).filter(|(_, passes)| *passes);
                let mut keyed: Vec<_> =
                    shown.map(|((row, count), _)| (RowKey::of(row.bytes()), *row, *count as u64)).collect();
                keyed.sort_by(|(one, ..), (other, ..)| one.cmp(other));
                for (key, row, count) in &keyed {
                    if let Some(next) = filling.take(key, row, *count) {
                        return Ok(RowsPage { rows: filling.rows, next: Some(next) });
                    }
                }
                last = some.last().map(|(row, _)| RowPlace::behind(row.bytes()));
            }
        }
        Ok(RowsPage { rows: filling.rows, next: None })
    }

    fn sorted_page(
        &self,
        id: ViewId,
        reading: &Reading,
        after: Option<&RowPlace>,
        limits: &RowLimits<'_>,
    ) -> Result<RowsPage<'_>, GivenUp> {
        let mut first = First::new(after, limits);
        for range in reading.ranges() {
            let mut rows = self.rows_from(id, &range.start).take_while(|(row, _)| is_within(row, range)).peekable();
            while rows.peek().is_some() {
                let some = chunk(&mut rows, CHUNK_ROWS, limits)?;
                let each: Vec<&Row> = some.iter().map(|(row, _)| *row).collect();
                let passing = reading.passing(&each);
                for ((key, passes), (row, count)) in reading.sort_keys(&each).iter().zip(passing).zip(some) {
                    if passes {
                        first.offer(key.bytes(), row, count as u64);
                    }
                }
            }
        }
        let mut filling = Filling::new(after, limits);
        let next = first.rows.iter().find_map(|(key, (row, count))| filling.take(key, row, *count));
        Ok(RowsPage { rows: filling.rows, next })
    }
}

fn is_within(row: &Row, range: &RowRange) -> bool {
    range.end.as_deref().is_none_or(|end| row.bytes() < end)
}

/// The next rows, some of them, and with the last all that begin as it does.
fn chunk<'a>(
    rows: &mut Peekable<impl Iterator<Item = (&'a Row, usize)>>,
    rows_max: usize,
    limits: &RowLimits<'_>,
) -> Result<Vec<(&'a Row, usize)>, GivenUp> {
    if (limits.is_given_up)() {
        return Err(GivenUp);
    }
    let (mut some, mut bytes): (Vec<(&Row, usize)>, usize) = (Vec::new(), 0);
    while let Some((row, count)) = rows.next_if(|(row, _)| {
        let has_room = some.len() < rows_max.min(CHUNK_ROWS) && bytes < CHUNK_BYTES;
        has_room || some.last().is_some_and(|(last, _)| begin_alike(last.bytes(), row.bytes()))
    }) {
        bytes += row.bytes().len();
        some.push((row, count));
    }
    Ok(some)
}

/// A page that is being filled, in order.
struct Filling<'a, 'l> {
    rows: Vec<&'a Row>,
    bytes: u64,
    after: Option<&'l RowPlace>,
    limits: &'l RowLimits<'l>,
}

impl<'a, 'l> Filling<'a, 'l> {
    fn new(after: Option<&'l RowPlace>, limits: &'l RowLimits<'l>) -> Self {
        Self { rows: Vec::new(), bytes: 0, after, limits }
    }

    /// Takes the copies of a row that are to be shown; where the list goes on, once the page is full.
    fn take(&mut self, key: &RowKey<'_>, row: &'a Row, count: u64) -> Option<RowPlace> {
        for left in (0..left(self.after, key, count)).rev() {
            self.rows.push(row);
            self.bytes += row.bytes().len() as u64;
            if self.limits.are_reached(self.rows.len() as u64, self.bytes) {
                return Some(RowPlace { key: key.clone().into_owned(), copies: count - left });
            }
        }
        None
    }
}

/// How many copies of a row are to be shown.
fn left(after: Option<&RowPlace>, key: &RowKey<'_>, count: u64) -> u64 {
    after.map_or(count, |after| after.left(key, count))
}

/// The first rows after a place of those that were offered, no more than a page takes.
struct First<'a, 'l> {
    rows: BTreeMap<RowKey<'static>, (&'a Row, u64)>,
    /// To be shown, with copies.
    count: u64,
    bytes: u64,
    after: Option<&'l RowPlace>,
    limits: &'l RowLimits<'l>,
}

impl<'a, 'l> First<'a, 'l> {
    fn new(after: Option<&'l RowPlace>, limits: &'l RowLimits<'l>) -> Self {
        Self { rows: BTreeMap::new(), count: 0, bytes: 0, after, limits }
    }

    fn offer(&mut self, bytes: &[u8], row: &'a Row, count: u64) {
        // Most rows are told by their first bytes, without a hash.
        let prefix = prefix_of(bytes);
        let is_before = self.after.is_some_and(|after| prefix < after.key.prefix());
        let is_behind = |(last, _): (&RowKey<'_>, _)| prefix > last.prefix();
        let is_full = self.limits.are_reached(self.count, self.bytes);
        if is_before || is_full && self.rows.last_key_value().is_some_and(is_behind) {
            return;
        }
        let key = RowKey::of(bytes);
        let left_of_it = left(self.after, &key, count);
        if left_of_it == 0 {
            return;
        }
        self.count += left_of_it;
        self.bytes += left_of_it * row.bytes().len() as u64;
        self.rows.insert(key.into_owned(), (row, count));
        while let Some(last) = self.rows.last_entry() {
            let (row, count) = *last.get();
            let left_of_last = left(self.after, last.key(), count);
            let (rows, bytes) = (self.count - left_of_last, self.bytes - left_of_last * row.bytes().len() as u64);
            if !self.limits.are_reached(rows, bytes) {
                break;
            }
            last.remove();
            (self.count, self.bytes) = (rows, bytes);
        }
    }
}
