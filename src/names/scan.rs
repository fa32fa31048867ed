//! The one scanner for names and patterns: text to parts, parts to pieces.
//!
//! A part is what stands between dots. In it, quoted stretches are verbatim; unquoted ones fold to lower case and, in
//! patterns, may hold `*` and `?`. `QualifiedName` and `Pattern` decide what to do with the pieces.

use super::{NameError, Problem};

/// One unit of a part: a character that must be there, or a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    Char(char),
    /// `?`: exactly one character.
    One,
    /// `*`: any number of characters, none included.
    Any,
}

impl Piece {
    /// Returns the character as written.
    pub(super) fn as_char(&self) -> char {
        match self {
            Piece::Char(c) => *c,
            Piece::One => '?',
            Piece::Any => '*',
        }
    }
}

/// What stands between two dots, and the byte where it starts.
#[derive(Debug)]
pub(super) struct Part {
    pub start: usize,
    pub pieces: Vec<Piece>,
}

/// Cuts `text` at its unquoted dots. With `globs`, unquoted `*` and `?` are wildcards; without, they need quotes.
pub(super) fn scan(text: &str, globs: bool) -> Result<Vec<Part>, NameError> {
    if text.trim().is_empty() {
        return Err(NameError::new(0, Problem::Empty));
    }
    let mut parts = Vec::new();
    let mut rest = Rest { text, at: 0 };
    loop {
        rest.skip_blanks();
        let part = scan_part(&mut rest, globs)?;
        if part.pieces.is_empty() {
            return Err(NameError::new(part.start, Problem::EmptyPart));
        }
        parts.push(part);
        rest.skip_blanks();
        match rest.next() {
            None => return Ok(parts),
            Some((_, '.')) => {}
            Some((at, found)) => {
                // A blank was skipped before `found`; the blank is what needs the quotes.
                let blank = text[..at].chars().next_back().filter(|c| c.is_whitespace());
                return Err(NameError::new(
                    at,
                    Problem::NeedsQuotes {
                        found: blank.unwrap_or(found),
                    },
                ));
            }
        }
    }
}

fn scan_part(rest: &mut Rest<'_>, globs: bool) -> Result<Part, NameError> {
    let start = rest.at;
    let mut pieces = Vec::new();
    while let Some(c) = rest.peek() {
        match c {
            '"' => scan_quoted(rest, &mut pieces)?,
            '*' if globs => pieces.push(Piece::Any),
            '?' if globs => pieces.push(Piece::One),
            '.' => break,
            c if c.is_whitespace() => break,
            '\0' => return Err(NameError::new(rest.at, Problem::Nul)),
            c if may_stand_bare(c, pieces.is_empty()) => pieces.push(Piece::Char(c.to_ascii_lowercase())),
            found => return Err(NameError::new(rest.at, Problem::NeedsQuotes { found })),
        }
        if c != '"' {
            rest.next();
        }
    }
    Ok(Part { start, pieces })
}

/// Reads from an opening quote to behind the closing one.
fn scan_quoted(rest: &mut Rest<'_>, pieces: &mut Vec<Piece>) -> Result<(), NameError> {
    let open = rest.at;
    rest.next();
    while let Some((at, c)) = rest.next() {
        match c {
            '"' if rest.peek() == Some('"') => {
                rest.next();
                pieces.push(Piece::Char('"'));
            }
            '"' => return Ok(()),
            '\0' => return Err(NameError::new(at, Problem::Nul)),
            c => pieces.push(Piece::Char(c)),
        }
    }
    Err(NameError::new(open, Problem::OpenQuote))
}

/// Tells whether PostgreSQL's lexer takes `c` in an identifier without quotes.
fn may_stand_bare(c: char, first: bool) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii() || (!first && (c.is_ascii_digit() || c == '$'))
}

struct Rest<'a> {
    text: &'a str,
    at: usize,
}

impl Rest<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<(usize, char)> {
        let c = self.peek()?;
        let at = self.at;
        self.at += c.len_utf8();
        Some((at, c))
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }
}
