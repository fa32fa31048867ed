//! `emaj group reset`.

use std::process::ExitCode;

use postgres_protocol::escape::escape_identifier;

use super::{Several, named};
use crate::commands::Context;
use crate::commands::act::{Done, act, connect, tell};
use crate::errors::Result;

pub(super) fn run(args: &Several, context: &Context) -> Result<ExitCode> {
    let groups = args.sorted();
    let (mut session, schema) = connect(context, &args.installation)?;
    let doing = format!("reset {}", named(&groups));
    let sql = format!("select {}.emaj_reset_group($1)", escape_identifier(&schema));
    let done = act(&mut session, &args.lock, &doing, &mut |transaction| {
        let mut done = Vec::new();
        for group in &groups {
            let relations: i32 = transaction.query_one(&sql, &[group])?.get(0);
            done.push(Done {
                group: group.clone(),
                done: "reset",
                mark: None,
                count: Some(relations.into()),
                sentence: format!("reset group `{group}`: its logs are empty, its marks are gone"),
            });
        }
        Ok(done)
    })?;
    tell(&context.output, &done)?;
    Ok(ExitCode::SUCCESS)
}
