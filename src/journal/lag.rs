//! How far behind the sinks are: what of the log they have not been delivered yet.

use std::cmp::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use postgres::GenericClient;
use postgres::types::PgLsn;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use serde::Serialize;

use super::cursor::{Reached, reached};
use super::sinks::{LogRecord, SinkState, bindings_of, logs_of, sinks};
use crate::errors::Result;
use crate::pg::same_values;

/// How things stand with one sink, as the database knows it.
#[derive(Debug, Clone, Serialize)]
pub struct SinkLag {
    pub sink: String,
    pub kind: String,
    pub manifest: String,
    pub state: SinkState,
    /// What is wrong with it.
    pub reason: Option<String>,
    /// How long the log waits for it, in seconds; for ever, when there is no limit.
    pub max_lag: Option<f64>,
    /// The process that delivers; none when nobody does.
    pub worker: Option<String>,
    /// Changes in the log of its tables that are not delivered yet; those set aside are not among them.
    pub changes: i64,
    /// When the oldest of them was made.
    pub oldest: Option<Timestamp>,
    /// Changes that are set aside.
    pub set_aside: i64,
}

impl SinkLag {
    /// Returns the age of the oldest change that is not delivered yet.
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        let seconds = (now - self.oldest?).total(jiff::Unit::Second).unwrap_or(0.0);
        Some(Duration::from_secs_f64(seconds.max(0.0)))
    }
}

/// Reads how far behind each sink is.
///
/// # Errors
/// Whatever the server answers.
pub fn lag(client: &mut impl GenericClient, schema: &str) -> Result<Vec<SinkLag>> {
    let s = escape_identifier(schema);
    // Values have the text that the worker has of them: the hash of a row is one of that.
    let client = &mut client.transaction()?;
    client.batch_execute(&same_values("set local"))?;
    let mut all = Vec::new();
    for sink in sinks(client, schema)? {
        let oids: Vec<u32> = bindings_of(client, schema, &sink.name)?
            .iter()
            .map(|binding| binding.oid)
            .collect();
        let row = client.query_one(
            &format!(
                "select {s}._after(sink_from), (select count(*) from {s}.emaj_failure where fail_sink = sink_name),
                        extract(epoch from sink_max_lag)::float8
                   from {s}.emaj_sink where sink_id = $1"
            ),
            &[&sink.id],
        )?;
        let (after, set_aside, max_lag): (String, i64, Option<f64>) = (row.get(0), row.get(1), row.get(2));
        // Of a window that is under way, what stands before its offset has arrived.
        let arrived = sink.offset.as_deref().and_then(reached);
        let (mut changes, mut oldest) = (0, None);
        for log in logs_of(client, schema, &oids)? {
            let row =
                client.query_one(
                    &format!(
                    "select count(*) filter (where not (emaj_verb = 'UPD' and emaj_tuple = 'OLD')), min(emaj_changed)
                       from {s}.{} as l where {after} and emaj_tuple <> ''{}",
                    escape_identifier(&log.log),
                    arrived.as_ref().map_or_else(String::new, |arrived| behind(arrived, &log)),
                ),
                    &[],
                )?;
            changes += row.get::<_, i64>(0);
            let first: Option<Timestamp> = row.get(1);
            oldest = [oldest, first].into_iter().flatten().min();
        }
        let worker = sink.worker.clone().filter(|_| sink.is_taken);
        all.push(SinkLag {
            sink: sink.name.clone(),
            kind: sink.kind.clone(),
            manifest: sink.manifest.clone(),
            state: sink.state,
            reason: sink.trouble().or(sink.reason),
            max_lag,
            worker,
            changes,
            oldest,
            set_aside,
        });
    }
    Ok(all)
}

/// The condition that a row of a log stands behind what has arrived, in the order of delivery. Of a statement that wrote many rows all have one
/// place in the WAL: there the keys decide, as the worker prints them.
fn behind(arrived: &Reached<'_>, log: &LogRecord) -> String {
    let place = escape_literal(&PgLsn::from(arrived.place).to_string());
    let at_the_place = match log.relation.cmp(&arrived.relation) {
        Ordering::Less => return format!(" and l.emaj_gid > {place}::pg_lsn"),
        Ordering::Greater => return format!(" and l.emaj_gid >= {place}::pg_lsn"),
        Ordering::Equal if arrived.part.is_empty() => format!("l.emaj_txid > {}", arrived.txid),
        Ordering::Equal => {
            let key: Vec<String> = log
                .key
                .iter()
                .map(|column| format!("l.{}", escape_identifier(column)))
                .collect();
            let key = format!("pg_catalog.json_build_array({})::text", key.join(", "));
            let (part, last) = if log.key.is_empty() {
                part_without_key(arrived.part, log)
            } else if arrived.part.starts_with('[') {
                (key, arrived.part)
            } else {
                // The encoding is not UTF-8: parts are in hex.
                let hex = format!("pg_catalog.encode(pg_catalog.convert_to({key}, 'SQL_ASCII'), 'hex')");
                (hex, arrived.part)
            };
            format!(
                "(l.emaj_txid > {txid} or l.emaj_txid = {txid} and {part} collate \"C\" > {})",
                escape_literal(last),
                txid = arrived.txid,
            )
        }
    };
    format!(" and (l.emaj_gid > {place}::pg_lsn or l.emaj_gid = {place}::pg_lsn and {at_the_place})")
}

/// What tells the rows of a log without a key apart, and how far that is delivered: the number of a row in its statement where it was updated, else
/// what is in it (see `stream/window`). Rows with the same in them count as delivered together.
fn part_without_key<'a>(arrived: &'a str, log: &LogRecord) -> (String, &'a str) {
    let mut parts = arrived.split('-').skip(1);
    let Some(hash) = parts.next() else {
        return ("coalesce(l.emaj_ord::text, '')".to_owned(), arrived);
    };
    let columns: Vec<String> = (log.columns.iter())
        .map(|column| format!("l.{}", escape_identifier(column)))
        .collect();
    let image = format!(
        "(select pg_catalog.row_to_json(r.*) from (select {}) as r)::text",
        columns.join(", ")
    );
    (format!("pg_catalog.md5({image})"), hash)
}
