//! The marks of a group with their positions, and which two of them are meant.

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;

use super::{MarkPosition, WindowWanted};
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
            "select mark_id, mark_name, mark_state = 'ACTIVE', mark_starts, mark_datetime, {}
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
                time: row.get(4),
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

/// Returns the mark with which the window begins where none is named (see [`WindowWanted`]).
pub(super) fn before(
    wanted: &WindowWanted<'_>,
    marks: &[MarkPosition],
    until: Option<&MarkPosition>,
) -> Result<MarkPosition> {
    let is_early = |mark: &MarkPosition| {
        wanted.since.is_none_or(|since| mark.time < since)
            && wanted.txids.iter().all(|txid| mark.position.is_before(*txid, 0))
    };
    let mut earlier = marks.iter().filter(|mark| until.is_none_or(|until| mark.id < until.id));
    let found = earlier.clone().rfind(|mark| is_early(mark)).or(earlier.next());
    found.cloned().ok_or_else(|| {
        Error::message(
            Kind::Refused,
            format!("group `{}` has no mark before that one", wanted.group),
        )
        .hint("say with `--from` where to begin")
    })
}
