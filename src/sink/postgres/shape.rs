//! What a table of the other database is like: its columns, how their types write values, and whether its key can be met.
//!
//! Read from the catalogue when the first row for a table comes, and again when the table was altered since.

use std::collections::HashMap;

use postgres::Client;
use serde_json::json;

use super::spelling::Spelling;
use super::text::Kind;
use crate::names::{QualifiedName, nearest, quote_ident};
use crate::sink::Fault;

/// Whether row-level security may hide rows of a table `c` from this role: no policy gives it all rows for all commands, or a restrictive one applies.
const HIDES: &str = "(pg_catalog.row_security_active(c.oid) and coalesce(
                        (select not pg_catalog.bool_or(p.polpermissive and p.polcmd = '*'
                                        and pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true'
                                        and coalesce(pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'true')
                                or pg_catalog.bool_or(not p.polpermissive)
                           from pg_catalog.pg_policy p
                          where p.polrelid = c.oid
                            and ('0' = any (p.polroles)
                                 or exists (select from unnest(p.polroles) r (oid) where pg_catalog.pg_has_role(r.oid, 'usage')))), true))";

/// Whether rows of a table `c` may be in tables below it: in its partitions, or, of one that is not partitioned, where a trigger before each insert may put them. Where
/// one of these tables, `$1` and `$2` are their schemas and names, is itself one of a binding, its rows are that one's.
const ROUTED: &str = "(c.relkind = 'p'
                       or exists (select from pg_catalog.pg_trigger t
                                   where t.tgrelid = c.oid and not t.tgisinternal and t.tgtype & 7 = 7)
                          and exists (select from pg_catalog.pg_inherits i where i.inhparent = c.oid)
                          and not exists (with recursive below (oid) as (
                                            select i.inhrelid from pg_catalog.pg_inherits i where i.inhparent = c.oid
                                            union
                                            select i.inhrelid from below join pg_catalog.pg_inherits i on i.inhparent = below.oid)
                                          select
                                            from below
                                            join pg_catalog.pg_class k on k.oid = below.oid
                                            join pg_catalog.pg_namespace s on s.oid = k.relnamespace
                                            join unnest($1::text[], $2::text[]) bound (schema, name)
                                              on bound.schema = s.nspname and bound.name = k.relname))";

/// What changes with a table `c`: it is another one, its columns, what makes its rows unique or the attributes of their types were altered, row-level security
/// applies to this role or hides rows from it, or its rows may be in tables below it, or no more. (Types with attributes are the user's own: they are numbered from 16384.)
fn state() -> String {
    format!(
        "pg_catalog.concat_ws(' ', c.oid, pg_catalog.row_security_active(c.oid), {HIDES}, {ROUTED},
            (select pg_catalog.string_agg(a.xmin::text, ' ' order by a.attnum)
               from pg_catalog.pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0),
            (select pg_catalog.string_agg(i.indexrelid || ':' || i.xmin, ' ' order by i.indexrelid)
               from pg_catalog.pg_index i
              where i.indrelid = c.oid and i.indisunique),
            (with recursive used (oid) as (
               select a.atttypid
                 from pg_catalog.pg_attribute a
                where a.attrelid = c.oid and a.attnum > 0 and a.atttypid >= 16384
               union
               select part.oid
                 from used u
                 join pg_catalog.pg_type t on t.oid = u.oid
                cross join lateral (select t.typbasetype
                                    union all
                                    select t.typelem
                                    union all
                                    select a.atttypid
                                      from pg_catalog.pg_attribute a
                                     where a.attrelid = t.typrelid and a.attnum > 0) part (oid)
                where part.oid >= 16384)
             select pg_catalog.string_agg(a.xmin::text, ' ' order by a.attrelid, a.attnum)
               from used u
               join pg_catalog.pg_type t on t.oid = u.oid
               join pg_catalog.pg_attribute a on a.attrelid = t.typrelid and a.attnum > 0))"
    )
}

/// A table of the other database.
#[derive(Debug)]
pub(super) struct Shape {
    /// What it was like, as [`state`] says it.
    state: String,
    pub(super) columns: Vec<Column>,
    /// The lists of columns that a row can be found by.
    keys: Vec<Vec<String>>,
    pub(super) primary_key: Vec<String>,
    /// Its rows may be in tables below it.
    is_routed: bool,
    /// Row-level security applies to the role: `copy` does not write to the table.
    pub(super) is_secured: bool,
    /// The role, if row-level security may hide rows from it.
    policed: Option<String>,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// As PostgreSQL prints it.
    pub(super) sql_type: String,
    pub(super) kind: Kind,
    /// The collation by which its values are compared, with its schema, when it is not the database's own.
    pub(super) collation: Option<[String; 2]>,
    /// The operator by which an index that a row can be found by compares its values, as SQL writes it: `operator(public.=)`.
    pub(super) equal: String,
    pub(super) spelling: Spelling,
    pub(super) not_null: bool,
    /// It makes its own values.
    pub(super) generated: bool,
    /// `generated always as identity`: can be given once, never changed.
    pub(super) identity_always: bool,
}

impl Shape {
    /// Reads a table; `targets` are those that bindings of the sink make rows of.
    pub(super) fn read(client: &mut Client, table: &QualifiedName, targets: &[QualifiedName]) -> Result<Shape, Fault> {
        let (target_schemas, target_names) = in_columns(targets);
        let found = client.query_opt(
            &format!(
                "select c.oid, c.relkind::text, {}, case when {HIDES} then current_user::text end,
                        pg_catalog.row_security_active(c.oid),
                        {ROUTED}
                   from pg_catalog.pg_class c
                   join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                  where n.nspname = $3 and c.relname = $4",
                state()
            ),
            &[&target_schemas, &target_names, &table.schema, &table.name],
        )?;
        let Some(found) = found else {
            return Err(no_table(client, table)?);
        };
        let (oid, kind): (u32, String) = (found.get(0), found.get(1));
        if !matches!(kind.as_str(), "r" | "p") {
            return Err(Fault::down(format!("`{table}` of the other database is no table")));
        }
        let rows = client
            .query(
                "select a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypid, a.attgenerated <> '', a.attidentity = 'a',
                        n.nspname::text, l.collname::text, coalesce(l.collisdeterministic, true),
                        coalesce((select pg_catalog.format('operator(%I.%s)', no.nspname, o.oprname)
                                    from pg_catalog.pg_index i
                                    join unnest(i.indkey::smallint[]) with ordinality k(attnum, place) on k.attnum = a.attnum and k.place <= i.indnkeyatts
                                    join pg_catalog.pg_opclass oc on oc.oid = i.indclass[k.place - 1]
                                    join pg_catalog.pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amoplefttype = oc.opcintype
                                                              and ao.amoprighttype = oc.opcintype and ao.amopstrategy = 3
                                    join pg_catalog.pg_operator o on o.oid = ao.amopopr
                                    join pg_catalog.pg_namespace no on no.oid = o.oprnamespace
                                   where i.indrelid = a.attrelid and i.indisunique and i.indisvalid and not i.indisexclusion
                                   order by i.indisprimary desc
                                   limit 1), 'operator(pg_catalog.=)'),
                        a.attnotnull
                   from pg_catalog.pg_attribute a
                   left join pg_catalog.pg_collation l on l.oid = a.attcollation and l.oid <> 100
                   left join pg_catalog.pg_namespace n on n.oid = l.collnamespace
                  where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
                  order by a.attnum",
                &[&oid],
            )?;
        let mut columns = Vec::with_capacity(rows.len());
        let mut known = HashMap::new();
        for row in rows {
            columns.push(Column {
                name: row.get(0),
                sql_type: row.get(1),
                kind: kind_of(client, row.get(2), &mut known)?,
                generated: row.get(3),
                identity_always: row.get(4),
                collation: row
                    .get::<_, Option<String>>(5)
                    .zip(row.get::<_, Option<String>>(6))
                    .map(|(schema, name)| [schema, name]),
                equal: row.get(8),
                not_null: row.get(9),
                spelling: Spelling::of(row.get(2), row.get(7)),
            });
        }
        // Those that `on conflict` can use: not deferrable, whole, of plain columns, and not `without overlaps` (18).
        let keys = client.query(
            "select array(select a.attname::text
                            from unnest(i.indkey::smallint[]) with ordinality k(attnum, place)
                            join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
                           where k.place <= i.indnkeyatts
                           order by k.place),
                    i.indisprimary
               from pg_catalog.pg_index i
              where i.indrelid = $1 and i.indisunique and i.indimmediate and i.indisvalid
                and not i.indisexclusion and i.indpred is null and i.indexprs is null",
            &[&oid],
        )?;
        let primary = keys.iter().find(|row| row.get(1));
        Ok(Shape {
            state: found.get(2),
            columns,
            primary_key: primary.map_or_else(Vec::new, |row| row.get(0)),
            keys: keys.iter().map(|row| row.get(0)).collect(),
            policed: found.get(3),
            is_routed: found.get(5),
            is_secured: found.get(4),
        })
    }

    /// Tells whether one of the tables is not what it was when its shape was read. In a transaction that has written to them, the answer stays true.
    pub(super) fn is_altered<'t>(
        client: &mut Client,
        shapes: impl Iterator<Item = (&'t QualifiedName, &'t Shape)>,
        targets: &[QualifiedName],
    ) -> Result<bool, Fault> {
        let (target_schemas, target_names) = in_columns(targets);
        let (mut schemas, mut names, mut states) = (Vec::new(), Vec::new(), Vec::new());
        for (table, shape) in shapes {
            schemas.push(&table.schema);
            names.push(&table.name);
            states.push(&shape.state);
        }
        let row = client.query_one(
            &format!(
                // (With `offset 0` the tables are found first: the state of each relation there is would be compared otherwise.)
                "select count(*)
                   from (select c.*, t.state as known
                           from unnest($3::text[], $4::text[], $5::text[]) t (schema, name, state)
                           join pg_catalog.pg_namespace n on n.nspname = t.schema
                           join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.name
                         offset 0) c
                  where {} = c.known",
                state()
            ),
            &[&target_schemas, &target_names, &schemas, &names, &states],
        )?;
        Ok(usize::try_from(row.get::<_, i64>(0)).ok() != Some(names.len()))
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns the table as the templates take it.
    pub(super) fn named(&self, table: &QualifiedName) -> serde_json::Value {
        json!({ "schema": table.schema, "name": table.name, "partitioned": self.is_routed })
    }

    /// Returns what keeps rows of these columns, found by this key, from being written at all.
    pub(super) fn complaint<'a>(
        &self,
        table: &QualifiedName,
        key: &[String],
        columns: impl IntoIterator<Item = &'a str>,
    ) -> Option<Fault> {
        if let Some(role) = &self.policed {
            let role_there = quote_ident(role);
            return Some(Fault::down(format!(
                "row-level security of `{table}` applies to role `{role}` in the other database: a row that is hidden there would be neither changed nor deleted. \
                 `alter role {role_there} bypassrls`, or give it all rows (`create policy emaj on {table} to {role_there} using (true)`), with no restrictive policy beside"
            )));
        }
        let names = || self.columns.iter().map(|column| column.name.as_str());
        let missing: Vec<String> = columns
            .into_iter()
            .filter(|name| self.column(name).is_none())
            .map(|name| match nearest(name, names()) {
                Some(near) => format!("`{name}` (nearest: `{near}`)"),
                None => format!("`{name}`"),
            })
            .collect();
        if !missing.is_empty() {
            let (what, list) = (
                if missing.len() == 1 { "column" } else { "columns" },
                missing.join(", "),
            );
            return Some(Fault::down(format!(
                "`{table}` of the other database has no {what} {list}: add it there, or name the columns to be written under `row.columns`"
            )));
        }
        if let Some(name) = key
            .iter()
            .find(|name| self.column(name).is_some_and(|column| column.generated))
        {
            return Some(Fault::down(format!(
                "`{name}` of `{table}` is part of the key, and generated in the other database, where it cannot be written: \
                 `alter table {table} alter {} drop expression`, or name another `row.key`",
                quote_ident(name)
            )));
        }
        let same = |unique: &Vec<String>| unique.len() == key.len() && key.iter().all(|name| unique.contains(name));
        if self.keys.iter().any(same) {
            return None;
        }
        let list = key.iter().map(|name| quote_ident(name)).collect::<Vec<_>>().join(", ");
        Some(Fault::down(format!(
            "`{table}` of the other database has no unique constraint on ({list}) that is checked at once: \
             `alter table {table} add unique ({list})`, or name another `row.key`"
        )))
    }
}

/// The schemas and the names of tables, as a query takes them.
fn in_columns(tables: &[QualifiedName]) -> (Vec<&str>, Vec<&str>) {
    tables
        .iter()
        .map(|table| (table.schema.as_str(), table.name.as_str()))
        .unzip()
}

fn no_table(client: &mut Client, table: &QualifiedName) -> Result<Fault, Fault> {
    let rows = client.query(
        "select n.nspname::text, c.relname::text
           from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'",
        &[],
    )?;
    let names = rows
        .iter()
        .map(|row| QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1)));
    let near = nearest(table, names).map_or_else(String::new, |near| format!(" (nearest: `{near}`)"));
    Ok(Fault::down(format!(
        "the other database has no table `{table}`{near}: make it there, or name another `row.table`"
    )))
}

/// Returns how a type writes its values; domains write as what they are made of.
fn kind_of(client: &mut Client, oid: u32, known: &mut HashMap<u32, Kind>) -> Result<Kind, Fault> {
    if let Some(kind) = known.get(&oid) {
        return Ok(kind.clone());
    }
    let row = client
        .query_one(
            "select t.typtype::text, t.typbasetype, e.oid, e.typdelim::text, t.typrelid, pg_catalog.format_type(t.oid, null),
                    t.typname = 'hstore' and exists (select
                              from pg_catalog.pg_depend d
                              join pg_catalog.pg_extension x on x.oid = d.refobjid and x.extname = 'hstore'
                             where d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and d.objid = t.oid
                               and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass)
               from pg_catalog.pg_type t
               left join pg_catalog.pg_type e on e.typarray = t.oid
              where t.oid = $1",
            &[&oid],
        )?;
    let sort: String = row.get(0);
    let element: Option<(u32, String)> = row.get::<_, Option<u32>>(2).map(|oid| (oid, row.get(3)));
    let kind = match (sort.as_str(), element) {
        ("d", _) => kind_of(client, row.get(1), known)?,
        (_, Some((element, delimiter))) => {
            let delimiter = delimiter.chars().next().unwrap_or(',');
            Kind::Array(Box::new(kind_of(client, element, known)?), delimiter)
        }
        ("c", None) => {
            let relation: u32 = row.get(4);
            let rows = client.query(
                "select attname::text, atttypid from pg_catalog.pg_attribute
                  where attrelid = $1 and attnum > 0 and not attisdropped
                  order by attnum",
                &[&relation],
            )?;
            let mut attributes = Vec::with_capacity(rows.len());
            for row in rows {
                attributes.push((row.get(0), kind_of(client, row.get(1), known)?));
            }
            Kind::Composite(row.get(5), attributes)
        }
        // By number: another schema may have a type of this name.
        _ if oid == 114 || oid == 3802 => Kind::Json,
        _ if oid == 22 || oid == 30 => Kind::Vector,
        _ if row.get(6) => Kind::Hstore,
        _ => Kind::Scalar,
    };
    known.insert(oid, kind.clone());
    Ok(kind)
}
