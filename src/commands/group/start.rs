//! `emaj group start`.

use std::process::ExitCode;

use super::{Several, call};
use crate::commands::Context;
use crate::commands::act::Done;
use crate::errors::Result;
use crate::journal;
use crate::ui::words::count;

/// Starts groups: from now on their changes are logged, beginning with a mark
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
    /// Name of the first mark; `%` becomes the time
    #[arg(long, value_name = "NAME", default_value = "START_%")]
    mark: String,
    /// Keep the logs and marks of earlier runs, to read them
    #[arg(long)]
    keep_log: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    args.several.each("start", context, &|transaction, schema, group| {
        let sql = call(schema, "emaj_start_group($1, $2, $3)");
        let relations: i32 = transaction
            .query_one(&sql, &[&group, &args.mark, &!args.keep_log])?
            .get(0);
        let mark = journal::last_mark(transaction, schema, group)?;
        Ok(Some(Done {
            group: group.to_owned(),
            done: "started",
            sentence: format!(
                "started group `{group}` with mark `{}`: {} logged",
                mark.as_deref().unwrap_or_default(),
                relations_are(relations)
            ),
            mark,
            count: Some(relations.into()),
        }))
    })
}

fn relations_are(number: i32) -> String {
    format!(
        "{} {}",
        count(number, "relation"),
        if number == 1 { "is" } else { "are" }
    )
}
