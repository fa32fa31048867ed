//! Sinks and bindings as they are installed, and what would be lost if one of them went: for a plan.
//!
//! `sinks` reads the same rows for the workers, with cursors.

use std::collections::BTreeMap;

use postgres::GenericClient;
use postgres::types::ToSql;
use postgres_protocol::escape::escape_identifier;

use crate::errors::Result;
use crate::manifest::Ability;
use crate::names::QualifiedName;
use crate::pg::Span;
use crate::words::shell;

/// So many undelivered changes are counted; of more it is only said that there are more.
pub const COUNTED: i64 = 10_000;

/// A sink that a manifest has installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstalledSink {
    pub manifest: String,
    pub kind: String,
    pub max_lag: Option<Span>,
}

/// A binding that a manifest has installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstalledBinding {
    pub manifest: String,
    /// None: it is done inside the transaction.
    pub sink: Option<String>,
    pub oid: u32,
    pub table: QualifiedName,
    pub kind: String,
    pub fingerprint: String,
    /// Its function in the schema, when it is done inside the transaction.
    pub action: Option<String>,
    /// Log rows that its sink has not read, up to [`COUNTED`].
    pub unread: i64,
    /// Changes that its sink did not take, set aside.
    pub failures: i64,
}

type Installed = (BTreeMap<String, InstalledSink>, BTreeMap<String, InstalledBinding>);

/// Reads them all. `s` is the quoted schema.
pub(super) fn read(client: &mut impl GenericClient, s: &str) -> Result<Installed> {
    let sinks = client.query(
        &format!(
            "select sink_name, sink_manifest, sink_kind, {} from {s}.emaj_sink",
            Span::columns("sink_max_lag")
        ),
        &[],
    )?;
    let sinks = sinks.iter().map(|row| {
        let sink = InstalledSink {
            manifest: row.get(1),
            kind: row.get(2),
            max_lag: Span::get(row, 3),
        };
        (row.get(0), sink)
    });
    let rows = client.query(
        &format!(
            "select bind_name, bind_manifest, bind_sink, bind_oid, bind_schema, bind_table, bind_kind, bind_fingerprint, bind_action,
                    coalesce(f.failures, 0) as failures
               from {s}.emaj_binding
               left join (select fail_binding, count(*) as failures from {s}.emaj_failure group by fail_binding) as f on fail_binding = bind_name"
        ),
        &[],
    )?;
    let mut bindings: BTreeMap<String, InstalledBinding> = rows
        .iter()
        .map(|row| {
            let binding = InstalledBinding {
                manifest: row.get("bind_manifest"),
                sink: row.get("bind_sink"),
                oid: row.get("bind_oid"),
                table: QualifiedName {
                    schema: row.get("bind_schema"),
                    name: row.get("bind_table"),
                },
                kind: row.get("bind_kind"),
                fingerprint: row.get("bind_fingerprint"),
                action: row.get("bind_action"),
                unread: 0,
                failures: row.get("failures"),
            };
            (row.get("bind_name"), binding)
        })
        .collect();
    for (name, log, condition) in unread_logs(client, s)? {
        if let Some(binding) = bindings.get_mut(&name) {
            let counted = client.query_one(
                &format!(
                    "select count(*) from (select from {log} as l where {condition} and l.emaj_tuple <> '' limit {COUNTED}) as counted"
                ),
                &[],
            )?;
            binding.unread = COUNTED.min(binding.unread + counted.get::<_, i64>(0));
        }
    }
    Ok((sinks.collect(), bindings))
}

/// Returns, for each binding to a sink, the logs of its table, and the condition that a row `l` there has not been read.
fn unread_logs(client: &mut impl GenericClient, s: &str) -> Result<Vec<(String, String, String)>> {
    let rows = client.query(
        &format!(
            "select bind_name, log::text, format('(%s) and (%s)', {s}._after(sink_from), {s}._after(bind_since))
               from {s}.emaj_binding
               join {s}.emaj_sink on sink_name = bind_sink
               join {s}.emaj_relation on rel_oid = bind_oid and rel_log is not null
              cross join lateral pg_catalog.to_regclass($1::text || '.' || pg_catalog.quote_ident(rel_log)) as log
              where sink_keeps_log and log is not null"
        ),
        &[&s],
    )?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// A binding of a table to a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub binding: String,
    pub sink: String,
    pub table: QualifiedName,
    /// The kind of the binding, and that of the sink.
    pub kind: String,
    pub sink_kind: String,
}

/// Returns the bindings of a table that go to sinks, of all manifests, in the order of their names.
///
/// # Errors
/// Whatever the server answers.
pub fn bound_to(client: &mut impl GenericClient, schema: &str, table: u32) -> Result<Vec<Bound>> {
    bound(client, schema, "bind_oid = $1", &table)
}

/// As [`bound_to`], of all tables of groups.
///
/// # Errors
/// Whatever the server answers.
pub fn bound_in(client: &mut impl GenericClient, schema: &str, groups: &[String]) -> Result<Vec<Bound>> {
    let tables = format!(
        "bind_oid in (select rel_oid from {}.emaj_relation where rel_ended is null and rel_group = any ($1))",
        escape_identifier(schema)
    );
    bound(client, schema, &tables, &groups)
}

fn bound(
    client: &mut impl GenericClient,
    schema: &str,
    condition: &str,
    value: &(dyn ToSql + Sync),
) -> Result<Vec<Bound>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select bind_name, bind_sink, bind_kind, sink_kind, bind_schema, bind_table
               from {s}.emaj_binding
               join {s}.emaj_sink on sink_name = bind_sink
              where {condition}
              order by bind_name"
        ),
        &[value],
    )?;
    let bound = |row: &postgres::Row| Bound {
        binding: row.get(0),
        sink: row.get(1),
        kind: row.get(2),
        sink_kind: row.get(3),
        table: QualifiedName {
            schema: row.get(4),
            name: row.get(5),
        },
    };
    Ok(rows.iter().map(bound).collect())
}

/// Returns the command that brings the place of a binding up to date: with `prune` also of rows that went, where the place can list what it has.
pub fn init_command(binding: &str, kind: &str, sink_kind: &str, prune: bool) -> String {
    let prune = if prune && is_listed(kind, sink_kind) {
        " --prune"
    } else {
        ""
    };
    format!("emaj init --binding {}{prune}", shell(binding))
}

/// Tells whether a sink can list what bindings of a kind make there: then `emaj init --prune` takes away what has no row any more.
pub fn is_listed(kind: &str, sink_kind: &str) -> bool {
    Ability::of(sink_kind).is_some_and(|ability| ability.lists(kind))
}
