//! Expressions of every kind over columns in scope, literals and functions, none of which can fail, whatever a row
//! holds (`failing` has those).

use super::{Column, Generator, Kind};

impl Generator<'_> {
    /// A column of this kind, if there is one.
    pub(super) fn column(&mut self, kind: Kind, scope: &[Column]) -> Option<String> {
        let own: Vec<&Column> = scope.iter().filter(|column| column.kind == kind).collect();
        (!own.is_empty()).then(|| self.choices.pick(&own).written.clone())
    }

    /// A value of this kind.
    pub(super) fn scalar(&mut self, kind: Kind, scope: &[Column], depth: usize) -> String {
        if depth == 0 || self.choices.chance(55) {
            return match (kind, self.column(kind, scope)) {
                (_, Some(column)) => column,
                (Kind::Decimal, None) => match self.column(Kind::Int, scope) {
                    Some(number) => format!("CAST({number} % 1000 AS DECIMAL(12, 2))"),
                    None => self.literal(kind),
                },
                (Kind::Date, None) => match self.column(Kind::Time, scope) {
                    Some(time) => format!("CAST({time} AS DATE)"),
                    None => self.literal(kind),
                },
                (Kind::Float, None) => match self.column(Kind::Int, scope) {
                    Some(number) => format!("CAST({number} AS DOUBLE)"),
                    None => self.literal(kind),
                },
                (Kind::Int, None) => match self.column(Kind::Text, scope) {
                    Some(text) => format!("character_length({text})"),
                    None => self.literal(kind),
                },
                (Kind::Bool, None) => format!("({})", self.comparison(scope)),
                (Kind::Text | Kind::Time, None) => self.literal(kind),
            };
        }
        match self.choices.weighted(&[60, 12, 14, 6, 8]) {
            0 => self.made(kind, scope, depth - 1),
            1 => self.case(kind, scope, depth - 1),
            2 => format!("coalesce({}, {})", self.scalar(kind, scope, depth - 1), self.literal(kind)),
            3 => format!("nullif({}, {})", self.scalar(kind, scope, depth - 1), self.literal(kind)),
            _ => self.literal(kind),
        }
    }

    fn case(&mut self, kind: Kind, scope: &[Column], depth: usize) -> String {
        let (then, otherwise) = (self.scalar(kind, scope, depth), self.scalar(kind, scope, depth));
        match self.choices.below(3) {
            0 => format!("CASE WHEN {} THEN {then} ELSE {otherwise} END", self.boolean(scope, depth)),
            1 => format!("CASE WHEN {} THEN {then} END", self.boolean(scope, depth)),
            _ => {
                let (of, is) = (self.scalar(Kind::Int, scope, 0), self.literal(Kind::Int));
                format!("CASE {of} WHEN {is} THEN {then} WHEN 3 THEN {otherwise} END")
            }
        }
    }

    /// A value made of others.
    fn made(&mut self, kind: Kind, scope: &[Column], depth: usize) -> String {
        match kind {
            Kind::Text => self.text(scope, depth),
            Kind::Int => self.integer(scope, depth),
            Kind::Float => self.float(scope, depth),
            Kind::Bool => format!("({})", self.boolean(scope, depth + 1)),
            Kind::Time => self.time(scope, depth),
            Kind::Decimal => {
                let (one, other) = (self.scalar(kind, scope, depth), self.literal(kind));
                format!("{one} {} {other}", self.choices.pick(&["+", "-", "*"]))
            }
            Kind::Date => {
                let date = self.scalar(kind, scope, 0);
                let later = format!("{date} + INTERVAL '{} day'", self.choices.below(3));
                if self.is_common { format!("CAST({later} AS DATE)") } else { later }
            }
        }
    }

    fn text(&mut self, scope: &[Column], depth: usize) -> String {
        let text = self.scalar(Kind::Text, scope, depth);
        match self.choices.below(14) {
            0 => format!("lower({text})"),
            1 => format!("upper({text})"),
            2 => format!("{text} || '-' || {}", self.scalar(Kind::Text, scope, 0)),
            3 => format!("substr({text}, 1, {})", self.choices.between(1, 3)),
            4 => format!("concat({text}, {})", self.scalar(Kind::Int, scope, 0)),
            5 => format!("replace({text}, 'r', 'R')"),
            6 => format!("reverse({text})"),
            7 => format!("left({text}, 2)"),
            8 => format!("regexp_replace({text}, '[aeiou]', '*', 'g')"),
            9 => format!("split_part({text}, 'e', 1)"),
            10 => format!("CAST({} AS VARCHAR)", self.scalar(Kind::Int, scope, 0)),
            11 => format!("CAST({} AS VARCHAR)", self.scalar(Kind::Bool, scope, 0)),
            12 => match self.data(scope) {
                Some(data) => {
                    format!("({data} ->> '{}')", self.choices.pick(&["colour", "count", "gadget", "tags", "x"]))
                }
                None if self.is_common => format!("btrim({text}, 'ra')"),
                None => format!("trim({text})"),
            },
            _ => match self.data(scope) {
                Some(data) => format!("({data} -> 'tags' -> 0)"),
                None if self.is_common => format!("rtrim({text}, 'd')"),
                None => format!("initcap({text})"),
            },
        }
    }

    /// A column of JSON objects.
    fn data(&mut self, scope: &[Column]) -> Option<String> {
        scope.iter().find(|column| column.written.ends_with(".data")).map(|column| column.written.clone())
    }

    fn integer(&mut self, scope: &[Column], depth: usize) -> String {
        let (one, other) = (self.scalar(Kind::Int, scope, depth), self.scalar(Kind::Int, scope, 0));
        match self.choices.below(10) {
            0 => format!("({one} + {other})"),
            1 => format!("({one} - {other})"),
            2 => format!("({one} * {other})"),
            3 => format!("({one} / nullif({other}, 0))"),
            4 => format!("({one} % 3)"),
            5 if self.is_common => format!("abs({one})"),
            7 if self.is_common => {
                format!("CAST(floor(extract(second FROM {})) AS BIGINT)", self.scalar(Kind::Time, scope, 0))
            }
            5 => format!("TRY_CAST({} AS BIGINT)", self.scalar(Kind::Text, scope, 0)),
            6 => format!("character_length({})", self.scalar(Kind::Text, scope, depth)),
            7 => format!("CAST(extract(second FROM {}) AS BIGINT)", self.scalar(Kind::Time, scope, 0)),
            8 => format!("CAST({} AS BIGINT)", self.scalar(Kind::Bool, scope, 0)),
            _ => format!("strpos({}, 'e')", self.scalar(Kind::Text, scope, 0)),
        }
    }

    fn float(&mut self, scope: &[Column], depth: usize) -> String {
        let (one, other) = (self.scalar(Kind::Float, scope, depth), self.scalar(Kind::Float, scope, 0));
        match self.choices.below(9) {
            // Whatever is summed has few binary digits.
            3 | 6 if self.is_common => format!("({one} * 0.5)"),
            4 if self.is_common => format!("floor({one})"),
            7 if self.is_common => format!("CAST({} AS DOUBLE)", self.scalar(Kind::Int, scope, 0)),
            8 if self.is_common => format!("(CAST({} AS DOUBLE) / 4)", self.scalar(Kind::Int, scope, 0)),
            0 => format!("({one} + {other})"),
            1 => format!("({one} - {other})"),
            2 => format!("({one} * {other})"),
            3 => format!("({one} / {other})"),
            4 => format!("round({one}, 1)"),
            5 => format!("abs({one})"),
            6 => format!("sqrt({one})"),
            7 => format!("TRY_CAST({} AS DOUBLE)", self.scalar(Kind::Text, scope, 0)),
            _ => format!("(CAST({} AS DOUBLE) / 3)", self.scalar(Kind::Int, scope, 0)),
        }
    }

    fn time(&mut self, scope: &[Column], depth: usize) -> String {
        let time = self.scalar(Kind::Time, scope, depth);
        match self.choices.below(4) {
            0 => format!("date_trunc('minute', {time})"),
            1 => format!("({time} + INTERVAL '1 second')"),
            2 => format!("({time} - INTERVAL '1 day')"),
            _ => format!("date_bin(INTERVAL '10 seconds', {time})"),
        }
    }

    /// True, false or unknown.
    pub(super) fn boolean(&mut self, scope: &[Column], depth: usize) -> String {
        if depth == 0 {
            return self.comparison(scope);
        }
        match self.choices.weighted(&[55, 15, 12, 8, 10]) {
            0 => self.comparison(scope),
            1 => format!("({} AND {})", self.boolean(scope, depth - 1), self.boolean(scope, depth - 1)),
            2 => format!("({} OR {})", self.boolean(scope, depth - 1), self.boolean(scope, depth - 1)),
            3 => format!("NOT ({})", self.boolean(scope, depth - 1)),
            _ => format!(
                "({}) {}",
                self.boolean(scope, depth - 1),
                self.choices.pick(&["IS TRUE", "IS NOT FALSE", "IS UNKNOWN"])
            ),
        }
    }

    fn comparison(&mut self, scope: &[Column]) -> String {
        if scope.is_empty() {
            return "true".to_owned();
        }
        let column = self.choices.pick(scope).clone();
        let (one, kind) = (column.written, column.kind);
        let compare = *self.choices.pick(&["=", "<>", "<", ">="]);
        match self.choices.below(13) {
            0 | 1 => format!("{one} {compare} {}", self.literal(kind)),
            2 => format!("{one} {compare} {}", self.scalar(kind, scope, 1)),
            3 => format!("{one} IS NULL"),
            4 => format!("{one} IS NOT NULL"),
            // What follows would be taken for a part of it.
            5 => format!("({one} IS DISTINCT FROM {})", self.scalar(kind, scope, 0)),
            6 => format!("{one} IN ({}, {})", self.literal(kind), self.literal(kind)),
            7 => format!("{one} NOT IN ({}, {})", self.literal(kind), self.literal(kind)),
            8 => format!("{one} BETWEEN {} AND {}", self.literal(kind), self.literal(kind)),
            9 => self.rows_of_values(&one, kind, scope),
            _ if kind == Kind::Text => match self.choices.below(5) {
                0 => format!("{one} LIKE '%e%'"),
                1 => format!("{one} ILIKE 'r_d'"),
                2 => format!("{one} NOT LIKE 'r%'"),
                3 => format!("{one} ~ '^[rg]'"),
                _ => format!("starts_with({one}, 'r')"),
            },
            _ if kind == Kind::Bool => one,
            _ => format!("{one} {compare} {}", self.scalar(kind, scope, 0)),
        }
    }

    /// A comparison of a value, and another one beside it.
    fn rows_of_values(&mut self, one: &str, kind: Kind, scope: &[Column]) -> String {
        let beside = self.choices.pick(scope).clone();
        let row = format!("({one}, {})", beside.written);
        let mut other = || format!("({}, {})", self.scalar(kind, scope, 0), self.scalar(beside.kind, scope, 0));
        let (other, another) = (other(), other());
        match self.choices.below(9) {
            0 => format!("{row} = {other}"),
            1 => format!("{row} <> {other}"),
            2 => format!("{row} < {other}"),
            3 => format!("{row} >= {other}"),
            4 => format!("({row} IS DISTINCT FROM {other})"),
            5 => format!("{row} IN ({other}, {another})"),
            6 => format!("{row} NOT IN ({other}, {another})"),
            7 => format!("{row} BETWEEN {other} AND {another}"),
            _ => format!("{row} IS NOT NULL"),
        }
    }

    /// A literal that some rows have.
    pub(super) fn literal(&mut self, kind: Kind) -> String {
        let of: &[&str] = match kind {
            Kind::Text => &["'red'", "'a'", "'w1'", "''", "'gadget'", "'b'", "'12'", "'r%d'", "'räd_'"],
            Kind::Int => &["1", "0", "3", "-1", "7", "2"],
            Kind::Float if self.is_common => &["1.0", "0.25", "0.0", "2.5", "-1.5", "16.0"],
            Kind::Float => &["1.0", "0.1", "0.0", "2.5", "-1.5", "1e16"],
            Kind::Bool => &["true", "false"],
            Kind::Time => &[
                "TIMESTAMPTZ '2026-11-18T11:06:40Z'",
                "TIMESTAMPTZ '2026-11-18T11:06:41Z'",
                "TIMESTAMPTZ '2024-02-29T23:59:59Z'",
            ],
            Kind::Decimal => &["CAST(1.5 AS DECIMAL(12, 2))", "CAST(-3 AS DECIMAL(12, 2))"],
            Kind::Date => &["DATE '2026-11-18'", "DATE '2024-02-29'"],
        };
        if self.choices.chance(4) {
            let of = match kind {
                Kind::Text => "VARCHAR",
                Kind::Int => "BIGINT",
                Kind::Float => "DOUBLE",
                Kind::Bool => "BOOLEAN",
                Kind::Time => "TIMESTAMP WITH TIME ZONE",
                Kind::Decimal => "DECIMAL(12, 2)",
                Kind::Date => "DATE",
            };
            return format!("CAST(NULL AS {of})");
        }
        let written = *self.choices.pick(of);
        match kind {
            // Alone, PostgreSQL does not know what these are.
            Kind::Text if self.is_common => format!("{written}::text"),
            Kind::Float if self.is_common => format!("CAST({written} AS DOUBLE)"),
            _ => written.to_owned(),
        }
    }
}
