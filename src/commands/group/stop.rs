//! `emaj group stop`.

use std::process::ExitCode;

use postgres_protocol::escape::escape_identifier;

use super::{Several, call};
use crate::commands::Context;
use crate::commands::act::Done;
use crate::errors::Result;
use crate::journal;

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
    args.several.each("stop", context, &|transaction, schema, group| {
        let state = format!(
            "select group_state from {}.emaj_group where group_name = $1",
            escape_identifier(schema)
        );
        let before: Option<String> = transaction.query_opt(&state, &[&group])?.map(|row| row.get(0));
        let sql = call(schema, "emaj_stop_group($1, $2)");
        let relations: i32 = transaction.query_one(&sql, &[&group, &args.mark])?.get(0);
        if before.as_deref() != Some("LOGGING") {
            // A group that is stopped already is told by a warning of the server.
            return Ok(None);
        }
        let mark = journal::last_mark(transaction, schema, group)?;
        Ok(Some(Done {
            group: group.to_owned(),
            done: "stopped",
            sentence: format!(
                "stopped group `{group}` with mark `{}`",
                mark.as_deref().unwrap_or_default()
            ),
            mark,
            count: Some(relations.into()),
        }))
    })
}
