//! The replay script: a beginning that takes triggers and foreign keys out of the way, the changes, and an end that puts everything
//! back and sets the sequences. It is plain SQL in one transaction, for a copy of the database as it was at the first mark.

use minijinja::context;
use minijinja::value::{Serde, Value};
use postgres::Transaction;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use super::place::Place;
use super::{Wanted, What};
use crate::errors::Result;
use crate::journal::{LoggedTable, Window};
use crate::pg::{self, Rows};
use crate::render::Renderer;

/// A sequence, and what has to become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Sequence {
    label: String,
    /// `integer`.
    kind: String,
    value: i64,
    called: bool,
    start: i64,
    increment: i64,
    max: i64,
    min: i64,
    cache: i64,
    cycle: bool,
    /// Whether anything but the value is other than at the beginning.
    altered: bool,
}

/// Writes the script; returns its size.
pub(super) fn write(
    transaction: &mut Transaction<'_>,
    renderer: &Renderer,
    schema: &str,
    window: &Window,
    wanted: &Wanted<'_>,
    place: &mut Place<'_>,
) -> Result<u64> {
    let tables = touched(transaction, renderer, window)?;
    let sequences = if wanted.window.tables.is_empty() {
        sequences(transaction, schema, window)?
    } else {
        Vec::new()
    };
    let mut bytes = 0;
    let mut put = |place: &mut Place<'_>, text: &str| {
        bytes += text.len() as u64;
        place.write(text.as_bytes())
    };
    let list: Value = tables.iter().map(shown).collect();
    let about = about(window, wanted, &tables);
    let begin = renderer.render_value(
        "changes/begin",
        context! { tables => &list, about, same_values => pg::same_values("set local") },
    )?;
    put(place, begin.trim_start())?;
    if !tables.is_empty() {
        let (from, until) = window.borders();
        let values = context! { tables => &list, what => wanted.what.word(), from, until };
        let query = renderer.render_value("changes/script", values)?;
        bytes += pg::copy_out(transaction, &query, Rows::Lines, "read the changes", &mut |piece| {
            place.write(piece)
        })?;
    }
    let end = renderer.render_value("changes/end", context! { sequences => Value::from(Serde(&sequences)) })?;
    bytes += end.len() as u64 + 1;
    place.write(end.as_bytes())?;
    place.write(b"\n")?;
    Ok(bytes)
}

/// A table as the templates take it: `made_anew`, rows of it that have changed may be deleted and inserted, for a value that must be unique at every
/// moment, or one that no update can write.
fn shown(table: &LoggedTable) -> Value {
    let made_anew = table.unique || table.columns.iter().any(|column| column.old && column.always);
    context! { made_anew, ..Value::from(Serde(table)) }
}

/// What the script says of itself; no line holds a line break.
fn about(window: &Window, wanted: &Wanted<'_>, tables: &[LoggedTable]) -> Vec<String> {
    let mut lines = vec![
        format!("Does the changes of group `{}` again, {}.", window.group, window.words()),
        match wanted.what {
            What::All => "Transaction by transaction, in the order of their last changes; of each what it amounted to for each key.".to_owned(),
            What::Ends | What::Net => "What they amount to for each key.".to_owned(),
        },
        format!("For a copy of the database as it was at mark `{}`, as the owner of the tables:", window.from.name),
        "    psql -X -v ON_ERROR_STOP=1 -f this_file the_copy".to_owned(),
        "One transaction: all or nothing. Triggers and rules of the application do not fire, what they did is among the changes. Foreign keys".to_owned(),
        "among these tables are taken off, and made and checked again at the end, with the same definition. A truncate is done by deletes.".to_owned(),
    ];
    if !wanted.window.tables.is_empty() {
        lines.push("Some tables were chosen: no sequence is set.".to_owned());
    }
    let left_out = super::left_out(tables);
    lines.extend(left_out.map(|(which, columns)| format!("Columns {which} are left out: {columns}.")));
    lines
        .iter()
        .map(|line| line.chars().map(|c| if c.is_control() { '?' } else { c }).collect())
        .collect()
}

/// Leaves the tables whose logs hold anything of the window; each log answers by its index.
fn touched(transaction: &mut Transaction<'_>, renderer: &Renderer, window: &Window) -> Result<Vec<LoggedTable>> {
    let (from, until) = window.borders();
    let mut tables = Vec::new();
    for table in &window.tables {
        let values = context! { table => Value::from(Serde(table)), from => &from, until => &until };
        let question = renderer.render_value("changes/touched", values)?;
        if transaction.query_one(&question, &[])?.get(0) {
            tables.push(table.clone());
        }
    }
    Ok(tables)
}

/// Returns the sequences that are not at the end of the window what they were at its beginning.
fn sequences(transaction: &mut Transaction<'_>, schema: &str, window: &Window) -> Result<Vec<Sequence>> {
    let before = at_mark(transaction, schema, window, window.from.id)?;
    let after = match &window.until {
        Some(until) => at_mark(transaction, schema, window, until.id)?,
        None => now(transaction, window)?,
    };
    let same = |a: &Sequence, b: &Sequence| {
        (&a.kind, a.start, a.increment, a.max, a.min, a.cache, a.cycle)
            == (&b.kind, b.start, b.increment, b.max, b.min, b.cache, b.cycle)
    };
    Ok(after
        .into_iter()
        .filter_map(|mut sequence| {
            let old = before.iter().find(|old| old.label == sequence.label);
            sequence.altered = old.is_none_or(|old| !same(old, &sequence));
            (sequence.altered || old.is_none_or(|old| (old.value, old.called) != (sequence.value, sequence.called)))
                .then_some(sequence)
        })
        .collect())
}

fn at_mark(transaction: &mut Transaction<'_>, schema: &str, window: &Window, mark: i64) -> Result<Vec<Sequence>> {
    let s = escape_identifier(schema);
    let rows = transaction.query(
        &format!(
            "select was.rel, was.type::text, was.value, was.called, was.start, was.increment, was.max, was.min, was.cache, was.cycle
               from {s}.emaj_mark_sequence m
              cross join unnest(m.seq_rel, m.seq_type, m.seq_last_value, m.seq_is_called, m.seq_start, m.seq_increment, m.seq_max, m.seq_min, m.seq_cache, m.seq_cycle)
                 as was(rel, type, value, called, start, increment, max, min, cache, cycle)
              where m.seq_mark = $1"
        ),
        &[&mark],
    )?;
    let mut found = Vec::new();
    for sequence in &window.sequences {
        if let Some(row) = rows.iter().find(|row| row.get::<_, i64>(0) == sequence.relation) {
            found.push(state(sequence.name.to_string(), row, 1));
        }
    }
    Ok(found)
}

fn now(transaction: &mut Transaction<'_>, window: &Window) -> Result<Vec<Sequence>> {
    let mut found = Vec::new();
    for sequence in &window.sequences {
        let label = sequence.name.to_string();
        let row = transaction
            .query_one(
                &format!(
                    "select s.seqtypid::pg_catalog.regtype::text, q.last_value, q.is_called, s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache, s.seqcycle
                       from {label} as q, pg_catalog.pg_sequence as s where s.seqrelid = $1"
                ),
                &[&sequence.oid],
            )
            .map_err(|error| {
                pg::classify(error, &format!("read sequence `{label}`"))
                    .hint("you need `select` on the sequences; with `--to MARK` their states are those of the mark, and no right is needed")
            })?;
        found.push(state(label, &row, 0));
    }
    Ok(found)
}

fn state(label: String, row: &postgres::Row, at: usize) -> Sequence {
    Sequence {
        label,
        kind: row.get(at),
        value: row.get(at + 1),
        called: row.get(at + 2),
        start: row.get(at + 3),
        increment: row.get(at + 4),
        max: row.get(at + 5),
        min: row.get(at + 6),
        cache: row.get(at + 7),
        cycle: row.get(at + 8),
        altered: false,
    }
}
