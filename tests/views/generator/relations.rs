//! Where rows come from and which of them: FROM with joins of every kind, WHERE with subqueries and temporal filters.

use super::{Column, Generator, Kind, numbered};

/// Joins, by how they are written.
const JOINS: [&str; 7] =
    ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN", "CROSS JOIN"];

impl Generator<'_> {
    /// `SELECT .. FROM .. WHERE ..`
    pub(super) fn select(&mut self, kinds: &[Kind], depth: usize) -> String {
        let (from, scope) = self.from(depth);
        let filter = self.filter(&scope, depth);
        let mut columns = Vec::new();
        for (place, kind) in kinds.iter().enumerate() {
            let value = match self.choices.weighted(if depth > 0 { &[92, 4, 4] } else { &[100, 0, 0] }) {
                0 => self.scalar(*kind, &scope, 2),
                1 => self.scalar_subquery(*kind, &scope),
                _ => match kind {
                    Kind::Bool => self.found(&scope, depth - 1),
                    kind => {
                        let (found, then) = (self.found(&scope, depth - 1), self.scalar(*kind, &scope, 0));
                        format!("CASE WHEN {found} THEN {then} END")
                    }
                },
            };
            columns.push(format!("{value} AS c{}", place + 1));
        }
        format!("SELECT {} FROM {from}{filter}", columns.join(", "))
    }

    /// ` WHERE ..`, or nothing.
    pub(super) fn filter(&mut self, scope: &[Column], depth: usize) -> String {
        let count = [0, 1, 2][self.choices.weighted(&[60, 33, 7])];
        let conditions: Vec<String> = (0..count).map(|_| self.condition(scope, depth)).collect();
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
    }

    fn condition(&mut self, scope: &[Column], depth: usize) -> String {
        match self.choices.weighted(&[60, 12, if depth > 0 { 28 } else { 0 }]) {
            0 => self.boolean(scope, 2),
            1 => self.temporal(scope),
            _ => self.subquery(scope, depth - 1),
        }
    }

    /// What is compared with `now()`; anything else where there is no time.
    fn temporal(&mut self, scope: &[Column]) -> String {
        let Some(time) = self.column(Kind::Time, scope) else { return self.boolean(scope, 1) };
        let ago = *self.choices.pick(&["1 second", "0 seconds", "5 seconds", "1 minute", "1500 milliseconds"]);
        let compare = *self.choices.pick(&["<", ">", "<=", ">="]);
        match self.choices.below(5) {
            0 => format!("{time} {compare} now() - INTERVAL '{ago}'"),
            1 => format!("now() {compare} {time} + INTERVAL '{ago}'"),
            2 => format!("{time} + INTERVAL '{ago}' {compare} now()"),
            3 => format!("{time} BETWEEN now() - INTERVAL '{ago}' AND now()"),
            _ => format!("NOT ({time} {compare} now())"),
        }
    }

    /// What is in FROM, and the columns that it has.
    pub(super) fn from(&mut self, depth: usize) -> (String, Vec<Column>) {
        let (mut from, mut scope) = self.item(depth);
        let joins = [0, 1, 2][self.choices.weighted(if depth > 0 { &[50, 38, 12] } else { &[75, 25, 0] })];
        for _ in 0..joins {
            let join = JOINS[self.choices.weighted(&[30, 20, 10, 12, 8, 8, 8])];
            let is_half = join.contains("SEMI") || join.contains("ANTI");
            let join = if is_half && self.is_common { "LEFT JOIN" } else { join };
            if join == "CROSS JOIN" {
                // To a side of one row.
                let name = self.name("t");
                let kind = *self.choices.pick(&[Kind::Int, Kind::Text, Kind::Time]);
                let one = self.global(&[kind], depth.saturating_sub(1));
                from = format!("{from} CROSS JOIN ({one}) AS {name}");
                scope.push(Column { written: format!("{name}.c1"), kind });
                continue;
            }
            let (item, columns) = self.item(depth.saturating_sub(1));
            let on = self.on(&scope, &columns);
            from = format!("{from} {join} {item} ON {on}");
            if !is_half || self.is_common {
                scope.extend(columns);
            }
        }
        (from, scope)
    }

    /// A column of each side, or what is made of it, of one kind.
    fn pair(&mut self, left: &[Column], right: &[Column]) -> (Kind, String, String) {
        let mine = self.choices.pick(left).clone();
        let alike: Vec<&Column> = right.iter().filter(|column| column.kind == mine.kind).collect();
        if !alike.is_empty() {
            return (mine.kind, mine.written, self.choices.pick(&alike).written.clone());
        }
        let theirs = self.choices.pick(right).clone();
        let text = |column: Column| match column.kind {
            Kind::Text => column.written,
            // As a text each writes it in its own way.
            Kind::Float | Kind::Time | Kind::Decimal if self.is_common => {
                format!("CASE WHEN {} IS NULL THEN 'red'::text ELSE 'a'::text END", column.written)
            }
            _ => format!("CAST({} AS VARCHAR)", column.written),
        };
        (Kind::Text, text(mine), text(theirs))
    }

    /// What is compared of each side.
    fn sides(&mut self, left: &[Column], right: &[Column]) -> (String, String) {
        let (kind, mine, theirs) = self.pair(left, right);
        match (kind, self.choices.chance(12)) {
            (Kind::Text, true) => (format!("lower({mine})"), format!("lower({theirs})")),
            (Kind::Int, true) => (format!("{mine} % 3"), format!("({theirs} + 1) % 3")),
            _ => (mine, theirs),
        }
    }

    /// An equality between what is outside and what is inside, as it is below an aggregate or in what `NOT IN` looks in.
    fn equal(&mut self, outer: &[Column], inner: &[Column]) -> String {
        let (mine, theirs) = self.sides(outer, inner);
        format!("{theirs} = {mine}")
    }

    /// Equalities between the sides, and now and then a condition more.
    fn on(&mut self, left: &[Column], right: &[Column]) -> String {
        let mut conditions = Vec::new();
        for _ in 0..=usize::from(self.choices.chance(15)) {
            let (mine, theirs) = self.sides(left, right);
            conditions.push(match self.choices.chance(8) {
                // What follows would be taken for a part of it.
                true => format!("({mine} IS NOT DISTINCT FROM {theirs})"),
                false => format!("{mine} = {theirs}"),
            });
        }
        if self.choices.chance(20) {
            let both: Vec<Column> = left.iter().chain(right).cloned().collect();
            conditions.push(self.boolean(&both, 1));
        }
        conditions.join(" AND ")
    }

    fn item(&mut self, depth: usize) -> (String, Vec<Column>) {
        let name = self.name("t");
        let with = if self.with.is_empty() { 0 } else { 25 };
        let scope = |columns: &[(String, Kind)]| -> Vec<Column> {
            let column = |(column, kind): &(String, Kind)| Column { written: format!("{name}.{column}"), kind: *kind };
            columns.iter().map(column).collect()
        };
        match self.choices.weighted(&[60, with, if depth > 0 { 35 } else { 0 }, 3]) {
            0 => {
                let weights: Vec<usize> = self.readable.iter().map(|table| weight(&table.name)).collect();
                let table = &self.readable[self.choices.weighted(&weights)];
                (format!("{} AS {name}", table.name), scope(&table.columns))
            }
            1 => {
                let query = self.choices.pick(&self.with).clone();
                (format!("{} AS {name}", query.name), scope(&query.columns))
            }
            2 => {
                let kinds = self.kinds(3);
                let body = self.body(&kinds, depth - 1);
                let names = (1..).map(|number| format!("c{number}"));
                let columns: Vec<(String, Kind)> = names.zip(kinds).collect();
                (format!("({body}) AS {name}"), scope(&columns))
            }
            _ => {
                let kinds = [Kind::Text, Kind::Int];
                let rows = (0..self.choices.between(1, 3))
                    .map(|_| format!("({}, {})", self.literal(Kind::Text), self.literal(Kind::Int)));
                let rows = rows.collect::<Vec<_>>().join(", ");
                let columns: Vec<(String, Kind)> = (1..).map(|number| format!("c{number}")).zip(kinds).collect();
                (format!("(VALUES {rows}) AS {name} ({})", numbered(2)), scope(&columns))
            }
        }
    }

    /// A condition with a query in it.
    fn subquery(&mut self, scope: &[Column], depth: usize) -> String {
        let outer = self.choices.pick(scope).clone();
        match self.choices.below(9) {
            0 => {
                let is = *self.choices.pick(&["IN", "IN", "= ANY"]);
                format!("{} {is} ({})", outer.written, self.body(&[outer.kind], depth))
            }
            1 => {
                let is = *self.choices.pick(&["NOT IN", "NOT IN", "<> ALL"]);
                format!("{} {is} ({})", outer.written, self.body(&[outer.kind], depth))
            }
            2 => format!("EXISTS ({})", self.correlated("1", scope, depth)),
            3 => format!("NOT EXISTS ({})", self.correlated("1", scope, depth)),
            4 => {
                let compare = *self.choices.pick(&["=", "<", ">=", "<>"]);
                format!("{} {compare} {}", outer.written, self.scalar_subquery(outer.kind, scope))
            }
            5 => {
                let one = format!("{} IN ({})", outer.written, self.body(&[outer.kind], depth));
                format!("({one} OR {})", self.boolean(scope, 1))
            }
            6 => {
                let is = *self.choices.pick(&["IN", "NOT IN"]);
                format!("{} {is} ({})", self.literal(outer.kind), self.body(&[outer.kind], depth))
            }
            7 => {
                let is = *self.choices.pick(&["IN", "NOT IN"]);
                let (from, inner) = if self.choices.chance(35) { self.from(depth) } else { self.item(0) };
                let found = self.scalar(outer.kind, &inner, 1);
                let equal = self.equal(scope, &inner);
                format!("{} {is} (SELECT {found} FROM {from} WHERE {equal})", outer.written)
            }
            _ => {
                let is = *self.choices.pick(&["IN", "NOT IN"]);
                let one = format!("{} {is} ({})", outer.written, self.body(&[outer.kind], depth));
                format!("NOT ({one} AND {})", self.boolean(scope, 1))
            }
        }
    }

    /// Whether there are such rows, where that is no condition.
    pub(super) fn found(&mut self, scope: &[Column], depth: usize) -> String {
        let outer = self.choices.pick(scope).clone();
        let is = *self.choices.pick(&["IN", "NOT IN"]);
        if self.choices.chance(50) {
            return format!("({} {is} ({}))", outer.written, self.body(&[outer.kind], depth));
        }
        let (from, inner) = self.item(0);
        let equal = self.equal(scope, &inner);
        if self.choices.chance(50) {
            let not = *self.choices.pick(&["", "NOT "]);
            return format!("({not}EXISTS (SELECT 1 FROM {from} WHERE {equal}))");
        }
        let found = self.scalar(outer.kind, &inner, 1);
        format!("({} {is} (SELECT {found} FROM {from} WHERE {equal}))", outer.written)
    }

    /// A query over a table whose rows depend on columns outside.
    fn correlated(&mut self, selected: &str, outer: &[Column], depth: usize) -> String {
        let (from, inner) = if self.choices.chance(35) { self.from(depth) } else { self.item(0) };
        let on = self.on(outer, &inner);
        let own =
            if self.choices.chance(30) { format!(" AND {}", self.condition(&inner, depth)) } else { String::new() };
        format!("SELECT {selected} FROM {from} WHERE {on}{own}")
    }

    /// A query that is one value.
    fn scalar_subquery(&mut self, kind: Kind, outer: &[Column]) -> String {
        if self.choices.chance(40) {
            return format!("({})", self.global(&[kind], 0));
        }
        let (from, inner) = if self.choices.chance(35) { self.from(0) } else { self.item(0) };
        let value = self.aggregate(kind, &inner);
        let equal = self.equal(outer, &inner);
        format!("(SELECT {value} FROM {from} WHERE {equal})")
    }
}

/// How often a table is read, beside others.
fn weight(table: &str) -> usize {
    match table {
        "gadget" => 30,
        "part" | "resources" => 20,
        "host" => 5,
        "orphaned_resources" | "deleted_resources" | "quarantine" => 7,
        // A view.
        _ => 10,
    }
}
