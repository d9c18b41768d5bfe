//! Queries with an expression that fails for some rows, and what they mean: the same query over the rows for which it
//! does not.
//!
//! That is said by SQL too: a `CASE` evaluates what it chooses alone, so with the expression inside one, and the rows
//! for which it would not be chosen taken away, nothing fails.

use super::{Generator, Kind, numbered};

/// An expression that may fail, and when it does not.
struct Failing {
    written: String,
    guard: String,
}

impl Failing {
    /// The expression where it does not fail, else null.
    fn guarded(&self) -> String {
        format!("CASE WHEN {} THEN {} END", self.guard, self.written)
    }
}

/// A query that fails for some rows.
pub(super) struct Texts {
    /// The query.
    pub(super) sql: String,
    /// What it answers.
    pub(super) instead: String,
    /// How many rows fail.
    pub(super) failures: Option<String>,
    /// What its columns hold.
    pub(super) kinds: Vec<Kind>,
}

impl Generator<'_> {
    /// A query over any other, with one expression that may fail.
    pub(super) fn failing(&mut self, depth: usize) -> Texts {
        let inner = [Kind::Int, Kind::Int, Kind::Text];
        let body = self.body(&inner, depth);
        let name = self.name("t");
        let failing = self.expression(&name);
        let (written, guarded) = (&failing.written, failing.guarded());
        let from = format!("({body}) AS {name}");
        let guard = &failing.guard;
        let failures = Some(format!("SELECT count(*) FROM {from} WHERE NOT ({guard})"));
        let columns = numbered(inner.len());
        match self.choices.below(5) {
            0 => Texts {
                sql: format!("SELECT c1, c3 AS c2, {written} AS c3 FROM {from}"),
                instead: format!("SELECT c1, c3 AS c2, {guarded} AS c3 FROM {from} WHERE {guard}"),
                failures,
                kinds: vec![Kind::Int, Kind::Text, Kind::Int],
            },
            1 => {
                let select = |value: &str| format!("SELECT c3 AS c1, count(*) AS c2, sum({value}) AS c3 FROM {from}");
                Texts {
                    sql: format!("{} GROUP BY c3", select(written)),
                    instead: format!("{} WHERE {guard} GROUP BY c3", select(&guarded)),
                    failures,
                    kinds: vec![Kind::Text, Kind::Int, Kind::Int],
                }
            }
            2 => {
                let select = |value: &str| format!("SELECT {columns} FROM {from} WHERE {value} > 0");
                let (sql, instead) = (select(written), select(&guarded));
                // It may be looked at before rows of the query inside meet others.
                Texts { sql, instead, failures: None, kinds: inner.to_vec() }
            }
            3 => {
                let other = self.name("t");
                let keep = *self.choices.pick(&["JOIN", "LEFT JOIN", "FULL JOIN"]);
                let select = |value: &str| {
                    format!(
                        "SELECT {name}.c1, {other}.count AS c2, {other}.colour AS c3 FROM {from} {keep} gadget AS {other} \
                         ON {name}.c3 = {other}.colour AND {value} >= {other}.count"
                    )
                };
                let (sql, instead) = (select(written), select(&guarded));
                Texts { sql, instead, failures: None, kinds: inner.to_vec() }
            }
            _ => {
                let limit = self.limit();
                let select = |value: &str, guard: &str| {
                    format!(
                        "SELECT {columns} FROM (SELECT {columns}, {value} AS c4 FROM {from}{guard}) AS failing \
                         ORDER BY c4 DESC, c1, c2, c3 {limit}"
                    )
                };
                let (sql, instead) = (select(written, ""), select(&guarded, &format!(" WHERE {guard}")));
                Texts { sql, instead, failures: None, kinds: inner.to_vec() }
            }
        }
    }

    /// Over the columns `c1` and `c2`, which are integers, and `c3`, which is a text.
    fn expression(&mut self, name: &str) -> Failing {
        let divides = |operator: &str| Failing {
            written: format!("({name}.c1 {operator} {name}.c2)"),
            // Of these the quotient is no number of 64 bits.
            guard: format!(
                "({name}.c1 IS NULL OR {name}.c2 IS NULL OR \
                 ({name}.c2 <> 0 AND ({name}.c2 <> -1 OR {name}.c1 > -9223372036854775807)))"
            ),
        };
        match self.choices.below(3) {
            0 => divides("/"),
            1 => divides("%"),
            _ => Failing {
                written: format!("CAST({name}.c3 AS BIGINT)"),
                guard: format!("({name}.c3 IS NULL OR TRY_CAST({name}.c3 AS BIGINT) IS NOT NULL)"),
            },
        }
    }
}
