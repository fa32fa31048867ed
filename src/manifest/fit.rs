//! Holds a tree against its shape and collects every problem, each at its place.
//!
//! Goes down the tree once. Structure, single words and single texts are checked here; what ties two places together
//! is in `checks`.

use std::collections::HashMap;
use std::sync::Arc;

use super::diagnostic::Diagnostic;
use super::mask::literal_password;
use super::shape::{Record, Secrecy, Shape, TextKind, Wrong, one_of};
use super::source::{Place, Source, inside};
use super::text::{Text, literal_secret};
use super::yaml::{Node, Value};
use crate::names::nearest;

/// More problems than this nobody reads, and a hostile file could make millions.
pub(super) const MAX_PROBLEMS: usize = 200;

/// Holds `node` against `shape`; every problem goes to `out`.
pub(super) fn check(node: &Node, shape: &Shape, source: &Arc<Source>, out: &mut Vec<Diagnostic>) {
    if out.len() >= MAX_PROBLEMS {
        return;
    }
    let place = Place::new(source, node.span.clone());
    if is_bare_template(&node.value) && shape.takes(&Value::Text(String::new())) {
        out.push(wrong_type(node, shape, &place));
        return;
    }
    match (shape, &node.value) {
        (Shape::Bool, Value::Bool(_)) | (Shape::Null, Value::Null) => {}
        (Shape::Integer { min, max }, Value::Integer(found)) => {
            if *found < i128::from(*min) || *found > i128::from(*max) {
                let (message, expected) = match min == max {
                    true => ("the value is not known here", format!("`{min}`")),
                    false => (
                        "the number is out of range",
                        format!("a whole number from {min} to {max}"),
                    ),
                };
                out.push(
                    Diagnostic::error(&place, message)
                        .expected(expected)
                        .found(format!("`{found}`")),
                );
            }
        }
        (Shape::Word(words), Value::Text(found)) => check_word(words, found, shape.what(), &place, out),
        (Shape::Text(kind), Value::Text(text)) => {
            out.extend(check_text(kind, text, node, source));
            out.extend(lint_secret(kind, text, &place));
        }
        (Shape::List { of, least }, Value::List(items)) => {
            if items.len() < *least {
                out.push(Diagnostic::error(&place, "the list is empty").expected("at least one entry"));
            }
            items.iter().for_each(|item| check(item, of, source, out));
        }
        (Shape::Map { name, of, least }, Value::Map(entries)) => {
            if entries.len() < *least {
                out.push(Diagnostic::error(&place, "the map is empty").expected("at least one entry"));
            }
            for (key, value) in checked_keys(entries, name.what, source, out) {
                if let Value::Text(text) = &key.value {
                    out.extend(check_text(name, text, key, source));
                }
                check(value, of, source, out);
            }
        }
        (Shape::Record(record), Value::Map(entries)) => check_record(record, entries, &place, source, out),
        (Shape::Either(shapes), _) if shapes.iter().any(|shape| shape.takes(&node.value)) => {
            // Words and texts are both text: a text that is none of the words falls through to the text.
            let fits = |shape: &&Shape| match (shape, &node.value) {
                (Shape::Word(words), Value::Text(text)) => words.contains(&text.as_str()),
                _ => shape.takes(&node.value),
            };
            let takes = || shapes.iter().find(|one| one.takes(&node.value));
            if let Some(one) = shapes.iter().find(fits).or_else(takes) {
                match (one, &node.value) {
                    // No known word: it may have been meant to be something else that fits here.
                    (Shape::Word(words), Value::Text(found)) => check_word(words, found, shape.what(), &place, out),
                    _ => check(node, one, source, out),
                }
            }
        }
        _ => out.push(wrong_type(node, shape, &place)),
    }
}

fn check_word(words: &[&str], found: &str, expected: String, place: &Place, out: &mut Vec<Diagnostic>) {
    if !words.contains(&found) {
        out.push(
            Diagnostic::error(place, format!("`{found}` is not known here"))
                .expected(expected)
                .nearest(nearest(found, words.iter().copied())),
        );
    }
}

fn check_text(kind: &TextKind, text: &str, node: &Node, source: &Arc<Source>) -> Option<Diagnostic> {
    let wrong = match text.find('\0') {
        // No text of PostgreSQL holds one, nor does any of the protocols.
        Some(at) => Wrong::new("the text holds a NUL character").at(at, at + 1),
        None => (kind.check)(text).err()?,
    };
    let span = wrong
        .at
        .map_or(node.span.clone(), |at| inside(source.shown(), &node.span, text, at));
    let mut diagnostic = Diagnostic::error(&Place::new(source, span), wrong.message).expected(kind.what);
    diagnostic.nearest = wrong.nearest;
    diagnostic.next = wrong.next;
    Some(diagnostic)
}

/// Warns of a secret that is spelt out.
fn lint_secret(kind: &TextKind, text: &str, place: &Place) -> Option<Diagnostic> {
    let spelt_out = kind.secrecy == Secrecy::Secret && Text::check(text).is_ok() && literal_secret(text);
    let message = match (spelt_out, literal_password(text).is_some()) {
        (true, _) => "the secret is spelt out in the manifest",
        (_, true) => "the password in the URL is spelt out in the manifest",
        _ => return None,
    };
    Some(
        Diagnostic::warning(place, message)
            .expected("a reference")
            .next("write `${env:NAME}` or `${file:PATH}`"),
    )
}

fn check_record(
    record: &Record,
    entries: &[(Node, Node)],
    place: &Place,
    source: &Arc<Source>,
    out: &mut Vec<Diagnostic>,
) {
    let known = || record.keys.iter().map(|key| key.name);
    let mut given: Vec<&str> = Vec::new();
    for (key, value) in checked_keys(entries, "a known key", source, out) {
        let Value::Text(name) = &key.value else { continue };
        match record.keys.iter().find(|key| key.name == name) {
            Some(known) => {
                given.push(known.name);
                check(value, &known.shape, source, out);
            }
            None => {
                let nearest = nearest(name, known().filter(|name| !given.contains(name)));
                let unknown = Diagnostic::error(
                    &Place::new(source, key.span.clone()),
                    format!("`{name}` is no key of {}", record.what),
                );
                out.push(unknown.expected(one_of(&known().collect::<Vec<_>>())).nearest(nearest));
            }
        }
    }
    for key in record
        .keys
        .iter()
        .filter(|key| key.required && !given.contains(&key.name))
    {
        out.push(
            Diagnostic::error(place, format!("{} has no `{}`", record.what, key.name))
                .expected(format!("`{}`: {}", key.name, key.shape.what()))
                .next(key.doc),
        );
    }
    let chosen = given.iter().filter(|name| record.one_of.contains(name)).count();
    if !record.one_of.is_empty() && chosen != 1 {
        let message = match chosen {
            0 => format!("{} has none of the keys {}", record.what, one_of(record.one_of)),
            _ => format!(
                "{} has more than one of the keys {}",
                record.what,
                one_of(record.one_of)
            ),
        };
        out.push(Diagnostic::error(place, message).expected("exactly one of them"));
    }
}

/// Passes on the entries whose key is a text that did not stand before; the others are reported.
fn checked_keys<'a>(
    entries: &'a [(Node, Node)],
    expected: &str,
    source: &Arc<Source>,
    out: &mut Vec<Diagnostic>,
) -> Vec<&'a (Node, Node)> {
    let mut first: HashMap<&str, &Node> = HashMap::new();
    let mut passed = Vec::new();
    for entry in entries {
        let place = Place::new(source, entry.0.span.clone());
        match &entry.0.value {
            Value::Text(name) => match first.get(name.as_str()) {
                Some(before) => out.push(
                    Diagnostic::error(&place, format!("`{name}` stands here a second time"))
                        .related(&Place::new(source, before.span.clone()), "first here"),
                ),
                None => {
                    first.insert(name, &entry.0);
                    passed.push(entry);
                }
            },
            other => {
                let error = Diagnostic::error(&place, "the key is not a text")
                    .expected(expected)
                    .found(found(other, false));
                out.push(error.next("put it in quotes"));
            }
        }
    }
    passed
}

fn wrong_type(node: &Node, shape: &Shape, place: &Place) -> Diagnostic {
    let error = Diagnostic::error(place, "the value is of the wrong type")
        .expected(shape.what())
        .found(found(&node.value, shape.is_secret()));
    let text_is_fine = shape.takes(&Value::Text(String::new()));
    match &node.value {
        value if is_bare_template(value) => error.next("put the template in quotes: bare, YAML takes `{{` for a map"),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) if text_is_fine => {
            error.next("put it in quotes to make it a text")
        }
        Value::Text(text) if shape.takes(&Value::List(Vec::new())) && !text.is_empty() => {
            error.next(format!("write `[{text}]` for a list with one entry"))
        }
        Value::Text(text) if matches!(shape, Shape::Integer { .. }) && text.parse::<i64>().is_ok() => {
            error.next("write it without quotes")
        }
        Value::Text(text) if matches!(shape, Shape::Bool) && matches!(text.as_str(), "yes" | "on" | "y") => {
            error.next("write `true`")
        }
        Value::Text(text) if matches!(shape, Shape::Bool) && matches!(text.as_str(), "no" | "off" | "n") => {
            error.next("write `false`")
        }
        _ => error,
    }
}

/// A bare `{{ … }}` is a map in a map to YAML.
fn is_bare_template(value: &Value) -> bool {
    let Value::Map(entries) = value else { return false };
    matches!(
        entries.as_slice(),
        [(
            Node {
                value: Value::Map(_),
                ..
            },
            Node { value: Value::Null, .. }
        )]
    )
}

fn found(value: &Value, secret: bool) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) if secret => "a value that is no text".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Integer(value) => format!("the number `{value}`"),
        // (`1.0` is not `1`.)
        Value::Float(value) => format!("the number `{value:?}`"),
        Value::Text(_) => "a text".to_owned(),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map".to_owned(),
    }
}
