//! Where the values of a query stand: `{{ … }}` is a parameter, so it stands where SQL takes a value, and in no quotes and no comment.
//!
//! Called by `kinds` for queries that compile; pure. It knows of SQL what begins and ends a literal, a name in quotes and a comment; a value
//! in there would be a part of the text that the server reads.

use std::ops::Range;

use super::shape::Wrong;
use super::template_parts::{Part, parts};

/// What a place of a statement is in.
#[derive(Debug, PartialEq)]
enum Inside {
    Statement,
    /// `'…'`; in `E'…'` a backslash escapes.
    Literal {
        escapes: bool,
    },
    /// `"…"`.
    Name,
    /// `-- …`.
    Line,
    /// `/* … */`, as often as it is open.
    Comment(usize),
    /// `$tag$ … $tag$`, with the tag.
    Dollars(String),
}

/// Checks where the `{{ … }}` of a query stand.
pub(super) fn check(text: &str) -> Result<(), Wrong> {
    let mut inside = Inside::Statement;
    for part in parts(text) {
        match part {
            Part::Text(Range { start: mut at, end }) => {
                while at < end {
                    at += inside.step(&text[..end], at);
                }
            }
            Part::Code(block) if block.tag().is_some() => {}
            Part::Code(block) => {
                if let Some((place, next)) = inside.words() {
                    let wrong = Wrong::new(format!("a value stands in {place}"));
                    return Err(wrong.at(block.at.start, block.at.end).next(next));
                }
            }
        }
    }
    Ok(())
}

/// Returns the statement with a parameter for each `{{ … }}`; nothing where `{% … %}` makes of it what it is.
pub(super) fn statement(text: &str) -> Option<String> {
    let (mut statement, mut parameters) = (String::new(), 0);
    for part in parts(text) {
        match part {
            Part::Text(at) => statement.push_str(&text[at]),
            Part::Code(block) if block.tag().is_some() => return None,
            Part::Code(_) => {
                parameters += 1;
                statement.push_str(&format!("${parameters}"));
            }
        }
    }
    Some(statement)
}

impl Inside {
    /// Says where that is and what to do; `None`: a value may stand there.
    fn words(&self) -> Option<(&'static str, &'static str)> {
        const BARE: &str =
            "take the quotes away, a value is a parameter: `a = {{ row.a }}`, `a like {{ row.a }} || '%'`";
        match self {
            Inside::Statement => None,
            Inside::Literal { .. } => Some(("a literal", BARE)),
            Inside::Dollars(_) => Some(("a text between dollars", BARE)),
            Inside::Name => Some((
                "a name in quotes",
                "a value is a parameter, and cannot stand for a name",
            )),
            Inside::Line | Inside::Comment(_) => Some(("a comment", "take it out of the comment")),
        }
    }

    /// Goes on by one step from the place `at`, and returns how long that was.
    fn step(&mut self, text: &str, at: usize) -> usize {
        let rest = &text[at..];
        let one = rest.chars().next().map_or(1, char::len_utf8);
        let (next, length) = match self {
            Inside::Statement => return self.begin(text, at, one),
            Inside::Literal { escapes: true } if rest.starts_with('\\') => {
                return one + rest[1..].chars().next().map_or(0, char::len_utf8);
            }
            Inside::Literal { .. } if rest.starts_with("''") => return 2,
            Inside::Literal { .. } if rest.starts_with('\'') => (Inside::Statement, 1),
            Inside::Name if rest.starts_with('"') => (Inside::Statement, 1),
            Inside::Line if rest.starts_with('\n') => (Inside::Statement, 1),
            Inside::Comment(1) if rest.starts_with("*/") => (Inside::Statement, 2),
            Inside::Comment(depth) if rest.starts_with("*/") => (Inside::Comment(*depth - 1), 2),
            Inside::Comment(depth) if rest.starts_with("/*") => (Inside::Comment(*depth + 1), 2),
            Inside::Dollars(tag) if rest.starts_with(tag.as_str()) => (Inside::Statement, tag.len()),
            _ => return one,
        };
        *self = next;
        length
    }

    /// A step in the statement itself.
    fn begin(&mut self, text: &str, at: usize, one: usize) -> usize {
        let rest = &text[at..];
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let mut before = text[..at].chars().rev();
        let last = before.next();
        let (next, length) = if rest.starts_with('\'') {
            let is_marked = matches!(last, Some('e' | 'E')) && !before.next().is_some_and(is_word);
            (Inside::Literal { escapes: is_marked }, 1)
        } else if rest.starts_with('"') {
            (Inside::Name, 1)
        } else if rest.starts_with("--") {
            (Inside::Line, 2)
        } else if rest.starts_with("/*") {
            (Inside::Comment(1), 2)
        } else if let Some(tag) = dollars(rest).filter(|_| !last.is_some_and(is_word)) {
            (Inside::Dollars(tag.to_owned()), tag.len())
        } else {
            return one;
        };
        *self = next;
        length
    }
}

/// Returns the `$tag$` that a text begins with.
fn dollars(rest: &str) -> Option<&str> {
    let tag = rest.strip_prefix('$')?;
    let end = tag.find('$')?;
    let tag = &tag[..end];
    let is_tag = tag.chars().all(|c| c.is_alphanumeric() || c == '_') && !tag.starts_with(|c: char| c.is_ascii_digit());
    is_tag.then(|| &rest[..end + 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_where_sql_takes_values() {
        for fine in [
            "select a from t where b = {{ row.b }} and c <> 'O''Hara' -- it's",
            "select {{ row.a }}::text || 'x' /* ' /* \" */ ' */ || {{ row.b }}",
            "select 'a' like {{ row.a }} || '%', E'it\\'s', {{ row.b }}",
            "select $$it's$$, $a$ $$ ' $a$, {{ row.b }}, x$1 from \"it's\" where {{ row.c }}",
            "select {{ \"it's }} '\" }} , {{ row.a }}",
            "select '{% if row.a %}a{% endif %}{# {{ x #}', {{ row.b }}",
            "{% raw %}select '{{ a }}'{% endraw %} {{ row.b }}",
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn each_value_of_a_statement_is_a_parameter() {
        for (text, expected) in [
            ("select 1", Some("select 1")),
            (
                "select {{ row.a }}, {{ row.a | lower }}{# both #} from t",
                Some("select $1, $2 from t"),
            ),
            ("select {% if row.a %}a{% endif %}", None),
        ] {
            assert_eq!(statement(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn values_in_quotes_and_comments_are_found_where_they_stand() {
        for (text, value, place) in [
            ("select m from t where a = '{{ row.a }}'", "{{ row.a }}", "a literal"),
            ("select 'it''s {{ row.a }}'", "{{ row.a }}", "a literal"),
            ("select E'\\'{{ row.a }}'", "{{ row.a }}", "a literal"),
            (
                "select 'é', {{ row.x }}, '%{{- row.é -}}%'",
                "{{- row.é -}}",
                "a literal",
            ),
            ("select E'\\{{ row.a }}'", "{{ row.a }}", "a literal"),
            ("select \"{{ row.a }}\"", "{{ row.a }}", "a name in quotes"),
            ("select 1 -- {{ row.a }}", "{{ row.a }}", "a comment"),
            ("select /* /* */ {{ row.a }} */ 1", "{{ row.a }}", "a comment"),
            ("select $x$ $$ {{ row.a }} $x$", "{{ row.a }}", "a text between dollars"),
            (
                "select '{% if row.a %}{{ row.b }}{% endif %}'",
                "{{ row.b }}",
                "a literal",
            ),
        ] {
            let wrong = check(text).unwrap_err();
            assert_eq!(&text[wrong.at.clone().unwrap()], value, "{text}");
            assert!(wrong.message.ends_with(place), "{text}: {}", wrong.message);
        }
    }
}
