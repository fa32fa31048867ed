//! The logs of a window: tables as they are called now, with their columns and keys, and the sequences of the group.

use postgres::GenericClient;

use super::{LoggedColumn, LoggedSequence, LoggedTable, MarkPosition, WindowWanted, position};
use crate::errors::{Error, Kind, Result};
use crate::names::{QualifiedName, listed};

/// Reads the tables whose logs may hold changes of the window.
pub(super) fn tables(
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
                    r.rel_kind = 'r' and exists (select from pg_catalog.pg_inherits h where h.inhparent = c.oid),
                    exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary and not i.indimmediate),
                    array(select pg_catalog.format('%I', a.attname) from pg_catalog.pg_attribute a
                           where a.attrelid = r.rel_oid and r.rel_ended is null and a.attnum > r.rel_natts and not a.attisdropped and a.attgenerated = ''
                           order by a.attnum)
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
        let begins_later = until.is_some_and(|until| !since.precedes(&until.position));
        let is_over = ended.as_ref().is_some_and(|ended| ended.precedes(&from.position));
        // A group that was started anew has captured its tables anew; the window may lie before that.
        if is_over || begins_later && ended.is_some() {
            continue;
        }
        let name = QualifiedName::new(row.get::<_, String>(2), row.get::<_, String>(3));
        if !begins_later && !since.precedes(&from.position) {
            gaps.push(format!("{name} is captured only since a later moment"));
        }
        if ended.is_some_and(|ended| until.is_none_or(|until| ended.precedes(&until.position))) {
            gaps.push(format!("{name} has left the group since"));
        }
        let mut own: Vec<(i16, LoggedColumn)> = Vec::new();
        columns.retain(|found| {
            let is_own = found.relation == row.get::<_, i64>(0);
            if is_own && found.lost {
                gaps.push(format!("the log of {name} has lost column {}", found.column.log));
            } else if is_own {
                own.push((found.number, found.column.clone()));
            }
            !is_own
        });
        let numbers: Vec<i16> = row.get(12);
        // Of a key that has lost a column nothing is left that tells rows apart.
        let key = numbers
            .iter()
            .map(|number| own.iter().find(|(own, _)| own == number))
            .map(|found| found.map(|(_, column)| column.clone()))
            .collect::<Option<_>>()
            .unwrap_or_default();
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
            heirs: row.get(15),
            deferrable: row.get(16),
            uncaptured: row.get(17),
        });
    }
    Ok(tables)
}

/// Returns the SQL that tells whether a type, given by its number, is (under the domains) PostgreSQL's own, with nothing of anybody else in it. What is not
/// is never handed to a cast, which somebody may have made: it is shown as text (`changes/value`).
pub fn is_builtin(oid: &str) -> String {
    format!(
        "case when {oid} < 16384 then true else exists (with recursive under as (
                   select {oid} as oid
                   union all
                   select t.typbasetype from under join pg_catalog.pg_type t on t.oid = under.oid and t.typtype = 'd')
                 select from under join pg_catalog.pg_type t on t.oid = under.oid and t.typtype <> 'd' where t.oid < 16384) end"
    )
}

/// A captured column, and whose it is.
struct Found {
    relation: i64,
    number: i16,
    column: LoggedColumn,
    /// The log has it no more: it went with its type.
    lost: bool,
}

/// Reads the captured columns of all tables of a group.
fn columns(client: &mut impl GenericClient, s: &str, group: &str, from: &MarkPosition) -> Result<Vec<Found>> {
    let rows = client.query(
        &format!(
            "select col_rel, col_attnum, coalesce(a.attname::text, col_name), col_name,
                    coalesce(pg_catalog.format_type(l.atttypid, l.atttypmod), col_type),
                    coalesce(a.attgenerated <> '', false), coalesce(a.attidentity = 'a', false),
                    (col_since).snapshot::text, (col_since).txid, (col_since).lsn,
                    case when k.place is not null then coalesce({s}._key_equals(r.rel_oid, k.place), '=') else '' end,
                    coalesce((select case when ty.typname in ('text', 'varchar') then 'text' when ty.typname = 'xml' then 'xml' else 'plain' end
                                from pg_catalog.pg_type ty
                                left join pg_catalog.pg_collation c on c.oid = l.attcollation
                               where ty.oid = l.atttypid and ty.typtype = 'b' and ty.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
                                 and coalesce(c.collisdeterministic, true)
                                 and ty.typname in ('bool', 'bytea', 'int2', 'int4', 'int8', 'oid', 'uuid', 'date', 'time', 'timestamp',
                                                    'timestamptz', 'text', 'varchar', 'xml')), ''),
                    l.attname is null,
                    coalesce(d.oid <> col_expression and col_attnum <> all (r.rel_key), false),
                    {}
               from {s}.emaj_column
               join {s}.emaj_relation r on r.rel_id = col_rel
               left join pg_catalog.unnest(r.rel_key) with ordinality as k(attnum, place) on k.attnum = col_attnum
               left join pg_catalog.pg_attribute a on a.attrelid = r.rel_oid and a.attnum = col_attnum and not a.attisdropped and r.rel_ended is null
               left join pg_catalog.pg_attribute l on l.attrelid = pg_catalog.to_regclass(pg_catalog.format('%s.%I', $2::text, r.rel_log))
                                                  and l.attname = col_name and l.attnum > 0
               left join pg_catalog.pg_attrdef d on d.adrelid = r.rel_oid and d.adnum = col_attnum and a.attgenerated <> ''
              where r.rel_group = $1
              order by col_rel, col_attnum",
            is_builtin("l.atttypid")
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
                old: position(row, 7)?.precedes(&from.position) && !row.get::<_, bool>(13),
                builtin: row.get(14),
                equals: equals.replace("operator(pg_catalog.=)", "="),
                compared: row.get(11),
            };
            Ok(Found {
                relation: row.get(0),
                number: row.get(1),
                column,
                lost: row.get(12),
            })
        })
        .collect()
}

/// Leaves the tables that are wanted.
pub(super) fn chosen(wanted: &WindowWanted<'_>, tables: Vec<LoggedTable>) -> Result<Vec<LoggedTable>> {
    for name in wanted.tables {
        if !tables.iter().any(|table| table.qualified() == *name) {
            let mut known: Vec<&str> = tables.iter().map(|table| table.label.as_str()).collect();
            known.dedup();
            return Err(
                Error::message(Kind::Refused, format!("group `{}` has no table `{name}`", wanted.group))
                    .hint(format!("its tables: {}", listed(known))),
            );
        }
    }
    let is_wanted = |table: &LoggedTable| wanted.tables.is_empty() || wanted.tables.contains(&table.qualified());
    Ok(tables.into_iter().filter(is_wanted).collect())
}

/// Reads the sequences that the group holds now.
pub(super) fn sequences(client: &mut impl GenericClient, s: &str, group: &str) -> Result<Vec<LoggedSequence>> {
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
