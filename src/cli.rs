//! The command line: which verbs there are, and which file in `commands/` answers.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands::{self, ConnectionArgs, Context};
use crate::errors::{Error, Kind, Result};
use crate::ui::OutputArgs;

/// Undo, explain, pass on and carry away the data of PostgreSQL tables, declared in a manifest.
#[derive(Debug, Parser)]
#[command(name = "emaj", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// One verb, one file in `commands/`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows what emaj does, on a PostgreSQL of its own
    Demo(commands::demo::Args),
    /// Writes a manifest to start from
    New(commands::new::Args),
    /// Says everything that is wrong with a manifest; needs no database
    Validate(commands::validate::Args),
    /// Prints the JSON Schema of a manifest
    Schema(commands::schema::Args),
    /// Shows what in the database is no longer as it was installed
    Drift(commands::drift::Args),
    /// Shows how the groups are doing
    Status(commands::status::Args),
    /// Checks every right and setting that emaj needs, and says what is missing
    Doctor(commands::doctor::Args),
    /// Prints the completions for a shell
    Completions(commands::completions::Args),
    /// Prints the manual page, or writes all of them
    Man(commands::man::Args),
    /// Shows what `install` would change in the database
    Plan(commands::plan::Args),
    /// Makes the database as the manifest says; again: only the difference
    Install(commands::install::Args),
    /// Takes everything that emaj made out of the database; the tables stay
    Uninstall(commands::uninstall::Args),
}

/// Runs the program with `args` (the first is the program's own name) and returns its exit code.
///
/// # Errors
/// What the command failed with; `main` prints it.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<ExitCode> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            // clap's own text has the place, the usage and a suggestion.
            let _ = error.print();
            return Ok(ExitCode::from(Kind::Usage.exit_code()));
        }
        Err(help) => {
            return help.print().map(|()| ExitCode::SUCCESS).map_err(Error::from);
        }
    };
    let context = Context::new(cli.connection, cli.output.output())?;
    match cli.command {
        Command::Demo(args) => commands::demo::run(args, &context),
        Command::New(args) => commands::new::run(args, &context),
        Command::Validate(args) => commands::validate::run(args, &context),
        Command::Schema(args) => commands::schema::run(args, &context),
        Command::Drift(args) => commands::drift::run(args, &context),
        Command::Status(args) => commands::status::run(args, &context),
        Command::Doctor(args) => commands::doctor::run(args, &context),
        Command::Completions(args) => commands::completions::run(args, Cli::command(), &context),
        Command::Man(args) => commands::man::run(args, Cli::command(), &context),
        Command::Plan(args) => commands::plan::run(args, &context),
        Command::Install(args) => commands::install::run(args, &context),
        Command::Uninstall(args) => commands::uninstall::run(args, &context),
    }
}
