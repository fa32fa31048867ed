//! Makes deliveries of a chunk of changes: what each binding says is to be done, unless it has to wait or deletes too much.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::Courier;
use super::hand_over::{ASIDE, Made, Work};
use super::one_key::OneKeys;
use super::parked::{Aside, Parked};
use super::replay::Present;
use crate::deliver::ask::{Asker, unasked};
use crate::deliver::binding::{Bound, Found, GivenUp, Namesakes, its_row_waits};
use crate::deliver::lanes::Keyed;
use crate::deliver::render::{id_of, render, tie};
use crate::deliver::stream::Placed;
use crate::errors::Result;
use crate::sink::{Fault, Offset, Verdict};

impl Courier<'_> {
    /// Delivers a chunk; all of it has arrived or is set aside then. `false`: told to stop before.
    pub(super) fn deliver(&mut self, chunk: &[Placed]) -> Result<bool> {
        self.since_summary += chunk.len();
        let made = self.make(chunk, None)?;
        if !self.check_deletes()? {
            return Ok(false);
        }
        let last = chunk.last().map(|placed| &placed.offset);
        self.hand_over(made, chunk, last)
    }

    /// Renders what each binding makes of each change, for all bindings or only one; what cannot be rendered is set aside, and what
    /// waits behind it too.
    pub(super) fn make(&mut self, chunk: &[Placed], only: Option<usize>) -> Result<Made> {
        let (mut keyed, mut aside) = (Vec::with_capacity(chunk.len()), Vec::new());
        // What waits of this chunk. (Where it belongs is settled in the end: a change before it may be refused too.)
        let mut here = Parked::default();
        let one = self.one_keys(chunk)?;
        let present = self.present(chunk)?;
        let namesakes = self.namesakes(chunk, &present, only)?;
        let (mut turn, mut before) = (0, Before::default());
        for (number, placed) in chunk.iter().enumerate() {
            // Several changes may have one offset; a delivery has one of its own.
            turn = match number.checked_sub(1).map(|before| &chunk[before].offset) {
                Some(before) if *before == placed.offset => turn + 1,
                _ => 0,
            };
            for at in 0..self.fed.bound.len() {
                let bound = &self.fed.bound[at];
                if !bound.is_about(&placed.change) || only.is_some_and(|only| only != at) {
                    continue;
                }
                let binding = Arc::clone(&bound.name);
                if !self.parked.is_empty() || !here.is_empty() {
                    let keys = self.keys_of(at, placed, &one);
                    if self.parked.holds(&keys) || here.holds(&keys) {
                        here.begin("", &keys);
                        if bound.keeps_state() && placed.change.new.is_none() {
                            self.guard.count_waiting(at);
                        }
                        if self.is_there(&own_offset(&placed.offset, turn, &binding)) {
                            continue;
                        }
                        aside.push(Aside {
                            number,
                            at,
                            keys,
                            fault: None,
                        });
                        continue;
                    }
                }
                let Some(instead) = present.instead(&self.fed.bound[at], placed) else {
                    continue;
                };
                let waits_for = match self.parked.is_empty() && here.is_empty() {
                    true => Vec::new(),
                    false => self.fed.bound[at].waits_for(&instead.change, &self.fed.bound),
                };
                let made = match self.parked.holds(&waits_for) || here.holds(&waits_for) {
                    true => {
                        if self.fed.bound[at].keeps_state() && placed.change.new.is_none() {
                            self.guard.count_waiting(at);
                        }
                        Err(its_row_waits())
                    }
                    false => self.render(at, &instead, &one, Some(&namesakes)),
                };
                match made {
                    Ok(Some(mut made)) => {
                        made.delivery.offset = own_offset(&placed.offset, turn, &binding);
                        self.guard.count(at, placed, &instead, made.delivery.event);
                        keyed.push((number, at, made));
                    }
                    Ok(None) if self.fed.bound[at].gets_another_key(&placed.change) => {
                        let bound = &self.fed.bound[at];
                        let mut tie = tie(bound, placed, &self.orders.source, one.of(bound.table));
                        // (What is set aside already was looked at above.)
                        if before.have_one_of(&tie.keys, &keyed) {
                            tie.delivery.offset = own_offset(&placed.offset, turn, &binding);
                            keyed.push((number, at, tie));
                        }
                    }
                    Ok(None) => {}
                    Err(fault) if fault.verdict == Verdict::Down => {
                        return Err(unasked(fault));
                    }
                    Err(_) if self.is_there(&own_offset(&placed.offset, turn, &binding)) => {}
                    Err(fault) => {
                        let id = id_of(&self.fed.bound[at], placed, &self.orders.source);
                        tracing::warn!(sink = %self.name(), %binding, %id, "{ASIDE}");
                        let keys = self.keys_of(at, placed, &one);
                        here.begin("", &keys);
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
        Ok(Made { keyed, aside, one })
    }

    /// Looks up who else has the entries, and the keys in other tables, that rows of a chunk give up, also by other bindings, for all of them at once. What cannot be asked is asked again for each of them.
    fn namesakes(&mut self, chunk: &[Placed], present: &Present, only: Option<usize>) -> Result<Namesakes> {
        let mut namesakes = Namesakes::Known(HashMap::new());
        for at in 0..self.fed.bound.len() {
            let bound = &self.fed.bound[at];
            let changes_hands = bound.names_change_hands();
            let mut beside = bound.beside(&self.fed.bound).peekable();
            if !changes_hands && beside.peek().is_none() || only.is_some_and(|only| only != at) {
                continue;
            }
            let about = chunk.iter().filter(|placed| bound.is_about(&placed.change));
            let changes: Vec<_> = about.filter_map(|placed| present.instead(bound, placed)).collect();
            let mut names = GivenUp::default();
            for placed in &changes {
                bound.gives_up(&placed.change, &mut names);
            }
            if names.is_empty() {
                continue;
            }
            let mut asker = Asker::new(
                &mut self.sessions.asker,
                &self.orders.renderer,
                &self.fed.sources,
                Some(self.progress.passed()),
            );
            let mut found = Vec::new();
            if changes_hands {
                found.push((bound, bound.namesakes(&names, present.rows(bound.table), &mut asker)));
            }
            found.extend(beside.map(|other| (other, other.rows_named(names.names(), &mut asker))));
            for (bound, rows) in found {
                add(&mut namesakes, bound, rows)?;
            }
        }
        self.rows_meant(chunk, present, only, &mut namesakes)?;
        Ok(namesakes)
    }

    /// Looks up the rows by which changes of a chunk name entries of other bindings.
    fn rows_meant(
        &mut self,
        chunk: &[Placed],
        present: &Present,
        only: Option<usize>,
        namesakes: &mut Namesakes,
    ) -> Result<()> {
        for maker in &self.fed.bound {
            let mut keys = BTreeMap::new();
            for (at, bound) in self.fed.bound.iter().enumerate() {
                if only.is_some_and(|only| only != at) || !bound.names_entries_of(maker) {
                    continue;
                }
                let about = chunk.iter().filter(|placed| bound.is_about(&placed.change));
                for placed in about.filter_map(|placed| present.instead(bound, placed)) {
                    bound.names_rows(maker, &placed.change, &mut keys);
                }
            }
            if keys.is_empty() {
                continue;
            }
            let mut asker = Asker::new(
                &mut self.sessions.asker,
                &self.orders.renderer,
                &self.fed.sources,
                Some(self.progress.passed()),
            );
            add(namesakes, maker, maker.rows_of_keys(keys, &mut asker))?;
        }
        Ok(())
    }

    /// Renders what a binding makes of a change. `one` is known of its keys, `namesakes` of the names that rows give up; `None`: it is asked.
    pub(super) fn render(
        &mut self,
        at: usize,
        placed: &Placed,
        one: &OneKeys,
        namesakes: Option<&Namesakes>,
    ) -> Result<Option<Keyed>, Fault> {
        let mut asker = Asker {
            session: &mut self.sessions.asker,
            renderer: &self.orders.renderer,
            sources: &self.fed.sources,
            passed: Some(self.progress.passed()),
            namesakes,
        };
        let bound = &self.fed.bound;
        let one = one.of(bound[at].table);
        render(&bound[at], placed, &self.orders.source, &mut asker, bound, one)
    }
}

/// Adds what was found, unless the database does not answer. What cannot be asked otherwise, each of the changes says.
fn add(namesakes: &mut Namesakes, bound: &Bound, found: std::result::Result<Found, Fault>) -> Result<()> {
    match found {
        Ok(found) => namesakes.add(bound, found),
        Err(fault) if fault.verdict == Verdict::Down => return Err(unasked(fault)),
        Err(_) => {}
    }
    Ok(())
}

/// The keys of what was made of a chunk so far, gathered when they are asked for.
#[derive(Default)]
struct Before {
    keys: HashSet<String>,
    gathered: usize,
}

impl Before {
    fn have_one_of(&mut self, keys: &[String], made: &[Work]) -> bool {
        let new = made[self.gathered..].iter().flat_map(|(.., keyed)| &keyed.keys);
        self.keys.extend(new.cloned());
        self.gathered = made.len();
        keys.iter().any(|key| self.keys.contains(key))
    }
}

/// The offset of one delivery among those of its group: behind those of earlier changes and of bindings that come before.
pub(super) fn own_offset(group: &Offset, turn: usize, binding: &str) -> Offset {
    Offset(format!("{}/{turn:08x}/{binding}", group.0))
}
