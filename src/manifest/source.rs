//! Places in manifest files: which file, which bytes, and how to show them.
//!
//! A [`Source`] keeps its text twice: as read, and as it may be shown, with literal secrets masked byte for byte, so
//! that the same offsets fit both. Only the second ever leaves this module.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One manifest file.
pub struct Source {
    path: PathBuf,
    shown: String,
}

impl Source {
    /// Keeps `text` of the file `path` for showing; the bytes of `secrets` become `*`.
    pub(super) fn new(path: &Path, text: &str, secrets: &[Range<usize>]) -> Arc<Self> {
        let mut shown = text.to_owned();
        for range in secrets.iter().chain(&suspicious(text)) {
            if let Some(secret) = text.get(range.clone()) {
                let mask: String = secret
                    .bytes()
                    .map(|b| if b == b'\n' || b == b'\r' { b as char } else { '*' })
                    .collect();
                shown.replace_range(range.clone(), &mask);
            }
        }
        Arc::new(Source {
            path: path.to_owned(),
            shown,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the text with its literal secrets masked.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.path.display())
    }
}

/// A stretch of a manifest file.
#[derive(Clone)]
pub struct Place {
    source: Arc<Source>,
    span: Range<usize>,
}

impl Place {
    pub(super) fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        let text = source.shown();
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
        Place {
            source: source.clone(),
            span: start..end,
        }
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the path of the file.
    pub fn file(&self) -> &Path {
        &self.source.path
    }

    /// Returns the bytes of the file.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Returns the line, counted from 1.
    pub fn line(&self) -> usize {
        self.before().matches('\n').count() + 1
    }

    /// Returns the column in characters, counted from 1.
    pub fn column(&self) -> usize {
        let before = self.before();
        before[before.rfind('\n').map_or(0, |at| at + 1)..].chars().count() + 1
    }

    fn before(&self) -> &str {
        &self.source.shown[..self.span.start]
    }
}

impl PartialEq for Place {
    /// Places never make two values differ: what is the same in two files is the same.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file().display(), self.line(), self.column())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value with the place it was read from; equality looks at the value alone.
#[derive(Clone)]
pub struct Located<T> {
    pub value: T,
    pub place: Place,
}

impl<T> Located<T> {
    pub fn new(value: T, place: Place) -> Self {
        Located { value, place }
    }

    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Located<U> {
        Located {
            value: change(self.value),
            place: self.place,
        }
    }
}

impl<T> std::ops::Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} @ {}:{}", self.value, self.place.line(), self.place.column())
    }
}

impl<T: fmt::Display> fmt::Display for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// Finds what looks like a secret by its key alone (`password: x`, `token = …`, `://user:password@`).
///
/// For texts that are no YAML, of which nothing better is known. References (`${…}`) are no secrets.
fn suspicious(text: &str) -> Vec<Range<usize>> {
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
    use super::*;

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

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = Source::new(Path::new("m.yaml"), "a: 1\né: ü2\n", &[]);
        let place = Place::new(&source, 9..11);
        assert_eq!(place.to_string(), "m.yaml:2:4");
        assert_eq!(Place::new(&source, 99..200).to_string(), "m.yaml:3:1");
    }
}
