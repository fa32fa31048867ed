//! The logs of a window: tables as they are called now, with their columns and keys, and the sequences of the group.

use std::collections::HashMap;

use postgres::GenericClient;

use super::{Gap, LoggedColumn, LoggedSequence, LoggedTable, MarkPosition, WindowWanted};
use crate::errors::{Error, Kind, Result};
use crate::journal::position::Position;
use crate::names::{QualifiedName, listed};

/// Reads the tables whose logs may hold changes of the window.
pub(super) fn tables(
    client: &mut impl GenericClient,
    s: &str,
    group: &str,
    from: &MarkPosition,
    until: Option<&MarkPosition>,
    gaps: &mut Vec<Gap>,
) -> Result<Vec<LoggedTable>> {
    let rows = client.query(
        &format!(
            "select r.rel_id, r.rel_oid, r.rel_log, r.rel_key, {}, {},
                    coalesce(n.nspname, r.rel_schema)::text as table_schema, coalesce(c.relname, r.rel_name)::text as table_name,
                    r.rel_kind = 'p' as partitioned, log.oid is null as is_gone,
                    array(select a.attname::text from pg_catalog.pg_attribute a
                           where a.attrelid = log.oid and a.attnum > 7 and not a.attisdropped
                             and a.attname <> all (select col_log from {s}.emaj_column where col_rel = r.rel_id) order by a.attnum) as context,
                    exists (select from pg_catalog.pg_index i
                             where (i.indrelid = c.oid or i.indrelid in (select relid from pg_catalog.pg_partition_tree(c.oid)))
                               and not i.indisprimary and (i.indisunique or i.indisexclusion) and i.indimmediate) as has_unique,
                    r.rel_kind = 'r' and exists (select from pg_catalog.pg_inherits h where h.inhparent = c.oid) as heirs,
                    exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary and not i.indimmediate) as is_deferrable,
                    array(select pg_catalog.format('%I', a.attname) from pg_catalog.pg_attribute a
                           where a.attrelid = r.rel_oid and r.rel_ended is null and a.attnum > r.rel_natts and not a.attisdropped and a.attgenerated = ''
                           order by a.attnum) as uncaptured
               from {s}.emaj_relation r
               left join pg_catalog.pg_class log on log.relname = r.rel_log and log.relnamespace = $2::text::regnamespace
               left join pg_catalog.pg_class c on c.oid = r.rel_oid
               left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where r.rel_group = $1 and r.rel_log is not null
              order by table_schema, table_name, r.rel_id",
            Position::columns("r.rel_since", "since"),
            Position::columns("r.rel_ended", "ended")
        ),
        &[&group, &s],
    )?;
    let mut columns = columns(client, s, group, from)?;
    let mut tables = Vec::new();
    for row in &rows {
        let relation: i64 = row.get("rel_id");
        let since = Position::get(row, "since")?;
        let ended = Position::get_opt(row, "ended")?;
        let begins_later = until.is_some_and(|until| !since.precedes(&until.position));
        let is_over = ended.as_ref().is_some_and(|ended| ended.precedes(&from.position));
        // A group that was started anew has captured its tables anew; the window may lie before that.
        if is_over || begins_later && ended.is_some() {
            continue;
        }
        let name = QualifiedName::new(row.get::<_, String>("table_schema"), row.get::<_, String>("table_name"));
        if !begins_later && !since.precedes(&from.position) {
            let what = format!("{name} is captured only since a later moment");
            gaps.push(Gap::of(relation, what));
        }
        if ended.is_some_and(|ended| until.is_none_or(|until| ended.precedes(&until.position))) {
            gaps.push(Gap::of(relation, format!("{name} has left the group since")));
        }
        let (lost, own): (Vec<Found>, Vec<Found>) =
            (columns.remove(&relation).unwrap_or_default().into_iter()).partition(|found| found.lost);
        let gone: bool = row.get("is_gone");
        let said = |found: &Found| {
            let what = format!("the log of {name} has lost column {}", found.column.log);
            Gap::of(relation, what)
        };
        gaps.extend(lost.iter().filter(|_| !gone).map(said));
        let numbers: Vec<i16> = row.get("rel_key");
        // Of a key that has lost a column nothing is left that tells rows apart.
        let key = numbers
            .iter()
            .map(|number| own.iter().find(|found| found.number == *number))
            .map(|found| found.map(|found| found.column.clone()))
            .collect::<Option<_>>()
            .unwrap_or_default();
        tables.push(LoggedTable {
            relation,
            oid: row.get("rel_oid"),
            label: name.to_string(),
            schema: name.schema,
            name: name.name,
            log: row.get("rel_log"),
            gone,
            partitioned: row.get("partitioned"),
            columns: own.into_iter().map(|found| found.column).collect(),
            key,
            context: row.get("context"),
            unique: row.get("has_unique"),
            heirs: row.get("heirs"),
            deferrable: row.get("is_deferrable"),
            uncaptured: row.get("uncaptured"),
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

/// A captured column.
struct Found {
    number: i16,
    column: LoggedColumn,
    /// The log has it no more: it went with its type.
    lost: bool,
}

/// Reads the captured columns of all tables of a group, by relation.
fn columns(
    client: &mut impl GenericClient,
    s: &str,
    group: &str,
    from: &MarkPosition,
) -> Result<HashMap<i64, Vec<Found>>> {
    let rows = client.query(
        &format!(
            "select col_rel, col_attnum, col_log, {}, coalesce(a.attname::text, col_name) as name,
                    coalesce(pg_catalog.format_type(l.atttypid, l.atttypmod), col_type) as type,
                    coalesce(a.attgenerated <> '', false) as is_generated, coalesce(a.attidentity = 'a', false) as is_always,
                    case when k.place is not null then coalesce({s}._key_equals(r.rel_oid, k.place), '=') else '' end as equals,
                    coalesce((select case when ty.typname in ('text', 'varchar') then 'text' when ty.typname = 'xml' then 'xml' else 'plain' end
                                from pg_catalog.pg_type ty
                                left join pg_catalog.pg_collation c on c.oid = l.attcollation
                               where ty.oid = l.atttypid and ty.typtype = 'b' and ty.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
                                 and coalesce(c.collisdeterministic, true)
                                 and ty.typname in ('bool', 'bytea', 'int2', 'int4', 'int8', 'oid', 'uuid', 'date', 'time', 'timestamp',
                                                    'timestamptz', 'text', 'varchar', 'xml')), '') as compared,
                    l.attname is null as is_lost,
                    coalesce(d.oid <> col_expression and col_attnum <> all (r.rel_key), false) as is_computed_anew,
                    {} as is_builtin
               from {s}.emaj_column
               join {s}.emaj_relation r on r.rel_id = col_rel
               left join pg_catalog.unnest(r.rel_key) with ordinality as k(attnum, place) on k.attnum = col_attnum
               left join pg_catalog.pg_attribute a on a.attrelid = r.rel_oid and a.attnum = col_attnum and not a.attisdropped and r.rel_ended is null
               left join pg_catalog.pg_attribute l on l.attrelid = pg_catalog.to_regclass(pg_catalog.format('%s.%I', $2::text, r.rel_log))
                                                  and l.attname = col_log and l.attnum > 0
               left join pg_catalog.pg_attrdef d on d.adrelid = r.rel_oid and d.adnum = col_attnum and a.attgenerated <> ''
              where r.rel_group = $1
              order by col_rel, col_attnum",
            Position::columns("col_since", "since"),
            is_builtin("l.atttypid")
        ),
        &[&group, &s],
    )?;
    let mut found: HashMap<i64, Vec<Found>> = HashMap::new();
    for row in &rows {
        let bare: String = row.get("name");
        let equals: String = row.get("equals");
        let is_as_it_was = !row.get::<_, bool>("is_computed_anew");
        let column = LoggedColumn {
            name: crate::names::quote_ident(&bare),
            bare,
            log: row.get("col_log"),
            r#type: row.get("type"),
            generated: row.get("is_generated"),
            always: row.get("is_always"),
            old: is_as_it_was && Position::get(row, "since")?.precedes(&from.position),
            builtin: row.get("is_builtin"),
            equals: equals.replace("operator(pg_catalog.=)", "="),
            compared: row.get("compared"),
        };
        found.entry(row.get("col_rel")).or_default().push(Found {
            number: row.get("col_attnum"),
            column,
            lost: row.get("is_lost"),
        });
    }
    Ok(found)
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
