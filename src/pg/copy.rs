//! Streams what a query gives out of the server by COPY: memory does not grow with the rows.
//!
//! Called by what writes rows to files or to standard output. Errors of the server and of the target are kept apart.

use std::io::{self, BufRead as _};

use postgres::Transaction;

use super::error::classify;
use crate::errors::{Error, Result};

/// How the rows of a COPY come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// As COPY writes text.
    Text,
    /// CSV with a heading.
    Csv,
    /// The one column of the query as it is, a line each.
    Lines,
    /// The same, where it is JSON: line breaks in it, which stand outside of its strings only, become spaces.
    Json,
}

/// So much of a row has its escapes undone at once.
const PIECE: usize = 1 << 20;

/// Hands the rows of `query` to `take`, piece by piece, and returns how many bytes they were; `doing` completes "failed to …".
///
/// # Errors
/// Whatever the server answers, or `take` fails with.
pub fn copy_out(
    transaction: &mut Transaction<'_>,
    query: &str,
    rows: Rows,
    doing: &str,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<u64> {
    let options = if rows == Rows::Csv {
        " with (format csv, header)"
    } else {
        ""
    };
    let mut stream = transaction
        .copy_out(&format!("copy ({query}) to stdout{options}"))
        .map_err(|error| classify(error, doing))?;
    let mut plain = match rows {
        Rows::Text | Rows::Csv => None,
        Rows::Lines => Some(Plain::default()),
        Rows::Json => Some(Plain {
            is_json: true,
            ..Plain::default()
        }),
    };
    let mut bytes = 0;
    loop {
        let chunk = stream.fill_buf().map_err(|error| of_server(error, doing))?;
        if chunk.is_empty() {
            return Ok(bytes);
        }
        let length = chunk.len();
        if let Some(plain) = &mut plain {
            // (A chunk is a row, however wide.)
            for piece in chunk.chunks(PIECE) {
                let text = plain.of(piece);
                bytes += text.len() as u64;
                take(text)?;
            }
        } else {
            bytes += length as u64;
            take(chunk)?;
        }
        stream.consume(length);
    }
}

/// Takes the server's error out of the stream's.
fn of_server(error: io::Error, doing: &str) -> Error {
    match error.downcast::<postgres::Error>() {
        Ok(error) => classify(error, doing),
        Err(error) => Error::from(error).context(format!("failed to {doing}")),
    }
}

/// Undoes the escapes of COPY's text format, across the borders of chunks.
#[derive(Debug, Default)]
struct Plain {
    is_json: bool,
    escaped: bool,
    text: Vec<u8>,
}

impl Plain {
    fn of(&mut self, mut rest: &[u8]) -> &[u8] {
        self.text.clear();
        loop {
            if self.escaped {
                let Some((&byte, after)) = rest.split_first() else {
                    break;
                };
                self.escaped = false;
                rest = after;
                self.text.push(match byte {
                    b'b' => 8,
                    b'n' | b'r' if self.is_json => b' ',
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b'f' => 12,
                    b't' => b'\t',
                    b'v' => 11,
                    other => other,
                });
            }
            let Some(at) = rest.iter().position(|byte| *byte == b'\\') else {
                break;
            };
            self.text.extend_from_slice(&rest[..at]);
            rest = &rest[at + 1..];
            self.escaped = true;
        }
        if !self.escaped {
            self.text.extend_from_slice(rest);
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_wherever_a_chunk_ends() {
        let text = br"a\\b\nc\td\v\b\f\r\x".to_vec();
        for cut in 0..text.len() {
            let mut plain = Plain::default();
            let mut all = plain.of(&text[..cut]).to_vec();
            all.extend_from_slice(plain.of(&text[cut..]));
            assert_eq!(all, b"a\\b\nc\td\x0b\x08\x0c\rx", "cut at {cut}");
        }
    }

    #[test]
    fn json_stays_in_its_line() {
        let mut plain = Plain {
            is_json: true,
            ..Plain::default()
        };
        let text = br#"{"a":\n\r"b\\n"}"#;
        assert_eq!(plain.of(&[&text[..], b"\n"].concat()), b"{\"a\":  \"b\\n\"}\n");
    }
}
