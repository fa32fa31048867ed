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

/// One verb, one file in `commands/`: the comment on its `Args` is its help, the first line of it in the list of verbs.
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
    Plan(commands::plan::Args),
    Install(commands::install::Args),
    Uninstall(commands::uninstall::Args),
    Init(commands::init::Args),
    Run(commands::run::Args),
    Sink(commands::sink::Args),
    Failures(commands::failures::Args),
    Replay(commands::replay::Args),
    Group(commands::group::Args),
    Mark(commands::mark::Args),
    Rollback(commands::rollback::Args),
    Consolidate(commands::consolidate::Args),
    Revert(commands::revert::Args),
    Stat(commands::stat::Args),
    Top(commands::top::Args),
    Changes(commands::changes::Args),
    At(commands::at::Args),
    Snap(commands::snap::Args),
    Verify(commands::verify::Args),
    History(commands::history::Args),
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
    done.map_err(|error| context.output.complete(context.explained(error)))
}
