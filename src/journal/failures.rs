//! What sinks did not take, as people see it: listed, tried again on request, discarded.
//!
//! How couriers set it aside and take it up again is in `parked`.

use jiff::Timestamp;
use postgres::types::ToSql;
use postgres::{GenericClient, Row};
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use super::parked::{ChangeKept, promote};
use crate::errors::Result;

/// Why a change is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureState {
    /// It is tried again by itself.
    Later,
    /// A person has to look at it.
    Never,
    /// It waits behind an earlier change of its queue.
    Behind,
}

impl FailureState {
    pub(super) fn of(text: &str) -> Self {
        match text {
            "LATER" => FailureState::Later,
            "NEVER" => FailureState::Never,
            _ => FailureState::Behind,
        }
    }

    /// The word that the registry has.
    pub(super) fn text(self) -> String {
        self.word().to_uppercase()
    }

    /// Returns the word people read.
    pub fn word(self) -> &'static str {
        match self {
            FailureState::Later => "later",
            FailureState::Never => "never",
            FailureState::Behind => "behind",
        }
    }
}

/// A change that a sink did not take.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    pub id: i64,
    pub sink: String,
    pub binding: String,
    /// The key of its row.
    pub key: String,
    pub state: FailureState,
    pub reason: Option<String>,
    pub attempts: i32,
    pub time: Timestamp,
    pub retry: Option<Timestamp>,
}

/// A change that a sink did not take, with all that is kept of it.
#[derive(Debug, Clone)]
pub struct FailureKept {
    pub failure: Failure,
    /// It may be there already: it was being tried when the worker ended.
    pub begun: bool,
    /// The change as it was in the log; row values of the application.
    pub change: ChangeKept,
}

/// Which failures are meant.
#[derive(Debug, Clone, Default)]
pub struct FailureFilter<'a> {
    pub sink: Option<&'a str>,
    pub binding: Option<&'a str>,
    pub key: Option<&'a str>,
    pub ids: &'a [i64],
}

const CHOSEN: &str = "($1::text is null or fail_sink = $1) and ($2::text is null or fail_binding = $2)
    and ($3::text is null or fail_key = $3) and (cardinality($4::bigint[]) = 0 or fail_id = any ($4))";

const COLUMNS: &str =
    "fail_id, fail_sink, fail_binding, fail_key, fail_state, fail_reason, fail_attempts, fail_time, fail_retry";

/// Reads what is set aside, in order: the first of it, or all. Rows of the application are not read.
///
/// # Errors
/// Whatever the server answers.
pub fn failures<C: GenericClient>(
    client: &mut C,
    schema: &str,
    filter: &FailureFilter<'_>,
    limit: Option<i64>,
) -> Result<Vec<Failure>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!("select {COLUMNS} from {s}.emaj_failure where {CHOSEN} order by fail_id limit $5"),
        &[&filter.sink, &filter.binding, &filter.key, &filter.ids, &limit],
    )?;
    Ok(rows.iter().map(failure).collect())
}

/// Reads what is set aside with all that is kept of it, in order: the first of it, or all.
///
/// # Errors
/// Whatever the server answers.
pub fn failures_kept<C: GenericClient>(
    client: &mut C,
    schema: &str,
    filter: &FailureFilter<'_>,
    limit: Option<i64>,
) -> Result<Vec<FailureKept>> {
    read_kept(
        client,
        schema,
        &format!("{CHOSEN} order by fail_id limit $5"),
        &[&filter.sink, &filter.binding, &filter.key, &filter.ids, &limit],
    )
}

/// Reads failures with all that is kept of them: those that fit a condition, in its order.
pub(super) fn read_kept(
    client: &mut impl GenericClient,
    schema: &str,
    condition: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<FailureKept>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select {COLUMNS}, fail_begun, fail_change, fail_old, fail_new from {s}.emaj_failure where {condition}"
        ),
        values,
    )?;
    let kept = |row: &Row| FailureKept {
        failure: failure(row),
        begun: row.get("fail_begun"),
        change: ChangeKept {
            what: row.get("fail_change"),
            old: row.get("fail_old"),
            new: row.get("fail_new"),
        },
    };
    Ok(rows.iter().map(kept).collect())
}

fn failure(row: &Row) -> Failure {
    Failure {
        id: row.get("fail_id"),
        sink: row.get("fail_sink"),
        binding: row.get("fail_binding"),
        key: row.get("fail_key"),
        state: FailureState::of(row.get("fail_state")),
        reason: row.get("fail_reason"),
        attempts: row.get("fail_attempts"),
        time: row.get("fail_time"),
        retry: row.get("fail_retry"),
    }
}

/// Counts what is set aside.
///
/// # Errors
/// Whatever the server answers.
pub fn count_failures(client: &mut impl GenericClient, schema: &str, filter: &FailureFilter<'_>) -> Result<u64> {
    let s = escape_identifier(schema);
    let row = client.query_one(
        &format!("select count(*) from {s}.emaj_failure where {CHOSEN}"),
        &[&filter.sink, &filter.binding, &filter.key, &filter.ids],
    )?;
    Ok(row.get::<_, i64>(0).cast_unsigned())
}

/// Has what is chosen tried again by the next worker, with all that it waits for or that waits for it. Returns the number of queues.
///
/// # Errors
/// Whatever the server answers.
pub fn retry(client: &mut impl GenericClient, schema: &str, filter: &FailureFilter<'_>) -> Result<i64> {
    let s = escape_identifier(schema);
    let row = client.query_one(
        &format!(
            "with queues as (select distinct fail_sink, fail_queue from {s}.emaj_failure where {CHOSEN}),
                  due as (update {s}.emaj_failure f set fail_retry = clock_timestamp()
                            from queues q where (f.fail_sink, f.fail_queue) = (q.fail_sink, q.fail_queue) and f.fail_state <> 'BEHIND')
             select count(*) from queues"
        ),
        &[&filter.sink, &filter.binding, &filter.key, &filter.ids],
    )?;
    Ok(row.get(0))
}

/// Forgets what is chosen. What waited behind it comes to the front of its queue and is tried. Returns the number of changes.
/// Two statements: the caller has them in one transaction.
///
/// # Errors
/// Whatever the server answers.
pub fn discard(client: &mut impl GenericClient, schema: &str, filter: &FailureFilter<'_>) -> Result<u64> {
    let s = escape_identifier(schema);
    let gone = client.execute(
        &format!("delete from {s}.emaj_failure where {CHOSEN}"),
        &[&filter.sink, &filter.binding, &filter.key, &filter.ids],
    )?;
    promote(client, schema)?;
    Ok(gone)
}
