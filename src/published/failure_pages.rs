//! Pages of the rows that a view could not evaluate, in order of input, expression and reason.
//!
//! Their texts may be of any length, so a list goes on as one of rows does ([`RowPlace`]), each failure once with how
//! often it is there.

use super::row_place::{RowKey, RowPlace, begin_alike, prefix_of};
use super::view::ReadView;
use crate::dataflow::ViewId;
use crate::sql::Failure;

/// Some failures of a view.
#[derive(Debug)]
pub struct FailuresPage<'a> {
    /// In order; each with how often it is there.
    pub failures: Vec<(&'a Failure, usize)>,
    /// Where the list goes on; none at its end.
    pub next: Option<RowPlace>,
}

impl ReadView {
    /// At most `limit` failures after a place; the one that makes the page `bytes_max` long is its last.
    pub fn failures_page(
        &self,
        id: ViewId,
        after: Option<&RowPlace>,
        limit: usize,
        bytes_max: usize,
    ) -> FailuresPage<'_> {
        let is_before =
            |failure: &Failure| after.is_some_and(|after| prefix_of(&bytes_of(failure)) < after.key.prefix());
        let mut rest = self.failures_from(id, is_before).map(|(one, count)| (bytes_of(one), one, count)).peekable();
        let mut page = FailuresPage { failures: Vec::new(), next: None };
        let mut bytes = 0;
        while let Some(first) = rest.next() {
            let mut alike = vec![first];
            while let Some(one) = rest.next_if(|(bytes, ..)| begin_alike(bytes, &alike[0].0)) {
                alike.push(one);
            }
            let mut keyed: Vec<_> = alike.iter().map(|(bytes, one, count)| (RowKey::of(bytes), *one, *count)).collect();
            keyed.sort_by(|(one, ..), (other, ..)| one.cmp(other));
            for (key, failure, count) in keyed {
                if after.is_some_and(|after| key <= after.key) {
                    continue;
                }
                page.failures.push((failure, count));
                bytes += failure.input.len() + failure.expression.len() + failure.reason.len();
                if page.failures.len() >= limit || bytes >= bytes_max {
                    page.next = Some(RowPlace { key: key.into_owned(), copies: 1 });
                    return page;
                }
            }
        }
        page
    }
}

/// Bytes that sort as failures do, and say where they end.
fn bytes_of(failure: &Failure) -> Vec<u8> {
    let texts = [&failure.input, &failure.expression, &failure.reason];
    let mut bytes = Vec::with_capacity(texts.iter().map(|text| text.len() + 2).sum());
    for text in texts {
        // Two zeros end a text, so a zero in it is made another pair, which is greater.
        for byte in text.bytes() {
            bytes.push(byte);
            if byte == 0 {
                bytes.push(u8::MAX);
            }
        }
        bytes.extend([0, 0]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_sort_as_failures_do() {
        let texts = ["", "\0", "\0\0", "\0a", "a", "a\0", "a\0b", "ab", "b"];
        let all = texts.iter().flat_map(|input| texts.iter().flat_map(|one| texts.map(|other| (*input, *one, other))));
        let mut failures: Vec<Failure> = all
            .map(|(input, expression, reason)| Failure {
                input: input.into(),
                expression: expression.into(),
                reason: reason.into(),
            })
            .collect();
        failures.sort();
        assert!(failures.is_sorted_by(|one, other| bytes_of(one) < bytes_of(other)));
    }
}
