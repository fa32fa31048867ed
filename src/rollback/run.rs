//! Carries a rollback out, in a transaction of the caller, and reads its report there.

use postgres::{GenericClient, Transaction};
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use super::Wanted;
use super::left::{self, Left};
use crate::errors::Result;
use crate::names::QualifiedName;

/// What a rollback did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub id: i64,
    pub groups: Vec<String>,
    pub mark: String,
    pub logged: bool,
    pub stopped: bool,
    /// How foreign keys were dealt with; `nothing` when there was nothing to undo.
    pub strategy: String,
    pub seconds: f64,
    /// The mark to roll back to in order to undo this; none when that is not possible.
    pub undo: Option<String>,
    /// How many sessions shared the work.
    pub sessions: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    pub tables: Vec<TableReport>,
    /// What was left as it was.
    pub left: Vec<Left>,
}

/// What a rollback did to one table.
#[derive(Debug, Clone, Serialize)]
pub struct TableReport {
    pub schema: String,
    pub table: String,
    pub deleted: i64,
    pub updated: i64,
    pub inserted: i64,
    pub seconds: f64,
}

impl TableReport {
    pub fn qualified(&self) -> QualifiedName {
        QualifiedName::new(&self.schema, &self.table)
    }
}

/// Rolls back; the server tells its progress by notices (`emaj-progress {json}`).
///
/// # Errors
/// [`crate::errors::Kind::Refused`], [`crate::errors::Kind::Locked`], whatever the server answers; the caller ends the transaction.
pub fn run(transaction: &mut Transaction<'_>, schema: &str, wanted: &Wanted) -> Result<Report> {
    let s = escape_identifier(schema);
    transaction.batch_execute("set local emaj.progress = '1'; set local client_min_messages = notice")?;
    let (function, then_stop) = match (wanted.logged, wanted.stop) {
        (true, stop) => ("emaj_logged_rollback_groups", stop),
        (false, false) => ("emaj_rollback_groups", false),
        (false, true) => ("emaj_rollback_and_stop_groups", false),
    };
    transaction.execute(
        &format!("select {s}.{function}($1, $2, $3, $4)"),
        &[&wanted.groups, &wanted.mark, &wanted.partial, &wanted.comment],
    )?;
    if then_stop {
        transaction.execute(&format!("select {s}.emaj_stop_groups($1)"), &[&wanted.groups])?;
    }
    let id = transaction.query_one(
        &format!("select max(rlbk_id) from {s}.emaj_rollback where rlbk_txid = txid_current()"),
        &[],
    )?;
    report(transaction, &s, wanted, id.get(0), 1)
}

/// Keeps the comment with rollback `id`, when there is one.
pub(super) fn comment(client: &mut impl GenericClient, s: &str, wanted: &Wanted, id: i64) -> Result<()> {
    if let Some(comment) = &wanted.comment {
        client.execute(&format!("select {s}.emaj_comment_rollback($1, $2)"), &[&id, comment])?;
    }
    Ok(())
}

/// Reads what rollback `id` did.
pub(super) fn report(
    client: &mut impl GenericClient,
    s: &str,
    wanted: &Wanted,
    id: i64,
    sessions: usize,
) -> Result<Report> {
    let row = client.query_one(
        &format!(
            "select rlbk_mark, rlbk_strategy, extract(epoch from rlbk_end - rlbk_start)::float8,
                    (select mark_name from {s}.emaj_mark
                      where mark_group = rlbk_groups[1] and mark_state = 'ACTIVE' and (mark_position).txid = rlbk_txid
                      order by mark_id limit 1)
               from {s}.emaj_rollback where rlbk_id = $1"
        ),
        &[&id],
    )?;
    let tables = client.query(
        &format!(
            "select rlbt_schema, rlbt_table, rlbt_deleted, rlbt_updated, rlbt_inserted, extract(epoch from rlbt_duration)::float8
               from {s}.emaj_rollback_table where rlbt_rollback = $1 order by rlbt_schema, rlbt_table"
        ),
        &[&id],
    )?;
    let left = left::noted(client, s, id)?;
    Ok(Report {
        id,
        left,
        groups: wanted.groups.clone(),
        mark: row.get(0),
        logged: wanted.logged,
        stopped: wanted.stop,
        strategy: row.get(1),
        seconds: row.get(2),
        undo: if wanted.logged { row.get(3) } else { None },
        sessions,
        comment: wanted.comment.clone(),
        tables: tables
            .iter()
            .map(|row| TableReport {
                schema: row.get(0),
                table: row.get(1),
                deleted: row.get(2),
                updated: row.get(3),
                inserted: row.get(4),
                seconds: row.get(5),
            })
            .collect(),
    })
}
