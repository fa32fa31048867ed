//! What a rollback leaves as it is, and why: sequences that columns which came since draw from; a partial one also what was not captured in its
//! group from the mark until now.
//!
//! Which that is, is decided in the database (`rollback/left`). Here it is asked before (by `preview`) and read after (by `run`).

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use super::Wanted;
use crate::errors::Result;

/// A table or sequence that a rollback leaves as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    pub group: String,
    /// Qualified and quoted where that is needed.
    pub relation: String,
    pub reason: String,
}

/// Asks what a rollback would leave as it is now.
///
/// # Errors
/// [`crate::errors::Kind::Refused`] for an unknown group or mark; whatever the server answers.
pub(super) fn ask(client: &mut impl GenericClient, schema: &str, wanted: &Wanted) -> Result<Vec<Left>> {
    let s = escape_identifier(schema);
    let query = format!("select left_group, left_relation, left_reason from {s}.emaj_rollback_left($1, $2, $3)");
    read(client, &query, &[&wanted.groups, &wanted.mark, &wanted.partial])
}

/// Reads what rollback `id` has left as it was.
///
/// # Errors
/// Whatever the server answers.
pub(super) fn noted(client: &mut impl GenericClient, s: &str, id: i64) -> Result<Vec<Left>> {
    let query = format!(
        "select l ->> 'group', l ->> 'relation', l ->> 'reason'
           from {s}.emaj_rollback cross join lateral pg_catalog.jsonb_array_elements(rlbk_left) with ordinality as u(l, place)
          where rlbk_id = $1 order by place"
    );
    read(client, &query, &[&id])
}

fn read(
    client: &mut impl GenericClient,
    query: &str,
    parameters: &[&(dyn postgres::types::ToSql + Sync)],
) -> Result<Vec<Left>> {
    let rows = client.query(query, parameters)?;
    let left = |row: &postgres::Row| Left {
        group: row.get(0),
        relation: row.get(1),
        reason: row.get(2),
    };
    Ok(rows.iter().map(left).collect())
}
