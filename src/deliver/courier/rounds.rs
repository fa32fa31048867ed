//! The day of a courier: it looks, tries again what is due, delivers what has come, and rests.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::retry::Due;
use super::{Courier, Ended};
use crate::errors::Result;
use crate::journal;

/// How often a sink is looked after when there is something to do, and when there has been nothing for a while.
const POLL: Duration = Duration::from_millis(20);
const IDLE_POLL: Duration = Duration::from_millis(100);
const IDLE_AFTER: Duration = Duration::from_secs(5);
/// A look that found nothing is followed by a pause this many times as long: looking costs 1.5% at most, of which
/// something is left for the rest.
pub(super) const REST: u32 = 75;
/// How often the cursor is put on record while there is nothing to deliver: the log behind it can go then.
const KEEP: Duration = Duration::from_secs(10);

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Something was delivered.
    Busy,
    /// There was nothing.
    Idle,
    /// Told to stop, or to let go.
    Interrupted,
}

impl Courier<'_> {
    pub(super) fn go(&mut self) -> Result<Option<Ended>> {
        let mut seen = String::new();
        let mut init = self.orders.init.clone();
        loop {
            if self.orders.stop.is_set() {
                self.keep()?;
                return Ok(Some(Ended::Stopped));
            }
            let Some(look) = self.look()? else {
                self.keep()?;
                return Ok(None);
            };
            // Readiness is known before there is anything to deliver, and a place is found again that was gone. And no window is begun before
            // it is known which ones the place has.
            if self.place.lanes.is_none() && !self.open()? {
                continue;
            }
            self.reload_parked()?;
            // (In the middle of a window it is not known of each row what is delivered of it.)
            let due = match look.is_due && self.progress.unfinished.is_none() {
                true => self.retry_due()?,
                false => Due::Nothing,
            };
            if due == Due::All {
                continue;
            }
            if look.snapshot == seen && self.progress.unfinished.is_none() && init.is_empty() {
                if due == Due::Part {
                    continue;
                }
                if self.orders.until_empty {
                    match self.is_at_its_end()? {
                        true => return Ok(Some(Ended::Empty)),
                        false => continue,
                    }
                }
                if look.is_still {
                    // Or it would be taken for one that is away, once a transaction ends that has taken long.
                    self.keep()?;
                }
                self.reach()?;
                self.rest();
                continue;
            }
            let looked = Instant::now();
            match self.one_window(&mut init)? {
                Step::Busy => {
                    self.is_read()?;
                    self.pace.busy = Instant::now();
                    self.pace.pause = Duration::ZERO;
                    seen.clear();
                    // What was written while the rows were sent is a worker's: under writers that never rest there is no end of it.
                    if init.is_empty() && !self.orders.init.is_empty() && self.is_at_its_end()? {
                        return Ok(Some(Ended::Empty));
                    }
                }
                Step::Idle => {
                    self.is_read()?;
                    if self.place.lanes.is_some() && !self.place.was_in_fault {
                        self.is_up()?;
                    }
                    self.reach()?;
                    self.pace.pause = looked.elapsed() * REST;
                    self.orders.status.update(self.name(), |status| {
                        status.caught_up = Some(Timestamp::now());
                    });
                    if due == Due::Part {
                        seen = look.snapshot;
                        continue;
                    }
                    if self.orders.until_empty && init.is_empty() {
                        match self.is_at_its_end()? {
                            true => return Ok(Some(Ended::Empty)),
                            false => continue,
                        }
                    }
                    seen = look.snapshot;
                    if self.pace.kept.elapsed() > KEEP {
                        self.keep()?;
                    }
                    self.rest();
                }
                Step::Interrupted => {}
            }
        }
    }

    /// Tells whether nothing is left to be done; the cursor is on record then.
    fn is_at_its_end(&mut self) -> Result<bool> {
        if self.hasten()? {
            return Ok(false);
        }
        self.keep()?;
        Ok(true)
    }

    /// Has what waits for something else tried once more, at the end: it may have come meanwhile. Returns whether there is any.
    fn hasten(&mut self) -> Result<bool> {
        if std::mem::replace(&mut self.is_hastened, true) {
            return Ok(false);
        }
        // What it waited for may be gone since.
        self.parked_mark = None;
        self.reload_parked()?;
        let name = self.orders.sink.name.value.as_str();
        Ok(journal::hasten(&mut *self.sessions.keeper, &self.orders.schema, name)? > 0)
    }

    pub(super) fn rest(&self) {
        let poll = if self.pace.busy.elapsed() > IDLE_AFTER {
            IDLE_POLL
        } else {
            POLL
        };
        self.orders
            .stop
            .wait(poll.max(self.pace.pause.min(Duration::from_secs(2))));
    }

    /// Puts the cursor on record where it is.
    pub(super) fn keep(&mut self) -> Result<()> {
        if self.progress.unfinished.is_none() {
            self.progress.cursor.end(
                &mut *self.sessions.keeper,
                self.progress.window_number,
                &self.progress.from,
                false,
            )?;
            self.pace.kept = Instant::now();
        }
        Ok(())
    }
}
