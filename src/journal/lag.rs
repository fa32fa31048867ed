//! How far behind the sinks are: what of the log they have not been delivered yet.

use std::cmp::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use postgres::GenericClient;
use postgres::types::PgLsn;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use serde::Serialize;

use super::cursor::{Reached, key_part, reached};
use super::logs::{LogRecord, Uncaptured, logs_of};
use super::sinks::{BindingRecord, SinkState, Trouble, bindings_of, sinks};
use crate::errors::Result;
use crate::names::QualifiedName;
use crate::pg::{read_again, same_values};

/// How things stand with one sink, as the database knows it.
#[derive(Debug, Clone, Serialize)]
pub struct SinkLag {
    pub sink: String,
    pub kind: String,
    pub manifest: String,
    pub state: SinkState,
    /// What is wrong with it, or why it is in that state.
    pub reason: Option<String>,
    #[serde(skip)]
    pub trouble: Option<Trouble>,
    /// How long the log waits for it, in seconds; for ever, when there is no limit.
    pub max_lag: Option<f64>,
    /// The process that delivers; none when nobody does. On a standby words: it cannot know.
    pub worker: Option<String>,
    /// Changes in the log of its tables that are not delivered yet; those set aside are not among them.
    pub changes: i64,
    /// When the oldest of them was made.
    pub oldest: Option<Timestamp>,
    /// Changes that are set aside.
    pub set_aside: i64,
    /// Bindings whose rows that were there before are wanted and not all sent.
    pub unsent: Vec<String>,
    /// Bound tables of which nothing comes.
    #[serde(skip)]
    pub uncaptured: Vec<(QualifiedName, Uncaptured)>,
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
    read_again(|| one_look(client, schema))
}

fn one_look(client: &mut impl GenericClient, schema: &str) -> Result<Vec<SinkLag>> {
    let s = escape_identifier(schema);
    // Values have the text that the worker has of them: the hash of a row is one of that.
    let client = &mut client.transaction()?;
    client.batch_execute(&same_values("set local"))?;
    let mut all = Vec::new();
    for sink in sinks(client, schema)? {
        let bindings = bindings_of(client, schema, &sink.name)?;
        let oids: Vec<u32> = bindings.iter().map(|binding| binding.oid).collect();
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
        let logs = logs_of(client, schema, &oids)?;
        let why = |binding: &BindingRecord| {
            let logs = logs.iter().filter(|log| log.oid == binding.oid);
            Some((binding.table.clone(), Uncaptured::of(binding.is_replaced, logs)?))
        };
        let mut uncaptured: Vec<_> = bindings.iter().filter_map(why).collect();
        uncaptured.sort();
        uncaptured.dedup();
        for log in &logs {
            let row =
                client.query_one(
                    &format!(
                    "select count(*) filter (where not (emaj_verb = 'UPD' and emaj_tuple = 'OLD')), min(emaj_changed)
                       from {s}.{} as l where {after} and emaj_tuple <> ''{}",
                    escape_identifier(&log.log),
                    arrived.as_ref().map_or_else(String::new, |arrived| behind(arrived, log)),
                ),
                    &[],
                )?;
            changes += row.get::<_, i64>(0);
            let first: Option<Timestamp> = row.get(1);
            oldest = [oldest, first].into_iter().flatten().min();
        }
        let worker = match sink.is_taken {
            Some(true) => sink.worker.clone(),
            Some(false) => None,
            None => Some("known on the primary only".to_owned()),
        };
        all.push(SinkLag {
            sink: sink.name.clone(),
            kind: sink.kind.clone(),
            manifest: sink.manifest.clone(),
            state: sink.state,
            reason: match sink.state {
                SinkState::Active => sink.trouble.as_ref().map(Trouble::to_string).or(sink.reason),
                // Of a place that nothing is sent to, what was wrong with it last is no news.
                _ => sink.reason,
            },
            trouble: sink.trouble,
            max_lag,
            worker,
            changes,
            oldest,
            set_aside,
            uncaptured,
            unsent: bindings
                .into_iter()
                .filter(BindingRecord::is_unsent)
                .map(|binding| binding.name)
                .collect(),
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
        Ordering::Equal => behind_in_transaction(arrived, log),
    };
    format!(" and (l.emaj_gid > {place}::pg_lsn or l.emaj_gid = {place}::pg_lsn and {at_the_place})")
}

/// The condition that a row stands behind what has arrived of the transaction that wrote it, or that of a later one. What was written in another form than
/// the log has now is delivered again, and so is all of that transaction.
fn behind_in_transaction(arrived: &Reached<'_>, log: &LogRecord) -> String {
    let txid = arrived.txid;
    let (part, last) = match arrived.part.split_once('-') {
        Some((form, _)) if form != log.form => return format!("l.emaj_txid >= {txid}"),
        // Rows with the same in them count as delivered together.
        Some((_, last)) if log.key.is_empty() => (hash(log), last.split('-').next().unwrap_or_default()),
        Some((_, last)) => (key(log, last), last),
        // Updated without a key: the number of the row in its statement.
        None => ("coalesce(l.emaj_ord::text, '')".to_owned(), arrived.part),
    };
    format!(
        "(l.emaj_txid > {txid} or l.emaj_txid = {txid} and {part} collate \"C\" > {})",
        escape_literal(last)
    )
}

/// The key of a row as the worker writes it.
fn key(log: &LogRecord, written: &str) -> String {
    let columns: Vec<String> = (log.key.iter())
        .map(|column| format!("l.{}", escape_identifier(column)))
        .collect();
    let key = format!("pg_catalog.json_build_array({})::text", columns.join(", "));
    // (In hex where the encoding is not UTF-8.)
    format!("({})", key_part(&key, !written.starts_with('[')))
}

/// What tells a row without a key from others (see `stream/window`).
fn hash(log: &LogRecord) -> String {
    let columns: Vec<String> = (log.columns.iter())
        .map(|column| {
            let (log, name) = (escape_identifier(&column.log), escape_identifier(&column.name));
            format!("l.{log} as {name}")
        })
        .collect();
    format!(
        "pg_catalog.md5((select pg_catalog.row_to_json(r.*) from (select {}) as r)::text)",
        columns.join(", ")
    )
}
