//! What a rollback would undo, and what it did, as rows.

use std::time::Duration;

use serde::Serialize;

use crate::journal::TableChanges;
use crate::rollback::{Left, Preview, Report};
use crate::ui::{Column, Tabular};
use crate::words::{count, duration};

/// What would be undone: a row per table with changes.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Undone<'a>(pub &'a Preview);

impl Tabular for Undone<'_> {
    fn columns(&self) -> Vec<Column> {
        let mut columns = vec![Column::left("table"), Column::right("changes to undo")];
        if self.0.lanes.is_some() {
            columns.push(Column::right("session"));
        }
        columns
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |table: &TableChanges| {
            let name = table.qualified().to_string();
            let lane = self.0.lanes.as_ref().map(|lanes| lanes.lane_of(&name));
            let mut cells = vec![name, table.changes.to_string()];
            cells.extend(lane.map(|lane| lane.map(|lane| lane.to_string()).unwrap_or_default()));
            cells
        };
        self.0.tables.iter().map(cells).collect()
    }
}

/// What was done: a row per table that was looked at.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Rolled<'a>(pub &'a Report);

impl Tabular for Rolled<'_> {
    fn columns(&self) -> Vec<Column> {
        vec![
            Column::left("table"),
            Column::right("deleted"),
            Column::right("updated"),
            Column::right("inserted"),
            Column::left("strategy"),
            Column::right("time"),
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |table: &crate::rollback::TableReport| {
            vec![
                table.qualified().to_string(),
                table.deleted.to_string(),
                table.updated.to_string(),
                table.inserted.to_string(),
                self.0.strategy.clone(),
                time(table.seconds),
            ]
        };
        self.0.tables.iter().map(cells).collect()
    }
}

/// Returns the changes per table, and what is left, as lines of talk, for the question.
pub(super) fn changes(preview: &Preview) -> String {
    let changes = |table: &TableChanges| format!("{}: {}", table.qualified(), count(table.changes, "change"));
    let lines: Vec<String> = preview
        .tables
        .iter()
        .map(changes)
        .chain(preview.left.iter().map(|stays| left(stays, "is left")))
        .collect();
    lines.join("\n")
}

/// Returns what is left as it is, and why, as a sentence.
pub(super) fn left(left: &Left, is: &str) -> String {
    format!("{} {is} as it is: {}", left.relation, left.reason)
}

/// Returns seconds as a person reads them; what the server's clock made negative is nothing.
pub(super) fn time(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
