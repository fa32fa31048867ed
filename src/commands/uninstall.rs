//! `emaj uninstall`: leaves no trace.

use std::process::ExitCode;

use super::act::warn;
use super::{Context, LockArgs, ManifestArgs, plan};
use crate::errors::Result;
use crate::install;
use crate::journal;
use crate::render::Renderer;

/// Takes everything that emaj made out of the database; the tables stay
///
/// It takes the manifest's groups out and, when no other manifest has any left, everything that emaj made. Tables, rows and sequences stay
/// as they are; logs and marks are lost. What takes more locks than the server has room for is done in several transactions; the plan says so.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Also take out the groups of every other manifest
    #[arg(long)]
    all: bool,
    /// Do not ask: logs and marks may be lost
    #[arg(long, short = 'y')]
    yes: bool,
    /// Show the plan and stop before the first step
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    lock: LockArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(plan::FORMATS)?;
    let manifest = context.load(&args.manifest.manifest)?;
    let output = context.output.clone();
    let mut session = context.connect_with_notices(Some(&manifest), move |notice| warn(&output, &notice))?;
    let renderer = Renderer::new(&manifest.schema);
    let (catalog, journal) = install::look(&mut session, &manifest)?;
    let database = session.wanted().dbname().to_owned();
    let missing = || {
        journal::not_installed(&manifest.schema, &database).hint_instead(
            "there is nothing to take out, if that is the database and the schema that you mean; a script that may run twice takes exit code 10 for done",
        )
    };
    let found = journal.as_ref().ok_or_else(missing)?;
    let foreign = if found.hollow {
        Vec::new()
    } else {
        install::foreign(&mut session, &manifest, found, &renderer)?
    };
    let make = |catalog: &_, journal: Option<&_>| {
        let journal = journal.ok_or_else(missing)?;
        Ok(install::uninstall(
            &manifest, args.all, &foreign, catalog, journal, &renderer,
        )?)
    };
    let first = make(&catalog, journal.as_ref())?;
    plan::show(&first, "--yes", context)?;
    if args.dry_run || first.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let asking = plan::Asking {
        question: "Take all of this out of the database?",
        doing: "uninstalling",
        done: "uninstalled",
        yes: args.yes,
        locking: args.lock.locking(),
    };
    plan::carry_out(&first, &make, &asking, &manifest, &mut session, context)?;
    Ok(ExitCode::SUCCESS)
}
