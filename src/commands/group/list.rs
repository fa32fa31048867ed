//! `emaj group list`.

use std::process::ExitCode;

use crate::commands::act::connect;
use crate::commands::{Context, ShownArgs};
use crate::errors::Result;
use crate::journal::{self, GroupState};
use crate::ui::{Column, List};

/// Lists the groups, their states and their last marks
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    shown: ShownArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, &args.shown.installation())?;
    let groups = journal::groups(&mut *session, &schema)?;
    let columns = [
        Column::left("group"),
        Column::left("state"),
        Column::right("tables"),
        Column::right("sequences"),
        Column::right("marks"),
        Column::left("last mark"),
        Column::left("notes"),
    ];
    context.output.data(&List::new(&groups, columns, row))?;
    Ok(ExitCode::SUCCESS)
}

fn row(group: &GroupState) -> Vec<String> {
    vec![
        group.group.clone(),
        group.state.to_lowercase(),
        group.tables.to_string(),
        group.sequences.to_string(),
        group.active_marks.to_string(),
        group.last_mark.clone().unwrap_or_default(),
        notes(group),
    ]
}

fn notes(group: &GroupState) -> String {
    let protected = group.protected.then(|| "protected".to_owned());
    let audit = (!group.rollback).then(|| "audit only".to_owned());
    let notes: Vec<String> = [protected, audit, group.comment.clone()]
        .into_iter()
        .flatten()
        .collect();
    notes.join("; ")
}
