//! Moves the cursor of a sink: a window of the log is begun, delivered up to an offset, and ended.
//!
//! A window is on record before anything of it is delivered: after a crash the same changes come again in the same order.

use postgres::GenericClient;
use postgres::types::PgLsn;
use postgres_protocol::escape::escape_identifier;

use super::position::{Position, Snapshot};
use crate::errors::{Error, Kind, Result};
use crate::pg::classify;

/// Returns the place in the WAL that an offset speaks of; `None` for a text that is no offset.
pub fn place_of(offset: &str) -> Option<u64> {
    u64::from_str_radix(offset.split('/').nth(1)?, 16).ok()
}

/// What an offset stands behind: a place in the WAL, which may be in the middle of a statement, and what of it is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached<'a> {
    pub place: u64,
    pub relation: i64,
    pub txid: i64,
    /// The last key of that transaction and relation (or what stands for it); empty: all of it is delivered.
    pub part: &'a str,
}

/// Takes an offset apart; `None` for one that is no place in the log.
pub fn reached(offset: &str) -> Option<Reached<'_>> {
    let mut parts = offset.splitn(5, '/').skip(1);
    let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
    let (place, relation, txid) = (number()?, number()?, number()?);
    Some(Reached {
        place,
        relation: i64::try_from(relation).ok()?,
        txid: i64::try_from(txid).ok()?,
        part: parts.next()?,
    })
}

/// Keys of more bytes have only their beginning in an offset, and a digest: sinks note offsets, and have room for so much.
const LONGEST_KEY: usize = 1000;
/// So many characters of such a key stand there.
const BEGINNING: usize = 200;

/// Writes the expression by which a key stands in an offset; `key` is that of its text, `in_hex` tells that the server's encoding is not UTF-8.
pub fn key_part(key: &str, in_hex: bool) -> String {
    let bytes = format!("pg_catalog.convert_to({key}, 'SQL_ASCII')");
    let text = match in_hex {
        true => format!("pg_catalog.encode({bytes}, 'hex')"),
        false => key.to_owned(),
    };
    format!(
        "case when pg_catalog.octet_length({key}) <= {LONGEST_KEY} then {text}
              else pg_catalog.left({text}, {BEGINNING}) || pg_catalog.encode(pg_catalog.sha256({bytes}), 'hex') end"
    )
}

/// What the database says at a look.
#[derive(Debug, Clone)]
pub struct SinkLook {
    /// The server's snapshot: as long as it is the same, nothing has happened.
    pub snapshot: String,
    /// Something that is set aside is to be tried again.
    pub is_due: bool,
    /// The sink is active, and nobody claims it.
    pub may_go_on: bool,
    /// The cursor has not moved for a good part of the time that the log waits for it.
    pub is_still: bool,
}

/// Which sink of which installation.
#[derive(Debug, Clone)]
pub struct Cursor {
    schema: String,
    sink: i32,
}

impl Cursor {
    pub fn new(schema: &str, sink: i32) -> Self {
        Cursor {
            schema: escape_identifier(schema),
            sink,
        }
    }

    /// Returns the number of the sink in the registry.
    pub fn sink(&self) -> i32 {
        self.sink
    }

    /// Asks how things stand, in one cheap question; `None`: the sink is gone. `claim` is the lock that nobody else may hold.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub fn look(&self, client: &mut impl GenericClient, claim: Option<i64>) -> Result<Option<SinkLook>> {
        // (An index is of no use where the clock goes on while it is read.)
        let sql = format!(
            "select pg_current_snapshot()::text, sink_state = 'ACTIVE' and ($2::bigint is null or pg_try_advisory_xact_lock_shared($2)),
                    exists (select from {s}.emaj_failure where fail_sink = sink_name and fail_retry <= statement_timestamp()),
                    coalesce(sink_moved < clock_timestamp() - sink_max_lag / 4, false)
               from {s}.emaj_sink where sink_id = $1",
            s = self.schema
        );
        let row = client
            .query_opt(&sql, &[&self.sink, &claim])
            .map_err(|error| classify(error, "look after the sink"))?;
        Ok(row.map(|row| SinkLook {
            snapshot: row.get(0),
            may_go_on: row.get(1),
            is_due: row.get(2),
            is_still: row.get(3),
        }))
    }

    /// Puts the window from `from` to `until` on record; it is the window number `window`.
    ///
    /// # Errors
    /// The sink is gone, or whatever the server answers.
    pub fn begin(&self, client: &mut impl GenericClient, window: i64, from: &Position, until: &Snapshot) -> Result<()> {
        let sql = format!(
            "update {s}.emaj_sink set sink_window = $2, sink_from = {p}, sink_until = $6::text::pg_snapshot, sink_offset = null where sink_id = $1",
            s = self.schema,
            p = self.position()
        );
        let lsn = PgLsn::from(from.lsn);
        self.update(
            client,
            &sql,
            &[
                &self.sink,
                &window,
                &from.snapshot.to_string(),
                &from.txid,
                &lsn,
                &until.to_string(),
            ],
        )
    }

    /// Counts windows on from `window`; one that is under way gets that number.
    ///
    /// # Errors
    /// The sink is gone, or whatever the server answers.
    pub fn renumber(&self, client: &mut impl GenericClient, window: i64) -> Result<()> {
        let sql = format!(
            "update {s}.emaj_sink set sink_window = $2 where sink_id = $1",
            s = self.schema
        );
        self.update(client, &sql, &[&self.sink, &window])
    }

    /// Notes that the window is delivered up to and including `offset`, and that the place has at least `there` by its own records, if it keeps any.
    ///
    /// # Errors
    /// The sink is gone, or whatever the server answers.
    pub fn advance(&self, client: &mut impl GenericClient, offset: &str, there: Option<&str>) -> Result<()> {
        let sql = format!(
            "update {s}.emaj_sink set sink_offset = $2, sink_there = coalesce($3, sink_there), sink_moved = clock_timestamp() where sink_id = $1",
            s = self.schema
        );
        self.update(client, &sql, &[&self.sink, &offset, &there])
    }

    /// Notes that rows that were there before arrive, and that the place has at least `there` by its own records, if it keeps any.
    ///
    /// # Errors
    /// The sink is gone, or whatever the server answers.
    pub fn takes_rows(&self, client: &mut impl GenericClient, there: Option<&str>) -> Result<()> {
        let sql = format!(
            "update {s}.emaj_sink set sink_there = coalesce($2, sink_there), sink_moved = clock_timestamp() where sink_id = $1",
            s = self.schema
        );
        self.update(client, &sql, &[&self.sink, &there])
    }

    /// Notes that the place has at least `there` by its own records; `None`: it need not have anything.
    ///
    /// # Errors
    /// The sink is gone, or whatever the server answers.
    pub fn is_there(&self, client: &mut impl GenericClient, there: Option<&str>) -> Result<()> {
        let sql = format!(
            "update {s}.emaj_sink set sink_there = $2 where sink_id = $1",
            s = self.schema
        );
        self.update(client, &sql, &[&self.sink, &there])
    }

    /// Gives the sink up: the place has lost what it had, and the log is not sure to have it.
    ///
    /// # Errors
    /// The sink is gone, or whatever the server answers.
    pub fn lose(&self, client: &mut impl GenericClient, reason: &str) -> Result<()> {
        let sql = format!(
            "update {s}.emaj_sink set sink_state = 'LOST', sink_reason = $2 where sink_id = $1",
            s = self.schema
        );
        self.update(client, &sql, &[&self.sink, &reason])?;
        let sql = format!(
            "select {s}._hist('LOSE_SINK', '', sink_name, $2) from {s}.emaj_sink where sink_id = $1",
            s = self.schema
        );
        client.execute(&sql, &[&self.sink, &reason])?;
        Ok(())
    }

    /// Notes that everything before `position` is delivered, and no window is under way.
    ///
    /// # Errors
    /// The sink is gone, or whatever the server answers.
    pub fn end(&self, client: &mut impl GenericClient, window: i64, position: &Position, forget: bool) -> Result<()> {
        let sql = format!(
            "update {s}.emaj_sink set sink_window = $2, sink_from = {p}, sink_until = null, sink_offset = null,
                    sink_replay = case when pg_snapshot_xmax($3::text::pg_snapshot) < pg_snapshot_xmax(sink_replay) then sink_replay end,
                    sink_reason = case when $6 then null else sink_reason end,
                    sink_moved = clock_timestamp() where sink_id = $1",
            s = self.schema,
            p = self.position()
        );
        let lsn = PgLsn::from(position.lsn);
        self.update(
            client,
            &sql,
            &[
                &self.sink,
                &window,
                &position.snapshot.to_string(),
                &position.txid,
                &lsn,
                &forget,
            ],
        )
    }

    /// Notes what is wrong at the place; `None`: nothing any more.
    ///
    /// # Errors
    /// The sink is gone, or whatever the server answers.
    pub fn fault(&self, client: &mut impl GenericClient, reason: Option<&str>) -> Result<()> {
        let sql = format!(
            "update {s}.emaj_sink set sink_fault = $2,
                    sink_fault_since = case when $2::text is null then null else coalesce(sink_fault_since, clock_timestamp()) end
              where sink_id = $1",
            s = self.schema
        );
        self.update(client, &sql, &[&self.sink, &reason])
    }

    /// Notes who delivers.
    ///
    /// # Errors
    /// The sink is gone, or whatever the server answers.
    pub fn taken_by(&self, client: &mut impl GenericClient, worker: &str) -> Result<()> {
        let sql = format!(
            "update {s}.emaj_sink set sink_worker = $2 where sink_id = $1",
            s = self.schema
        );
        self.update(client, &sql, &[&self.sink, &worker])
    }

    /// Stops the sink until a person has looked at it; `false`: it was given up meanwhile, or is gone.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub fn stop(&self, client: &mut impl GenericClient, reason: &str) -> Result<bool> {
        let sql = format!(
            "update {s}.emaj_sink set sink_state = 'STOPPED', sink_reason = $2 where sink_id = $1 and sink_state <> 'LOST'",
            s = self.schema
        );
        Ok(client.execute(&sql, &[&self.sink, &reason])? == 1)
    }

    fn position(&self) -> String {
        format!(
            "row($3::text::pg_snapshot, $4::bigint, $5::pg_lsn)::{}.emaj_position",
            self.schema
        )
    }

    fn update(
        &self,
        client: &mut impl GenericClient,
        sql: &str,
        values: &[&(dyn postgres::types::ToSql + Sync)],
    ) -> Result<()> {
        match client.execute(sql, values)? {
            1 => Ok(()),
            _ => Err(Error::message(Kind::Refused, "the sink is no longer installed")
                .hint("`emaj sink lag` shows those that are; `emaj install` makes those of a manifest known")),
        }
    }
}
