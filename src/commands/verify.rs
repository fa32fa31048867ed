//! `emaj verify`: does what was installed still fit the database?

use std::process::ExitCode;

use super::act::connect;
use super::{Context, LockArgs, ShownArgs, plan};
use crate::errors::{Error, Kind, Result};
use crate::install;
use crate::journal::{self, Inconsistency, Origin};
use crate::manifest::Manifest;
use crate::pg::Session;
use crate::render::Renderer;
use crate::ui::{Column, Format, List};
use crate::words::count;

/// Looks for inconsistencies, and says how to mend them
///
/// It looks at emaj's registry, logs, triggers and the tables, and exits with 6 when there are any.
///
/// With `--repair` it mends an installation that is not where it was made. After a restore of a dump, the old logs and history are
/// archived, to be read, and capture ends; `emaj install` begins anew. In a copy made with `create database … template`, marks and logs
/// stay, and the sinks begin anew. After pg_upgrade everything stays. What it will do is shown first.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Mend an installation that was restored, copied or upgraded
    #[arg(long)]
    repair: bool,
    /// With `--repair`, after a restore: keep nothing of the old logs, marks and history
    #[arg(long, requires = "repair")]
    drop_old: bool,
    /// Do not ask
    #[arg(long, short = 'y', requires = "repair")]
    yes: bool,
    /// Show what the repair would do, and stop before the first step
    #[arg(long, requires = "repair")]
    dry_run: bool,
    #[command(flatten)]
    shown: ShownArgs,
    #[command(flatten)]
    lock: LockArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, &args.shown.installation())?;
    journal::refuse_hollow(&mut *session, &schema)?;
    if args.repair && journal::astray(&mut *session, &schema)?.is_some() {
        return repair(&args, &mut session, &schema, context);
    }
    let found = journal::inconsistencies(&mut *session, &schema)?;
    let number = found.len();
    if number > 0 || context.output.format() != Format::Table {
        let columns = ["group", "object", "problem", "repair"].map(Column::left);
        context.output.data(&List::new(&found, columns, row))?;
    }
    if number == 0 {
        context.output.say("no inconsistency found");
        return Ok(ExitCode::SUCCESS);
    }
    context.output.say(format!("{} found", count(number, "inconsistency")));
    if args.repair {
        context
            .output
            .hint("the installation is where it was made: nothing here is for `--repair`; do what stands behind each");
    }
    Ok(ExitCode::from(Kind::Different.exit_code()))
}

fn repair(args: &Args, session: &mut Session, schema: &str, context: &Context) -> Result<ExitCode> {
    let manifest = Manifest::of_schema(schema);
    let database = session.wanted().dbname().to_owned();
    let missing = || journal::not_installed(schema, &database);
    let renderer = Renderer::new(schema);
    let (catalog, journal) = install::look(session, &manifest)?;
    let found = journal.as_ref().ok_or_else(missing)?;
    let origin = found.astray.as_ref().map(|astray| astray.origin);
    if args.drop_old && origin != Some(Origin::Restored) {
        return Err(Error::message(
            Kind::Usage,
            "`--drop-old` is for a restored dump; the marks and logs here go on being right",
        )
        .hint("leave it out"));
    }
    let foreign = match args.drop_old {
        true => install::foreign(session, &manifest, found, &renderer)?,
        false => Vec::new(),
    };
    let archive = journal::free_schema(&mut **session, schema)?;
    let make = |catalog: &_, journal: Option<&journal::Journal>| {
        let journal = journal.ok_or_else(missing)?;
        let astray = journal.astray.as_ref().ok_or_else(missing)?;
        if args.drop_old {
            return Ok(install::uninstall(
                &manifest, true, &foreign, catalog, journal, &renderer,
            )?);
        }
        Ok(install::repair(
            &manifest, astray, &archive, catalog, journal, &renderer,
        )?)
    };
    let first = make(&catalog, journal.as_ref())?;
    plan::show(&first, "--yes", context)?;
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let asking = plan::Asking {
        question: "Repair the installation in this way?",
        doing: "repairing",
        done: "repaired",
        yes: args.yes,
        locking: args.lock.locking(),
    };
    plan::carry_out(&first, &make, &asking, &manifest, session, context)?;
    match origin {
        Some(Origin::Restored) => context
            .output
            .hint("`emaj install` begins anew; `emaj init` sends the rows that are there to the sinks"),
        Some(Origin::Copied) if !found.sinks.is_empty() => context
            .output
            .hint("to let this database deliver as well: `emaj init` with a manifest whose sinks are its own"),
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn row(one: &Inconsistency) -> Vec<String> {
    vec![
        one.group.clone().unwrap_or_default(),
        one.object.clone(),
        one.problem.clone(),
        one.repair.clone(),
    ]
}
