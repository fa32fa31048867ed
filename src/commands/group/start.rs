//! `emaj group start`.

use std::cell::RefCell;
use std::process::ExitCode;

use super::Several;
use crate::commands::Context;
use crate::commands::act::{Done, call};
use crate::errors::Result;
use crate::journal::{self, LastMark};
use crate::words::count_are;

/// Starts groups: from now on their changes are logged, beginning with a mark
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
    /// Name of the first mark; `%` becomes the time
    #[arg(long, value_name = "NAME", default_value = "START_%")]
    mark: String,
    /// Keep the logs and marks of earlier runs, to read them until the next purge, or as long as the group's `retention` says
    #[arg(long)]
    keep_log: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let fed = RefCell::new(Vec::new());
    let code = args.several.all("start", context, &|transaction, schema, groups| {
        fed.replace(journal::bound_in(transaction, schema, groups)?);
        let sql = call(schema, "emaj_start_groups($1, $2, $3)");
        transaction.execute(&sql, &[&groups, &args.mark, &!args.keep_log])?;
        let started = journal::last_marks(transaction, schema, groups)?;
        let tell = |last: LastMark| Done {
            done: "started",
            sentence: format!(
                "started group `{}` with mark `{}`: {} logged",
                last.group,
                last.mark,
                count_are(last.relations, "relation")
            ),
            group: last.group,
            mark: Some(last.mark),
            count: Some(last.relations),
        };
        Ok(started.into_iter().map(tell).collect())
    })?;
    for bound in fed.into_inner() {
        context.output.warn(format!(
            "sink `{}` (binding `{}`) was not told what changed in table `{}` before; `{}` brings it up to date",
            bound.sink,
            bound.binding,
            bound.table,
            journal::init_command(&bound.binding, &bound.kind, &bound.sink_kind, true)
        ));
    }
    Ok(code)
}
