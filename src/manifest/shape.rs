//! What a manifest may look like, as data: the parser's rules and the JSON Schema come from the same description.
//!
//! `keys` describes manifest version 1 with these types; `fit` holds a file against it and collects every
//! problem; `schema` turns it into JSON Schema. What ties two places of a manifest together is in `checks`.

use std::ops::Range;

use super::yaml::Value;

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
    pub secrecy: Secrecy,
}

/// Whether a text may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrecy {
    Open,
    /// A URL of which only the host may be shown: what stands before and behind it may be a secret.
    Url,
    /// It may be a secret, and is not shown.
    Masked,
    /// It is one, and not shown; a literal one is a lint warning.
    Secret,
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

impl Shape {
    /// Tells whether the YAML type fits; the content is another matter.
    pub fn takes(&self, value: &Value) -> bool {
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
    pub fn what(&self) -> String {
        match self {
            Shape::Bool => "`true` or `false`".to_owned(),
            Shape::Integer { .. } => "a whole number".to_owned(),
            Shape::Word(words) => one_of(words),
            Shape::Text(kind) => kind.what.to_owned(),
            Shape::Null => "`null`".to_owned(),
            Shape::List { .. } => "a list".to_owned(),
            Shape::Map { name, .. } => format!("a map of {}", name.what),
            Shape::Record(record) => format!("{} (a map of keys)", record.what),
            Shape::Either(shapes) => shapes.iter().map(Shape::what).collect::<Vec<_>>().join(", or "),
        }
    }

    pub fn is_secret(&self) -> bool {
        match self {
            Shape::Text(kind) => kind.secrecy != Secrecy::Open,
            Shape::Either(shapes) => shapes.iter().any(Shape::is_secret),
            _ => false,
        }
    }

    /// Tells whether a secret may stand anywhere in it.
    pub fn may_hold_secrets(&self) -> bool {
        match self {
            Shape::List { of, .. } | Shape::Map { of, .. } => of.may_hold_secrets(),
            Shape::Record(record) => record.keys.iter().any(|key| key.shape.may_hold_secrets()),
            Shape::Either(shapes) => shapes.iter().any(Shape::may_hold_secrets),
            shape => shape.is_secret(),
        }
    }

    /// Tells whether `name` is a key anywhere in it.
    pub fn has_key(&self, name: &str) -> bool {
        match self {
            Shape::List { of, .. } | Shape::Map { of, .. } => of.has_key(name),
            Shape::Record(record) => record
                .keys
                .iter()
                .any(|key| key.name == name || key.shape.has_key(name)),
            Shape::Either(shapes) => shapes.iter().any(|shape| shape.has_key(name)),
            _ => false,
        }
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
