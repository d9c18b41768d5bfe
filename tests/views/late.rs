//! Views that come when what they read is there already, one case at a time.

use std::sync::Arc;

use tarn::model::Topics;

use super::cases::{Case, Wanted};
use super::choices::Choices;
use super::events::{random_log, tables};

/// Checks that views which come after others show what their texts answer, with several workers.
fn check(early: &[(&str, &str)], late: &[(&str, &str)]) {
    let topics = Topics::default();
    let tables = Arc::new(tables(&topics));
    let wanted = |views: &[(&str, &str)]| views.iter().map(|(name, sql)| Wanted::new(name, sql, false)).collect();
    for workers in [1, 2, 4] {
        let records = random_log(&mut Choices::of_seed(7), 60);
        let (early, all): (Vec<Wanted>, Vec<Wanted>) = (wanted(early), wanted(&[early, late].concat()));
        let steps = vec![(0, early), (records.len() / 2, all)];
        let case = Case { records, workers, epoch_records_max: 4, steps, restored: 0, twins: Vec::new() };
        let tally = case.check(&tables, &topics).unwrap_or_else(|wrong| panic!("{workers} workers: {}", wrong.text));
        for (name, _) in late {
            assert!(tally.names_with_rows.contains(*name), "{name} never had a row");
        }
    }
}

#[test]
fn a_view_of_a_view_that_reads_nothing() {
    check(
        &[("constant", "SELECT 1 AS one UNION ALL SELECT 2"), ("empty", "SELECT count FROM gadget WHERE false")],
        &[
            ("reader", "SELECT one + 1 AS two FROM constant"),
            ("joined", "SELECT one, local_resource_id FROM constant JOIN gadget ON count = one"),
            ("counted", "SELECT count(*) AS rows FROM empty"),
        ],
    );
}
