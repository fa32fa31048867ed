//! Reads the registry and the objects of an installation.

use std::collections::{BTreeMap, HashMap};

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;

use super::{Column, Function, Group, Journal, Relation, installed};
use crate::errors::Result;
use crate::names::QualifiedName;

/// Reads the installation in `schema`; `None` when there is none.
///
/// # Errors
/// Whatever the server answers; lacking rights on the registry among it.
pub fn read(client: &mut impl GenericClient, schema: &str) -> Result<Option<Journal>> {
    let installed: bool = client
        .query_one(
            "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                             where n.nspname = $1 and c.relname = 'emaj_install')",
            &[&schema],
        )?
        .get(0);
    if !installed {
        return Ok(None);
    }
    let s = escape_identifier(schema);
    let row = client.query_one(
        &format!(
            "select install_version, install_system, install_database, install_roles,
                    (select param_value_interval::text from {s}.emaj_param where param_key = 'history_retention')
               from {s}.emaj_install"
        ),
        &[],
    )?;
    let mut journal = Journal {
        version: row.get(0),
        system: row.get(1),
        database_oid: row.get(2),
        roles: row.get(3),
        history_retention: row.get(4),
        groups: groups(client, &s)?,
        relations: relations(client, &s)?,
        ..Journal::default()
    };
    (journal.sinks, journal.bindings) = installed::read(client, &s)?;
    for row in &client.query(
        "select proname::text, p.oid, prosrc, pg_get_function_identity_arguments(p.oid)
           from pg_catalog.pg_proc p where pronamespace = $1::text::regnamespace",
        &[&s],
    )? {
        let function = Function {
            oid: row.get(1),
            body: row.get(2),
            arguments: row.get(3),
        };
        journal.functions.insert(row.get(0), function);
    }
    for row in &client.query(
        "select c.relname::text, c.relkind = 'v',
                array(select a.attname::text from pg_catalog.pg_attribute a
                       where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum)
           from pg_catalog.pg_class c where c.relnamespace = $1::text::regnamespace and c.relkind in ('r', 'v')",
        &[&s],
    )? {
        if row.get(1) {
            journal.views.insert(row.get(0));
        } else {
            journal.tables.insert(row.get(0), row.get(2));
        }
    }
    let logs = client.query(
        &format!("select rel_log from {s}.emaj_relation where rel_log is not null"),
        &[],
    )?;
    journal.logs = logs.iter().map(|row| row.get(0)).collect();
    for row in &client.query(
        "select r.rolname::text
           from pg_catalog.pg_namespace n
          cross join lateral pg_catalog.aclexplode(n.nspacl) as a
           join pg_catalog.pg_roles r on r.oid = a.grantee
          where n.oid = $1::text::regnamespace and a.privilege_type = 'USAGE' and a.grantee <> n.nspowner",
        &[&s],
    )? {
        journal.grantees.insert(row.get(0));
    }
    Ok(Some(journal))
}

fn groups(client: &mut impl GenericClient, s: &str) -> Result<BTreeMap<String, Group>> {
    let rows = client.query(
        &format!(
            "select group_name, group_manifest, group_state = 'LOGGING', group_rollback, group_comment, group_retention::text,
                    (select count(*) from {s}.emaj_mark where mark_group = group_name and mark_state = 'ACTIVE')
               from {s}.emaj_group"
        ),
        &[],
    )?;
    Ok(rows
        .iter()
        .map(|row| {
            let group = Group {
                manifest: row.get(1),
                logging: row.get(2),
                rollback: row.get(3),
                comment: row.get(4),
                retention: row.get(5),
                active_marks: row.get(6),
            };
            (row.get(0), group)
        })
        .collect())
}

fn relations(client: &mut impl GenericClient, s: &str) -> Result<Vec<Relation>> {
    let mut columns: HashMap<i64, Vec<Column>> = HashMap::new();
    for row in &client.query(
        // The type is asked of the log: a type that got another name or schema is still the same.
        &format!(
            "select col_rel, col_attnum, col_name, coalesce(pg_catalog.format_type(a.atttypid, a.atttypmod), col_type)
               from {s}.emaj_column
               join {s}.emaj_relation on rel_id = col_rel
               left join pg_catalog.pg_attribute a
                 on a.attrelid = pg_catalog.to_regclass(pg_catalog.format('%s.%I', $1::text, rel_log))
                and a.attname = col_name and a.attnum > 0
              order by col_rel, col_attnum"
        ),
        &[&s],
    )? {
        let column = Column {
            attnum: row.get(1),
            log: row.get(2),
            r#type: row.get(3),
        };
        columns.entry(row.get(0)).or_default().push(column);
    }
    let rows = client.query(
        &format!(
            "select rel_id, rel_group, rel_oid, rel_kind, rel_schema, rel_name, rel_priority, rel_mode, rel_log, rel_key,
                    rel_natts, rel_keep_triggers, rel_context, rel_guard
               from {s}.emaj_relation where rel_ended is null order by rel_id"
        ),
        &[],
    )?;
    Ok(rows
        .iter()
        .map(|row| Relation {
            id: row.get(0),
            group: row.get(1),
            oid: row.get(2),
            kind: char::from(row.get::<_, i8>(3) as u8),
            name: QualifiedName {
                schema: row.get(4),
                name: row.get(5),
            },
            priority: row.get(6),
            mode: row.get(7),
            log: row.get(8),
            key: row.get(9),
            natts: row.get(10),
            keep_triggers: row.get(11),
            context: row.get(12),
            guard: row.get(13),
            columns: columns.remove(&row.get(0)).unwrap_or_default(),
        })
        .collect())
}
