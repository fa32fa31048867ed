//! Rows that come as text and go as text: `copy` on both sides, nothing made of them in between.
//!
//! Only into columns of which it is sure that the text of the one is the text of the other. What cannot go this way goes as any delivery does.

use std::io::Write as _;

use postgres::Client;
use serde_json::json;

use super::shape::Shape;
use super::text::Kind;
use crate::render::Renderer;
use crate::sink::{Fault, RowsAsText};

/// Whether the table takes the columns as they are: it has each of them, makes none of them itself, their types write alike, it refuses rows
/// without a key by itself, and `copy` may write to it.
pub(super) fn fits(shape: &Shape, rows: &RowsAsText) -> bool {
    let names = rows.columns.iter().map(|column| column.name.as_str());
    let alike = || {
        rows.columns.iter().all(|wanted| {
            shape.column(&wanted.name).is_some_and(|column| {
                let has_key = column.not_null || !rows.key.contains(&wanted.name);
                let is_same = |wanted: &String| *wanted == without_modifier(&column.sql_type);
                has_key
                    && !column.generated
                    && matches!(column.kind, Kind::Scalar | Kind::Json)
                    && wanted.sql_type.as_ref().is_none_or(is_same)
            })
        })
    };
    !shape.is_secured && shape.complaint(&rows.table, &rows.key, names).is_none() && alike()
}

/// `timestamp(3) with time zone` is `timestamp with time zone`.
fn without_modifier(sql_type: &str) -> String {
    match (sql_type.find('('), sql_type.rfind(')')) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &sql_type[..from], &sql_type[to + 1..]),
        _ => sql_type.to_owned(),
    }
}

/// Copies the rows inside the open transaction; returns how many they were.
///
/// # Errors
/// What the server says about one of them, or what `text` failed with: the transaction is broken then.
pub(super) fn write(
    client: &mut Client,
    renderer: &Renderer,
    rows: &RowsAsText,
    text: &mut dyn FnMut() -> Result<Option<Vec<u8>>, Fault>,
) -> Result<u64, Fault> {
    let columns: Vec<&str> = rows.columns.iter().map(|column| column.name.as_str()).collect();
    let values = json!({ "table": rows.table.to_string(), "columns": columns });
    let sql = renderer.render("row/copy", values).map_err(Fault::down)?;
    let mut writer = client.copy_in(&sql)?;
    // (A writer that is dropped takes the whole `copy` back.)
    while let Some(piece) = text()? {
        // A refusal comes again, with its cause, from `finish`.
        if writer.write_all(&piece).is_err() {
            break;
        }
    }
    writer.finish().map_err(Fault::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_do_not_matter() {
        for (given, expected) in [
            ("numeric(12,2)", "numeric"),
            ("timestamp(3) with time zone", "timestamp with time zone"),
            ("text", "text"),
        ] {
            assert_eq!(without_modifier(given), expected);
        }
    }
}
