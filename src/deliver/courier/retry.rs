//! Tries again what is set aside and due, each key in its order.

use std::collections::HashSet;

use jiff::Timestamp;

use super::Courier;
use crate::deliver::lanes::Fate;
use crate::deliver::set_aside::{merged, read, state_after};
use crate::deliver::stream::Placed;
use crate::errors::{Error, Kind, Result};
use crate::fail_at::passing;
use crate::journal::{self, FailureFilter};
use crate::sink::{Fault, Outcome, Verdict};

/// What became of a change that was tried again.
pub(super) enum Tried {
    /// It arrived, or there is nothing to be done about it any more.
    Arrived,
    Refused(Fault),
    /// The place is down, and this courier was told to stop.
    Interrupted,
}

impl Courier<'_> {
    /// Tries again what is due, each key in its order. `false`: there was nothing.
    pub(super) fn retry_due(&mut self) -> Result<bool> {
        let (schema, name) = (self.orders.schema.clone(), self.name().to_owned());
        let filter = FailureFilter {
            sink: Some(&name),
            ..FailureFilter::default()
        };
        let waiting = journal::failures(&mut *self.keeper, &schema, &filter)?;
        let now = Timestamp::now();
        let mut tried: HashSet<(String, String)> = HashSet::new();
        for due in waiting
            .iter()
            .filter(|failure| failure.retry.is_some_and(|retry| retry <= now))
        {
            if self.orders.stop.is_set() {
                return Ok(true);
            }
            if !tried.insert((due.binding.clone(), due.key.clone())) {
                continue;
            }
            let Some(at) = self.bound.iter().position(|bound| *bound.name == *due.binding) else {
                // Its binding is gone: nobody wants it any more.
                let all: Vec<i64> = waiting
                    .iter()
                    .filter(|other| other.binding == due.binding)
                    .map(|other| other.id)
                    .collect();
                journal::arrived(&mut *self.keeper, &schema, &all)?;
                continue;
            };
            let all: Vec<&journal::Failure> = waiting
                .iter()
                .filter(|failure| failure.binding == due.binding && failure.key == due.key)
                .collect();
            let table = self.bound[at].table;
            let changes: Vec<(i64, Placed)> = all
                .iter()
                .filter_map(|failure| Some((failure.id, read(&failure.change, table)?)))
                .collect();
            let (ids, placed): (Vec<i64>, Vec<Placed>) = changes.into_iter().unzip();
            let tries: Vec<(Placed, Vec<usize>)> = match self.bound[at].keeps_state() {
                true => merged(&placed, |row| self.bound[at].key_of(row)),
                false => placed
                    .into_iter()
                    .enumerate()
                    .map(|(at, placed)| (placed, vec![at]))
                    .collect(),
            };
            for (placed, parts) in tries {
                let ids: Vec<i64> = parts.iter().map(|part| ids[*part]).collect();
                match self.try_again(at, &placed)? {
                    Tried::Arrived => {
                        passing("retry.delivered");
                        journal::arrived(&mut *self.keeper, &schema, &ids)?;
                        passing("retry.noted");
                    }
                    Tried::Refused(fault) => {
                        let attempts = all.iter().find(|failure| failure.id == ids[0]);
                        let (state, retry_in) = state_after(&fault, attempts.map_or(0, |failure| failure.attempts));
                        journal::failed_again(&mut *self.keeper, &schema, ids[0], state, &fault.reason, retry_in)?;
                        break;
                    }
                    Tried::Interrupted => return Ok(true),
                }
            }
        }
        self.read_parked()?;
        self.parked_mark.clear();
        Ok(!tried.is_empty())
    }

    /// Tries one change again.
    pub(super) fn try_again(&mut self, at: usize, placed: &Placed) -> Result<Tried> {
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
