//! What waits for a sink, as couriers keep it: queues, each in the order of its changes.
//!
//! What a sink did not take waits in a queue, and whatever must not overtake it waits behind it there: later changes of the same row,
//! and messages with the same key. Only the front of a queue is ever due. Each change is kept with the keys by which that is known, so
//! that a worker that begins needs to read no more than these.

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde_json::Value;

use super::failures::{FailureKept, FailureState, read_kept};
use crate::errors::Result;

/// A change as it is kept. Its rows are texts.
#[derive(Debug, Clone)]
pub struct ChangeKept {
    pub what: Value,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// A change to be set aside.
#[derive(Debug, Clone)]
pub struct SetAside {
    pub binding: String,
    /// The oid of the binding's table.
    pub table: u32,
    /// The key of its row, for people.
    pub key: String,
    pub queue: String,
    /// What must not overtake it has one of these.
    pub keys: Vec<String>,
    pub state: FailureState,
    pub reason: Option<String>,
    pub change: ChangeKept,
    /// Seconds until it is tried again.
    pub retry_in: Option<f64>,
}

/// A change that waits, as far as one has to know it that comes later.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub queue: String,
    pub keys: Vec<String>,
    pub state: FailureState,
}

/// Sets changes aside, in their order; one that is set aside already stays as it is, and so does a row of `emaj init` that waits as it is. Of a binding that was taken out meanwhile, or has another
/// sink or table now, nothing is: who takes one out has waited for what is being set aside, and keeps it from coming (`binding/remove`). So the transaction is
/// `read committed`.
///
/// # Errors
/// Whatever the server answers.
pub fn set_aside(client: &mut impl GenericClient, schema: &str, sink: &str, changes: &[SetAside]) -> Result<()> {
    let s = escape_identifier(schema);
    let insert = client.prepare(&format!(
        "insert into {s}.emaj_failure (fail_sink, fail_binding, fail_key, fail_queue, fail_keys, fail_state, fail_reason, fail_change,
                                       fail_old, fail_new, fail_attempts, fail_retry)
         select $1, $2, $3, $4, $5, $6, $7, $8, $10, $11, case when $6::text = 'BEHIND' then 0 else 1 end,
                clock_timestamp() + make_interval(secs => $9)
           from {s}.emaj_binding where bind_name = $2 and bind_sink = $1 and bind_oid = $12
            and not exists (select from {s}.emaj_failure
                             where fail_sink = $1 and md5(fail_key) = md5($3) and fail_key = $3 and fail_binding = $2
                               and {known} = {this})
            and not (($8::jsonb ->> 'init')::boolean
                     and coalesce((select (fail_change ->> 'init')::boolean and fail_new = $11 and fail_change -> 'columns' = $8 -> 'columns'
                                     from {s}.emaj_failure
                                    where fail_sink = $1 and md5(fail_key) = md5($3) and fail_key = $3 and fail_binding = $2
                                    order by fail_id desc limit 1), false))",
        known = identity("fail_change"),
        this = identity("$8::jsonb"),
    ))?;
    for change in changes {
        client.execute(
            &insert,
            &[
                &sink,
                &change.binding,
                &change.key,
                &change.queue,
                &change.keys,
                &change.state.text(),
                &change.reason,
                &change.change.what,
                &change.retry_in,
                &change.change.old,
                &change.change.new,
                &change.table,
            ],
        )?;
    }
    Ok(())
}

/// Writes the expression by which a change that is set aside is known. The number of its window is no part of its place in the log: the window may have got
/// another one. (Rows that were there before have no other place.)
fn identity(change: &str) -> String {
    format!(
        "(coalesce({change} ->> 'replay', ''),
          case when ({change} ->> 'init')::boolean then {change} ->> 'offset'
               else pg_catalog.substr({change} ->> 'offset', pg_catalog.strpos({change} ->> 'offset', '/')) end)"
    )
}

/// Returns a text that changes when something is set aside for a sink or comes back. All that waits is counted for it.
///
/// # Errors
/// Whatever the server answers.
pub fn mark_of_waiting(client: &mut impl GenericClient, schema: &str, sink: &str) -> Result<String> {
    let s = escape_identifier(schema);
    let sql = format!("select concat(count(*), ':', sum(fail_id)) from {s}.emaj_failure where fail_sink = $1");
    Ok(client.query_one(&sql, &[&sink])?.get(0))
}

/// Reads what waits for a sink, in order.
///
/// # Errors
/// Whatever the server answers.
pub fn waiting(client: &mut impl GenericClient, schema: &str, sink: &str) -> Result<Vec<Waiting>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select fail_queue, fail_keys, fail_state from {s}.emaj_failure where fail_sink = $1 order by fail_id"
        ),
        &[&sink],
    )?;
    Ok(rows
        .iter()
        .map(|row| Waiting {
            queue: row.get(0),
            keys: row.get(1),
            state: FailureState::of(row.get(2)),
        })
        .collect())
}

/// Tells whether something waits for a sink that has one of `keys`.
///
/// # Errors
/// Whatever the server answers.
pub fn is_set_aside(client: &mut impl GenericClient, schema: &str, sink: &str, keys: &[String]) -> Result<bool> {
    let s = escape_identifier(schema);
    let sql = format!("select exists (select from {s}.emaj_failure where fail_sink = $1 and fail_keys && $2)");
    Ok(client.query_one(&sql, &[&sink, &keys])?.get(0))
}

/// A change that waits, and what it is known by.
#[derive(Debug, Clone)]
pub struct Known {
    pub id: i64,
    pub binding: String,
    pub queue: String,
    /// The key of its row, for people.
    pub key: String,
    pub keys: Vec<String>,
    /// The numbers of the columns that were its row's key; null: not known.
    pub key_columns: Value,
}

/// Reads what the changes are known by that wait for a sink, in order.
///
/// # Errors
/// Whatever the server answers.
pub fn known(client: &mut impl GenericClient, schema: &str, sink: &str) -> Result<Vec<Known>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select fail_id, fail_binding, fail_queue, fail_key, fail_keys, coalesce(fail_change -> 'key_columns', 'null')
               from {s}.emaj_failure where fail_sink = $1 order by fail_id"
        ),
        &[&sink],
    )?;
    Ok(rows
        .iter()
        .map(|row| Known {
            id: row.get(0),
            binding: row.get(1),
            queue: row.get(2),
            key: row.get(3),
            keys: row.get(4),
            key_columns: row.get(5),
        })
        .collect())
}

/// Reads one change that waits; `None`: it waits no more.
///
/// # Errors
/// Whatever the server answers.
pub fn change_of(client: &mut impl GenericClient, schema: &str, id: i64) -> Result<Option<ChangeKept>> {
    let s = escape_identifier(schema);
    let sql = format!("select fail_change, fail_old, fail_new from {s}.emaj_failure where fail_id = $1");
    Ok(client.query_opt(&sql, &[&id])?.map(|row| ChangeKept {
        what: row.get(0),
        old: row.get(1),
        new: row.get(2),
    }))
}

/// Puts on record what a change is known by now.
///
/// # Errors
/// Whatever the server answers.
pub fn known_anew(client: &mut impl GenericClient, schema: &str, known: &Known) -> Result<()> {
    let s = escape_identifier(schema);
    let sql = format!(
        "update {s}.emaj_failure
            set fail_key = $2, fail_keys = $3, fail_change = fail_change || jsonb_build_object('key', $2::text, 'key_columns', $4::jsonb)
          where fail_id = $1"
    );
    client.execute(&sql, &[&known.id, &known.key, &known.keys, &known.key_columns])?;
    Ok(())
}

/// Returns the queues of a sink in which something is to be tried now, the oldest first.
///
/// # Errors
/// Whatever the server answers.
pub fn due(client: &mut impl GenericClient, schema: &str, sink: &str) -> Result<Vec<String>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select fail_queue from {s}.emaj_failure where fail_sink = $1 and fail_retry <= statement_timestamp()
              group by fail_queue order by min(fail_retry), min(fail_id)"
        ),
        &[&sink],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Returns queues of a sink whose first change is tried again by itself, in the order of these: `queues`, and `beside` them those whose turn comes
/// next.
///
/// # Errors
/// Whatever the server answers.
pub fn tried_again(
    client: &mut impl GenericClient,
    schema: &str,
    sink: &str,
    queues: &[String],
    beside: i64,
) -> Result<Vec<String>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select fail_queue
               from (select fail_queue, fail_id, row_number() over (partition by fail_queue = any ($2) order by fail_retry, fail_id) as number
                       from {s}.emaj_failure where fail_sink = $1 and fail_state = 'LATER') as f
              where fail_queue = any ($2) or number <= $3
              order by fail_id"
        ),
        &[&sink, &queues, &beside],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Reads one queue, in order: all of it, or its first `most` changes and what was being tried when a worker ended.
///
/// # Errors
/// Whatever the server answers.
pub fn queue(
    client: &mut impl GenericClient,
    schema: &str,
    sink: &str,
    queue: &str,
    most: Option<i64>,
) -> Result<Vec<FailureKept>> {
    let s = escape_identifier(schema);
    // (Beyond the end there is nothing, and so no limit.)
    let condition = format!(
        "fail_sink = $1 and fail_queue = $2
            and (fail_begun
                 or coalesce(fail_id < (select fail_id from {s}.emaj_failure where fail_sink = $1 and fail_queue = $2
                                         order by fail_id offset $3 limit case when $3::bigint is null then 0 else 1 end), true))
          order by fail_id"
    );
    read_kept(client, schema, &condition, &[&sink, &queue, &most])
}

/// Makes one queue of two: what waits for both waits in it. [`one_front`] has to follow.
///
/// # Errors
/// Whatever the server answers.
pub fn join(client: &mut impl GenericClient, schema: &str, sink: &str, queue: &str, into: &str) -> Result<()> {
    let s = escape_identifier(schema);
    let sql = format!("update {s}.emaj_failure set fail_queue = $3 where fail_sink = $1 and fail_queue = $2");
    client.execute(&sql, &[&sink, &queue, &into])?;
    Ok(())
}

/// Has all of a queue wait behind its first change: only that one is tried, by itself or on request.
///
/// # Errors
/// Whatever the server answers.
pub fn one_front(client: &mut impl GenericClient, schema: &str, sink: &str, queue: &str) -> Result<()> {
    let s = escape_identifier(schema);
    let sql = format!(
        "update {s}.emaj_failure set fail_state = 'BEHIND', fail_retry = null
          where fail_sink = $1 and fail_queue = $2 and fail_state <> 'BEHIND'
            and fail_id > (select min(fail_id) from {s}.emaj_failure where fail_sink = $1 and fail_queue = $2)"
    );
    client.execute(&sql, &[&sink, &queue])?;
    Ok(())
}

/// Has queues tried now.
///
/// # Errors
/// Whatever the server answers.
pub fn retry_queues(client: &mut impl GenericClient, schema: &str, sink: &str, queues: &[&str]) -> Result<()> {
    let s = escape_identifier(schema);
    let sql = format!(
        "update {s}.emaj_failure set fail_retry = clock_timestamp()
          where fail_sink = $1 and fail_queue = any ($2) and fail_state <> 'BEHIND'"
    );
    client.execute(&sql, &[&sink, &queues])?;
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

/// Brings what waits behind nothing any more to the front of its queue: it is tried next.
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
                                 where (b.fail_sink, b.fail_queue) = (f.fail_sink, f.fail_queue) and b.fail_id < f.fail_id)"
        ),
        &[],
    )?;
    Ok(())
}

/// Notes that a change was refused again.
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

/// Notes, before changes are tried, that they are: when nothing is heard of it any more, they may be there. Tells whether all of them wait still: some may
/// have been discarded meanwhile.
///
/// # Errors
/// Whatever the server answers.
pub fn begun(client: &mut impl GenericClient, schema: &str, ids: &[i64]) -> Result<bool> {
    let s = escape_identifier(schema);
    let sql = format!("update {s}.emaj_failure set fail_begun = true where fail_id = any ($1)");
    Ok(client.execute(&sql, &[&ids])? == ids.len() as u64)
}

/// Notes that changes which were tried are not there.
///
/// # Errors
/// Whatever the server answers.
pub fn not_begun(client: &mut impl GenericClient, schema: &str, ids: &[i64]) -> Result<()> {
    let s = escape_identifier(schema);
    let sql = format!("update {s}.emaj_failure set fail_begun = false where fail_id = any ($1) and fail_begun");
    client.execute(&sql, &[&ids])?;
    Ok(())
}

/// Forgets changes that arrived after all. What waited behind them is to be tried at once. Tells whether all of `next` wait still: some may have been
/// discarded meanwhile. With their bindings it notes the marks behind which they arrived, having been written before: no sink is set back to one of those
/// (`rewind`). (Rows of `emaj init` were there before any mark.)
///
/// # Errors
/// Whatever the server answers.
pub fn arrived(client: &mut impl GenericClient, schema: &str, ids: &[i64], next: &[i64]) -> Result<bool> {
    let s = escape_identifier(schema);
    // One statement: the next of a queue is never left without anybody to try it.
    let row = client.query_one(
        &format!(
            "with gone as (delete from {s}.emaj_failure where fail_id = any ($1) returning fail_sink, fail_queue, fail_binding, fail_change),
                  late as (insert into {s}.emaj_late (late_binding, late_mark)
                           select distinct bind_name, mark_id
                             from (select fail_binding, fail_sink, (fail_change ->> 'init')::boolean as is_init, (fail_change ->> 'txid')::bigint as txid,
                                          '0/0'::pg_lsn + min((fail_change ->> 'lsn')::numeric) as lsn
                                     from gone group by 1, 2, 3, 4) as g
                             join {s}.emaj_binding on bind_name = fail_binding and bind_sink = fail_sink
                             join {s}.emaj_mark
                               on not exists (select from {s}.emaj_late where late_binding = bind_name and late_mark = mark_id)
                              and (is_init or case when txid = (mark_position).txid then lsn < (mark_position).lsn
                                                  else pg_catalog.pg_visible_in_snapshot(txid::text::xid8, (mark_position).snapshot) end)
                           on conflict do nothing),
                  next as (select f.fail_id as id
                             from (select distinct fail_sink, fail_queue from gone) as g
                            cross join lateral (select fail_id from {s}.emaj_failure as f
                                                 where (f.fail_sink, f.fail_queue) = (g.fail_sink, g.fail_queue) and f.fail_id <> all ($1)
                                                 order by fail_id limit 1) as f),
                  front as (update {s}.emaj_failure set fail_state = 'LATER', fail_retry = clock_timestamp()
                              from next where fail_id = next.id and fail_state = 'BEHIND')
             select count(*) = cardinality($2::bigint[]) from {s}.emaj_failure where fail_id = any ($2)"
        ),
        &[&ids, &next],
    )?;
    Ok(row.get(0))
}
