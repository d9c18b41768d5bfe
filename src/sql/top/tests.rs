//! The first rows of groups against DataFusion's `row_number()`, over rows that come several times.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::super::samples::{self, Cut};
use super::*;

/// An expression over the columns of a batch.
fn expression(batch: &RecordBatch, sql: &str) -> Arc<dyn PhysicalExpr> {
    let known = datafusion::common::DFSchema::try_from(batch.schema()).expect("names differ");
    let session = samples::session(batch, Cut::WHOLE);
    let parsed = session.parse_sql_expr(sql, &known).expect(sql);
    session.create_physical_expr(parsed, &known).expect(sql)
}

fn check_case(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let rows = samples::rows(seed, random.random_range(1..30));
    let counts: Vec<i64> = (0..rows.num_rows()).map(|_| random.random_range(0..3)).collect();
    let rows = samples::repeated(&rows, &counts);
    let partition: Vec<_> =
        ["g", "k", "b", "i % 3", "z"].choose_multiple(&mut random, seed as usize % 3).copied().collect();
    let order = ["s", "f", "u", "d", "-i", "t", "z"].choose_multiple(&mut random, seed as usize % 4).copied();
    let order: Vec<_> = order.collect();
    let mut options = || SortOptions { descending: random.random(), nulls_first: random.random() };
    let order: Vec<_> = order.into_iter().map(|sql| (sql, options())).collect();
    let (offset, limit) = (random.random_range(0..3), random.random_bool(0.8).then(|| random.random_range(0..4)));

    let codec = Codec::new(rows.schema());
    let top = Top::new(
        codec.clone(),
        partition.iter().map(|sql| expression(&rows, sql)).collect(),
        order.iter().map(|(sql, options)| (expression(&rows, sql), *options)).collect(),
        offset,
        limit,
        true,
    );
    let encoded = codec.encode(rows.columns(), rows.num_rows());
    let standings = top.run(&encoded.iter().collect::<Vec<_>>());
    assert_eq!((standings.rows.len(), standings.failures.len()), (rows.num_rows(), 0));
    let mut groups: BTreeMap<Row, Vec<(Row, Row)>> = BTreeMap::new();
    for (place, standing) in standings.rows {
        groups.entry(standing.partition).or_default().push((standing.order, encoded[place].clone()));
    }
    let mut kept = Vec::new();
    for group in groups.values_mut() {
        group.sort();
        let numbered = (1..).zip(group).skip(top.offset()).take(top.limit().unwrap_or(usize::MAX));
        kept.extend(numbered.map(|(number, (_, row))| top.numbered(row, number)));
    }
    kept.sort();

    let ties =
        rows.schema().fields().iter().map(|field| format!("{} ASC NULLS FIRST", field.name())).collect::<Vec<_>>();
    let by = order.iter().map(|(sql, options)| format!("{sql} {options}")).chain(ties).collect::<Vec<_>>().join(", ");
    let each = if partition.is_empty() { String::new() } else { format!("PARTITION BY {}", partition.join(", ")) };
    let last = limit.map_or(String::new(), |limit| format!(" AND number <= {}", offset + limit));
    let sql = format!(
        "SELECT * FROM (SELECT *, row_number() OVER ({each} ORDER BY {by}) AS number FROM t) WHERE number > {offset}{last}"
    );
    let answer = samples::answer(&samples::session(&rows, Cut::random(&mut random)), &sql).expect(&sql);
    let mut expected = Codec::new(answer.schema()).encode(answer.columns(), answer.num_rows());
    expected.sort();
    assert_eq!(kept, expected, "seed {seed}: {sql}");
}

#[test]
fn the_first_rows_are_those_that_datafusion_numbers_first() {
    (0..200).for_each(check_case);
}

#[test]
fn a_row_without_a_number_is_the_row_itself() {
    let rows = samples::rows(1, 3);
    let codec = Codec::new(rows.schema());
    let row = &codec.encode(rows.columns(), 3)[0];
    let top = Top::new(codec, vec![], vec![], 0, Some(1), false);
    assert_eq!(top.numbered(row, 7), *row);
}

#[test]
fn a_row_that_cannot_be_ordered_costs_itself_alone() {
    let rows = samples::rows(5, 20);
    let codec = Codec::new(rows.schema());
    let order = vec![(expression(&rows, "10 / k"), SortOptions::default())];
    let top = Top::new(codec.clone(), vec![], order, 0, Some(1), false);
    let encoded = codec.encode(rows.columns(), 20);
    let standings = top.run(&encoded.iter().collect::<Vec<_>>());
    let failed = standings.failures.len();
    assert!(failed > 0 && standings.rows.len() == 20 - failed);
    assert!(standings.failures[0].1.reason.contains("Divide by zero"));
}

#[test]
fn words_tell_tops_apart() {
    let rows = samples::rows(1, 3);
    let of = |options, limit| {
        let order = vec![(expression(&rows, "f"), options)];
        Top::new(Codec::new(rows.schema()), vec![expression(&rows, "g")], order, 1, limit, false).description()
    };
    let descending = SortOptions::default().desc();
    assert_eq!(of(descending, Some(3)), "first [1, 3] of each [g@0] by [f@8 DESC NULLS FIRST]");
    assert_ne!(of(descending, Some(3)), of(descending.nulls_last(), Some(3)));
    assert_ne!(of(descending, Some(3)), of(descending, None));
}
