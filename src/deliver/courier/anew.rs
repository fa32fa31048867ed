//! Tells rows anew whose values went with an entry that comes again: they are delivered when it has arrived, and how far the chunk has come is on record
//! behind them. Before, what rows gave to entries that became other rows' is taken away there.

use super::Courier;
use super::hand_over::Made;
use crate::deliver::ask::{Asker, unasked};
use crate::deliver::binding::{self, Bound, Come, GivenAnew, LeftBehind};
use crate::deliver::change::Change;
use crate::deliver::render::keyed;
use crate::deliver::row::Row;
use crate::deliver::stream::Placed;
use crate::errors::Result;
use crate::sink::Fault;
use crate::sink::ldap::folded;

impl Courier<'_> {
    /// Delivers what other rows give to entries that came; `like` is the last of the changes by which they did, `last` the last one that is delivered of the window
    /// that is under way, if one is. `false`: told to stop before.
    pub(super) fn deliver_anew(&mut self, come: &Come, like: &Placed, last: Option<&Change>) -> Result<bool> {
        if come.is_empty() {
            return Ok(true);
        }
        let left = self.of_each("refer to an entry that was another row's", |bound, asker| {
            bound.left_behind(come, last, asker)
        })?;
        let referring = self.of_each("refer to an entry that came", |bound, asker| {
            bound.referring(come, last, asker)
        })?;
        let mut anew = GivenAnew::default();
        for (at, rows) in &referring {
            self.fed.bound[*at].note_anew(rows, come, &mut anew);
        }
        for (at, left) in left {
            let left = left.into_iter().filter_map(|left| anew.spares(left)).collect();
            let (made, rows) = self.made_to_go(at, left, like)?;
            if !self.hand_over(made, &rows, None)? {
                return Ok(false);
            }
        }
        for (at, rows) in referring {
            let rows: Vec<Placed> = rows.into_iter().map(|row| self.placed(at, row, like)).collect();
            let made = self.made_anew(at, &rows)?;
            if !self.hand_over(made, &rows, None)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the deliveries that take away what rows of a binding left behind, and the rows.
    fn made_to_go(&mut self, at: usize, left: Vec<LeftBehind>, like: &Placed) -> Result<(Made, Vec<Placed>)> {
        let (mut rows, mut gone) = (Vec::new(), Vec::new());
        for LeftBehind { row, dn, action } in left {
            rows.push(self.placed(at, row, like));
            gone.push((dn, action));
        }
        let one = self.one_keys(&rows)?;
        let mut work = Vec::with_capacity(rows.len());
        for ((number, placed), (dn, action)) in rows.iter().enumerate().zip(gone) {
            let made = binding::Made {
                event: None,
                action,
                keys: self.keys_of(at, placed, &one),
                entries: vec![folded(&dn)],
                behind: Vec::new(),
            };
            work.push((
                number,
                at,
                keyed(&self.fed.bound[at], placed, &self.orders.source, made),
            ));
        }
        let made = Made {
            keyed: work,
            aside: Vec::new(),
            one,
        };
        Ok((made, rows))
    }

    /// Renders what a binding makes of rows as they are now. What of a row waits comes with that.
    fn made_anew(&mut self, at: usize, rows: &[Placed]) -> Result<Made> {
        let mut made = self.make(rows, Some(at))?;
        made.aside.retain(|aside| aside.fault.is_some());
        Ok(made)
    }

    /// A row as it is told beside the changes of the log, at the place of `like`.
    fn placed(&self, at: usize, row: Row, like: &Placed) -> Placed {
        let bound = &self.fed.bound[at];
        Placed {
            offset: like.offset.clone(),
            relation: i64::from(self.fed.sources.tables[bound.table].oid),
            replay: None,
            change: Change {
                table: bound.table,
                key: bound.key_of(&row).into(),
                old: None,
                new: Some(row),
                is_init: true,
                ..like.change.clone()
            },
        }
    }

    /// Looks up which rows of each binding `do_so`, where there are any.
    fn of_each<T>(
        &mut self,
        do_so: &str,
        look: impl Fn(&Bound, &mut Asker<'_>) -> std::result::Result<Vec<T>, Fault>,
    ) -> Result<Vec<(usize, Vec<T>)>> {
        let mut all = Vec::new();
        for (at, bound) in self.fed.bound.iter().enumerate() {
            let mut asker = Asker::new(
                &mut self.sessions.asker,
                &self.orders.renderer,
                &self.fed.sources,
                Some(self.progress.passed()),
            );
            match look(bound, &mut asker) {
                Ok(rows) if rows.is_empty() => {}
                Ok(rows) => all.push((at, rows)),
                Err(fault) => {
                    let what = format!("which rows of binding `{}` {do_so} is not known", bound.name);
                    return Err(unasked(fault).context(what));
                }
            }
        }
        Ok(all)
    }
}
