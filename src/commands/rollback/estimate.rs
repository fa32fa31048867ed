//! `emaj rollback --estimate`: how long it would take.

use std::process::ExitCode;

use serde::Serialize;

use super::super::Context;
use super::show::time;
use crate::errors::Result;
use crate::pg::Session;
use crate::rollback::{self, Estimate, Preview, TableEstimate, Wanted};
use crate::ui::{Column, Tabular};
use crate::words::{count, duration, quoted};

pub(super) fn run(
    session: &mut Session,
    schema: &str,
    wanted: &Wanted,
    preview: &Preview,
    context: &Context,
) -> Result<ExitCode> {
    let estimate = rollback::estimate(&mut **session, schema, wanted, preview)?;
    context.output.data(&Shown(&estimate))?;
    for left in &estimate.left {
        context.output.warn(super::show::left(left, "would be left"));
    }
    let sessions = if estimate.sessions > 1 {
        format!(" in {}", count(estimate.sessions, "session"))
    } else {
        String::new()
    };
    context.output.say(format!(
        "a rollback of {} to mark `{}` would take about {}{sessions}",
        quoted("group", &estimate.groups),
        estimate.mark,
        duration(estimate.time())
    ));
    preview.check()?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown<'a>(&'a Estimate);

impl Tabular for Shown<'_> {
    fn columns(&self) -> Vec<Column> {
        vec![
            Column::left("table"),
            Column::right("changes to undo"),
            Column::right("about"),
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |table: &TableEstimate| {
            vec![
                table.qualified().to_string(),
                table.changes.to_string(),
                time(table.seconds),
            ]
        };
        self.0.tables.iter().map(cells).collect()
    }
}
