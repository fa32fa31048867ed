//! What lies between two marks of a group: the two positions, the logs with their columns and keys, and what is missing in them.
//!
//! Read whole from the registry and the catalogue; the rows themselves are read by those who need them (`changes`, `past`, `revert`),
//! with the conditions of `templates/changes/window.sql.j2`.

use minijinja::value::{Serde, Value};
use postgres::types::PgLsn;
use postgres::{GenericClient, Row};
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use super::groups::{groups, unknown_group};
use super::position::Position;
use crate::errors::{Error, Kind, Result};
use crate::names::QualifiedName;

/// A mark and its position.
#[derive(Debug, Clone)]
pub struct MarkPosition {
    pub id: i64,
    pub name: String,
    pub active: bool,
    pub position: Position,
}

/// A window of a group's logs.
#[derive(Debug, Clone)]
pub struct Window {
    pub group: String,
    pub from: MarkPosition,
    /// The end; none: now.
    pub until: Option<MarkPosition>,
    /// Every table with a log that may hold changes of the window, by name.
    pub tables: Vec<LoggedTable>,
    pub sequences: Vec<LoggedSequence>,
    /// Why the logs do not tell all that happened in the window; empty when they do.
    pub gaps: Vec<String>,
}

/// A table of a window, as it is called now, with its log.
#[derive(Debug, Clone, Serialize)]
pub struct LoggedTable {
    /// Its id in the registry.
    pub relation: i64,
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// `schema.name`, quoted where it must be.
    pub label: String,
    pub log: String,
    pub partitioned: bool,
    pub columns: Vec<LoggedColumn>,
    /// The columns of the primary key, in its order; empty when there is none.
    pub key: Vec<LoggedColumn>,
    /// Columns of the log that hold context.
    pub context: Vec<String>,
    /// Whether values other than the key must be unique at every moment.
    pub unique: bool,
    /// Whether other tables inherit from it, or it from others; partitions do not count.
    pub inherits: bool,
}

/// A captured column.
#[derive(Debug, Clone, Serialize)]
pub struct LoggedColumn {
    /// Its name in the table, quoted where it must be.
    pub name: String,
    /// Its bare name in the table.
    pub bare: String,
    /// Its name in the log.
    pub log: String,
    pub r#type: String,
    /// PostgreSQL computes it.
    pub generated: bool,
    /// `generated always as identity`.
    pub always: bool,
    /// Whether it was captured at the beginning of the window.
    pub old: bool,
    /// How values of a key are compared; empty for other columns.
    pub equals: String,
    /// ` collate …` where the column has a collation.
    pub collated: String,
    /// How values are told apart by their bytes: `plain` as they are, `text` by the bytes of a text; empty: by what they are written as.
    pub compared: String,
}

/// A sequence of the group.
#[derive(Debug, Clone)]
pub struct LoggedSequence {
    pub relation: i64,
    pub oid: u32,
    pub name: QualifiedName,
}

/// Which window is wanted.
#[derive(Debug, Clone, Default)]
pub struct WindowWanted<'a> {
    pub group: &'a str,
    /// None: the last mark, or the one before `to`.
    pub from: Option<&'a str>,
    /// None: now.
    pub to: Option<&'a str>,
    /// Only these tables; empty: all.
    pub tables: &'a [QualifiedName],
}

impl LoggedTable {
    pub fn qualified(&self) -> QualifiedName {
        QualifiedName::new(&self.schema, &self.name)
    }
}

impl Window {
    /// Returns the borders as the templates take them.
    pub fn borders(&self) -> (Value, Value) {
        (
            border(&self.from.position),
            self.until
                .as_ref()
                .map_or(Value::from(()), |mark| border(&mark.position)),
        )
    }

    /// Returns the window in words: "since mark `a`", "from mark `a` to mark `b`".
    pub fn words(&self) -> String {
        match &self.until {
            None => format!("since mark `{}`", self.from.name),
            Some(until) => format!("from mark `{}` to mark `{}`", self.from.name, until.name),
        }
    }

    /// Refuses when the logs do not tell all; `what` needs it.
    ///
    /// # Errors
    /// [`Kind::Refused`], with all reasons.
    pub fn refuse_gaps(&self, what: &str) -> Result<()> {
        if self.gaps.is_empty() {
            return Ok(());
        }
        Err(Error::message(
            Kind::Refused,
            format!(
                "{what} needs all changes {}, and {}",
                self.words(),
                self.gaps.join("; ")
            ),
        )
        .hint("take a mark that was set after that"))
    }
}

fn border(position: &Position) -> Value {
    #[derive(Serialize)]
    struct Border {
        xmax: i64,
        running: Vec<i64>,
        txid: i64,
        lsn: String,
    }
    let mut running = position.snapshot.running.clone();
    running.push(position.txid);
    Value::from(Serde(Border {
        xmax: position.snapshot.xmax,
        running,
        txid: position.txid,
        lsn: PgLsn::from(position.lsn).to_string(),
    }))
}

/// Reads a window.
///
/// # Errors
/// [`Kind::Refused`] for an unknown group, mark or table, and for a mark that is later than the other; whatever the server answers.
pub fn window(client: &mut impl GenericClient, schema: &str, wanted: &WindowWanted<'_>) -> Result<Window> {
    let s = escape_identifier(schema);
    let marks = marks(client, schema, wanted.group)?;
    let until = wanted.to.map(|name| named(wanted.group, &marks, name)).transpose()?;
    let from = match wanted.from {
        Some(name) => named(wanted.group, &marks, name)?,
        None => before(wanted.group, &marks, until.as_ref())?,
    };
    if let Some(until) = until.as_ref().filter(|until| until.id < from.id) {
        return Err(Error::message(
            Kind::Refused,
            format!("mark `{}` is later than mark `{}`", from.name, until.name),
        )
        .hint("give the earlier mark first"));
    }
    let mut gaps = Vec::new();
    gaps.extend(super::astray(client, schema)?.map(|astray| astray.problem));
    restarts(client, &s, wanted.group, &from, until.as_ref(), &mut gaps)?;
    let found = tables(client, &s, wanted.group, &from, until.as_ref(), &mut gaps)?;
    let tables = chosen(wanted, found)?;
    uncaptured(client, &s, &from, &tables, &mut gaps)?;
    Ok(Window {
        group: wanted.group.to_owned(),
        sequences: sequences(client, &s, wanted.group)?,
        from,
        until,
        tables,
        gaps,
    })
}

fn position(row: &Row, at: usize) -> Result<Position> {
    let text: String = row.get(at);
    Ok(Position {
        snapshot: text.parse().map_err(|error| Error::new(Kind::Failed, error))?,
        txid: row.get(at + 1),
        lsn: row.get::<_, PgLsn>(at + 2).into(),
    })
}

/// Whether position `a` comes before (or is) position `b`: as `_precedes` in SQL.
fn precedes(a: &Position, b: &Position) -> bool {
    if a.txid == b.txid {
        a.lsn <= b.lsn
    } else {
        b.snapshot.sees(a.txid)
    }
}

/// Reads the marks of a group, the oldest first.
fn marks(client: &mut impl GenericClient, schema: &str, group: &str) -> Result<Vec<MarkPosition>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select mark_id, mark_name, mark_state = 'ACTIVE', (mark_position).snapshot::text, (mark_position).txid, (mark_position).lsn
               from {s}.emaj_mark where mark_group = $1 order by mark_id"
        ),
        &[&group],
    )?;
    if rows.is_empty() {
        let known = groups(client, schema)?;
        if known.iter().all(|known| known.group != group) {
            return Err(unknown_group(group, &known));
        }
        return Err(Error::message(Kind::Refused, format!("group `{group}` has no mark"))
            .hint(format!("its first mark is set by `emaj group start {group}`")));
    }
    rows.iter()
        .map(|row| {
            Ok(MarkPosition {
                id: row.get(0),
                name: row.get(1),
                active: row.get(2),
                position: position(row, 3)?,
            })
        })
        .collect()
}

fn named(group: &str, marks: &[MarkPosition], name: &str) -> Result<MarkPosition> {
    let found = match name {
        "EMAJ_LAST_MARK" => marks.last(),
        _ => marks.iter().find(|mark| mark.name == name),
    };
    found.cloned().ok_or_else(|| {
        let last: Vec<String> = marks
            .iter()
            .rev()
            .take(10)
            .map(|mark| format!("`{}`", mark.name))
            .collect();
        Error::message(Kind::Refused, format!("group `{group}` has no mark `{name}`"))
            .hint(format!("its marks, the newest first: {}", last.join(", ")))
    })
}

/// Returns the last mark, or the one before `until`.
fn before(group: &str, marks: &[MarkPosition], until: Option<&MarkPosition>) -> Result<MarkPosition> {
    let found = match until {
        None => marks.last(),
        Some(until) => marks.iter().rev().find(|mark| mark.id < until.id),
    };
    found.cloned().ok_or_else(|| {
        Error::message(Kind::Refused, format!("group `{group}` has no mark before that one"))
            .hint("say with `--from` where to begin")
    })
}

/// A group that is stopped logs nothing until it is started again.
fn restarts(
    client: &mut impl GenericClient,
    s: &str,
    group: &str,
    from: &MarkPosition,
    until: Option<&MarkPosition>,
    gaps: &mut Vec<String>,
) -> Result<()> {
    let starts = client.query(
        &format!(
            "select hist_txid from {s}.emaj_hist where hist_function = 'START_GROUP' and hist_event = 'END' and hist_object = $1"
        ),
        &[&group],
    )?;
    let within = starts.iter().map(|row| row.get::<_, i64>(0)).any(|txid| {
        txid != from.position.txid
            && !from.position.snapshot.sees(txid)
            && until.is_none_or(|until| txid == until.position.txid || until.position.snapshot.sees(txid))
    });
    let logging: bool = client
        .query_one(
            &format!("select group_state = 'LOGGING' from {s}.emaj_group where group_name = $1"),
            &[&group],
        )?
        .get(0);
    if within {
        gaps.push(format!("group `{group}` was stopped for a while in between"));
    } else if until.is_none() && !logging {
        gaps.push(format!(
            "group `{group}` is stopped: what has changed since is not in the log"
        ));
    }
    Ok(())
}

/// Reads the tables whose logs may hold changes of the window.
fn tables(
    client: &mut impl GenericClient,
    s: &str,
    group: &str,
    from: &MarkPosition,
    until: Option<&MarkPosition>,
    gaps: &mut Vec<String>,
) -> Result<Vec<LoggedTable>> {
    let rows = client.query(
        &format!(
            "select r.rel_id, r.rel_oid, coalesce(n.nspname, r.rel_schema)::text, coalesce(c.relname, r.rel_name)::text, r.rel_log, r.rel_kind = 'p',
                    (r.rel_since).snapshot::text, (r.rel_since).txid, (r.rel_since).lsn,
                    coalesce((r.rel_ended).snapshot::text, ''), coalesce((r.rel_ended).txid, 0), coalesce((r.rel_ended).lsn, '0/0'),
                    r.rel_key,
                    array(select a.attname::text from pg_catalog.pg_attribute a
                           where a.attrelid = log.oid and a.attnum > 7 and not a.attisdropped
                             and a.attname <> all (select col_name from {s}.emaj_column where col_rel = r.rel_id) order by a.attnum),
                    exists (select from pg_catalog.pg_index i
                             where (i.indrelid = c.oid or i.indrelid in (select relid from pg_catalog.pg_partition_tree(c.oid)))
                               and not i.indisprimary and (i.indisunique or i.indisexclusion) and i.indimmediate),
                    r.rel_kind = 'r' and exists (select from pg_catalog.pg_inherits h where h.inhparent = c.oid or h.inhrelid = c.oid and not c.relispartition)
               from {s}.emaj_relation r
               join pg_catalog.pg_class log on log.relname = r.rel_log and log.relnamespace = $2::text::regnamespace
               left join pg_catalog.pg_class c on c.oid = r.rel_oid
               left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where r.rel_group = $1
              order by 3, 4, 1"
        ),
        &[&group, &s],
    )?;
    let mut columns = columns(client, s, group, from)?;
    let mut tables = Vec::new();
    for row in &rows {
        let since = position(row, 6)?;
        let ended = Some(row.get::<_, String>(9))
            .filter(|text| !text.is_empty())
            .map(|_| position(row, 9))
            .transpose()?;
        let begins_later = until.is_some_and(|until| !precedes(&since, &until.position));
        let is_over = ended.as_ref().is_some_and(|ended| precedes(ended, &from.position));
        // A group that was started anew has captured its tables anew; the window may lie before that.
        if is_over || begins_later && ended.is_some() {
            continue;
        }
        let name = QualifiedName::new(row.get::<_, String>(2), row.get::<_, String>(3));
        if !begins_later && !precedes(&since, &from.position) {
            gaps.push(format!("{name} is captured only since a later moment"));
        }
        if ended.is_some_and(|ended| until.is_none_or(|until| precedes(&ended, &until.position))) {
            gaps.push(format!("{name} has left the group since"));
        }
        let mut own: Vec<(i16, LoggedColumn)> = Vec::new();
        columns.retain(|(relation, number, column)| {
            let is_own = *relation == row.get::<_, i64>(0);
            if is_own {
                own.push((*number, column.clone()));
            }
            !is_own
        });
        let numbers: Vec<i16> = row.get(12);
        let key = numbers
            .iter()
            .filter_map(|number| own.iter().find(|(own, _)| own == number))
            .map(|(_, column)| column.clone())
            .collect();
        tables.push(LoggedTable {
            relation: row.get(0),
            oid: row.get(1),
            label: name.to_string(),
            schema: name.schema,
            name: name.name,
            log: row.get(4),
            partitioned: row.get(5),
            columns: own.into_iter().map(|(_, column)| column).collect(),
            key,
            context: row.get(13),
            unique: row.get(14),
            inherits: row.get(15),
        });
    }
    Ok(tables)
}

/// Reads the captured columns of all tables of a group: relation, number, column.
fn columns(
    client: &mut impl GenericClient,
    s: &str,
    group: &str,
    from: &MarkPosition,
) -> Result<Vec<(i64, i16, LoggedColumn)>> {
    let rows = client.query(
        &format!(
            "select col_rel, col_attnum, coalesce(a.attname::text, col_name), col_name,
                    coalesce(pg_catalog.format_type(l.atttypid, l.atttypmod), col_type),
                    coalesce(a.attgenerated <> '', false), coalesce(a.attidentity = 'a', false),
                    (col_since).snapshot::text, (col_since).txid, (col_since).lsn,
                    case when k.place is not null then coalesce((
                      select pg_catalog.format('operator(%I.%s)', n.nspname, o.oprname)
                        from pg_catalog.pg_index i
                        join pg_catalog.pg_opclass oc on oc.oid = i.indclass[k.place - 1]
                        join pg_catalog.pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amoplefttype = oc.opcintype
                                                  and ao.amoprighttype = oc.opcintype and ao.amopstrategy = 3
                        join pg_catalog.pg_operator o on o.oid = ao.amopopr
                        join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
                       where i.indrelid = r.rel_oid and i.indisprimary), '=') else '' end,
                    coalesce((select pg_catalog.format(' collate %I.%I', n.nspname, c.collname)
                                from pg_catalog.pg_collation c join pg_catalog.pg_namespace n on n.oid = c.collnamespace
                               where c.oid = a.attcollation), ''),
                    coalesce((select case when ty.typname in ('text', 'varchar') then 'text' else 'plain' end
                                from pg_catalog.pg_type ty
                                left join pg_catalog.pg_collation c on c.oid = l.attcollation
                               where ty.oid = l.atttypid and ty.typtype = 'b' and ty.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
                                 and coalesce(c.collisdeterministic, true)
                                 and ty.typname in ('bool', 'bytea', 'int2', 'int4', 'int8', 'oid', 'uuid', 'date', 'time', 'timestamp',
                                                    'timestamptz', 'text', 'varchar')), '')
               from {s}.emaj_column
               join {s}.emaj_relation r on r.rel_id = col_rel
               left join pg_catalog.unnest(r.rel_key) with ordinality as k(attnum, place) on k.attnum = col_attnum
               left join pg_catalog.pg_attribute a on a.attrelid = r.rel_oid and a.attnum = col_attnum and not a.attisdropped and r.rel_ended is null
               left join pg_catalog.pg_attribute l on l.attrelid = pg_catalog.to_regclass(pg_catalog.format('%s.%I', $2::text, r.rel_log))
                                                  and l.attname = col_name and l.attnum > 0
              where r.rel_group = $1
              order by col_rel, col_attnum"
        ),
        &[&group, &s],
    )?;
    rows.iter()
        .map(|row| {
            let bare: String = row.get(2);
            let equals: String = row.get(10);
            let column = LoggedColumn {
                name: crate::names::quote_ident(&bare),
                bare,
                log: row.get(3),
                r#type: row.get(4),
                generated: row.get(5),
                always: row.get(6),
                old: precedes(&position(row, 7)?, &from.position),
                equals: equals.replace("operator(pg_catalog.=)", "="),
                collated: row.get(11),
                compared: row.get(12),
            };
            Ok((row.get(0), row.get(1), column))
        })
        .collect()
}

/// Leaves the tables that are wanted.
fn chosen(wanted: &WindowWanted<'_>, tables: Vec<LoggedTable>) -> Result<Vec<LoggedTable>> {
    for name in wanted.tables {
        if !tables.iter().any(|table| table.qualified() == *name) {
            let mut known: Vec<String> = tables.iter().map(|table| format!("`{}`", table.label)).collect();
            known.dedup();
            return Err(
                Error::message(Kind::Refused, format!("group `{}` has no table `{name}`", wanted.group))
                    .hint(format!("its tables: {}", known.join(", "))),
            );
        }
    }
    let is_wanted = |table: &LoggedTable| wanted.tables.is_empty() || wanted.tables.contains(&table.qualified());
    Ok(tables.into_iter().filter(is_wanted).collect())
}

/// Columns that were there at the mark, and not captured.
fn uncaptured(
    client: &mut impl GenericClient,
    s: &str,
    from: &MarkPosition,
    tables: &[LoggedTable],
    gaps: &mut Vec<String>,
) -> Result<()> {
    let rows = client.query(
        &format!("select mrel_rel from {s}.emaj_mark_relation where mrel_mark = $1 and mrel_natts is not null"),
        &[&from.id],
    )?;
    for row in &rows {
        if let Some(table) = tables.iter().find(|table| table.relation == row.get::<_, i64>(0)) {
            gaps.push(format!(
                "at mark `{}` {} had columns that were not captured",
                from.name, table.label
            ));
        }
    }
    Ok(())
}

fn sequences(client: &mut impl GenericClient, s: &str, group: &str) -> Result<Vec<LoggedSequence>> {
    let rows = client.query(
        &format!(
            "select r.rel_id, r.rel_oid, n.nspname::text, c.relname::text
               from {s}.emaj_relation r
               join pg_catalog.pg_class c on c.oid = r.rel_oid
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where r.rel_group = $1 and r.rel_kind = 'S' and r.rel_ended is null
              order by 3, 4"
        ),
        &[&group],
    )?;
    Ok(rows
        .iter()
        .map(|row| LoggedSequence {
            relation: row.get(0),
            oid: row.get(1),
            name: QualifiedName::new(row.get::<_, String>(2), row.get::<_, String>(3)),
        })
        .collect())
}
