//! Texts that the server cannot say as UTF-8: of a database whose encoding is unknown (`SQL_ASCII`), or has bytes that stand for no character
//! (`WIN1252` and others). They are asked for as bytes, and read here.
//!
//! What can be said in UTF-8 is like any other text. What cannot is told with its bytes in hex, for people; no delivery is made of it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use postgres::types::Type;

use crate::errors::Result;
use crate::pg::{Session, classify};
use crate::render::Renderer;

/// Stands before each byte that is not UTF-8, in a database that takes any bytes.
const MARK: char = '\u{fffd}';

/// How the texts of a database come, and which it can keep.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts {
    /// They come as bytes.
    are_raw: bool,
    /// Where a byte is a character: what those from 128 on are in UTF-8, if they are anything there. `None` with bytes: UTF-8 as far as they are
    /// that, and nobody knows what the others are.
    characters: Option<Arc<[Option<String>]>>,
}

impl Texts {
    /// Asks how texts have to be asked for. In encodings with several bytes a character they are left to the server.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(super) fn of(session: &mut Session, renderer: &Renderer) -> Result<Self> {
        let row = session.query_one(
            "select e.name, pg_catalog.pg_encoding_max_length(pg_catalog.pg_char_to_encoding(e.name)) = 1
               from pg_catalog.current_setting('server_encoding') as e (name)",
            &[],
        )?;
        match (row.get(0), row.get(1)) {
            ("SQL_ASCII", _) => Ok(Texts {
                are_raw: true,
                characters: None,
            }),
            (_, true) => {
                session
                    .batch_execute(&renderer.render("stream/bytes", ())?)
                    .map_err(|error| classify(error, "ask what the bytes of the database's encoding are"))?;
                let row = session.query_one("select pg_catalog.current_setting('emaj.utf8')", &[])?;
                let characters = characters(row.get(0));
                Ok(Texts {
                    are_raw: characters.iter().any(Option::is_none),
                    characters: Some(characters.into()),
                })
            }
            _ => Ok(Texts::default()),
        }
    }

    /// Tells whether texts have to be asked for as bytes.
    pub(super) fn are_raw(&self) -> bool {
        self.are_raw
    }

    /// Returns a text that came as such or as bytes, and whether it is as it was.
    pub(super) fn text<'r>(&self, row: &'r postgres::Row, at: usize) -> (Cow<'r, str>, bool) {
        if *row.columns()[at].type_() != Type::BYTEA {
            return (Cow::Borrowed(row.get(at)), true);
        }
        let bytes: &[u8] = row.get(at);
        if let Some(characters) = &self.characters
            && !bytes.is_ascii()
        {
            let (text, is_whole) = read(bytes, characters);
            return (Cow::Owned(text), is_whole);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => (Cow::Borrowed(text), true),
            Err(_) => (Cow::Owned(told(bytes)), false),
        }
    }

    /// Returns a text that others have made, as the database can keep it: with `?` for each character that its encoding does not have.
    pub(super) fn kept<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(characters) = self.characters.as_ref().filter(|_| !text.is_ascii()) else {
            return Cow::Borrowed(text);
        };
        let is_known = |one: char| {
            let mut bytes = [0; 4];
            let one = &*one.encode_utf8(&mut bytes);
            one.is_ascii() || characters.iter().flatten().any(|known| known == one)
        };
        Cow::Owned(text.chars().map(|one| if is_known(one) { one } else { '?' }).collect())
    }

    /// Returns a text as [`Texts::text`] does, for the server to read again: bytes in hex when it cannot be said.
    pub(super) fn exact(&self, row: &postgres::Row, at: usize) -> String {
        match self.text(row, at) {
            (text, true) => text.into_owned(),
            _ => hex("\\x", row.get(at)),
        }
    }
}

/// Reads what each byte from 128 on is, off the answer of the server.
fn characters(said: &str) -> Vec<Option<String>> {
    let character = |hex: &str| {
        let byte = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
        String::from_utf8(bytes?).ok()
    };
    said.split_ascii_whitespace().map(character).collect()
}

/// Reads bytes that are a character each, and tells whether all are. What is shown in place of one that is none, that database can keep.
fn read(bytes: &[u8], characters: &[Option<String>]) -> (String, bool) {
    let (mut text, mut is_whole) = (String::with_capacity(bytes.len() + 16), true);
    for byte in bytes {
        match byte.checked_sub(128) {
            None => text.push(char::from(*byte)),
            Some(at) => match characters.get(usize::from(at)).and_then(Option::as_deref) {
                Some(character) => text.push_str(character),
                None => {
                    is_whole = false;
                    let _ = write!(text, "<{byte:02x}>");
                }
            },
        }
    }
    (text, is_whole)
}

/// Tells whether part of a text could not be said.
pub(super) fn is_marked(text: &str) -> bool {
    let is_mark =
        |four: &[u8]| matches!(four, [b'<', one, two, b'>'] if one.is_ascii_hexdigit() && two.is_ascii_hexdigit());
    text.contains(MARK) || text.as_bytes().windows(4).any(is_mark)
}

fn told(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "{MARK}{byte:02x}");
        }
    }
    text
}

fn hex(prefix: &str, bytes: &[u8]) -> String {
    bytes.iter().fold(prefix.to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf8_is_told_by_its_bytes() {
        assert_eq!(told(b"m\xfcller \xc3\xa9"), "m\u{fffd}fcller \u{e9}");
        assert_ne!(told(b"\xfc"), told(b"\xfd"));
        assert_eq!(hex("\\x", b"[\xfc]"), "\\x5bfc5d");
        assert!(is_marked(&told(b"\xfc")));
    }

    #[test]
    fn bytes_of_one_character_each_are_read_as_the_server_said() {
        let characters = characters(" e282ac - e2809a");
        assert_eq!(
            read(b"5 \x80\x82", &characters),
            ("5 \u{20ac}\u{201a}".to_owned(), true)
        );
        assert_eq!(read(b"a\x81b", &characters), ("a<81>b".to_owned(), false));
        // (Beyond what was said nothing is known.)
        assert_eq!(read(b"\xff", &characters), ("<ff>".to_owned(), false));
        let texts = Texts {
            are_raw: true,
            characters: Some(characters.into()),
        };
        assert_eq!(texts.kept("5 \u{20ac}\u{2260}4"), "5 \u{20ac}?4");
        assert_eq!(Texts::default().kept("\u{2260}"), "\u{2260}");
        assert!(is_marked("a<81>b") && !is_marked("<p>a</p>"));
    }
}
