//! Texts of a database whose encoding is unknown (`SQL_ASCII`): the server refuses to say them as UTF-8, so they are asked for as bytes.
//!
//! What is UTF-8 among them is like any other text. What is not is told with its bytes in hex, for people; no delivery is made of it.

use std::borrow::Cow;
use std::fmt::Write as _;

use postgres::types::Type;

use crate::errors::Result;
use crate::pg::Session;

/// Stands before each byte that is not UTF-8.
const MARK: char = '\u{fffd}';

/// Tells whether texts have to be asked for as bytes.
///
/// # Errors
/// Whatever the server answers.
pub(super) fn is_raw(session: &mut Session) -> Result<bool> {
    let row = session.query_one(
        "select pg_catalog.current_setting('server_encoding') = 'SQL_ASCII'",
        &[],
    )?;
    Ok(row.get(0))
}

/// Returns a text that came as such or as bytes, and whether it is as it was.
pub(super) fn text(row: &postgres::Row, at: usize) -> (Cow<'_, str>, bool) {
    if *row.columns()[at].type_() != Type::BYTEA {
        return (Cow::Borrowed(row.get(at)), true);
    }
    let bytes: &[u8] = row.get(at);
    match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), true),
        Err(_) => (Cow::Owned(told(bytes)), false),
    }
}

/// Returns a text as [`text`] does, for the server to read again: bytes in hex when they are not UTF-8.
pub(super) fn exact(row: &postgres::Row, at: usize) -> String {
    match text(row, at) {
        (text, true) => text.into_owned(),
        _ => hex("\\x", row.get(at)),
    }
}

/// Tells whether part of a text was not UTF-8.
pub(super) fn is_marked(text: &str) -> bool {
    text.contains(MARK)
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
    }
}
