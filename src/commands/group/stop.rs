//! `emaj group stop`.

use std::process::ExitCode;

use super::Several;
use crate::commands::Context;
use crate::commands::act::{Done, call};
use crate::errors::Result;
use crate::journal::{self, LastMark};

/// Stops groups: no change is logged any more. Their marks and logs stay readable; none can be rolled back to
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
    /// Name of the last mark; `%` becomes the time
    #[arg(long, value_name = "NAME", default_value = "STOP_%")]
    mark: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    args.several.all("stop", context, &|transaction, schema, groups| {
        // A group that is stopped already is told by a warning of the server.
        let logging: Vec<String> = journal::groups(transaction, schema)?
            .into_iter()
            .filter(|group| group.state == "LOGGING" && groups.contains(&group.group))
            .map(|group| group.group)
            .collect();
        let sql = call(schema, "emaj_stop_groups($1, $2)");
        transaction.execute(&sql, &[&groups, &args.mark])?;
        let tell = |last: LastMark| Done {
            done: "stopped",
            sentence: format!("stopped group `{}` with mark `{}`", last.group, last.mark),
            group: last.group,
            mark: Some(last.mark),
            count: Some(last.relations),
        };
        Ok(journal::last_marks(transaction, schema, &logging)?
            .into_iter()
            .map(tell)
            .collect())
    })
}
