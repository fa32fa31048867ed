//! Reads what the logs hold between two marks, as counts.

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use crate::errors::Result;
use crate::names::QualifiedName;

/// How much one table was changed; an update counts once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableChanges {
    pub schema: String,
    pub table: String,
    pub changes: i64,
}

impl TableChanges {
    pub fn qualified(&self) -> QualifiedName {
        QualifiedName::new(&self.schema, &self.table)
    }
}

/// How much one role changed one table in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleChanges {
    pub schema: String,
    pub table: String,
    pub role: String,
    /// `INS`, `UPD`, `DEL` or `TRU`.
    pub verb: String,
    pub changes: i64,
}

impl RoleChanges {
    pub fn qualified(&self) -> QualifiedName {
        QualifiedName::new(&self.schema, &self.table)
    }
}

/// Counts the changes of each table of `group` between two marks; none: its first mark, and now.
///
/// # Errors
/// [`crate::errors::Kind::Refused`] for an unknown group or mark; whatever the server answers.
pub fn log_stat(
    client: &mut impl GenericClient,
    schema: &str,
    group: &str,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<Vec<TableChanges>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!("select stat_schema, stat_table, stat_rows from {s}.emaj_log_stat_group($1, $2, $3)"),
        &[&group, &from, &to],
    )?;
    Ok(rows
        .iter()
        .map(|row| TableChanges {
            schema: row.get(0),
            table: row.get(1),
            changes: row.get(2),
        })
        .collect())
}

/// Counts like [`log_stat`], per role and verb.
///
/// # Errors
/// As [`log_stat`].
pub fn detailed_log_stat(
    client: &mut impl GenericClient,
    schema: &str,
    group: &str,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<Vec<RoleChanges>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select stat_schema, stat_table, stat_role, stat_verb, stat_rows from {s}.emaj_detailed_log_stat_group($1, $2, $3)"
        ),
        &[&group, &from, &to],
    )?;
    Ok(rows
        .iter()
        .map(|row| RoleChanges {
            schema: row.get(0),
            table: row.get(1),
            role: row.get(2),
            verb: row.get(3),
            changes: row.get(4),
        })
        .collect())
}
