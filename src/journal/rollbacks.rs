//! Reads the rollbacks in several sessions that are not over.

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use crate::errors::Result;
use crate::pg::classify;

/// A rollback in several sessions that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnfinishedRollback {
    pub id: i64,
    pub group: String,
    pub mark: String,
    /// Whether it is decided that it is done; what is not committed of it yet will be.
    pub decided: bool,
    /// The server's process that carries it out; none: it broke off.
    pub pid: Option<i32>,
}

/// What to do about a rollback that broke off.
pub const RECOVER: &str = "bring it to its end: `emaj rollback --recover`";

impl UnfinishedRollback {
    /// Says that it broke off, in a sentence without an end.
    pub fn sentence(&self) -> String {
        let what = if self.decided {
            "is decided, but not committed in all its sessions"
        } else {
            "is neither done nor taken back"
        };
        format!(
            "rollback {} of group `{}` to mark `{}` broke off: it {what}",
            self.id, self.group, self.mark
        )
    }
}

/// Reads the rollbacks that are not over, those that broke off among them, the oldest first.
///
/// # Errors
/// Whatever the server answers.
pub fn unfinished_rollbacks(client: &mut impl GenericClient, schema: &str) -> Result<Vec<UnfinishedRollback>> {
    let s = escape_identifier(schema);
    let rows = client
        .query(
            &format!("select unf_id, unf_groups[1], unf_mark, unf_state = 'DECIDED', unf_pid from {s}.emaj_unfinished_rollbacks()"),
            &[],
        )
        .map_err(|error| classify(error, "look for rollbacks that broke off"))?;
    Ok(rows
        .iter()
        .map(|row| UnfinishedRollback {
            id: row.get(0),
            group: row.get(1),
            mark: row.get(2),
            decided: row.get(3),
            pid: row.get(4),
        })
        .collect())
}
