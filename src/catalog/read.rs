//! Reads the catalogue: one query per kind of fact, joined here by oid.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postgres::{GenericClient, Row};

use super::{
    Catalog, Column, EventTrigger, Generated, Partition, Persistence, ReadOnly, Sequence, Server, TO_ACT_AS, Table,
    Trigger, VERSIONS,
};
use crate::errors::{Error, Kind, Result};
use crate::names::{QualifiedName, quote_ident};
use crate::pg::{COLLATED, Doing as _, Lossy};

/// Reads what a plan needs to know about the database, besides what emaj itself wrote. `schema` is the installation schema,
/// `roles` the cluster roles whose existence matters.
///
/// # Errors
/// [`Kind::Refused`] when the server is older than [`VERSIONS`]; whatever the server answers.
pub fn read(client: &mut impl GenericClient, schema: &str, roles: &[&str]) -> Result<Catalog> {
    let server = server(client, schema)?;
    refuse_old(&server)?;
    let emaj_schemas = emaj_schemas(client, schema)?;
    let theirs: Vec<&str> = emaj_schemas.iter().map(String::as_str).collect();
    let unreadable = unreadable(client)?;
    let oids: Vec<u32> = unreadable.iter().map(|(oid, _)| *oid).collect();
    let mut tables = tables(client, &theirs, &oids)?;
    add_columns(client, &mut tables)?;
    add_keys(client, &mut tables)?;
    add_triggers(client, &mut tables)?;
    add_sequences(client, &mut tables)?;
    add_foreign_keys(client, &mut tables)?;
    nest_partitions(&mut tables);
    Ok(Catalog {
        server,
        tables: tables.into_values().map(|found| (found.name, found.table)).collect(),
        sequences: sequences(client, &theirs, &oids)?,
        unreadable: unreadable.into_iter().map(|(_, name)| name).collect(),
        emaj_schemas,
        closed_schemas: client
            .query(
                "select nspname::text from pg_catalog.pg_namespace where not has_schema_privilege(oid, 'usage')
                    and (getdatabaseencoding() <> 'SQL_ASCII' or nspname::text ~ '^[ -~]*$')",
                &[],
            )
            .doing("read which schemas may be used")?
            .iter()
            .map(|row| row.get(0))
            .collect(),
        roles: client
            .query(
                "select rolname::text from pg_catalog.pg_roles where rolname = any ($1::text[])",
                &[&roles],
            )
            .doing("read the roles")?
            .iter()
            .map(|row| row.get(0))
            .collect(),
        functions: BTreeMap::new(),
        intervals: BTreeMap::new(),
        unreadable_settings: BTreeMap::new(),
        refused_queries: BTreeMap::new(),
        event_triggers: event_triggers(client)?,
    })
}

/// Returns the schemas that hold an installation of emaj or, with the registry's tables still in it, what is left of one, under whatever name;
/// `schema` is one of them beforehand.
fn emaj_schemas(client: &mut impl GenericClient, schema: &str) -> Result<BTreeSet<String>> {
    let rows = client
        .query(
            "select n.nspname::text
           from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where c.relkind = 'r'
            and c.relname in ('emaj_group', 'emaj_hist', 'emaj_mark', 'emaj_relation')
          group by n.nspname
         having count(*) = 4",
            &[],
        )
        .doing("look for installations of emaj")?;
    Ok(rows.iter().map(|row| row.get(0)).chain([schema.to_owned()]).collect())
}

/// What comes after this asks for columns and functions that older servers do not have.
fn refuse_old(server: &Server) -> Result<()> {
    if server.major() >= *VERSIONS.start() {
        return Ok(());
    }
    let message = format!(
        "the server is PostgreSQL {}, and emaj needs {} or newer",
        server.release(),
        VERSIONS.start()
    );
    Err(Error::message(Kind::Refused, message).hint("upgrade the server, or connect to another one"))
}

fn event_triggers(client: &mut impl GenericClient) -> Result<Vec<EventTrigger>> {
    let rows = client
        .query(
            "select quote_ident(e.evtname), e.evtowner::regrole::text, format('%I.%I()', n.nspname, p.proname)
           from pg_catalog.pg_event_trigger e
           join pg_catalog.pg_proc p on p.oid = e.evtfoid
           join pg_catalog.pg_namespace n on n.oid = p.pronamespace
          where e.evtenabled <> 'D'
          order by e.evtname",
            &[],
        )
        .doing("read the event triggers")?;
    Ok(rows
        .iter()
        .map(|row| EventTrigger {
            name: row.get(0),
            owner: Lossy::get(row, 1),
            function: row.get(2),
        })
        .collect())
}

struct Found {
    name: QualifiedName,
    table: Table,
    parent: Option<u32>,
    /// As a partition's.
    attached: String,
}

/// Refuses a role that has not the rights of the owner of the installation schema, where there is one.
///
/// # Errors
/// [`Kind::Denied`]; whatever the server answers.
pub fn check_owner(client: &mut impl GenericClient, schema: &str) -> Result<()> {
    let server = server(client, schema)?;
    match &server.schema_owner {
        Some(owner) if !server.has_rights_of_owner => {
            let (schema, role) = (quote_ident(schema), quote_ident(&server.role));
            let message = format!(
                "schema {schema} belongs to role {owner}, and {role} has not that role's rights: what goes to sinks is for the owner alone"
            );
            Err(Error::message(Kind::Denied, message).hint(server.with_rights_of_owner()))
        }
        _ => Ok(()),
    }
}

fn server(client: &mut impl GenericClient, schema: &str) -> Result<Server> {
    let query = format!(
        "select current_setting('server_version_num')::int, current_database()::text,
                current_user::text, r.rolsuper, r.rolsuper or r.rolcreaterole, has_database_privilege(d.oid, 'create'),
                r.rolsuper or r.rolbypassrls, current_setting('max_prepared_transactions')::int,
                n.nspowner::regrole::text, coalesce(pg_has_role(n.nspowner, {TO_ACT_AS}), false), e.extname::text,
                coalesce(pg_has_role(n.nspowner, 'member'), false),
                o.oid::regrole::text, o.rolsuper,
                -- (Every owner of a database is a member of pg_database_owner.)
                array(select a.oid::regrole::text from pg_catalog.pg_roles a
                       where not o.rolsuper and a.oid <> o.oid and a.rolname <> 'pg_database_owner' and pg_has_role(o.oid, a.oid, 'usage')
                       order by a.rolname),
                current_setting('max_connections')::int, current_setting('max_locks_per_transaction')::int,
                pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool,
                r.rolinherit,
                array(select a.oid::regrole::text from pg_catalog.pg_roles a
                       where exists (select from pg_catalog.pg_roles s where s.rolsuper and pg_has_role(a.oid, s.oid, 'member'))),
                array(select 'usage on language ' || l.lanname from pg_catalog.pg_language l
                       where l.lanname in ('plpgsql', 'sql') and not has_language_privilege(l.oid, 'usage')
                       union all
                      -- (In the database's own tablespace everybody may create.)
                      select 'create on tablespace ' || quote_ident(t.spcname) from pg_catalog.pg_tablespace t
                       where t.spcname = current_setting('default_tablespace') and t.oid <> d.dattablespace
                         and not has_tablespace_privilege(t.oid, 'create')),
                coalesce(pg_has_role(n.nspowner, 'usage'), false)
           from pg_catalog.pg_database d
           join pg_catalog.pg_roles r on r.rolname = current_user
           left join pg_catalog.pg_namespace n on n.nspname = $1
           join pg_catalog.pg_roles o on o.oid = coalesce(n.nspowner, r.oid)
           left join pg_catalog.pg_extension e on e.extnamespace = n.oid and e.extname = 'emaj'
          where d.datname = current_database()"
    );
    let row = client
        .query_one(&query, &[&schema])
        .doing("read what the server is and the role may do")?;
    let version: i32 = row.get(0);
    let superuser: bool = row.get(3);
    let may_be_replica = superuser
        || version >= 150_000
            && client
                .query_one(
                    "select has_parameter_privilege(current_user, 'session_replication_role', 'set')",
                    &[],
                )
                .doing("read what the server is and the role may do")?
                .get::<_, bool>(0);
    Ok(Server {
        version,
        database: Lossy::get(&row, 1),
        role: Lossy::get(&row, 2),
        may_create_role: row.get(4),
        may_create_schema: row.get(5),
        bypasses_rls: row.get(6),
        may_be_replica,
        max_prepared_transactions: row.get(7),
        schema_owner: Lossy::get_opt(&row, 8),
        owns_schema: row.get(9),
        schema_extension: row.get(10),
        in_owner: row.get(11),
        definer: Lossy::get(&row, 12),
        definer_superuser: row.get(13),
        definer_acts_for: Lossy::all(&row, 14),
        max_connections: row.get(15),
        max_locks_per_transaction: row.get(16),
        read_only: match (row.get(17), row.get(18)) {
            (true, _) => Some(ReadOnly::Standby),
            (false, true) => Some(ReadOnly::ByDefault),
            (false, false) => None,
        },
        inherits: row.get(19),
        superusers: Lossy::all(&row, 20).into_iter().collect(),
        lacks: Lossy::all(&row, 21),
        has_rights_of_owner: row.get(22),
    })
}

/// Finds tables and sequences of which some name (their own, of a column, a trigger or the owner) is not UTF-8. Only a database without an
/// encoding has such, and its server refuses to send them as text.
fn unreadable(client: &mut impl GenericClient) -> Result<Vec<(u32, String)>> {
    let rows = client.query(
        "select c.oid,
                convert_to(format('%I.%I', n.nspname, c.relname), 'SQL_ASCII'),
                convert_to(concat_ws(' ', pg_get_userbyid(c.relowner),
                  (select string_agg(a.attname::text, ' ') from pg_catalog.pg_attribute a where a.attrelid = c.oid),
                  (select string_agg(t.tgname::text, ' ') from pg_catalog.pg_trigger t where t.tgrelid = c.oid)), 'SQL_ASCII')
           from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where getdatabaseencoding() = 'SQL_ASCII'
            and c.relkind in ('r', 'p', 'S')
            and c.relpersistence <> 't'
          order by n.nspname, c.relname",
        &[],
    )
    .doing("look for names that are not UTF-8")?;
    let read = |row: &Row| {
        let (name, others): (&[u8], &[u8]) = (row.get(1), row.get(2));
        let fine = std::str::from_utf8(name).is_ok() && std::str::from_utf8(others).is_ok();
        (!fine).then(|| (row.get(0), String::from_utf8_lossy(name).into_owned()))
    };
    Ok(rows.iter().filter_map(read).collect())
}

fn tables(client: &mut impl GenericClient, left_out: &[&str], unreadable: &[u32]) -> Result<BTreeMap<u32, Found>> {
    let rows = client
        .query(
            "select c.oid, n.nspname::text, c.relname::text, c.relkind = 'p', c.relpersistence = 'u',
                case when c.relispartition then i.inhparent end,
                not c.relispartition and i.inhparent is not null
                  or exists (select from pg_catalog.pg_inherits k join pg_catalog.pg_class kc on kc.oid = k.inhrelid
                              where k.inhparent = c.oid and not kc.relispartition),
                pg_has_role(c.relowner, 'usage'), c.relowner::regrole::text, c.relrowsecurity and c.relforcerowsecurity,
                exists (select from pg_catalog.pg_subscription_rel s where s.srrelid = c.oid),
                (select e.extname::text from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
                  where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
                    and d.refclassid = 'pg_catalog.pg_extension'::regclass),
                nullif(c.reltuples, -1)::float8, c.relnatts,
                array(select needed from unnest(array['select', 'insert', 'update', 'delete', 'trigger']) as needed
                       where not has_table_privilege(c.oid, needed)),
                coalesce(i.xmin::text, '')
           from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           left join pg_catalog.pg_inherits i on i.inhrelid = c.oid and i.inhseqno = 1
          where c.relkind in ('r', 'p')
            and c.relpersistence <> 't'
            and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
            and n.nspname <> all ($1)
            and n.nspname !~ '^pg_(toast_)?temp_'
            and c.oid <> all ($2)",
            &[&left_out, &unreadable],
        )
        .doing("read the tables")?;
    Ok(rows
        .iter()
        .map(|row| {
            let oid = row.get(0);
            let table = Table {
                oid,
                partitioned: row.get(3),
                persistence: if row.get(4) {
                    Persistence::Unlogged
                } else {
                    Persistence::Permanent
                },
                inherits: row.get(6),
                owned: row.get(7),
                owner: Lossy::get(row, 8),
                rls_forced: row.get(9),
                replicated: row.get(10),
                extension: row.get(11),
                rows: row.get(12),
                natts: row.get(13),
                lacks: row.get(14),
                ..Table::default()
            };
            (
                oid,
                Found {
                    name: name(row, 1),
                    table,
                    parent: row.get(5),
                    attached: row.get(15),
                },
            )
        })
        .collect())
}

fn name(row: &Row, at: usize) -> QualifiedName {
    QualifiedName {
        schema: row.get(at),
        name: row.get(at + 1),
    }
}

fn add_columns(client: &mut impl GenericClient, tables: &mut BTreeMap<u32, Found>) -> Result<()> {
    let oids: Vec<u32> = tables.keys().copied().collect();
    let rows = client.query(
        &format!("with recursive base as (
           select oid as type, oid, typtype, typbasetype, typtypmod from pg_catalog.pg_type where typtype = 'd'
           union all
           select base.type, t.oid, t.typtype, t.typbasetype,
                  case when t.typtype = 'd' then t.typtypmod else base.typtypmod end
             from base join pg_catalog.pg_type t on t.oid = base.typbasetype
            where base.typtype = 'd'
         )
         select a.attrelid, a.attnum, a.attname::text,
                pg_catalog.format_type(coalesce(b.oid, a.atttypid), coalesce(b.typtypmod, a.atttypmod))
                  || {COLLATED},
                a.attgenerated,
                a.attlen, a.attalign,
                -- (The right to an array is that to its elements.)
                case when not pg_catalog.has_schema_privilege(t.typnamespace, 'usage') then 'schema ' || t.typnamespace::regnamespace
                     when not pg_catalog.has_type_privilege(t.oid, 'usage') then 'type ' || rtrim(pg_catalog.format_type(t.oid, null), '[]')
                     when l.oid <> t.typcollation and not pg_catalog.has_schema_privilege(n.oid, 'usage') then 'schema ' || n.oid::regnamespace end,
                case when not pg_catalog.has_type_privilege(a.atttypid, 'usage') then 'type ' || rtrim(pg_catalog.format_type(a.atttypid, null), '[]') end,
                case when a.attgenerated <> '' and pg_catalog.current_setting('server_version_num')::integer >= 170000 then d.oid end
           from pg_catalog.pg_attribute a
           left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
           left join base b on b.type = a.atttypid and b.typtype <> 'd'
           join pg_catalog.pg_type t on t.oid = coalesce(b.oid, a.atttypid)
           left join pg_catalog.pg_collation l on l.oid = a.attcollation
           left join pg_catalog.pg_namespace n on n.oid = l.collnamespace
          where a.attrelid = any ($1)
            and a.attnum > 0
            and not a.attisdropped
          order by a.attrelid, a.attnum"),
        &[&oids],
    )
    .doing("read the columns of tables")?;
    for row in &rows {
        if let Some(found) = tables.get_mut(&row.get(0)) {
            let generated = match row.get::<_, i8>(4) as u8 {
                b's' => Generated::Stored,
                b'v' => Generated::Virtual,
                _ => Generated::No,
            };
            found.table.columns.push(Column {
                attnum: row.get(1),
                name: row.get(2),
                r#type: row.get(3),
                generated,
                length: row.get(5),
                align: row.get::<_, i8>(6) as u8,
                log_lacks: row.get(7),
                guard_lacks: row.get(8),
                expression: row.get(9),
            });
        }
    }
    Ok(())
}

fn add_keys(client: &mut impl GenericClient, tables: &mut BTreeMap<u32, Found>) -> Result<()> {
    for row in &client
        .query(
            "select i.indrelid,
                array(select k from unnest(i.indkey::int2[]) with ordinality as x(k, place)
                       where place <= i.indnkeyatts order by place)
           from pg_catalog.pg_index i
          where i.indisprimary",
            &[],
        )
        .doing("read the primary keys of tables")?
    {
        if let Some(found) = tables.get_mut(&row.get(0)) {
            found.table.key = row.get(1);
        }
    }
    Ok(())
}

fn add_triggers(client: &mut impl GenericClient, tables: &mut BTreeMap<u32, Found>) -> Result<()> {
    let oids: Vec<u32> = tables.keys().copied().collect();
    for row in &client
        .query(
            "select tgrelid, tgname::text, tgenabled, tgfoid, tgparentid <> 0, oid, xmin::text
           from pg_catalog.pg_trigger
          -- PostgreSQL 14 calls a trigger internal that a partition has from its parent.
          where (not tgisinternal or (tgparentid <> 0 and tgconstraint = 0))
            and tgrelid = any ($1)
          order by tgrelid, tgname",
            &[&oids],
        )
        .doing("read the triggers of tables")?
    {
        if let Some(found) = tables.get_mut(&row.get(0)) {
            found.table.triggers.push(Trigger {
                name: row.get(1),
                state: char::from(row.get::<_, i8>(2) as u8),
                function: row.get(3),
                cloned: row.get(4),
                oid: row.get(5),
                version: row.get(6),
            });
        }
    }
    Ok(())
}

fn add_sequences(client: &mut impl GenericClient, tables: &mut BTreeMap<u32, Found>) -> Result<()> {
    for row in &client
        .query(
            "select distinct d.refobjid, d.objid
           from pg_catalog.pg_depend d
           join pg_catalog.pg_class c on c.oid = d.objid and c.relkind = 'S'
          where d.classid = 'pg_catalog.pg_class'::regclass
            and d.refclassid = 'pg_catalog.pg_class'::regclass
            and d.deptype in ('a', 'i')
            and d.refobjsubid > 0",
            &[],
        )
        .doing("read the sequences of columns")?
    {
        if let Some(found) = tables.get_mut(&row.get(0)) {
            found.table.sequences.push(row.get(1));
        }
    }
    Ok(())
}

fn add_foreign_keys(client: &mut impl GenericClient, tables: &mut BTreeMap<u32, Found>) -> Result<()> {
    for row in &client
        .query(
            // (A key that is not enforced ties nothing; 18.)
            "select conrelid, confrelid from pg_catalog.pg_constraint as con
              where contype = 'f' and conparentid = 0 and to_jsonb(con) ->> 'conenforced' is distinct from 'false'",
            &[],
        )
        .doing("read the foreign keys")?
    {
        if let Some(found) = tables.get_mut(&row.get(0)) {
            found.table.refers_to.push(row.get(1));
        }
    }
    Ok(())
}

/// Gives every table its ancestors, and every partitioned table the partitions below it.
fn nest_partitions(tables: &mut BTreeMap<u32, Found>) {
    let parents: HashMap<u32, u32> = tables
        .iter()
        .filter_map(|(oid, found)| Some((*oid, found.parent?)))
        .collect();
    let ancestry: Vec<(u32, Vec<u32>)> = parents
        .keys()
        .map(|oid| {
            let mut above = Vec::new();
            let mut at = *oid;
            while let Some(parent) = parents.get(&at) {
                above.insert(0, *parent);
                at = *parent;
            }
            (*oid, above)
        })
        .collect();
    for (oid, above) in ancestry {
        for ancestor in &above {
            let Some(uniform) = same_order(tables, *ancestor, oid) else {
                continue;
            };
            let found = &tables[&oid];
            let partition = Partition {
                oid,
                name: found.name.clone(),
                leaf: !found.table.partitioned,
                owned: found.table.owned,
                owner: found.table.owner.clone(),
                lacks: found.table.lacks.clone(),
                persistence: found.table.persistence,
                uniform,
                attached: found.attached.clone(),
                triggers: found.table.triggers.clone(),
            };
            if let Some(parent) = tables.get_mut(ancestor) {
                parent.table.partitions.push(partition);
            }
        }
        if let Some(found) = tables.get_mut(&oid) {
            found.table.ancestors = above;
        }
    }
    for found in tables.values_mut() {
        found.table.partitions.sort_by_key(|partition| partition.oid);
    }
}

fn same_order(tables: &BTreeMap<u32, Found>, a: u32, b: u32) -> Option<bool> {
    let (a, b) = (&tables.get(&a)?.table.columns, &tables.get(&b)?.table.columns);
    Some(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name == b.name))
}

fn sequences(
    client: &mut impl GenericClient,
    left_out: &[&str],
    unreadable: &[u32],
) -> Result<BTreeMap<QualifiedName, Sequence>> {
    let rows = client.query(
        "select n.nspname::text, c.relname::text, c.oid, pg_has_role(c.relowner, 'usage'), c.relowner::regrole::text,
                (select e.extname::text from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
                  where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
                    and d.refclassid = 'pg_catalog.pg_extension'::regclass)
           from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where c.relkind = 'S'
            and c.relpersistence <> 't'
            and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
            and n.nspname <> all ($1)
            and c.oid <> all ($2)",
        &[&left_out, &unreadable],
    )
    .doing("read the sequences")?;
    Ok(rows
        .iter()
        .map(|row| {
            let sequence = Sequence {
                oid: row.get(2),
                owned: row.get(3),
                owner: Lossy::get(row, 4),
                extension: row.get(5),
            };
            (name(row, 0), sequence)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: i32) -> Server {
        Server {
            version,
            ..Server::default()
        }
    }

    #[test]
    fn an_old_server_is_refused_with_what_it_is_and_what_is_needed() {
        let error = refuse_old(&server(130_023)).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        insta::assert_snapshot!(error, @"the server is PostgreSQL 13.23, and emaj needs 14 or newer");
        assert!(refuse_old(&server(140_000)).is_ok());
    }

    #[test]
    fn a_server_newer_than_the_tests_is_not_refused_but_said() {
        assert!(refuse_old(&server(190_000)).is_ok());
        insta::assert_snapshot!(
            server(190_001).newer_than_known().unwrap_or_default(),
            @"the server is PostgreSQL 19.1, and emaj is tested with 14 to 18"
        );
        assert_eq!(server(180_004).newer_than_known(), None);
    }
}
