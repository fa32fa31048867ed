//! Tells rows anew whose values went with an entry that comes again: they are delivered when it has arrived, and how far the chunk has come is on record
//! behind them.

use super::hand_over::Made;
use super::{Courier, unasked};
use crate::deliver::ask::Asker;
use crate::deliver::binding::Come;
use crate::deliver::change::Change;
use crate::deliver::row::Row;
use crate::deliver::stream::Placed;
use crate::errors::Result;
use crate::sink::Verdict;

impl Courier<'_> {
    /// Delivers what other rows give to entries that came; `like` is the last of the changes by which they did. `false`: told to stop before.
    pub(super) fn deliver_anew(&mut self, come: &Come, like: &Placed) -> Result<bool> {
        for (at, rows) in self.referring(come, like)? {
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

    /// Looks up which rows refer to entries that came, by binding; their places are that of `like`.
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
