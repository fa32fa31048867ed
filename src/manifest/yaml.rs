//! YAML text to a tree in which every node knows its place.
//!
//! The only module that calls `serde_yaml`. A serde type would stop at its first error; this tree lets `fit` find
//! them all. Duplicate keys stay in the tree for the same reason. Depth, aliases and size are bounded by the parser's
//! budget, so a hostile file costs little.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Error, Location, Spanned};

/// A node and the bytes of the file it stands on. For lists and maps that is where they begin.
#[derive(Clone)]
pub(super) struct Node {
    pub span: Range<usize>,
    pub value: Value,
}

/// What a node holds.
#[derive(Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// Why the text is no YAML, or more of it than is taken.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub at: usize,
    pub message: String,
    pub next: Option<&'static str>,
}

/// The largest manifest that is read, in bytes.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Reads one YAML document; an empty one is [`Value::Null`].
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let budget = serde_yaml::budget! {
        max_events: 400_000,
        max_nodes: 200_000,
        max_depth: 48,
        max_documents: 2,
        max_aliases: 1_000,
        max_anchors: 1_000,
        max_recorded_anchor_events: 200_000,
        max_recorded_anchor_bytes: 2 * MAX_BYTES,
        max_total_scalar_bytes: 4 * MAX_BYTES,
        max_merge_keys: 1_000,
    };
    let options = serde_yaml::options! {
        budget: budget,
        duplicate_keys: serde_yaml::DuplicateKeyPolicy::LastWins,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: serde_yaml::NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    match serde_yaml::from_str_with_options::<Node>(text, options) {
        Ok(node) => Ok(node),
        Err(error) => Err(syntax_error(&error, text)),
    }
}

fn syntax_error(error: &Error, text: &str) -> SyntaxError {
    let error = error.without_snippet();
    let mut at = error.location().map_or(0, |location| start_of(&location, text));
    let message = error.to_string();
    if message.starts_with("unsupported tag") {
        // The library points behind the tag.
        at = text[..at].rfind('!').unwrap_or(at);
    }
    let breached = matches!(error, Error::Budget { .. })
        || message.starts_with("budget breached")
        || message.starts_with("recursion limit");
    let next = match text.get(at..).and_then(|rest| rest.chars().next()) {
        _ if breached => None,
        Some('*') => Some("quote a text that starts with `*`; bare, YAML takes it for an alias"),
        Some('!') => Some("quote a text that starts with `!`; bare, YAML takes it for a tag"),
        _ if message.starts_with("tabs") => Some("indent with blanks, not with tabs"),
        Some('@' | '`' | '%') => Some("quote a text that starts with this character"),
        _ if message.contains("mapping values are not allowed") => Some("quote a text that holds `: `"),
        _ => None,
    };
    let message = match error {
        _ if breached => "the manifest is too large or too deep, or its aliases make it so".to_owned(),
        _ if message.starts_with("recursive references") => "an alias stands inside what it is an alias of".to_owned(),
        _ if message.starts_with("multiple YAML documents") => "a second YAML document begins here".to_owned(),
        _ => without_position(&message),
    };
    SyntaxError { at, message, next }
}

/// Cuts the position off the library's message; ours says it in its own way.
fn without_position(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    line.trim_end_matches([':', ',', ' ']).to_owned()
}

/// Returns the byte that the line and column of `location` mean; errors of the scanner carry no byte offset.
fn start_of(location: &Location, text: &str) -> usize {
    let line = (location.line() as usize).saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let column = (location.column() as usize).saturating_sub(1);
    let rest = text[start..].split('\n').next().unwrap_or_default();
    start + rest.char_indices().nth(column).map_or(rest.len(), |(byte, _)| byte)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let place = if spanned.defined.line() > 0 {
            spanned.defined
        } else {
            spanned.referenced
        };
        let span = place.span();
        let start = span.byte_offset().unwrap_or(0) as usize;
        let end = start + span.byte_len().unwrap_or(0) as usize;
        Ok(Node {
            span: start..end,
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a tree as its values, each scalar with the text it stands on.
    fn show(text: &str) -> String {
        fn write(node: &Node, text: &str) -> String {
            let at = &text[node.span.clone()];
            match &node.value {
                Value::Null => "null".to_owned(),
                Value::Bool(value) => format!("{value}@{at}"),
                Value::Integer(value) => format!("{value}@{at}"),
                Value::Float(value) => format!("{value}@{at}"),
                Value::Text(value) => format!("{value:?}@{at}"),
                Value::List(items) => {
                    format!(
                        "[{}]",
                        items
                            .iter()
                            .map(|item| write(item, text))
                            .collect::<Vec<_>>()
                            .join(", ")
                    )
                }
                Value::Map(entries) => {
                    let entry = |(key, value): &(Node, Node)| format!("{}: {}", write(key, text), write(value, text));
                    format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
                }
            }
        }
        write(&parse(text).unwrap(), text)
    }

    #[test]
    fn every_scalar_knows_where_it_stands() {
        assert_eq!(show("é: 1\nb: 'it''s' # c\n"), r#"{"é"@é: 1@1, "b"@b: "it's"@'it''s'}"#);
        assert_eq!(show("a: \"x\\ny\"\n"), r#"{"a"@a: "x\ny"@"x\ny"}"#);
        assert_eq!(show("a: [1, { k: }]\n"), r#"{"a"@a: [1@1, {"k"@k: null}]}"#);
        assert_eq!(show("a: |\n  x\n  y\n"), "{\"a\"@a: \"x\\ny\\n\"@x\n  y\n}");
        assert_eq!(show("\u{feff}a: on\nb: no\n"), r#"{"a"@a: "on"@on, "b"@b: "no"@no}"#);
        assert_eq!(show("# nothing\n"), "null");
    }

    #[test]
    fn duplicate_keys_stay_and_merge_keys_merge() {
        assert_eq!(show("a: 1\na: 2\n"), r#"{"a"@a: 1@1, "a"@a: 2@2}"#);
        assert_eq!(
            show("x: &x { k: 1, l: 2 }\ny: { <<: *x, k: 3 }\n"),
            r#"{"x"@x: {"k"@k: 1@1, "l"@l: 2@2}, "y"@y: {"k"@k: 3@3, "l"@l: 2@2}}"#
        );
    }

    #[test]
    fn syntax_errors_have_a_place_and_a_hint() {
        let cases = [
            ("t: [*.x]\n", 4, Some("starts with `*`")),
            ("t: [a, !x.y]\n", 7, Some("starts with `!`")),
            ("a:\n\tb: 1\n", 4, Some("not with tabs")),
            ("a: b: c\n", 4, Some("holds `: `")),
            ("a: @b\n", 3, Some("quote")),
            ("é: 'x\n", 7, None),
            ("a: 1\n---\nb: 2\n", 9, None),
        ];
        for (text, at, hint) in cases {
            let error = parse(text).err().unwrap_or_else(|| panic!("{text:?} is taken"));
            assert_eq!(error.at, at, "{text:?}: {error:?}");
            assert_eq!(error.next.is_some(), hint.is_some(), "{text:?}: {error:?}");
            assert!(
                error.next.unwrap_or_default().contains(hint.unwrap_or_default()),
                "{text:?}: {error:?}"
            );
        }
    }

    #[test]
    fn hostile_files_are_refused_early() {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for pair in ["ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"] {
            let (from, to) = pair.split_at(1);
            bomb += &format!("{to}: &{to} [{}]\n", vec![format!("*{from}"); 9].join(", "));
        }
        assert!(parse(&bomb).err().unwrap().message.contains("aliases"));
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"- ".repeat(100_000)).is_err());
        assert!(parse("a: &x [*x]\n").is_err());
    }
}
