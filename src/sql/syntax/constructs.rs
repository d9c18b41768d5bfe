//! Refuses constructs by their syntax, where it is known exactly where they stand.
//!
//! First of all those that DataFusion parses and then forgets (`TABLESAMPLE`, `FOR UPDATE`, `GROUP BY .. WITH ROLLUP`, an
//! `ORDER BY` inside a `WITH RECURSIVE`, ..): the answer would be another one than was asked for. Types are taken apart
//! field by field, so that whatever a new version of the parser adds is looked at here. Then, for a view, functions that
//! cannot be maintained; lowering refuses the same, but knows less well where they are.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Cte, Expr, Function, FunctionArguments, GroupByExpr, LimitClause, ObjectName, OrderBy, OrderByKind, Query, Select,
    SetExpr, Spanned, TableFactor, TableWithJoins, Value, ValueWithSpan, Visit, Visitor, WindowSpec, WindowType,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::sql::refusal::{Objection, Place};

/// What is known of functions that cannot be maintained.
pub(in crate::sql) trait Functions {
    /// Why a function cannot be maintained, and what to write instead; `is_window`: it has `OVER`.
    fn objection(&self, name: &str, is_window: bool) -> Option<(String, String)>;
}

pub(super) fn check(query: &Query, functions: Option<&dyn Functions>) -> Result<(), Objection> {
    match query.visit(&mut Constructs { functions }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(objection) => Err(objection),
    }
}

struct Constructs<'a> {
    functions: Option<&'a dyn Functions>,
}

/// The first of these that stands in the query, as an objection.
fn first(found: impl IntoIterator<Item = (bool, &'static str, &'static str)>) -> ControlFlow<Objection> {
    match found.into_iter().find(|(is_there, ..)| *is_there) {
        Some((_, construct, message)) => {
            let word = construct.split([' ', '(']).next().unwrap_or(construct);
            ControlFlow::Break(Objection::new(Place::Word(word.to_owned()), construct, message))
        }
        None => ControlFlow::Continue(()),
    }
}

fn refuse(span: Span, construct: impl Into<String>, message: impl Into<String>) -> ControlFlow<Objection> {
    ControlFlow::Break(Objection::new(Place::At(span.start), construct, message))
}

const ONE_SELECT: &str = "only a SELECT is allowed; nothing can be written or changed by SQL";
const NOT_UNDERSTOOD: &str = "has no meaning here; leave it out";

impl Visitor for Constructs<'_> {
    type Break = Objection;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Objection> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        first([
            (fetch.is_some(), "FETCH", "write LIMIT n"),
            (!locks.is_empty(), "FOR UPDATE", "nothing is locked by reading; leave it out"),
            (for_clause.is_some(), "FOR", NOT_UNDERSTOOD),
            (settings.is_some(), "SETTINGS", NOT_UNDERSTOOD),
            (format_clause.is_some(), "FORMAT", "how rows are written is said by the request's Accept header"),
            (!pipe_operators.is_empty(), "|>", "write nested SELECTs instead of pipes"),
        ])?;
        if let Some(limit) = limit_clause {
            let by = matches!(limit, LimitClause::LimitOffset { limit_by, .. } if !limit_by.is_empty());
            first([(by, "LIMIT BY", "write ROW_NUMBER() OVER (PARTITION BY ..) and filter by it")])?;
        }
        if let Some(order_by) = order_by {
            self.check_order_by(order_by)?;
        }
        if let Some(with) = with.as_ref().filter(|with| with.recursive) {
            with.cte_tables.iter().try_for_each(check_recursive)?;
        }
        check_body(body)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Objection> {
        let Select {
            select_token: _,
            optimizer_hints: _,
            distinct: _,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection: _,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having: _,
            named_window: _,
            qualify: _,
            window_before_qualify: _,
            value_table_mode,
            flavor: _,
        } = select;
        let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = group_by;
        first([
            (select_modifiers.is_some(), "SELECT", "modifiers of MySQL have no meaning here; leave them out"),
            (top.is_some(), "TOP", "write LIMIT n"),
            (projection.is_empty(), "SELECT", "selects no column; name at least one"),
            (exclude.is_some(), "EXCLUDE", "write it directly after the *, or name the columns"),
            (into.is_some(), "INTO", ONE_SELECT),
            (!lateral_views.is_empty(), "LATERAL VIEW", "write a JOIN"),
            (prewhere.is_some(), "PREWHERE", "write WHERE"),
            (!connect_by.is_empty(), "CONNECT BY", "write WITH RECURSIVE"),
            (!modifiers.is_empty(), "WITH", "write one SELECT a grouping, with UNION ALL between them"),
            (!cluster_by.is_empty(), "CLUSTER BY", NOT_UNDERSTOOD),
            (!distribute_by.is_empty(), "DISTRIBUTE BY", NOT_UNDERSTOOD),
            (!sort_by.is_empty(), "SORT BY", "write ORDER BY"),
            (value_table_mode.is_some(), "SELECT AS", "name the columns"),
        ])?;
        from.iter().try_for_each(check_joins)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Objection> {
        match factor {
            TableFactor::Table {
                name,
                alias: _,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                if args.is_some() {
                    return table_function(name);
                }
                let refused = [
                    (sample.is_some(), "TABLESAMPLE", "write a condition that picks rows, as by a hash of their id"),
                    (version.is_some(), "AS OF", "a query reads one instant, the newest"),
                    (!with_hints.is_empty() || !index_hints.is_empty(), "index hints", NOT_UNDERSTOOD),
                    (*with_ordinality, "WITH ORDINALITY", "write ROW_NUMBER() OVER (ORDER BY ..)"),
                    (!partitions.is_empty(), "PARTITION", "write a condition in WHERE"),
                    (json_path.is_some(), "path after a table", "write -> and ->> on a column"),
                ];
                match refused.into_iter().find(|(is_there, ..)| *is_there) {
                    Some((_, construct, message)) => refuse(name.span(), construct, message),
                    None => ControlFlow::Continue(()),
                }
            }
            TableFactor::Derived { lateral: _, subquery: _, alias: _, sample } => first([(
                sample.is_some(),
                "TABLESAMPLE",
                "write a condition that picks rows, as by a hash of their id",
            )]),
            TableFactor::NestedJoin { table_with_joins, alias: _ } => check_joins(table_with_joins),
            TableFactor::Function { name, .. } => table_function(name),
            TableFactor::UNNEST { .. } => {
                first([(true, "UNNEST", "there are no columns of lists; JSON lists stay text")])
            }
            TableFactor::TableFunction { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::XmlTable { .. }
            | TableFactor::SemanticView { .. } => {
                let words = factor.to_string();
                refuse(
                    factor.span(),
                    "table expression",
                    format!("`{words}` is not supported; name a table or a subquery"),
                )
            }
        }
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Objection> {
        match expression {
            Expr::Function(function) => self.check_function(function),
            Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) if self.functions.is_some() => {
                let construct = match expression {
                    Expr::Cube(_) => "CUBE",
                    Expr::Rollup(_) => "ROLLUP",
                    _ => "GROUPING SETS",
                };
                first([(
                    true,
                    construct,
                    "is not maintained; write one SELECT a grouping, with UNION ALL between them",
                )])
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Objection> {
        match &value.value {
            Value::Placeholder(name) => {
                refuse(value.span, format!("parameter {name}"), "there are no parameters; write the value")
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Constructs<'_> {
    fn check_order_by(&self, order_by: &OrderBy) -> ControlFlow<Objection> {
        let OrderBy { kind, interpolate } = order_by;
        let expressions = match kind {
            OrderByKind::Expressions(expressions) => expressions.as_slice(),
            OrderByKind::All(_) => &[],
        };
        first([
            (matches!(kind, OrderByKind::All(_)), "ORDER BY ALL", "name the columns to order by"),
            (interpolate.is_some(), "INTERPOLATE", NOT_UNDERSTOOD),
            (expressions.iter().any(|expression| expression.with_fill.is_some()), "WITH FILL", NOT_UNDERSTOOD),
        ])
    }

    fn check_function(&self, function: &Function) -> ControlFlow<Objection> {
        let Function {
            name,
            uses_odbc_syntax: _,
            parameters,
            args: _,
            filter: _,
            null_treatment: _,
            over,
            within_group: _,
        } = function;
        let words = name.to_string().to_lowercase();
        if !matches!(parameters, FunctionArguments::None) {
            return refuse(name.span(), format!("parameters of {words}()"), "write all arguments in one list");
        }
        if let Some(WindowType::WindowSpec(WindowSpec { window_name: Some(base), .. })) = over {
            let message = "a window that builds on another one is not supported; write the whole window";
            return refuse(base.span, format!("window {base}"), message);
        }
        match self.functions.and_then(|functions| functions.objection(&words, over.is_some())) {
            Some((construct, message)) => refuse(name.span(), construct, message),
            None => ControlFlow::Continue(()),
        }
    }
}

fn table_function(name: &ObjectName) -> ControlFlow<Objection> {
    let message = "there are no functions that make tables; write VALUES, or name a table";
    refuse(name.span(), format!("table function {}()", name.to_string().to_lowercase()), message)
}

fn check_body(body: &SetExpr) -> ControlFlow<Objection> {
    let statement = match body {
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => return ControlFlow::Continue(()),
        SetExpr::SetOperation { left, right, .. } => {
            check_body(left)?;
            return check_body(right);
        }
        SetExpr::Insert(_) => "INSERT",
        SetExpr::Update(_) => "UPDATE",
        SetExpr::Delete(_) => "DELETE",
        SetExpr::Merge(_) => "MERGE",
        SetExpr::Table(_) => return first([(true, "TABLE", "write SELECT * FROM the table")]),
    };
    first([(true, statement, ONE_SELECT)])
}

/// DataFusion takes the two sides of the `UNION` and forgets what stands around it.
fn check_recursive(cte: &Cte) -> ControlFlow<Objection> {
    let Cte { alias, query, from, materialized: _, closing_paren_token: _ } = cte;
    let forgotten = query.with.is_some() || query.order_by.is_some() || query.limit_clause.is_some();
    if matches!(*query.body, SetExpr::SetOperation { .. }) && forgotten {
        let message =
            "WITH, ORDER BY and LIMIT around its UNION are not supported; write them in the query that reads it";
        return refuse(alias.name.span, format!("recursive query {}", alias.name), message);
    }
    match from {
        Some(from) => refuse(from.span, "FROM after WITH", NOT_UNDERSTOOD),
        None => ControlFlow::Continue(()),
    }
}

fn check_joins(tables: &TableWithJoins) -> ControlFlow<Objection> {
    first([(tables.joins.iter().any(|join| join.global), "GLOBAL", NOT_UNDERSTOOD)])
}

#[cfg(test)]
mod tests {
    use crate::sql::refusal::Source;
    use crate::sql::syntax;

    fn refusal(text: &str) -> String {
        let checked = syntax::parse(text).and_then(|query| syntax::check(&query, None));
        Source { file: "x", text }.refuse(checked.expect_err(text)).to_string()
    }

    #[test]
    fn what_would_be_passed_over_is_refused() {
        for (text, expected) in [
            (
                "SELECT a FROM t TABLESAMPLE (10)",
                "x:1:15: TABLESAMPLE: write a condition that picks rows, as by a hash of their id",
            ),
            ("SELECT a FROM t FOR UPDATE", "x:1:17: FOR UPDATE: nothing is locked by reading; leave it out"),
            ("SELECT a FROM t FETCH FIRST 3 ROWS ONLY", "x:1:17: FETCH: write LIMIT n"),
            ("SELECT TOP 3 a FROM t", "x:1:8: TOP: write LIMIT n"),
            (
                "SELECT a FROM t LIMIT 1 BY a",
                "x:1:17: LIMIT BY: write ROW_NUMBER() OVER (PARTITION BY ..) and filter by it",
            ),
            ("FROM t |> SELECT a", "x:1:8: |>: write nested SELECTs instead of pipes"),
            ("SELECT FROM t", "x:1:1: SELECT: selects no column; name at least one"),
            (
                "SELECT a INTO u FROM t",
                "x:1:10: INTO: only a SELECT is allowed; nothing can be written or changed by SQL",
            ),
            ("SELECT $1", "x:1:8: parameter $1: there are no parameters; write the value"),
            ("SELECT a FROM t WHERE a = ?", "x:1:27: parameter ?: there are no parameters; write the value"),
            (
                "SELECT *\nFROM generate_series(1, 3)",
                "x:2:6: table function generate_series(): there are no functions that make tables; write VALUES, or name a table",
            ),
            ("SELECT * FROM UNNEST([1])", "x:1:15: UNNEST: there are no columns of lists; JSON lists stay text"),
            ("SELECT quantile(0.5)(a) FROM t", "x:1:8: parameters of quantile(): write all arguments in one list"),
            ("SELECT 1 UNION TABLE t", "x:1:16: TABLE: write SELECT * FROM the table"),
            (
                "SELECT sum(a) FROM t GROUP BY b WITH ROLLUP",
                "x:1:33: WITH: write one SELECT a grouping, with UNION ALL between them",
            ),
            (
                "WITH RECURSIVE r AS (SELECT 1 AS n UNION SELECT n + 1 FROM r ORDER BY n) SELECT n FROM r",
                "x:1:16: recursive query r: WITH, ORDER BY and LIMIT around its UNION are not supported; write them in the query that reads it",
            ),
            (
                "SELECT a FROM (SELECT a FROM t FOR SHARE) AS x",
                "x:1:32: FOR UPDATE: nothing is locked by reading; leave it out",
            ),
        ] {
            assert_eq!(refusal(text), expected, "{text}");
        }
    }

    #[test]
    fn ordinary_sql_passes() {
        for text in [
            "SELECT a, count(*) FILTER (WHERE b > 1) FROM t AS x (a, b) WHERE a IN (SELECT a FROM u) GROUP BY a ORDER BY a",
            "WITH u AS (SELECT 1 AS a), v AS (SELECT * FROM u) SELECT * FROM v JOIN u USING (a) LIMIT 3 OFFSET 1",
            "SELECT row_number() OVER w FROM t WINDOW w AS (PARTITION BY a ORDER BY b)",
            "(SELECT 1 UNION ALL VALUES (2)) EXCEPT SELECT 3 ORDER BY 1",
            "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b DESC NULLS LAST",
        ] {
            let query = syntax::parse(text).expect(text);
            syntax::check(&query, None).expect(text);
        }
    }
}
