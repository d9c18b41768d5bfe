//! Where in a text of SQL something stands.
//!
//! Whoever objects to a part of a query often has no more than its name: plans forget where they come from. A [`Place`] is
//! what is known, [`Place::locate`] finds it among the words of the text. What is not found is where the query begins.

use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::sql::words;

/// What is known of where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sql) enum Place {
    /// At this line and column.
    At(Location),
    /// Where this word stands first: before a parenthesis if it does so anywhere, as functions do.
    Word(String),
    /// Where this word stands for the second time.
    Again(String),
    /// Where these words follow one another first.
    Words(&'static [&'static str]),
    /// Where one of these stands that is nearest to a place; without one, the first of them.
    Nearest(&'static [&'static str], Option<Location>),
    /// Where a column of a table stands first, by both names, or else by its own.
    Column(Option<String>, String),
    /// Where this constant stands first.
    Constant(String),
    /// What makes the column of this number, from 0, in the first `SELECT` that has so many.
    Output(usize),
    /// Where the text ends.
    End,
    /// Nothing says where: at the query itself.
    Query,
}

impl Place {
    /// Of the first column of the expression of which it is known where it stands, else of a function in it.
    pub(in crate::sql) fn of(expression: &Expr) -> Self {
        let (mut at, mut named) = (None, None);
        expression
            .apply(|inner| {
                match inner {
                    // Nobody wrote it.
                    Expr::Column(column) if words::is_made_name(&column.name) => {}
                    Expr::Column(column) | Expr::OuterReferenceColumn(_, column) => match Self::of_column(column) {
                        place @ Self::At(_) => at = Some(place),
                        place => named = named.take().or(Some(place)),
                    },
                    Expr::ScalarFunction(function) => {
                        named = named.take().or_else(|| Some(Self::Word(function.name().to_owned())));
                    }
                    Expr::Exists(_) => named = named.take().or_else(|| Some(Self::Word("EXISTS".to_owned()))),
                    Expr::ScalarSubquery(subquery) => {
                        named = named.take().or_else(|| Some(Self::of_plan(&subquery.subquery)));
                    }
                    _ => {}
                }
                Ok(if at.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
            .expect("nothing fails");
        at.or(named).unwrap_or(Self::Query)
    }

    /// Of a column, as a query names it.
    pub(in crate::sql) fn of_column(column: &Column) -> Self {
        match column.spans.first() {
            Some(span) => Self::At(Location::new(span.start.line, span.start.column)),
            None => Self::Column(column.relation.as_ref().map(|table| table.table().to_owned()), column.name.clone()),
        }
    }

    /// Of the first expression in the plan of which it is known where it stands; where there is none, of the first table
    /// that it reads.
    pub(in crate::sql) fn of_plan(plan: &LogicalPlan) -> Self {
        let (mut place, mut table) = (Self::Query, None);
        plan.apply(|node| {
            node.apply_expressions(|expression| {
                if !matches!(place, Self::At(_)) {
                    place = Self::of(expression);
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
            if let LogicalPlan::TableScan(scan) = node {
                table = table.take().or_else(|| Some(Self::Word(scan.table_name.table().to_owned())));
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .expect("nothing fails");
        if matches!(place, Self::At(_)) { place } else { table.unwrap_or(place) }
    }

    /// Finds it in a text.
    pub(super) fn locate(&self, text: &str) -> Location {
        let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location().unwrap_or_default();
        let solid = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::EOF);
        let words = Words(tokens.iter().filter(solid).collect());
        let found = match self {
            Self::At(location) => Some(*location).filter(|location| location.line > 0),
            Self::Word(word) => words.called(word).or_else(|| words.sequence(&[word])),
            Self::Again(word) => words.each(word).nth(1),
            Self::Words(sequence) => words.sequence(sequence),
            Self::Nearest(any, to) => words.nearest(any, *to),
            Self::Column(Some(table), name) => words.sequence(&[table, ".", name]).or_else(|| words.sequence(&[name])),
            Self::Column(None, name) => words.sequence(&[name]),
            Self::Constant(value) => words.constant(value),
            Self::Output(place) => words.output(*place),
            Self::End => Some(end(text)),
            Self::Query => None,
        };
        found.unwrap_or_else(|| words.0.first().map_or(Location::new(1, 1), |first| first.span.start))
    }
}

/// Just after the last character that is no blank.
fn end(text: &str) -> Location {
    let text = text.trim_end();
    let line = text.lines().count().max(1);
    let column = text.lines().last().map_or(0, |last| last.chars().count()) + 1;
    Location::new(line as u64, column as u64)
}

/// The words and signs of a text.
struct Words<'a>(Vec<&'a TokenWithSpan>);

impl Words<'_> {
    fn is(token: &TokenWithSpan, word: &str) -> bool {
        match &token.token {
            Token::Word(found) => found.value.eq_ignore_ascii_case(word),
            token => token.to_string() == word,
        }
    }

    fn each(&self, word: &str) -> impl Iterator<Item = Location> {
        self.0.iter().filter(move |token| Self::is(token, word)).map(|token| token.span.start)
    }

    /// Where a word stands before a parenthesis.
    fn called(&self, word: &str) -> Option<Location> {
        let found = self.0.windows(2).find(|pair| Self::is(pair[0], word) && pair[1].token == Token::LParen);
        found.map(|pair| pair[0].span.start)
    }

    fn sequence(&self, words: &[&str]) -> Option<Location> {
        let are = |found: &&[&TokenWithSpan]| found.iter().zip(words).all(|(token, word)| Self::is(token, word));
        self.0.windows(words.len()).find(are).map(|found| found[0].span.start)
    }

    fn nearest(&self, any: &[&str], to: Option<Location>) -> Option<Location> {
        let to = self.0.iter().position(|token| Some(token.span.start) == to).unwrap_or_default();
        let places = self.0.iter().enumerate().filter(|(_, token)| any.iter().any(|word| Self::is(token, word)));
        places.min_by_key(|(place, _)| place.abs_diff(to)).map(|(_, token)| token.span.start)
    }

    fn constant(&self, value: &str) -> Option<Location> {
        let is = |token: &&&TokenWithSpan| match &token.token {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text == value,
            Token::Number(digits, _) => digits == value,
            _ => false,
        };
        self.0.iter().find(is).map(|token| token.span.start)
    }

    /// The first `SELECT` that has so many expressions; one with a `*` has as many as may be.
    fn output(&self, place: usize) -> Option<Location> {
        let is_select =
            |token: &TokenWithSpan| matches!(&token.token, Token::Word(word) if word.keyword == Keyword::SELECT);
        let selects = (0..self.0.len()).filter(|at| is_select(self.0[*at]));
        selects.filter_map(|at| item(&self.0[at + 1..], place)).next()
    }
}

/// The expression of this number among those after a `SELECT`, or a `*` before it.
fn item(tokens: &[&TokenWithSpan], place: usize) -> Option<Location> {
    let tokens = match tokens {
        [first, rest @ ..] if Words::is(first, "DISTINCT") || Words::is(first, "ALL") => rest,
        tokens => tokens,
    };
    let (mut depth, mut number, mut begins, mut before) = (0_usize, 0, None, &Token::EOF);
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket if depth == 0 => break,
            Token::RParen | Token::RBracket => depth -= 1,
            Token::Word(word) if depth == 0 && ends_list(word.keyword) => break,
            Token::Comma if depth == 0 => {
                (number, begins) = (number + 1, None);
                continue;
            }
            _ => {}
        }
        let is_first = begins.is_none();
        let start = *begins.get_or_insert(token.span.start);
        let is_everything = token.token == Token::Mul && depth == 0 && (is_first || *before == Token::Period);
        if number == place || is_everything {
            return Some(start);
        }
        before = &token.token;
    }
    None
}

/// Words after which there are no more expressions of a `SELECT`.
fn ends_list(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::FROM
            | Keyword::WHERE
            | Keyword::GROUP
            | Keyword::ORDER
            | Keyword::LIMIT
            | Keyword::UNION
            | Keyword::EXCEPT
            | Keyword::INTERSECT
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, place: Place) -> (u64, u64) {
        let Location { line, column } = place.locate(text);
        (line, column)
    }

    #[test]
    fn words_are_found_by_name() {
        let text = "-- rank\n  SELECT rank, 'rank', rank () FROM t";
        assert_eq!(at(text, Place::Word("RANK".into())), (2, 24), "as a function");
        assert_eq!(at(text, Place::Word("t".into())), (2, 37));
        assert_eq!(at(text, Place::Word("nowhere".into())), (2, 3), "else where the query begins");
        assert_eq!(at(text, Place::Again("rank".into())), (2, 24));
        assert_eq!(at(text, Place::Query), (2, 3));
        assert_eq!(at(text, Place::At(Location::new(2, 7))), (2, 7));
        assert_eq!(at(text, Place::At(Location::new(0, 0))), (2, 3), "an empty span is none");
        assert_eq!(at("", Place::Query), (1, 1));
    }

    #[test]
    fn columns_and_constants_are_found_as_they_are_written() {
        let text = "SELECT a, t.a, 'b', 7 FROM t WHERE a > 'a'\nORDER BY a  ";
        assert_eq!(at(text, Place::Column(Some("t".into()), "a".into())), (1, 11));
        assert_eq!(at(text, Place::Column(Some("u".into()), "a".into())), (1, 8), "the table has another name there");
        assert_eq!(at(text, Place::Constant("a".into())), (1, 40));
        assert_eq!(at(text, Place::Constant("7".into())), (1, 21));
        assert_eq!(at(text, Place::Words(&["order", "by"])), (2, 1));
        assert_eq!(at(text, Place::End), (2, 11));
        assert_eq!(at(text, Place::Nearest(&["a", "b"], Some(Location::new(1, 36)))), (1, 36));
        assert_eq!(at(text, Place::Nearest(&["where", "from"], None)), (1, 23));
    }

    #[test]
    fn columns_of_an_answer_are_found_by_their_number() {
        let text = "SELECT a, (SELECT b, c FROM u), f(d, e) AS g FROM t";
        assert_eq!(at(text, Place::Output(0)), (1, 8));
        assert_eq!(at(text, Place::Output(1)), (1, 11));
        assert_eq!(at(text, Place::Output(2)), (1, 33));
        assert_eq!(at(text, Place::Output(3)), (1, 1), "there is none");
        assert_eq!(at("SELECT DISTINCT a, t.*, b FROM t", Place::Output(1)), (1, 20));
        assert_eq!(at("SELECT a, *, b FROM t", Place::Output(5)), (1, 11), "it is one of them");
        assert_eq!(at("SELECT a, t.*, b FROM t", Place::Output(5)), (1, 11), "it is one of them");
        assert_eq!(at("SELECT 2 * 3, b FROM t", Place::Output(1)), (1, 15));
    }
}
