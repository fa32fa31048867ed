//! `emaj group reset`.

use std::process::ExitCode;

use super::Several;
use crate::commands::Context;
use crate::commands::act::{Done, call};
use crate::errors::Result;

pub(super) fn run(args: &Several, context: &Context) -> Result<ExitCode> {
    args.each("reset", context, &|transaction, schema, group| {
        let sql = call(schema, "emaj_reset_group($1)");
        let relations: i32 = transaction.query_one(&sql, &[&group])?.get(0);
        Ok(Some(Done {
            group: group.to_owned(),
            done: "reset",
            mark: None,
            count: Some(relations.into()),
            sentence: format!("reset group `{group}`: its logs are empty, its marks are gone"),
        }))
    })
}
