//! Hands deliveries to the place until all have arrived or are set aside, and puts on record what became of them.

use std::time::Instant;

use jiff::Timestamp;

use super::Courier;
use super::parked::Parked;
use crate::deliver::lanes::{Fate, Keyed};
use crate::deliver::stream::{Placed, window_of};
use crate::errors::Result;
use crate::fail_at::passing;
use crate::journal::{self, FailureFilter, SetAside};
use crate::sink::{Fault, Offset, Outcome};

/// A delivery, with the numbers of its change in the chunk and of its binding.
pub(super) type Work = (usize, usize, Keyed);

/// What bindings made of a chunk: deliveries, and what is set aside (each with the places of its change and its binding).
pub(super) struct Made {
    pub keyed: Vec<Work>,
    pub aside: Vec<(usize, usize, Option<Fault>)>,
    /// What was set aside before this chunk.
    pub parked: Parked,
}

impl Courier<'_> {
    /// Hands deliveries to the place until all have arrived or are set aside, and puts that on record. `false`: told to stop before.
    pub(super) fn hand_over(&mut self, made: Made, chunk: &[Placed], offset: Option<&Offset>) -> Result<bool> {
        let Made {
            keyed: mut work,
            mut aside,
            mut parked,
        } = made;
        if self.place.lanes.is_none() && !work.is_empty() && !self.open()? {
            return Ok(false);
        }
        // What the place knows to have is not sent again.
        if let Some(resume) = self
            .place
            .resume
            .clone()
            .filter(|resume| window_of(resume) == Some(self.window))
        {
            work.retain(|(_, _, keyed)| keyed.delivery.offset > resume);
        }
        while !work.is_empty() {
            let Some(place) = &mut self.place.lanes else {
                if !self.open()? {
                    return Ok(false);
                }
                continue;
            };
            let (places, keyed): (Vec<(usize, usize)>, Vec<Keyed>) = work
                .into_iter()
                .map(|(number, at, keyed)| ((number, at), keyed))
                .unzip();
            self.orders.status.beat(&self.orders.sink.name.value, true);
            let (fates, down) = place.deliver(&keyed, &self.orders.stop);
            self.orders.status.beat(&self.orders.sink.name.value, false);
            self.place.reached = Instant::now();
            let mut rest = Vec::new();
            let (mut written, mut unchanged, mut refused) = (0, 0, 0);
            for (((number, at), keyed), fate) in places.into_iter().zip(keyed).zip(fates) {
                match fate {
                    Fate::Done(Outcome::Written) => written += 1,
                    Fate::Done(Outcome::Unchanged) => unchanged += 1,
                    // A place that keeps the order itself refuses what comes behind a refused change of a row: that one waits for it.
                    Fate::Done(Outcome::Failed(fault)) => {
                        refused += 1;
                        tracing::warn!(sink = %self.orders.sink.name.value, binding = %self.bound[at].name, id = %keyed.delivery.id, "a change is set aside");
                        aside.push((number, at, Some(fault)));
                    }
                    // Behind another row's message with the same key it is not parked by its own key: it is tried again by itself.
                    Fate::Behind => {
                        let fault = Fault::later("an earlier change with the same key was refused");
                        aside.push((number, at, Some(fault)));
                    }
                    Fate::NotTried => rest.push((number, at, keyed)),
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
                status.delay = delay;
            });
            work = rest;
            if down.is_none() && !work.is_empty() && self.orders.stop.is_set() {
                // The chunk comes again from its start, as after a fault.
                return Ok(false);
            }
            // A place that keeps the position itself goes beyond what it refused: that is on record before.
            if !work.is_empty() && !aside.is_empty() && !self.orders.opener.refuses() {
                self.settle(std::mem::take(&mut aside), &mut parked, chunk, None)?;
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
        self.settle(aside, &mut parked, chunk, offset)?;
        passing("chunk.noted");
        Ok(true)
    }

    /// Settles what waits for what in the order of the changes, whatever was refused first, and puts it on record. `parked` is what
    /// was set aside before.
    pub(super) fn settle(
        &mut self,
        mut aside: Vec<(usize, usize, Option<Fault>)>,
        parked: &mut Parked,
        chunk: &[Placed],
        offset: Option<&Offset>,
    ) -> Result<()> {
        self.parked.clone_from(parked);
        aside.sort_by_key(|(number, at, _)| (*number, *at));
        let aside: Vec<SetAside> = aside
            .into_iter()
            .map(|(number, at, fault)| self.set_aside(at, &chunk[number], fault))
            .collect();
        self.note(&aside, offset)?;
        parked.clone_from(&self.parked);
        Ok(())
    }

    /// Puts what is set aside and the offset on record, in one transaction.
    pub(super) fn note(&mut self, aside: &[SetAside], offset: Option<&Offset>) -> Result<()> {
        let (schema, name) = (self.orders.schema.clone(), self.name().to_owned());
        if aside.is_empty() {
            return match offset {
                Some(offset) => self.cursor.advance(&mut *self.keeper, &offset.0),
                None => Ok(()),
            };
        }
        let mut transaction = self.keeper.transaction()?;
        journal::set_aside(&mut transaction, &schema, &name, aside)?;
        if let Some(offset) = offset {
            self.cursor.advance(&mut transaction, &offset.0)?;
        }
        passing("aside.written");
        transaction.commit()?;
        passing("aside.noted");
        // A later change may be what makes an earlier one acceptable.
        let mut keys: Vec<(&str, &str)> = aside
            .iter()
            .filter(|change| change.reason.is_none())
            .map(|change| (change.binding.as_str(), change.key.as_str()))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        for (binding, key) in keys {
            let keeps_state = self
                .bound
                .iter()
                .any(|bound| *bound.name == *binding && bound.keeps_state());
            if keeps_state {
                let filter = FailureFilter {
                    sink: Some(&name),
                    binding: Some(binding),
                    key: Some(key),
                    ids: &[],
                };
                journal::retry(&mut *self.keeper, &schema, &filter)?;
            }
        }
        Ok(())
    }
}
