//! How large a query is once every name that it gives to a query is replaced by that query, as planning does.
//!
//! `WITH a AS (..), b AS (SELECT .. FROM a, a), c AS (SELECT .. FROM b, b)` doubles with each line, so a short text can stand
//! for a plan that nobody can make. It is counted before it is made.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart, Query, Visit, Visitor};

use crate::sql::refusal::{Objection, Place};

/// So many tables and subqueries a query may read in all.
const EXPANDED_MAX: u64 = 2_000;

/// Refuses a query that is too large so.
pub(super) fn check(query: &Query) -> Result<(), Objection> {
    let mut count = Count { around: vec![Level::default()] };
    let _ = query.visit(&mut count);
    let expanded = count.around.first().map_or(0, |level| level.relations);
    if expanded <= EXPANDED_MAX {
        return Ok(());
    }
    let message = format!(
        "reads {expanded} tables and subqueries once each name is replaced by its query; {EXPANDED_MAX} are allowed, so \
         make views of those that are read often"
    );
    Err(Objection::new(Place::Words(&["WITH"]), "WITH", message))
}

/// A query that is being counted.
#[derive(Default)]
struct Level {
    relations: u64,
    /// What its names stand for, as far as they are counted.
    named: BTreeMap<String, u64>,
    /// The queries that have names, and these.
    names: Vec<(*const Query, String)>,
}

/// The query that is being counted and those around it, the innermost last.
struct Count {
    around: Vec<Level>,
}

/// A name as it is compared.
pub(super) fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

impl Visitor for Count {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        let names = tables.map(|table| (&raw const *table.query, folded(&table.alias.name)));
        self.around.push(Level { relations: 1, names: names.collect(), ..Level::default() });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let Some(Level { relations, .. }) = self.around.pop() else { return ControlFlow::Continue(()) };
        let Some(outer) = self.around.last_mut() else { return ControlFlow::Continue(()) };
        match outer.names.iter().find(|(named, _)| std::ptr::eq(*named, query)) {
            // It counts where it is read.
            Some((_, name)) => drop(outer.named.insert(name.clone(), relations)),
            None => outer.relations = outer.relations.saturating_add(relations),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let named = match &relation.0[..] {
            [ObjectNamePart::Identifier(name)] => {
                let name = folded(name);
                self.around.iter().rev().find_map(|level| level.named.get(&name).copied())
            }
            _ => None,
        };
        if let Some(level) = self.around.last_mut() {
            level.relations = level.relations.saturating_add(named.unwrap_or(1));
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::syntax::parse;

    /// Names each of which reads the one before twice.
    fn doubled(levels: usize) -> String {
        let names = (1..levels).map(|level| {
            let before = level - 1;
            format!(", a{level} AS (SELECT l.x FROM a{before} l, A{before} r)")
        });
        format!("WITH a0 AS (SELECT 1 AS x){} SELECT count(*) FROM a{}", names.collect::<String>(), levels - 1)
    }

    #[test]
    fn names_that_double_are_counted_and_refused() {
        parse(&doubled(9)).expect("some hundred");
        for levels in [12, 20, 64] {
            let refused = parse(&doubled(levels)).expect_err("too many");
            assert_eq!(refused.construct, "WITH");
            assert!(refused.message.contains("2000 are allowed"), "{}", refused.message);
        }
        let refused = parse(&format!("SELECT * FROM ({}) AS inside", doubled(20))).expect_err("they stand within");
        assert_eq!(refused.construct, "WITH");
    }

    #[test]
    fn what_stands_beside_counts_once_and_a_name_of_its_own_hides_one() {
        let beside = (0..90).map(|number| format!("a{number} AS (SELECT x FROM t)")).collect::<Vec<_>>().join(", ");
        parse(&format!("WITH {beside} SELECT x FROM a1")).expect("each is read once at most");
        let inside = doubled(11);
        parse(&format!("WITH b AS ({inside}) SELECT * FROM a10, a10, a10")).expect("names within b are no names here");
        parse("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r").expect("once");
    }
}
