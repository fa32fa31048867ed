//! What is delivered again: a place that keeps a state gets each row as it is now, and never as it was in between.
//!
//! Each change of the replay is delivered in its order, with the state before it as it was, and the present state in place of the one
//! after it. So whichever of the old states a place has, it is recognised and made the present one; no old one is ever written.
//! Where rows got other keys meanwhile, changes are delivered as they were, because it cannot be said of a key which row it was.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use minijinja::context;
use minijinja::value::{Serde, Value};

use super::{Courier, unasked};
use crate::deliver::ask::fault;
use crate::deliver::binding::Bound;
use crate::deliver::row::Row;
use crate::deliver::sources::SourceTable;
use crate::deliver::stream::Placed;
use crate::deliver::today::look_at;
use crate::errors::Result;
use crate::journal::Position;
use crate::pg::Session;
use crate::render::Renderer;
use crate::sink::{Fault, Verdict};

/// The rows of a chunk as they are now, by table and key; of those tables only whose changes are delivered again in this way.
#[derive(Debug, Default)]
pub(super) struct Present {
    tables: HashMap<usize, HashMap<String, Row>>,
}

impl Present {
    /// What is delivered of a change; `None`: nothing, because there was no row before, and is none now.
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
            && position.snapshot.covers(replay)
        {
            self.progress.replay = None;
        }
        self.progress.from = position;
    }

    /// Looks up how the rows of a chunk are now, where it is delivered again to a place that keeps a state.
    pub(super) fn present(&mut self, chunk: &[Placed]) -> Result<Present> {
        if self.progress.replay.is_none() {
            return Ok(Present::default());
        }
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
            match rows(
                &mut self.sessions.asker,
                &self.orders.renderer,
                &self.fed.sources.tables[table],
                &keys,
            ) {
                Ok(rows) => _ = tables.insert(table, rows),
                Err(fault) if fault.verdict == Verdict::Never => {
                    tracing::warn!(sink = %self.name(), "changes are delivered again as they were: {}", fault.reason);
                }
                Err(fault) => return Err(unasked(fault)),
            }
        }
        Ok(Present { tables })
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
        .map_err(|error| fault(&error, "look up the rows"))?;
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
