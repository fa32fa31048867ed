//! Reads what the logs hold between two marks, as counts.

use jiff::Timestamp;
use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use crate::errors::{Error, Kind, Result};
use crate::names::{QualifiedName, nearest};
use crate::pg::Lossy;

/// How much one table was changed; an update counts once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableChanges {
    /// Its entry in the registry: names may go from one table to another.
    #[serde(skip)]
    pub rel: i64,
    pub schema: String,
    pub table: String,
    pub changes: i64,
}

impl TableChanges {
    pub fn qualified(&self) -> QualifiedName {
        QualifiedName::new(&self.schema, &self.table)
    }
}

/// What is counted: groups, and the marks between which; none: the oldest, and now.
#[derive(Debug, Clone, Copy)]
pub struct StatWanted<'a> {
    pub groups: &'a [String],
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
    /// Only these tables or sequences; none: all.
    pub names: &'a [QualifiedName],
}

/// How much one table was changed between two marks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableStat {
    pub group: String,
    pub schema: String,
    pub table: String,
    pub changes: i64,
    /// False: some of it has been taken out of the log before it was counted, so it is at least as much.
    pub exact: bool,
}

/// How much one role changed one table in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleChanges {
    pub group: String,
    pub schema: String,
    pub table: String,
    pub role: String,
    /// `INS`, `UPD`, `DEL` or `TRU`.
    pub verb: String,
    pub changes: i64,
    /// As in [`TableStat`].
    pub exact: bool,
}

/// What was drawn from one sequence between two marks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SequenceStat {
    pub group: String,
    pub schema: String,
    pub sequence: String,
    /// How many steps it went on; less than none when it was set back.
    pub increments: i64,
    /// Whether its definition is another one.
    pub altered: bool,
}

/// What happened to one table or sequence between two successive marks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interval {
    pub group: String,
    pub schema: String,
    /// The table or sequence.
    pub name: String,
    pub from: String,
    pub since: Timestamp,
    /// None: the interval goes on.
    pub to: Option<String>,
    pub until: Option<Timestamp>,
    /// Of a table; of a sequence the values drawn.
    pub changes: i64,
    /// Of a sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub altered: Option<bool>,
    pub exact: bool,
    /// Rollbacks of the group that began in it.
    pub rollbacks: i64,
}

impl StatWanted<'_> {
    fn has(&self, schema: &str, name: &str) -> bool {
        self.names.is_empty()
            || self
                .names
                .iter()
                .any(|wanted| wanted.schema == schema && wanted.name == name)
    }
}

/// Counts the changes that a rollback of `groups` to a mark would take back, of each table that is in them now; without those that a partial
/// one leaves.
///
/// # Errors
/// [`crate::errors::Kind::Refused`] for an unknown group or mark; whatever the server answers.
pub fn rollback_tables(
    client: &mut impl GenericClient,
    schema: &str,
    groups: &[String],
    mark: &str,
    partial: bool,
) -> Result<Vec<TableChanges>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!("select back_rel, back_schema, back_table, back_changes from {s}.emaj_rollback_tables($1, $2, $3)"),
        &[&groups, &mark, &partial],
    )?;
    Ok(rows
        .iter()
        .map(|row| TableChanges {
            rel: row.get(0),
            schema: row.get(1),
            table: row.get(2),
            changes: row.get(3),
        })
        .collect())
}

/// Counts once for all what lies between successive marks and was not counted yet, so that nobody reads it again.
/// Writes nothing where the session may only read.
///
/// # Errors
/// As [`table_stat`].
pub fn count_intervals(client: &mut impl GenericClient, schema: &str, wanted: &StatWanted<'_>) -> Result<()> {
    let s = escape_identifier(schema);
    let may: bool = client
        .query_one(
            "select coalesce(bool_or(pg_catalog.has_function_privilege(oid, 'execute')), false) from pg_catalog.pg_proc
              where proname = 'emaj_count_group' and pronamespace = (select oid from pg_catalog.pg_namespace where nspname = $1)",
            &[&schema],
        )?
        .get(0);
    if !may {
        return Ok(());
    }
    for group in wanted.groups {
        client.execute(
            &format!("select {s}.emaj_count_group($1, $2, $3)"),
            &[&group, &wanted.from, &wanted.to],
        )?;
    }
    Ok(())
}

/// Counts the changes of each table between two marks; an update counts once.
///
/// # Errors
/// [`crate::errors::Kind::Refused`] for an unknown group or mark, and a mark that is not one instant in all groups; whatever the
/// server answers.
pub fn table_stat(client: &mut impl GenericClient, schema: &str, wanted: &StatWanted<'_>) -> Result<Vec<TableStat>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select stat_group, stat_schema, stat_table, stat_rows, stat_exact from {s}.emaj_log_stat_groups($1, $2, $3)"
        ),
        &[&wanted.groups, &wanted.from, &wanted.to],
    )?;
    let all = rows.iter().map(|row| TableStat {
        group: row.get(0),
        schema: row.get(1),
        table: row.get(2),
        changes: row.get(3),
        exact: row.get(4),
    });
    Ok(all.filter(|stat| wanted.has(&stat.schema, &stat.table)).collect())
}

/// Counts like [`table_stat`], per role and verb; only what occurred.
///
/// # Errors
/// As [`table_stat`].
pub fn detailed_stat(
    client: &mut impl GenericClient,
    schema: &str,
    wanted: &StatWanted<'_>,
) -> Result<Vec<RoleChanges>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select stat_group, stat_schema, stat_table, stat_role, stat_verb, stat_rows, stat_exact
               from {s}.emaj_detailed_log_stat_groups($1, $2, $3)"
        ),
        &[&wanted.groups, &wanted.from, &wanted.to],
    )?;
    let all = rows.iter().map(|row| RoleChanges {
        group: row.get(0),
        schema: row.get(1),
        table: row.get(2),
        role: Lossy::get(row, 3),
        verb: row.get(4),
        changes: row.get(5),
        exact: row.get(6),
    });
    Ok(all.filter(|stat| wanted.has(&stat.schema, &stat.table)).collect())
}

/// Says what was drawn from each sequence.
///
/// # Errors
/// As [`table_stat`].
pub fn sequence_stat(
    client: &mut impl GenericClient,
    schema: &str,
    wanted: &StatWanted<'_>,
) -> Result<Vec<SequenceStat>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select stat_group, stat_schema, stat_sequence, stat_increments, stat_has_structure_changed
               from {s}.emaj_sequence_stat_groups($1, $2, $3)"
        ),
        &[&wanted.groups, &wanted.from, &wanted.to],
    )?;
    let all = rows.iter().map(|row| SequenceStat {
        group: row.get(0),
        schema: row.get(1),
        sequence: row.get(2),
        increments: row.get(3),
        altered: row.get(4),
    });
    Ok(all.filter(|stat| wanted.has(&stat.schema, &stat.sequence)).collect())
}

/// Counts between each two successive marks: the tables, or the sequences.
///
/// # Errors
/// As [`table_stat`].
pub fn interval_stat(
    client: &mut impl GenericClient,
    schema: &str,
    wanted: &StatWanted<'_>,
    sequences: bool,
) -> Result<Vec<Interval>> {
    let s = escape_identifier(schema);
    let schemas: Vec<&str> = wanted.names.iter().map(|name| name.schema.as_str()).collect();
    let names: Vec<&str> = wanted.names.iter().map(|name| name.name.as_str()).collect();
    let mut all = Vec::new();
    for group in wanted.groups {
        let rows = client.query(
            &format!(
                "select stat_schema, stat_name, stat_first_mark, stat_first_mark_datetime, stat_last_mark, stat_last_mark_datetime,
                        stat_changes, stat_altered, stat_exact, stat_rollbacks
                   from {s}.emaj_interval_stat_group($1, $2, $3, $4,
                          (select array_agg(format('%I.%I', s, n)) from unnest($5::text[], $6::text[]) as named(s, n)))"
            ),
            &[&group, &wanted.from, &wanted.to, &sequences, &schemas, &names],
        )?;
        all.extend(rows.iter().map(|row| Interval {
            group: group.clone(),
            schema: row.get(0),
            name: row.get(1),
            from: row.get(2),
            since: row.get(3),
            to: row.get(4),
            until: row.get(5),
            changes: row.get(6),
            altered: row.get(7),
            exact: row.get(8),
            rollbacks: row.get(9),
        }));
    }
    Ok(all)
}

/// Refuses names that are no table (or sequence) of the groups.
///
/// # Errors
/// [`Kind::Refused`] with the nearest name; whatever the server answers.
pub fn check_names(
    client: &mut impl GenericClient,
    schema: &str,
    wanted: &StatWanted<'_>,
    sequences: bool,
) -> Result<()> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select distinct coalesce(n.nspname, rel_schema)::text, coalesce(c.relname, rel_name)::text
               from {s}.emaj_relation
              cross join {s}.emaj_origin() as o
               left join pg_catalog.pg_class c on c.oid = rel_oid and rel_ended is null and o.origin <> 'restored'
               left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where rel_group = any ($1) and (rel_kind = 'S') = $2
              order by 1, 2"
        ),
        &[&wanted.groups, &sequences],
    )?;
    let known: Vec<QualifiedName> = rows
        .iter()
        .map(|row| QualifiedName::new(row.get::<_, &str>(0), row.get::<_, &str>(1)))
        .collect();
    let Some(unknown) = wanted.names.iter().find(|name| !known.contains(name)) else {
        return Ok(());
    };
    let what = if sequences { "sequence" } else { "table" };
    let error = Error::message(
        Kind::Refused,
        format!("{what} `{unknown}` is not in `{}`", wanted.groups.join("`, `")),
    );
    Err(match nearest(unknown, &known) {
        Some(nearest) => error.hint(format!("did you mean `{nearest}`?")),
        None => error.hint(format!("`emaj group show` lists the {what}s of a group")),
    })
}
