//! What is set aside, as far as a courier has to know it: what comes later of the same row waits behind it.

use std::collections::{HashMap, HashSet};

use super::Courier;
use crate::deliver::set_aside::{read, record};
use crate::deliver::stream::Placed;
use crate::errors::Result;
use crate::journal::{self, FailureFilter, FailureState, SetAside};
use crate::sink::Fault;

/// Binding and key of what is set aside, with the key under which that stands: of several when one was changed.
pub(super) type Parked = HashMap<(String, String), String>;

impl Courier<'_> {
    pub(super) fn reload_parked(&mut self, mark: &str) -> Result<()> {
        if self.place.lanes.is_none() {
            // Readiness is known before there is anything to deliver, and a place is found again that was gone.
            self.open()?;
        }
        if self.parked_mark == mark {
            return Ok(());
        }
        self.read_parked()?;
        self.parked_mark = mark.to_owned();
        Ok(())
    }

    /// Reads what is set aside.
    pub(super) fn read_parked(&mut self) -> Result<()> {
        let name = self.name().to_owned();
        let filter = FailureFilter {
            sink: Some(&name),
            ..FailureFilter::default()
        };
        let waiting = journal::failures(&mut *self.keeper, &self.orders.schema, &filter)?;
        self.orders
            .status
            .update(&name, |status| status.set_aside = waiting.len() as u64);
        self.parked.clear();
        let (mut is_forgotten, mut fronts) = (false, HashSet::new());
        for failure in &waiting {
            let is_first = fronts.insert((&failure.binding, &failure.key));
            is_forgotten |= is_first && failure.state == FailureState::Behind;
            let key = (failure.binding.clone(), failure.key.clone());
            self.parked.insert(key, failure.key.clone());
            if let Some(at) = self.bound.iter().position(|bound| *bound.name == *failure.binding)
                && let Some(placed) = read(&failure.change, self.bound[at].table)
            {
                self.park(at, &placed, failure.key.clone());
            }
        }
        if is_forgotten {
            // What it waited for arrived, or was discarded, while it was being set aside.
            journal::promote(&mut *self.keeper, &self.orders.schema)?;
        }
        Ok(())
    }

    /// The key under which that stands what a change has to wait for, if there is anything.
    pub(super) fn front(&self, at: usize, placed: &Placed) -> Option<String> {
        let bound = &self.bound[at];
        let keys = bound.keys_of(&placed.change).into_iter().rev();
        keys.filter_map(|key| self.parked.get(&(bound.name.to_string(), key)))
            .next()
            .cloned()
    }

    /// Remembers that later changes of the same row have to wait.
    pub(super) fn park(&mut self, at: usize, placed: &Placed, front: String) {
        let bound = &self.bound[at];
        for key in bound.keys_of(&placed.change) {
            self.parked.insert((bound.name.to_string(), key), front.clone());
        }
    }

    /// Sets a change aside: in front, or behind one of the same row that was refused in the same batch.
    pub(super) fn set_aside(&mut self, at: usize, placed: &Placed, fault: Option<Fault>) -> SetAside {
        let (front, fault) = match self.front(at, placed) {
            Some(front) => (front, None),
            None => {
                let fault = fault.unwrap_or_else(|| Fault::later("an earlier change of the same row was set aside"));
                (placed.change.key.to_string(), Some(fault))
            }
        };
        self.park(at, placed, front.clone());
        record(placed, &self.bound[at].name, &front, fault.as_ref())
    }
}
