//! `emaj mark`: the named moments of a group that can be rolled back to.

mod change;
mod list;
mod previous;
mod set;

use std::process::ExitCode;

use clap::Subcommand;

use super::{ActArgs, Context};
use crate::errors::Result;

/// Sets marks, moments that a group can be rolled back to, and shows them
///
/// Wherever a mark is named, EMAJ_LAST_MARK is the last one.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Sets a mark on a group that is logging, or on several; nobody waits for it
    Set(set::Args),
    /// Lists the marks of a group
    List(list::Args),
    /// Gives a mark another name
    Rename(change::Rename),
    /// Names the mark before a mark or a time
    Previous(previous::Args),
    /// Says something about a mark, instead of what was said before
    Comment(change::Comment),
    /// Deletes marks; nobody can roll back to them any more
    Delete(change::Delete),
    /// Protects marks: no rollback goes past them, and they are not deleted
    Protect(Several),
    /// Takes the protection of marks away
    Unprotect(Several),
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    match args.verb {
        Verb::Set(args) => set::run(&args, context),
        Verb::List(args) => list::run(&args, context),
        Verb::Rename(args) => change::rename(&args, context),
        Verb::Previous(args) => previous::run(&args, context),
        Verb::Comment(args) => change::comment(&args, context),
        Verb::Delete(args) => change::delete(args, context),
        Verb::Protect(args) => change::protect(&args, true, context),
        Verb::Unprotect(args) => change::protect(&args, false, context),
    }
}

/// Several marks of one group, which are dealt with in one transaction: all of them or none.
#[derive(Debug, clap::Args)]
struct Several {
    /// The group
    group: String,
    /// Marks; all of them in one transaction
    #[arg(value_name = "MARK", required = true)]
    marks: Vec<String>,
    #[command(flatten)]
    act: ActArgs,
}
