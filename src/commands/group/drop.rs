//! `emaj group drop`.

use std::process::ExitCode;

use super::Several;
use crate::commands::act::{Done, call, connect};
use crate::commands::{AskArgs, Context};
use crate::errors::{Error, Kind, Result};
use crate::journal;
use crate::words::{count, quoted, shell};

/// Takes groups out of the database, with their logs and marks; the tables stay. The next install of their manifest makes them anew
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
    /// Also a group that is logging or broken, or of which a rollback is torn
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    ask: AskArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let groups = args.several.sorted();
    let (mut session, schema) = connect(context, &args.several.act.installation)?;
    if !args.force {
        journal::check_origin(&mut *session, &schema)?;
    }
    let known = journal::groups(&mut *session, &schema)?;
    let mut marks = 0;
    for name in &groups {
        let group = journal::group_named(&known, name)?;
        if group.state != "IDLE" && !args.force {
            return Err(
                Error::message(Kind::Refused, format!("group `{name}` is {}, not IDLE", group.state)).hint(format!(
                    "stop it first: `emaj group stop {}`, or drop it as it is with `--force`",
                    shell(name)
                )),
            );
        }
        marks += group.active_marks;
    }
    let question = format!(
        "Drop {}, with logs and {}?",
        quoted("group", &groups),
        count(marks, "active mark")
    );
    context.output.confirm(&question, args.ask.yes)?;
    let function = if args.force {
        "emaj_force_drop_group"
    } else {
        "emaj_drop_group"
    };
    args.several
        .each_in(session, &schema, "drop", context, &|transaction, schema, group| {
            let sql = call(schema, &format!("{function}($1)"));
            let relations: i32 = transaction.query_one(&sql, &[&group])?.get(0);
            Ok(Some(Done {
                group: group.to_owned(),
                done: "dropped",
                mark: None,
                count: Some(relations.into()),
                sentence: format!(
                    "dropped group `{group}`: {} not captured any more",
                    count(relations, "relation")
                ),
            }))
        })
}
