//! Taking back one transaction, one row, or what a role did: what would happen ([`plan`]), and doing it ([`run`]).
//!
//! The work is done by SQL functions in the database (`templates/revert/`), as ordinary captured changes between two marks. Called by
//! `commands/revert`.

use postgres::{GenericClient, IsolationLevel, Transaction};
use postgres_protocol::escape::{escape_identifier, escape_literal};
use serde::Serialize;

use crate::errors::{Error, Kind, Result};
use crate::journal;
use crate::names::QualifiedName;
use crate::pg::{self, Session};
use crate::words::shell;

/// What is to be taken back.
#[derive(Debug, Clone)]
pub enum Which {
    Transaction(i64),
    /// What a role did since the mark.
    User(String),
    /// One row since the mark: a table, and the columns of its key with their values as text.
    Row(QualifiedName, Vec<(String, String)>),
}

/// Which revert is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub group: String,
    /// None: the last mark; for a transaction the last one before it.
    pub mark: Option<String>,
    pub which: Which,
}

impl Wanted {
    /// Returns what is taken back in words.
    pub fn words(&self) -> String {
        match &self.which {
            Which::Transaction(number) => format!("transaction {number}"),
            Which::User(role) => format!("the changes by `{role}`"),
            Which::Row(table, key) => {
                let key: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("row {} of `{table}`", key.join(" "))
            }
        }
    }
}

/// What would be done to one key.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub schema: String,
    pub table: String,
    /// `insert`, `update` or `delete`.
    pub action: String,
    /// The key, as JSON.
    pub key: String,
    /// The transactions that changed the key later, and whose they are; that would be lost.
    pub later: Option<String>,
}

impl Step {
    pub fn qualified(&self) -> QualifiedName {
        QualifiedName::new(&self.schema, &self.table)
    }
}

/// What was done to one table.
#[derive(Debug, Clone, Serialize)]
pub struct Reverted {
    pub schema: String,
    pub table: String,
    pub deleted: i64,
    pub updated: i64,
    pub inserted: i64,
}

impl Reverted {
    pub fn qualified(&self) -> QualifiedName {
        QualifiedName::new(&self.schema, &self.table)
    }
}

/// Looks what a revert would do, without a lock on any table and without changing anything.
///
/// # Errors
/// [`Kind::Refused`] for an unknown group, mark, table or key, and where the installation was not made; whatever the server answers.
pub fn plan(session: &mut Session, schema: &str, wanted: &Wanted) -> Result<Vec<Step>> {
    let mut transaction = session
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()?;
    transaction.batch_execute(pg::NO_LIMITS)?;
    journal::check_origin(&mut transaction, schema)?;
    let s = escape_identifier(schema);
    let (txid, user, table, key) = arguments(&mut transaction, &s, wanted)?;
    let rows = transaction.query(
        &format!(
            "select plan_schema, plan_table, plan_action, plan_key, plan_later
               from {s}.emaj_check_revert_group($1, $2, $3, $4, $5, $6::text::jsonb)"
        ),
        &[&wanted.group, &wanted.mark, &txid, &user, &table, &key],
    )?;
    let steps = rows
        .iter()
        .map(|row| Step {
            schema: row.get(0),
            table: row.get(1),
            action: row.get(2),
            key: row.get(3),
            later: row.get(4),
        })
        .collect();
    transaction.rollback()?;
    Ok(steps)
}

/// Reverts, in a transaction of the caller; returns what was done to each table, and the mark to roll back to in order to undo it.
///
/// # Errors
/// [`Kind::Refused`], [`Kind::Locked`], whatever the server answers; the caller ends the transaction.
pub fn run(
    transaction: &mut Transaction<'_>,
    schema: &str,
    wanted: &Wanted,
    allow_later: bool,
) -> Result<(Vec<Reverted>, Option<String>)> {
    let s = escape_identifier(schema);
    let (txid, user, table, key) = arguments(transaction, &s, wanted)?;
    let rows = transaction.query(
        &format!(
            "select rvrt_schema, rvrt_table, rvrt_deleted, rvrt_updated, rvrt_inserted
               from {s}.emaj_revert_group($1, $2, $3, $4, $5, $6::text::jsonb, $7) order by 1, 2"
        ),
        &[&wanted.group, &wanted.mark, &txid, &user, &table, &key, &allow_later],
    )?;
    let tables = rows
        .iter()
        .map(|row| Reverted {
            schema: row.get(0),
            table: row.get(1),
            deleted: row.get(2),
            updated: row.get(3),
            inserted: row.get(4),
        })
        .collect();
    let undo = transaction.query_opt(
        &format!(
            "select mark_name from {s}.emaj_mark
              where mark_group = $1 and mark_state = 'ACTIVE' and (mark_position).txid = txid_current() order by mark_id limit 1"
        ),
        &[&wanted.group],
    )?;
    Ok((tables, undo.map(|row| row.get(0))))
}

type Arguments = (Option<i64>, Option<String>, Option<u32>, Option<String>);

/// Turns what is wanted into what the functions take.
fn arguments(client: &mut impl GenericClient, s: &str, wanted: &Wanted) -> Result<Arguments> {
    Ok(match &wanted.which {
        Which::Transaction(number) => (Some(*number), None, None, None),
        Which::User(role) => (None, Some(role.clone()), None, None),
        Which::Row(table, key) => {
            let found = client.query_opt(
                &format!(
                    "select rel_oid from {s}.emaj_relation
                       join pg_catalog.pg_class c on c.oid = rel_oid
                       join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                      where rel_group = $1 and rel_ended is null and rel_kind <> 'S' and n.nspname = $2 and c.relname = $3"
                ),
                &[&wanted.group, &table.schema, &table.name],
            )?;
            let Some(found) = found else {
                return Err(Error::message(
                    Kind::Refused,
                    format!("group `{}` has no table `{table}`", wanted.group),
                )
                .hint(format!("`emaj group show {}` lists its tables", shell(&wanted.group))));
            };
            let oid: u32 = found.get(0);
            let mut values = serde_json::Map::new();
            for (name, value) in key {
                values.insert(name.clone(), spelled_out(client, oid, name, value)?.into());
            }
            (None, None, Some(oid), Some(serde_json::Value::from(values).to_string()))
        }
    })
}

/// Returns the text of a key's value for the functions, which read it in UTC and ISO. A time, date or interval, and a range or array of such, is given in the
/// settings of this session. What is no value of its type stays as it is: the functions refuse it.
fn spelled_out(client: &mut impl GenericClient, table: u32, column: &str, value: &str) -> Result<String> {
    let found = client.query_opt(
        "with recursive under as (
           select a.atttypid as oid from pg_catalog.pg_attribute a where a.attrelid = $1 and a.attname = $2 and a.attnum > 0
           union all
           select t.typbasetype from under join pg_catalog.pg_type t on t.oid = under.oid and t.typtype = 'd')
         select pg_catalog.format_type(t.oid, null)
           from under
           join pg_catalog.pg_type t on t.oid = under.oid and t.typtype <> 'd'
           left join pg_catalog.pg_type e on e.oid = t.typelem and t.typcategory = 'A'
          where t.oid < 16384 and coalesce(e.typcategory, t.typcategory) in ('D', 'T', 'R')",
        &[&table, &column],
    )?;
    let Some(found) = found else {
        return Ok(value.to_owned());
    };
    let mut settings = client.transaction()?;
    let spelled = settings.query_one(
        &format!(
            "with given as materialized (select {}::{} as value),
                  ours as materialized (
                    select pg_catalog.set_config('datestyle', 'ISO', true), pg_catalog.set_config('timezone', 'UTC', true),
                           pg_catalog.set_config('intervalstyle', 'postgres', true) from given)
             select pg_catalog.format('%s', given.value) from given, ours",
            escape_literal(value),
            found.get::<_, &str>(0)
        ),
        &[],
    );
    settings.rollback()?;
    match spelled {
        Ok(row) => Ok(row.get(0)),
        Err(error) if error.code().is_some_and(|code| code.code().starts_with("22")) => Ok(value.to_owned()),
        Err(error) => Err(error.into()),
    }
}
