//! `max(x), max(CAST(x AS BIGINT))`: two aggregates that differ by a `CAST` alone.
//!
//! DataFusion calls an expression as if its casts were not there, so both would be one column. Where that is so they stand in
//! `coalesce(..)`, which has a name and of one argument does nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, Query,
    Visit, VisitMut, Visitor, VisitorMut,
};

/// Gives casts in such functions a name.
pub(super) fn name(query: &mut Query) {
    let mut called = Called::default();
    let _: ControlFlow<()> = Visit::visit(&*query, &mut called);
    let alike: BTreeSet<String> = called.0.into_values().filter(|written| written.len() > 1).flatten().collect();
    if !alike.is_empty() {
        let _: ControlFlow<()> = VisitMut::visit(query, &mut Named(alike));
    }
}

/// The functions of a query that have casts in them or not, as they are written, by what they are without.
#[derive(Default)]
struct Called(BTreeMap<String, BTreeSet<String>>);

impl Visitor for Called {
    type Break = ();

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        if matches!(expression, Expr::Function(_)) {
            let mut without = expression.clone();
            let _: ControlFlow<()> = VisitMut::visit(&mut without, &mut Stripped);
            self.0.entry(without.to_string()).or_default().insert(expression.to_string());
        }
        ControlFlow::Continue(())
    }
}

/// Takes casts away.
struct Stripped;

impl VisitorMut for Stripped {
    type Break = ();

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast { expr, .. } = expression {
            *expression = expr.as_ref().clone();
        }
        ControlFlow::Continue(())
    }
}

/// Gives those a name that stand in one of these.
struct Named(BTreeSet<String>);

impl VisitorMut for Named {
    type Break = ();

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if matches!(expression, Expr::Function(_)) && self.0.contains(&expression.to_string()) {
            let _: ControlFlow<()> = VisitMut::visit(expression, &mut Wrapped);
        }
        ControlFlow::Continue(())
    }
}

struct Wrapped;

impl VisitorMut for Wrapped {
    type Break = ();

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if matches!(expression, Expr::Cast { .. }) {
            *expression = Expr::Function(coalesce(expression.clone()));
        }
        ControlFlow::Continue(())
    }
}

fn coalesce(argument: Expr) -> Function {
    let args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))];
    Function {
        name: ObjectName::from(vec![Ident::new("coalesce")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}
