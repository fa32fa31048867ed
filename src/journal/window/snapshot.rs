//! The transaction in which a window is read: one snapshot, taken when all that is read is locked.
//!
//! TRUNCATE is not held back by snapshots: a table that is emptied (a log by a purge) is empty at once for whoever has an old one too. LOCK takes none, so
//! what was emptied is seen, and what is still there stays.

use postgres::error::SqlState;
use postgres::{GenericClient, IsolationLevel, Statement, Transaction};
use postgres_protocol::escape::escape_identifier;

use super::WindowWanted;
use crate::errors::{Error, Kind, Result};
use crate::pg::{Session, classify, not_begun};

/// Begins the transaction (repeatable read): the logs of the window are locked as by any reader. `with_tables` also the tables that the caller may read,
/// and then views can be made in it.
///
/// # Errors
/// [`Kind::Refused`] when a log came or went at this very moment; [`Kind::Denied`] where a log may not be read; whatever the server answers.
pub fn begin_reading<'s>(
    session: &'s mut Session,
    schema: &str,
    wanted: &WindowWanted<'_>,
    with_tables: bool,
) -> Result<Transaction<'s>> {
    let s = escape_identifier(schema);
    // It is asked twice, and understood once.
    let question = session.prepare(&question(&s))?;
    let found = files(&mut **session, &question, &s, wanted, with_tables)?;
    let mut transaction = session
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        // Whatever the role's default is; and a standby has no other.
        .read_only(!with_tables)
        .start()
        .map_err(not_begun)?;
    let names: Vec<&str> = found.iter().filter_map(|file| file.name.as_deref()).collect();
    if !names.is_empty() {
        let lock = format!("lock table {} in access share mode", names.join(", "));
        transaction.batch_execute(&lock).map_err(|error| match error.code() {
            Some(&SqlState::UNDEFINED_TABLE) => changed(wanted.group),
            _ => classify(error, "lock what is read"),
        })?;
    }
    let now = files(&mut transaction, &question, &s, wanted, with_tables)?;
    if now.iter().all(|file| found.iter().any(|known| known.oid == file.oid)) {
        return Ok(transaction);
    }
    Err(changed(wanted.group))
}

fn changed(group: &str) -> Error {
    Error::message(Kind::Refused, format!("the logs of group `{group}` have just changed")).hint("run it again")
}

/// A table that holds rows that are read.
struct File {
    oid: u32,
    /// None: it is locked with another one, as a part of it.
    name: Option<String>,
}

/// Reads which tables a window is read from, in the order in which they are locked everywhere.
fn files(
    client: &mut impl GenericClient,
    question: &Statement,
    s: &str,
    wanted: &WindowWanted<'_>,
    with_tables: bool,
) -> Result<Vec<File>> {
    let schemas: Vec<&str> = wanted.tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = wanted.tables.iter().map(|table| table.name.as_str()).collect();
    let rows = client.query(question, &[&wanted.group, &s, &schemas, &names, &with_tables])?;
    Ok(rows
        .iter()
        .map(|row| File {
            oid: row.get(0),
            name: row.get(1),
        })
        .collect())
}

fn question(s: &str) -> String {
    format!(
        "with relation as (
               select r.*, c.oid as table_oid, n.nspname, c.relname
                 from {s}.emaj_relation r
                 left join pg_catalog.pg_class c on c.oid = r.rel_oid
                 left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                where r.rel_group = $1 and r.rel_log is not null
                  and (pg_catalog.cardinality($3::text[]) = 0
                       or (coalesce(n.nspname, r.rel_schema), coalesce(c.relname, r.rel_name))
                          in (select * from rows from (pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[])) as t(a, b)))
             ),
             log as (
               select r.*, c.oid as log_oid
                 from relation r
                 join pg_catalog.pg_class c on c.relname = r.rel_log and c.relnamespace = $2::text::regnamespace
             )
             select oid, name
               from (select 1 as kind, rel_priority, rel_oid, rel_id, table_oid as oid, pg_catalog.format('%I.%I', nspname, relname) as name
                       from relation
                      where $5 and rel_ended is null and pg_catalog.has_schema_privilege(nspname::text, 'usage')
                        and pg_catalog.has_table_privilege(table_oid, 'select')
                     union all
                     select 2, rel_priority, rel_oid, rel_id, log_oid, pg_catalog.format('%s.%I', $2::text, rel_log) from log
                     union all
                     select 3, rel_priority, rel_oid, rel_id, i.inhrelid, null from log join pg_catalog.pg_inherits i on i.inhparent = log_oid) as f
              order by kind, rel_priority, rel_oid, rel_id, oid"
    )
}
