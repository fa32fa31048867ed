//! `emaj mark list`.

use std::process::ExitCode;

use crate::commands::act::connect;
use crate::commands::{Context, InstallationArgs};
use crate::errors::Result;
use crate::journal::{self, MarkState};
use crate::ui::{Column, List};
use crate::words::moment;

/// Lists the marks of a group, the oldest first
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The group
    group: String,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, &args.installation)?;
    journal::group_named(&journal::groups(&mut *session, &schema)?, &args.group)?;
    let marks = journal::marks(&mut *session, &schema, &args.group)?;
    let columns = ["mark", "state", "time", "user", "notes"].map(Column::left);
    context.output.data(&List::new(&marks, columns, row))?;
    Ok(ExitCode::SUCCESS)
}

fn row(mark: &MarkState) -> Vec<String> {
    let protected = mark.protected.then(|| "protected".to_owned());
    let notes: Vec<String> = protected.into_iter().chain(mark.comment.clone()).collect();
    vec![
        mark.mark.clone(),
        // Older than the last stop: to be read, and no target.
        if mark.is_active() { "active" } else { "history" }.to_owned(),
        moment(mark.time),
        mark.user.clone(),
        notes.join("; "),
    ]
}
