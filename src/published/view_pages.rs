//! Pages of a view's rows: in its own order by seeking, in another one by looking at all of them.
//!
//! A page goes on after the place of the last row shown: its bytes in the order of the list, and how many of its copies
//! were shown. So it goes on rightly whatever came or went in between.

use std::collections::BTreeMap;

use super::view::ReadView;
use crate::dataflow::ViewId;
use crate::sql::{Reading, Row};

/// So many rows are looked at together.
const CHUNK_ROWS: usize = 1024;

/// Where a list of rows goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowPlace {
    /// The bytes by which the last row is sorted.
    pub key: Vec<u8>,
    /// How many copies of it were shown.
    pub copies: u64,
}

/// Some rows of a view.
#[derive(Debug)]
pub struct RowsPage<'a> {
    /// In order; a row as often as it is there.
    pub rows: Vec<&'a Row>,
    /// Where the list goes on; none at its end.
    pub next: Option<RowPlace>,
}

impl ReadView {
    /// At most `limit` of the rows that pass, after a place. In the view's own order it ends early, and may be empty,
    /// when `looks_max` rows were looked at.
    pub fn view_page(
        &self,
        id: ViewId,
        reading: &Reading,
        after: Option<&RowPlace>,
        limit: usize,
        looks_max: usize,
    ) -> RowsPage<'_> {
        if reading.is_reordered() {
            self.sorted_page(id, reading, after, limit)
        } else {
            self.sought_page(id, reading, after, limit, looks_max)
        }
    }

    fn sought_page(
        &self,
        id: ViewId,
        reading: &Reading,
        after: Option<&RowPlace>,
        limit: usize,
        looks_max: usize,
    ) -> RowsPage<'_> {
        let mut page = RowsPage { rows: Vec::new(), next: None };
        let (mut looks, mut last) = (0, None);
        for range in reading.ranges() {
            let start = after.map_or(range.start.as_slice(), |after| after.key.as_slice().max(&range.start));
            let is_within = |row: &Row| range.end.as_deref().is_none_or(|end| row.bytes() < end);
            let mut rows = self.rows_from(id, start).take_while(|(row, _)| is_within(row)).peekable();
            while rows.peek().is_some() {
                if looks == looks_max {
                    page.next = last;
                    return page;
                }
                let some: Vec<(&Row, usize)> = rows.by_ref().take(CHUNK_ROWS.min(looks_max - looks)).collect();
                looks += some.len();
                let passing = reading.passing(&some.iter().map(|(row, _)| *row).collect::<Vec<_>>());
                for ((row, count), passes) in some.iter().zip(passing) {
                    let shown = after.filter(|after| after.key == row.bytes()).map_or(0, |after| after.copies);
                    let left = (*count as u64).saturating_sub(shown);
                    let room = (limit - page.rows.len()) as u64;
                    let taken = if passes { left.min(room) } else { 0 };
                    page.rows.extend(std::iter::repeat_n(*row, usize::try_from(taken).unwrap_or(usize::MAX)));
                    if page.rows.len() == limit {
                        page.next = Some(RowPlace { key: row.bytes().to_vec(), copies: shown + taken });
                        return page;
                    }
                }
                last = some.last().map(|(row, count)| RowPlace { key: row.bytes().to_vec(), copies: *count as u64 });
            }
        }
        page
    }

    fn sorted_page(&self, id: ViewId, reading: &Reading, after: Option<&RowPlace>, limit: usize) -> RowsPage<'_> {
        let mut first: BTreeMap<Row, (&Row, usize)> = BTreeMap::new();
        for range in reading.ranges() {
            let is_within = |row: &Row| range.end.as_deref().is_none_or(|end| row.bytes() < end);
            let mut rows = self.rows_from(id, &range.start).take_while(|(row, _)| is_within(row)).peekable();
            while rows.peek().is_some() {
                let some: Vec<(&Row, usize)> = rows.by_ref().take(CHUNK_ROWS).collect();
                let each: Vec<&Row> = some.iter().map(|(row, _)| *row).collect();
                let passing = reading.passing(&each);
                for ((key, passes), (row, count)) in reading.sort_keys(&each).into_iter().zip(passing).zip(some) {
                    let is_after = after.is_none_or(|after| key.bytes() >= after.key.as_slice());
                    if passes && is_after {
                        first.insert(key, (row, count));
                    }
                }
                // One more than can be needed, since the first may have been shown in full.
                while first.len() > limit + 1 {
                    first.pop_last();
                }
            }
        }
        let mut page = RowsPage { rows: Vec::new(), next: None };
        for (key, (row, count)) in &first {
            let shown = after.filter(|after| after.key == key.bytes()).map_or(0, |after| after.copies);
            let taken = (*count as u64).saturating_sub(shown).min((limit - page.rows.len()) as u64);
            page.rows.extend(std::iter::repeat_n(*row, usize::try_from(taken).unwrap_or(usize::MAX)));
            if page.rows.len() == limit {
                page.next = Some(RowPlace { key: key.bytes().to_vec(), copies: shown + taken });
                break;
            }
        }
        page
    }
}
