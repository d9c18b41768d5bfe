//! Random queries as texts, over the tables of [`super::events`] and over views: every construct that views may have,
//! nested a few levels, with columns of few values so that keys meet.
//!
//! A query is asked for by the kinds of its columns, which are called `c1`, `c2`, ..; so any query can stand wherever
//! one of its kinds can: in FROM, in WITH, on a side of a UNION. Not here: whether what comes out can be planned.

mod aggregates;
mod failing;
mod nested;
mod relations;
mod scalars;

use super::choices::Choices;

/// What a column holds. Which type it is within that is left to DataFusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Int,
    Float,
    Bool,
    Time,
    Decimal,
    Date,
}

impl Kind {
    const ALL: [Self; 7] = [Self::Text, Self::Int, Self::Float, Self::Bool, Self::Time, Self::Decimal, Self::Date];
}

/// A table or a view that queries may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<(String, Kind)>,
}

/// A query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Its text.
    pub sql: String,
    /// The kinds of its columns `c1`, `c2`, ...
    pub kinds: Vec<Kind>,
    /// Whether its rows have an order.
    pub in_order: bool,
    /// What it answers if there may be rows that fail: the answer of this text, which none do for.
    pub instead: Option<String>,
    /// How many rows fail, if that can be said.
    pub failures: Option<String>,
}

/// A column in scope, as it is written there.
#[derive(Debug, Clone)]
struct Column {
    written: String,
    kind: Kind,
}

/// The tables.
pub fn tables() -> Vec<Readable> {
    let table = |name: &str, columns: &[(&str, Kind)]| Readable {
        name: name.to_owned(),
        columns: columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect(),
    };
    let common = [
        ("workspace_id", Kind::Text),
        ("resource_type", Kind::Text),
        ("local_resource_id", Kind::Text),
        ("reporter_type", Kind::Text),
        ("reporter_version", Kind::Text),
        ("updated_at", Kind::Time),
        ("created_at", Kind::Time),
        ("event_time", Kind::Time),
        (r#""offset""#, Kind::Int),
        ("resource_id", Kind::Text),
        ("data", Kind::Text),
    ];
    let gadget = [
        ("count", Kind::Int),
        ("colour", Kind::Text),
        ("enabled", Kind::Bool),
        ("weight", Kind::Float),
        ("parent", Kind::Text),
        ("seen", Kind::Time),
        ("tags", Kind::Text),
        ("workspace_id", Kind::Text),
        ("local_resource_id", Kind::Text),
        ("updated_at", Kind::Time),
    ];
    let part = [
        ("size", Kind::Int),
        ("gadget", Kind::Text),
        ("price", Kind::Float),
        ("label", Kind::Text),
        ("workspace_id", Kind::Text),
        ("local_resource_id", Kind::Text),
        ("updated_at", Kind::Time),
    ];
    let deleted = [
        ("resource_type", Kind::Text),
        ("last_workspace_id", Kind::Text),
        ("deleted_at", Kind::Time),
        ("local_resource_id", Kind::Text),
        ("resource_id", Kind::Text),
    ];
    let quarantine = [
        ("reason", Kind::Text),
        (r#""offset""#, Kind::Int),
        ("timestamp", Kind::Time),
        ("first_seen", Kind::Time),
        ("bytes", Kind::Int),
    ];
    let orphaned = [&common[..], &[("orphaned_by", Kind::Text)]].concat();
    vec![
        table("gadget", &gadget),
        table("part", &part),
        table("resources", &common),
        table("host", &[&common[..4], &[("ansible_host", Kind::Text), ("insights_id", Kind::Text)]].concat()),
        table("orphaned_resources", &orphaned),
        table("deleted_resources", &deleted),
        table("quarantine", &quarantine),
    ]
}

/// Makes one query, with columns of these kinds if they are given.
pub fn generate(choices: &mut Choices, readable: &[Readable], kinds: Option<&[Kind]>) -> Generated {
    let mut generator = Generator { choices, readable, with: Vec::new(), names: 0, is_common: false };
    if kinds.is_none() && generator.choices.chance(8) {
        let depth = generator.choices.below(3);
        let failing::Texts { sql, instead, failures, kinds } = generator.failing(depth);
        return Generated { sql, kinds, in_order: false, instead: Some(instead), failures };
    }
    let kinds = kinds.map_or_else(|| generator.kinds(4), <[Kind]>::to_vec);
    generator.query(kinds)
}

/// Makes one query of the SQL that PostgreSQL and DataFusion have in common, with one answer alone: rows have an order
/// that leaves no ties where some of them are chosen, and sums of numbers do not depend on theirs.
pub fn generate_common(choices: &mut Choices, readable: &[Readable]) -> Generated {
    let mut generator = Generator { choices, readable, with: Vec::new(), names: 0, is_common: true };
    let kinds = generator.kinds(4);
    generator.query(kinds)
}

struct Generator<'a> {
    choices: &'a mut Choices,
    readable: &'a [Readable],
    /// Queries of WITH that can be read here.
    with: Vec<Readable>,
    /// So many names were given.
    names: usize,
    /// Whether PostgreSQL must mean the same by it.
    is_common: bool,
}

impl Generator<'_> {
    /// A name that nothing has yet.
    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// A query of columns of these kinds, with an order or without.
    fn query(&mut self, kinds: Vec<Kind>) -> Generated {
        let depth = [0, 1, 2, 3][self.choices.weighted(&[20, 45, 25, 10])];
        let body = self.body(&kinds, depth);
        let (sql, in_order) = match self.choices.weighted(&[50, 35, 15]) {
            0 => (body, false),
            1 => (format!("SELECT * FROM ({body}) AS ordered ORDER BY {}", self.order(kinds.len())), true),
            _ => {
                let order = self.order(kinds.len());
                let limit = self.limit();
                (format!("SELECT * FROM ({body}) AS ordered ORDER BY {order} {limit}"), true)
            }
        };
        Generated { sql, kinds, in_order, instead: None, failures: None }
    }

    fn kinds(&mut self, most: usize) -> Vec<Kind> {
        let count = self.choices.between(1, most);
        let kind = |choices: &mut Choices| Kind::ALL[choices.weighted(&[30, 30, 12, 10, 10, 5, 3])];
        (0..count).map(|_| kind(self.choices)).collect()
    }

    /// A query of columns of these kinds, without an order of its own.
    fn body(&mut self, kinds: &[Kind], depth: usize) -> String {
        if depth == 0 {
            return match self.choices.weighted(&[60, 40]) {
                0 => self.select(kinds, 0),
                _ => self.grouped(kinds, 0),
            };
        }
        match self.choices.weighted(&[34, 26, 6, 14, 6, 7, 5, 5]) {
            0 => self.select(kinds, depth),
            1 => self.grouped(kinds, depth),
            2 => self.distinct(kinds, depth),
            3 => self.set_operation(kinds, depth),
            4 => self.top(kinds, depth),
            5 => self.top_in_groups(kinds, depth),
            6 => self.with(kinds, depth),
            _ => self.recursive(kinds, depth),
        }
    }

    /// What to sort columns `c1` to `c{count}` by.
    fn order(&mut self, count: usize) -> String {
        let by = self.choices.between(1, count.min(2));
        let one = |choices: &mut Choices| {
            let way = choices.pick(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST", " ASC NULLS LAST"]);
            format!("c{}{way}", choices.between(1, count))
        };
        let mut order: Vec<String> = (0..by).map(|_| one(self.choices)).collect();
        if self.is_common {
            // What decides between ties with us.
            order.extend((1..=count).map(|number| format!("c{number} ASC NULLS FIRST")));
        }
        order.join(", ")
    }

    fn limit(&mut self) -> String {
        let (limit, offset) = (self.choices.between(1, 6), self.choices.below(4));
        match self.choices.below(10) {
            0 => format!("OFFSET {offset}"),
            1 | 2 => format!("LIMIT {limit} OFFSET {offset}"),
            _ => format!("LIMIT {limit}"),
        }
    }
}

/// `c1`, `c2`, .. `c{count}`.
fn numbered(count: usize) -> String {
    (1..=count).map(|number| format!("c{number}")).collect::<Vec<_>>().join(", ")
}
