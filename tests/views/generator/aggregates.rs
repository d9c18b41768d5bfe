//! GROUP BY: keys, aggregates of every kind with FILTER and DISTINCT, HAVING.

use super::{Column, Generator, Kind};

impl Generator<'_> {
    /// `SELECT .. FROM .. GROUP BY .. HAVING ..`
    pub(super) fn grouped(&mut self, kinds: &[Kind], depth: usize) -> String {
        let keys = [1, 0, 2][self.choices.weighted(&[55, 20, 25])];
        if keys == 0 {
            return self.global(kinds, depth);
        }
        let (from, scope) = self.from(depth);
        let filter = self.filter(&scope, depth);
        let mut groups: Vec<Column> = Vec::new();
        for _ in 0..keys {
            let kind = *self.choices.pick(&[Kind::Text, Kind::Int, Kind::Bool, Kind::Time, Kind::Float, Kind::Date]);
            let depth = self.choices_depth();
            let written = self.scalar(kind, &scope, depth);
            // A number alone would be the place of a column.
            let is_constant = !scope.iter().any(|column| written.contains(&column.written));
            groups.push(if is_constant { self.choices.pick(&scope).clone() } else { Column { written, kind } });
        }
        let mut columns = Vec::new();
        for (place, kind) in kinds.iter().enumerate() {
            let own: Vec<Column> = groups.iter().filter(|group| group.kind == *kind).cloned().collect();
            let value = match own.as_slice() {
                _ if *kind == Kind::Int && depth > 0 && self.choices.chance(5) => {
                    format!("count(*) FILTER (WHERE {})", self.found(&scope, depth - 1))
                }
                [] => self.aggregate(*kind, &scope),
                some if self.choices.chance(60) => self.choices.pick(some).written.clone(),
                _ => self.aggregate(*kind, &scope),
            };
            columns.push(format!("{value} AS c{}", place + 1));
        }
        let having = match self.choices.chance(20) {
            true => {
                let kind = *self.choices.pick(&[Kind::Int, Kind::Text, Kind::Bool]);
                let value = self.aggregate(kind, &scope);
                format!(" HAVING {}", self.boolean(&[Column { written: value, kind }], 0))
            }
            false => String::new(),
        };
        let by = groups.iter().map(|group| group.written.as_str()).collect::<Vec<_>>().join(", ");
        format!("SELECT {} FROM {from}{filter} GROUP BY {by}{having}", columns.join(", "))
    }

    /// Aggregates of everything: one row.
    pub(super) fn global(&mut self, kinds: &[Kind], depth: usize) -> String {
        let (from, scope) = self.from(depth);
        let filter = self.filter(&scope, depth);
        let mut columns = Vec::new();
        for (place, kind) in kinds.iter().enumerate() {
            columns.push(format!("{} AS c{}", self.aggregate(*kind, &scope), place + 1));
        }
        format!("SELECT {} FROM {from}{filter}", columns.join(", "))
    }

    /// An aggregate whose value is of this kind.
    pub(super) fn aggregate(&mut self, kind: Kind, scope: &[Column]) -> String {
        let depth = self.choices_depth();
        let call = match kind {
            Kind::Int => match self.choices.weighted(&[30, 20, 20, 15, 15]) {
                0 => "count(*)".to_owned(),
                1 => format!("count({})", self.any(scope, depth)),
                2 => format!("count(DISTINCT {})", self.any(scope, depth)),
                3 => format!("sum({}{})", self.distinct_or_all(), self.scalar(Kind::Int, scope, depth)),
                _ => self.least_or_greatest(kind, scope),
            },
            Kind::Float => {
                let argument = *self.choices.pick(&[Kind::Float, Kind::Int]);
                match self.choices.below(3) {
                    0 => format!("sum({}{})", self.distinct_or_all(), self.scalar(Kind::Float, scope, depth)),
                    1 => format!("avg({}{})", self.distinct_or_all(), self.scalar(argument, scope, depth)),
                    _ => self.least_or_greatest(kind, scope),
                }
            }
            Kind::Decimal => {
                let function = *self.choices.pick(&["sum", "avg", "min", "max"]);
                // How many digits a quotient has differs.
                let function = if self.is_common && function == "avg" { "sum" } else { function };
                format!("{function}({})", self.scalar(kind, scope, depth))
            }
            Kind::Bool => {
                let function = *self.choices.pick(&["bool_and", "bool_or", "max"]);
                format!("{function}({})", self.boolean(scope, depth))
            }
            Kind::Text | Kind::Time | Kind::Date => self.least_or_greatest(kind, scope),
        };
        let filtered = match self.choices.chance(20) {
            true => format!("{call} FILTER (WHERE {})", self.boolean(scope, 1)),
            false => call,
        };
        match kind {
            Kind::Int if self.choices.chance(10) => format!("coalesce({filtered} + 1, 0)"),
            _ => filtered,
        }
    }

    fn least_or_greatest(&mut self, kind: Kind, scope: &[Column]) -> String {
        let function = *self.choices.pick(&["min", "max"]);
        let depth = self.choices_depth();
        format!("{function}({})", self.scalar(kind, scope, depth))
    }

    fn distinct_or_all(&mut self) -> &'static str {
        if self.choices.chance(20) { "DISTINCT " } else { "" }
    }

    /// Mostly a column, now and then something made of some.
    fn choices_depth(&mut self) -> usize {
        usize::from(self.choices.chance(25))
    }

    fn any(&mut self, scope: &[Column], depth: usize) -> String {
        let kind = *self.choices.pick(&[Kind::Text, Kind::Int, Kind::Bool, Kind::Float]);
        self.scalar(kind, scope, depth)
    }
}
