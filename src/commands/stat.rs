//! `emaj stat`: how much was changed between two marks.

use std::process::ExitCode;

use serde::Serialize;

use super::act::connect;
use super::{Context, InstallationArgs};
use crate::errors::Result;
use crate::journal::{self, RoleChanges, TableChanges};
use crate::ui::{Column, Tabular};

/// Counts the changes of a group's tables between two marks; an update counts once
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The group
    group: String,
    /// Count from this mark on [default: the first change in the log]
    #[arg(long, value_name = "MARK")]
    from: Option<String>,
    /// Count up to this mark [default: now]
    #[arg(long, value_name = "MARK")]
    to: Option<String>,
    /// Count by role and verb
    #[arg(long)]
    detailed: bool,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, &args.installation)?;
    let (group, from, to) = (args.group.as_str(), args.from.as_deref(), args.to.as_deref());
    let failed = |error: crate::errors::Error| error.context(format!("failed to count the changes of group `{group}`"));
    if args.detailed {
        let rows = journal::detailed_log_stat(&mut *session, &schema, group, from, to).map_err(failed)?;
        context.output.data(&Detailed(rows))?;
    } else {
        let rows = journal::log_stat(&mut *session, &schema, group, from, to).map_err(failed)?;
        context.output.data(&Counted(rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Counted(Vec<TableChanges>);

impl Tabular for Counted {
    fn columns(&self) -> Vec<Column> {
        vec![Column::left("table"), Column::right("changes")]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |row: &TableChanges| vec![row.qualified().to_string(), row.changes.to_string()];
        self.0.iter().map(cells).collect()
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Detailed(Vec<RoleChanges>);

impl Tabular for Detailed {
    fn columns(&self) -> Vec<Column> {
        vec![
            Column::left("table"),
            Column::left("role"),
            Column::left("verb"),
            Column::right("changes"),
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |row: &RoleChanges| {
            vec![
                row.qualified().to_string(),
                row.role.clone(),
                row.verb.clone(),
                row.changes.to_string(),
            ]
        };
        self.0.iter().map(cells).collect()
    }
}
