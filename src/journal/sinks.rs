//! Sinks and bindings as the registry knows them: cursors, states, and what was set aside.

use jiff::Timestamp;
use postgres::types::PgLsn;
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
    fn of(text: &str) -> Self {
        match text {
            "PAUSED" => SinkState::Paused,
            "STOPPED" => SinkState::Stopped,
            "LOST" => SinkState::Lost,
            _ => SinkState::Active,
        }
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
    /// What is wrong at the place, or, behind [`BROKEN`], with what is read for it; and since when.
    pub fault: Option<(String, Timestamp)>,
}

/// What a fault begins with that is not one of the place: what is owed to it cannot be read.
pub const BROKEN: &str = "broken: ";

impl SinkRecord {
    /// Returns what is wrong, with the word for it: `down: …` or `broken: …`.
    pub fn trouble(&self) -> Option<String> {
        let (fault, _) = self.fault.as_ref()?;
        Some(match self.is_broken() {
            true => fault.clone(),
            false => format!("down: {fault}"),
        })
    }

    /// Returns whether what is owed to it cannot be read.
    pub fn is_broken(&self) -> bool {
        self.fault.as_ref().is_some_and(|(fault, _)| fault.starts_with(BROKEN))
    }
}

/// A binding as it was installed.
#[derive(Debug, Clone)]
pub struct BindingRecord {
    pub name: String,
    pub oid: u32,
    pub table: QualifiedName,
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

const SINK_COLUMNS: &str = "sink_id, sink_name, sink_manifest, sink_kind, sink_state, sink_reason, sink_window,
    (sink_from).snapshot::text, coalesce((sink_from).txid, 0), (sink_from).lsn, sink_until::text, sink_offset, sink_moved,
    sink_worker, sink_fault, sink_fault_since, sink_replay::text, sink_there,
    array(select (classid::bigint << 32 | objid::bigint) from pg_catalog.pg_locks
           where locktype = 'advisory' and objsubid = 1 and granted
             and database = (select oid from pg_catalog.pg_database where datname = current_database())),
    pg_catalog.pg_is_in_recovery()";

fn position(row: &Row, at: usize) -> Result<Position> {
    let text: String = row.get(at);
    Ok(Position {
        snapshot: text.parse().map_err(|error| Error::new(Kind::Failed, error))?,
        txid: row.get(at + 1),
        lsn: row.get::<_, Option<PgLsn>>(at + 2).map_or(0, u64::from),
    })
}

fn sink(schema: &str, row: &Row) -> Result<SinkRecord> {
    let (held, standby): (Vec<i64>, bool) = (row.get(18), row.get(19));
    Ok(SinkRecord {
        is_taken: (!standby).then(|| held.contains(&sink_locks(schema, row.get(0)).0)),
        id: row.get(0),
        name: row.get(1),
        manifest: row.get(2),
        kind: row.get(3),
        state: SinkState::of(row.get(4)),
        reason: row.get(5),
        window: row.get(6),
        from: position(row, 7)?,
        until: row.get(10),
        offset: row.get(11),
        replay: row.get(16),
        there: row.get(17),
        moved: row.get(12),
        worker: row.get(13),
        fault: row.get::<_, Option<String>>(14).zip(row.get(15)),
    })
}

/// Reads all sinks of an installation, in the order of their names.
///
/// # Errors
/// Whatever the server answers.
pub fn sinks(client: &mut impl GenericClient, schema: &str) -> Result<Vec<SinkRecord>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!("select {SINK_COLUMNS} from {s}.emaj_sink order by sink_name"),
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
        &format!("select {SINK_COLUMNS} from {s}.emaj_sink where sink_name = $1"),
        &[&name],
    )?;
    row.as_ref().map(|row| sink(schema, row)).transpose()
}

/// Reads the bindings that go to a sink, in the order of their names.
///
/// # Errors
/// Whatever the server answers.
pub fn bindings_of(client: &mut impl GenericClient, schema: &str, sink: &str) -> Result<Vec<BindingRecord>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select bind_name, bind_oid, bind_schema, bind_table, bind_fingerprint, (bind_since).snapshot::text,
                    coalesce((bind_since).txid, 0), (bind_since).lsn, bind_init, bind_init_done, bind_init_total
               from {s}.emaj_binding where bind_sink = $1 order by bind_name"
        ),
        &[&sink],
    )?;
    rows.iter()
        .map(|row| {
            Ok(BindingRecord {
                name: row.get(0),
                oid: row.get(1),
                table: QualifiedName {
                    schema: row.get(2),
                    name: row.get(3),
                },
                fingerprint: row.get(4),
                since: position(row, 5)?,
                init: row.get(8),
                init_done: row.get(9),
                init_total: row.get(10),
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

/// Lets a person change the state of a sink.
///
/// # Errors
/// Whatever the server answers; nothing is changed when the sink is not installed: then it is `false`.
pub fn set_sink_state(
    client: &mut impl GenericClient,
    schema: &str,
    sink: &str,
    state: SinkState,
    reason: Option<&str>,
) -> Result<bool> {
    let s = escape_identifier(schema);
    let changed = client.execute(
        &format!("update {s}.emaj_sink set sink_state = $2, sink_reason = $3 where sink_name = $1"),
        &[&sink, &state.word().to_uppercase(), &reason],
    )?;
    Ok(changed == 1)
}
