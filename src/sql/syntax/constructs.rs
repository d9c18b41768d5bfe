//! Refuses constructs by their syntax, where it is known exactly where they stand.
//!
//! First of all those that DataFusion parses and then forgets (`TABLESAMPLE`, `FOR UPDATE`, `GROUP BY .. WITH ROLLUP`, an
//! `ORDER BY` inside a `WITH RECURSIVE`, ..): the answer would be another one than was asked for. Types are taken apart
//! field by field, so that whatever a new version of the parser adds is looked at here. Then, for a view, functions that
//! cannot be maintained; lowering refuses the same, but knows less well where they are.

mod aliases;
mod expressions;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Cte, Expr, GroupByExpr, JoinConstraint, JoinOperator, LimitClause, NamedWindowDefinition,
    NamedWindowExpr, ObjectName, OrderBy, OrderByKind, Query, Select, SetExpr, SetOperator, SetQuantifier, Spanned,
    TableFactor, TableWithJoins, Value, ValueWithSpan, Visit, Visitor, WindowSpec,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::sql::refusal::{Objection, Place};

/// What is known of functions, and what is asked of them.
pub(in crate::sql) trait Functions {
    /// Whether the query is to be maintained, not just answered.
    fn are_maintained(&self) -> bool;

    /// Whether a function is computed for each row by itself.
    fn is_scalar(&self, name: &str) -> bool;

    /// Why a function cannot be had here, and what to write instead; `is_window`: it has `OVER`.
    fn objection(&self, name: &str, is_window: bool) -> Option<(String, String)>;
}

pub(super) fn check(query: &Query, functions: &dyn Functions) -> Result<(), Objection> {
    match query.visit(&mut Constructs { functions, depth: 0 }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(objection) => Err(objection),
    }
}

struct Constructs<'a> {
    functions: &'a dyn Functions,
    /// How many expressions there are around what is visited, without those that stand for nothing by themselves.
    depth: usize,
}

/// How deeply operators, functions and the like may be nested, other than `AND` and `OR`: DataFusion names each by all that
/// is in it, over and over, which takes time with the cube of it.
const DEPTH_MAX: usize = 100;

/// Whether an expression makes what is around it deeper.
fn is_level(expression: &Expr) -> bool {
    !matches!(
        expression,
        Expr::Nested(_)
            | Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::Value(_)
            | Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. }
    )
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
const WHOLE_WINDOW: &str = "a window that builds on another one is not supported; write the whole window";
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
            aliases::check(query)?;
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
            named_window,
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
        named_window.iter().try_for_each(check_named_window)?;
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
                check_sample(sample.is_some())?;
                let refused = [
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
            TableFactor::Derived { lateral: _, subquery: _, alias: _, sample } => check_sample(sample.is_some()),
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
        self.depth += usize::from(is_level(expression));
        if self.depth > DEPTH_MAX {
            let message = format!(
                "more than {DEPTH_MAX} operators and functions are nested in one another; write parts as subqueries or \
                 views of their own"
            );
            return refuse(expression.span(), "nesting", message);
        }
        expressions::check(expression, self.functions)
    }

    fn post_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Objection> {
        self.depth -= usize::from(is_level(expression));
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Objection> {
        match &value.value {
            Value::Placeholder(name) => {
                refuse(value.span, format!("parameter {name}"), "there are no parameters; write the value")
            }
            Value::UnicodeStringLiteral(_) => refuse(value.span, "U&'..'", "write the characters themselves"),
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
}

/// DataFusion forgets what another window says that one builds on.
fn check_named_window(definition: &NamedWindowDefinition) -> ControlFlow<Objection> {
    match definition {
        NamedWindowDefinition(name, NamedWindowExpr::NamedWindow(_))
        | NamedWindowDefinition(name, NamedWindowExpr::WindowSpec(WindowSpec { window_name: Some(_), .. })) => {
            refuse(name.span, format!("window {name}"), WHOLE_WINDOW)
        }
        NamedWindowDefinition(_, NamedWindowExpr::WindowSpec(_)) => ControlFlow::Continue(()),
    }
}

fn table_function(name: &ObjectName) -> ControlFlow<Objection> {
    let message = "there are no functions that make tables; write VALUES, or name a table";
    refuse(name.span(), format!("table function {}()", name.to_string().to_lowercase()), message)
}

fn check_body(body: &SetExpr) -> ControlFlow<Objection> {
    let statement = match body {
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => return ControlFlow::Continue(()),
        SetExpr::SetOperation { op, set_quantifier, left, right } => {
            check_set_operation(*op, *set_quantifier)?;
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

/// DataFusion takes how often a row is there from the left side alone.
fn check_set_operation(operator: SetOperator, quantifier: SetQuantifier) -> ControlFlow<Objection> {
    let words: &'static [&'static str] = match (operator, quantifier) {
        (SetOperator::Except, SetQuantifier::All | SetQuantifier::AllByName) => &["EXCEPT", "ALL"],
        (SetOperator::Intersect, SetQuantifier::All | SetQuantifier::AllByName) => &["INTERSECT", "ALL"],
        (SetOperator::Minus, _) => return first([(true, "MINUS", "write EXCEPT")]),
        (SetOperator::Union | SetOperator::Except | SetOperator::Intersect, _) => return ControlFlow::Continue(()),
    };
    let message = "how often a row is there is not compared; leave out ALL, or count rows with GROUP BY on both sides \
                   and join these";
    ControlFlow::Break(Objection::new(Place::Words(words), words.join(" "), message))
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

fn check_sample(is_there: bool) -> ControlFlow<Objection> {
    first([(is_there, "TABLESAMPLE", "write a condition that picks rows, as by a hash of their id")])
}

fn check_joins(tables: &TableWithJoins) -> ControlFlow<Objection> {
    first([(tables.joins.iter().any(|join| join.global), "GLOBAL", NOT_UNDERSTOOD)])?;
    tables.joins.iter().try_for_each(|join| match &join.join_operator {
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) | JoinOperator::FullOuter(constraint)
            if matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural) =>
        {
            let construct = match constraint {
                JoinConstraint::Natural => "NATURAL",
                _ => "USING",
            };
            let message = "of a RIGHT or FULL JOIN would give the left side's column, null where only the right one has \
                           a row; write ON a.k = b.k, and coalesce(a.k, b.k) AS k";
            first([(true, construct, message)])
        }
        JoinOperator::Join(_)
        | JoinOperator::Inner(_)
        | JoinOperator::Left(_)
        | JoinOperator::LeftOuter(_)
        | JoinOperator::Right(_)
        | JoinOperator::RightOuter(_)
        | JoinOperator::FullOuter(_)
        | JoinOperator::CrossJoin(_)
        | JoinOperator::LeftSemi(_)
        | JoinOperator::RightSemi(_)
        | JoinOperator::LeftAnti(_)
        | JoinOperator::RightAnti(_) => ControlFlow::Continue(()),
        JoinOperator::Semi(_) => first([(true, "SEMI JOIN", "write LEFT SEMI JOIN, or WHERE EXISTS")]),
        JoinOperator::Anti(_) => first([(true, "ANTI JOIN", "write LEFT ANTI JOIN, or WHERE NOT EXISTS")]),
        JoinOperator::CrossApply => first([(true, "CROSS APPLY", "write CROSS JOIN LATERAL")]),
        JoinOperator::OuterApply => first([(true, "OUTER APPLY", "write LEFT JOIN LATERAL .. ON true")]),
        JoinOperator::AsOf { .. } => {
            let message =
                "write a JOIN, and take the newest of each group by ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..)";
            first([(true, "ASOF JOIN", message)])
        }
        JoinOperator::StraightJoin(_) => first([(true, "STRAIGHT_JOIN", "write JOIN")]),
        JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => {
            first([(true, "ARRAY JOIN", "there are no columns of lists; JSON lists stay text")])
        }
    })
}

#[cfg(test)]
mod tests;
