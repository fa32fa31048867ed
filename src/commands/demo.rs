//! `emaj demo`: shows what emaj does, on a PostgreSQL of its own.

use std::process::ExitCode;

use super::Context;
use crate::demo;
use crate::errors::{Error, Kind, Result};
use crate::ui::Format;
use crate::ui::words::count;

/// Shows what emaj does, on a PostgreSQL of its own
///
/// The story is told step by step: a mark, a day's work, a mistake, and the way back. The server is started for it and removed at the
/// end; no database of yours is touched. Exits with 0 only when every check of the story holds, with 6 otherwise.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(&[Format::Table])?;
    let outcome = demo::perform(&mut |text| context.output.text(text))?;
    let checks = count(outcome.checks, "check");
    if outcome.failed > 0 {
        return Err(Error::message(
            Kind::Different,
            format!("{} of {checks} did not hold: see `NOT OK` above", outcome.failed),
        ));
    }
    context.output.text(&format!(
        "\nAll {checks} hold. The throw-away PostgreSQL is stopped, its files are removed.\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}
