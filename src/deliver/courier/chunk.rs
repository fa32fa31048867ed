//! Makes deliveries of a chunk of changes: what each binding says is to be done, unless it has to wait or deletes too much.

use std::sync::Arc;

use super::Courier;
use super::hand_over::Made;
use super::parked::Aside;
use crate::deliver::ask::{Asker, columns_of};
use crate::deliver::lanes::Keyed;
use crate::deliver::render::render;
use crate::deliver::status::SinkCondition;
use crate::deliver::stream::Placed;
use crate::errors::{Error, Kind, Result};
use crate::manifest::Limit;
use crate::names::QualifiedName;
use crate::sink::{Action, Fault, Offset, Verdict};

impl Courier<'_> {
    /// Delivers a chunk; all of it has arrived or is set aside then. `false`: told to stop before.
    pub(super) fn deliver(&mut self, chunk: &[Placed]) -> Result<bool> {
        self.since_summary += chunk.len();
        let made = self.make(chunk, None)?;
        if let Some(reason) = self.too_many_deletes()? {
            self.cursor.stop(&mut *self.keeper, &reason)?;
            self.condition(SinkCondition::Stopped(reason.clone()));
            if self.orders.until_empty {
                return Err(
                    Error::message(Kind::Refused, format!("sink `{}` is stopped: {reason}", self.name())).hint(
                        format!(
                            "look at what was deleted; `emaj sink resume {}` delivers it all the same",
                            self.name()
                        ),
                    ),
                );
            }
            return Ok(false);
        }
        let last = chunk.last().map(|placed| placed.offset.clone());
        self.hand_over(made, chunk, last.as_ref())
    }

    /// Renders what each binding makes of each change, for all bindings or only one; what cannot be rendered is set aside, and what
    /// waits behind it too.
    pub(super) fn make(&mut self, chunk: &[Placed], only: Option<usize>) -> Result<Made> {
        let (mut keyed, mut aside) = (Vec::with_capacity(chunk.len()), Vec::new());
        let parked = self.parked.clone();
        let present = self.present(chunk)?;
        let mut turn = 0;
        for (number, placed) in chunk.iter().enumerate() {
            // Several changes may have one offset; a delivery has one of its own.
            turn = match number.checked_sub(1).map(|before| &chunk[before].offset) {
                Some(before) if *before == placed.offset => turn + 1,
                _ => 0,
            };
            for at in 0..self.bound.len() {
                let bound = &self.bound[at];
                if bound.table != placed.change.table
                    || only.is_some_and(|only| only != at)
                    || !placed.change.is_init && !bound.since.is_before(placed.change.txid, placed.change.lsn)
                {
                    continue;
                }
                let binding = Arc::clone(&bound.name);
                if !self.parked.is_empty() {
                    let keys = self.keys_of(at, placed);
                    if self.parked.park(&keys).is_some() {
                        aside.push(Aside {
                            number,
                            at,
                            keys,
                            fault: None,
                        });
                        continue;
                    }
                }
                let Some(instead) = present.instead(&self.bound[at], placed) else {
                    continue;
                };
                match self.render(at, &instead) {
                    Ok(Some(mut made)) => {
                        made.delivery.offset = own_offset(&placed.offset, turn, &binding);
                        // (Delivered again, each change of a row that is gone takes it away; it is counted once.)
                        let is_again = instead.change.new.is_none() && placed.change.new.is_some();
                        let is_delete = placed.change.new.is_none() || !is_again && deletes(&made.delivery.action);
                        self.window_deletes[at] += u64::from(is_delete);
                        keyed.push((number, at, made));
                    }
                    Ok(None) => {}
                    Err(fault) if fault.verdict == Verdict::Down => {
                        return Err(Error::message(Kind::Unreachable, fault.reason));
                    }
                    Err(fault) => {
                        tracing::warn!(sink = %self.name(), %binding, "a change is set aside: {:?}", fault.verdict);
                        let keys = self.keys_of(at, placed);
                        // (Settled in the end: a change before it may be refused too.)
                        self.parked.begin("", &keys);
                        aside.push(Aside {
                            number,
                            at,
                            keys,
                            fault: Some(fault),
                        });
                    }
                }
            }
        }
        Ok(Made { keyed, aside, parked })
    }

    pub(super) fn render(&mut self, at: usize, placed: &Placed) -> Result<Option<Keyed>, Fault> {
        let mut asker = Asker {
            session: &mut self.asker,
            renderer: &self.orders.renderer,
            sources: &self.sources,
        };
        render(&self.bound[at], placed, &self.orders.source, &mut asker)
    }

    /// The reason to stop, when a binding would delete more in this window than its `max_deletes`.
    pub(super) fn too_many_deletes(&mut self) -> Result<Option<String>> {
        if self.deletes_allowed {
            return Ok(None);
        }
        for (at, bound) in self.bound.iter().enumerate() {
            let (Some(limit), deletes @ 1..) = (bound.manifest.max_deletes, self.window_deletes[at]) else {
                continue;
            };
            let most = match limit {
                Limit::Rows(rows) => rows,
                Limit::Percent(share) => {
                    let source = &self.sources.tables[bound.table];
                    // By its present name: it may be another one than at the last install.
                    let present = columns_of(&mut self.asker, source.oid, &source.columns)
                        .map_err(|fault| Error::message(Kind::Failed, fault.reason))?;
                    let table = QualifiedName::new(present.table.schema, present.table.name);
                    let sql = format!("select count(*) from {table}");
                    let rows: i64 = self.asker.query_one(&sql, &[])?.get(0);
                    (u64::try_from(rows).unwrap_or(0) + deletes) * u64::from(share) / 100
                }
            };
            if deletes > most {
                return Ok(Some(format!(
                    "binding `{}` would delete {deletes} or more at once, and its `max_deletes` allows {most}",
                    bound.name
                )));
            }
        }
        Ok(None)
    }
}

/// Whether an action takes something away that a person would miss.
fn deletes(action: &Action) -> bool {
    match action {
        Action::Entry(entry) => entry.new.is_none(),
        Action::Row(row) => row.upsert.is_none(),
        _ => false,
    }
}

/// The place of one delivery among those of its group: behind those of earlier changes and of bindings that come before.
pub(super) fn own_offset(group: &Offset, turn: usize, binding: &str) -> Offset {
    Offset(format!("{}/{turn:08x}/{binding}", group.0))
}
