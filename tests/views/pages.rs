//! Pages of a view that end because enough rows were looked at: nothing is lost or shown twice, wherever that happens.

use std::sync::Arc;

use tarn::model::Topics;
use tarn::sql::{Reading, Row};

use super::cases::{Case, Wanted};
use super::choices::Choices;
use super::events::{random_log, tables};
use super::guarded::guarded_run;

#[test]
fn pages_of_few_looks_say_everything_once() {
    let topics = Topics::default();
    let tables = Arc::new(tables(&topics));
    let numbers: Vec<String> = (0..40).map(|number| format!("({number})")).collect();
    let numbers = numbers.join(", ");
    let sql = format!("SELECT number % 3 AS part, number % 2 AS half, number FROM (VALUES {numbers}) AS v (number)");
    let records = random_log(&mut Choices::of_seed(3), 10);
    let wanted = vec![Wanted::new("numbers", &sql, false)];
    let case =
        Case { records, workers: 2, epoch_records_max: 50, steps: vec![(0, wanted)], restored: 0, twins: Vec::new() };
    let (log, setup) = case.setup(&tables, &topics);
    let run = guarded_run(log, &setup).expect("it runs");
    let view = run.last();
    let shown = view.catalog().view("numbers").expect("it is shown");
    let filters: [&[(&str, &[&str])]; 3] =
        [&[("part", &["0", "2"]), ("half", &["1"])], &[("half", &["0"])], &[("part", &["0", "1", "2"])]];
    for filters in filters {
        let filters: Vec<(String, Vec<String>)> = filters
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect()))
            .collect();
        let reading = Reading::new(&shown.plan, &filters, &[]).expect("columns of the view");
        let whole: Vec<&Row> = view.view_page(shown.id, &reading, None, 1_000, 1_000).rows;
        assert!(whole.len() > 10, "{filters:?}: {} rows", whole.len());
        for looks in 2..45 {
            let (mut rows, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let page = view.view_page(shown.id, &reading, after.as_ref(), 7, looks);
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
}
