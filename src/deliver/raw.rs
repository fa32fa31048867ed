//! Texts that the server cannot say as UTF-8: of a database whose encoding is unknown (`SQL_ASCII`), or has bytes that stand for no character
//! of UTF-8 (`WIN1252`, `EUC_JP` and others). They are asked for as bytes, and read here.
//!
//! What can be said in UTF-8 is like any other text. What cannot is told with its bytes in hex, for people; no delivery is made of it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use postgres::types::Type;

use crate::errors::Result;
use crate::names::hex;
use crate::pg::{Session, classify};
use crate::render::Renderer;

/// Stands before each byte that is not UTF-8, in a database that takes any bytes.
const MARK: char = '\u{fffd}';

/// How the texts of a database come, and which it can keep.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts {
    /// They come as bytes.
    are_raw: bool,
    /// The server's order of them is not that of UTF-8.
    are_sorted_otherwise: bool,
    /// What the characters beyond ASCII are in UTF-8. `None` with bytes: UTF-8 as far as they are that, and nobody knows what the others are.
    characters: Option<Arc<Characters>>,
}

/// Characters of UTF-8, by the bytes that stand for them in an encoding.
type Characters = HashMap<Vec<u8>, String>;

/// How many bytes a character has at most.
const LONGEST: usize = 4;

impl Texts {
    /// Asks how texts have to be asked for. In `UTF8` and `MULE_INTERNAL` they are left to the server.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(super) fn of(session: &mut Session, renderer: &Renderer) -> Result<Self> {
        let row = session.query_one(
            "select e.name, pg_catalog.pg_encoding_max_length(pg_catalog.pg_char_to_encoding(e.name)) = 1
               from pg_catalog.current_setting('server_encoding') as e (name)",
            &[],
        )?;
        match (row.get(0), row.get::<_, bool>(1)) {
            ("SQL_ASCII", _) => Ok(Texts {
                are_raw: true,
                are_sorted_otherwise: true,
                characters: None,
            }),
            ("UTF8", _) => Ok(Texts::default()),
            ("MULE_INTERNAL", _) => Ok(Texts {
                are_sorted_otherwise: true,
                ..Texts::default()
            }),
            (_, is_single) => {
                session
                    .batch_execute(&renderer.render("stream/bytes", ())?)
                    .map_err(|error| classify(error, "ask what the bytes of the database's encoding are"))?;
                let row = session.query_one("select pg_catalog.current_setting('emaj.utf8')", &[])?;
                let characters = characters(row.get(0));
                Ok(Texts {
                    are_raw: !is_single || characters.len() < 128,
                    are_sorted_otherwise: true,
                    characters: Some(characters.into()),
                })
            }
        }
    }

    /// Tells whether texts have to be asked for as bytes.
    pub(super) fn are_raw(&self) -> bool {
        self.are_raw
    }

    /// Tells whether the server sorts texts (by their bytes, in its encoding) otherwise than they are sorted here: where the order matters, their
    /// bytes are asked for in hex.
    pub(super) fn are_sorted_otherwise(&self) -> bool {
        self.are_sorted_otherwise
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
            one.is_ascii() || characters.values().any(|known| known == one)
        };
        Cow::Owned(text.chars().map(|one| if is_known(one) { one } else { '?' }).collect())
    }

    /// Returns a text as [`Texts::text`] does, for the server to read again: bytes in hex when it cannot be said.
    pub(super) fn exact(&self, row: &postgres::Row, at: usize) -> String {
        match self.text(row, at) {
            (text, true) => text.into_owned(),
            _ => format!("\\x{}", hex(row.get(at))),
        }
    }
}

/// Reads what the characters beyond ASCII are, off the answer of the server.
fn characters(said: &str) -> Characters {
    let bytes = |hex: &str| -> Option<Vec<u8>> {
        let byte = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
        (0..hex.len()).step_by(2).map(byte).collect()
    };
    let character = |pair: &str| {
        let (there, here) = pair.split_once(':')?;
        Some((bytes(there)?, String::from_utf8(bytes(here)?).ok()?))
    };
    said.split_ascii_whitespace().filter_map(character).collect()
}

/// Reads bytes of an encoding, and tells whether all of them stand for something. What is shown in place of one that does not, that database can keep.
fn read(bytes: &[u8], characters: &Characters) -> (String, bool) {
    let (mut text, mut is_whole) = (String::with_capacity(bytes.len() + 16), true);
    let mut rest = bytes;
    while let Some(byte) = rest.first() {
        let lengths = 1..=LONGEST.min(rest.len());
        let character = |length: usize| Some((characters.get(&rest[..length])?, length));
        let length = match lengths.filter(|_| !byte.is_ascii()).find_map(character) {
            Some((character, length)) => {
                text.push_str(character);
                length
            }
            None if byte.is_ascii() => {
                text.push(char::from(*byte));
                1
            }
            None => {
                is_whole = false;
                let _ = write!(text, "<{byte:02x}>");
                1
            }
        };
        rest = &rest[length..];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf8_is_told_by_its_bytes() {
        assert_eq!(told(b"m\xfcller \xc3\xa9"), "m\u{fffd}fcller \u{e9}");
        assert_ne!(told(b"\xfc"), told(b"\xfd"));
        assert!(is_marked(&told(b"\xfc")));
    }

    #[test]
    fn bytes_are_read_as_the_server_said() {
        let several = characters("a4a2:e38182 8fb0a1:e4b882 8eb1:efbdb1");
        assert_eq!(
            read(b"a\xa4\xa2\x8f\xb0\xa1b\x8e\xb1", &several),
            ("a\u{3042}\u{4e02}b\u{ff71}".to_owned(), true)
        );
        assert_eq!(
            read(b"\xa4\xa2\xa2\xaf\xa4\xa2\xa4", &several),
            ("\u{3042}<a2><af>\u{3042}<a4>".to_owned(), false)
        );
        let characters = characters("80:e282ac 82:e2809a");
        assert_eq!(
            read(b"5 \x80\x82", &characters),
            ("5 \u{20ac}\u{201a}".to_owned(), true)
        );
        assert_eq!(read(b"a\x81b", &characters), ("a<81>b".to_owned(), false));
        // (Beyond what was said nothing is known.)
        assert_eq!(read(b"\xff", &characters), ("<ff>".to_owned(), false));
        let texts = Texts {
            are_raw: true,
            are_sorted_otherwise: true,
            characters: Some(characters.into()),
        };
        assert_eq!(texts.kept("5 \u{20ac}\u{2260}4"), "5 \u{20ac}?4");
        assert_eq!(Texts::default().kept("\u{2260}"), "\u{2260}");
        assert!(is_marked("a<81>b") && !is_marked("<p>a</p>"));
    }
}
