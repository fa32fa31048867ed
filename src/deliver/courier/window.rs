//! Takes one window of the log to its end: the one that was left unfinished, or all that has come since.
//!
//! It is put on record before anything of it is delivered, and behind it come rows that were there before, where they are to be sent.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Courier;
use super::rounds::Step;
use crate::deliver::init::Init;
use crate::deliver::sources::load;
use crate::deliver::stream::{Placed, Window, summarise};
use crate::errors::{Error, Kind, Result};
use crate::fail_at::passing;

/// How many changes in a chunk make it worth reading the next one at the same time.
const WORTH_A_THREAD: usize = 500;
/// How many delivered rows make it worth having the ends of the logs summarised.
const SUMMARISE_AFTER: usize = 20_000;

impl Courier<'_> {
    /// Reads what the sink is fed by.
    pub(super) fn load(&mut self) -> Result<()> {
        self.fed = load(
            &mut self.sessions.keeper,
            &self.orders.renderer,
            &self.orders.schema,
            &self.orders.sink,
            &self.orders.bindings,
        )?;
        for table in self.fed.sources.uncaptured() {
            tracing::warn!(
                sink = %self.name(),
                "table {table} is not captured: what changes in it never arrives. `emaj install` takes it in, and says which `emaj init` brings the sink up to date"
            );
        }
        self.guard.begin(self.fed.bound.len());
        self.stream().sources_changed();
        self.rekey()
    }

    /// Delivers one window: the one that was left unfinished, or what has come since.
    pub(super) fn one_window(&mut self, init: &mut Vec<String>) -> Result<Step> {
        let snapshot = self.stream().hold()?;
        let name = self.name().to_owned();
        if self.stream().structure(&name)? != self.fed.structure {
            self.stream().release()?;
            self.load()?;
            return Ok(Step::Interrupted);
        }
        let (window, offset) = match self.progress.unfinished.take() {
            Some(unfinished) => unfinished,
            None => {
                let found = !self.stream().probe(&self.fed.sources, &self.progress.from)?.is_empty();
                if !found && init.is_empty() {
                    self.reached_position(snapshot.into());
                    self.stream().release()?;
                    return Ok(Step::Idle);
                }
                // What is delivered again is a window of its own: what is new comes behind it.
                let replay = self.progress.replay.as_ref().map(|replay| replay.snapshot.clone());
                let window = Window {
                    number: self.progress.window_number + 1,
                    from: self.progress.from.clone(),
                    until: replay.clone().unwrap_or(snapshot),
                    replay,
                };
                self.progress
                    .cursor
                    .begin(&mut *self.sessions.keeper, window.number, &window.from, &window.until)?;
                passing("window.begun");
                self.progress.window_number = window.number;
                (window, None)
            }
        };
        self.progress.unfinished = Some((window.clone(), offset.clone()));
        self.guard.begin(self.fed.bound.len());
        self.stream().read(window.clone(), offset.clone());
        let mut chunk = self.stream().next(&self.fed.sources)?;
        if !self.passes(&window, offset.as_ref(), &mut chunk)? {
            self.stream().release()?;
            return Ok(Step::Interrupted);
        }
        let began = Instant::now();
        while let Some(last) = chunk.last().map(|placed| placed.offset.clone()) {
            passing("chunk.fetched");
            self.orders.status.beat(&name, false);
            let Some(next) = self.deliver_and_read(&chunk)? else {
                self.stream().release()?;
                return Ok(Step::Interrupted);
            };
            chunk = next;
            self.progress.unfinished = Some((window.clone(), Some(last)));
            // Somebody may want it while a long window is delivered.
            if began.elapsed() > Duration::from_secs(1) && (self.orders.stop.is_set() || self.look()?.is_none()) {
                self.stream().release()?;
                return Ok(Step::Interrupted);
            }
        }
        // Rows that were there before are read in the very snapshot that ends the window: none is older than what was delivered,
        // and none comes again.
        let sent = match init.first().cloned() {
            Some(binding) if self.stream().holds(&window.until) => {
                match self.send_rows(&window, &binding, began.elapsed())? {
                    Init::Some => {}
                    Init::Over => {
                        init.remove(0);
                    }
                    Init::Interrupted => {
                        self.stream().release()?;
                        return Ok(Step::Interrupted);
                    }
                }
                true
            }
            Some(_) => {
                // Where changes come as fast as they are delivered, the next window is as long as this one, or longer.
                self.stream().be_patient();
                false
            }
            None => false,
        };
        self.stream().release()?;
        self.reached_position(window.until.clone().into());
        self.progress.unfinished = None;
        passing("window.delivered");
        let forget = std::mem::take(&mut self.guard.is_overruled);
        if !sent {
            self.progress.cursor.end(
                &mut *self.sessions.keeper,
                self.progress.window_number,
                &self.progress.from,
                forget,
            )?;
        }
        passing("window.ended");
        self.pace.kept = Instant::now();
        if self.since_summary > SUMMARISE_AFTER {
            self.since_summary = 0;
            summarise(
                &mut self.sessions.keeper,
                &self.orders.schema,
                &self.orders.renderer,
                &self.fed.sources,
            );
        }
        Ok(Step::Busy)
    }

    /// Delivers a chunk, and reads the next one meanwhile where there is much to read. `None`: told to stop before.
    pub(super) fn deliver_and_read(&mut self, chunk: &[Placed]) -> Result<Option<Vec<Placed>>> {
        if chunk.len() < WORTH_A_THREAD {
            if !self.deliver(chunk)? {
                return Ok(None);
            }
            return self.stream().next(&self.fed.sources).map(Some);
        }
        let reader = std::thread::spawn({
            let (stream, sources) = (Arc::clone(&self.sessions.stream), Arc::clone(&self.fed.sources));
            move || stream.lock().unwrap_or_else(PoisonError::into_inner).next(&sources)
        });
        let delivered = self.deliver(chunk);
        let read = reader
            .join()
            .unwrap_or_else(|_| Err(Error::message(Kind::Failed, "the reader of the log broke down")));
        match delivered? {
            true => read.map(Some),
            false => Ok(None),
        }
    }
}
