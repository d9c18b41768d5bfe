//! Pages of a view: nothing is lost or shown twice, wherever they end, whatever goes in between, and however long rows are.

use std::collections::BTreeMap;
use std::sync::Arc;

use tarn::model::Topics;
use tarn::published::token::TOKEN_CHARS_MAX;
use tarn::published::{CatalogView, GivenUp, ReadView, RowLimits, RowPlace, RowToken, TokenKey};
use tarn::sql::{OrderBy, Reading, Row};

use super::cases::{Case, Wanted};
use super::choices::Choices;
use super::events::{random_log, tables};
use super::guarded::guarded_run;

/// The last instant of a run with these views.
fn with_views(views: &[(&str, &str)], look: impl FnOnce(&ReadView)) {
    let topics = Topics::default();
    let tables = Arc::new(tables(&topics));
    let wanted = views.iter().map(|(name, sql)| Wanted::new(name, sql, false)).collect();
    let records = random_log(&mut Choices::of_seed(3), 10);
    let case =
        Case { records, workers: 2, epoch_records_max: 50, steps: vec![(0, wanted)], restored: 0, twins: Vec::new() };
    let (log, setup) = case.setup(&tables, &topics);
    let run = guarded_run(log, &setup).expect("it runs");
    look(run.last());
}

fn shown(view: &ReadView, name: &str) -> Arc<CatalogView> {
    Arc::clone(view.catalog().view(name).expect("it is shown"))
}

fn limits(rows: usize, bytes: usize, looks: usize) -> RowLimits<'static> {
    RowLimits { rows, bytes, looks, is_given_up: &|| false }
}

#[test]
fn pages_of_few_looks_say_everything_once() {
    let numbers: Vec<String> = (0..40).map(|number| format!("({number})")).collect();
    let numbers = numbers.join(", ");
    let sql = format!("SELECT number % 3 AS part, number % 2 AS half, number FROM (VALUES {numbers}) AS v (number)");
    with_views(&[("numbers", &sql)], |view| {
        let shown = shown(view, "numbers");
        let filters: [&[(&str, &[&str])]; 3] =
            [&[("part", &["0", "2"]), ("half", &["1"])], &[("half", &["0"])], &[("part", &["0", "1", "2"])]];
        for filters in filters {
            let texts = |texts: &[&str]| texts.iter().map(|text| Some((*text).to_owned())).collect();
            let filters: Vec<_> = filters.iter().map(|(name, values)| ((*name).to_owned(), texts(values))).collect();
            let reading = Reading::new(&shown.plan, &filters, &[]).expect("columns of the view");
            let all = limits(1_000, usize::MAX, 1_000);
            let whole: Vec<&Row> = view.view_page(shown.id, &reading, None, &all).expect("waited for").rows;
            assert!(whole.len() > 10, "{filters:?}: {} rows", whole.len());
            for looks in 2..45 {
                let (mut rows, mut after, mut pages) = (Vec::new(), None, 0);
                loop {
                    let few = limits(7, usize::MAX, looks);
                    let page = view.view_page(shown.id, &reading, after.as_ref(), &few).expect("waited for");
                    rows.extend(page.rows);
                    pages += 1;
                    assert!(pages < 200, "{filters:?}, {looks} looks: no end");
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(rows, whole, "{filters:?}, {looks} looks");
            }
        }
    });
}

/// Rows of some bytes and of thousands, many of which begin alike for longer than a place can tell; each there twice.
fn long_rows(numbers: impl Iterator<Item = u32>) -> String {
    let numbers: Vec<String> = numbers.map(|number| format!("({number})")).collect();
    let once = format!(
        "SELECT CASE number % 4 WHEN 0 THEN 'short' WHEN 3 THEN repeat(concat(number, '-'), 2000)
             ELSE repeat(concat('x', number % 4), 2500) END AS text, number FROM (VALUES {}) AS v (number)",
        numbers.join(", ")
    );
    format!("{once} UNION ALL {once}")
}

/// The place, after a trip through a token.
fn through_a_token(place: RowPlace) -> RowPlace {
    let key = TokenKey::from_secret("s");
    let text = RowToken { place }.encode("a list", &key);
    assert!(text.len() < 6_000 && text.len() < TOKEN_CHARS_MAX, "{} characters", text.len());
    RowToken::decode(&text, "a list", &key).expect("it is ours").place
}

#[test]
fn rows_of_any_length_are_paged_whatever_comes_and_goes() {
    let before = long_rows(0..40);
    // Every third is gone, and others came between those that stayed.
    let after = long_rows((0..60).filter(|number| number % 3 != 0));
    with_views(&[("before", &before), ("after", &after)], |view| {
        let (before, after) = (shown(view, "before"), shown(view, "after"));
        let descending = OrderBy { column: "text".to_owned(), descending: true };
        for order in [vec![], vec![descending]] {
            let reading = Reading::new(&before.plan, &[], &order).expect("columns of the view");
            for (rows, bytes) in [(1, usize::MAX), (2, usize::MAX), (3, usize::MAX), (7, 10_000), (100, 6_000)] {
                // Each page may be the last before the change.
                for changes_after in 0..40 {
                    let (mut counts, mut place, mut pages) = (BTreeMap::<Row, usize>::new(), None, 0);
                    loop {
                        let id = if pages < changes_after { before.id } else { after.id };
                        let limits = limits(rows, bytes, 10);
                        let page = view.view_page(id, &reading, place.as_ref(), &limits).expect("waited for");
                        assert!(page.rows.len() <= rows);
                        page.rows.into_iter().for_each(|row| *counts.entry(row.clone()).or_default() += 1);
                        pages += 1;
                        assert!(pages < 300, "no end");
                        let Some(next) = page.next else { break };
                        place = Some(through_a_token(next));
                    }
                    let all = |id| view.rows_from(id, &[]).map(|(row, _)| row);
                    let stayed: Vec<&Row> = all(before.id).filter(|row| all(after.id).any(|one| one == *row)).collect();
                    assert_eq!(stayed.len(), 26);
                    let wrong = stayed.iter().filter(|row| counts.get(row) != Some(&2)).count();
                    assert_eq!(wrong, 0, "{order:?}, pages of {rows}, change after {changes_after} of {pages}");
                }
            }
        }
    });
}

#[test]
fn a_page_in_another_order_is_the_beginning_of_all_and_can_be_given_up() {
    with_views(&[("rows", &long_rows(0..40))], |view| {
        let shown = shown(view, "rows");
        let by_number = OrderBy { column: "number".to_owned(), descending: true };
        let reading = Reading::new(&shown.plan, &[], &[by_number]).expect("a column of the view");
        let page = view.view_page(shown.id, &reading, None, &limits(5, usize::MAX, 1)).expect("waited for");
        let numbers = reading.columns(&page.rows);
        let json = tarn::sql::Format::JsonLines.write(reading.schema(), &[numbers]).expect("JSON");
        let lines = String::from_utf8(json).expect("UTF-8");
        let ends: Vec<&str> = lines.lines().map(|line| line.rsplit(':').next().expect("a number")).collect();
        assert_eq!(ends, ["39}", "39}", "38}", "38}", "37}"]);
        // The first that makes it so long is the last one.
        let page = view.view_page(shown.id, &reading, None, &limits(100, 1, 1)).expect("waited for");
        assert_eq!(page.rows.len(), 1);
        let given_up = RowLimits { is_given_up: &|| true, ..limits(5, usize::MAX, 1) };
        assert_eq!(view.view_page(shown.id, &reading, None, &given_up).err(), Some(GivenUp));
    });
}
