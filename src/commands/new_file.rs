//! A manifest that a command writes: a file that was not there before, unless it may be overwritten.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use crate::errors::{Error, Kind, Result};

/// Refuses a name that a file has already.
///
/// # Errors
/// [`Kind::Refused`].
pub(super) fn check(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(is_there(path)),
        Err(_) => Ok(()),
    }
}

/// Writes the file; with `force` in the place of one that is there.
///
/// # Errors
/// As [`check`]; [`Kind::Failed`] when it cannot be written.
pub(super) fn write(path: &Path, text: &str, force: bool) -> Result<()> {
    let open = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .create_new(!force)
        .open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => is_there(path),
            _ => Error::from(error).context(format!("failed to write `{}`", path.display())),
        })
}

fn is_there(path: &Path) -> Error {
    Error::message(Kind::Refused, format!("`{}` is there already", path.display()))
        .hint("name a file that is not there yet")
}
