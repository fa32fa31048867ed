//! What sinks did not take: set aside by key, in order, until it is retried or discarded.

use jiff::Timestamp;
use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;
use serde_json::Value;

use crate::errors::Result;

/// Why a change is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureState {
    /// It is tried again by itself.
    Later,
    /// A person has to look at it.
    Never,
    /// It waits behind an earlier change of its key.
    Behind,
}

impl FailureState {
    fn of(text: &str) -> Self {
        match text {
            "LATER" => FailureState::Later,
            "NEVER" => FailureState::Never,
            _ => FailureState::Behind,
        }
    }

    /// The word that the registry has.
    fn text(self) -> String {
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
    pub key: String,
    pub state: FailureState,
    pub reason: Option<String>,
    pub attempts: i32,
    pub time: Timestamp,
    pub retry: Option<Timestamp>,
    /// The change as it was in the log; row values of the application.
    #[serde(skip)]
    pub change: Value,
}

/// A change to be set aside.
#[derive(Debug, Clone)]
pub struct SetAside {
    pub binding: String,
    pub key: String,
    pub state: FailureState,
    pub reason: Option<String>,
    pub change: Value,
    /// Seconds until it is tried again.
    pub retry_in: Option<f64>,
}

/// Sets changes aside, in their order; one that is set aside already stays as it is.
///
/// # Errors
/// Whatever the server answers.
pub fn set_aside(client: &mut impl GenericClient, schema: &str, sink: &str, changes: &[SetAside]) -> Result<()> {
    let s = escape_identifier(schema);
    for change in changes {
        client.execute(
            &format!(
                "insert into {s}.emaj_failure (fail_sink, fail_binding, fail_key, fail_state, fail_reason, fail_change, fail_attempts, fail_retry)
                 select $1, $2, $3, $4, $5, $6, case when $4::text = 'BEHIND' then 0 else 1 end, clock_timestamp() + make_interval(secs => $7)
                  where not exists (select from {s}.emaj_failure
                                     where fail_sink = $1 and fail_key = $3 and fail_binding = $2
                                       and fail_change -> 'offset' = $6::jsonb -> 'offset')"
            ),
            &[
                &sink,
                &change.binding,
                &change.key,
                &change.state.text(),
                &change.reason,
                &change.change,
                &change.retry_in,
            ],
        )?;
    }
    Ok(())
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
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select fail_id, fail_sink, fail_binding, fail_key, fail_state, fail_reason, fail_attempts, fail_time, fail_retry, fail_change
               from {s}.emaj_failure where {CHOSEN} order by fail_id"
        ),
        &[&filter.sink, &filter.binding, &filter.key, &filter.ids],
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
            change: row.get(9),
        })
        .collect())
}

/// Has what is chosen tried again by the next worker, with all that waits of the same keys. Returns the number of keys.
///
/// # Errors
/// Whatever the server answers.
pub fn retry(client: &mut impl GenericClient, schema: &str, filter: &FailureFilter<'_>) -> Result<i64> {
    let s = escape_identifier(schema);
    let row = client.query_one(
        &format!(
            "with keys as (select distinct fail_sink, fail_binding, fail_key from {s}.emaj_failure where {CHOSEN}),
                  due as (update {s}.emaj_failure f set fail_retry = clock_timestamp()
                            from keys k where (f.fail_sink, f.fail_binding, f.fail_key) = (k.fail_sink, k.fail_binding, k.fail_key)
                             and f.fail_state <> 'BEHIND')
             select count(*) from keys"
        ),
        &[&filter.sink, &filter.binding, &filter.key, &filter.ids],
    )?;
    Ok(row.get(0))
}

/// Forgets what is chosen. What waited behind it comes to the front of its key and is tried. Returns the number of changes.
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

/// Brings what waits behind nothing any more to the front of its key: it is tried next.
///
/// # Errors
/// Whatever the server answers.
pub fn promote(client: &mut impl GenericClient, schema: &str) -> Result<()> {
    let s = escape_identifier(schema);
    client.execute(
        &format!(
            "update {s}.emaj_failure f set fail_state = 'LATER', fail_retry = clock_timestamp()
              where fail_state = 'BEHIND'
                and not exists (select from {s}.emaj_failure b
                                 where (b.fail_sink, b.fail_binding, b.fail_key) = (f.fail_sink, f.fail_binding, f.fail_key)
                                   and b.fail_id < f.fail_id)"
        ),
        &[],
    )?;
    Ok(())
}

/// Has what is tried again by itself tried now. Returns the number of changes.
///
/// # Errors
/// Whatever the server answers.
pub fn hasten(client: &mut impl GenericClient, schema: &str, sink: &str) -> Result<u64> {
    let s = escape_identifier(schema);
    let sql = format!(
        "update {s}.emaj_failure set fail_retry = clock_timestamp() where fail_sink = $1 and fail_state = 'LATER'"
    );
    Ok(client.execute(&sql, &[&sink])?)
}

/// Notes that a change failed again.
///
/// # Errors
/// Whatever the server answers.
pub fn failed_again(
    client: &mut impl GenericClient,
    schema: &str,
    id: i64,
    state: FailureState,
    reason: &str,
    retry_in: Option<f64>,
) -> Result<()> {
    let s = escape_identifier(schema);
    client.execute(
        &format!(
            "update {s}.emaj_failure set fail_state = $2, fail_reason = $3, fail_attempts = fail_attempts + 1,
                    fail_retry = clock_timestamp() + make_interval(secs => $4) where fail_id = $1"
        ),
        &[&id, &state.text(), &reason, &retry_in],
    )?;
    Ok(())
}

/// Forgets changes that arrived after all. What waited behind them is to be tried at once.
///
/// # Errors
/// Whatever the server answers.
pub fn arrived(client: &mut impl GenericClient, schema: &str, ids: &[i64]) -> Result<()> {
    let s = escape_identifier(schema);
    // One statement: the next of a key is never left without anybody to try it.
    client.execute(
        &format!(
            "with gone as (delete from {s}.emaj_failure where fail_id = any ($1) returning fail_sink, fail_binding, fail_key),
                  next as (select min(f.fail_id) as id
                             from (select distinct * from gone) as g
                             join {s}.emaj_failure as f using (fail_sink, fail_binding, fail_key)
                            where f.fail_id <> all ($1)
                            group by fail_sink, fail_binding, fail_key)
             update {s}.emaj_failure set fail_state = 'LATER', fail_retry = clock_timestamp()
               from next where fail_id = next.id and fail_state = 'BEHIND'"
        ),
        &[&ids],
    )?;
    Ok(())
}
