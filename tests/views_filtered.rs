//! Filters of a view's rows over HTTP: null, values that are shown in one way and held in several, values that would have
//! to be rounded; and how such values are shown.

use crate::served::{Served, eventually, get};
use crate::views_served::{get_as, queries, with_views};

/// Values of every kind that is odd to filter by; `z` and `id` stand first, so that one is sought and one is looked for.
fn odd(first: &str, second: &str) -> String {
    format!(
        "SELECT {first}, {second}, price, bytes, text, at, day FROM (VALUES
            (1, CAST('-0' AS DOUBLE), CAST('1.50' AS DECIMAL(10, 2)), CAST(X'00ab' AS BYTEA), 'a',
             TIMESTAMP '2026-11-23 06:47:23.785', DATE '2026-11-23'),
            (2, CAST('0' AS DOUBLE), NULL, NULL, '', NULL, NULL),
            (3, CAST('NaN' AS DOUBLE), CAST('-7' AS DECIMAL(10, 2)), CAST(X'' AS BYTEA), NULL, NULL, NULL),
            (4, CAST('Infinity' AS DOUBLE), NULL, NULL, 'null', NULL, NULL),
            (5, NULL, NULL, NULL, 'is.null', NULL, NULL),
            (6, CAST('-NaN' AS DOUBLE), NULL, NULL, 'NaN', NULL, NULL),
            (7, CAST('-Infinity' AS DOUBLE), NULL, NULL, NULL, NULL, NULL)
         ) AS v (id, z, price, bytes, text, at, day)"
    )
}

#[test]
fn rows_are_found_by_what_is_shown_of_them() {
    let folder = queries(&[("sought", &odd("z", "id")), ("looked", &odd("id", "z"))]);
    let (served, _feed) = Served::fed(with_views(folder.path()));
    let at = served.readers;
    for view in ["sought", "looked"] {
        let path = format!("/api/tarn/v1/views/{view}");
        eventually("all rows", || get(at, &path).json()["items"].as_array().is_some_and(|rows| rows.len() == 7));
        for (filter, expected) in [
            ("z=0", &[1, 2][..]),
            ("z=-0.0", &[1, 2]),
            ("z=NaN", &[3, 6]),
            ("z=Infinity", &[4]),
            ("z=-Infinity&z=0", &[1, 2, 7]),
            ("isNull=z", &[5]),
            ("isNull=z&z=NaN", &[3, 5, 6]),
            ("isNull=text", &[3, 7]),
            ("text=", &[2]),
            ("text=null", &[4]),
            ("isNull=text,z", &[]),
            ("isNull=text,price", &[7]),
            ("isNull=text&price=-7.000", &[3]),
            ("price=1.5", &[1]),
            ("price=%2B01.500", &[1]),
            ("bytes=00AB", &[1]),
            ("bytes=", &[3]),
            ("column.at=2026-11-23T06:47:23.785", &[1]),
            ("day=2026-11-23", &[1]),
        ] {
            let answer = get(at, &format!("{path}?{filter}"));
            assert_eq!(answer.status, 200, "{filter}: {}", answer.body);
            let rows = answer.json()["items"].as_array().expect("a list").clone();
            let mut ids: Vec<u64> = rows.iter().map(|row| row["id"].as_u64().expect("a number")).collect();
            ids.sort_unstable();
            assert_eq!(ids, expected, "{view}: {filter}");
        }
        for (filter, words) in [
            ("price=1.505", "`1.505` is no value of the column `price`, which is numeric(10,2)"),
            ("bytes=0", "bytea, as hex"),
            ("bytes=%2B1", "bytea, as hex"),
            ("day=2026-11-23T06:47:23", "`day`, which is date"),
            ("id=1.0", "`id`"),
            ("isNull=colour", "there is no column `colour`"),
            ("isNull=", "isNull"),
            ("isNull=z&isNull=text", "isNull"),
        ] {
            let answer = get(at, &format!("{path}?{filter}"));
            assert!(answer.status == 400 && answer.body.contains(words), "{filter}: {}", answer.body);
        }
    }
}

#[test]
fn floats_that_are_no_numbers_and_empty_texts_are_shown_as_postgresql_does() {
    let folder = queries(&[("looked", &odd("id", "z"))]);
    let (served, _feed) = Served::fed(with_views(folder.path()));
    let at = served.readers;
    let path = "/api/tarn/v1/views/looked";
    eventually("all rows", || get(at, path).json()["items"].as_array().is_some_and(|rows| rows.len() == 7));
    let rows = get(at, path).json()["items"].clone();
    let z = |place: usize| rows[place]["z"].clone();
    assert_eq!(
        (z(2), z(3), z(4), z(5), z(6)),
        ("NaN".into(), "Infinity".into(), ().into(), "NaN".into(), "-Infinity".into())
    );
    let (_, csv) = get_as(at, path, "text/csv");
    let expected = "id,z,price,bytes,text,at,day\n\
                    1,-0.0,1.50,00ab,a,2026-11-23T06:47:23.785,2026-11-23\n\
                    2,0.0,,,\"\",,\n\
                    3,NaN,-7.00,\"\",,,\n\
                    4,Infinity,,,null,,\n\
                    5,,,,is.null,,\n\
                    6,NaN,,,NaN,,\n\
                    7,-Infinity,,,,,\n";
    assert_eq!(String::from_utf8(csv).expect("UTF-8"), expected);
}

#[test]
fn columns_that_are_called_as_parameters_are_filtered_by_a_name_of_their_own() {
    let named = "SELECT id, \"after\", \"token\", \"asOf\", \"timeout\", \"column.id\", \"limit\" FROM (VALUES
                    (1, 5, 'a', 'x', true, 10, 7),
                    (2, 6, 'b', 'y', false, 20, 8),
                    (3, 6, 'a', NULL, false, 1, NULL)
                 ) AS v (id, \"after\", \"token\", \"asOf\", \"timeout\", \"column.id\", \"limit\")";
    let folder = queries(&[("named", named)]);
    let (served, _feed) = Served::fed(with_views(folder.path()));
    let at = served.readers;
    let path = "/api/tarn/v1/views/named";
    eventually("all rows", || get(at, path).json()["items"].as_array().is_some_and(|rows| rows.len() == 3));
    for (filter, expected) in [
        ("column.after=6", &[2, 3][..]),
        ("column.after=6&limit=1", &[2]),
        ("column.after=5&column.after=6", &[1, 2, 3]),
        ("column.token=a", &[1, 3]),
        ("column.asOf=y", &[2]),
        ("column.asOf=y&isNull=asOf", &[2, 3]),
        ("column.timeout=false&column.token=a", &[3]),
        ("column.limit=8&limit=1", &[2]),
        ("isNull=limit&orderBy=limit", &[3]),
        ("column.timeout=false&orderBy=-after,-id", &[3, 2]),
        // Whatever a column is called; both names are of one column.
        ("column.id=2", &[2]),
        ("column.id=2&id=1", &[1, 2]),
        ("column.column.id=1", &[3]),
        ("column%2Eid=3", &[3]),
    ] {
        let answer = get(at, &format!("{path}?{filter}"));
        assert_eq!(answer.status, 200, "{filter}: {}", answer.body);
        let rows = answer.json()["items"].as_array().expect("a list").clone();
        let ids: Vec<u64> = rows.iter().map(|row| row["id"].as_u64().expect("a number")).collect();
        assert_eq!(ids, expected, "{filter}");
    }
    // A page goes on with the filter that it began with, however the column is named.
    let first = get(at, &format!("{path}?column.after=6&limit=1")).json();
    let token = first["nextPageToken"].as_str().expect("there is another row");
    let second = get(at, &format!("{path}?column.after=6&limit=1&pageToken={token}")).json();
    assert_eq!(second["items"][0]["id"], 3);
    let many = vec!["id=1"; 60].into_iter().chain(vec!["column.id=1"; 60]).collect::<Vec<_>>().join("&");
    for (filter, words) in [
        ("column.colour=1", "there is no column `colour`; the columns are id, after,"),
        ("column.=1", "there is no column ``"),
        ("column.after=many", "`many` is no value of the column `after`"),
        (many.as_str(), "`id` is given 120 times; at most 100 are allowed"),
    ] {
        let answer = get(at, &format!("{path}?{filter}"));
        assert!(answer.status == 400 && answer.body.contains(words), "{filter}: {}", answer.body);
    }
    // Where there are no columns it is a parameter that is not known.
    let elsewhere = get(at, &format!("{path}/errors?column.after=1"));
    assert!(elsewhere.status == 400 && elsewhere.body.contains("unknown parameter"), "{}", elsewhere.body);
}

#[test]
fn columns_with_odd_names_and_values_are_asked_for() {
    let folder = queries(&[
        ("named", r#"SELECT 1 AS "a,b", 2 AS "-x", 3 AS x, 'p' || chr(10) || 'q' AS t"#),
        ("lists", "SELECT regexp_match('abc', 'b') AS l, 1 AS id"),
        ("lengths", "SELECT TIMESTAMP '2026-01-02' - TIMESTAMP '2026-01-01' AS d, 1 AS id"),
        ("pages", "SELECT * FROM (VALUES ('a', 1), ('a', 2), ('b', 1)) AS v (k, n)"),
    ]);
    let (served, _feed) = Served::fed(with_views(folder.path()));
    let at = served.readers;
    let ask = |query: &str| get(at, &format!("/api/tarn/v1/views/{query}"));
    eventually("all views", || ["named", "lists", "lengths", "pages"].iter().all(|view| ask(view).status == 200));
    let long = format!("named?t={}", "x".repeat(4_000));
    for (query, rows) in [
        ("named?orderBy=%22a,b%22,-%22-x%22", 1),
        ("named?isNull=%22a,b%22", 0),
        ("named?a,b=1&-x=2", 1),
        ("named?t=p%0Aq", 1),
        (&long, 0),
        ("lists?isNull=l", 0),
        ("lengths?d=PT86400S", 1),
        ("lengths?d=PT86401S", 0),
    ] {
        let answer = ask(query);
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        assert_eq!(answer.json()["items"].as_array().map(Vec::len), Some(rows), "{query}: {}", answer.body);
    }
    for query in ["lists?l=b", "lists?l=[b]", "named?orderBy=a,b"] {
        assert_eq!(ask(query).status, 400, "{query}");
    }
    let page = ask("pages?k=b&k=a&limit=1").json();
    let token = page["nextPageToken"].as_str().expect("there are more");
    let next = ask(&format!("pages?k=a&k=b&k=a&limit=5&pageToken={token}"));
    assert_eq!(next.json()["items"].as_array().map(Vec::len), Some(2), "{}", next.body);
    let other = ask(&format!("named?pageToken={token}"));
    assert!(other.status == 400 && other.body.contains("another list"), "{}", other.body);
}
