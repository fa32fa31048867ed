//! Reads a conninfo string: `host=a port=5433 password='it\'s'`, by the rules of libpq's `conninfo_parse`.
//!
//! Pure. [`read`] also tells a conninfo string from a URI; `uri` reads those.

use super::keywords::{Origin, UnknownKeyword, Words, keyword, word};
use super::uri::{self, BadUri};

/// What is wrong with a connection string. No variant repeats a value: it may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadString {
    #[error("the connection string begins neither with `postgresql://` or `postgres://` nor with a `keyword=value`")]
    Neither,
    #[error("missing `=` after `{0}` in the connection string")]
    NoEquals(String),
    #[error(
        "what follows the value of `{0}` in the connection string is no `keyword=value`; a value with blanks stands in quotes: `{0}='a b'`"
    )]
    AfterValue(&'static str),
    #[error("the quote that opens the value of `{0}` in the connection string is never closed")]
    Unterminated(String),
    #[error(transparent)]
    Unknown(#[from] UnknownKeyword),
    #[error(transparent)]
    Uri(#[from] BadUri),
}

/// Returns whether a database name is in truth a connection string, as `psql -d` decides it.
pub(super) fn is_connection_string(text: &str) -> bool {
    uri::without_scheme(text).is_some() || uri::is_nearly(text) || text.contains('=')
}

/// Reads a connection string of either form.
pub(super) fn read(text: &str, origin: &Origin) -> Result<Words, BadString> {
    match uri::without_scheme(text) {
        Some(rest) => Ok(uri::read(rest, origin)?),
        None if uri::is_nearly(text) => Err(BadUri::Scheme.into()),
        None => read_keywords(text, origin),
    }
}

fn read_keywords(text: &str, origin: &Origin) -> Result<Words, BadString> {
    let mut words = Words::default();
    let mut rest = skip_space(text);
    let mut last = None;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || is_space(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let after = skip_space(after)
            .strip_prefix('=')
            .ok_or_else(|| not_a_keyword(name, last).unwrap_or_else(|| BadString::NoEquals(word(name))))?;
        let (value, after) = value(skip_space(after)).ok_or_else(|| BadString::Unterminated(word(name)))?;
        words
            .set(name, value, origin)
            .map_err(|unknown| not_a_keyword(name, last).unwrap_or(unknown.into()))?;
        last = keyword(name).ok().map(|keyword| keyword.name);
        rest = skip_space(after);
    }
    Ok(words)
}

/// What is said of what stands in the place of a keyword and is none: behind the value of `last` it may be the rest of a password with a blank
/// in it, before all others a URI of another sort; it is not repeated. `None`: it may be.
fn not_a_keyword(name: &str, last: Option<&'static str>) -> Option<BadString> {
    let is_like_one = matches!(keyword(name), Ok(_) | Err(UnknownKeyword { nearest: Some(_), .. }));
    match last {
        _ if is_like_one => None,
        Some(last) => Some(BadString::AfterValue(last)),
        None => (word(name) != name).then_some(BadString::Neither),
    }
}

/// Splits a value off the front; none when its quote is never closed.
fn value(text: &str) -> Option<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Some((value, &text[at + 1..])),
            c if !quoted && is_space(c) => return Some((value, &text[at..])),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, ""))
}

/// C's `isspace`, which is what libpq asks.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches(is_space)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<(&'static str, String)>, BadString> {
        use secrecy::ExposeSecret;
        let words = read(text, &Origin::CommandLine)?;
        Ok(words
            .iter()
            .map(|(name, value)| (name, value.expose_secret().to_owned()))
            .collect())
    }

    #[test]
    fn good_strings() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("  ", &[]),
            ("host=a", &[("host", "a")]),
            ("host=a port=5433", &[("host", "a"), ("port", "5433")]),
            ("host = a  port\t=\n5433 ", &[("host", "a"), ("port", "5433")]),
            ("host=a host=b", &[("host", "b")]),
            ("host=''", &[("host", "")]),
            ("user='it\\'s me'", &[("user", "it's me")]),
            ("user=it\\'s\\ me host=h", &[("host", "h"), ("user", "it's me")]),
            ("user='back\\\\slash'", &[("user", "back\\slash")]),
            ("user=o'brien", &[("user", "o'brien")]),
            ("user='a'host=b", &[("host", "b"), ("user", "a")]),
            ("user=trailing\\", &[("user", "trailing")]),
            ("dbname=a=b", &[("dbname", "a=b")]),
            ("user=café", &[("user", "café")]),
            // libpq takes `port=1` for the value: there is no value before it.
            ("host= port=1", &[("host", "port=1")]),
            ("requiressl=1", &[("sslmode", "require")]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
            assert_eq!(words(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn bad_strings() {
        for (text, expected) in [
            ("host", "missing `=` after `host` in the connection string"),
            ("host port=1", "missing `=` after `host` in the connection string"),
            (
                "password='secret",
                "the quote that opens the value of `password` in the connection string is never closed",
            ),
            (
                "pasword=secret",
                "unknown connection keyword `pasword` (did you mean `password`?)",
            ),
            ("Host=a", "unknown connection keyword `Host` (did you mean `host`?)"),
            ("quux=a", "unknown connection keyword `quux`"),
            ("port=1 user", "missing `=` after `user` in the connection string"),
            (
                "password=half other host=h",
                "what follows the value of `password` in the connection string is no `keyword=value`; a value with blanks stands in quotes: `password='a b'`",
            ),
            (
                "password=half b3RoZXI=",
                "what follows the value of `password` in the connection string is no `keyword=value`; a value with blanks stands in quotes: `password='a b'`",
            ),
            (
                "mysql://h/secret?a=b",
                "the connection string begins neither with `postgresql://` or `postgres://` nor with a `keyword=value`",
            ),
            (
                "password = half other host=h",
                "what follows the value of `password` in the connection string is no `keyword=value`; a value with blanks stands in quotes: `password='a b'`",
            ),
            (
                "mysql://u:secret@h/d?a=b",
                "a connection URI begins with `postgresql://` or `postgres://`",
            ),
            (
                "postgresql://u:12/d?se/cret@h",
                "parameter `…` of the connection URI has no `=`",
            ),
            (
                "postgresql:/u:secret@h/d",
                "a connection URI begins with `postgresql://` or `postgres://`",
            ),
        ] {
            assert_eq!(words(text).unwrap_err().to_string(), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_a_connection_string() {
        for (text, expected) in [
            ("shop", false),
            ("dbname=shop", true),
            ("postgres://", true),
            ("postgresql://h/d", true),
            ("postgresql:h", false),
            ("Postgres://h", false),
            ("Postgres://u:p@h", true),
            ("postgresql:/u:p@h/d", true),
            ("postgre:u:p@h/d", true),
            ("mysql://u:p@h/d", true),
            ("shop:a@b", false),
        ] {
            assert_eq!(is_connection_string(text), expected, "{text}");
        }
    }
}
