//! Keeps secrets from being shown: finds where in a file they are spelt out.
//!
//! [`secrets`] knows from the shape which values are secret; [`suspicious`] guesses from the text alone, for files that
//! are no YAML. `Source` masks what either finds.

use std::ops::Range;

use super::shape::Shape;
use super::text::literal_secret;
use super::yaml::{Node, Value};
use crate::names::nearest;

/// Collects the places of literal secrets, so that nothing shows them; a misspelt key of a secret counts too.
pub(super) fn secrets(node: &Node, shape: &Shape, out: &mut Vec<Range<usize>>) {
    match (shape, &node.value) {
        (Shape::List { of, .. }, Value::List(items)) => items.iter().for_each(|item| secrets(item, of, out)),
        (Shape::Map { of, .. }, Value::Map(entries)) => entries.iter().for_each(|(_, value)| secrets(value, of, out)),
        (Shape::Record(record), Value::Map(entries)) => {
            for (key, value) in entries {
                let Value::Text(name) = &key.value else { continue };
                let known = nearest(name, record.keys.iter().map(|key| key.name));
                if let Some(key) = record.keys.iter().find(|key| Some(key.name) == known) {
                    secrets(value, &key.shape, out);
                }
            }
        }
        (Shape::Either(shapes), _) => shapes.iter().for_each(|shape| secrets(node, shape, out)),
        (Shape::Text(_), _) if shape.is_secret() => mask_all(node, out),
        _ => {}
    }
}

/// Whatever stands in the place of a secret is taken for one, lists and maps included.
fn mask_all(node: &Node, out: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Text(text) => out.extend(literal_secret(text).then(|| node.span.clone())),
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => out.push(node.span.clone()),
        Value::List(items) => items.iter().for_each(|item| mask_all(item, out)),
        Value::Map(entries) => entries.iter().for_each(|(key, value)| {
            mask_all(key, out);
            mask_all(value, out);
        }),
        Value::Null => {}
    }
}

/// Finds what looks like a secret by its key alone (`password: x`, `token = …`, `://user:password@`).
///
/// For texts that are no YAML, of which nothing better is known. References (`${…}`) are no secrets.
pub(super) fn suspicious(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        for word in ["password", "secret", "token", "passwd", "authorization"] {
            for (at, _) in lower.match_indices(word) {
                found.extend(value_after(line, at + word.len()).map(|r| start + r.start..start + r.end));
            }
        }
        for (at, _) in line.match_indices("://") {
            found.extend(literal_password(&line[at..]).map(|r| start + at + r.start..start + at + r.end));
        }
        start += line.len();
    }
    found
}

/// Returns where in `text` a URL spells its password out (`://user:password@`).
pub(super) fn literal_password(text: &str) -> Option<Range<usize>> {
    let start = text.find("://")? + 3;
    let authority = &text[start..];
    let authority = &authority[..authority.find(['?', ' ', '"', '\'', '#']).unwrap_or(authority.len())];
    // The last `@` ends the password, which may hold others when someone forgot to escape them.
    let end = authority.rfind('@')?;
    let colon = authority[..end].find(':')? + 1;
    (colon < end && !authority[colon..end].starts_with("${")).then(|| start + colon..start + end)
}

/// Returns what follows `:` or `=` behind a key that ends at `at`, to the end of the line or of a quoted text.
fn value_after(line: &str, at: usize) -> Option<Range<usize>> {
    let rest = &line[at..];
    let trimmed = rest.trim_start_matches(['"', '\'', ' ']);
    let value = trimmed.strip_prefix([':', '='])?.trim_start();
    let begin = line.len() - value.len();
    let (begin, end) = match value.chars().next()? {
        quote @ ('"' | '\'') => {
            let close = value[1..].find(quote).map_or(value.trim_end().len(), |end| end + 1);
            (begin + 1, begin + close)
        }
        _ => (begin, begin + value.find([',', '}', '&']).unwrap_or(value.len())),
    };
    let secret = line[begin..end].trim_end();
    (!secret.is_empty() && !secret.starts_with("${") && !secret.starts_with(['{', '|', '>', '#', '*']))
        .then(|| begin..begin + secret.len())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::source::Source;

    fn shown(text: &str) -> String {
        Source::new(Path::new("x"), text, &[]).shown().to_owned()
    }

    #[test]
    fn secrets_are_masked_byte_for_byte() {
        let cases = [
            ("password: abc # c\n", "password: *******\n"),
            ("x: {password: \"ab é\", y: 1}", "x: {password: \"*****\", y: 1}"),
            ("password: \"${env:X}\"", "password: \"${env:X}\""),
            ("uri: postgres://u:pw@h/db", "uri: postgres://u:**@h/db"),
            ("uri: postgres://u:${env:X}@h/db", "uri: postgres://u:${env:X}@h/db"),
            ("uri: host=h password=abc", "uri: host=h password=***"),
            ("token: \"abc", "token: \"***"),
            ("[a://u:p1@h, b://h, c://u:p2@h]", "[a://u:**@h, b://h, c://u:**@h]"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected);
            assert_eq!(shown(text).len(), text.len());
        }
    }
}
