//! Expressions that are refused by their syntax: those that mean something else here than they do elsewhere, those that
//! DataFusion does not know, and functions with more around them than has a meaning.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CeilFloorKind, DataType, DateTimeField, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Spanned, Value, ValueWithSpan, WindowSpec, WindowType,
};

use super::{Functions, WHOLE_WINDOW, first, refuse};
use crate::sql::refusal::{Objection, Place};

const NO_LISTS: &str = "there are no columns of lists; JSON lists stay text, whose elements are read by ->";
const NO_OBJECTS: &str = "there are no columns of objects; JSON objects stay text, whose fields are read by ->";
const NO_ROWS: &str =
    "is compared with others alone; name its values one by one, or count the rows of a subquery with DISTINCT";
const UNKNOWN: &str = "is not supported";

/// An arm a kind of expression.
pub(super) fn check(expression: &Expr, functions: &dyn Functions) -> ControlFlow<Objection> {
    let refused = |construct, message| first([(true, construct, message)]);
    match expression {
        Expr::Function(function) => check_function(function, functions),
        Expr::GroupingSets(_) => check_groupings("GROUPING SETS", functions),
        Expr::Cube(_) => check_groupings("CUBE", functions),
        Expr::Rollup(_) => check_groupings("ROLLUP", functions),
        Expr::InSubquery { expr, .. } if matches!(**expr, Expr::Tuple(_)) => {
            let message = "looks for one value; write EXISTS (SELECT 1 FROM .. WHERE a = x AND b = y)";
            refuse(expr.span(), "(.., ..) IN (SELECT ..)", message)
        }
        Expr::AnyOp { right, is_some, .. } if matches!(**right, Expr::Array(_)) => {
            refused(if *is_some { "SOME" } else { "ANY" }, "write IN ('a', 'b')")
        }
        Expr::AnyOp { is_some, .. } => check_any(if *is_some { "SOME" } else { "ANY" }, functions),
        Expr::AllOp { .. } => check_any("ALL", functions),
        Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right) => check_distinct_from(right),
        Expr::Like { any, escape_char, .. } | Expr::ILike { any, escape_char, .. } => {
            first([(*any, "LIKE ANY", "write one LIKE for each, with OR between them")])?;
            check_escape(escape_char.as_ref())
        }
        Expr::SimilarTo { .. } => {
            refused("SIMILAR TO", "would be taken for a regular expression; write LIKE, or ~ and a regular expression")
        }
        Expr::RLike { .. } => refused("RLIKE", "write ~"),
        Expr::Collate { .. } => {
            refused("COLLATE", "texts are compared by their bytes; leave it out, or compare lower(..)")
        }
        Expr::Convert { .. } => refused("CONVERT", "write CAST(.. AS ..)"),
        Expr::Ceil { field, .. } => check_rounding("ceil", field),
        Expr::Floor { field, .. } => check_rounding("floor", field),
        Expr::Array(_) => refuse(expression.span(), "ARRAY", NO_LISTS),
        Expr::InUnnest { .. } => refused("UNNEST", NO_LISTS),
        Expr::MemberOf(_) => refused("MEMBER OF", NO_LISTS),
        Expr::CompoundFieldAccess { .. } => refuse(expression.span(), "[..]", NO_LISTS),
        Expr::JsonAccess { .. } => refuse(expression.span(), "path in JSON", "write -> and ->> one after another"),
        Expr::Dictionary(_) | Expr::Map(_) | Expr::Struct { .. } | Expr::Named { .. } => {
            refuse(expression.span(), "object", NO_OBJECTS)
        }
        Expr::Tuple(values) if !values.is_empty() => refuse(expression.span(), "row of values", NO_ROWS),
        Expr::IsNormalized { .. } => refused("IS NORMALIZED", UNKNOWN),
        Expr::MatchAgainst { .. } => refused("MATCH", "write LIKE, or ~ and a regular expression"),
        Expr::OuterJoin(_) => refuse(expression.span(), "(+)", "write LEFT JOIN"),
        Expr::Interval(interval) => check_interval(&interval.value),
        Expr::Cast { data_type, .. } => check_length(data_type, expression),
        Expr::Prior(_) => refused("PRIOR", "write WITH RECURSIVE"),
        Expr::Lambda(_) => refuse(expression.span(), "->", "functions cannot be arguments; put the -> in parentheses"),
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::Between { .. }
        | Expr::BinaryOp { .. }
        | Expr::UnaryOp { .. }
        | Expr::AtTimeZone { .. }
        | Expr::Extract { .. }
        | Expr::Position { .. }
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Overlay { .. }
        | Expr::Nested(_)
        | Expr::Value(_)
        | Expr::Prefixed { .. }
        | Expr::TypedString(_)
        | Expr::Case { .. }
        | Expr::Exists { .. }
        | Expr::Subquery(_)
        | Expr::Tuple(_)
        | Expr::Wildcard(_)
        | Expr::QualifiedWildcard(..) => ControlFlow::Continue(()),
    }
}

/// DataFusion tells of what else may stand there in its own words.
fn check_interval(value: &Expr) -> ControlFlow<Objection> {
    match value {
        Expr::Value(value) if !matches!(value.value, Value::SingleQuotedString(_) | Value::Number(..)) => {
            refuse(value.span, "INTERVAL", "write it in single quotes: INTERVAL '1 hour'")
        }
        _ => ControlFlow::Continue(()),
    }
}

fn check_groupings(construct: &'static str, functions: &dyn Functions) -> ControlFlow<Objection> {
    let message = "is not maintained; write one SELECT a grouping, with UNION ALL between them";
    first([(functions.are_maintained(), construct, message)])
}

fn check_any(construct: &'static str, functions: &dyn Functions) -> ControlFlow<Objection> {
    let message = "is maintained as = ANY and <> ALL alone; compare with (SELECT max(..) ..) or (SELECT min(..) ..)";
    first([(functions.are_maintained(), construct, message)])
}

/// The parser reads `a IS DISTINCT FROM b AND c` as `a IS DISTINCT FROM (b AND c)`, which nobody means.
fn check_distinct_from(right: &Expr) -> ControlFlow<Objection> {
    match right {
        Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor, .. } => {
            let message = "what stands after it, with AND and OR, would all be compared; write parentheses around the \
                           comparison: (a IS NOT DISTINCT FROM b) AND ..";
            refuse(right.span(), "IS DISTINCT FROM", message)
        }
        _ => ControlFlow::Continue(()),
    }
}

/// DataFusion does not look at it.
fn check_length(kind: &DataType, cast: &Expr) -> ControlFlow<Objection> {
    match kind {
        DataType::Varchar(Some(_))
        | DataType::CharacterVarying(Some(_))
        | DataType::CharVarying(Some(_))
        | DataType::Char(Some(_))
        | DataType::Character(Some(_)) => refuse(
            cast.span(),
            format!("type {kind}"),
            "texts have no length of their own here; write left(.., length)",
        ),
        _ => ControlFlow::Continue(()),
    }
}

/// Patterns are evaluated with no other sign than this.
fn check_escape(sign: Option<&ValueWithSpan>) -> ControlFlow<Objection> {
    match sign {
        Some(ValueWithSpan { value: Value::SingleQuotedString(sign), span }) if sign != "\\" => {
            refuse(*span, "ESCAPE", "is always \\ here; leave it out, and write \\% and \\_ for % and _ themselves")
        }
        _ => ControlFlow::Continue(()),
    }
}

fn check_rounding(name: &'static str, field: &CeilFloorKind) -> ControlFlow<Objection> {
    let is_plain = matches!(field, CeilFloorKind::DateTimeField(DateTimeField::NoDateTime));
    first([(!is_plain, name, "takes a number alone; write date_trunc('day', time), or round(number, digits)")])
}

fn check_function(function: &Function, functions: &dyn Functions) -> ControlFlow<Objection> {
    let Function { name, uses_odbc_syntax: _, parameters, args, filter, null_treatment, over, within_group: _ } =
        function;
    let words = name.to_string().to_lowercase();
    if !matches!(parameters, FunctionArguments::None) {
        return refuse(name.span(), format!("parameters of {words}()"), "write all arguments in one list");
    }
    if matches!(words.as_str(), "row" | "struct") {
        return refuse(name.span(), "row of values", NO_ROWS);
    }
    if words == "unnest" {
        return refuse(name.span(), "unnest()", NO_LISTS);
    }
    if let Some(WindowType::WindowSpec(WindowSpec { window_name: Some(base), .. })) = over {
        return refuse(base.span, format!("window {base}"), WHOLE_WINDOW);
    }
    if let Some((construct, message)) = functions.objection(&words, over.is_some()) {
        return refuse(name.span(), construct, message);
    }
    let is_distinct = matches!(args, FunctionArguments::List(list) if is_distinct(list));
    if functions.is_scalar(&words) {
        let has_clauses = matches!(args, FunctionArguments::List(list) if !list.clauses.is_empty());
        let found = [(filter.is_some(), "FILTER"), (is_distinct, "DISTINCT"), (has_clauses, "ORDER BY")];
        if let Some((_, construct)) = found.into_iter().find(|(is_there, _)| *is_there) {
            let message = format!("means nothing to {words}(), which is computed of each row by itself; leave it out");
            return refuse(name.span(), format!("{construct} of {words}()"), message);
        }
    }
    let is_everything = |argument: &FunctionArg| {
        matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Wildcard | FunctionArgExpr::QualifiedWildcard(_)))
    };
    match args {
        FunctionArguments::List(list) if is_distinct && list.args.iter().any(is_everything) => {
            let message = "does not count the different rows; write SELECT count(*) FROM (SELECT DISTINCT ..)";
            refuse(name.span(), format!("{words}(DISTINCT *)"), message)
        }
        _ if null_treatment.is_some() && functions.are_maintained() => {
            let message = "aggregates pass over nulls by themselves; leave it out";
            ControlFlow::Break(Objection::new(Place::Word("NULLS".to_owned()), "IGNORE NULLS, RESPECT NULLS", message))
        }
        _ => ControlFlow::Continue(()),
    }
}

fn is_distinct(list: &FunctionArgumentList) -> bool {
    list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
}
