//! `emaj mark previous`.

use std::process::ExitCode;

use crate::commands::act::{call, connect};
use crate::commands::moment::moment_of;
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
    /// A mark of the group, or a time in your time zone: `2026-11-21 09:30`, `yesterday`, or how long ago: `90min`
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
    let row = if is_mark {
        session.query_one(
            &call(&schema, "emaj_get_previous_mark_group($1, $2::text)"),
            &[group, of],
        )?
    } else {
        let time = moment_of(&mut session, of).map_err(|error| match error.kind() {
            Kind::Usage => Error::message(
                Kind::Refused,
                format!("`{of}` is neither a mark of group `{group}` nor a time"),
            )
            .hint(format!("`emaj mark list {}` shows the marks", shell(group))),
            _ => error,
        })?;
        let sql = call(&schema, "emaj_get_previous_mark_group($1, $2::timestamptz)");
        session.query_one(&sql, &[group, &time])?
    };
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
