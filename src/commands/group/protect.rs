//! `emaj group protect` and `emaj group unprotect`.

use std::process::ExitCode;

use super::Several;
use crate::commands::Context;
use crate::commands::act::{Done, call};
use crate::errors::Result;

pub(super) fn run(args: &Several, on: bool, context: &Context) -> Result<ExitCode> {
    let (verb, done, so) = if on {
        ("protect", "protected", "rollbacks are refused")
    } else {
        ("unprotect", "unprotected", "rollbacks are possible again")
    };
    args.each(verb, context, &|transaction, schema, group| {
        transaction.execute(&call(schema, &format!("emaj_{verb}_group($1)")), &[&group])?;
        Ok(Some(Done {
            group: group.to_owned(),
            done,
            mark: None,
            count: None,
            sentence: format!("{done} group `{group}`: {so}"),
        }))
    })
}
