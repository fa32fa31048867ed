//! The command line: which verbs there are, and which file in `commands/` answers.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::errors::{Error, Kind, Result};

/// Runs the program with `args` (the first is the program's own name) and returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<ExitCode> {
    let _ = args.into_iter();
    Err(Error::message(Kind::Usage, "no command given"))
}
