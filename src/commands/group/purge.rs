//! `emaj group purge`.

use std::process::ExitCode;

use postgres_protocol::escape::escape_identifier;

use super::{Several, named};
use crate::commands::Context;
use crate::commands::act::{Done, act, connect, tell};
use crate::errors::Result;
use crate::ui::words::count;

pub(super) fn run(args: &Several, context: &Context) -> Result<ExitCode> {
    let groups = args.sorted();
    let (mut session, schema) = connect(context, &args.installation)?;
    let doing = format!("purge {}", named(&groups));
    let sql = format!("select {}.emaj_purge_group($1)", escape_identifier(&schema));
    let done = act(&mut session, &args.lock, &doing, &mut |transaction| {
        let mut done = Vec::new();
        for group in &groups {
            let rows: i64 = transaction.query_one(&sql, &[group])?.get(0);
            done.push(Done {
                group: group.clone(),
                done: "purged",
                mark: None,
                count: Some(rows),
                sentence: format!("purged group `{group}`: {} removed", count(rows, "log row")),
            });
        }
        Ok(done)
    })?;
    tell(&context.output, &done)?;
    Ok(ExitCode::SUCCESS)
}
