//! What sinks did not take, as people see it: listed, tried again on request, discarded.
//!
//! How couriers set it aside and take it up again is in `parked`.

use jiff::Timestamp;
use postgres::GenericClient;
use postgres::types::ToSql;
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
    /// It may be there already: it was being tried when the worker ended.
    #[serde(skip)]
    pub begun: bool,
    /// The change as it was in the log; row values of the application.
    #[serde(skip)]
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

/// Reads what is set aside, in order.
///
/// # Errors
/// Whatever the server answers.
pub fn failures(client: &mut impl GenericClient, schema: &str, filter: &FailureFilter<'_>) -> Result<Vec<Failure>> {
    read(
        client,
        schema,
        CHOSEN,
        &[&filter.sink, &filter.binding, &filter.key, &filter.ids],
    )
}

/// Reads failures that fit a condition, in order.
pub(super) fn read(
    client: &mut impl GenericClient,
    schema: &str,
    condition: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Failure>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select fail_id, fail_sink, fail_binding, fail_key, fail_state, fail_reason, fail_attempts, fail_time, fail_retry, fail_begun,
                    fail_change, fail_old, fail_new
               from {s}.emaj_failure where {condition} order by fail_id"
        ),
        values,
    )?;
    Ok(rows
        .iter()
        .map(|row| Failure {
            id: row.get(0),
            sink: row.get(1),
            binding: row.get(2),
            key: row.get(3),
            state: FailureState::of(row.get(4)),
            reason: row.get(5),
            attempts: row.get(6),
            time: row.get(7),
            retry: row.get(8),
            begun: row.get(9),
            change: ChangeKept {
                what: row.get(10),
                old: row.get(11),
                new: row.get(12),
            },
        })
        .collect())
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
