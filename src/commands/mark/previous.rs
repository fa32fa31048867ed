//! `emaj mark previous`.

use std::process::ExitCode;

use postgres::error::SqlState;

use crate::commands::act::{call, connect};
use crate::commands::{Context, InstallationArgs};
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, MarkState};
use crate::ui::Format;
use crate::words::shell;

/// Names the mark before a mark or a time
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The group
    group: String,
    /// A mark of the group, or a time as PostgreSQL reads it: 2026-11-21 09:30, yesterday
    #[arg(value_name = "MARK|TIME")]
    of: String,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let Args { group, of, .. } = args;
    let (mut session, schema) = connect(context, &args.installation)?;
    context.output.accept(&[Format::Table, Format::Json])?;
    let is_mark = MarkState::called(&journal::marks(&mut *session, &schema, group)?, of).is_some();
    let cast = if is_mark { "$2::text" } else { "$2::text::timestamptz" };
    let sql = call(&schema, &format!("emaj_get_previous_mark_group($1, {cast})"));
    let row = session.query_one(&sql, &[group, of]).map_err(|error| {
        let no_time = [SqlState::INVALID_DATETIME_FORMAT, SqlState::DATETIME_FIELD_OVERFLOW];
        match error.code() {
            Some(code) if no_time.contains(code) => Error::message(
                Kind::Refused,
                format!("`{of}` is neither a mark of group `{group}` nor a time"),
            )
            .hint(format!("`emaj mark list {}` shows the marks", shell(group))),
            _ => error.into(),
        }
    })?;
    let mark: Option<String> = row.get(0);
    match mark {
        mark if context.output.format() == Format::Json => {
            let previous = serde_json::json!({ "group": group, "mark": mark });
            context.output.text(&format!("{previous}\n"))?;
        }
        Some(mark) => context.output.text(&format!("{mark}\n"))?,
        None => context.output.say(format!("group `{group}` has no mark before `{of}`")),
    }
    Ok(ExitCode::SUCCESS)
}
