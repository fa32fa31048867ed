//! `emaj mark set`.

use std::process::ExitCode;

use crate::commands::act::{Done, act, call, connect, tell};
use crate::commands::{ActArgs, Context};
use crate::errors::Result;
use crate::journal;
use crate::words::{count, quoted};

/// Sets a mark on a group that is logging, or on several; nobody waits for it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The group
    group: String,
    /// Name of the mark; `%` becomes the time
    #[arg(default_value = "MARK_%")]
    name: String,
    /// Another group, at the same instant; may be given several times
    #[arg(long, value_name = "GROUP")]
    with: Vec<String>,
    /// What there is to say about the mark
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    #[command(flatten)]
    act: ActArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let mut groups: Vec<String> = std::iter::once(&args.group).chain(&args.with).cloned().collect();
    groups.sort();
    groups.dedup();
    let (mut session, schema) = connect(context, &args.act.installation)?;
    let sql = call(&schema, "emaj_set_mark_groups($1, $2, $3)");
    let doing = format!("set a mark on {}", quoted("group", &groups));
    let done = act(&mut session, &args.act.lock, &doing, &mut |transaction| {
        transaction.execute(&sql, &[&groups, &args.name, &args.comment])?;
        journal::last_marks(transaction, &schema, &groups)
    })?;
    let done: Vec<Done> = done
        .into_iter()
        .map(|last| Done {
            done: "set",
            sentence: format!(
                "set mark `{}` on group `{}`: {}",
                last.mark,
                last.group,
                count(last.relations, "relation")
            ),
            group: last.group,
            mark: Some(last.mark),
            count: Some(last.relations),
        })
        .collect();
    tell(&context.output, &done)?;
    Ok(ExitCode::SUCCESS)
}
