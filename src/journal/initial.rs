//! How far rows that were there before are sent, binding by binding: what `emaj init` is asked for, and where it goes on.

use std::collections::BTreeMap;

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;

use super::parked::promote;
use crate::errors::Result;
use crate::pg::{Doing as _, Session};

/// A place among the rows of a table: what it means there, and which.
pub type RowPlace<'a> = (&'a str, &'a str);

/// Takes, before any row of a binding or a sink, what [`begin_anew`] needs at its end: an install takes the two in this order (`binding/remove`).
///
/// # Errors
/// Whatever the server answers.
pub fn lock_set_aside(client: &mut impl GenericClient, schema: &str) -> Result<()> {
    let s = escape_identifier(schema);
    client
        .batch_execute(&format!("lock table {s}.emaj_failure in row exclusive mode"))
        .doing("lock what is set aside")
}

/// What is left to be sent of the rows of a binding.
#[derive(Debug)]
pub struct WantedRows {
    pub binding: String,
    /// The unfinished run that is gone on with has sent all of them.
    pub is_sent: bool,
    /// How many there are about.
    pub rows: i64,
}

/// Notes that the rows of bindings are wanted. Of an unfinished run what it has sent is not sent again, unless `restart`, or the sink has lost its place in
/// the log since. Bindings that are not installed are left out.
///
/// # Errors
/// Whatever the server answers.
pub fn want_rows(
    client: &mut impl GenericClient,
    schema: &str,
    bindings: &[&str],
    restart: bool,
) -> Result<Vec<WantedRows>> {
    let s = escape_identifier(schema);
    let rows = client
        .query(
            &format!(
                "with chosen as (
               select bind_name as name, bind_init as init, bind_init_run as run, not $2 and sink_state is distinct from 'LOST' as stays
                 from {s}.emaj_binding left join {s}.emaj_sink on sink_name = bind_sink
                where bind_name = any ($1) order by bind_name for no key update of emaj_binding
             ), begun as (
               select array_agg(run) as runs, min(run) as first from chosen where stays and init in ('WANTED', 'RUNNING')
             ), told as (
               select name, stays and init in ('WANTED', 'RUNNING') as goes_on, coalesce(stays and init = 'DONE' and run = any (runs), false) as is_sent,
                      coalesce(first, now()) as run
                 from chosen, begun
             )
             update {s}.emaj_binding
                set bind_init = case when is_sent then bind_init else 'WANTED' end,
                    bind_init_run = told.run,
                    bind_init_key = case when goes_on or is_sent then bind_init_key end,
                    bind_init_done = case when goes_on or is_sent then bind_init_done else 0 end,
                    bind_init_total = (select greatest(reltuples, 0)::bigint from pg_catalog.pg_class where oid = bind_oid)
               from told
              where bind_name = name
              returning bind_name, is_sent, case when is_sent then 0 else greatest(bind_init_total - bind_init_done, 0) end"
            ),
            &[&bindings, &restart],
        )
        .doing("note that rows are wanted")?;
    let wanted = rows.iter().map(|row| WantedRows {
        binding: row.get(0),
        is_sent: row.get(1),
        rows: row.get::<_, Option<i64>>(2).unwrap_or(0),
    });
    Ok(wanted.collect())
}

/// Has a sink that has lost its place in the log begin anew: the rows of today, and what changes from now on. What is set aside of older states
/// of rows goes: what made them what they are today may be lost. A message that is set aside stays: it tells what happened.
///
/// # Errors
/// Whatever the server answers.
pub fn begin_anew(client: &mut impl GenericClient, schema: &str, sink: &str) -> Result<()> {
    let s = escape_identifier(schema);
    // (With that nobody else lets it go on.)
    let lost = format!("select {s}._begin_to_read() from {s}.emaj_sink where sink_state = 'LOST' and sink_name = $1");
    if client.execute(&lost, &[&sink]).doing("have the sink begin to read")? == 0 {
        return Ok(());
    }
    client
        .execute(
            &format!(
                "delete from {s}.emaj_failure using {s}.emaj_binding
              where fail_sink = $1 and bind_name = fail_binding and bind_kind <> 'message'"
            ),
            &[&sink],
        )
        .doing("discard what is set aside")?;
    promote(client, schema)?;
    // Last: a courier has what it sets aside before it has its sink.
    client.execute(
        &format!(
            "update {s}.emaj_sink set sink_state = 'ACTIVE', sink_reason = null, sink_from = {s}._position(), sink_until = null,
                    sink_offset = null, sink_replay = null, sink_there = null where sink_state = 'LOST' and sink_name = $1"
        ),
        &[&sink],
    )
    .doing("have the sink begin anew")?;
    Ok(())
}

/// Has a sink that has lost its place in the log begin anew with the rows of `bindings`, whatever was sent of them.
///
/// # Errors
/// Whatever the server answers.
pub fn want_all_again(session: &mut Session, schema: &str, sink: &str, bindings: &[String]) -> Result<()> {
    let mut transaction = session.transaction().doing("begin a transaction")?;
    lock_set_aside(&mut transaction, schema)?;
    let bindings: Vec<&str> = bindings.iter().map(String::as_str).collect();
    want_rows(&mut transaction, schema, &bindings, true)?;
    begin_anew(&mut transaction, schema, sink)?;
    transaction.commit().doing("note that all rows are wanted")
}

/// Returns where the last row of a binding is that was sent: what a place means in its table, and the place; `None`: the first is next.
///
/// # Errors
/// The binding is gone, or whatever the server answers.
pub fn rows_sent(client: &mut impl GenericClient, schema: &str, binding: &str) -> Result<Option<(String, String)>> {
    let s = escape_identifier(schema);
    let row = client
        .query_one(
            &format!("select bind_init_key from {s}.emaj_binding where bind_name = $1"),
            &[&binding],
        )
        .doing("look up which rows are sent")?;
    let sent: Option<String> = row.get(0);
    Ok(sent.map(|sent| match sent.split_once('\n') {
        Some((order, place)) => (order.to_owned(), place.to_owned()),
        None => (String::new(), sent),
    }))
}

/// Notes that the rows of a binding are sent from the first on.
///
/// # Errors
/// Whatever the server answers.
pub fn rows_anew(client: &mut impl GenericClient, schema: &str, binding: &str) -> Result<()> {
    let s = escape_identifier(schema);
    client
        .execute(
            &format!("update {s}.emaj_binding set bind_init_key = null, bind_init_done = 0 where bind_name = $1"),
            &[&binding],
        )
        .doing("note that rows are sent from the first on")?;
    Ok(())
}

/// Notes that the rows of all bindings of a sink that are being sent, or were by an unfinished run, are sent from the first on: what was sent of them is not there any more.
/// (As `_rows_anew` in SQL, for whoever delivers to the sink: nobody else has any of them under way.)
///
/// # Errors
/// Whatever the server answers.
pub fn all_rows_anew(client: &mut impl GenericClient, schema: &str, sink: &str) -> Result<()> {
    let s = escape_identifier(schema);
    client
        .execute(
            &format!(
                "update {s}.emaj_binding
                set bind_init_run = case when bind_init <> 'DONE' then bind_init_run end, bind_init_key = null,
                    bind_init_done = case when bind_init = 'DONE' then bind_init_done else 0 end
              where bind_sink = $1 and bind_init is not null"
            ),
            &[&sink],
        )
        .doing("note that rows are sent from the first on")?;
    Ok(())
}

/// Returns those of `bindings` whose tables have no primary key, with the tables: their rows cannot be sent.
///
/// # Errors
/// Whatever the server answers.
pub fn without_key(
    client: &mut impl GenericClient,
    schema: &str,
    bindings: &[&str],
) -> Result<BTreeMap<String, String>> {
    let s = escape_identifier(schema);
    let rows = client
        .query(
            &format!(
                "select bind_name, pg_catalog.format('%I.%I', bind_schema, bind_table) from {s}.emaj_binding
              where bind_name = any ($1) and bind_oid in (select oid from pg_catalog.pg_class)
                and not exists (select from pg_catalog.pg_index where indrelid = bind_oid and indisprimary)"
            ),
            &[&bindings],
        )
        .doing("look for tables without a primary key")?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Notes that `rows` more of a binding are sent, from one place up to another: what it means, and which. Behind the last of them no sink whose places keep a
/// state is set back (see `rewind`): rows that were there before are in no log. `false`: the binding is not where these rows began any more; nothing is noted.
///
/// # Errors
/// Whatever the server answers.
pub fn note_rows(
    client: &mut impl GenericClient,
    schema: &str,
    binding: &str,
    (from, until): (Option<RowPlace<'_>>, Option<RowPlace<'_>>),
    rows: i64,
    is_over: bool,
) -> Result<bool> {
    let s = escape_identifier(schema);
    let [from, until] = [from, until].map(|place| place.map(|(order, place)| format!("{order}\n{place}")));
    let noted = client.execute(
        &format!(
            "update {s}.emaj_binding
                set bind_init = case when $5 then 'DONE' else 'RUNNING' end, bind_init_key = coalesce($3, bind_init_key),
                    bind_init_done = bind_init_done + $4,
                    bind_kept = case when $5 and bind_kind <> 'message' then {s}._position() else bind_kept end
              where bind_name = $1 and bind_init_key is not distinct from $2"
        ),
        &[&binding, &from, &until, &rows, &is_over],
    )
    .doing("note which rows are sent")?;
    Ok(noted > 0)
}

/// Returns the groups that the tables of a sink are in, in the order of their names.
///
/// # Errors
/// Whatever the server answers.
pub fn groups_of(client: &mut impl GenericClient, schema: &str, sink: &str) -> Result<Vec<String>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select distinct rel_group from {s}.emaj_relation
              where rel_ended is null and rel_oid in (select bind_oid from {s}.emaj_binding where bind_sink = $1) order by 1"
        ),
        &[&sink],
    )
    .doing("look up the groups of the sink")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
