//! Sets the cursor of a sink back to a mark: everything since is delivered again.
//!
//! Only where nothing is left out by it: the sink has been given all up to the mark, nothing of that arrived only behind it, and the logs hold all that it was owed since. What takes
//! rows out of a log notes that with the bindings of its table (`log/taken`), and holds a lock meanwhile that is taken here too (`binding/begin_to_read`); so do a time without
//! capture, and `emaj init` at its end.

use postgres::Transaction;
use postgres_protocol::escape::escape_identifier;

use super::initial::all_rows_anew;
use super::sinks::{SinkRecord, SinkState};
use crate::errors::{Error, Kind, Result};

/// Sets the cursor of a sink back to a mark. The caller holds the sink's lock. One that is paused stays so.
///
/// # Errors
/// [`Kind::Refused`] when the sink has not got to the mark, or a log does not go back so far any more; [`Kind::Locked`] while rows are taken out
/// of logs; whatever the server answers. `false`: the group has no such mark.
pub fn rewind(
    transaction: &mut Transaction<'_>,
    schema: &str,
    sink: &SinkRecord,
    group: &str,
    mark: &str,
) -> Result<bool> {
    let s = escape_identifier(schema);
    transaction.execute(&format!("select {s}._begin_to_read()"), &[])?;
    let Some(row) = transaction.query_opt(
        &format!(
            "select {s}._precedes(mark_position, sink_from)
               from {s}.emaj_mark, {s}.emaj_sink
              where mark_group = $2 and mark_name = $3 and sink_name = $1"
        ),
        &[&sink.name, &group, &mark],
    )?
    else {
        return Ok(false);
    };
    if !row.get::<_, bool>(0) {
        return Err(too_young(sink, mark));
    }
    let gone = transaction.query_opt(
        &format!(
            "select pg_catalog.format('%I.%I', bind_schema, bind_table)
               from {s}.emaj_mark, {s}.emaj_binding
              where mark_group = $2 and mark_name = $3 and bind_sink = $1
                and not {s}._precedes(bind_kept, mark_position) and not {s}._precedes(bind_kept, bind_since)
              order by 1 limit 1"
        ),
        &[&sink.name, &group, &mark],
    )?;
    if let Some(row) = gone {
        return Err(too_old(&row.get::<_, String>(0), mark));
    }
    let late = transaction.query_opt(
        &format!(
            "select pg_catalog.format('%I.%I', bind_schema, bind_table)
               from {s}.emaj_mark
               join {s}.emaj_late on late_mark = mark_id
               join {s}.emaj_binding on bind_name = late_binding and bind_sink = $1
              where mark_group = $2 and mark_name = $3
              order by 1 limit 1"
        ),
        &[&sink.name, &group, &mark],
    )?;
    if let Some(row) = late {
        return Err(overtaken(&row.get::<_, String>(0), mark));
    }
    all_rows_anew(transaction, schema, &sink.name)?;
    // (Or it would be given up at once, for what it took nothing of so long.)
    transaction.execute(
        &format!(
            "update {s}.emaj_sink
                set sink_from = mark_position, sink_until = null, sink_offset = null, sink_there = null, sink_moved = clock_timestamp(),
                    sink_state = case sink_state when 'PAUSED' then 'PAUSED' else 'ACTIVE' end,
                    sink_reason = case sink_state when 'PAUSED' then sink_reason end,
                    sink_replay = case when pg_snapshot_xmax(sink_replay) > pg_snapshot_xmax(coalesce(sink_until, (sink_from).snapshot))
                                       then sink_replay else coalesce(sink_until, (sink_from).snapshot) end
               from {s}.emaj_mark
              where sink_name = $1 and mark_group = $2 and mark_name = $3"
        ),
        &[&sink.name, &group, &mark],
    )?;
    Ok(true)
}

fn too_young(sink: &SinkRecord, mark: &str) -> Error {
    let name = &sink.name;
    let error = Error::message(
        Kind::Refused,
        format!(
            "sink `{name}` has not been given all changes up to mark `{mark}`: from there on some would be left out"
        ),
    );
    error.hint(match sink.state {
        SinkState::Lost => sink.state.way_on(name, &sink.kind),
        SinkState::Active | SinkState::Paused | SinkState::Stopped => {
            "name an earlier mark; what it has not been given yet `emaj run` delivers".to_owned()
        }
    })
}

fn overtaken(table: &str, mark: &str) -> Error {
    Error::message(
        Kind::Refused,
        format!(
            "changes of {table} were written before mark `{mark}`, set aside, and arrived behind it: from there on they would be left out"
        ),
    )
    .hint("name a mark from before they were written, or one from after they arrived that is older than what is missing; or `emaj init` sends all rows anew")
}

fn too_old(table: &str, mark: &str) -> Error {
    Error::message(
        Kind::Refused,
        format!("the log of {table} does not hold all that the sink is owed since mark `{mark}`"),
    )
    .hint(
        "name a younger mark, or `emaj init` sends all rows anew: those that it sent since the mark are in no log; `retention` of a group says how long \
         its log is kept, a consolidation, an unlogged rollback and a reset take rows out of it too, and nothing is written while a group is stopped \
         or a table released",
    )
}
