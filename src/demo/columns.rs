//! Texts as the story shows them: an answer in columns, and what a program said, set off by a line at its left.

use postgres::SimpleQueryMessage;

use crate::ui::words::count;

/// Returns an answer in columns; of a statement without one, the number of its rows.
pub(super) fn table(answers: &[SimpleQueryMessage]) -> String {
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut rows = 0;
    for answer in answers {
        match answer {
            SimpleQueryMessage::RowDescription(columns) => {
                lines.push(columns.iter().map(|column| column.name().to_owned()).collect());
            }
            SimpleQueryMessage::Row(row) => {
                let cells = (0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned());
                lines.push(cells.collect());
            }
            SimpleQueryMessage::CommandComplete(number) => rows = *number,
            _ => {}
        }
    }
    let Some(heading) = lines.first() else {
        return count(rows, "row");
    };
    let widths: Vec<usize> = (0..heading.len())
        .map(|at| {
            lines
                .iter()
                .map(|line| line[at].chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(super) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  │ {line}\n")).collect()
}
