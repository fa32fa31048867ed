//! What is being changed now: looks at the logs and sequences that follow each other, each from where the one before ended.
//!
//! Every committed change is in exactly one of them. Called by `commands/top`.

use postgres::{IsolationLevel, Row};
use postgres_protocol::escape::escape_identifier;

use crate::errors::{Error, Kind, Result};
use crate::pg::{Doing as _, Session, read_again};

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The snapshot it was taken in; the next look begins there.
    pub snapshot: String,
    pub relations: Vec<Seen>,
}

/// A table or sequence that is in a group at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its number in the registry: another one when it has left its group and come back.
    pub id: i64,
    pub group: String,
    pub schema: String,
    pub name: String,
    /// Of a table: its changes since the look before; an update counts once.
    pub changes: i64,
    /// Of a sequence: where it stands.
    pub sequence: Option<Stand>,
}

/// Where a sequence stands. Wider than a sequence is, so that the distance of any two fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// The last value that was drawn; before the first, one step ahead of it.
    pub last: i128,
    pub step: i128,
}

impl Stand {
    /// Returns how many values were drawn since it stood at `before`; less than none when it was set back.
    pub fn drawn_since(self, before: Stand) -> i64 {
        let steps = (self.last - before.last).checked_div(self.step).unwrap_or(0);
        i64::try_from(steps).unwrap_or(if steps < 0 { i64::MIN } else { i64::MAX })
    }
}

/// Looks at `groups` (all, when none is named): what has been committed since the snapshot of the look before; none: nothing is counted.
///
/// # Errors
/// [`Kind::Refused`] for an unknown group; whatever the server answers.
pub fn look(session: &mut Session, schema: &str, groups: &[String], since: Option<&str>) -> Result<Look> {
    let (snapshot, rows) =
        read_again(|| one_look(session, schema, groups, since).doing("count what is being changed"))?;
    let relations = rows.iter().map(seen).collect::<Result<_>>()?;
    Ok(Look { snapshot, relations })
}

fn one_look(
    session: &mut Session,
    schema: &str,
    groups: &[String],
    since: Option<&str>,
) -> Result<(String, Vec<Row>), postgres::Error> {
    let s = escape_identifier(schema);
    let groups = (!groups.is_empty()).then_some(groups);
    let mut transaction = session
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()?;
    let snapshot = transaction
        .query_one("select pg_catalog.pg_current_snapshot()::text", &[])?
        .get(0);
    let rows = transaction.query(
        &format!(
            "select stat_rel, stat_group, stat_schema, stat_name, stat_changes, stat_last::text, stat_step
               from {s}.emaj_stat_since($1, $2)"
        ),
        &[&groups, &since],
    )?;
    transaction.commit()?;
    Ok((snapshot, rows))
}

fn seen(row: &Row) -> Result<Seen> {
    let last = row.get::<_, Option<String>>(5);
    let last = last.map(|text| text.parse::<i128>()).transpose();
    let last = last.map_err(|error| Error::new(Kind::Failed, error).context("failed to read a sequence"))?;
    let step = row.get::<_, Option<i64>>(6);
    Ok(Seen {
        id: row.get(0),
        group: row.get(1),
        schema: row.get(2),
        name: row.get(3),
        changes: row.get(4),
        sequence: last.zip(step).map(|(last, step)| Stand {
            last,
            step: i128::from(step),
        }),
    })
}
