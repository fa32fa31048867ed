//! Reads groups and what they hold, for the commands that show them.

use std::collections::BTreeMap;

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use crate::errors::{Error, Kind, Result};
use crate::names::{QualifiedName, listed, nearest};

/// A group, as a person wants to see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupState {
    pub group: String,
    /// `LOGGING` or `IDLE`.
    pub state: String,
    pub rollback: bool,
    pub protected: bool,
    pub manifest: String,
    pub comment: Option<String>,
    /// Text of an interval.
    pub retention: Option<String>,
    /// How many marks stay, or how old they get.
    pub keep_marks: Option<String>,
    /// In bytes.
    pub max_size: Option<i64>,
    pub tables: i64,
    pub sequences: i64,
    /// Marks that can be rolled back to.
    pub active_marks: i64,
    pub last_mark: Option<String>,
}

/// A table or sequence of a group, under its present name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    pub schema: String,
    pub name: String,
    /// `table`, `partitioned table` or `sequence`.
    pub kind: String,
    /// How changes are captured: `statement` or `row`.
    pub mode: Option<String>,
    pub priority: i32,
    /// The log table, in emaj's schema.
    pub log: Option<String>,
    pub log_bytes: Option<i64>,
    /// False when it was dropped behind emaj's back.
    pub exists: bool,
}

impl Member {
    pub fn qualified(&self) -> QualifiedName {
        QualifiedName::new(&self.schema, &self.name)
    }
}

/// Returns the group called `name`.
///
/// # Errors
/// [`Kind::Refused`] when it is not there, with the nearest name, else all.
pub fn group_named<'a>(known: &'a [GroupState], name: &str) -> Result<&'a GroupState> {
    let found = known.iter().find(|group| group.group == name);
    found.ok_or_else(|| unknown_group(name, known))
}

fn unknown_group(name: &str, known: &[GroupState]) -> Error {
    let error = Error::message(Kind::Refused, format!("unknown group `{name}`"));
    match nearest(name, known.iter().map(|group| &group.group)) {
        _ if [".yaml", ".yml"].iter().any(|end| name.ends_with(end)) => error.hint("a manifest is named with `-f`"),
        Some(nearest) => error.hint(format!("did you mean `{nearest}`?")),
        None if known.is_empty() => {
            error.hint("there is no group: a manifest declares them, `emaj install` makes them")
        }
        None => error.hint(format!(
            "known groups: {}",
            listed(known.iter().map(|group| &group.group))
        )),
    }
}

/// Reads every group, by name.
///
/// # Errors
/// Whatever the server answers; lacking rights on the registry among it.
pub fn groups(client: &mut impl GenericClient, schema: &str) -> Result<Vec<GroupState>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select g.group_name, g.group_state, g.group_rollback, g.group_protected, g.group_manifest, g.group_comment,
                    g.group_retention::text, coalesce(g.group_keep_marks::text, g.group_keep_time::text), g.group_max_size,
                    (select count(*) from {s}.emaj_relation where rel_group = g.group_name and rel_ended is null and rel_kind <> 'S'),
                    (select count(*) from {s}.emaj_relation where rel_group = g.group_name and rel_ended is null and rel_kind = 'S'),
                    (select count(*) from {s}.emaj_mark where mark_group = g.group_name and mark_state = 'ACTIVE'),
                    (select mark_name from {s}.emaj_mark where mark_group = g.group_name order by mark_id desc limit 1)
               from {s}.emaj_group g order by g.group_name"
        ),
        &[],
    )?;
    Ok(rows
        .iter()
        .map(|row| GroupState {
            group: row.get(0),
            state: row.get(1),
            rollback: row.get(2),
            protected: row.get(3),
            manifest: row.get(4),
            comment: row.get(5),
            retention: row.get(6),
            keep_marks: row.get(7),
            max_size: row.get(8),
            tables: row.get(9),
            sequences: row.get(10),
            active_marks: row.get(11),
            last_mark: row.get(12),
        })
        .collect())
}

/// Reads the tables and sequences that a group holds now, with the names that they have now; in a restored copy, where the oids of the
/// registry are not of these ones, with those of the registry.
///
/// # Errors
/// As [`groups`].
pub fn members(client: &mut impl GenericClient, schema: &str, group: &str) -> Result<Vec<Member>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select coalesce(n.nspname::text, r.rel_schema), coalesce(c.relname::text, r.rel_name),
                    case r.rel_kind when 'S' then 'sequence' when 'p' then 'partitioned table' else 'table' end,
                    r.rel_mode, r.rel_priority, r.rel_log,
                    (pg_total_relation_size(l.oid)
                      + coalesce((select sum(pg_total_relation_size(inhrelid)) from pg_catalog.pg_inherits where inhparent = l.oid), 0))::bigint,
                    c.oid is not null
               from {s}.emaj_relation r
              cross join {s}.emaj_origin() as o
               left join pg_catalog.pg_class c on c.oid = case o.origin
                    when 'restored' then (
                      select h.oid from pg_catalog.pg_class h join pg_catalog.pg_namespace s on s.oid = h.relnamespace
                       where h.relname = r.rel_name and s.nspname = r.rel_schema)
                    else r.rel_oid end
               left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               left join pg_catalog.pg_class l on l.relname = r.rel_log
                     and l.relnamespace = (select oid from pg_catalog.pg_namespace where nspname = $2)
              where r.rel_group = $1 and r.rel_ended is null
              order by r.rel_kind = 'S', 1, 2"
        ),
        &[&group, &schema],
    )?;
    Ok(rows
        .iter()
        .map(|row| Member {
            schema: row.get(0),
            name: row.get(1),
            kind: row.get(2),
            mode: row.get(3),
            priority: row.get(4),
            log: row.get(5),
            log_bytes: row.get(6),
            exists: row.get(7),
        })
        .collect())
}

/// A captured table, found by its present name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    pub oid: u32,
    pub group: String,
}

/// Finds a captured table by its exact present name.
///
/// # Errors
/// As [`groups`]; [`Kind::Refused`] with the nearest name when there is no such table, or it is not captured, and where the installation was
/// not made: the registry knows tables by their oids.
pub fn captured(client: &mut impl GenericClient, schema: &str, table: &QualifiedName) -> Result<Captured> {
    super::check_origin(client, schema)?;
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select n.nspname, c.relname, r.rel_oid, r.rel_group
               from pg_catalog.pg_class c
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               join {s}.emaj_relation r on r.rel_oid = c.oid and r.rel_ended is null and r.rel_kind <> 'S'"
        ),
        &[],
    )?;
    let mut known: BTreeMap<QualifiedName, Captured> = rows
        .iter()
        .map(|row| {
            let captured = Captured {
                oid: row.get(2),
                group: row.get(3),
            };
            (
                QualifiedName::new(row.get::<_, &str>(0), row.get::<_, &str>(1)),
                captured,
            )
        })
        .collect();
    known.remove(table).ok_or_else(|| {
        let mut error = Error::message(Kind::Refused, format!("table `{table}` is not captured"));
        if let Some(nearest) = nearest(table, known.keys()) {
            error = error.hint(format!("did you mean `{nearest}`?"));
        }
        error.hint("`emaj group show GROUP` lists the tables of a group; a partition goes with its parent")
    })
}
