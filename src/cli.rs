//! The command line: which verbs there are, and which file in `commands/` answers.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands::{self, ConnectionArgs, Context};
use crate::errors::{Kind, Result};
use crate::ui::OutputArgs;

/// Undo, explain, pass on and carry away the data of PostgreSQL tables, declared in a manifest.
#[derive(Debug, Parser)]
// `-h` is the host, as in psql: whoever types `-h HOST` wants the command done, not explained.
#[command(
    name = "emaj",
    version,
    propagate_version = true,
    max_term_width = 100,
    disable_help_flag = true
)]
pub struct Cli {
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Print help
    #[arg(long, global = true, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    #[command(subcommand)]
    pub command: Command,
}

/// One verb, one file in `commands/`. A variant without a comment has the help of its `Args`.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(commands::demo::Args),
    New(commands::new::Args),
    Import(commands::import::Args),
    Validate(commands::validate::Args),
    Schema(commands::schema::Args),
    Drift(commands::drift::Args),
    Status(commands::status::Args),
    Doctor(commands::doctor::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
    /// Shows what `install` would change in the database
    Plan(commands::plan::Args),
    /// Makes the database as the manifest says; again: only the difference
    Install(commands::install::Args),
    /// Takes everything that emaj made out of the database; the tables stay
    Uninstall(commands::uninstall::Args),
    /// Sends the rows that were there before to the sinks
    Init(commands::init::Args),
    /// Delivers changes to the sinks
    Run(commands::run::Args),
    /// Shows sinks, tests, pauses and resumes them
    Sink(commands::sink::Args),
    /// Shows what sinks did not take, has it tried again or discards it
    Failures(commands::failures::Args),
    /// Delivers again what a sink was delivered since a mark
    Replay(commands::replay::Args),
    /// Shows groups of tables, starts and stops them
    Group(commands::group::Args),
    /// Sets marks, moments that a group can be rolled back to, and shows them
    Mark(commands::mark::Args),
    /// Puts the tables of a group back to what they were at a mark
    Rollback(commands::rollback::Args),
    /// Makes a logged rollback an unlogged one afterwards
    Consolidate(commands::consolidate::Args),
    /// Takes back one transaction, one row, or what one role did
    Revert(commands::revert::Args),
    /// Counts the changes of a group's tables between two marks
    Stat(commands::stat::Args),
    Top(commands::top::Args),
    /// Shows the changes between two marks: all of them, or what they amount to; also as a script that does them again
    Changes(commands::changes::Args),
    /// Reads the tables of a group as they were at a mark
    At(commands::at::Args),
    /// Writes each table and sequence of a group to a file
    Snap(commands::snap::Args),
    /// Looks for inconsistencies, and says how to mend them
    Verify(commands::verify::Args),
    /// Shows what was done, when and by whom
    History(commands::history::Args),
    /// Releases a table for a migration, until the next install takes it back
    Release(commands::release::Args),
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
            // Not clap's own print: a reader that went away (`emaj --help | head`) is no error.
            let text = help.render().ansi().to_string();
            return OutputArgs::default().output().text(&text).map(|()| ExitCode::SUCCESS);
        }
    };
    let context = Context::new(cli.connection, cli.output.output())?;
    let done = match cli.command {
        Command::Demo(args) => commands::demo::run(args, &context),
        Command::New(args) => commands::new::run(args, &context),
        Command::Import(args) => commands::import::run(args, &context),
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
        Command::Init(args) => commands::init::run(args, &context),
        Command::Run(args) => commands::run::run(args, &context),
        Command::Sink(args) => commands::sink::run(args, &context),
        Command::Failures(args) => commands::failures::run(args, &context),
        Command::Replay(args) => commands::replay::run(args, &context),
        Command::Group(args) => commands::group::run(args, &context),
        Command::Mark(args) => commands::mark::run(args, &context),
        Command::Rollback(args) => commands::rollback::run(args, &context),
        Command::Consolidate(args) => commands::consolidate::run(args, &context),
        Command::Revert(args) => commands::revert::run(args, &context),
        Command::Stat(args) => commands::stat::run(args, &context),
        Command::Top(args) => commands::top::run(args, &context),
        Command::Changes(args) => commands::changes::run(args, &context),
        Command::At(args) => commands::at::run(args, &context),
        Command::Snap(args) => commands::snap::run(args, &context),
        Command::Verify(args) => commands::verify::run(args, &context),
        Command::History(args) => commands::history::run(args, &context),
        Command::Release(args) => commands::release::run(args, &context),
    };
    done.map_err(|error| context.output.complete(error))
}
