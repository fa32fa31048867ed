//! `emaj group purge`.

use std::process::ExitCode;

use super::{Several, call};
use crate::commands::Context;
use crate::commands::act::Done;
use crate::errors::Result;
use crate::ui::words::count;

pub(super) fn run(args: &Several, context: &Context) -> Result<ExitCode> {
    args.each("purge", context, &|transaction, schema, group| {
        let sql = call(schema, "emaj_purge_group($1)");
        let rows: i64 = transaction.query_one(&sql, &[&group])?.get(0);
        Ok(Some(Done {
            group: group.to_owned(),
            done: "purged",
            mark: None,
            count: Some(rows),
            sentence: format!("purged group `{group}`: {} removed", count(rows, "log row")),
        }))
    })
}
