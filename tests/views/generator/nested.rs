//! Queries made of queries: DISTINCT, set operations, the first rows of everything and of groups, WITH and WITH RECURSIVE.

use super::{Generator, Kind, Readable, numbered};

impl Generator<'_> {
    pub(super) fn distinct(&mut self, kinds: &[Kind], depth: usize) -> String {
        let body = self.body(kinds, depth - 1);
        let name = self.name("t");
        format!("SELECT DISTINCT * FROM ({body}) AS {name}")
    }

    pub(super) fn set_operation(&mut self, kinds: &[Kind], depth: usize) -> String {
        let operation = *self.choices.pick(&["UNION ALL", "UNION", "EXCEPT", "INTERSECT"]);
        let (left, right) = (self.body(kinds, depth - 1), self.body(kinds, depth - 1));
        let name = self.name("t");
        format!("SELECT {} FROM (({left}) {operation} ({right})) AS {name}", numbered(kinds.len()))
    }

    /// The first rows.
    pub(super) fn top(&mut self, kinds: &[Kind], depth: usize) -> String {
        let body = self.body(kinds, depth - 1);
        let (name, columns) = (self.name("t"), numbered(kinds.len()));
        let (order, limit) = (self.order(kinds.len()), self.limit());
        let outer = self.name("t");
        // Within another query, so that it can stand on a side of a set operation.
        format!("SELECT * FROM (SELECT {columns} FROM ({body}) AS {name} ORDER BY {order} {limit}) AS {outer}")
    }

    /// The first rows of each group.
    pub(super) fn top_in_groups(&mut self, kinds: &[Kind], depth: usize) -> String {
        let body = self.body(kinds, depth - 1);
        let (name, columns) = (self.name("t"), numbered(kinds.len()));
        let (group, order) = (self.choices.between(1, kinds.len()), self.order(kinds.len()));
        let least = *self.choices.pick(&["place <= 1", "place <= 2", "place = 1", "place < 4"]);
        let partition = if self.choices.chance(85) { format!("PARTITION BY c{group} ") } else { String::new() };
        let outer = self.name("t");
        format!(
            "SELECT {columns} FROM (SELECT {columns}, row_number() OVER ({partition}ORDER BY {order}) AS place \
             FROM ({body}) AS {name}) AS {outer} WHERE {least}"
        )
    }

    /// A query with a name, read as often as it happens.
    pub(super) fn with(&mut self, kinds: &[Kind], depth: usize) -> String {
        let inner = self.kinds(3);
        let body = self.body(&inner, depth - 1);
        let name = self.name("w");
        let columns = (1..).map(|number| format!("c{number}")).zip(inner).collect();
        self.with.push(Readable { name: name.clone(), columns });
        let outer = self.body(kinds, depth - 1);
        self.with.pop();
        let outside = self.name("t");
        format!("WITH {name} AS ({body}) SELECT * FROM ({outer}) AS {outside}")
    }

    /// What can be reached in a graph that the data make, or numbers up to some.
    pub(super) fn recursive(&mut self, kinds: &[Kind], depth: usize) -> String {
        let name = self.name("r");
        let (recursion, columns) = match self.choices.below(4) {
            0 => {
                let most = self.choices.between(1, 12);
                let step = self.choices.between(1, 3);
                let start = format!("SELECT count FROM gadget WHERE count BETWEEN -1 AND {most}");
                (format!("{start} UNION SELECT c1 + {step} FROM {name} WHERE c1 < {most}"), vec![Kind::Int])
            }
            1 => {
                let start = "SELECT local_resource_id, parent FROM gadget WHERE parent IS NOT NULL";
                let step = format!(
                    "SELECT {name}.c1, g.parent FROM {name} JOIN gadget AS g ON g.local_resource_id = {name}.c2 \
                     WHERE g.parent IS NOT NULL"
                );
                (format!("{start} UNION {step}"), vec![Kind::Text, Kind::Text])
            }
            2 => {
                let start = "SELECT DISTINCT parent FROM gadget";
                let step = format!(
                    "SELECT p.local_resource_id FROM {name} JOIN part AS p ON p.gadget = {name}.c1 \
                     JOIN gadget AS g ON g.local_resource_id = p.local_resource_id"
                );
                (format!("{start} UNION {step}"), vec![Kind::Text])
            }
            _ => {
                let start = "SELECT resource_id, orphaned_by FROM orphaned_resources";
                let step = format!(
                    "SELECT {name}.c1, o.orphaned_by FROM {name} JOIN orphaned_resources AS o ON o.resource_id = {name}.c2"
                );
                (format!("{start} UNION {step}"), vec![Kind::Text, Kind::Text])
            }
        };
        let names = numbered(columns.len());
        let columns = (1..).map(|number| format!("c{number}")).zip(columns).collect();
        self.with.push(Readable { name: name.clone(), columns });
        let outer = self.body(kinds, depth - 1);
        self.with.pop();
        let outside = self.name("t");
        format!("WITH RECURSIVE {name} ({names}) AS ({recursion}) SELECT * FROM ({outer}) AS {outside}")
    }
}
