//! Why the logs do not tell all that happened in a window: each reason is one sentence more in the list of gaps.

use postgres::GenericClient;

use super::{Drift, Gap, LoggedTable, MarkPosition};
use crate::errors::Result;

/// A group that is stopped logs nothing until it is started again.
pub(super) fn restarts(
    client: &mut impl GenericClient,
    s: &str,
    group: &str,
    from: &MarkPosition,
    until: Option<&MarkPosition>,
    gaps: &mut Vec<Gap>,
) -> Result<()> {
    let row = client.query_one(
        &format!("select group_state = 'LOGGING', group_starts from {s}.emaj_group where group_name = $1"),
        &[&group],
    )?;
    let (logging, starts): (bool, i64) = (row.get(0), row.get(1));
    if until.map_or(starts, |until| until.starts) != from.starts {
        gaps.push(Gap::of_all(format!(
            "group `{group}` was stopped for a while in between"
        )));
    } else if until.is_none() && !logging {
        gaps.push(Gap::of_all(format!(
            "group `{group}` is stopped: what has changed since is not in the log"
        )));
    }
    Ok(())
}

/// Columns that were there at the mark, and not captured.
pub(super) fn uncaptured(
    client: &mut impl GenericClient,
    s: &str,
    from: &MarkPosition,
    tables: &[LoggedTable],
    gaps: &mut Vec<Gap>,
) -> Result<()> {
    let rows = client.query(
        &format!("select mrel_rel from {s}.emaj_mark_relation where mrel_mark = $1 and mrel_natts is not null"),
        &[&from.id],
    )?;
    for row in &rows {
        if let Some(table) = tables.iter().find(|table| table.relation == row.get::<_, i64>(0)) {
            let what = format!(
                "at mark `{}` {} had columns that were not captured",
                from.name, table.label
            );
            gaps.push(Gap::of(table.relation, what));
        }
    }
    Ok(())
}

/// What happened past the logs, and no rollback would go back over; returns where these tables are no longer as they were installed.
pub(super) fn incomplete(
    client: &mut impl GenericClient,
    s: &str,
    group: &str,
    from: &MarkPosition,
    until: Option<&MarkPosition>,
    tables: &[LoggedTable],
    gaps: &mut Vec<Gap>,
) -> Result<Vec<Drift>> {
    let rows = client.query(
        &format!("select gap_rel, gap_reason, gap_repair from {s}.emaj_log_gaps_group($1, $2, $3)"),
        &[&group, &from.name, &until.map(|until| &until.name)],
    )?;
    let of_these = |row: &&postgres::Row| tables.iter().any(|table| table.relation == row.get::<_, i64>(0));
    let mut drift = Vec::new();
    for row in rows.iter().filter(of_these) {
        match row.get(2) {
            None => gaps.push(Gap::of(row.get(0), row.get(1))),
            Some(repair) => drift.push(Drift {
                relation: row.get(0),
                problem: row.get(1),
                repair,
            }),
        }
    }
    Ok(drift)
}
