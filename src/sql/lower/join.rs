//! Joins of all kinds, out of two: pairs with equal keys, and rows whose key is (or is not) on the other side.
//!
//! The rows of a side that find no partner are those whose key is not on the other side; where a further condition
//! decides, those that are not among the left halves of the pairs that pass. They are padded with nulls, marked, kept or
//! dropped as the kind of join says.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{DFSchemaRef, JoinType, NullEquality, ScalarValue};
use datafusion::logical_expr::{Expr, Join};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{IsNotNullExpr, IsNullExpr, Literal};

use super::pending::{Pending, all};
use super::{Lowered, Lowering, arrow, cardinality, filtered, physical, relation, unite};
use crate::sql::program::Program;
use crate::sql::refusal::{Objection, Place};
use crate::sql::relation::{Keep, Keyed, Operator, Relation};
use crate::sql::row::Codec;
use crate::sql::rules::memberships::{WITHOUT_KEY, is_without_key};

/// A side of a join.
struct Side {
    rows: Arc<Relation>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Whether a null finds its like.
    nulls_match: bool,
}

impl Side {
    /// Under its key.
    fn keyed(&self) -> Keyed {
        let filters = if self.nulls_match { Vec::new() } else { self.keys.iter().map(is_not_null).collect() };
        keyed(&self.rows, filters, self.keys.clone())
    }

    /// Under all of its columns: each row finds itself.
    fn whole(&self) -> Keyed {
        whole(&self.rows)
    }
}

fn is_not_null(key: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(IsNotNullExpr::new(Arc::clone(key)))
}

fn is_null(key: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(IsNullExpr::new(Arc::clone(key)))
}

fn keyed(rows: &Arc<Relation>, filters: Vec<Arc<dyn PhysicalExpr>>, keys: Vec<Arc<dyn PhysicalExpr>>) -> Keyed {
    let kinds = keys.iter().enumerate().map(|(place, key)| {
        Field::new(place.to_string(), key.data_type(&rows.schema).expect("a key over these columns"), true)
    });
    let output = Codec::new(Arc::new(Schema::new(kinds.collect::<Vec<_>>())));
    let program = Program::new(Codec::new(Arc::clone(&rows.schema)), filters, keys, output);
    Keyed { input: Arc::clone(rows), key: Arc::new(program) }
}

fn whole(rows: &Arc<Relation>) -> Keyed {
    keyed(rows, Vec::new(), all(&rows.schema))
}

/// The two sides, and what else pairs must satisfy.
struct Sides {
    left: Side,
    right: Side,
    condition: Option<Expr>,
    /// The columns of both, as the condition names them.
    both: DFSchemaRef,
    /// And as rows have them.
    columns: SchemaRef,
}

impl Lowering<'_> {
    pub(super) fn lower_join(&mut self, join: &Join) -> Result<Lowered, Objection> {
        let (left, right) = (self.lower(&join.left)?, self.lower(&join.right)?);
        check_key(join, &left, &right)?;
        let at_most_one = cardinality::of_join(join.join_type, left.at_most_one, right.at_most_one);
        let both = Arc::new(left.schema.join(&right.schema)?);
        let condition = join.filter.clone();
        let side = |lowered: Lowered, keys: Vec<&Expr>| {
            let keys = keys.into_iter().map(|key| physical(key, &lowered.schema)).collect::<Result<Vec<_>, _>>()?;
            let nulls_match = join.null_equality == NullEquality::NullEqualsNull;
            Ok::<_, Objection>(Side { rows: lowered.relation(), keys, nulls_match })
        };
        let left = side(left, join.on.iter().map(|(left, _)| left).collect())?;
        let right = side(right, join.on.iter().map(|(_, right)| right).collect())?;
        check_types(&left, &right)?;
        let sides = Sides { left, right, condition, columns: arrow(&both), both };
        let output = arrow(&join.schema);
        let pending = if join.null_aware { sides.not_in() } else { sides.joined(join.join_type, &output)? };
        Ok(Lowered { pending, schema: Arc::clone(&join.schema), at_most_one })
    }
}

/// Keys are compared by their bytes, so they must be of one type.
fn check_types(left: &Side, right: &Side) -> Result<(), Objection> {
    let kinds = |side: &Side| -> Vec<_> { side.keys.iter().map(|key| key.data_type(&side.rows.schema).ok()).collect() };
    let (left, right) = (kinds(left), kinds(right));
    match left.into_iter().zip(right).find(|(left, right)| left != right) {
        Some((Some(left), Some(right))) => {
            let message = format!("a {left} is compared with a {right}; CAST one of them");
            Err(Objection::new(Place::Word("JOIN".to_owned()), "join", message))
        }
        _ => Ok(()),
    }
}

/// Every row with every other one is maintained only where one side has a row at most.
fn check_key(join: &Join, left: &Lowered, right: &Lowered) -> Result<(), Objection> {
    if is_without_key(join) {
        return Err(Objection::new(Place::Words(&["NOT", "IN"]), "NOT IN (SELECT ..)", WITHOUT_KEY));
    }
    let pairs = !matches!(
        join.join_type,
        JoinType::LeftSemi
            | JoinType::LeftAnti
            | JoinType::LeftMark
            | JoinType::RightSemi
            | JoinType::RightAnti
            | JoinType::RightMark
    ) || join.filter.is_some();
    if !join.on.is_empty() || !pairs || left.at_most_one || right.at_most_one {
        return Ok(());
    }
    let message = "every row would meet every other one; join on an equality, or with a side of one row (an aggregate, \
                   LIMIT 1)";
    let place = match join.filter.as_ref().map(Place::of) {
        None | Some(Place::Query) => Place::of_plan(&join.right),
        Some(place) => place,
    };
    Err(Objection::new(place, "join without equality", message))
}

impl Sides {
    /// One arm a kind of join.
    fn joined(self, kind: JoinType, output: &SchemaRef) -> Result<Pending, Objection> {
        Ok(match kind {
            JoinType::Inner => self.pairs()?,
            JoinType::Left => {
                let others = self.left_padded(output)?;
                self.with_pairs(vec![others], output)?
            }
            JoinType::Right => {
                let others = self.right_padded(output)?;
                self.with_pairs(vec![others], output)?
            }
            JoinType::Full => {
                let others = vec![self.left_padded(output)?, self.right_padded(output)?];
                self.with_pairs(others, output)?
            }
            JoinType::LeftSemi => Pending::of(self.lefts(Keep::Matches, self.pairs()?)),
            JoinType::LeftAnti => Pending::of(self.lefts(Keep::Others, self.pairs()?)),
            JoinType::RightSemi => Pending::of(self.rights(Keep::Matches, self.pairs()?)),
            JoinType::RightAnti => Pending::of(self.rights(Keep::Others, self.pairs()?)),
            JoinType::LeftMark => {
                marked(self.lefts(Keep::Matches, self.pairs()?), self.lefts(Keep::Others, self.pairs()?), output)
            }
            JoinType::RightMark => {
                marked(self.rights(Keep::Matches, self.pairs()?), self.rights(Keep::Others, self.pairs()?), output)
            }
        })
    }

    /// The pairs with equal keys for which the condition is true.
    fn pairs(&self) -> Result<Pending, Objection> {
        let (left, right) = (self.left.keyed(), self.right.keyed());
        let description = format!("join [{}] [{}]", left.key.description(), right.key.description());
        let inputs = vec![Arc::clone(&left.input), Arc::clone(&right.input)];
        let pairs = relation(&description, Arc::clone(&self.columns), inputs, |_| Operator::Join { left, right });
        let pairs = Lowered { pending: Pending::of(pairs), schema: Arc::clone(&self.both), at_most_one: false };
        match &self.condition {
            Some(condition) => Ok(filtered(pairs, condition)?.pending),
            None => Ok(pairs.pending),
        }
    }

    fn with_pairs(&self, others: Vec<Arc<Relation>>, output: &SchemaRef) -> Result<Pending, Objection> {
        let inputs = std::iter::once(self.pairs()?.relation()).chain(others).collect();
        Ok(Pending::of(unite(inputs, Arc::clone(output))))
    }

    /// Columns of the left side in those of both.
    fn left_width(&self) -> usize {
        self.left.rows.schema.fields().len()
    }

    /// The rows of the left side with a partner, or without.
    fn lefts(&self, keep: Keep, pairs: Pending) -> Arc<Relation> {
        if self.condition.is_none() {
            return semijoin(self.left.keyed(), self.right.keyed(), keep);
        }
        let places: Vec<usize> = (0..self.left_width()).collect();
        let found = pairs.columns(&places, &self.left.rows.schema).relation();
        semijoin(self.left.whole(), whole(&found), keep)
    }

    fn rights(&self, keep: Keep, pairs: Pending) -> Arc<Relation> {
        if self.condition.is_none() {
            return semijoin(self.right.keyed(), self.left.keyed(), keep);
        }
        let places: Vec<usize> = (self.left_width()..self.columns.fields().len()).collect();
        let found = pairs.columns(&places, &self.right.rows.schema).relation();
        semijoin(self.right.whole(), whole(&found), keep)
    }

    /// The pairs as they are in the answer: what looks for rows without a partner looks at the same, so that a condition
    /// is evaluated, and fails, once.
    fn answered_pairs(&self) -> Result<Pending, Objection> {
        Ok(Pending::of(self.pairs()?.relation()))
    }

    /// The rows of the left side without a partner, beside nulls.
    fn left_padded(&self, output: &SchemaRef) -> Result<Arc<Relation>, Objection> {
        let rows = self.lefts(Keep::Others, self.answered_pairs()?);
        let columns = all(&rows.schema).into_iter().chain(nulls(&output.fields()[self.left_width()..])).collect();
        Ok(Pending::of(rows).project(columns, output).relation())
    }

    fn right_padded(&self, output: &SchemaRef) -> Result<Arc<Relation>, Objection> {
        let rows = self.rights(Keep::Others, self.answered_pairs()?);
        let columns = nulls(&output.fields()[..self.left_width()]).chain(all(&rows.schema)).collect();
        Ok(Pending::of(rows).project(columns, output).relation())
    }

    /// `NOT IN`: a row stays if its key is known not to be on the right. With nothing on the right every row does; with
    /// a null there none does, unless with nothing; a null on the left is not known to be anything.
    fn not_in(self) -> Pending {
        let schema = Arc::clone(&self.left.rows.schema);
        let nowhere = |rows: &Arc<Relation>| keyed(rows, Vec::new(), Vec::new());
        let known = |side: &Side| side.keys.iter().map(is_not_null).collect::<Vec<_>>();
        let unknown = |side: &Side| side.keys.iter().map(is_null).collect::<Vec<_>>();
        let left_known = Pending::of(Arc::clone(&self.left.rows)).filter(known(&self.left)).relation();
        let left = keyed(&left_known, Vec::new(), self.left.keys.clone());
        let right = keyed(&self.right.rows, known(&self.right), self.right.keys.clone());
        let absent = semijoin(left, right, Keep::Others);
        let nulls_there = Pending::of(Arc::clone(&self.right.rows)).filter(unknown(&self.right)).relation();
        let certain = semijoin(nowhere(&absent), nowhere(&nulls_there), Keep::Others);
        let left_unknown = Pending::of(Arc::clone(&self.left.rows)).filter(unknown(&self.left)).relation();
        let beside_nothing = semijoin(nowhere(&left_unknown), nowhere(&self.right.rows), Keep::Others);
        Pending::of(unite(vec![certain, beside_nothing], schema))
    }
}

fn semijoin(left: Keyed, right: Keyed, keep: Keep) -> Arc<Relation> {
    let description = format!("semijoin {keep:?} [{}] [{}]", left.key.description(), right.key.description());
    let (schema, inputs) = (Arc::clone(&left.input.schema), vec![Arc::clone(&left.input), Arc::clone(&right.input)]);
    relation(&description, schema, inputs, |_| Operator::Semijoin { left, right, keep })
}

/// Rows with a last column that says whether they found a partner.
fn marked(matches: Arc<Relation>, others: Arc<Relation>, output: &SchemaRef) -> Pending {
    let with = |rows: Arc<Relation>, mark: bool| {
        let mark: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::Boolean(Some(mark))));
        let columns = all(&rows.schema).into_iter().chain([mark]).collect();
        Pending::of(rows).project(columns, output).relation()
    };
    Pending::of(unite(vec![with(matches, true), with(others, false)], Arc::clone(output)))
}

fn nulls(fields: &[Arc<Field>]) -> impl Iterator<Item = Arc<dyn PhysicalExpr>> {
    fields.iter().map(|field| {
        let null = ScalarValue::try_from(field.data_type()).unwrap_or(ScalarValue::Null);
        Arc::new(Literal::new(null)) as Arc<dyn PhysicalExpr>
    })
}
