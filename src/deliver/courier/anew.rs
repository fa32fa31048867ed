//! Tells rows anew whose values went with an entry that comes again: they are delivered behind it, and are on record with it.

use super::hand_over::Made;
use super::parked::Aside;
use super::{Courier, unasked};
use crate::deliver::ask::Asker;
use crate::deliver::binding::Come;
use crate::deliver::change::Change;
use crate::deliver::row::Row;
use crate::deliver::stream::Placed;
use crate::errors::Result;
use crate::sink::Verdict;

impl Courier<'_> {
    /// Adds to what bindings made of a chunk what other rows give to the entries that come with it. Returns the chunk with these rows behind it; `None`: there
    /// are none.
    pub(super) fn add_anew(&mut self, made: &mut Made, chunk: &[Placed]) -> Result<Option<Vec<Placed>>> {
        let mut come = Come::default();
        for (number, _, keyed) in &made.keyed {
            come.note(&keyed.delivery, chunk[*number].change.position);
        }
        let Some(last) = chunk.last().filter(|_| !come.is_empty()) else {
            return Ok(None);
        };
        let mut whole = Vec::new();
        for (at, rows) in self.referring(&come, last)? {
            let more = self.made_anew(at, &rows)?;
            if whole.is_empty() {
                whole = chunk.to_vec();
            }
            let behind = whole.len();
            made.keyed.extend(
                more.keyed
                    .into_iter()
                    .map(|(number, at, keyed)| (behind + number, at, keyed)),
            );
            made.aside.extend(more.aside.into_iter().map(|aside| Aside {
                number: behind + aside.number,
                ..aside
            }));
            whole.extend(rows);
        }
        Ok((!whole.is_empty()).then_some(whole))
    }

    /// Delivers what other rows give to an entry that came when `change` was tried again. `false`: told to stop before.
    pub(super) fn deliver_anew(&mut self, come: &Come, change: &Placed) -> Result<bool> {
        for (at, rows) in self.referring(come, change)? {
            let made = self.made_anew(at, &rows)?;
            if !self.hand_over(made, &rows, None)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Renders what a binding makes of rows as they are now. What of a row waits comes with that.
    fn made_anew(&mut self, at: usize, rows: &[Placed]) -> Result<Made> {
        let mut made = self.make(rows, Some(at))?;
        made.aside.retain(|aside| aside.fault.is_some());
        Ok(made)
    }

    /// Looks up which rows refer to entries that come, by binding; their places are that of `like`.
    fn referring(&mut self, come: &Come, like: &Placed) -> Result<Vec<(usize, Vec<Placed>)>> {
        let mut all = Vec::new();
        if come.is_empty() {
            return Ok(all);
        }
        for (at, bound) in self.fed.bound.iter().enumerate() {
            let mut asker = Asker::new(
                &mut self.sessions.asker,
                &self.orders.renderer,
                &self.fed.sources,
                Some(self.progress.passed()),
            );
            match bound.referring(come, &mut asker) {
                Ok(rows) if rows.is_empty() => {}
                Ok(rows) => {
                    let relation = i64::from(self.fed.sources.tables[bound.table].oid);
                    let placed = |row: Row| Placed {
                        offset: like.offset.clone(),
                        relation,
                        replay: None,
                        change: Change {
                            table: bound.table,
                            key: bound.key_of(&row).into(),
                            old: None,
                            new: Some(row),
                            is_init: true,
                            ..like.change.clone()
                        },
                    };
                    all.push((at, rows.into_iter().map(placed).collect()));
                }
                Err(fault) if fault.verdict == Verdict::Down => return Err(unasked(fault)),
                Err(fault) => {
                    tracing::warn!(
                        sink = %self.name(), binding = %bound.name,
                        "what its rows give to entries that come again is not known: {}; `emaj init --binding {}` sends them", fault.reason, bound.name
                    );
                }
            }
        }
        Ok(all)
    }
}
