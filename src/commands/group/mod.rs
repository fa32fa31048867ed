//! `emaj group`: the groups that a manifest declared, and their states.

mod drop;
mod list;
mod protect;
mod purge;
mod reset;
mod show;
mod start;
mod stop;

use std::process::ExitCode;

use clap::Subcommand;
use postgres::Transaction;

use super::act::{Done, act, connect, tell};
use super::{ActArgs, Context};
use crate::errors::Result;
use crate::pg::Session;
use crate::words::quoted;

/// Shows groups of tables, starts and stops them
///
/// Which tables are in a group is the manifest's to say.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists the groups
    List(list::Args),
    /// Shows one group, its tables and sequences
    Show(show::Args),
    /// Starts groups: from now on their changes are logged
    Start(start::Args),
    /// Stops groups: no change is logged any more, and no mark can be rolled back to
    Stop(stop::Args),
    /// Empties the logs of stopped groups and forgets their marks
    Reset(Several),
    /// Removes log rows that no mark, no retention and no sink needs
    Purge(purge::Args),
    /// Protects groups against rollbacks
    Protect(Several),
    /// Takes the protection of groups away
    Unprotect(Several),
    /// Takes groups out of the database, with their logs and marks; the tables stay
    Drop(drop::Args),
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    match args.verb {
        Verb::List(args) => list::run(&args, context),
        Verb::Show(args) => show::run(&args, context),
        Verb::Start(args) => start::run(&args, context),
        Verb::Stop(args) => stop::run(&args, context),
        Verb::Reset(args) => reset::run(&args, context),
        Verb::Purge(args) => purge::run(&args, context),
        Verb::Protect(args) => protect::run(&args, true, context),
        Verb::Unprotect(args) => protect::run(&args, false, context),
        Verb::Drop(args) => drop::run(&args, context),
    }
}

/// Several groups, which are dealt with in one transaction: all of them or none.
#[derive(Debug, clap::Args)]
struct Several {
    /// Groups; all of them in one transaction
    #[arg(value_name = "GROUP", required = true)]
    groups: Vec<String>,
    #[command(flatten)]
    act: ActArgs,
}

impl Several {
    /// Returns the groups, each once, in the one order in which everybody takes them.
    fn sorted(&self) -> Vec<String> {
        let mut groups = self.groups.clone();
        groups.sort();
        groups.dedup();
        groups
    }

    /// Connects, does `work` on each group in one transaction, and tells it; `verb` completes "failed to … group `a`". `work` is given
    /// the installation's schema and the group's name.
    fn each(&self, verb: &str, context: &Context, work: &Work<'_>) -> Result<ExitCode> {
        let (session, schema) = connect(context, &self.act.installation)?;
        self.each_in(session, &schema, verb, context, work)
    }

    fn each_in(
        &self,
        session: Session,
        schema: &str,
        verb: &str,
        context: &Context,
        work: &Work<'_>,
    ) -> Result<ExitCode> {
        self.all_in(session, schema, verb, context, &|transaction, schema, groups| {
            let done = groups.iter().map(|group| work(transaction, schema, group));
            done.filter_map(Result::transpose).collect()
        })
    }

    /// Connects, does `work` on all groups as one act, and tells it; `work` is given the installation's schema and the names of the groups.
    fn all(&self, verb: &str, context: &Context, work: &WorkOnAll<'_>) -> Result<ExitCode> {
        let (session, schema) = connect(context, &self.act.installation)?;
        self.all_in(session, &schema, verb, context, work)
    }

    fn all_in(
        &self,
        mut session: Session,
        schema: &str,
        verb: &str,
        context: &Context,
        work: &WorkOnAll<'_>,
    ) -> Result<ExitCode> {
        let groups = self.sorted();
        let doing = format!("{verb} {}", quoted("group", &groups));
        let done = act(&mut session, &self.act.lock, &doing, &mut |transaction| {
            work(transaction, schema, &groups)
        })?;
        tell(&context.output, &done)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What is done to one group; none: there was nothing to do.
type Work<'w> = dyn Fn(&mut Transaction<'_>, &str, &str) -> Result<Option<Done>> + 'w;

/// What is done to all groups at once.
type WorkOnAll<'w> = dyn Fn(&mut Transaction<'_>, &str, &[String]) -> Result<Vec<Done>> + 'w;
