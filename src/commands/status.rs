//! `emaj status`: how the groups are doing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::act::warn_of_broken_rollbacks;
use super::{Context, InstallationArgs};
use crate::errors::Result;
use crate::journal::{self, GroupStatus};
use crate::ui::words::{bytes, duration};
use crate::ui::{Column, Format, Tabular};

/// Shows how the groups are doing
///
/// For every group of the installation: its state, its last mark and the changes since, and the size of its logs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifest that says where the database is, as with `-f`
    #[arg(value_name = "MANIFEST", conflicts_with = "manifest")]
    positional: Vec<PathBuf>,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub fn run(mut args: Args, context: &Context) -> Result<ExitCode> {
    context
        .output
        .accept(&[Format::Table, Format::Json, Format::Markdown, Format::Csv])?;
    args.installation.manifest.append(&mut args.positional);
    let (mut session, schema) = context.installation(&args.installation, |_| {})?;
    let groups = Groups(journal::status(&mut *session, &schema)?);
    context.output.data(&groups)?;
    warn_of_broken_rollbacks(&mut session, &schema, context)?;
    if groups.0.is_empty() {
        context
            .output
            .say("there is no group; a manifest declares them, `emaj install` makes them");
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Groups(Vec<GroupStatus>);

impl Tabular for Groups {
    fn columns(&self) -> Vec<Column> {
        vec![
            Column::left("group"),
            Column::left("manifest"),
            Column::left("state"),
            Column::right("tables"),
            Column::right("sequences"),
            Column::right("marks"),
            Column::left("last mark"),
            Column::right("set"),
            Column::right("changes since"),
            Column::right("log"),
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.0.iter().map(row).collect()
    }
}

fn row(group: &GroupStatus) -> Vec<String> {
    let mut state = if group.logging { "logging" } else { "idle" }.to_owned();
    if !group.rollback {
        state += ", audit only";
    }
    if group.protected {
        state += ", protected";
    }
    let age = group.last_mark_seconds_ago.map(age);
    let changes = group.changes_since.map(|changes| match changes {
        journal::MOST_COUNTED.. => format!("{changes} or more"),
        changes => changes.to_string(),
    });
    vec![
        group.group.clone(),
        group.manifest.clone(),
        state,
        group.tables.to_string(),
        group.sequences.to_string(),
        group.active_marks.to_string(),
        group.last_mark.clone().unwrap_or_default(),
        age.unwrap_or_default(),
        changes.unwrap_or_default(),
        bytes(u64::try_from(group.log_bytes).unwrap_or(0)),
    ]
}

/// A clock that was put back makes an age of less than nothing.
fn age(seconds: i64) -> String {
    match u64::try_from(seconds) {
        Err(_) | Ok(0) => "just now".to_owned(),
        Ok(seconds @ 1..60) => format!("{seconds} s ago"),
        Ok(seconds) => format!("{} ago", duration(Duration::from_secs(seconds))),
    }
}
