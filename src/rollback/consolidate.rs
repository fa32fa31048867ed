//! Making a logged rollback an unlogged one afterwards: which can be, and doing it in a transaction of the caller.

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use crate::errors::Result;

/// A logged rollback that can be made an unlogged one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Consolidable {
    pub group: String,
    /// The mark that it went back to.
    pub target: String,
    /// The mark at its end, by which it is named.
    pub end: String,
    /// What the log would be rid of.
    pub changes: i64,
    /// The marks in between, which would go.
    pub marks: i64,
}

/// Reads the rollbacks that can be consolidated, of all groups.
///
/// # Errors
/// Whatever the server answers.
pub fn consolidable(client: &mut impl GenericClient, schema: &str) -> Result<Vec<Consolidable>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select cons_group, cons_target_rlbk_mark_name, cons_end_rlbk_mark_name, cons_rows, cons_marks
               from {s}.emaj_get_consolidable_rollbacks()"
        ),
        &[],
    )?;
    Ok(rows
        .iter()
        .map(|row| Consolidable {
            group: row.get(0),
            target: row.get(1),
            end: row.get(2),
            changes: row.get(3),
            marks: row.get(4),
        })
        .collect())
}

/// Consolidates the rollback of `group` that ends at mark `end`.
///
/// # Errors
/// [`crate::errors::Kind::Refused`] when it is none, or a protected mark or a sink needs what would go; whatever the server answers.
pub fn consolidate(client: &mut impl GenericClient, schema: &str, group: &str, end: &str) -> Result<()> {
    let s = escape_identifier(schema);
    client.execute(
        &format!("select {s}.emaj_consolidate_rollback_group($1, $2)"),
        &[&group, &end],
    )?;
    Ok(())
}
