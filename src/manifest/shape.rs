//! What a manifest may look like, as data: the parser's rules and the JSON Schema come from the same description.
//!
//! `keys` describes manifest version 1 with these types; [`check`] holds a file against it and collects every
//! problem; `schema` turns it into JSON Schema. What ties two places of a manifest together is in `checks`.

use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, nearest};
use super::source::{Place, Source, literal_password};
use super::text::{Text, literal_secret};
use super::yaml::{Node, Value};

/// What may stand at one place.
pub(super) enum Shape {
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    /// One of a few words.
    Word(&'static [&'static str]),
    Text(&'static TextKind),
    Null,
    List {
        of: &'static Shape,
        least: usize,
    },
    /// Names of the user's choice, each with the same kind of value.
    Map {
        name: &'static TextKind,
        of: &'static Shape,
        least: usize,
    },
    Record(&'static Record),
    /// The first that takes the node's YAML type.
    Either(&'static [Shape]),
}

/// A map with known keys.
pub(super) struct Record {
    /// What it is, with an article: "a group".
    pub what: &'static str,
    pub keys: &'static [Key],
    /// Of these keys exactly one must stand.
    pub one_of: &'static [&'static str],
}

/// One key of a [`Record`].
pub(super) struct Key {
    pub name: &'static str,
    pub shape: Shape,
    pub required: bool,
    pub doc: &'static str,
}

/// A text with a meaning of its own.
pub(super) struct TextKind {
    /// What it is, with an article: "a table name `schema.table`".
    pub what: &'static str,
    pub check: fn(&str) -> Result<(), Wrong>,
    /// For the JSON Schema; must accept whatever `check` accepts.
    pub regex: Option<&'static str>,
    /// Never shown; a literal one is a lint warning.
    pub secret: bool,
}

/// Why a text is not what it should be.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wrong {
    pub message: String,
    /// The bytes of the text; none: all of it.
    pub at: Option<Range<usize>>,
    pub nearest: Option<String>,
    pub next: Option<String>,
}

impl Wrong {
    pub fn new(message: impl Into<String>) -> Self {
        Wrong {
            message: message.into(),
            ..Wrong::default()
        }
    }

    pub fn at(mut self, start: usize, end: usize) -> Self {
        self.at = Some(start..end);
        self
    }

    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

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
        (Shape::Word(words), Value::Text(found)) => check_word(words, found, &place, out),
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
            if let Some(shape) = shapes
                .iter()
                .find(fits)
                .or(shapes.iter().find(|shape| shape.takes(&node.value)))
            {
                check(node, shape, source, out);
            }
        }
        _ => out.push(wrong_type(node, shape, &place)),
    }
}

impl Shape {
    /// Tells whether the YAML type fits; the content is another matter.
    fn takes(&self, value: &Value) -> bool {
        match (self, value) {
            (Shape::Either(shapes), _) => shapes.iter().any(|shape| shape.takes(value)),
            (Shape::Bool, Value::Bool(_))
            | (Shape::Null, Value::Null)
            | (Shape::Integer { .. }, Value::Integer(_))
            | (Shape::Word(_) | Shape::Text(_), Value::Text(_))
            | (Shape::List { .. }, Value::List(_))
            | (Shape::Map { .. } | Shape::Record(_), Value::Map(_)) => true,
            _ => false,
        }
    }

    /// Says what is expected, with an article.
    fn what(&self) -> String {
        match self {
            Shape::Bool => "`true` or `false`".to_owned(),
            Shape::Integer { .. } => "a whole number".to_owned(),
            Shape::Word(words) => one_of(words),
            Shape::Text(kind) => kind.what.to_owned(),
            Shape::Null => "`null`".to_owned(),
            Shape::List { .. } => "a list".to_owned(),
            Shape::Map { name, .. } => format!("a map of {}", name.what),
            Shape::Record(record) => format!("{} (a map of keys)", record.what),
            Shape::Either(shapes) => shapes.iter().map(Shape::what).collect::<Vec<_>>().join(" or "),
        }
    }

    fn is_secret(&self) -> bool {
        match self {
            Shape::Text(kind) => kind.secret,
            Shape::Either(shapes) => shapes.iter().any(Shape::is_secret),
            _ => false,
        }
    }
}

fn check_word(words: &[&str], found: &str, place: &Place, out: &mut Vec<Diagnostic>) {
    if !words.contains(&found) {
        out.push(
            Diagnostic::error(place, format!("`{found}` is not known here"))
                .expected(one_of(words))
                .nearest(nearest(found, words.iter().copied())),
        );
    }
}

fn check_text(kind: &TextKind, text: &str, node: &Node, source: &Arc<Source>) -> Option<Diagnostic> {
    let wrong = (kind.check)(text).err()?;
    let span = wrong
        .at
        .map_or(node.span.clone(), |at| inside(source.shown(), node, text, at));
    let mut diagnostic = Diagnostic::error(&Place::new(source, span), wrong.message).expected(kind.what);
    diagnostic.nearest = wrong.nearest;
    diagnostic.next = wrong.next;
    Some(diagnostic)
}

/// Warns of a secret that is spelt out.
fn lint_secret(kind: &TextKind, text: &str, place: &Place) -> Option<Diagnostic> {
    let spelt_out = kind.secret && Text::check(text).is_ok() && literal_secret(text);
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
    let mut first: std::collections::HashMap<&str, &Node> = std::collections::HashMap::new();
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
        Value::Float(value) => format!("the number `{value}`"),
        Value::Text(_) => "a text".to_owned(),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map".to_owned(),
    }
}

/// Says "`a`, `b` or `c`".
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

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
        (Shape::Text(kind), _) if kind.secret => mask_all(node, out),
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

/// Returns where in the file the bytes `at` of the node's `text` stand, walking quotes, escapes and line breaks.
///
/// Exact for texts on one line, as near as the walk gets for folded ones; never outside of the node.
pub(super) fn inside(file: &str, node: &Node, text: &str, at: Range<usize>) -> Range<usize> {
    let Some(raw) = file.get(node.span.clone()) else {
        return node.span.clone();
    };
    let quote = raw
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\'') && raw.len() > 1 && raw.ends_with(*c));
    let mut rest = raw.char_indices().peekable();
    if quote.is_some() {
        rest.next();
    }
    let mut start = None;
    let mut end = None;
    for (byte, c) in text.char_indices() {
        // Indentation and line breaks that the text does not hold.
        while rest
            .peek()
            .is_some_and(|(_, raw)| raw.is_whitespace() && *raw != c && !(c == ' ' && *raw == '\n'))
        {
            rest.next();
        }
        let Some((raw_byte, raw_char)) = rest.next() else { break };
        if byte == at.start {
            start = Some(raw_byte);
        }
        if byte == at.end {
            end = Some(raw_byte);
        }
        match (quote, raw_char) {
            (Some('\''), '\'') => {
                rest.next();
            }
            (Some('"'), '\\') => {
                let digits = match rest.next() {
                    Some((_, 'x')) => 2,
                    Some((_, 'u')) => 4,
                    Some((_, 'U')) => 8,
                    _ => 0,
                };
                (0..digits).for_each(|_| {
                    rest.next();
                });
            }
            _ => {}
        }
    }
    let last = raw.len() - usize::from(quote.is_some());
    let start = start.unwrap_or(last);
    let end = end.unwrap_or(last).max(start);
    node.span.start + start..node.span.start + end
}
