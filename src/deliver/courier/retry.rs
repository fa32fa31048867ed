//! Tries again what is set aside and due, each queue in its order.

use super::Courier;
use crate::deliver::lanes::Fate;
use crate::deliver::set_aside::{merged, read, state_after};
use crate::deliver::stream::Placed;
use crate::errors::{Error, Kind, Result};
use crate::fail_at::passing;
use crate::journal::{self, Failure, FailureState};
use crate::sink::{Fault, Outcome, Verdict};

/// What became of a change that was tried again.
enum Tried {
    /// It arrived, or there is nothing to be done about it any more.
    Arrived,
    Refused(Fault),
    /// The place is down, and this courier was told to stop.
    Interrupted,
}

/// One step on the way out of a queue: a change, or what several of them amount to.
struct Step {
    /// Its binding.
    at: usize,
    change: Placed,
    ids: Vec<i64>,
    attempts: i32,
}

impl Courier<'_> {
    /// Tries again what is due, each queue in its order. `false`: there was nothing.
    pub(super) fn retry_due(&mut self) -> Result<bool> {
        let due = journal::due(&mut *self.keeper, &self.orders.schema, &self.orders.sink.name.value)?;
        for queue in &due {
            if self.orders.stop.is_set() || !self.retry_queue(queue)? {
                return Ok(true);
            }
        }
        self.read_parked()?;
        self.parked_mark.clear();
        Ok(!due.is_empty())
    }

    /// Tries a queue from its front to the first change that is refused. `false`: told to stop before.
    fn retry_queue(&mut self, queue: &str) -> Result<bool> {
        let schema = self.orders.schema.as_str();
        let waiting = journal::queue(&mut *self.keeper, schema, &self.orders.sink.name.value, queue)?;
        for step in self.steps(&waiting)? {
            match self.try_again(step.at, &step.change)? {
                Tried::Arrived => {
                    passing("retry.delivered");
                    journal::arrived(&mut *self.keeper, schema, &step.ids)?;
                    passing("retry.noted");
                }
                Tried::Refused(fault) => {
                    let (state, retry_in) = state_after(&fault, step.attempts);
                    journal::failed_again(&mut *self.keeper, schema, step.ids[0], state, &fault.reason, retry_in)?;
                    break;
                }
                Tried::Interrupted => return Ok(false),
            }
        }
        Ok(true)
    }

    /// What is to be done about a queue, in order: of a binding that keeps a state, what waits of a row is one step.
    fn steps(&mut self, waiting: &[Failure]) -> Result<Vec<Step>> {
        let mut steps: Vec<Step> = Vec::with_capacity(waiting.len());
        let mut nobodys = Vec::new();
        for failure in waiting {
            let Some(at) = self.bound.iter().position(|bound| *bound.name == *failure.binding) else {
                nobodys.push(failure.id);
                continue;
            };
            let Some(change) = read(&failure.change, self.bound[at].table) else {
                let reason = "what is on record of it cannot be read";
                let state = FailureState::Never;
                journal::failed_again(&mut *self.keeper, &self.orders.schema, failure.id, state, reason, None)?;
                break;
            };
            steps.push(Step {
                at,
                change,
                ids: vec![failure.id],
                attempts: failure.attempts,
            });
        }
        if !nobodys.is_empty() {
            // Their binding is gone: nobody wants them any more.
            journal::arrived(&mut *self.keeper, &self.orders.schema, &nobodys)?;
        }
        let Some(bound) = steps.first().map(|step| &self.bound[step.at]) else {
            return Ok(steps);
        };
        // (What waits together in a queue is either of one such binding, or messages.)
        if !bound.keeps_state() {
            return Ok(steps);
        }
        let changes: Vec<Placed> = steps.iter().map(|step| step.change.clone()).collect();
        let merged = merged(&changes, |row| bound.key_of(row));
        Ok(merged
            .into_iter()
            .map(|(change, parts)| Step {
                at: steps[0].at,
                change,
                attempts: steps[parts[0]].attempts,
                ids: parts.iter().map(|part| steps[*part].ids[0]).collect(),
            })
            .collect())
    }

    /// Tries one change again.
    fn try_again(&mut self, at: usize, placed: &Placed) -> Result<Tried> {
        let keyed = match self.render(at, placed) {
            Err(fault) if fault.verdict == Verdict::Down => {
                return Err(Error::message(Kind::Unreachable, fault.reason));
            }
            Err(fault) => return Ok(Tried::Refused(fault)),
            Ok(None) => return Ok(Tried::Arrived),
            Ok(Some(keyed)) => keyed,
        };
        loop {
            let Some(place) = &mut self.place.lanes else {
                if !self.open()? {
                    return Ok(Tried::Interrupted);
                }
                continue;
            };
            let (fates, down) = place.deliver(std::slice::from_ref(&keyed), &self.orders.stop);
            if let Some(fault) = down {
                self.is_down(&fault, true)?;
                continue;
            }
            if fates.contains(&Fate::NotTried) {
                return Ok(Tried::Interrupted);
            }
            if let Some(Fate::Done(Outcome::Failed(fault))) = fates.into_iter().next() {
                return Ok(Tried::Refused(fault));
            }
            self.orders.status.update(self.name(), |status| status.written += 1);
            return Ok(Tried::Arrived);
        }
    }
}
