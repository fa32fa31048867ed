//! `emaj release`: lets a table go, for a migration that its guard would refuse.

use std::process::ExitCode;

use super::act::{Done, act, call, connect, tell};
use super::args::table_named;
use super::{ActArgs, AskArgs, Context};
use crate::errors::Result;
use crate::journal::{self, MarkState};
use crate::names::listed;
use crate::words::count;

/// Releases a table for a migration, until the next install takes it back
///
/// Its changes are not logged any more. No mark that is there now can then be rolled back to, and sinks are told nothing of it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The table, with its schema; odd names in double quotes: `'"Odd Schema"."Odd Name"'`
    #[arg(value_name = "SCHEMA.TABLE")]
    table: String,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Returns the marks by name, oldest first; of many the newest few.
fn few(marks: &[String]) -> String {
    const FEW: usize = 5;
    match marks.len().checked_sub(FEW) {
        Some(more @ 1..) => format!("{} and {more} older", listed(&marks[more..])),
        _ => listed(marks),
    }
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let table = table_named(&args.table)?;
    let (mut session, schema) = connect(context, &args.act.installation)?;
    let captured = journal::captured(&mut *session, &schema, &table)?;
    let marks: Vec<String> = journal::marks(&mut *session, &schema, &captured.group)?
        .into_iter()
        .filter(MarkState::is_active)
        .map(|mark| mark.mark)
        .collect();
    let cost = if marks.is_empty() {
        "no mark is lost".to_owned()
    } else {
        format!(
            "{} of group `{}` can no longer be rolled back to: {}",
            count(marks.len(), "mark"),
            captured.group,
            few(&marks)
        )
    };
    for bound in journal::bound_to(&mut *session, &schema, captured.oid)? {
        context.output.warn(format!(
            "sink `{}` (binding `{}`) is not told what changes in table `{table}` until the next install; then `{}` brings it up to date",
            bound.sink,
            bound.binding,
            journal::init_command(&bound.binding, &bound.kind, &bound.sink_kind, true)
        ));
    }
    context
        .output
        .confirm(&format!("Release table `{table}` ({cost})?"), args.ask.yes)?;
    let sql = call(&schema, "emaj_release_table($1)");
    let doing = format!("release table `{table}`");
    let lost: i64 = act(&mut session, &args.act.lock, &doing, &mut |transaction| {
        Ok(transaction.query_one(&sql, &[&captured.oid])?.get(0))
    })?;
    tell(
        &context.output,
        &[Done {
            group: captured.group,
            done: "released",
            mark: None,
            count: Some(lost),
            sentence: format!("released table `{table}` ({cost}); the next `emaj install` takes it back"),
        }],
    )?;
    Ok(ExitCode::SUCCESS)
}
