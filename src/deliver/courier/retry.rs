//! Tries again what is set aside and due, each queue in its order.
//!
//! Of a binding that keeps a state, what waits of a row is tried as one step. That it is being tried is on record before: if the worker
//! ends before the outcome is, the same step is repeated as it was, and what came later is a step of its own behind it.
//! (An entry that was made and a deletion that came meanwhile would amount to nothing, and the entry would stay.)
//! Where a place takes rows in sets, what was refused alone is tried together too: rows may need each other.

use std::collections::BTreeSet;

use super::claim::holds;
use super::{Courier, unasked};
use crate::deliver::binding::{Bound, Come};
use crate::deliver::lanes::{Fate, Keyed, Silence};
use crate::deliver::row::Row;
use crate::deliver::set_aside::{merged, read, state_after};
use crate::deliver::stream::Placed;
use crate::errors::Result;
use crate::fail_at::passing;
use crate::journal::{self, Failure, FailureState};
use crate::sink::{Fault, Outcome, Verdict};

/// What became of a change that was tried again.
enum Tried {
    /// It arrived, or there is nothing to be done about it any more.
    Arrived,
    /// The place refused it: nothing of it is there.
    Refused(Fault),
    /// It could not even be rendered.
    NotMade(Fault),
    /// Some of it is there.
    Partly(Fault),
    /// The place is down, and this courier was told to stop.
    Interrupted,
}

/// One step on the way out of a queue: a change, or what several of them amount to.
struct Step {
    /// Its binding.
    at: usize,
    change: Placed,
    /// From where what the row had made may have been taken along meanwhile, with an entry that another row has renamed: the rows as they were between,
    /// and what they are to be.
    along: Vec<Placed>,
    ids: Vec<i64>,
    /// It was being tried when a worker ended: it may be there.
    begun: bool,
}

/// What became of a queue that was tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    /// Nothing of it waits any more, or a person has to look at it.
    Settled,
    /// Its first change was refused, and is tried again.
    Waits,
    Interrupted,
}

/// How many queues that are not due are tried together with those that are: trying them all each time would be much work where much waits.
const BESIDE: i64 = 100;

impl Courier<'_> {
    /// Tries again what is due, each queue in its order. `false`: there was nothing.
    pub(super) fn retry_due(&mut self) -> Result<bool> {
        let due = journal::due(
            &mut *self.sessions.keeper,
            &self.orders.schema,
            &self.orders.sink.name.value,
        )?;
        let mut waits = Vec::new();
        for queue in &due {
            if self.orders.stop.is_set() {
                return Ok(true);
            }
            match self.retry_queue(queue)? {
                Queue::Settled => {}
                Queue::Waits => waits.push(queue.clone()),
                Queue::Interrupted => return Ok(true),
            }
        }
        // (What refuses rows one by one and keeps no order of its own does not check them together.)
        if !waits.is_empty() && !self.orders.opener.refuses() {
            self.retry_together(&waits)?;
        }
        self.read_parked()?;
        self.parked_mark.clear();
        Ok(!due.is_empty())
    }

    /// Tries together the first steps of queues that were tried alone and have to wait, and of others.
    fn retry_together(&mut self, queues: &[String]) -> Result<()> {
        let (schema, name) = (self.orders.schema.as_str(), self.orders.sink.name.value.as_str());
        let queues = journal::tried_again(&mut *self.sessions.keeper, schema, name, queues, BESIDE)?;
        if queues.len() < 2 {
            return Ok(());
        }
        let (mut ids, mut keyed) = (Vec::new(), Vec::new());
        for queue in &queues {
            let waiting = journal::queue(&mut *self.sessions.keeper, schema, name, queue)?;
            let first = self.steps(&waiting)?.into_iter().next();
            let Some(step) = first.filter(|step| self.fed.bound[step.at].keeps_state()) else {
                continue;
            };
            match self.render_again(step.at, &step.change) {
                Err(fault) if fault.verdict == Verdict::Down => return Err(unasked(fault)),
                // Tried alone, it is settled.
                Err(_) | Ok(None) => {}
                Ok(Some(made)) => {
                    ids.push(step.ids);
                    keyed.push(made);
                }
            }
        }
        journal::begun(&mut *self.sessions.keeper, schema, &ids.concat())?;
        let Some(fates) = self.send(&keyed)? else {
            return Ok(());
        };
        passing("retry.delivered");
        let (mut arrived, mut left) = (Vec::new(), Vec::new());
        for (ids, fate) in ids.into_iter().zip(fates) {
            match fate {
                Fate::Done(Outcome::Written | Outcome::Unchanged) => arrived.push(ids),
                _ => left.push(ids),
            }
        }
        self.orders
            .status
            .update(self.name(), |status| status.written += arrived.len() as u64);
        journal::arrived(&mut *self.sessions.keeper, &self.orders.schema, &arrived.concat())?;
        journal::not_begun(&mut *self.sessions.keeper, &self.orders.schema, &left.concat())
    }

    /// Tries a queue from its front to the first change that is refused.
    fn retry_queue(&mut self, queue: &str) -> Result<Queue> {
        let schema = self.orders.schema.as_str();
        let waiting = journal::queue(&mut *self.sessions.keeper, schema, &self.orders.sink.name.value, queue)?;
        let steps = self.steps(&waiting)?;
        let mut left: BTreeSet<i64> = steps.iter().flat_map(|step| step.ids.iter().copied()).collect();
        for step in steps {
            let (fault, begun) = match self.try_step(&step)? {
                Tried::Interrupted => return Ok(Queue::Interrupted),
                Tried::Arrived => {
                    passing("retry.delivered");
                    journal::arrived(&mut *self.sessions.keeper, schema, &step.ids)?;
                    passing("retry.noted");
                    step.ids.iter().for_each(|id| _ = left.remove(id));
                    continue;
                }
                Tried::Refused(fault) => (fault, false),
                Tried::NotMade(fault) => (fault, step.begun),
                Tried::Partly(fault) => (fault, true),
            };
            // The front of the queue stands for all of it.
            let front = left
                .first()
                .and_then(|id| waiting.iter().find(|failure| failure.id == *id));
            let Some(first) = front else { break };
            let (state, retry_in) = state_after(&fault, first.attempts);
            journal::failed_again(
                &mut *self.sessions.keeper,
                schema,
                first.id,
                state,
                &self.fed.sources.texts.kept(&fault.reason),
                retry_in,
            )?;
            if !begun && self.fed.bound[step.at].keeps_state() {
                journal::not_begun(&mut *self.sessions.keeper, schema, &step.ids)?;
                if step.begun {
                    // With what came later it may be acceptable.
                    return self.retry_queue(queue);
                }
            }
            return Ok(match state {
                FailureState::Later => Queue::Waits,
                _ => Queue::Settled,
            });
        }
        Ok(Queue::Settled)
    }

    /// What is to be done about a queue, in order: of a binding that keeps a state, what waits of a row is one step.
    fn steps(&mut self, waiting: &[Failure]) -> Result<Vec<Step>> {
        let mut steps: Vec<Step> = Vec::with_capacity(waiting.len());
        let mut nobodys = Vec::new();
        for failure in waiting {
            let Some(at) = self.fed.bound.iter().position(|bound| *bound.name == *failure.binding) else {
                nobodys.push(failure.id);
                continue;
            };
            let table = self.fed.bound[at].table;
            let Some(change) = read(&failure.change, table, &self.fed.sources.tables[table]) else {
                if failure.id == waiting[0].id {
                    let (state, reason) = (FailureState::Never, "what is on record of it cannot be read");
                    journal::failed_again(
                        &mut *self.sessions.keeper,
                        &self.orders.schema,
                        failure.id,
                        state,
                        reason,
                        None,
                    )?;
                }
                break;
            };
            steps.push(Step {
                at,
                change,
                along: Vec::new(),
                ids: vec![failure.id],
                begun: failure.begun,
            });
        }
        if !nobodys.is_empty() {
            // Their binding is gone: nobody wants them any more.
            journal::arrived(&mut *self.sessions.keeper, &self.orders.schema, &nobodys)?;
        }
        let Some(bound) = steps.first().map(|step| &self.fed.bound[step.at]) else {
            return Ok(steps);
        };
        // (What waits together in a queue is either of one such binding, or messages.)
        if !bound.keeps_state() {
            return Ok(steps);
        }
        // What was begun is repeated as it was.
        let (begun, rest): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(|step| step.begun);
        let mut merged = amounts(bound, &begun);
        merged.extend(amounts(bound, &rest));
        Ok(merged)
    }

    /// Tries one step again.
    fn try_step(&mut self, step: &Step) -> Result<Tried> {
        let tried = self.try_again(step, &step.change)?;
        if !matches!(tried, Tried::Arrived) {
            return Ok(tried);
        }
        for change in &step.along {
            match self.try_again(step, change)? {
                Tried::Refused(fault) | Tried::NotMade(fault) => return Ok(Tried::Partly(fault)),
                Tried::Arrived => {}
                other => return Ok(other),
            }
        }
        Ok(Tried::Arrived)
    }

    /// Tries a change of a step again.
    fn try_again(&mut self, step: &Step, change: &Placed) -> Result<Tried> {
        let keyed = match self.render_again(step.at, change) {
            Err(fault) if fault.verdict == Verdict::Down => {
                return Err(unasked(fault));
            }
            Err(fault) => return Ok(Tried::NotMade(fault)),
            Ok(None) => return Ok(Tried::Arrived),
            Ok(Some(keyed)) => keyed,
        };
        if !step.begun && self.fed.bound[step.at].keeps_state() {
            journal::begun(&mut *self.sessions.keeper, &self.orders.schema, &step.ids)?;
            passing("retry.begun");
        }
        let Some(fates) = self.send(std::slice::from_ref(&keyed))? else {
            return Ok(Tried::Interrupted);
        };
        if let Some(Fate::Done(Outcome::Failed(fault))) = fates.into_iter().next() {
            return Ok(Tried::Refused(fault));
        }
        self.orders.status.update(self.name(), |status| status.written += 1);
        let mut come = Come::default();
        come.note(&keyed.delivery, change.change.position);
        Ok(match self.deliver_anew(&come, change)? {
            true => Tried::Arrived,
            false => Tried::Interrupted,
        })
    }

    fn render_again(&mut self, at: usize, change: &Placed) -> Result<Option<Keyed>, Fault> {
        let mut made = self.render(at, change, None)?;
        if let Some(made) = &mut made {
            made.delivery.retried = true;
        }
        Ok(made)
    }

    /// Gives deliveries to the place, over and over until it is not down. `None`: told to stop before.
    fn send(&mut self, keyed: &[Keyed]) -> Result<Option<Vec<Fate>>> {
        loop {
            let Some(lanes) = &mut self.place.lanes else {
                if !self.open()? {
                    return Ok(None);
                }
                continue;
            };
            // One that gets no answer is set aside already: of the place it says nothing.
            let mut silence = Silence::default();
            let (keeper, stop) = (&mut self.sessions.keeper, &self.orders.stop);
            let (fates, down) = lanes.deliver(keyed, &mut silence, stop, &mut || holds(keeper))?;
            if down.is_none() && silence == Silence::default() {
                self.place.silence = silence;
            }
            if let Some(fault) = down {
                self.is_down(&fault, true)?;
                continue;
            }
            return Ok((!fates.contains(&Fate::NotTried)).then_some(fates));
        }
    }
}

/// What several changes of a binding that keeps a state amount to: one step for each row.
fn amounts(bound: &Bound, steps: &[Step]) -> Vec<Step> {
    let changes: Vec<Placed> = steps.iter().map(|step| step.change.clone()).collect();
    merged(&changes, |row| bound.key_of(row))
        .into_iter()
        .map(|(change, parts)| Step {
            at: steps[parts[0]].at,
            along: along(bound, &change, parts.iter().map(|part| &changes[*part])),
            change,
            ids: parts.iter().map(|part| steps[*part].ids[0]).collect(),
            begun: steps[parts[0]].begun,
        })
        .collect()
}

/// Returns, of the changes that `whole` amounts to, those before which what the row had made at first may have been taken along, with what it is to be now.
fn along<'a>(bound: &Bound, whole: &Placed, parts: impl Iterator<Item = &'a Placed>) -> Vec<Placed> {
    let Some(first) = &whole.change.old else {
        return Vec::new();
    };
    let mut all: Vec<Placed> = Vec::new();
    for part in parts {
        let is_new = |row: &Row| all.iter().all(|known| known.change.old.as_ref() != Some(row));
        let Some(old) = part.change.old.as_ref().filter(|old| is_new(old)) else {
            continue;
        };
        if bound.may_be_taken_along(first, old) {
            let mut placed = part.clone();
            placed.change.new.clone_from(&whole.change.new);
            placed.change.key.clone_from(&whole.change.key);
            all.push(placed);
        }
    }
    all
}
