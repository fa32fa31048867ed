//! `emaj consolidate`: makes a logged rollback an unlogged one afterwards.

use std::process::ExitCode;

use super::act::{Done, act, connect, tell};
use super::{ActArgs, AskArgs, Context};
use crate::errors::Result;
use crate::journal;
use crate::rollback::{self, Consolidable};
use crate::ui::{Column, List};
use crate::words::count;

/// Makes a logged rollback an unlogged one afterwards
///
/// The marks and log rows between its target and its end go, and it can no longer be undone. Without a group, lists the rollbacks for which
/// that is possible.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The group
    #[arg(requires = "mark")]
    group: Option<String>,
    /// The mark at the end of the rollback (`RLBK_…_DONE`)
    mark: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    act: ActArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, &args.act.installation)?;
    let possible = rollback::consolidable(&mut *session, &schema)?;
    let (Some(group), Some(mark)) = (args.group, args.mark) else {
        let columns = [
            Column::left("group"),
            Column::left("went back to"),
            Column::left("end"),
            Column::right("changes"),
            Column::right("marks"),
        ];
        context.output.data(&List::new(&possible, columns, row))?;
        if possible.is_empty() {
            context
                .output
                .say("there is no logged rollback that could be made an unlogged one");
        }
        return Ok(ExitCode::SUCCESS);
    };
    let mark = journal::own_name(&mut *session, &schema, &group, &mark)?;
    let wanted = possible.iter().find(|one| one.group == group && one.end == mark);
    let cost = wanted.map_or(String::new(), |one| {
        let (marks, changes) = (
            count(usize::try_from(one.marks).unwrap_or(0), "mark"),
            count(one.changes, "change"),
        );
        format!(" {marks} and the log of {changes} go, and it cannot be undone.")
    });
    // What is not possible is refused by the database, with the reason: nobody is asked for that.
    context.output.confirm(
        &format!("This makes the rollback of group `{group}` that ends at mark `{mark}` an unlogged one.{cost} Go on?"),
        args.ask.yes || wanted.is_none(),
    )?;
    let doing = format!("consolidate the rollback of group `{group}` that ends at mark `{mark}`");
    act(&mut session, &args.act.lock, &doing, &mut |transaction| {
        rollback::consolidate(transaction, &schema, &group, &mark)
    })?;
    let done = Done {
        sentence: format!("the rollback of group `{group}` that ends at mark `{mark}` is unlogged now"),
        group,
        done: "consolidated",
        mark: Some(mark),
        count: wanted.map(|one| one.changes),
    };
    tell(&context.output, &[done])?;
    Ok(ExitCode::SUCCESS)
}

fn row(one: &Consolidable) -> Vec<String> {
    vec![
        one.group.clone(),
        one.target.clone(),
        one.end.clone(),
        one.changes.to_string(),
        one.marks.to_string(),
    ]
}
