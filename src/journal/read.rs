//! Reads the registry and the objects of an installation.

use std::collections::{BTreeMap, HashMap};

use postgres::{GenericClient, Row};
use postgres_protocol::escape::escape_identifier;

use super::{
    ActiveMarks, Column, Function, Group, HistoryKept, Journal, KeptLog, Relation, Relations, home, installed,
    registry, rights,
};
use crate::errors::Result;
use crate::names::QualifiedName;
use crate::pg::{COLLATED, Span};
use crate::render::{Head, Renderer, parameter_names};

/// Reads the installation in `schema`; `None` when there is none.
///
/// # Errors
/// A registry that another version made, one in a schema of another owner (see [`home`]), or with a part of its rows only; whatever the server answers, lacking rights on the registry among it.
pub fn read(client: &mut impl GenericClient, schema: &str) -> Result<Option<Journal>> {
    if home(client, schema)?.is_none() {
        return Ok(None);
    }
    let s = escape_identifier(schema);
    let renderer = Renderer::new(schema);
    registry::check(client, schema, &renderer)?;
    let row = client.query_opt(
        &format!(
            "select install_version,
                    array(select unnest(install_roles)
                           union
                          select r.rolname::text from {s}.emaj_role join pg_catalog.pg_roles r on r.oid = role_oid
                           where pg_catalog.shobj_description(r.oid, 'pg_authid') = $1
                           order by 1),
                    coalesce(param_manifests, '{{}}'), {}
               from {s}.emaj_install left join {s}.emaj_param on param_key = 'history_retention'",
            Span::columns("param_value_interval")
        ),
        &[&rights::ROLE_MADE_BY_EMAJ],
    )?;
    let Some(row) = row else {
        registry::check_hollow(client, schema)?;
        return Ok(Some(Journal {
            hollow: true,
            functions: functions(client, &s, &renderer)?,
            ..Journal::default()
        }));
    };
    let mut journal = Journal {
        version: row.get(0),
        roles: row.get(1),
        history_kept: HistoryKept {
            retention: Span::get(&row, 3),
            manifests: row.get(2),
        },
        groups: groups(client, &s)?,
        relations: relations(client, &s)?,
        ..Journal::default()
    };
    (journal.sinks, journal.bindings) = installed::read(client, &s)?;
    journal.functions = functions(client, &s, &renderer)?;
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
        &format!(
            "select rel_id, rel_group, rel_oid, rel_ended is not null, rel_log || array(
                      select c.relname::text
                        from pg_catalog.pg_inherits
                        join pg_catalog.pg_class c on c.oid = inhrelid and c.relnamespace = $1::text::regnamespace
                       where inhparent = pg_catalog.to_regclass($1::text || '.' || pg_catalog.quote_ident(rel_log))
                       order by c.oid)
               from {s}.emaj_relation where rel_log is not null order by rel_id"
        ),
        &[&s],
    )?;
    journal.keep(logs.iter().map(kept).collect());
    // An installation that is to be repaired may lack it.
    if journal.functions.contains_key("emaj_unfinished_rollbacks") {
        journal.rollbacks = super::unfinished_rollbacks(client, schema)?;
    }
    if journal.functions.contains_key("emaj_torn_rollbacks") {
        journal.torn = super::torn_rollbacks(client, schema)?;
    }
    if ["emaj_origin", "_seal"]
        .iter()
        .all(|name| journal.functions.contains_key(*name))
    {
        journal.astray = super::astray(client, schema)?;
    }
    journal.named = rights::named(client, &s)?;
    journal.held = rights::held(client, &s, &journal)?;
    journal.grants = rights::grants(&journal.held);
    Ok(Some(journal))
}

/// Reads the functions in the schema. Of several with one name, emaj's is the one whose parameters are called as its template says; a
/// capture function has none.
fn functions(client: &mut impl GenericClient, s: &str, renderer: &Renderer) -> Result<BTreeMap<String, Function>> {
    let framework = renderer.functions()?;
    let mut functions: BTreeMap<String, Function> = BTreeMap::new();
    for row in &client.query(
        "select proname::text, p.oid, prosrc, pg_get_function_identity_arguments(p.oid), prosecdef, provolatile, coalesce(proconfig, '{}')
           from pg_catalog.pg_proc p where pronamespace = $1::text::regnamespace order by p.oid",
        &[&s],
    )? {
        let name: String = row.get(0);
        let function = Function {
            oid: row.get(1),
            head: head(row, 4),
            body: row.get(2),
            arguments: row.get(3),
        };
        let own = framework.iter().find(|own| own.name == name);
        let wanted = own.map_or("", |own| own.arguments.as_str());
        if !functions.contains_key(&name) || parameter_names(&function.arguments) == parameter_names(wanted) {
            functions.insert(name, function);
        }
    }
    Ok(functions)
}

/// Reads `prosecdef`, `provolatile` and `proconfig`, which stand from a column of `row` on.
pub(super) fn head(row: &Row, from: usize) -> Head {
    let volatility: i8 = row.get(from + 1);
    let settings: Vec<String> = row.get(from + 2);
    Head::new(row.get(from), char::from(volatility.cast_unsigned()), &settings)
}

fn groups(client: &mut impl GenericClient, s: &str) -> Result<BTreeMap<String, Group>> {
    let rows = client.query(
        &format!(
            "select group_name, group_manifest, group_state = 'LOGGING', group_rollback, group_comment, group_keep_marks, group_max_size,
                    marks.count, marks.last, {}, {}
               from {s}.emaj_group
              cross join lateral (
                select count(*), max(mark_id) as last from {s}.emaj_mark where mark_group = group_name and mark_state = 'ACTIVE') as marks",
            Span::columns("group_retention"),
            Span::columns("group_keep_time")
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
                keep_marks: row.get(5),
                max_size: row.get(6),
                active_marks: ActiveMarks {
                    count: row.get(7),
                    last: row.get(8),
                },
                retention: Span::get(row, 9),
                keep_time: Span::get(row, 11),
                expiring: 0,
            };
            (row.get(0), group)
        })
        .collect())
}

fn kept(row: &Row) -> KeptLog {
    KeptLog {
        relation: row.get(0),
        group: row.get(1),
        oid: row.get(2),
        ended: row.get(3),
        parts: row.get(4),
    }
}

fn relations(client: &mut impl GenericClient, s: &str) -> Result<Relations> {
    let mut columns: HashMap<i64, Vec<Column>> = HashMap::new();
    for row in &client.query(
        // The type is asked of the log: a type that got another name or schema is still the same.
        &format!(
            "select col_rel, col_attnum, col_name, col_log,
                    coalesce(pg_catalog.format_type(a.atttypid, a.atttypmod)
                             || {COLLATED}, col_type),
                    col_expression
               from {s}.emaj_column
               join {s}.emaj_relation on rel_id = col_rel
               left join pg_catalog.pg_attribute a
                 on a.attrelid = pg_catalog.to_regclass(pg_catalog.format('%s.%I', $1::text, rel_log))
                and a.attname = col_log and a.attnum > 0
               left join pg_catalog.pg_type t on t.oid = a.atttypid
               left join pg_catalog.pg_collation l on l.oid = a.attcollation
               left join pg_catalog.pg_namespace n on n.oid = l.collnamespace
              order by col_rel, col_attnum"
        ),
        &[&s],
    )? {
        let column = Column {
            attnum: row.get(1),
            name: row.get(2),
            log: row.get(3),
            r#type: row.get(4),
            expression: row.get(5),
        };
        columns.entry(row.get(0)).or_default().push(column);
    }
    let rows = client.query(
        &format!(
            "select rel_id, rel_group, rel_oid, rel_kind, rel_schema, rel_name, rel_priority, rel_mode, rel_log, rel_key,
                    rel_natts, rel_keep_triggers, rel_context, rel_guard, rel_into,
                    array(select t.key::oid from pg_catalog.jsonb_each_text(rel_triggers) as t order by t.key),
                    array(select t.value from pg_catalog.jsonb_each_text(rel_triggers) as t order by t.key),
                    rel_partitions, rel_attached
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
            into: row.get(14),
            triggers: row
                .get::<_, Vec<u32>>(15)
                .into_iter()
                .zip(row.get::<_, Vec<String>>(16))
                .collect(),
            partitions: row
                .get::<_, Vec<u32>>(17)
                .into_iter()
                .zip(row.get::<_, Vec<String>>(18))
                .collect(),
            columns: columns.remove(&row.get(0)).unwrap_or_default(),
        })
        .collect())
}
