//! Takes one window of the log to its end: the one that was left unfinished, or all that has come since.
//!
//! It is put on record before anything of it is delivered, and behind it come rows that were there before, where they are to be sent.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Courier;
use super::rounds::Step;
use crate::deliver::init::Init;
use crate::deliver::sources::load;
use crate::deliver::stream::{Placed, Window, summarise};
use crate::errors::{Error, Kind, Result};
use crate::fail_at::passing;
use crate::journal::{self, Snapshot};
use crate::sink::Offset;

/// How many changes in a chunk make it worth reading the next one at the same time.
const WORTH_A_THREAD: usize = 500;
/// How many delivered rows make it worth having the ends of the logs summarised.
const SUMMARISE_AFTER: usize = 20_000;

/// What a snapshot was held for.
enum Held {
    /// There was nothing.
    Nothing,
    /// The window that ends with `until`; `is_sent`: and behind it rows that were there before.
    Delivered { until: Snapshot, is_sent: bool },
    /// What the sink is fed by has changed.
    Outdated,
    /// Told to stop, or to let go.
    Interrupted,
}

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
        for (table, why) in self.fed.sources.uncaptured() {
            tracing::warn!(
                sink = %self.name(),
                "table {table} {why}: what changes in it never arrives. {}",
                why.way_on()
            );
        }
        let (schema, sink) = (&self.orders.schema, &self.orders.sink.name.value);
        let beside = journal::sinks_beside(&mut *self.sessions.keeper, schema, sink)?;
        if beside != *self.orders.beside {
            // The manifest may have got another sink, which is nobody's yet.
            self.orders.outdated.store(true, Ordering::Relaxed);
        }
        self.guard.begin(self.fed.bound.len());
        self.stream().sources_changed();
        self.rekey()
    }

    /// Delivers one window: the one that was left unfinished, or what has come since.
    pub(super) fn one_window(&mut self, init: &mut Vec<String>) -> Result<Step> {
        let snapshot = self.stream().hold()?;
        let held = self.deliver_in(&snapshot, init)?;
        self.stream().release()?;
        match held {
            Held::Nothing => {
                self.reached_position(snapshot.into());
                Ok(Step::Idle)
            }
            Held::Delivered { until, is_sent } => {
                self.end_window(until, is_sent)?;
                Ok(Step::Busy)
            }
            Held::Outdated => {
                self.load()?;
                Ok(Step::Interrupted)
            }
            Held::Interrupted => Ok(Step::Interrupted),
        }
    }

    /// Delivers one window while the snapshot is held that ends it, unless one was left unfinished.
    fn deliver_in(&mut self, snapshot: &Snapshot, init: &mut Vec<String>) -> Result<Held> {
        let structure = self.stream().structure(&self.orders.sink.name.value)?;
        if structure != self.fed.structure {
            return Ok(Held::Outdated);
        }
        let Some((window, offset)) = self.begin_window(snapshot, init.is_empty())? else {
            return Ok(Held::Nothing);
        };
        self.guard.begin(self.fed.bound.len());
        self.stream().read(window.clone(), offset.clone());
        let mut first = self.stream().next(&self.fed.sources)?;
        if !self.passes(&window, offset.as_ref(), &mut first)? {
            return Ok(Held::Interrupted);
        }
        let began = Instant::now();
        if !self.deliver_changes(&window, first, began)? {
            return Ok(Held::Interrupted);
        }
        let is_sent = match init.first().cloned() {
            // Rows that were there before are read in the very snapshot that ends the window: none is older than what was delivered,
            // and none comes again.
            Some(binding) if self.stream().holds(&window.until) => {
                match self.send_rows(&window, &binding, began.elapsed())? {
                    Init::Some => {}
                    Init::Over => _ = init.remove(0),
                    Init::Interrupted => return Ok(Held::Interrupted),
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
        let until = window.until;
        Ok(Held::Delivered { until, is_sent })
    }

    /// Goes on with the window that was left unfinished, or puts a new one on record, which ends with `snapshot`; and how far it is delivered. `None`: there is nothing
    /// in it, and `no_rows` are to be sent behind it.
    fn begin_window(&mut self, snapshot: &Snapshot, no_rows: bool) -> Result<Option<(Window, Option<Offset>)>> {
        if self.progress.unfinished.is_none() {
            if no_rows && self.stream().probe(&self.fed.sources, &self.progress.from)?.is_empty() {
                return Ok(None);
            }
            // What is delivered again is a window of its own: what is new comes behind it.
            let replay = self.progress.replay.as_ref().map(|replay| replay.snapshot.clone());
            let window = Window {
                number: self.progress.window_number + 1,
                from: self.progress.from.clone(),
                until: replay.clone().unwrap_or_else(|| snapshot.clone()),
                replay,
            };
            self.progress
                .cursor
                .begin(&mut *self.sessions.keeper, window.number, &window.from, &window.until)?;
            passing("window.begun");
            self.progress.window_number = window.number;
            self.progress.unfinished = Some((window, None));
        }
        Ok(self.progress.unfinished.clone())
    }

    /// Delivers the changes of a window, chunk by chunk. `false`: told to stop before.
    fn deliver_changes(&mut self, window: &Window, mut chunk: Vec<Placed>, began: Instant) -> Result<bool> {
        while let Some(last) = chunk.last().map(|placed| placed.offset.clone()) {
            passing("chunk.fetched");
            self.orders.status.beat(self.name(), false);
            let Some(next) = self.deliver_and_read(&chunk)? else {
                return Ok(false);
            };
            chunk = next;
            self.progress.unfinished = Some((window.clone(), Some(last)));
            // Somebody may want it while a long window is delivered.
            if began.elapsed() > Duration::from_secs(1) && (self.orders.stop.is_set() || self.look()?.is_none()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts on record that a window is delivered; where rows were sent behind it, that is done with them.
    fn end_window(&mut self, until: Snapshot, is_sent: bool) -> Result<()> {
        self.reached_position(until.into());
        self.progress.unfinished = None;
        passing("window.delivered");
        let forget = std::mem::take(&mut self.guard.is_overruled);
        if !is_sent {
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
        Ok(())
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
