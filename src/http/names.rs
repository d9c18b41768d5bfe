//! Lists of columns in a parameter: names separated by commas, where one that holds a comma, or begins with what would mean
//! something else, stands in double quotes, in which a quote is written twice.

/// The names of a list as they are written, each with its sign and its quotes.
pub(super) fn listed(text: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut is_quoted = false;
    for character in text.chars() {
        let last = names.last_mut().expect("there is one from the beginning on");
        match character {
            '"' if is_quoted || matches!(last.as_str(), "" | "-") || last.ends_with('"') && begins_quoted(last) => {
                is_quoted = !is_quoted;
                last.push(character);
            }
            ',' if !is_quoted => names.push(String::new()),
            _ => last.push(character),
        }
    }
    names
}

/// A name without its quotes; one that has none as it is.
pub(super) fn unquoted(name: &str) -> String {
    let inner = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.map_or_else(|| name.to_owned(), |inner| inner.replace("\"\"", "\""))
}

fn begins_quoted(name: &str) -> bool {
    name.trim_start_matches('-').starts_with('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_between_commas_and_in_quotes_where_they_hold_some() {
        for (text, expected) in [
            ("a", &["a"][..]),
            ("a,-b", &["a", "-b"]),
            ("\"a,b\",c", &["\"a,b\"", "c"]),
            ("-\"a,b\",\"-x\"", &["-\"a,b\"", "\"-x\""]),
            ("\"a\"\",b\"", &["\"a\"\",b\""]),
            ("q\"q,r", &["q\"q", "r"]),
            ("a,", &["a", ""]),
        ] {
            assert_eq!(listed(text), expected, "{text}");
        }
        assert_eq!(unquoted("\"a\"\",b\""), "a\",b");
        assert_eq!((unquoted("q\"q"), unquoted("\"")), ("q\"q".to_owned(), "\"".to_owned()));
    }
}
