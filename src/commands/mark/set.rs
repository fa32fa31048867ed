//! `emaj mark set`.

use std::process::ExitCode;

use postgres_protocol::escape::escape_identifier;

use crate::commands::act::{Done, act, connect, tell};
use crate::commands::{Context, InstallationArgs, LockArgs};
use crate::errors::Result;
use crate::journal;
use crate::ui::words::count;

/// Sets a mark on a group that is logging; nobody waits for it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The group
    group: String,
    /// Name of the mark; `%` becomes the time
    #[arg(default_value = "MARK_%")]
    name: String,
    #[command(flatten)]
    installation: InstallationArgs,
    #[command(flatten)]
    lock: LockArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let group = &args.group;
    let (mut session, schema) = connect(context, &args.installation)?;
    let sql = format!("select {}.emaj_set_mark_group($1, $2)", escape_identifier(&schema));
    let doing = format!("set a mark on group `{group}`");
    let done = act(&mut session, &args.lock, &doing, &mut |transaction| {
        let relations: i32 = transaction.query_one(&sql, &[group, &args.name])?.get(0);
        let mark = journal::last_mark(transaction, &schema, group)?;
        Ok(Done {
            group: group.clone(),
            done: "set",
            sentence: format!(
                "set mark `{}` on group `{group}`: {}",
                mark.as_deref().unwrap_or_default(),
                count(relations, "relation")
            ),
            mark,
            count: Some(relations.into()),
        })
    })?;
    tell(&context.output, &[done])?;
    Ok(ExitCode::SUCCESS)
}
