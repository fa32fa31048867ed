//! The guard against mass deletion: a window that would delete more than a binding's `max_deletes` is not begun to be delivered.
//!
//! What a window deletes is counted before anything of it goes: of a short one when its only chunk is made. Of a longer one the log is asked how
//! many it can be at most; only where that is too many it is read once more than it is delivered. A share is one of the rows that are there and of
//! those that go; the table is read only as far as that question needs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use minijinja::context;
use minijinja::value::{Serde, Value};

use super::Courier;
use super::one_key::OneKeys;
use crate::deliver::ask::{unasked, unread};
use crate::deliver::binding::{Bound, Namesakes};
use crate::deliver::status::SinkCondition;
use crate::deliver::stream::{Placed, Window};
use crate::deliver::today::look_at;
use crate::errors::{Error, Kind, Result};
use crate::manifest::Event;
use crate::sink::{Offset, Verdict};
use crate::words::shell;

/// What is known of deletions in the window under way.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// A person lets everything through that is in this window.
    pub is_overruled: bool,
    /// The number of the window that was found to delete no more than it may.
    passed: Option<i64>,
    /// Deletions so far, by binding.
    counts: Vec<u64>,
    /// Rows that are there and fit their binding no more, by binding and key: delivered again, each of their changes takes them away.
    unfit: HashSet<(usize, Arc<str>)>,
}

impl Guard {
    /// Has counted nothing yet.
    pub(super) fn new(is_overruled: bool) -> Self {
        Guard {
            is_overruled,
            ..Guard::default()
        }
    }

    /// Begins to count.
    pub(super) fn begin(&mut self, bindings: usize) {
        self.unfit.clear();
        self.counts.clear();
        self.counts.resize(bindings, 0);
    }

    /// Counts a deletion that waits behind something: where the last state counts, it is tried soon, and nobody counts then.
    pub(super) fn count_waiting(&mut self, at: usize) {
        self.counts[at] += 1;
    }

    /// Counts what a binding makes of a change.
    pub(super) fn count(&mut self, at: usize, placed: &Placed, instead: &Placed, made: Option<Event>) {
        let deletes = made == Some(Event::Delete);
        // (Delivered again, each change of a row that is gone takes it away; it is counted once. So is one that fits no more.)
        let is_delete = match (&placed.change.new, &instead.change.new) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(_), Some(_)) if std::ptr::eq(placed, instead) => deletes,
            _ => deletes && self.unfit.insert((at, Arc::clone(&placed.change.key))),
        };
        self.counts[at] += u64::from(is_delete);
    }
}

impl Courier<'_> {
    /// Counts what a window deletes that is longer than its first chunk. `false`: it may not be delivered, and the sink is stopped; or told
    /// to stop before. The stream is at the end of the first chunk before and after that.
    ///
    /// # Errors
    /// Whatever the server answers; with `until_empty` that the sink is stopped.
    pub(super) fn passes(&mut self, window: &Window, offset: Option<&Offset>, first: &mut Vec<Placed>) -> Result<bool> {
        let is_limited = self.fed.bound.iter().any(|bound| bound.manifest.max_deletes.is_some());
        if !is_limited || self.guard.is_overruled || self.guard.passed == Some(window.number) || self.stream().is_over()
        {
            return Ok(true);
        }
        if self.deletes_few(window)? {
            self.guard.passed = Some(window.number);
            return Ok(true);
        }
        tracing::info!(sink = %self.name(), "reading what is to be delivered once more, to count what it deletes");
        let mut chunk = std::mem::take(first);
        let mut looked = Instant::now();
        while !chunk.is_empty() {
            self.orders.status.beat(&self.orders.sink.name.value, false);
            if looked.elapsed() > Duration::from_secs(1) {
                // Somebody may want the sink meanwhile.
                if self.look()?.is_none() {
                    return Ok(false);
                }
                looked = Instant::now();
            }
            if self.orders.stop.is_set() {
                return Ok(false);
            }
            self.count(&chunk)?;
            chunk = self.stream().next(&self.fed.sources)?;
        }
        if !self.check_deletes()? {
            return Ok(false);
        }
        self.guard.passed = Some(window.number);
        self.stream().read(window.clone(), offset.cloned());
        *first = self.stream().next(&self.fed.sources)?;
        Ok(true)
    }

    /// Tells whether a window cannot delete more than it may, whatever its changes come to. Delivered again they may delete what no log says.
    fn deletes_few(&mut self, window: &Window) -> Result<bool> {
        if window.replay.is_some() {
            return Ok(false);
        }
        let limited = |bound: &&Bound| bound.manifest.max_deletes.is_some();
        let mut every = HashMap::new();
        for bound in self.fed.bound.iter().filter(limited) {
            *every.entry(bound.table).or_default() |= bound.manifest.when.is_some();
        }
        let most = self.stream().deletes_at_most(&self.fed.sources, window, &every)?;
        for (count, bound) in self.guard.counts.iter_mut().zip(&self.fed.bound) {
            *count = most.get(&bound.table).copied().unwrap_or(0);
        }
        let too_many = self.too_many_deletes()?;
        self.guard.begin(self.fed.bound.len());
        Ok(too_many.is_none())
    }

    /// Counts the deletions of a chunk that is not delivered yet.
    fn count(&mut self, chunk: &[Placed]) -> Result<()> {
        let present = self.present(chunk)?;
        // (Keys matter to what waits only.)
        let one = match self.parked.is_empty() {
            true => OneKeys::default(),
            false => self.one_keys(chunk)?,
        };
        for placed in chunk {
            for at in 0..self.fed.bound.len() {
                let bound = &self.fed.bound[at];
                let may_delete = placed.change.new.is_none() || bound.manifest.when.is_some();
                if bound.manifest.max_deletes.is_none() || !bound.is_about(&placed.change) || !may_delete {
                    continue;
                }
                // What waits behind something is not delivered with this window; but where the last state counts, it is tried soon, and
                // nobody counts then.
                if !bound.keeps_state() && !self.parked.is_empty() && self.parked.holds(&self.keys_of(at, placed, &one))
                {
                    continue;
                }
                let Some(instead) = present.instead(&self.fed.bound[at], placed) else {
                    continue;
                };
                // (Who has an entry next changes nothing of what goes.)
                match self.render(at, &instead, &one, Some(&Namesakes::NoMatter)) {
                    Ok(Some(made)) => self.guard.count(at, placed, &instead, made.delivery.event),
                    Err(fault) if fault.verdict == Verdict::Down => {
                        return Err(unasked(fault));
                    }
                    // What cannot be rendered is set aside when its turn comes.
                    Ok(None) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Tells whether no binding deletes more than its `max_deletes`, as far as it is counted; stops the sink when one does.
    ///
    /// # Errors
    /// Whatever the server answers; with `until_empty` that the sink is stopped.
    pub(super) fn check_deletes(&mut self) -> Result<bool> {
        let Some(reason) = self.too_many_deletes()? else {
            return Ok(true);
        };
        if !self.progress.cursor.stop(&mut *self.sessions.keeper, &reason)? {
            // (The next look says what became of it.)
            return Ok(false);
        }
        self.condition(SinkCondition::Stopped(reason.clone()));
        if self.orders.until_empty {
            let name = self.name();
            return Err(
                Error::message(Kind::Refused, format!("sink `{name}` is stopped: {reason}")).hint(format!(
                    "look at what was deleted; `emaj sink resume {}` delivers it all the same",
                    shell(name)
                )),
            );
        }
        Ok(false)
    }

    /// The reason to stop, when a binding deletes more than its `max_deletes`.
    fn too_many_deletes(&mut self) -> Result<Option<String>> {
        if self.guard.is_overruled || self.guard.passed == Some(self.progress.window_number) {
            return Ok(None);
        }
        for at in 0..self.fed.bound.len() {
            let (Some(limit), deletes @ 1..) = (self.fed.bound[at].manifest.max_deletes, self.guard.counts[at]) else {
                continue;
            };
            let rows = match limit.rows_for(deletes) {
                0 => 0,
                enough => self.rows_left(self.fed.bound[at].table, enough.saturating_sub(deletes))? + deletes,
            };
            let most = limit.of(rows);
            if deletes > most {
                return Ok(Some(format!(
                    "binding `{}` would delete {deletes} at once, and its `max_deletes` allows {most}",
                    self.fed.bound[at].name
                )));
            }
        }
        Ok(None)
    }

    /// How many rows a table has, but no more than `most`.
    fn rows_left(&mut self, table: usize, most: u64) -> Result<u64> {
        let source = &self.fed.sources.tables[table];
        // By its present name: it may be another one than at the last install.
        let today = look_at(&mut self.sessions.asker, &self.orders.renderer, source).map_err(unasked)?;
        let sql = self.orders.renderer.render_value(
            "stream/count",
            context! { table => Value::from(Serde(&today.table)), most => i64::try_from(most).unwrap_or(i64::MAX) },
        )?;
        let row = self.sessions.asker.query_one(&sql, &[]);
        let row = row.map_err(|error| unasked(unread(&mut self.sessions.asker, &error, source)))?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }
}
