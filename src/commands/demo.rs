//! `emaj demo`: shows what emaj does, on a PostgreSQL and a directory of its own.

use std::process::ExitCode;

use super::Context;
use crate::demo;
use crate::errors::{Error, Kind, Result};
use crate::ui::Format;
use crate::words::count;

/// Shows what emaj does, on a PostgreSQL of its own
///
/// The story is told step by step: a mark, a day's work, a mistake, and the way back; then a directory (LDAP) that follows tables through
/// changes, an outage and a rollback. The servers are started for it and removed at the end; no database of yours is touched. Exits with 0
/// only when every check of the story holds, with 6 otherwise.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave the second part out, for which OpenLDAP (slapd, ldapsearch) is needed
    #[arg(long)]
    without_directory: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(&[Format::Table])?;
    let wanted = demo::Wanted {
        with_directory: !args.without_directory,
        width: context.output.width(),
    };
    let outcome = demo::perform(wanted, &mut |text| context.output.text(text))?;
    let checks = count(outcome.checks, "check");
    if outcome.failed > 0 {
        return Err(Error::message(
            Kind::Different,
            format!("{} of {checks} did not hold: see `NOT OK` above", outcome.failed),
        ));
    }
    let servers = match args.without_directory {
        true => "PostgreSQL is stopped, its",
        false => "PostgreSQL and directory are stopped, their",
    };
    context.output.text(&format!(
        "\nAll {checks} hold. The throw-away {servers} files are removed.\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}
