//! What functions with bounds make, and when they say that it is too much.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::prelude::SessionContext;

use super::*;

/// What an expression over the columns `a`, `b` (texts) and `n` makes, of rows of so many bytes and these numbers.
fn made(text: &str, rows: &[(usize, usize, i64)]) -> Result<ArrayRef> {
    let fields = [("a", DataType::Utf8), ("b", DataType::Utf8), ("n", DataType::Int64)];
    let fields: Vec<Field> = fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let texts = |letter: &str, bytes: &dyn Fn(&(usize, usize, i64)) -> usize| {
        Arc::new(rows.iter().map(|row| Some(letter.repeat(bytes(row)))).collect::<StringArray>()) as ArrayRef
    };
    let numbers = Arc::new(rows.iter().map(|row| Some(row.2)).collect::<Int64Array>());
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), vec![texts("a", &|row| row.0), texts("b", &|row| row.1), numbers])?;
    let known = DFSchema::try_from(schema)?;
    let session = SessionContext::new();
    let parsed = session.parse_sql_expr(text, &known)?;
    let bounded = parsed.transform_up(|inner| match inner {
        Expr::ScalarFunction(mut function) => {
            function.func = Bounded::of(&function.func, None).map_or(function.func, Arc::new);
            Ok(Transformed::yes(Expr::ScalarFunction(function)))
        }
        inner => Ok(Transformed::no(inner)),
    });
    let physical = session.create_physical_expr(bounded?.data, &known)?;
    physical.evaluate(&batch)?.into_array(rows.len())
}

fn lengths(text: &str, rows: &[(usize, usize, i64)]) -> Vec<u64> {
    texts_of(&made(text, rows).expect(text)).expect("texts")
}

fn refused(text: &str, rows: &[(usize, usize, i64)]) -> String {
    made(text, rows).expect_err(text).strip_backtrace()
}

const MIB: usize = 1024 * 1024;

#[test]
fn a_text_of_as_much_as_is_allowed_is_made_and_no_longer_one() {
    for (text, fits, exceeds, bytes) in [
        ("repeat(a, n)", (MIB / 4, 0, 4), (MIB / 4, 0, 5), 5 * MIB / 4),
        ("lpad(a, n, 'x')", (1, 0, MIB as i64), (1, 0, MIB as i64 + 1), MIB + 1),
        ("rpad(a, n, 'x')", (1, 0, MIB as i64), (1, 0, MIB as i64 + 1), MIB + 1),
        ("concat(a, b, '!')", (MIB - 2, 1, 0), (MIB - 2, 2, 0), MIB + 1),
        ("concat_ws(a, b, b, b)", (MIB / 2, 0, 0), (MIB / 2, 1, 0), MIB + 3),
        ("overlay(a PLACING b FROM 1 FOR 0)", (MIB - 2, 2, 0), (MIB - 1, 2, 0), MIB + 1),
        ("replace(a, 'aa', b)", (1024, 2048, 0), (1024, 2050, 0), MIB + 1024),
        ("regexp_replace(a, 'aa', b, 'g')", (1024, 2048, 0), (1024, 2050, 0), MIB + 1024),
        ("regexp_replace(a, '^a+', '\\0\\0\\0\\0')", (MIB / 4, 0, 0), (MIB / 4 + 1, 0, 0), MIB + 4),
        ("encode(a, 'hex')", (MIB / 2, 0, 0), (MIB / 2 + 1, 0, 0), MIB + 2),
    ] {
        assert_eq!(lengths(text, &[fits, (1, 1, 1)])[0], MIB as u64, "{text}");
        let refused = refused(text, &[(1, 1, 1), exceeds]);
        let name = text.split('(').next().expect("a name");
        let words = format!("{name}() would make a text of {bytes} bytes; {MIB} are allowed");
        assert!(refused.contains(&words), "{refused}\nlacks {words}");
    }
}

#[test]
fn a_text_that_nobody_could_hold_is_not_made() {
    for text in ["repeat(a, n)", "lpad(a, n)", "replace(a, 'a', repeat(b, 1000))"] {
        let refused = refused(text, &[(MIB, 1_000, i64::MAX)]);
        assert!(refused.contains("() could make a text of ") && refused.contains("1048576 are allowed"), "{refused}");
    }
    let refused = refused("to_char(to_timestamp(1), repeat('%c', n))", &[(0, 0, 200_000)]);
    assert!(refused.contains("to_char() would make a text of 4800000 bytes; 1048576 are allowed"), "{refused}");
}

#[test]
fn what_could_be_long_and_is_not_is_as_it_would_be_otherwise() {
    let rows = [(600_000, 100, 1), (3, 1_000, 2), (0, 0, 3)];
    assert_eq!(lengths("replace(a, 'x', b)", &rows), [600_000, 3, 0]);
    assert_eq!(lengths("regexp_replace(a, 'a$', b, 'g')", &rows), [600_099, 1_002, 0]);
    let made = made("concat_ws(b, a, CASE WHEN n = 2 THEN NULL ELSE a END)", &[(500_000, 200_000, 1), (1, 5, 2)]);
    assert!(made.is_err(), "a separator counts");
    let nulls = self::made("repeat(CASE WHEN n = 2 THEN a END, n * 400000)", &[(1, 0, 2), (1, 0, 3)]);
    let nulls = nulls.expect("a text and none");
    assert_eq!((nulls.as_string::<i32>().value(0).len(), nulls.is_null(1)), (800_000, true));
}

#[test]
fn a_batch_makes_no_more_at_once_than_is_allowed() {
    let rows = vec![(MIB, 0, 0); 65];
    assert_eq!(lengths("concat(a, '')", &rows[..64]), vec![MIB as u64; 64]);
    let refused = refused("concat(a, '')", &rows);
    assert!(refused.contains("concat() would make texts of more than 67108864 bytes of the 65 rows"), "{refused}");
}

#[test]
fn constants_stay_constants() {
    assert_eq!(lengths("repeat('ab', 3)", &[(1, 1, 1); 3]), [6, 6, 6]);
    assert_eq!(lengths("lpad('ab', 300000)", &[(1, 1, 1); 300]), [300_000; 300], "once, not for every row");
    assert!(refused("repeat('ab', 600000)", &[(1, 1, 1)]).contains("would make a text of 1200000 bytes"));
}

#[test]
fn what_takes_the_product_of_two_lengths_takes_short_texts() {
    let fits = [(1_000, 2_000, 0), (0, MIB, 0)];
    assert_eq!(made("levenshtein(a, b)", &fits).expect("short").len(), 2);
    for text in ["levenshtein(a, b)", "btrim(a, b)", "ltrim(a, b)", "rtrim(a, b)"] {
        let refused = refused(text, &[(1, 1, 0), (10_000, 300, 0)]);
        let name = text.split('(').next().expect("a name");
        let words = format!("{name}() would compare 3000000 pairs of letters; 2097152 are allowed");
        assert!(refused.contains(&words), "{refused}\nlacks {words}");
    }
    assert_eq!(lengths("btrim(a)", &[(MIB, 0, 0)]), [MIB as u64]);
    assert!(refused("strpos(a, b)", &[(MIB, 1_000, 0)]).contains("strpos() would compare"));
    assert_eq!(
        made("strpos(a, 'a thing of many letters, which is looked for in one go')", &[(MIB, 0, 0)]).expect("x").len(),
        1
    );
}

#[test]
fn a_pattern_takes_no_longer_than_texts_and_its_states_allow() {
    let pattern = "'(a|b|c|.){0,900}z{3}'";
    for function in ["regexp_count", "regexp_like", "regexp_instr"] {
        assert_eq!(self::made(&format!("{function}(a, {pattern})"), &[(400, 0, 0)]).expect("short").len(), 1);
        let refused = refused(&format!("{function}(a, {pattern})"), &[(1, 0, 0), (60_000, 0, 0)]);
        assert!(refused.contains(&format!("{function}() may take ")) && refused.contains("16777216 are"), "{refused}");
    }
    assert!(refused(&format!("regexp_replace(a, {pattern}, '')"), &[(60_000, 0, 0)]).contains("may take"));
    let refused = refused("regexp_like(a, '((x{900}){900}){9}')", &[(1, 0, 0)]);
    assert!(refused.contains("50000 are allowed, so let it repeat less"), "{refused}");
    assert_eq!(made("regexp_like(a, '^[a-z]+[0-9]*$')", &[(MIB, 0, 0)]).expect("a plain one").len(), 1);
}
