//! `emaj group drop`.

use std::process::ExitCode;

use postgres_protocol::escape::escape_identifier;

use super::{Several, named};
use crate::commands::act::{Done, act, connect, tell};
use crate::commands::{Context, unknown_group};
use crate::errors::{Error, Kind, Result};
use crate::journal;
use crate::ui::words::count;

/// Takes groups out of the database, with their logs and marks; the tables stay. The next install of their manifest makes them anew
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
    /// Also a group that is logging or broken
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let groups = args.several.sorted();
    let (mut session, schema) = connect(context, &args.several.installation)?;
    let known = journal::groups(&mut *session, &schema)?;
    let mut marks = 0;
    for name in &groups {
        let Some(group) = known.iter().find(|group| group.group == *name) else {
            return Err(unknown_group(name, &known));
        };
        if group.state != "IDLE" && !args.force {
            return Err(
                Error::message(Kind::Refused, format!("group `{name}` is {}, not IDLE", group.state)).hint(format!(
                    "stop it first: `emaj group stop {name}`, or drop it as it is with `--force`"
                )),
            );
        }
        marks += group.active_marks;
    }
    let question = format!(
        "Drop {}, with logs and {}?",
        named(&groups),
        count(marks, "active mark")
    );
    context.output.confirm(&question, args.yes)?;
    let function = if args.force {
        "emaj_force_drop_group"
    } else {
        "emaj_drop_group"
    };
    let sql = format!("select {}.{function}($1)", escape_identifier(&schema));
    let doing = format!("drop {}", named(&groups));
    let done = act(&mut session, &args.several.lock, &doing, &mut |transaction| {
        let mut done = Vec::new();
        for group in &groups {
            let relations: i32 = transaction.query_one(&sql, &[group])?.get(0);
            done.push(Done {
                group: group.clone(),
                done: "dropped",
                mark: None,
                count: Some(relations.into()),
                sentence: format!(
                    "dropped group `{group}`: {} not captured any more",
                    count(relations, "relation")
                ),
            });
        }
        Ok(done)
    })?;
    tell(&context.output, &done)?;
    Ok(ExitCode::SUCCESS)
}
