//! Hands deliveries to the place until all have arrived or are set aside, and puts on record what became of them.

use std::time::Instant;

use jiff::Timestamp;
use postgres::IsolationLevel;

use super::Courier;
use super::claim::look;
use super::one_key::OneKeys;
use super::parked::{Aside, Parked, Settled};
use crate::deliver::binding::Come;
use crate::deliver::lanes::{Fate, Keyed};
use crate::deliver::stream::{Placed, window_number_of};
use crate::errors::Result;
use crate::fail_at::passing;
use crate::journal;
use crate::sink::{Fault, Offset, Outcome};

/// What the log says of a row that is set aside, by the delivery's id; its key has values of the row, and stands in the list with the reason.
pub(super) const ASIDE: &str =
    "a row is set aside: `emaj failures list` says why, `emaj failures retry --all` has it tried again";

/// A delivery, with the numbers of its change in the chunk and of its binding.
pub(super) type Work = (usize, usize, Keyed);

/// What bindings made of a chunk: deliveries, and what is set aside (each with the numbers of its change and its binding).
pub(super) struct Made {
    pub keyed: Vec<Work>,
    pub aside: Vec<Aside>,
    /// Which keys of it are one.
    pub one: OneKeys,
}

/// What is to be done next about a chunk.
#[derive(Default)]
struct Turn {
    /// What is put on record as set aside, before the place gets anything.
    note: Vec<Aside>,
    /// What the place is given now.
    now: Vec<Work>,
    /// What it is not given before all of `aside` is on record.
    later: Vec<Work>,
    /// What is put on record afterwards.
    aside: Vec<Aside>,
}

/// What has become of a chunk so far.
struct Course {
    /// What is set aside and not on record.
    aside: Vec<Aside>,
    /// What came that rows of others refer to.
    come: Come,
    /// Whether nothing was refused: beyond what it refused, a place need not have put a position on record.
    is_whole: bool,
}

impl Courier<'_> {
    /// Hands deliveries to the place until all have arrived or are set aside, and puts that on record. `false`: told to stop before.
    pub(super) fn hand_over(&mut self, made: Made, chunk: &[Placed], offset: Option<&Offset>) -> Result<bool> {
        let Made {
            keyed: mut work,
            aside,
            one,
        } = made;
        // What was put on record of this chunk.
        let mut noted = Parked::default();
        let mut course = Course {
            aside,
            come: Come::default(),
            is_whole: true,
        };
        loop {
            self.leave_out_what_is_there(&mut work);
            if work.is_empty() {
                break;
            }
            let turn = self.next_turn(work, course.aside, &noted, chunk, &one);
            (work, course.aside) = (turn.now, turn.aside);
            let mut rest = turn.later;
            if !turn.note.is_empty() {
                turn.note.iter().for_each(|aside| noted.begin("", &aside.keys));
                let first = [&work, &rest].into_iter().flatten().map(|work| work.0);
                let first = first.chain(course.aside.iter().map(|aside| aside.number)).min();
                self.note_before(turn.note, first, chunk, offset)?;
            }
            if work.is_empty() {
                continue;
            }
            let Some(lanes) = &mut self.place.lanes else {
                if !self.open()? {
                    return Ok(false);
                }
                work.extend(rest);
                continue;
            };
            let (numbers, keyed): (Vec<(usize, usize)>, Vec<Keyed>) = work
                .into_iter()
                .map(|(number, at, keyed)| ((number, at), keyed))
                .unzip();
            self.orders.status.beat(&self.orders.sink.name.value, true);
            let (orders, keeper, cursor) = (self.orders, &mut self.sessions.keeper, &self.progress.cursor);
            let mut may_go_on = || look(orders, keeper, cursor).map(|look| look.is_some());
            let delivered = lanes.deliver(&keyed, &mut self.place.silence, &orders.stop, &mut may_go_on);
            let is_over = orders.stop.is_set() || !lanes.may_go_on();
            self.orders.status.beat(&self.orders.sink.name.value, false);
            let (fates, down) = delivered?;
            self.place.reached = Instant::now();
            let tried = numbers.into_iter().zip(keyed);
            let tried = tried.map(|((number, at), keyed)| (number, at, keyed)).zip(fates);
            let mut left = self.judge(tried, chunk, &one, &mut course);
            left.append(&mut rest);
            work = left;
            if down.is_none() && !work.is_empty() && is_over {
                // (What entries took along is told at the end of a chunk: then it comes again from its start, as after a fault.)
                // (Rows that were there before come again from the start of their part, and what is set aside of them with them.)
                if course.come.is_empty() && offset.is_some() {
                    let first = work.iter().map(|work| work.0).min();
                    let mut aside = course.aside;
                    aside.retain(|aside| first.is_some_and(|first| aside.number < first));
                    self.note_before(aside, first, chunk, offset)?;
                }
                return Ok(false);
            }
            if down.is_none() {
                self.is_up()?;
            }
            if let Some(fault) = down {
                self.is_down(&fault, true)?;
                if !work.is_empty() && !self.open()? {
                    // What has arrived or is set aside comes again from the start of the chunk: the same ids, once more. What is set
                    // aside must be on record only once.
                    return Ok(false);
                }
            }
        }
        passing("chunk.delivered");
        let Course { aside, come, .. } = course;
        let settled = self.settle(aside, chunk);
        match chunk.last().filter(|_| !come.is_empty()) {
            None => self.note(&settled, offset)?,
            Some(last) => {
                // All of it comes on record with how far the chunk has come: else that would come again, and what has arrived of a row would wait behind what was refused of it.
                self.deferred = Some(settled);
                let is_told = self.deliver_anew(&come, last, Some(&last.change));
                let settled = self.deferred.take().unwrap_or_default();
                if !is_told? {
                    self.parked_mark = None;
                    return Ok(false);
                }
                self.note(&settled, offset)?;
            }
        }
        passing("chunk.noted");
        Ok(true)
    }

    /// Goes through what became of deliveries that the place was given. Returns those that it was not given after all.
    fn judge(
        &mut self,
        tried: impl Iterator<Item = (Work, Fate)>,
        chunk: &[Placed],
        one: &OneKeys,
        course: &mut Course,
    ) -> Vec<Work> {
        let mut left = Vec::new();
        let (mut written, mut unchanged, mut refused) = (0, 0, 0);
        let mut is_tried = true;
        for ((number, at, keyed), fate) in tried {
            course.is_whole &= !matches!(fate, Fate::Done(Outcome::Failed(_)) | Fate::Behind);
            is_tried &= fate != Fate::NotTried;
            if keyed.is_tie && matches!(fate, Fate::Done(_)) {
                continue;
            }
            if course.is_whole && is_tried {
                self.place.has(&keyed.delivery.offset);
            }
            if let Fate::Done(Outcome::Written | Outcome::Unchanged) = fate {
                course.come.note(&keyed.delivery, &chunk[number].change);
            }
            match fate {
                Fate::Done(Outcome::Written) => written += 1,
                Fate::Done(Outcome::Unchanged) => unchanged += 1,
                // A place that keeps the order itself refuses what comes behind a refused change of a row: that one waits for it.
                Fate::Done(Outcome::Failed(fault)) => {
                    refused += 1;
                    let (sink, binding) = (self.name(), &self.fed.bound[at].name);
                    tracing::warn!(%sink, %binding, id = %keyed.delivery.id, "{ASIDE}");
                    course.aside.push(self.aside(number, at, chunk, one, fault));
                }
                // Behind a message with the same key it waits; behind a row that wants the same entry it is tried by itself.
                Fate::Behind => {
                    let fault = Fault::later("an earlier change with the same key was refused");
                    course.aside.push(self.aside(number, at, chunk, one, fault));
                }
                Fate::NotTried => left.push((number, at, keyed)),
            }
        }
        let delay = chunk.last().map_or(0.0, |placed| {
            (Timestamp::now() - placed.change.time)
                .total(jiff::Unit::Second)
                .unwrap_or(0.0)
        });
        self.orders.status.update(self.name(), |status| {
            status.written += written;
            status.unchanged += unchanged;
            status.refused += refused;
            if written + unchanged > 0 {
                status.delay = delay;
            }
        });
        left
    }

    /// Leaves out what the place knows to have: that is not sent again.
    fn leave_out_what_is_there(&self, work: &mut Vec<Work>) {
        work.retain(|(_, _, keyed)| !self.is_there(&keyed.delivery.offset));
    }

    /// Tells whether the place knows to have what has this offset. If it was set aside instead, that is on record.
    pub(super) fn is_there(&self, offset: &Offset) -> bool {
        let resume = self.place.resume.as_ref();
        resume.is_some_and(|resume| {
            window_number_of(resume) == Some(self.progress.window_number) && resume.covers(offset)
        })
    }

    /// Sorts what is left of a chunk, so that nothing of a row overtakes what is set aside of it, on record (`noted`) or not.
    ///
    /// A place that keeps the position itself goes beyond what is set aside: that is on record before. What stands behind a change of
    /// its row that is still to go is not, it would be tried again before that one; it waits until that one has gone, and so does all behind it. How far the
    /// chunk has come is on record with it then: what has arrived does not come again, and behind what came later of its row.
    fn next_turn(
        &self,
        work: Vec<Work>,
        mut aside: Vec<Aside>,
        noted: &Parked,
        chunk: &[Placed],
        one: &OneKeys,
    ) -> Turn {
        let mut turn = Turn::default();
        if aside.is_empty() && noted.is_empty() {
            turn.now = work;
            return turn;
        }
        let keeps_position = !self.opener.refuses();
        aside.sort_by_key(|aside| (aside.number, aside.at));
        let (mut aside, mut behind, mut to_go) = (aside.into_iter().peekable(), noted.clone(), Parked::default());
        let mut work = work.into_iter().peekable();
        loop {
            let next = work.peek().map(|(number, at, _)| (*number, *at));
            let waits = match aside.next_if(|aside| next.is_none_or(|next| (aside.number, aside.at) < next)) {
                Some(waits) => waits,
                None => {
                    let Some((number, at, keyed)) = work.next() else { break };
                    let keys = self.keys_of(at, &chunk[number], one);
                    if !behind.holds(&keys) && !behind.holds(&keyed.behind) {
                        to_go.begin("", &keys);
                        match turn.aside.is_empty() || !keeps_position {
                            true => turn.now.push((number, at, keyed)),
                            false => turn.later.push((number, at, keyed)),
                        }
                        continue;
                    }
                    let fault = None;
                    Aside {
                        number,
                        at,
                        keys,
                        fault,
                    }
                }
            };
            behind.begin("", &waits.keys);
            if keeps_position && !to_go.holds(&waits.keys) {
                turn.note.push(waits);
            } else {
                to_go.begin("", &waits.keys);
                turn.aside.push(waits);
            }
        }
        turn
    }

    fn aside(&self, number: usize, at: usize, chunk: &[Placed], one: &OneKeys, fault: Fault) -> Aside {
        Aside {
            number,
            at,
            keys: self.keys_of(at, &chunk[number], one),
            fault: Some(fault),
        }
    }

    /// Puts on record what is set aside, and that all before the change `first` of a chunk has arrived or is set aside.
    fn note_before(
        &mut self,
        aside: Vec<Aside>,
        first: Option<usize>,
        chunk: &[Placed],
        offset: Option<&Offset>,
    ) -> Result<()> {
        let settled = self.settle(aside, chunk);
        let upto = first.filter(|_| offset.is_some()).and_then(|first| upto(chunk, first));
        self.note(&settled, upto)?;
        if let (Some(upto), Some((_, at))) = (upto, &mut self.progress.unfinished) {
            *at = Some(upto.clone());
        }
        Ok(())
    }

    /// Puts what is set aside and the offset on record, in one transaction.
    fn note(&mut self, settled: &Settled, offset: Option<&Offset>) -> Result<()> {
        if let Some(deferred) = &mut self.deferred {
            deferred.add(settled);
            return Ok(());
        }
        let Settled { changes, joined } = settled;
        let (schema, name) = (self.orders.schema.as_str(), self.orders.sink.name.value.as_str());
        let there = self.place.there.as_ref().map(|there| there.0.as_str());
        if changes.is_empty() {
            return match offset {
                Some(offset) => (self.progress.cursor).advance(&mut *self.sessions.keeper, &offset.0, there),
                None => Ok(()),
            };
        }
        let transaction = self.sessions.keeper.build_transaction();
        let mut transaction = transaction.isolation_level(IsolationLevel::ReadCommitted).start()?;
        for (queue, into) in joined {
            journal::join(&mut transaction, schema, name, queue, into)?;
        }
        journal::set_aside(&mut transaction, schema, name, changes)?;
        for (_, into) in joined {
            journal::one_front(&mut transaction, schema, name, into)?;
        }
        if let Some(offset) = offset {
            self.progress.cursor.advance(&mut transaction, &offset.0, there)?;
        }
        passing("aside.written");
        transaction.commit()?;
        passing("aside.noted");
        // A later change may be what makes an earlier one acceptable.
        let keeps_state = |binding: &str| {
            let mut all = self.fed.bound.iter();
            all.any(|bound| *bound.name == *binding && bound.keeps_state())
        };
        let mut queues: Vec<&str> = changes
            .iter()
            .filter(|change| change.reason.is_none() && keeps_state(&change.binding))
            .map(|change| change.queue.as_str())
            .collect();
        queues.sort_unstable();
        queues.dedup();
        match queues.is_empty() {
            true => Ok(()),
            false => journal::retry_queues(&mut *self.sessions.keeper, schema, name, &queues),
        }
    }
}

/// Returns the offset of all that comes before a change of a chunk. (Several changes may have one; they come again together.)
fn upto(chunk: &[Placed], number: usize) -> Option<&Offset> {
    let mut before = chunk[..number].iter().rev().map(|placed| &placed.offset);
    before.find(|offset| **offset != chunk[number].offset)
}
