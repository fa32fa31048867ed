//! What somebody dropped while it was waited for: a log of which the snapshot still knows, or all of emaj.

use super::error::ServerError;
use crate::errors::{Error, Result};

/// Returns whether the server did not find a table, a function or a schema.
pub fn is_gone(error: &Error) -> bool {
    let server = error.cause::<ServerError>();
    server.is_some_and(|server| ["42P01", "42883", "3F000"].contains(&server.code.as_str()))
}

/// Calls `read`, up to three times while what it reads is gone: the next snapshot knows nothing of that.
///
/// # Errors
/// Those of `read`.
pub fn read_again<T>(mut read: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..2 {
        match read() {
            Err(error) if is_gone(&error) => (),
            other => return other,
        }
    }
    read()
}
