//! Brings a rollback in several sessions to its end: what is prepared is committed where that was decided, else taken back.
//!
//! The last step of every such rollback, and `emaj rollback --recover` for those that broke off. It goes by the registry and by what
//! the server has prepared, never by what the program remembers; so it may break off itself, and be done again.

use postgres::Transaction;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use serde::Serialize;

use crate::errors::{Error, Kind, Result};
use crate::fail_at;
use crate::journal::{self, UnfinishedRollback};
use crate::pg::{Session, classify};

/// How long a session that is still at work for a rollback that broke off is waited for.
const PATIENCE: &str = "set lock_timeout = '10s'";

/// What became of a rollback that broke off.
#[derive(Debug, Clone, Serialize)]
pub struct Recovered {
    pub id: i64,
    pub groups: Vec<String>,
    pub mark: String,
    /// Whether it was done; else it was taken back.
    pub done: bool,
    /// How many of its sessions had prepared.
    pub prepared: usize,
    /// Somebody ended one of them the other way: what is wrong, and what mends it.
    pub torn: Option<Torn>,
    /// Of how many tables it was torn, and has been mended ([`mend`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mended: Option<i32>,
}

/// A rollback of which one session went the other way than was decided.
#[derive(Debug, Clone, Serialize)]
pub struct Torn {
    pub problem: String,
    pub repair: String,
    /// The tables that [`mend`] would bring to the mark.
    pub left: Vec<String>,
}

/// Ends every rollback that broke off; returns those, the torn ones that [`mend`] could finish, and those that others are carrying out.
///
/// # Errors
/// [`Kind::Denied`] when somebody else prepared it, [`Kind::Locked`] when a session of it is still at work; those before it are ended.
pub fn recover(session: &mut Session, schema: &str) -> Result<(Vec<Recovered>, Vec<UnfinishedRollback>)> {
    let (mut recovered, mut running) = (Vec::new(), Vec::new());
    for unfinished in journal::unfinished_rollbacks(&mut **session, schema)? {
        if unfinished.pid.is_some() {
            running.push(unfinished);
            continue;
        }
        let failed = |error: Error| error.context(format!("failed to end rollback {}", unfinished.id));
        let (state, prepared) = end(session, schema, unfinished.id, true).map_err(failed)?;
        let torn = match state.as_deref() {
            Some("BROKEN") => Some(read_torn(session, schema, unfinished.id)?),
            _ => None,
        };
        recovered.push(Recovered {
            torn,
            mended: None,
            done: state.as_deref() == Some("DONE"),
            prepared,
            id: unfinished.id,
            groups: unfinished.groups,
            mark: unfinished.mark,
        });
    }
    for torn in half_done(session, schema)? {
        if recovered.iter().all(|one| one.id != torn.id) {
            recovered.push(torn);
        }
    }
    Ok((recovered, running))
}

/// Brings the tables that a torn rollback has left to its mark; returns how many there are.
///
/// # Errors
/// [`Kind::Refused`] when their logs do not tell all that has happened to them since, whatever the server answers.
pub fn mend(transaction: &mut Transaction<'_>, schema: &str, id: i64) -> Result<i32> {
    let s = escape_identifier(schema);
    let row = transaction.query_one(&format!("select {s}.emaj_mend_rollback($1)"), &[&id])?;
    Ok(row.get(0))
}

fn half_done(session: &mut Session, schema: &str) -> Result<Vec<Recovered>> {
    let torn = journal::torn_rollbacks(&mut **session, schema)?;
    let half_done = torn.into_iter().filter_map(|torn| {
        Some(Recovered {
            id: torn.id,
            groups: torn.groups,
            mark: torn.mark,
            done: false,
            prepared: 0,
            torn: Some(Torn {
                problem: torn.problem,
                repair: torn.repair,
                left: torn.left?,
            }),
            mended: None,
        })
    });
    Ok(half_done.collect())
}

/// Ends one rollback when nobody is at work for it any more; returns its state (none: forgotten) and how many lanes were prepared.
/// The session may hold the rollback's first key already; it holds none afterwards.
pub(super) fn end(session: &mut Session, schema: &str, id: i64, broken: bool) -> Result<(Option<String>, usize)> {
    let s = escape_identifier(schema);
    session.batch_execute(PATIENCE)?;
    let ended = alone(session, &s, id).and_then(|()| conclude(session, schema, id, broken));
    // On an error too: whoever comes next must be able to try.
    let _ = session.batch_execute("select pg_catalog.pg_advisory_unlock_all(); reset lock_timeout");
    ended
}

/// Returns the error that says how a rollback is torn.
///
/// # Errors
/// Whatever the server answers.
pub(super) fn torn(session: &mut Session, schema: &str, id: i64) -> Result<Error> {
    let torn = read_torn(session, schema, id)?;
    Ok(Error::message(Kind::Failed, format!("rollback {id} is torn: {}", torn.problem)).hint(torn.repair))
}

fn read_torn(session: &mut Session, schema: &str, id: i64) -> Result<Torn> {
    let s = escape_identifier(schema);
    let row = session.query_one(
        &format!(
            "select rlbk_torn, coalesce(torn_repair, 'its mark is gone: put its tables right by hand'), coalesce(torn_left, '{{}}')
               from {s}.emaj_rollback left join {s}.emaj_torn_rollbacks() on torn_id = rlbk_id where rlbk_id = $1"
        ),
        &[&id],
    )?;
    Ok(Torn {
        problem: row.get(0),
        repair: row.get(1),
        left: row.get(2),
    })
}

/// Makes sure that no session works for the rollback any more. A lane whose program is gone may still be busy: it is ended.
fn alone(session: &mut Session, s: &str, id: i64) -> Result<()> {
    let keys = session.query_opt(
        &format!("select unf_keys[1], unf_keys[2] from {s}.emaj_unfinished_rollbacks() where unf_id = $1"),
        &[&id],
    )?;
    let Some(keys) = keys else { return Ok(()) };
    // The first is the decider's; whoever shares it waits for the end, and is not in the way for long. The second is the lanes'.
    for (at, may_end) in [(0, false), (1, true)] {
        let key: i64 = keys.get(at);
        let workers = session.query(
            "select pid from pg_catalog.pg_locks
              where locktype = 'advisory' and granted and objsubid = 1 and pid <> pg_catalog.pg_backend_pid() and mode = 'ShareLock'
                and database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
                and (classid::bigint << 32) | objid::bigint = $1",
            &[&key],
        )?;
        for worker in workers.iter().filter(|_| may_end) {
            let pid: i32 = worker.get(0);
            // Without the right to do so, it is waited for.
            let _ = session.execute("select pg_catalog.pg_terminate_backend($1)", &[&pid]);
        }
        session
            .execute("select pg_catalog.pg_advisory_lock($1)", &[&key])
            .map_err(|error| {
                let pids: Vec<String> = workers.iter().map(|row| row.get::<_, i32>(0).to_string()).collect();
                let error = classify(error, "wait until no session is at work for it");
                if pids.is_empty() {
                    error
                } else {
                    error.hint(format!("at work: process {}", pids.join(", ")))
                }
            })?;
    }
    Ok(())
}

/// Commits or takes back what is prepared, and notes the end. Nobody else may be at work for the rollback.
pub(super) fn conclude(session: &mut Session, schema: &str, id: i64, broken: bool) -> Result<(Option<String>, usize)> {
    let s = escape_identifier(schema);
    let decided: Option<bool> = session
        .query_opt(
            &format!("select rlbk_state = 'DECIDED' from {s}.emaj_rollback where rlbk_id = $1"),
            &[&id],
        )?
        .map(|row| row.get(0));
    let prepared = session.query(
        &format!(
            "select p.gid, p.owner::text
               from {s}.emaj_rollback r
               join pg_catalog.pg_prepared_xacts p on p.gid = any (r.rlbk_prepared)
              where r.rlbk_id = $1 and r.rlbk_state in ('RUNNING', 'DECIDED') and p.database = pg_catalog.current_database()
              order by p.gid"
        ),
        &[&id],
    )?;
    let verb = if decided == Some(true) { "commit" } else { "rollback" };
    for lane in &prepared {
        let (name, owner): (String, String) = (lane.get(0), lane.get(1));
        session
            .batch_execute(&format!("{verb} prepared {}", escape_literal(&name)))
            .map_err(|error| {
                let error = classify(error, &format!("{verb} the prepared transaction `{name}`"));
                if error.kind() == Kind::Denied {
                    error.hint(format!(
                        "it can be ended by role `{owner}`, which prepared it, or by a superuser"
                    ))
                } else {
                    error
                }
            })?;
        fail_at::passing("rollback.concluded");
    }
    let state = session.query_one(&format!("select {s}.emaj_parallel_settle($1, $2)"), &[&id, &broken])?;
    Ok((state.get(0), prepared.len()))
}
