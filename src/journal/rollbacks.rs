//! Reads the rollbacks: those that broke off, those under way, and the last that are done.

use jiff::Timestamp;
use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use crate::errors::Result;
use crate::pg::{Lossy, classify};
use crate::words::quoted;

/// A rollback in several sessions that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnfinishedRollback {
    pub id: i64,
    pub groups: Vec<String>,
    pub mark: String,
    /// Whether it is decided that it is done; what is not committed of it yet will be.
    pub decided: bool,
    /// The server's process that carries it out; none: it broke off, or the server is a standby, which cannot tell.
    pub pid: Option<i32>,
    pub standby: bool,
}

/// What to do about a rollback that broke off.
const RECOVER: &str = "bring it to its end: `emaj rollback --recover`";

/// What to do about one that a standby knows of.
const ASK_PRIMARY: &str = "ask there: `emaj status`, connected to the primary";

impl UnfinishedRollback {
    /// Returns what is to be said of one that nobody carries out, as far as is known here: a sentence without an end, and what to do.
    pub fn trouble(&self) -> Option<(String, &'static str)> {
        match (self.pid, self.standby) {
            (Some(_), _) => None,
            (None, false) => Some((self.broken(), RECOVER)),
            (None, true) => {
                let (id, groups, mark) = (self.id, quoted("group", &self.groups), &self.mark);
                let sentence = format!(
                    "rollback {id} of {groups} to mark `{mark}` is not over; who carries it out, if anybody does, is known on the primary only"
                );
                Some((sentence, ASK_PRIMARY))
            }
        }
    }

    /// Says that it broke off, in a sentence without an end.
    fn broken(&self) -> String {
        let what = if self.decided {
            "is decided, but not committed in all its sessions"
        } else {
            "is neither done nor taken back"
        };
        format!(
            "rollback {} of {} to mark `{}` broke off: it {what}",
            self.id,
            quoted("group", &self.groups),
            self.mark
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
            &format!("select unf_id, unf_groups, unf_mark, unf_state = 'DECIDED', unf_pid, pg_catalog.pg_is_in_recovery() from {s}.emaj_unfinished_rollbacks()"),
            &[],
        )
        .map_err(|error| classify(error, "look for rollbacks that broke off"))?;
    Ok(rows
        .iter()
        .map(|row| UnfinishedRollback {
            id: row.get(0),
            groups: row.get(1),
            mark: row.get(2),
            decided: row.get(3),
            pid: row.get(4),
            standby: row.get(5),
        })
        .collect())
}

/// A rollback in several sessions of which one went the other way than was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornRollback {
    pub id: i64,
    pub groups: Vec<String>,
    pub mark: String,
    pub problem: String,
    /// The tables that `emaj rollback --recover --yes` would bring to the mark; none: that is not the way.
    pub left: Option<Vec<String>>,
    /// Whether what it is mended with does not fit the database any more.
    pub drifted: bool,
    pub repair: String,
}

impl TornRollback {
    /// Says that it is torn, in a sentence without an end.
    pub fn sentence(&self) -> String {
        let (id, groups, mark) = (self.id, quoted("group", &self.groups), &self.mark);
        format!("rollback {id} of {groups} to mark `{mark}` is torn: {}", self.problem)
    }
}

/// Reads the rollbacks that are torn and not mended yet, the oldest first.
///
/// # Errors
/// Whatever the server answers.
pub fn torn_rollbacks(client: &mut impl GenericClient, schema: &str) -> Result<Vec<TornRollback>> {
    let s = escape_identifier(schema);
    let rows = client
        .query(
            &format!(
                "select torn_id, torn_groups, torn_mark, torn_what, torn_left, torn_drifted, torn_repair from {s}.emaj_torn_rollbacks()"
            ),
            &[],
        )
        .map_err(|error| classify(error, "look for rollbacks that are torn"))?;
    Ok(rows
        .iter()
        .map(|row| TornRollback {
            id: row.get(0),
            groups: row.get(1),
            mark: row.get(2),
            problem: row.get(3),
            left: row.get(4),
            drifted: row.get(5),
            repair: row.get(6),
        })
        .collect())
}

/// A session of a rollback that is under way; what is not known is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RollbackSession {
    pub id: i64,
    pub lane: i32,
    pub groups: Option<Vec<String>>,
    pub mark: Option<String>,
    pub pid: i32,
    pub user: Option<String>,
    /// `looking`, `working` or `finishing`.
    pub phase: String,
    pub tables_done: i64,
    pub tables: i64,
    pub changes_done: i64,
    pub changes: i64,
    pub seconds: f64,
    pub seconds_left: Option<f64>,
}

/// Reads how far the rollbacks under way are, a row for each of their sessions.
///
/// # Errors
/// Whatever the server answers.
pub fn rollback_activity(client: &mut impl GenericClient, schema: &str) -> Result<Vec<RollbackSession>> {
    let s = escape_identifier(schema);
    let rows = client
        .query(
            &format!(
                "select act_rollback, act_lane, act_groups, act_mark, act_pid, act_user, act_phase, act_tables_done, act_tables,
                        act_rows_done, act_rows, act_seconds::float8, act_seconds_left::float8
                   from {s}.emaj_rollback_activity()"
            ),
            &[],
        )
        .map_err(|error| classify(error, "look at the rollbacks under way"))?;
    Ok(rows
        .iter()
        .map(|row| RollbackSession {
            id: row.get(0),
            lane: row.get(1),
            groups: row.get(2),
            mark: row.get(3),
            pid: row.get(4),
            user: Lossy::get_opt(row, 5),
            phase: row.get(6),
            tables_done: row.get(7),
            tables: row.get(8),
            changes_done: row.get(9),
            changes: row.get(10),
            seconds: row.get(11),
            seconds_left: row.get(12),
        })
        .collect())
}

/// A rollback that is over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PastRollback {
    pub id: i64,
    pub groups: Vec<String>,
    pub mark: String,
    pub logged: bool,
    /// Whether it was to leave what was not captured from the mark on.
    pub partial: bool,
    /// `DONE`; or `ABORTED`: it broke off and was taken back; or `BROKEN`: one of its sessions went the other way.
    pub state: String,
    pub sessions: i64,
    pub started: Timestamp,
    pub seconds: Option<f64>,
    /// Rows that it changed.
    pub rows: i64,
    pub strategy: Option<String>,
    pub user: String,
    pub comment: Option<String>,
}

/// Reads the last rollbacks that are over, the newest first; of one group, or all.
///
/// # Errors
/// Whatever the server answers.
pub fn past_rollbacks(
    client: &mut impl GenericClient,
    schema: &str,
    group: Option<&str>,
    limit: i64,
) -> Result<Vec<PastRollback>> {
    let s = escape_identifier(schema);
    let rows = client
        .query(
            &format!(
                "select rlbk_id, rlbk_groups, rlbk_mark, rlbk_logged, rlbk_state, greatest(cardinality(rlbk_prepared), 1)::bigint, rlbk_start,
                        extract(epoch from rlbk_end - rlbk_start)::float8,
                        (select coalesce(sum(rlbt_inserted + rlbt_updated + rlbt_deleted), 0)::bigint from {s}.emaj_rollback_table where rlbt_rollback = rlbk_id),
                        rlbk_strategy, rlbk_user, rlbk_comment, rlbk_partial
                   from {s}.emaj_rollback
                  where rlbk_state in ('DONE', 'ABORTED', 'BROKEN') and ($1::text is null or $1 = any (rlbk_groups))
                  order by rlbk_id desc limit $2"
            ),
            &[&group, &limit],
        )
        .map_err(|error| classify(error, "read the rollbacks"))?;
    Ok(rows
        .iter()
        .map(|row| PastRollback {
            id: row.get(0),
            groups: row.get(1),
            mark: row.get(2),
            logged: row.get(3),
            state: row.get(4),
            sessions: row.get(5),
            started: row.get(6),
            seconds: row.get(7),
            rows: row.get(8),
            strategy: row.get(9),
            user: Lossy::get(row, 10),
            comment: row.get(11),
            partial: row.get(12),
        })
        .collect())
}
