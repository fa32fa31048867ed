//! The marks of a group with their positions, and which two of them are meant.

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;

use super::MarkPosition;
use crate::errors::{Error, Kind, Result};
use crate::journal::groups::{group_named, groups};
use crate::journal::marks::mark_called;
use crate::journal::position::Position;
use crate::names::listed;
use crate::words::shell;

/// Reads the marks of a group, the oldest first.
pub(super) fn marks(client: &mut impl GenericClient, schema: &str, group: &str) -> Result<Vec<MarkPosition>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select mark_id, mark_name, mark_state = 'ACTIVE', mark_starts, {}
               from {s}.emaj_mark where mark_group = $1 order by mark_id",
            Position::columns("mark_position", "position")
        ),
        &[&group],
    )?;
    if rows.is_empty() {
        group_named(&groups(client, schema)?, group)?;
        return Err(Error::message(Kind::Refused, format!("group `{group}` has no mark"))
            .hint(format!("its first mark is set by `emaj group start {}`", shell(group))));
    }
    rows.iter()
        .map(|row| {
            Ok(MarkPosition {
                id: row.get(0),
                name: row.get(1),
                active: row.get(2),
                position: Position::get(row, "position")?,
                starts: row.get(3),
            })
        })
        .collect()
}

pub(super) fn named(group: &str, marks: &[MarkPosition], name: &str) -> Result<MarkPosition> {
    let found = mark_called(marks, name, |mark| (&mark.name, mark.active));
    found.cloned().ok_or_else(|| {
        let last = marks.iter().rev().take(10).map(|mark| &mark.name);
        Error::message(Kind::Refused, format!("group `{group}` has no mark `{name}`"))
            .hint(format!("its marks, the newest first: {}", listed(last)))
    })
}

/// Returns the last mark, or the one before `until`.
pub(super) fn before(group: &str, marks: &[MarkPosition], until: Option<&MarkPosition>) -> Result<MarkPosition> {
    let found = match until {
        None => marks.last(),
        Some(until) => marks.iter().rev().find(|mark| mark.id < until.id),
    };
    found.cloned().ok_or_else(|| {
        Error::message(Kind::Refused, format!("group `{group}` has no mark before that one"))
            .hint("say with `--from` where to begin")
    })
}
