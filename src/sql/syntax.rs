//! From text to one parsed query, within limits; whatever DataFusion would pass over in silence is refused.
//!
//! In: what a client or a file says. Out: the syntax of one `SELECT` that is no larger and no more deeply nested than
//! planning, printing and dropping it can bear on an ordinary stack, and in which every part has a meaning for DataFusion.
//! Not here: names and types (DataFusion), what can be maintained (`lower`).

mod constructs;
mod expansion;
mod names;
mod quantified;
mod row_values;

use datafusion::sql::sqlparser::ast::{Query, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::refusal::{Objection, Place};
pub(super) use constructs::Functions;

/// How long a query may be.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// How deeply parentheses, subqueries and the like may be nested.
const NESTING_MAX: usize = 50;

/// How many words and operators may follow one another, the expressions around them included, without a comma or a
/// clause in between. `a AND b AND ..` is a tree as deep as it is long, and not everything that walks it guards its stack.
const CHAIN_MAX: usize = 1_000;

/// How many tables, subqueries and parts of a `UNION` a query may have: planning takes time with the square of it.
const RELATIONS_MAX: usize = 100;

/// The one query that the text is.
pub(super) fn parse(text: &str) -> Result<Box<Query>, Objection> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("{} bytes of SQL are too many; {TEXT_BYTES_MAX} are allowed", text.len());
        return Err(Objection::new(Place::Query, "query", message));
    }
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, text)
        .tokenize_with_location()
        .map_err(|error| Objection::new(Place::At(error.location), "syntax", error.message))?;
    check_size(&tokens)?;
    let second = after_semicolon(&tokens);
    let parser = Parser::new(&dialect).with_recursion_limit(NESTING_MAX);
    let mut statements = parser.with_tokens_with_locations(tokens).parse_statements()?.into_iter();
    let query = match statements.next() {
        Some(Statement::Query(mut query)) => {
            names::give(&mut query);
            quantified::write_out(&mut query);
            row_values::write_out(&mut query)?;
            query
        }
        Some(other) => return Err(no_query(&other)),
        None => return Err(Objection::new(Place::Query, "query", "there is none; write a SELECT")),
    };
    if statements.next().is_some() {
        let message = "only one SELECT is allowed; put others in files of their own";
        return Err(Objection::new(second.map_or(Place::Query, Place::At), "second statement", message));
    }
    expansion::check(&query)?;
    Ok(query)
}

/// Where the word stands that follows the first semicolon.
fn after_semicolon(tokens: &[TokenWithSpan]) -> Option<Location> {
    let is_empty = |token: &&TokenWithSpan| matches!(token.token, Token::Whitespace(_) | Token::SemiColon);
    let after = tokens.iter().skip_while(|token| token.token != Token::SemiColon);
    after.skip_while(is_empty).map(|token| token.span.start).next()
}

/// Refuses what DataFusion would pass over or take for something else, and what cannot be maintained if it is to be,
/// where that can be seen.
pub(super) fn check(query: &Query, functions: &dyn Functions) -> Result<(), Objection> {
    constructs::check(query, functions)
}

fn no_query(statement: &Statement) -> Objection {
    let words = statement.to_string();
    let verb = words.split_whitespace().next().unwrap_or("statement").to_uppercase();
    Objection::new(Place::Query, verb, "only a SELECT is allowed; nothing can be written or changed by SQL")
}

/// Bounds the depth of what the parser makes of these, before it makes it.
fn check_size(tokens: &[TokenWithSpan]) -> Result<(), Objection> {
    let (mut chains, mut relations) = (vec![0_usize], 0);
    let mut depth = 0;
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) | Token::Number(..) | Token::SingleQuotedString(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => chains.push(0),
            Token::RParen | Token::RBracket | Token::RBrace => {
                if chains.len() > 1 {
                    depth -= chains.pop().expect("more than one");
                }
            }
            Token::Comma => depth -= chains.last_mut().map(std::mem::take).unwrap_or_default(),
            Token::Word(word) if begins_clause(word.keyword) => {
                depth -= chains.last_mut().map(std::mem::take).unwrap_or_default();
                relations += usize::from(matches!(word.keyword, Keyword::SELECT | Keyword::JOIN | Keyword::VALUES));
            }
            _ => {
                *chains.last_mut().expect("never empty") += 1;
                depth += 1;
            }
        }
        if depth > CHAIN_MAX {
            return Err(too_large(token.span.start, CHAIN_MAX, "words and operators in one expression"));
        }
        if chains.len() > NESTING_MAX {
            return Err(Objection { place: Place::At(token.span.start), ..ParserError::RecursionLimitExceeded.into() });
        }
        if relations > RELATIONS_MAX {
            return Err(too_large(token.span.start, RELATIONS_MAX, "SELECTs and JOINs in one query"));
        }
    }
    Ok(())
}

/// Words after which a new expression begins, beside the one before it rather than around it.
fn begins_clause(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::SELECT
            | Keyword::FROM
            | Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::ORDER
            | Keyword::LIMIT
            | Keyword::JOIN
            | Keyword::ON
            | Keyword::WHEN
            | Keyword::THEN
            | Keyword::VALUES
            | Keyword::WITH
    )
}

fn too_large(location: Location, allowed: usize, of_what: &str) -> Objection {
    let message = format!("there are more than {allowed} {of_what}; write parts as views of their own, or use IN (..)");
    Objection::new(Place::At(location), "size", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Objection {
        parse(text).expect_err(text)
    }

    #[test]
    fn a_text_is_one_select() {
        parse("-- comment\nSELECT 1;").expect("a query");
        assert_eq!(refused("").message, "there is none; write a SELECT");
        assert_eq!(refused("DROP TABLE resources").construct, "DROP");
        assert_eq!(refused("EXPLAIN SELECT 1").construct, "EXPLAIN");
        assert_eq!(refused("insert into t values (1)").construct, "INSERT");
        assert_eq!(refused("SET a = 1").construct, "SET");
        let second = refused("SELECT 1;\nSELECT 2");
        assert_eq!((second.construct.as_str(), second.place), ("second statement", Place::At(Location::new(2, 1))));
        let second = refused("SELECT 1; DROP TABLE host");
        assert_eq!((second.construct.as_str(), second.place), ("second statement", Place::At(Location::new(1, 11))));
    }

    #[test]
    fn errors_of_syntax_say_where() {
        let objection = refused("SELECT a\nFROM t WHERE (a = 1");
        assert_eq!(objection, Objection::new(Place::End, "syntax", "Expected: ), found: the end of the text"));
        let objection = refused("SELECT a\nFROM t GROUP a");
        assert_eq!(objection.place, Place::At(Location::new(2, 8)));
        let objection = refused("SELECT 'a");
        assert_eq!(objection.place, Place::At(Location::new(1, 8)));
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_parsed() {
        let list = (0..8_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        parse(&format!("SELECT a IN ({list}) FROM t")).expect("a list is wide, not deep");
        let columns = (0..400).map(|n| format!("a{n} AS b{n}")).collect::<Vec<_>>().join(", ");
        parse(&format!("SELECT {columns} FROM t")).expect("so are columns");

        let chain = |count: usize| format!("SELECT {}a FROM t", "a AND ".repeat(count));
        parse(&chain(400)).expect("short enough");
        assert_eq!(refused(&chain(600)).construct, "size");
        assert_eq!(refused(&format!("SELECT 1{}", "+(1".repeat(10_000))).construct, "nesting");
        assert_eq!(refused(&format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000))).construct, "nesting");
        refused(&format!("SELECT {}a", "NOT ".repeat(900)));
        let joins = format!("SELECT 1 FROM t{}", " JOIN t ON true".repeat(200));
        assert_eq!(refused(&joins).construct, "size");
        assert_eq!(refused(&format!("SELECT 1{}", " UNION SELECT 1".repeat(200))).construct, "size");
        assert_eq!(refused(&" ".repeat(TEXT_BYTES_MAX + 1)).construct, "query");
    }
}
