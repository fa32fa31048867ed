//! How the groups of an installation are doing: state, last mark, what has changed since, how much the logs take.

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use crate::errors::Result;
use crate::pg::{classify, read_again};

/// So many changes are counted; of more it is only said that there are more. It keeps the question cheap.
pub const MOST_COUNTED: i64 = 100_000;

/// One group.
#[derive(Debug, Clone, Serialize)]
pub struct GroupStatus {
    pub group: String,
    /// The manifest that owns it.
    pub manifest: String,
    pub logging: bool,
    pub rollback: bool,
    pub protected: bool,
    pub tables: i64,
    pub sequences: i64,
    /// Marks that can be rolled back to.
    pub active_marks: i64,
    pub last_mark: Option<String>,
    pub last_mark_seconds_ago: Option<i64>,
    /// Changed rows since the last mark; [`MOST_COUNTED`] means: so many or more. None when the group is idle.
    pub changes_since: Option<i64>,
    /// Log tables with their indexes, those of tables that have left the group included.
    pub log_bytes: i64,
}

/// Reads the status of every group in the installation in `schema`.
///
/// # Errors
/// Whatever the server answers; lacking rights on the registry among it.
pub fn status(client: &mut impl GenericClient, schema: &str) -> Result<Vec<GroupStatus>> {
    read_again(|| one_look(client, schema))
}

fn one_look(client: &mut impl GenericClient, schema: &str) -> Result<Vec<GroupStatus>> {
    let s = escape_identifier(schema);
    let rows = client
        .query(
            &format!(
                "select g.group_name, g.group_manifest, g.group_state = 'LOGGING', g.group_rollback, g.group_protected,
                        r.tables, r.sequences,
                        (select count(*) from {s}.emaj_mark a where a.mark_group = g.group_name and a.mark_state = 'ACTIVE'),
                        m.mark_name, extract(epoch from clock_timestamp() - m.mark_datetime)::bigint,
                        r.bytes, r.logs,
                        {s}._after(m.mark_position)
                   from {s}.emaj_group g
                   left join {s}.emaj_mark m on m.mark_id = g.group_last_mark
                  cross join lateral (
                    select count(*) filter (where rel_kind <> 'S' and rel_ended is null) as tables,
                           count(*) filter (where rel_kind = 'S' and rel_ended is null) as sequences,
                           coalesce(sum(pg_total_relation_size(log)
                             + coalesce((select sum(pg_total_relation_size(inhrelid)) from pg_inherits where inhparent = log), 0)), 0)::bigint as bytes,
                           coalesce(array_agg(format('%I.%I', $1::text, rel_log)) filter (where rel_ended is null and log is not null), '{{}}') as logs
                      from {s}.emaj_relation
                     cross join lateral to_regclass(quote_ident($1::text) || '.' || quote_ident(rel_log)) as log
                     where rel_group = g.group_name) as r
                  order by g.group_name"
            ),
            &[&schema],
        )
        .map_err(|error| classify(error, "read the status of the groups"))?;
    let mut groups = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut group = GroupStatus {
            group: row.get(0),
            manifest: row.get(1),
            logging: row.get(2),
            rollback: row.get(3),
            protected: row.get(4),
            tables: row.get(5),
            sequences: row.get(6),
            active_marks: row.get(7),
            last_mark: row.get(8),
            last_mark_seconds_ago: row.get(9),
            changes_since: None,
            log_bytes: row.get(10),
        };
        if group.logging && group.last_mark.is_some() {
            group.changes_since = Some(changes(client, &row.get::<_, Vec<String>>(11), row.get(12))?);
        }
        groups.push(group);
    }
    Ok(groups)
}

/// Counts changes after a position, an update once, until there are enough.
fn changes(client: &mut impl GenericClient, logs: &[String], condition: &str) -> Result<i64> {
    let mut total = 0;
    for log in logs {
        let left = MOST_COUNTED - total;
        if left <= 0 {
            break;
        }
        let counted = client.query_one(
            &format!(
                "select count(*) from (select from {log} as l where {condition}
                    and (l.emaj_verb <> 'UPD' or l.emaj_tuple = 'NEW') and l.emaj_tuple <> '' limit {left}) as counted"
            ),
            &[],
        );
        total += counted
            .map_err(|error| classify(error, "count the changes since the last mark"))?
            .get::<_, i64>(0);
    }
    Ok(total)
}
