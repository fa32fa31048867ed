//! The logs of tables that sinks are fed from: how they and their columns are called, and what the text and the order of their rows follow from.

use std::collections::{HashMap, HashSet};
use std::fmt;

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::errors::Result;
use crate::words::shell;

/// A log that holds changes of a bound table: that of today, or one that the table had in a group it has left.
#[derive(Debug, Clone)]
pub struct LogRecord {
    /// Its relation in the registry.
    pub relation: i64,
    pub group: String,
    pub oid: u32,
    pub log: String,
    /// Those that the newest log of the table has too: another one is of a column that is gone.
    pub columns: Vec<LogColumn>,
    /// The columns of the primary key, as the log calls them.
    pub key: Vec<String>,
    /// Stands for what tells its rows apart, as it is written: another form means another order within a statement.
    pub form: String,
    /// Nothing is written to it any more.
    pub is_ended: bool,
    /// Nothing is written to it until its group is started.
    pub is_stopped: bool,
}

/// Why what changes in a bound table is in no log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Uncaptured {
    /// It was released, or another table has its name now.
    Gone,
    /// This group is stopped.
    Stopped(String),
}

impl Uncaptured {
    /// Looks at the logs of a table, the oldest first; `None`: it is captured.
    pub fn of<'l>(is_replaced: bool, logs: impl Iterator<Item = &'l LogRecord>) -> Option<Self> {
        match logs.last() {
            Some(log) if !is_replaced && !log.is_ended => {
                log.is_stopped.then(|| Uncaptured::Stopped(log.group.clone()))
            }
            _ => Some(Uncaptured::Gone),
        }
    }

    /// Returns what helps.
    pub fn way_on(&self) -> String {
        match self {
            Uncaptured::Gone => "`emaj install` takes the table in, and says which `emaj init` brings the sink up to date; if that is not wanted, \
                                 take the binding out of the manifest and install that"
                .to_owned(),
            Uncaptured::Stopped(group) => format!(
                "`emaj group start {}` has it captured, and says which `emaj init` brings the sink up to date",
                shell(group)
            ),
        }
    }
}

impl fmt::Display for Uncaptured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Uncaptured::Gone => f.write_str("is not captured"),
            Uncaptured::Stopped(group) => write!(f, "is not captured while group `{group}` is not started"),
        }
    }
}

impl LogRecord {
    /// Returns the columns of the primary key, as the table called them at the last install.
    pub fn key_names(&self) -> Vec<String> {
        let name = |log: &String| {
            let mut columns = self.columns.iter();
            columns
                .find(|column| column.log == *log)
                .map(|column| column.name.clone())
        };
        self.key.iter().map(name).collect::<Option<_>>().unwrap_or_default()
    }
}

/// A column of a log.
#[derive(Debug, Clone, Serialize)]
pub struct LogColumn {
    /// Its number in the table.
    pub number: i16,
    /// Its name in the log.
    pub log: String,
    /// Its name in the table at the last install, by which bindings know it.
    pub name: String,
}

/// A column of a log, as the registry has it.
struct Found {
    relation: i64,
    number: i16,
    log: String,
    /// `None`: the table has it no more.
    name: Option<String>,
    printed_as: String,
}

/// What the text of values follows from: the type of the column `a` (of `pg_attribute`), and the labels of an enum.
const PRINTED_AS: &str = "pg_catalog.concat_ws(' ', a.atttypid, a.atttypmod, (
      select string_agg(enumlabel, ',' order by enumsortorder)
        from pg_catalog.pg_enum join pg_catalog.pg_type y on y.oid = a.atttypid
       where enumtypid in (y.oid, y.typbasetype, y.typelem)))";

/// Reads the logs of tables, by oid, the oldest first, but for columns that are lost; without a key where one of it is among them.
///
/// # Errors
/// Whatever the server answers.
pub fn logs_of(client: &mut impl GenericClient, schema: &str, oids: &[u32]) -> Result<Vec<LogRecord>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select rel_id, rel_group, rel_oid, rel_log, rel_key, rel_ended is not null,
                    exists (select from {s}.emaj_group where group_name = rel_group and group_state <> 'LOGGING')
               from {s}.emaj_relation
               join pg_catalog.pg_class c on c.relname = rel_log and c.relkind = 'r'
                                         and c.relnamespace = $2::text::regnamespace
              where rel_oid = any ($1) and rel_log is not null
              order by rel_id"
        ),
        &[&oids, &s],
    )?;
    let mut found: HashMap<i64, Vec<Found>> = HashMap::new();
    for column in columns_of(client, &s, oids)? {
        found.entry(column.relation).or_default().push(column);
    }
    Ok(rows
        .iter()
        .map(|row| {
            let relation = row.get(0);
            let own = found.remove(&relation).unwrap_or_default();
            let (key, form) = key_and_form(&own, row.get(4));
            let column = |found: Found| {
                Some(LogColumn {
                    number: found.number,
                    log: found.log,
                    name: found.name?,
                })
            };
            LogRecord {
                relation,
                group: row.get(1),
                oid: row.get(2),
                log: row.get(3),
                columns: own.into_iter().filter_map(column).collect(),
                key,
                form,
                is_ended: row.get(5),
                is_stopped: row.get(6),
            }
        })
        .collect())
}

/// Reads the columns of all logs of tables. (A log may have lost a column, which goes with its type, in the table too. One that the table has and the log
/// that is written to has not is no matter to pass over: a sink would be told that the value is gone.)
fn columns_of(client: &mut impl GenericClient, s: &str, oids: &[u32]) -> Result<Vec<Found>> {
    let rows = client.query(
        &format!(
            "select c.col_rel, c.col_attnum, c.col_log, today.col_name, {PRINTED_AS}
               from (select rel_id, rel_oid, rel_log, rel_ended, max(rel_id) over (partition by rel_oid) as newest
                       from {s}.emaj_relation
                      where rel_oid = any ($1) and rel_log is not null) as r
               join {s}.emaj_column c on c.col_rel = rel_id
               left join {s}.emaj_column today on today.col_rel = newest and today.col_attnum = c.col_attnum
               left join pg_catalog.pg_attribute a on a.attrelid = pg_catalog.to_regclass(pg_catalog.format('%s.%I', $2::text, rel_log))
                                                  and a.attname = c.col_log
              where a.attnum is not null
                 or rel_ended is null and exists (select from pg_catalog.pg_attribute
                                                   where attrelid = rel_oid and attnum = c.col_attnum and not attisdropped)
              order by c.col_rel, c.col_attnum"
        ),
        &[&oids, &s],
    )?;
    Ok(rows
        .iter()
        .map(|row| Found {
            relation: row.get(0),
            number: row.get(1),
            log: row.get(2),
            name: row.get(3),
            printed_as: row.get(4),
        })
        .collect())
}

/// Returns the key of a log by its columns' numbers, and its form: of what tells its rows apart, which is all that is in them where there is no key.
fn key_and_form(columns: &[Found], numbers: Vec<i16>) -> (Vec<String>, String) {
    let column = |number: i16| columns.iter().find(|column| column.number == number);
    let key: Vec<&Found> = numbers
        .into_iter()
        .map(column)
        .collect::<Option<_>>()
        .unwrap_or_default();
    let names = key.iter().map(|column| column.log.clone()).collect();
    let has_key = !key.is_empty();
    let told_apart = if has_key { key } else { columns.iter().collect() };
    let mut digest = Sha256::new();
    for column in told_apart {
        // (A key is written without the names of its columns.)
        let name = column.name.as_deref().filter(|_| !has_key).unwrap_or_default();
        digest.update(format!("{}\0{name}\0{}\0", column.number, column.printed_as));
    }
    let digest = digest.finalize();
    let form = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    (names, format!("{form:08x}"))
}

/// Returns the logs that have no more than `most` bytes, with all their parts.
///
/// # Errors
/// Whatever the server answers.
pub fn small_logs(client: &mut impl GenericClient, schema: &str, most: i64) -> Result<HashSet<String>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select rel_log from {s}.emaj_relation
               join pg_catalog.pg_class c on c.relname = rel_log and c.relnamespace = $1::text::regnamespace
              where pg_catalog.pg_relation_size(c.oid)
                    + coalesce((select sum(pg_catalog.pg_relation_size(inhrelid)) from pg_catalog.pg_inherits where inhparent = c.oid), 0) <= $2::bigint"
        ),
        &[&s, &most],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Returns a text that changes whenever what a sink is fed by does: its kind, its bindings, their tables, the logs and their columns, and whether anything is written to them; and the labels of enums, because
/// keys are written with them; and the sinks of its manifest, because there may be a new one.
///
/// # Errors
/// Whatever the server answers.
pub fn structure_of(client: &mut impl GenericClient, schema: &str, sink: &str) -> Result<String> {
    let s = escape_identifier(schema);
    let row = client.query_one(
        &format!(
            "select md5(pg_catalog.concat(
               (select sink_kind from {s}.emaj_sink where sink_name = $1), '|',
               (select string_agg(pg_catalog.concat_ws(',', bind_name, bind_oid, bind_fingerprint), ';' order by bind_name)
                  from {s}.emaj_binding where bind_sink = $1), '|',
               (select string_agg(distinct bind_sink, ',') from {s}.emaj_binding
                 where bind_manifest in (select bind_manifest from {s}.emaj_binding where bind_sink = $1)), '|',
               (select string_agg(pg_catalog.concat_ws(',', rel_id, rel_log, rel_key::text, rel_ended is null,
                         (select group_state from {s}.emaj_group where group_name = rel_group),
                         (select string_agg(pg_catalog.concat_ws(',', col_name, col_log), ',' order by col_attnum) from {s}.emaj_column where col_rel = rel_id)), ';' order by rel_id)
                  from {s}.emaj_relation where rel_oid in (select bind_oid from {s}.emaj_binding where bind_sink = $1)), '|',
               (select string_agg(pg_catalog.concat_ws(',', oid, enumlabel), ';' order by oid) from pg_catalog.pg_enum
                 where enumtypid in (
                   select pg_catalog.unnest(array[y.oid, y.typbasetype, y.typelem])
                     from pg_catalog.pg_attribute join pg_catalog.pg_type y on y.oid = atttypid
                    where attrelid in (select bind_oid from {s}.emaj_binding where bind_sink = $1) and attnum > 0))))"
        ),
        &[&sink],
    )?;
    Ok(row.get(0))
}
