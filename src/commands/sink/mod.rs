//! `emaj sink`: the sinks of manifests, as the database knows them and as they answer.

mod lag;
mod state;
mod test;

use std::process::ExitCode;

use clap::Subcommand;

pub(super) use state::unknown_sink;

use super::Context;
use crate::errors::Result;

/// Shows sinks, tests, pauses and resumes them
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists the sinks, who delivers to them and what is wrong
    List(lag::Args),
    /// Shows how far behind each sink is: changes not delivered yet, and the age of the oldest
    Lag(lag::Args),
    /// Reaches the sinks of a manifest and says what may be done there; exits with 13 when one is out of reach, with 12 when one
    /// refuses the login
    Test(test::Args),
    /// Pauses a sink: changes wait in the log
    Pause(state::PauseArgs),
    /// Lets a sink go on that was paused, or stopped by a guard
    Resume(state::Args),
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    match args.verb {
        Verb::List(args) => lag::run(&args, lag::View::List, context),
        Verb::Lag(args) => lag::run(&args, lag::View::Lag, context),
        Verb::Test(args) => test::run(&args, context),
        Verb::Pause(args) => state::pause(&args, context),
        Verb::Resume(args) => state::resume(&args, context),
    }
}
