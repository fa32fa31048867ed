//! `emaj group start`.

use std::process::ExitCode;

use postgres_protocol::escape::escape_identifier;

use super::{Several, named};
use crate::commands::Context;
use crate::commands::act::{Done, act, connect, tell};
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
    let groups = args.several.sorted();
    let (mut session, schema) = connect(context, &args.several.installation)?;
    let doing = format!("start {}", named(&groups));
    let sql = format!("select {}.emaj_start_group($1, $2, $3)", escape_identifier(&schema));
    let done = act(&mut session, &args.several.lock, &doing, &mut |transaction| {
        let mut done = Vec::new();
        for group in &groups {
            let relations: i32 = transaction
                .query_one(&sql, &[group, &args.mark, &!args.keep_log])?
                .get(0);
            let mark = journal::last_mark(transaction, &schema, group)?;
            done.push(Done {
                group: group.clone(),
                done: "started",
                sentence: format!(
                    "started group `{group}` with mark `{}`: {} logged",
                    mark.as_deref().unwrap_or_default(),
                    relations_are(relations)
                ),
                mark,
                count: Some(relations.into()),
            });
        }
        Ok(done)
    })?;
    tell(&context.output, &done)?;
    Ok(ExitCode::SUCCESS)
}

fn relations_are(number: i32) -> String {
    format!(
        "{} {}",
        count(number, "relation"),
        if number == 1 { "is" } else { "are" }
    )
}
