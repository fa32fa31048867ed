//! Places in manifest files: which file, which bytes, and how to show them.
//!
//! A [`Source`] keeps its text twice: as read, and as it may be shown, with literal secrets masked byte for byte, so
//! that the same offsets fit both. Only the second ever leaves this module.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mask::suspicious;

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

/// Returns where in the file the bytes `at` of `text`, which was read from `span`, stand, walking quotes, escapes and line breaks.
///
/// Exact for texts on one line, as near as the walk gets for folded ones; never outside of `span`.
pub(super) fn inside(file: &str, span: &Range<usize>, text: &str, at: Range<usize>) -> Range<usize> {
    let Some(raw) = file.get(span.clone()) else {
        return span.clone();
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
    span.start + start..span.start + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = Source::new(Path::new("m.yaml"), "a: 1\né: ü2\n", &[]);
        let place = Place::new(&source, 9..11);
        assert_eq!(place.to_string(), "m.yaml:2:4");
        assert_eq!(Place::new(&source, 99..200).to_string(), "m.yaml:3:1");
    }

    #[test]
    fn a_place_inside_of_a_text_is_found_in_the_file() {
        let cases = [
            ("a: plain x\n", "plain x"),
            ("a: 'it''s x'\n", "it's x"),
            ("a: \"\\u00e9\\n\\x41 x\"\n", "é\nA x"),
            ("a: |\n  one\n  two x\n", "one\ntwo x\n"),
            ("a: >-\n  one\n  two x\n", "one two x"),
        ];
        for (file, text) in cases {
            let start = file.find(|c: char| !"a: |>-\n".contains(c)).unwrap();
            let span = start..file.trim_end().len();
            let at = text.find('x').unwrap();
            let found = inside(file, &span, text, at..at + 1);
            assert_eq!(
                (found.start, &file[found.clone()]),
                (file.rfind('x').unwrap(), "x"),
                "{file:?}"
            );
        }
    }
}
