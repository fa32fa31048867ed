//! What is set aside, as far as a courier has to know it: what must not overtake something that waits, waits behind it.
//!
//! What waits stands in queues. Which queue a change belongs to follows from its keys alone (of its row, of its message), in this chunk
//! as in one of next week: the keys are on record with what was set aside.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use super::Courier;
use super::one_key::OneKeys;
use super::rounds::REST;
use crate::deliver::binding::every_row_of;
use crate::deliver::digest::digest;
use crate::deliver::render::keys_of;
use crate::deliver::set_aside::record;
use crate::deliver::stream::Placed;
use crate::errors::Result;
use crate::journal::{self, FailureState, SetAside};
use crate::sink::Fault;

/// The queues, by the keys of what waits in them.
#[derive(Debug, Clone, Default)]
pub(super) struct Parked(HashMap<String, String>);

impl Parked {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether something waits that has one of `keys`.
    pub(super) fn holds(&self, keys: &[String]) -> bool {
        self.queues(keys).next().is_some()
    }

    /// The queues that hold something that has one of `keys`; several when it waits for several things.
    fn queues(&self, keys: &[String]) -> impl Iterator<Item = &String> {
        let every = keys.iter().filter_map(|key| every_row_of(key));
        let all = keys.iter().map(String::as_str).chain(every);
        all.filter_map(|key| self.0.get(key))
    }

    /// Puts what has `keys` behind all that it has to wait for. Returns its queue and those that became part of it; nothing when it
    /// has to wait for nothing.
    pub(super) fn park(&mut self, keys: &[String]) -> Option<(String, Vec<String>)> {
        let queues: BTreeSet<String> = self.queues(keys).cloned().collect();
        let mut queues = queues.into_iter();
        let queue = queues.next()?;
        let joined: Vec<String> = queues.collect();
        if !joined.is_empty() {
            self.0
                .values_mut()
                .filter(|known| joined.contains(known))
                .for_each(|known| known.clone_from(&queue));
        }
        self.begin(&queue, keys);
        Some((queue, joined))
    }

    /// Puts what has `keys` into a queue.
    pub(super) fn begin(&mut self, queue: &str, keys: &[String]) {
        self.0.extend(keys.iter().map(|key| (key.clone(), queue.to_owned())));
    }
}

/// What was on record when it was read last.
pub(super) struct Mark {
    text: String,
    /// It is not asked for again before.
    good_until: Instant,
}

/// A change that is to be set aside.
pub(super) struct Aside {
    /// Its numbers in the chunk and among the bindings.
    pub number: usize,
    pub at: usize,
    pub keys: Vec<String>,
    /// Why; nothing when it waits for another one.
    pub fault: Option<Fault>,
}

/// Changes as they are put on record, and queues that became one: `(this, part of that)`.
#[derive(Default)]
pub(super) struct Settled {
    pub changes: Vec<SetAside>,
    pub joined: Vec<(String, String)>,
}

impl Settled {
    /// Adds what was settled after it.
    pub(super) fn add(&mut self, later: &Settled) {
        for (part, queue) in &later.joined {
            self.join(part, queue);
        }
        self.changes.extend_from_slice(&later.changes);
    }

    /// Notes that a queue became a part of another one.
    fn join(&mut self, part: &str, queue: &str) {
        for change in self.changes.iter_mut().filter(|change| change.queue == part) {
            queue.clone_into(&mut change.queue);
        }
        self.joined.push((part.to_owned(), queue.to_owned()));
    }
}

impl Courier<'_> {
    /// Reads what is set aside anew where that has changed on record: somebody has discarded some of it, perhaps. Nobody but this courier sets aside, so
    /// while nothing is, nobody is asked. Where much is, asking takes long; until it is asked again, what has the keys of something that is gone
    /// waits, and is tried then.
    pub(super) fn reload_parked(&mut self) -> Result<()> {
        let is_known = |mark: &Mark| self.parked.is_empty() || Instant::now() < mark.good_until;
        if self.parked_mark.as_ref().is_some_and(is_known) {
            return Ok(());
        }
        let began = Instant::now();
        let (keeper, name) = (&mut *self.sessions.keeper, &self.orders.sink.name.value);
        let text = journal::mark_of_waiting(keeper, &self.orders.schema, name)?;
        if self.parked_mark.as_ref().is_none_or(|mark| mark.text != text) {
            self.read_parked()?;
        }
        let good_until = Instant::now() + began.elapsed() * REST;
        self.parked_mark = Some(Mark { text, good_until });
        Ok(())
    }

    /// Reads what is set aside.
    fn read_parked(&mut self) -> Result<()> {
        let name = self.name().to_owned();
        let waiting = journal::waiting(&mut *self.sessions.keeper, &self.orders.schema, &name)?;
        self.orders
            .status
            .update(&name, |status| status.set_aside = waiting.len() as u64);
        self.parked = Parked::default();
        let (mut is_forgotten, mut known) = (false, BTreeSet::new());
        for change in &waiting {
            let is_first = known.insert(&change.queue);
            is_forgotten |= is_first && change.state == FailureState::Behind;
            self.parked.begin(&change.queue, &change.keys);
        }
        if is_forgotten {
            // What it waited for arrived, or was discarded, while it was being set aside.
            journal::promote(&mut *self.sessions.keeper, &self.orders.schema)?;
        }
        Ok(())
    }

    /// The keys of a change: what has one of them must not overtake it. `one` is known of it.
    pub(super) fn keys_of(&self, at: usize, placed: &Placed, one: &OneKeys) -> Vec<String> {
        let bound = &self.fed.bound[at];
        keys_of(bound, placed, &self.orders.source, one.of(bound.table))
    }

    /// Settles what waits for what in the order of the changes, whatever was refused first.
    pub(super) fn settle(&mut self, mut aside: Vec<Aside>, chunk: &[Placed]) -> Settled {
        aside.sort_by_key(|aside| (aside.number, aside.at));
        let mut settled = Settled {
            changes: Vec::with_capacity(aside.len()),
            joined: Vec::new(),
        };
        for Aside {
            number,
            at,
            keys,
            fault,
        } in aside
        {
            let (placed, bound) = (&chunk[number], &self.fed.bound[at]);
            let (source, binding) = (&self.fed.sources.tables[bound.table], &*bound.name);
            let (queue, fault) = match self.parked.park(&keys) {
                Some((queue, joined)) => {
                    joined.iter().for_each(|part| settled.join(part, &queue));
                    (queue, None)
                }
                None => {
                    // A name of its own: a queue that began with this key may be there still, for what came behind it.
                    let queue = digest(&format!("{binding} {} {}", placed.change.key, placed.offset.0));
                    self.parked.begin(&queue, &keys);
                    let fault =
                        fault.unwrap_or_else(|| Fault::later("an earlier change of the same row was set aside"));
                    (queue, Some(fault))
                }
            };
            let kept = |fault: Fault| Fault {
                reason: self.fed.sources.texts.kept(&fault.reason).into_owned(),
                ..fault
            };
            let fault = fault.map(kept);
            settled
                .changes
                .push(record(placed, source, binding, queue, keys, fault.as_ref()));
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_waits_for_two_makes_one_queue_of_them() {
        let mut parked = Parked::default();
        assert_eq!(parked.park(&keys("row1 messageA")), None);
        parked.begin("one", &keys("row1 messageA"));
        assert_eq!(parked.park(&keys("row2 messageB")), None);
        parked.begin("two", &keys("row2 messageB"));
        assert_eq!(
            parked.park(&keys("row3 messageA")),
            Some(("one".to_owned(), Vec::new()))
        );
        assert_eq!(
            parked.park(&keys("row3 messageB")),
            Some(("one".to_owned(), vec!["two".to_owned()]))
        );
        assert_eq!(
            parked.park(&keys("row2 messageC")),
            Some(("one".to_owned(), Vec::new()))
        );
        assert_eq!(parked.park(&keys("row4 messageD")), None);
    }

    #[test]
    fn what_may_be_any_row_holds_all_of_its_binding() {
        let mut parked = Parked::default();
        parked.begin("one", &keys("row\u{1f}b\u{1f}[1] row\u{1f}b\u{1f}"));
        assert_eq!(parked.park(&keys("row\u{1f}c\u{1f}[1]")), None);
        let behind = Some(("one".to_owned(), Vec::new()));
        assert_eq!(parked.park(&keys("row\u{1f}b\u{1f}[2]")), behind);
    }
}
