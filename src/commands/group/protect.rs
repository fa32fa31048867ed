//! `emaj group protect` and `emaj group unprotect`.

use std::process::ExitCode;

use postgres_protocol::escape::escape_identifier;

use super::{Several, named};
use crate::commands::Context;
use crate::commands::act::{Done, act, connect, tell};
use crate::errors::Result;

pub(super) fn run(args: &Several, on: bool, context: &Context) -> Result<ExitCode> {
    let groups = args.sorted();
    let (mut session, schema) = connect(context, &args.installation)?;
    let (verb, done_word) = if on {
        ("protect", "protected")
    } else {
        ("unprotect", "unprotected")
    };
    let sql = format!("select {}.emaj_{verb}_group($1)", escape_identifier(&schema));
    let doing = format!("{verb} {}", named(&groups));
    let done = act(&mut session, &args.lock, &doing, &mut |transaction| {
        let mut done = Vec::new();
        for group in &groups {
            transaction.execute(&sql, &[group])?;
            done.push(Done {
                group: group.clone(),
                done: done_word,
                mark: None,
                count: None,
                sentence: if on {
                    format!("protected group `{group}`: rollbacks are refused")
                } else {
                    format!("unprotected group `{group}`: rollbacks are possible again")
                },
            });
        }
        Ok(done)
    })?;
    tell(&context.output, &done)?;
    Ok(ExitCode::SUCCESS)
}
