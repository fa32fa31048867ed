//! Reads what `lanes` shares out: the tables of groups, what ties them, and what the server has room for.

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;

use super::lanes::{TableWork, Work};
use crate::errors::Result;
use crate::journal::TableChanges;
use crate::names::QualifiedName;
use crate::pg::classify;

/// Reads the tables of `groups`; `changes` are those to undo.
///
/// # Errors
/// Whatever the server answers.
pub(super) fn read(
    client: &mut impl GenericClient,
    schema: &str,
    groups: &[String],
    changes: &[TableChanges],
) -> Result<Work> {
    let failed = |error| classify(error, "read the tables of the groups and what ties them");
    let s = escape_identifier(schema);
    let tables = client
        .query(
            &format!(
                "select rel_id, rel_oid, coalesce(n.nspname, rel_schema), coalesce(c.relname, rel_name), rel_keep_triggers <> '{{}}'
                   from {s}.emaj_relation
                   left join pg_catalog.pg_class c on c.oid = rel_oid
                   left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                  where rel_group = any ($1) and rel_ended is null and rel_kind <> 'S'
                  order by rel_priority, rel_oid"
            ),
            &[&groups],
        )
        .map_err(failed)?;
    let ties = client
        .query(
            "select conrelid, confrelid from pg_catalog.pg_constraint where contype = 'f'
              union
             select inhrelid, inhparent from pg_catalog.pg_inherits",
            &[],
        )
        .map_err(failed)?;
    let prepared = client
        .query_one(
            "select pg_catalog.current_setting('max_prepared_transactions')::bigint,
                    (select count(*) from pg_catalog.pg_prepared_xacts)",
            &[],
        )
        .map_err(failed)?;
    let tables = tables
        .iter()
        .map(|row| {
            let (schema, name): (String, String) = (row.get(2), row.get(3));
            let rel: i64 = row.get(0);
            let of = |changes: &&TableChanges| changes.rel == rel;
            TableWork {
                rel,
                oid: row.get(1),
                changes: changes.iter().filter(of).map(|changes| changes.changes).sum(),
                name: QualifiedName::new(&schema, &name),
                keeps_triggers: row.get(4),
            }
        })
        .collect();
    let (most, used): (i64, i64) = (prepared.get(0), prepared.get(1));
    Ok(Work {
        tables,
        ties: ties.iter().map(|row| (row.get(0), row.get(1))).collect(),
        prepared: most,
        prepared_free: most - used,
    })
}
