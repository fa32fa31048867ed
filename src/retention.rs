//! A round of retention: takes out of the logs what no mark, no retention and no sink needs, and old history.
//!
//! First go the marks that a group's `keep_marks` and `max_size` let go (`log/trim`).
//! Each log in a transaction of its own, so that no lock lasts longer than for one of them; a round that is cut off has done its logs
//! up to there, and the next one goes on. What is needed and how a log is emptied is decided in the database (`log/needed`,
//! `log/purge_logs`). Called by `commands/group/purge`; a worker calls it from time to time (`operating/housekeeping`).

use postgres::IsolationLevel;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use crate::errors::Result;
use crate::pg::{Interrupt, Session, classify};

/// What a round did to the logs of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Purged {
    pub group: String,
    /// Marks that went because the group's `keep_marks` or `max_size` says so.
    pub marks: i32,
    /// Why its logs are larger than the group's `max_size`, or marks that should go are there: another session holds them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Log rows that are gone.
    pub rows: i64,
    /// Logs that are written to another part from now on, so that a later round can empty this one.
    pub rotated: i64,
    /// Logs that hold what could go, but are in use: a later round finds them again.
    pub later: i64,
    /// Logs that took room before.
    #[serde(skip)]
    pub logs: usize,
}

/// Carries out one round for `groups` (all that there are, when none is named), and adds a line for each group to `done`.
///
/// Waits for nobody longer than half a second at a log; no writer waits longer than a log takes to be emptied.
///
/// # Errors
/// Whatever the server answers; a Ctrl-C. The logs that were dealt with before stay so.
pub fn round(session: &mut Session, schema: &str, groups: &[String], done: &mut Vec<Purged>) -> Result<()> {
    let interrupt = Interrupt::listen(session)?;
    let ended = rounds(session, schema, groups, &|| interrupt.check().is_err(), done);
    let stopped = interrupt.check_saying("what was purged before is gone");
    stopped.map_err(|error| error.hint("`emaj group purge` goes on where it was"))?;
    ended.map_err(|error| classify(error, "purge the logs"))
}

/// As [`round`], for a worker, which has signals of its own: ends between two logs once `is_over`.
///
/// # Errors
/// Whatever the server answers.
pub fn quiet_round(
    session: &mut Session,
    schema: &str,
    groups: &[String],
    is_over: &dyn Fn() -> bool,
) -> Result<Vec<Purged>> {
    let mut done = Vec::new();
    rounds(session, schema, groups, is_over, &mut done).map_err(|error| classify(error, "purge the logs"))?;
    Ok(done)
}

/// Returns the groups that belong to a manifest, and those that hold the logs of tables it has bound.
///
/// # Errors
/// Whatever the server answers.
pub fn groups_of(session: &mut Session, schema: &str, manifest: &str) -> Result<Vec<String>> {
    let s = escape_identifier(schema);
    let rows = session
        .query(
            &format!(
                "select group_name from {s}.emaj_group where group_manifest = $1
                 union
                 select rel_group from {s}.emaj_relation
                  where rel_log is not null and rel_oid in (select bind_oid from {s}.emaj_binding where bind_manifest = $1)
                  order by 1"
            ),
            &[&manifest],
        )
        .map_err(|error| classify(error, "look at the groups"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn rounds(
    session: &mut Session,
    schema: &str,
    groups: &[String],
    is_over: &dyn Fn() -> bool,
    done: &mut Vec<Purged>,
) -> Result<(), postgres::Error> {
    let s = escape_identifier(schema);
    let rows = session.query(
        &format!(
            "select g.group_name, r.rel_id
               from {s}.emaj_group g
               left join {s}.emaj_relation r
                 on r.rel_group = g.group_name
                and (select pg_relation_size(l.oid)
                            + coalesce((select sum(pg_relation_size(inhrelid)) from pg_catalog.pg_inherits where inhparent = l.oid), 0)
                       from (select to_regclass($2::text || '.' || quote_ident(r.rel_log))::oid as oid) as l) > 0
              where g.group_name = any ($1) or cardinality($1::text[]) = 0
              order by g.group_name, r.rel_priority, r.rel_oid, r.rel_id"
        ),
        &[&groups, &s],
    )?;
    // What the logs of the group take, where it has a `max_size`: looked at once, and told on from log to log.
    let mut size = None;
    for row in &rows {
        let group: &str = row.get(0);
        if done.last().is_none_or(|last| last.group != group) {
            if is_over() {
                return Ok(());
            }
            let trimmed;
            (trimmed, size) = trim(session, &s, group)?;
            done.push(trimmed);
            // Statistics stay right when the log rows are gone. (It gives up by itself where it would have to wait.)
            session.execute(
                &format!("select {s}.emaj_count_group(group_name) from {s}.emaj_group where group_name = $1"),
                &[&group],
            )?;
        }
        if let (Some(purged), Some(relation)) = (done.last_mut(), row.get::<_, Option<i64>>(1)) {
            if is_over() {
                return Ok(());
            }
            purge(session, &s, relation, &mut size, purged)?;
            purged.logs += 1;
        }
    }
    session.execute(&format!("select {s}.emaj_purge_history()"), &[])?;
    Ok(())
}

/// Deletes marks first, in a transaction of its own; with that comes the size of all logs.
fn trim(session: &mut Session, s: &str, group: &str) -> Result<(Purged, Option<i64>), postgres::Error> {
    let row = session.query_one(
        &format!("select trim_marks, trim_problem, trim_size from {s}.emaj_trim_group($1)"),
        &[&group],
    )?;
    let purged = Purged {
        group: group.to_owned(),
        marks: row.get(0),
        problem: row.get(1),
        ..Purged::default()
    };
    Ok((purged, row.get(2)))
}

fn purge(
    session: &mut Session,
    s: &str,
    relation: i64,
    size: &mut Option<i64>,
    purged: &mut Purged,
) -> Result<(), postgres::Error> {
    let mut transaction = session
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()?;
    let row = transaction.query_opt(
        &format!("select purge_rows, purge_rotated, purge_later, purge_size from {s}.emaj_purge_table($1, $2)"),
        &[&relation, &*size],
    )?;
    transaction.commit()?;
    // None: the relation went meanwhile.
    if let Some(row) = row {
        purged.rows += row.get::<_, i64>(0);
        purged.rotated += i64::from(row.get::<_, bool>(1));
        purged.later += i64::from(row.get::<_, bool>(2));
        *size = row.get(3);
    }
    Ok(())
}
