//! Sinks and bindings as the registry knows them: cursors, states, and what was set aside.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use postgres::{GenericClient, Row};
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::position::Position;
use crate::errors::{Error, Kind, Result};
use crate::manifest::Ability;
use crate::names::QualifiedName;
use crate::words::shell;

/// Whether a sink is delivered to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkState {
    Active,
    /// A person paused it.
    Paused,
    /// A guard stopped it (`max_deletes`).
    Stopped,
    /// It was away for longer than its `max_lag`, so that the log behind it is gone, or it has lost what it had.
    Lost,
}

impl SinkState {
    fn of(text: &str) -> Result<Self> {
        Ok(match text {
            "ACTIVE" => SinkState::Active,
            "PAUSED" => SinkState::Paused,
            "STOPPED" => SinkState::Stopped,
            "LOST" => SinkState::Lost,
            _ => {
                let what = format!("the registry has a sink in the state `{text}`, which this emaj does not know");
                return Err(Error::message(Kind::Failed, what));
            }
        })
    }

    /// Returns the word people read.
    pub fn word(self) -> &'static str {
        match self {
            SinkState::Active => "active",
            SinkState::Paused => "paused",
            SinkState::Stopped => "stopped",
            SinkState::Lost => "lost",
        }
    }

    /// Returns what lets a sink of a kind go on that is not delivered to.
    pub fn way_on(self, sink: &str, kind: &str) -> String {
        match self {
            SinkState::Lost => format!(
                "`emaj init{} and lets it go on from there; where a mark is older than what is missing there, `emaj replay {} --from MARK` does as well",
                if Ability::of(kind).is_some_and(|ability| !ability.lists.is_empty()) {
                    " --prune` sends all rows anew, takes away what was deleted meanwhile,"
                } else {
                    "` sends all rows anew"
                },
                shell(sink)
            ),
            SinkState::Active | SinkState::Paused | SinkState::Stopped => {
                format!("`emaj sink resume {}` lets it go on", shell(sink))
            }
        }
    }
}

/// A sink and its cursor.
#[derive(Debug, Clone)]
pub struct SinkRecord {
    pub id: i32,
    pub name: String,
    pub manifest: String,
    pub kind: String,
    pub state: SinkState,
    pub reason: Option<String>,
    /// Counts the windows of the log that were begun.
    pub window: i64,
    /// Everything before is delivered.
    pub from: Position,
    /// The end of the window that is under way.
    pub until: Option<String>,
    /// How far that window is delivered.
    pub offset: Option<String>,
    /// What this sees was delivered before, and is delivered again.
    pub replay: Option<String>,
    /// What the place has at least by its own records.
    pub there: Option<String>,
    /// When the cursor moved last.
    pub moved: Timestamp,
    pub worker: Option<String>,
    /// Whether a worker delivers to it at this moment; unknown on a standby, which has no locks of others.
    pub is_taken: Option<bool>,
    pub trouble: Option<Trouble>,
}

impl SinkRecord {
    /// Tells whether its guard is overruled for the window that it stopped at.
    pub fn allows_deletes(&self) -> bool {
        self.state == SinkState::Active && self.reason.as_deref() == Some(DELETES_ALLOWED)
    }
}

/// The reason of an active sink whose guard was overruled.
const DELETES_ALLOWED: &str = "deletes allowed";

/// What keeps a sink from being delivered to. On record as it is shown: `down: …` or `broken: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The place is out of reach, or refuses the login.
    Down(String),
    /// What is owed to it cannot be read.
    Broken(String),
}

impl Trouble {
    fn of(text: &str) -> Self {
        match text.split_once(": ") {
            Some(("broken", reason)) => Trouble::Broken(reason.to_owned()),
            Some(("down", reason)) => Trouble::Down(reason.to_owned()),
            // (Workers of earlier versions wrote no word for it.)
            _ => Trouble::Down(text.to_owned()),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Down(reason) => write!(f, "down: {reason}"),
            Trouble::Broken(reason) => write!(f, "broken: {reason}"),
        }
    }
}

/// A binding as it was installed.
#[derive(Debug, Clone)]
pub struct BindingRecord {
    pub name: String,
    pub oid: u32,
    pub table: QualifiedName,
    /// Another table has its name now.
    pub is_replaced: bool,
    pub fingerprint: String,
    pub since: Position,
    /// `WANTED`, `RUNNING` or `DONE`.
    pub init: Option<String>,
    pub init_done: i64,
    pub init_total: Option<i64>,
}

impl BindingRecord {
    /// Returns whether its rows that were there before are wanted, and not all sent.
    pub fn is_unsent(&self) -> bool {
        matches!(self.init.as_deref(), Some("WANTED" | "RUNNING"))
    }
}

/// Returns the two advisory locks of a sink: that of whoever delivers to it, and that of somebody who wants to take over for a while.
pub fn sink_locks(schema: &str, sink: i32) -> (i64, i64) {
    let digest = Sha256::digest(format!("emaj sink {schema}"));
    let base = i64::from(i32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])) << 32;
    (base | i64::from(sink) << 1, base | i64::from(sink) << 1 | 1)
}

fn sink_columns() -> String {
    format!(
        "sink_id, sink_name, sink_manifest, sink_kind, sink_state, sink_reason, sink_window, {}, sink_until::text as sink_until, sink_offset,
         sink_replay::text as sink_replay, sink_there, sink_moved, sink_worker, sink_fault,
         array(select (classid::bigint << 32 | objid::bigint) from pg_catalog.pg_locks
                where locktype = 'advisory' and objsubid = 1 and granted
                  and database = (select oid from pg_catalog.pg_database where datname = current_database())) as held,
         pg_catalog.pg_is_in_recovery() as is_standby",
        Position::columns("sink_from", "sink_from")
    )
}

fn sink(schema: &str, row: &Row) -> Result<SinkRecord> {
    let (id, held): (i32, Vec<i64>) = (row.get("sink_id"), row.get("held"));
    let is_standby: bool = row.get("is_standby");
    Ok(SinkRecord {
        id,
        name: row.get("sink_name"),
        manifest: row.get("sink_manifest"),
        kind: row.get("sink_kind"),
        state: SinkState::of(row.get("sink_state"))?,
        reason: row.get("sink_reason"),
        window: row.get("sink_window"),
        from: Position::get(row, "sink_from")?,
        until: row.get("sink_until"),
        offset: row.get("sink_offset"),
        replay: row.get("sink_replay"),
        there: row.get("sink_there"),
        moved: row.get("sink_moved"),
        worker: row.get("sink_worker"),
        is_taken: (!is_standby).then(|| held.contains(&sink_locks(schema, id).0)),
        trouble: row.get::<_, Option<&str>>("sink_fault").map(Trouble::of),
    })
}

/// Reads all sinks of an installation, in the order of their names.
///
/// # Errors
/// Whatever the server answers.
pub fn sinks(client: &mut impl GenericClient, schema: &str) -> Result<Vec<SinkRecord>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!("select {} from {s}.emaj_sink order by sink_name", sink_columns()),
        &[],
    )?;
    rows.iter().map(|row| sink(schema, row)).collect()
}

/// Reads one sink; `None` when it is not installed.
///
/// # Errors
/// Whatever the server answers.
pub fn sink_named(client: &mut impl GenericClient, schema: &str, name: &str) -> Result<Option<SinkRecord>> {
    let s = escape_identifier(schema);
    let row = client.query_opt(
        &format!("select {} from {s}.emaj_sink where sink_name = $1", sink_columns()),
        &[&name],
    )?;
    row.as_ref().map(|row| sink(schema, row)).transpose()
}

/// Reads the sinks that bindings of a sink's manifest go to.
///
/// # Errors
/// Whatever the server answers.
pub fn sinks_beside(client: &mut impl GenericClient, schema: &str, sink: &str) -> Result<BTreeSet<String>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select distinct bind_sink from {s}.emaj_binding where bind_sink is not null
                and bind_manifest in (select bind_manifest from {s}.emaj_binding where bind_sink = $1)"
        ),
        &[&sink],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Tells whether a binding is installed, or changes of one that was are set aside.
///
/// # Errors
/// Whatever the server answers.
pub fn is_bound(client: &mut impl GenericClient, schema: &str, binding: &str) -> Result<bool> {
    let s = escape_identifier(schema);
    let sql = format!(
        "select exists (select from {s}.emaj_binding where bind_name = $1) or exists (select from {s}.emaj_failure where fail_binding = $1)"
    );
    Ok(client.query_one(&sql, &[&binding])?.get(0))
}

/// Reads the bindings that go to a sink, in the order of their names.
///
/// # Errors
/// Whatever the server answers.
pub fn bindings_of(client: &mut impl GenericClient, schema: &str, sink: &str) -> Result<Vec<BindingRecord>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select bind_name, bind_oid, bind_schema, bind_table, bind_fingerprint, {}, bind_init, bind_init_done, bind_init_total,
                    exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                             where n.nspname = bind_schema and c.relname = bind_table and c.oid <> bind_oid
                               and c.relkind in ('r', 'p')) as is_replaced
               from {s}.emaj_binding where bind_sink = $1 order by bind_name",
            Position::columns("bind_since", "bind_since")
        ),
        &[&sink],
    )?;
    rows.iter()
        .map(|row| {
            Ok(BindingRecord {
                name: row.get("bind_name"),
                oid: row.get("bind_oid"),
                table: QualifiedName {
                    schema: row.get("bind_schema"),
                    name: row.get("bind_table"),
                },
                is_replaced: row.get("is_replaced"),
                fingerprint: row.get("bind_fingerprint"),
                since: Position::get(row, "bind_since")?,
                init: row.get("bind_init"),
                init_done: row.get("bind_init_done"),
                init_total: row.get("bind_init_total"),
            })
        })
        .collect()
}

/// Returns the bindings of a kind that go to sinks of a kind, whichever manifest they are of: their names, and those of the manifests.
///
/// # Errors
/// Whatever the server answers.
pub fn bindings_like(
    client: &mut impl GenericClient,
    schema: &str,
    kind: &str,
    sink_kind: &str,
) -> Result<Vec<(String, String)>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select bind_name, bind_manifest
               from {s}.emaj_binding
               join {s}.emaj_sink on sink_name = bind_sink
              where bind_kind = $1
                and sink_kind = $2
              order by bind_name"
        ),
        &[&kind, &sink_kind],
    )?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Has a sink wait until a person lets it go on; `false`: it is not installed, or given up.
///
/// # Errors
/// Whatever the server answers.
pub fn pause(client: &mut impl GenericClient, schema: &str, sink: &str, because: &str) -> Result<bool> {
    set_state(client, schema, sink, SinkState::Paused, Some(because))
}

/// Lets a sink go on that was paused or stopped. Whoever says so has looked at what its guard stopped it for, and that is delivered; said twice, it is allowed all the
/// same. `false`: it is not installed, or given up.
///
/// # Errors
/// Whatever the server answers.
pub fn resume(client: &mut impl GenericClient, schema: &str, sink: &SinkRecord) -> Result<bool> {
    let is_overruled = sink.state == SinkState::Stopped || sink.allows_deletes();
    let reason = is_overruled.then_some(DELETES_ALLOWED);
    set_state(client, schema, &sink.name, SinkState::Active, reason)
}

fn set_state(
    client: &mut impl GenericClient,
    schema: &str,
    sink: &str,
    state: SinkState,
    reason: Option<&str>,
) -> Result<bool> {
    let s = escape_identifier(schema);
    let changed = client.execute(
        &format!(
            "update {s}.emaj_sink set sink_state = $2, sink_reason = $3 where sink_name = $1 and sink_state <> 'LOST'"
        ),
        &[&sink, &state.word().to_uppercase(), &reason],
    )?;
    Ok(changed == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_read_as_it_was_written() {
        for trouble in [
            Trouble::Down("refused: no".to_owned()),
            Trouble::Down("broken: pipe".to_owned()),
            Trouble::Broken("no column `mail`".to_owned()),
        ] {
            assert_eq!(Trouble::of(&trouble.to_string()), trouble);
        }
        assert_eq!(
            Trouble::of("timed out: 30 s"),
            Trouble::Down("timed out: 30 s".to_owned())
        );
    }

    #[test]
    fn no_state_is_taken_for_another_one() {
        for state in [
            SinkState::Active,
            SinkState::Paused,
            SinkState::Stopped,
            SinkState::Lost,
        ] {
            assert_eq!(SinkState::of(&state.word().to_uppercase()).unwrap(), state);
        }
        assert!(SinkState::of("ASLEEP").is_err());
    }
}
