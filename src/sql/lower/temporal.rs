//! Conditions on `now()`: between which epochs a row counts.
//!
//! Maintained is a comparison of a time of the row with the passing time after steps that keep its order
//! ([`crate::sql::passing`]), however it is written: `updated_at < now() - INTERVAL '7 days'`, `updated_at + INTERVAL '7
//! days' < now()`, `now() - updated_at > INTERVAL '7 days'`, `CAST(created_at AS DATE) = current_date`. Each turns true or
//! false once, at an epoch that is known from the row; so the row is in the view at an epoch if and only if the condition
//! is true with `now()` being that epoch. Several that must all be true are the latest start and the earliest end.
//!
//! All else with `now()` in it is refused: it could change every row at every instant.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::functions::core::expr_fn::{greatest, least};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator, ScalarUDF};

use super::{arrow, physical};
use crate::sql::bounds::Bounds;
use crate::sql::functions::first_epoch::FirstEpoch;
use crate::sql::passing::{Passing, Step, Unit};
use crate::sql::program::Program;
use crate::sql::refusal::{Objection, Place};
use crate::sql::row::Codec;
use crate::sql::rules::epoch::{contains_now, is_now};
use crate::sql::table::TIME_ZONE;

/// The words that ask for the time.
const WORDS: &[&str] = &["now", "current_timestamp", "current_date", "today", "current_time"];

const ADVICE: &str = "write updated_at < now() - INTERVAL '7 days', or the like";

/// Whether an expression depends on the passing time.
pub(in crate::sql) fn mentions_now(expression: &Expr) -> bool {
    contains_now(expression)
}

/// The refusal of `now()` where it is not maintained.
pub(in crate::sql) fn misplaced(expression: &Expr) -> Objection {
    let message =
        format!("would change rows at every instant; only comparing with it in WHERE is maintained: {ADVICE}");
    refused(expression, message)
}

/// From when and until when rows count for which these are true.
pub(in crate::sql) fn bounds(conjuncts: &[Expr], schema: &DFSchema) -> Result<Bounds, Objection> {
    let mut edges = Edges::default();
    for conjunct in conjuncts {
        edges.add(conjunct, schema)?;
    }
    let bound = |epochs: Vec<Expr>, combine: fn(Vec<Expr>) -> Expr| {
        if epochs.is_empty() {
            return Ok(None);
        }
        // Of several, none may be missing: what combines them would pass over it.
        let present = epochs.iter().filter(|_| epochs.len() > 1).map(|epoch| epoch.clone().is_not_null());
        let filters = present.map(|present| physical(&present, schema)).collect::<Result<Vec<_>, _>>()?;
        let output = physical(&if epochs.len() > 1 { combine(epochs) } else { epochs[0].clone() }, schema)?;
        let epoch = Arc::new(Schema::new(vec![Field::new("epoch", DataType::Int64, true)]));
        let input = Codec::new(arrow(schema));
        Ok::<_, Objection>(Some(Arc::new(Program::new(input, filters, vec![output], Codec::new(epoch)))))
    };
    Ok(Bounds { from: bound(edges.from, greatest)?, until: bound(edges.until, least)? })
}

/// Epochs from which and until which rows count, as expressions over the row; null: it never does.
#[derive(Default)]
struct Edges {
    from: Vec<Expr>,
    until: Vec<Expr>,
}

impl Edges {
    fn add(&mut self, condition: &Expr, schema: &DFSchema) -> Result<(), Objection> {
        match condition {
            Expr::Alias(alias) => self.add(&alias.expr, schema),
            Expr::IsTrue(inner) => self.add(inner, schema),
            Expr::Between(between) if !between.negated => {
                self.compare(condition, &between.expr, Operator::GtEq, &between.low, schema)?;
                self.compare(condition, &between.expr, Operator::LtEq, &between.high, schema)
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                self.add(left, schema)?;
                self.add(right, schema)
            }
            Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
                let message = "comparing with it is not maintained under OR; write one SELECT for each, with UNION ALL \
                               between, and what excludes the rows of the ones before: a = 1, then b < now() AND a <> 1";
                Err(refused(condition, message))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => self.compare(condition, left, *op, right, schema),
            _ => Err(misplaced(condition)),
        }
    }

    fn compare(
        &mut self,
        condition: &Expr,
        left: &Expr,
        operator: Operator,
        right: &Expr,
        schema: &DFSchema,
    ) -> Result<(), Objection> {
        match (contains_now(left), contains_now(right)) {
            // A BETWEEN can have it on one end alone.
            (false, false) => Err(misplaced(condition)),
            (true, true) => {
                let message = format!("stands on both sides of a comparison; {ADVICE}");
                Err(refused(condition, message))
            }
            (false, true) => {
                let swapped = operator.swap().ok_or_else(|| misplaced(condition))?;
                self.compare(condition, right, swapped, left, schema)
            }
            (true, false) => {
                let Compared { passing, operator, value, shift } =
                    compared(left, operator, right).ok_or_else(|| misplaced(condition))?;
                if !value.get_type(schema).is_ok_and(|kind| FirstEpoch::takes(&kind)) {
                    let message = format!("can be compared with a date or a timestamp of nanoseconds; {ADVICE}");
                    return Err(refused(condition, message));
                }
                self.edge(condition, passing, operator, &value, shift)
            }
        }
    }

    /// `passing operator value + shift`.
    fn edge(
        &mut self,
        condition: &Expr,
        passing: Passing,
        operator: Operator,
        value: &Expr,
        shift: i128,
    ) -> Result<(), Objection> {
        let epoch = |shift, unreached| {
            let function = ScalarUDF::from(FirstEpoch::new(passing.clone(), shift, unreached));
            Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![value.clone()]))
        };
        // What is never reached counts for ever, or never.
        let (above, until) = (shift + 1, Some(i64::MAX));
        match operator {
            Operator::Gt => self.from.push(epoch(above, None)),
            Operator::GtEq => self.from.push(epoch(shift, None)),
            Operator::Lt => self.until.push(epoch(shift, until)),
            Operator::LtEq => self.until.push(epoch(above, until)),
            Operator::Eq => {
                self.from.push(epoch(shift, None));
                self.until.push(epoch(above, until));
            }
            Operator::NotEq => {
                let message =
                    "is not maintained with <>; write one SELECT with < and one with >, with UNION ALL between";
                return Err(refused(condition, message));
            }
            _ => return Err(misplaced(condition)),
        }
        Ok(())
    }
}

/// A comparison with the passing time on the left alone.
struct Compared {
    passing: Passing,
    operator: Operator,
    value: Expr,
    shift: i128,
}

fn compared(left: &Expr, operator: Operator, right: &Expr) -> Option<Compared> {
    if let Some((passing, _)) = passing(left) {
        return Some(Compared { passing, operator, value: right.clone(), shift: 0 });
    }
    let Expr::BinaryExpr(BinaryExpr { left: minuend, op: Operator::Minus, right: subtrahend }) = without_cast(left)
    else {
        return None;
    };
    let Expr::Literal(ScalarValue::DurationNanosecond(Some(length)), _) = right else { return None };
    match (passing(minuend), passing(subtrahend)) {
        // now - x > d: now > x + d
        (Some((passing, false)), None) if !contains_now(subtrahend) => {
            Some(Compared { passing, operator, value: (**subtrahend).clone(), shift: i128::from(*length) })
        }
        // x - now > d: now < x - d
        (None, Some((passing, false))) if !contains_now(minuend) => {
            let operator = operator.swap()?;
            Some(Compared { passing, operator, value: (**minuend).clone(), shift: -i128::from(*length) })
        }
        _ => None,
    }
}

/// A difference of times is cast to a duration, which it is already.
fn without_cast(expression: &Expr) -> &Expr {
    match expression {
        Expr::Cast(Cast { expr, field }) if *field.data_type() == DataType::Duration(TimeUnit::Nanosecond) => expr,
        Expr::Alias(alias) => without_cast(&alias.expr),
        expression => expression,
    }
}

/// The passing time after steps that keep its order, and whether it is a date.
fn passing(expression: &Expr) -> Option<(Passing, bool)> {
    match expression {
        expression if is_now(expression) => Some((Passing::default(), false)),
        Expr::Alias(alias) => passing(&alias.expr),
        Expr::Cast(Cast { expr, field }) => {
            let (mut inner, _) = passing(expr)?;
            match field.data_type() {
                DataType::Date32 => {
                    inner.0.push(Step::Truncate(Unit::Day));
                    Some((inner, true))
                }
                DataType::Timestamp(TimeUnit::Nanosecond, zone) if is_utc(zone.as_deref()) => Some((inner, false)),
                _ => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => {
            shifted(left, right, 1).or_else(|| shifted(right, left, 1))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => shifted(left, right, -1),
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "date_trunc" => {
            let [Expr::Literal(unit, _), inner] = &args[..] else { return None };
            let unit = Unit::named(unit.try_as_str()??)?;
            let (mut inner, is_date) = passing(inner)?;
            inner.0.push(Step::Truncate(unit));
            Some((inner, is_date))
        }
        _ => None,
    }
}

/// The nanoseconds of a day.
const DAY: i64 = 24 * 3_600 * 1_000_000_000;

/// A passing time and a constant interval, with a sign.
fn shifted(time: &Expr, interval: &Expr, sign: i32) -> Option<(Passing, bool)> {
    let (mut time, is_date) = passing(time)?;
    let Expr::Literal(interval, _) = interval else { return None };
    let (months, days, nanoseconds) = match interval {
        ScalarValue::IntervalMonthDayNano(Some(interval)) => (interval.months, interval.days, interval.nanoseconds),
        ScalarValue::IntervalDayTime(Some(interval)) => {
            (0, interval.days, i64::from(interval.milliseconds).checked_mul(1_000_000)?)
        }
        ScalarValue::IntervalYearMonth(Some(months)) => (*months, 0, 0),
        ScalarValue::DurationNanosecond(Some(nanoseconds)) => (0, 0, *nanoseconds),
        _ => return None,
    };
    // A number added to a date comes as nanoseconds; a date has no hours that could be added to it.
    let (days, nanoseconds) = match is_date {
        true if nanoseconds % DAY == 0 => (days.checked_add(i32::try_from(nanoseconds / DAY).ok()?)?, 0),
        true => return None,
        false => (days, nanoseconds),
    };
    time.0.push(Step::Shift {
        months: months.checked_mul(sign)?,
        days: days.checked_mul(sign)?,
        nanoseconds: nanoseconds.checked_mul(i64::from(sign))?,
    });
    Some((time, is_date))
}

/// Times in other zones have other days.
fn is_utc(zone: Option<&str>) -> bool {
    zone.is_none_or(|zone| zone == TIME_ZONE || zone.eq_ignore_ascii_case("utc"))
}

fn refused(expression: &Expr, message: impl Into<String>) -> Objection {
    let near = match Place::of(expression) {
        Place::At(location) => Some(location),
        _ => None,
    };
    Objection::new(Place::Nearest(WORDS, near), "now()", message)
}
