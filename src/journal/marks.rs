//! Reads the marks of a group, for the commands that show them or say which will go.

use jiff::Timestamp;
use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use crate::errors::Result;
use crate::pg::Lossy;

/// What stands for the last mark of a group; no mark is called so.
const LAST_MARK: &str = "EMAJ_LAST_MARK";

/// A mark, as a person wants to see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MarkState {
    pub mark: String,
    /// `ACTIVE`, or `DELETED`: from before the group was last stopped, readable and no target any more.
    pub state: String,
    pub time: Timestamp,
    pub user: String,
    pub protected: bool,
    pub comment: Option<String>,
}

impl MarkState {
    /// Whether it can be rolled back to.
    pub fn is_active(&self) -> bool {
        self.state == "ACTIVE"
    }

    /// Finds the mark that `name` means, among all of a group; see [`mark_called`].
    pub fn called<'m>(marks: &'m [MarkState], name: &str) -> Option<&'m MarkState> {
        mark_called(marks, name, |mark| (&mark.mark, mark.is_active()))
    }
}

/// Reads the marks of `group`, the oldest first.
///
/// # Errors
/// Whatever the server answers; lacking rights on the registry among it.
pub fn marks(client: &mut impl GenericClient, schema: &str, group: &str) -> Result<Vec<MarkState>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select mark_name, mark_state, mark_datetime, mark_user, mark_protected, mark_comment
               from {s}.emaj_mark where mark_group = $1 order by mark_id"
        ),
        &[&group],
    )?;
    Ok(rows
        .iter()
        .map(|row| MarkState {
            mark: row.get(0),
            state: row.get(1),
            time: row.get(2),
            user: Lossy::get(row, 3),
            protected: row.get(4),
            comment: row.get(5),
        })
        .collect())
}

/// Finds a mark by its name among all marks of a group, the oldest first; `told` says name and whether it is active. `EMAJ_LAST_MARK` is the
/// last active one, as for `_mark` in SQL. Where none is, it is the last: what a stopped group has logged may still be read.
pub(super) fn mark_called<'m, M>(
    marks: &'m [M],
    name: &str,
    told: impl for<'x> Fn(&'x M) -> (&'x str, bool),
) -> Option<&'m M> {
    if name == LAST_MARK {
        return marks.iter().rfind(|mark| told(mark).1).or(marks.last());
    }
    marks.iter().find(|mark| told(mark).0 == name)
}

/// Returns a mark's own name, also where `EMAJ_LAST_MARK` was said: what is told, and agreed to, is what is done. Where it means no active mark it stays as it is,
/// and is refused by the database.
///
/// # Errors
/// As [`marks`].
pub fn own_name(client: &mut impl GenericClient, schema: &str, group: &str, mark: &str) -> Result<String> {
    if mark != LAST_MARK {
        return Ok(mark.to_owned());
    }
    let marks = marks(client, schema, group)?;
    let meant = MarkState::called(&marks, mark).filter(|meant| meant.is_active());
    Ok(meant.map_or_else(|| mark.to_owned(), |meant| meant.mark.clone()))
}

/// The last mark of a group, and how many tables and sequences it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastMark {
    pub group: String,
    pub mark: String,
    pub relations: i64,
}

/// Reads the last mark of each of the groups that has one, by the names of the groups.
///
/// # Errors
/// As [`marks`].
pub fn last_marks(client: &mut impl GenericClient, schema: &str, groups: &[String]) -> Result<Vec<LastMark>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select group_name, mark_name,
                    (select count(*) from {s}.emaj_relation where rel_group = group_name and rel_ended is null)
               from {s}.emaj_group join {s}.emaj_mark on mark_id = group_last_mark
              where group_name = any ($1) order by group_name"
        ),
        &[&groups],
    )?;
    Ok(rows
        .iter()
        .map(|row| LastMark {
            group: row.get(0),
            mark: row.get(1),
            relations: row.get(2),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mark_is_the_last_active_one() {
        let called = |marks: &[(&'static str, bool)], name| mark_called(marks, name, |mark| *mark).map(|mark| mark.0);
        let marks = [("old", false), ("a", true), ("b", true)];
        assert_eq!(called(&marks, "EMAJ_LAST_MARK"), Some("b"));
        assert_eq!(called(&marks, "old"), Some("old"));
        assert_eq!(called(&marks, "c"), None);
        assert_eq!(called(&[("a", false), ("stop", false)], "EMAJ_LAST_MARK"), Some("stop"));
        assert_eq!(called(&[], "EMAJ_LAST_MARK"), None);
    }
}
