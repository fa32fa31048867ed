//! What is delivered again: a place that keeps a state gets each row as it is now, and never as it was in between.
//!
//! Each change of the replay is delivered in its order, with the state before it as it was, and the present state in place of the one
//! after it. So whichever of the old states a place has, it is recognised and made the present one; no old one is ever written.
//! Where rows got other keys in the window, changes are delivered as they were, because it cannot be said of a key which row it was. The window ends where
//! the deliveries had come to: what changed since comes behind it, for the first time, and finds the place as it left it. So the present state is that
//! of this end, and so is who has a name.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use minijinja::context;
use minijinja::value::{Serde, Value};

use super::Courier;
use crate::deliver::ask::{Asker, Passed, not_now};
use crate::deliver::binding::{Ask, Awaited, Bound, Later};
use crate::deliver::row::Row;
use crate::deliver::sources::SourceTable;
use crate::deliver::stream::Placed;
use crate::deliver::today::look_at;
use crate::errors::Result;
use crate::journal::Position;
use crate::pg::Session;
use crate::render::Renderer;
use crate::sink::{Fault, Verdict, of_source};

/// The rows of a chunk as they were at the end of what was delivered before, by table and key; of those tables only whose changes are delivered again in this way.
#[derive(Debug, Default)]
pub(super) struct Present {
    tables: HashMap<usize, HashMap<String, Row>>,
}

impl Present {
    /// The rows of a table.
    pub(super) fn rows(&self, table: usize) -> impl Iterator<Item = &Row> {
        self.tables.get(&table).into_iter().flat_map(HashMap::values)
    }

    /// What is delivered of a change; `None`: nothing, because there was no row before, and is none in the end.
    pub(super) fn instead<'a>(&self, bound: &Bound, placed: &'a Placed) -> Option<Cow<'a, Placed>> {
        let Some(rows) = self.tables.get(&placed.change.table) else {
            return Some(Cow::Borrowed(placed));
        };
        // (A row that cannot be read is found by no key, and is set aside as it was.)
        let rows_of_it = [&placed.change.old, &placed.change.new].into_iter().flatten();
        let is_unreadable = rows_of_it.into_iter().any(Row::is_unreadable);
        if is_unreadable || !bound.keeps_state() || placed.replay.is_none() {
            return Some(Cow::Borrowed(placed));
        }
        let mut changed = placed.clone();
        changed.change.new = rows.get(&*placed.change.key).cloned();
        (changed.change.old.is_some() || changed.change.new.is_some()).then_some(Cow::Owned(changed))
    }
}

impl Courier<'_> {
    /// Everything before `position` is delivered.
    pub(super) fn reached_position(&mut self, position: Position) {
        if let Some(replay) = &self.progress.replay
            && position.snapshot.covers(&replay.snapshot)
        {
            self.progress.replay = None;
        }
        self.progress.from = position;
    }

    /// Looks up how the rows of a chunk are, where it is delivered again to a place that keeps a state.
    pub(super) fn present(&mut self, chunk: &[Placed]) -> Result<Present> {
        let Some(end) = self.progress.replay.clone() else {
            return Ok(Present::default());
        };
        let mut tables = HashMap::new();
        let states: HashSet<usize> = self
            .fed
            .bound
            .iter()
            .filter(|bound| bound.keeps_state())
            .map(|bound| bound.table)
            .collect();
        for table in states {
            let keys: HashSet<&str> = chunk
                .iter()
                .filter(|placed| placed.change.table == table && placed.replay.is_some())
                .map(|placed| &*placed.change.key)
                .collect();
            if keys.is_empty() || self.stream().is_rekeyed(table) {
                continue;
            }
            let keys: Vec<&str> = keys.into_iter().collect();
            match self.rows_at(&end, table, &keys) {
                Ok(rows) => _ = tables.insert(table, rows),
                Err(fault) if fault.verdict == Verdict::Never => {
                    tracing::warn!(sink = %self.name(), "changes are delivered again as they were: {}", fault.reason);
                }
                Err(fault) => return Err(not_now(fault)),
            }
        }
        Ok(Present { tables })
    }

    /// Looks up how the rows that have `keys` were at a position: as they are, but for those that have changed since.
    fn rows_at(&mut self, position: &Position, table: usize, keys: &[&str]) -> Result<HashMap<String, Row>, Fault> {
        let mut asker = Asker::new(
            &mut self.sessions.asker,
            &self.orders.renderer,
            &self.fed.sources,
            Some(Passed {
                from: position,
                place: None,
            }),
        );
        // The table and the log are read in one snapshot.
        asker
            .session
            .batch_execute("begin isolation level repeatable read read only")
            .map_err(|error| of_source(&error, "begin to look up the rows"))?;
        let source = &self.fed.sources.tables[table];
        let read = rows(asker.session, &self.orders.renderer, source, keys).and_then(|rows| {
            let awaited = |key: &&str| Awaited {
                key: (*key).to_owned(),
                behind: String::new(),
                position: 0,
            };
            let awaited: Vec<Awaited> = keys.iter().map(awaited).collect();
            Ok((rows, asker.later(table, &awaited)?))
        });
        asker
            .session
            .batch_execute("commit")
            .map_err(|error| of_source(&error, "end looking up the rows"))?;
        let (mut rows, later) = read?;
        for (key, later) in keys.iter().zip(later) {
            match later {
                None => {}
                // It came since.
                Some(Later { is_new: true, .. }) => _ = rows.remove(*key),
                Some(Later { row, .. }) => _ = rows.insert((*key).to_owned(), row),
            }
        }
        Ok(rows)
    }
}

/// Reads the rows that have `keys`.
fn rows(
    session: &mut Session,
    renderer: &Renderer,
    source: &SourceTable,
    keys: &[&str],
) -> Result<HashMap<String, Row>, Fault> {
    let today = look_at(session, renderer, source)?;
    let sql = renderer
        .render_value(
            "stream/present",
            context! {
                table => Value::from(Serde(&today.table)),
                columns => Value::from(Serde(&today.columns)),
                key => Value::from(Serde(today.key())),
                raw => source.texts.are_raw(),
            },
        )
        .map_err(Fault::never)?;
    let rows = session
        .query(&sql, &[&keys])
        .map_err(|error| of_source(&error, "look up the rows"))?;
    Ok(rows
        .iter()
        .map(|row| {
            (
                source.texts.text(row, 0).0.into_owned(),
                Row::read(row, 1, &source.texts),
            )
        })
        .collect())
}
