//! Tells rows anew whose values went with an entry that comes again: they are delivered when it has arrived, and how far the chunk has come is on record
//! behind them.

use super::hand_over::Made;
use super::{Courier, unasked};
use crate::deliver::ask::Asker;
use crate::deliver::binding::Come;
use crate::deliver::change::Change;
use crate::deliver::row::Row;
use crate::deliver::stream::Placed;
use crate::errors::{Error, Kind, Result};
use crate::sink::Verdict;

impl Courier<'_> {
    /// Delivers what other rows give to entries that came; `like` is the last of the changes by which they did, `last` the last one that is delivered of the window
    /// that is under way, if one is. `false`: told to stop before.
    pub(super) fn deliver_anew(&mut self, come: &Come, like: &Placed, last: Option<&Change>) -> Result<bool> {
        for (at, rows) in self.referring(come, like, last)? {
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
    fn referring(&mut self, come: &Come, like: &Placed, last: Option<&Change>) -> Result<Vec<(usize, Vec<Placed>)>> {
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
            let rows = match bound.referring(come, last, &mut asker) {
                Ok(rows) => rows,
                Err(fault) if fault.verdict == Verdict::Down => return Err(unasked(fault)),
                // (Not a lost session: it is put on record what the sink waits for.)
                Err(fault) => {
                    let what = format!("which rows of binding `{}` refer to an entry that came", bound.name);
                    return Err(Error::message(
                        Kind::Failed,
                        format!("{what} is not known: {}", fault.reason),
                    ));
                }
            };
            if rows.is_empty() {
                continue;
            }
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
        Ok(all)
    }
}
