//! The place that a sink leads to: reached, lost, reached again.

use std::time::{Duration, Instant};

use super::{Courier, backoff};
use crate::deliver::lanes::{Lanes, Silence};
use crate::deliver::status::SinkCondition;
use crate::deliver::stream::{in_window, window_number_of};
use crate::errors::{Error, Kind, Result};
use crate::fail_at::passing;
use crate::journal::{self, SinkRecord, Trouble};
use crate::manifest::SinkKind;
use crate::sink::{Fault, Offset};

/// How often a place is reached for while there is nothing to deliver: a place that is down is known before a change meets it.
const REACH: Duration = Duration::from_secs(10);

/// How long a refused login waits, and how long at most when it is refused again: many places lock out whoever tries often.
const LOGIN: Duration = Duration::from_secs(30);
const LOGIN_MOST: Duration = Duration::from_secs(600);

/// Why a sink is given up that has less than was delivered.
const SET_BACK: &str = "it has less than it once had: it was set back (a standby of it took over, or it was restored), or the sink led elsewhere meanwhile";

/// What a courier knows of the place.
pub(super) struct Place {
    /// Its connections, while there are any.
    pub lanes: Option<Lanes>,
    /// What the place itself knows to have.
    pub resume: Option<Offset>,
    /// What it must know to have at least: that is on record here.
    pub there: Option<Offset>,
    /// Whether places of this kind keep such records.
    keeps_position: bool,
    /// When it was known to be there.
    pub reached: Instant,
    pub silence: Silence,
    pub was_in_fault: bool,
    /// Whether it is on record that what is owed to the place cannot be read.
    pub is_broken: bool,
    /// How often it was down since something arrived there last, since when, and when it is tried again.
    faults: usize,
    /// How often it refused the login, one time after the other.
    logins: u32,
    down_since: Option<Instant>,
    not_before: Option<Instant>,
    /// Nobody wants to wait for it any longer.
    pub is_given_up: bool,
}

impl Place {
    /// Knows nothing yet, but for what is on record.
    pub(super) fn new(sink: &SinkRecord, kind: &SinkKind) -> Self {
        Place {
            lanes: None,
            resume: None,
            there: sink.there.clone().map(Offset),
            keeps_position: kind.ability().keeps_position,
            reached: Instant::now(),
            silence: Silence::default(),
            was_in_fault: matches!(sink.trouble, Some(Trouble::Down(_))),
            is_broken: matches!(sink.trouble, Some(Trouble::Broken(_))),
            faults: 0,
            logins: 0,
            down_since: None,
            not_before: None,
            is_given_up: false,
        }
    }
}

impl Place {
    /// Notes that something arrived, and all before it that a place was given with it. Also of a place that keeps no such records: the sink may have led to
    /// another one before, and may lead there again.
    pub(super) fn has(&mut self, offset: &Offset) {
        if self.there.as_ref().is_none_or(|there| there < offset) {
            self.there = Some(offset.clone());
        }
    }

    /// Forgets what a place had that knows nothing any more: somebody has it begin anew. Returns whether there was anything to forget.
    fn forget(&mut self) -> bool {
        self.keeps_position && self.resume.is_none() && self.there.take().is_some()
    }

    /// Returns how much time the place is to be given in any case.
    fn asked(&mut self, fault: &Fault) -> Duration {
        if !fault.is_login {
            return fault.pause.unwrap_or_default();
        }
        let pause = LOGIN.saturating_mul(1 << self.logins.min(8)).min(LOGIN_MOST);
        self.logins += 1;
        pause
    }

    /// Tells whether the place has less than it once had.
    fn is_set_back(&self) -> bool {
        let both = self.resume.as_ref().zip(self.there.as_ref());
        both.is_some_and(|(resume, there)| resume < there)
    }
}

impl Courier<'_> {
    /// Looks now and then whether the place is still there, while nothing goes to it; at once when it was not: opening alone proves
    /// nothing where there is no connection (a web service).
    pub(super) fn reach(&mut self) -> Result<()> {
        if self.place.lanes.is_none() || !self.place.was_in_fault && self.place.reached.elapsed() < REACH {
            return Ok(());
        }
        let name = self.name().to_owned();
        self.orders.status.beat(&name, true);
        let reached = self.opener.open().and_then(|mut place| place.reach());
        self.orders.status.beat(&name, false);
        self.place.reached = Instant::now();
        match reached {
            Ok(()) => self.is_up(),
            Err(fault) => self.is_down(&fault, false),
        }
    }

    /// Reaches the place, however long it takes. `false`: told to stop before, or the window that is under way has another number now, and is to be
    /// read anew.
    pub(super) fn open(&mut self) -> Result<bool> {
        // A snapshot is not held while nothing can be delivered.
        self.stream().release()?;
        loop {
            while let Some(left) = self
                .place
                .not_before
                .and_then(|at| at.checked_duration_since(Instant::now()))
            {
                if self.orders.stop.wait(left.min(Duration::from_secs(1))) || self.look()?.is_none() {
                    return Ok(false);
                }
            }
            self.orders.status.beat(self.name(), true);
            let opened = self.try_open();
            self.orders.status.beat(self.name(), false);
            match opened {
                Ok(_) if self.place.is_set_back() => {
                    // (The next look says so.)
                    self.progress.cursor.lose(&mut *self.sessions.keeper, SET_BACK)?;
                    return Ok(false);
                }
                Ok(lanes) => {
                    self.place.logins = 0;
                    if self.place.forget() {
                        let (keeper, schema) = (&mut *self.sessions.keeper, &self.orders.schema);
                        journal::all_rows_anew(keeper, schema, &self.orders.sink.name.value)?;
                        self.progress.cursor.is_there(keeper, None)?;
                    }
                    // (What arrived when a worker was killed is on record there alone.)
                    if let Some(resume) = self.place.resume.clone() {
                        self.place.has(&resume);
                    }
                    let is_renumbered = self.catch_up()?;
                    self.place.lanes = Some(lanes);
                    self.place.reached = Instant::now();
                    // (Who is told that it is up is told how much is set aside.)
                    self.reload_parked()?;
                    // Some places can be opened without being asked: a fault is over when something has arrived.
                    if !self.place.was_in_fault {
                        self.condition(SinkCondition::Up);
                    }
                    return Ok(!is_renumbered);
                }
                Err(fault) => self.is_down(&fault, false)?,
            }
        }
    }

    pub(super) fn try_open(&mut self) -> Result<Lanes, Fault> {
        let (mut lanes, mut first) = Lanes::open(&*self.opener)?;
        passing("sink.opened");
        self.place.resume = first.resume()?;
        lanes.add(first);
        while lanes.len() < self.opener.lanes() {
            lanes.add(self.opener.open()?);
        }
        Ok(lanes)
    }

    /// Goes on behind all that the place has. It has more than this database knows of where that one was set back (a standby that had not got everything,
    /// a copy): numbers of windows begin below it then, and changes of now would be taken for those that the place has. Tells whether the window that is
    /// under way got another number.
    fn catch_up(&mut self) -> Result<bool> {
        let there = self.place.resume.as_ref().and_then(window_number_of);
        let Some(there) = there.filter(|there| *there > self.progress.window_number) else {
            return Ok(false);
        };
        // (A sink that was installed anew begins at none.)
        if self.progress.window_number > 0 {
            tracing::warn!(
                sink = %self.name(),
                "the sink has what this database does not know any more: it was set back (a standby took over, or a copy). What is in the log now \
                 is delivered; what was lost here stays there, until `emaj init` and its `--prune` put a place right that keeps a state"
            );
        }
        let number = there + 1;
        self.progress.cursor.renumber(&mut *self.sessions.keeper, number)?;
        self.progress.window_number = number;
        let Some((window, offset)) = &mut self.progress.unfinished else {
            return Ok(false);
        };
        window.number = number;
        *offset = offset.take().map(|offset| in_window(number, &offset));
        Ok(true)
    }

    /// Notes that something arrived, or that nothing is left to be delivered to a place that was opened.
    pub(super) fn is_up(&mut self) -> Result<()> {
        self.place.faults = 0;
        self.place.down_since = None;
        if std::mem::take(&mut self.place.was_in_fault) {
            tracing::info!(sink = %self.name(), "the sink is up again");
            self.progress.cursor.fault(&mut *self.sessions.keeper, None)?;
        }
        self.is_read()?;
        self.condition(SinkCondition::Up);
        Ok(())
    }

    /// Notes that what is owed to the place could be read.
    pub(super) fn is_read(&mut self) -> Result<()> {
        if std::mem::take(&mut self.place.is_broken) {
            self.progress.cursor.fault(&mut *self.sessions.keeper, None)?;
        }
        Ok(())
    }

    /// Puts on record that what is owed to the place cannot be read: whoever looks at the sink sees no worker's log.
    pub(super) fn is_broken(&mut self, error: &Error) {
        // A lost session mends itself; a manifest that is not the one installed is a matter of this worker, and not of the sink.
        if !matches!(error.kind(), Kind::Failed | Kind::Denied) {
            return;
        }
        if let Err(error) = self.note_trouble(&Trouble::Broken(error.to_string())) {
            tracing::warn!(sink = %self.name(), "what is wrong could not be put on record: {error}");
        }
    }

    fn note_trouble(&mut self, trouble: &Trouble) -> Result<()> {
        let text = trouble.to_string();
        let text = self.fed.sources.texts.kept(&text);
        self.progress.cursor.fault(&mut *self.sessions.keeper, Some(&text))
    }

    /// Notes that the place is down, and when it is tried again. An error when nobody wants to wait for it any longer.
    pub(super) fn is_down(&mut self, fault: &Fault, was_open: bool) -> Result<()> {
        self.place.lanes = None;
        self.place.faults += 1;
        let since = *self.place.down_since.get_or_insert_with(Instant::now);
        let asked = self.place.asked(fault);
        // A connection that was lost is made anew at once; whoever refuses again gets time.
        let refusals = self.place.faults - usize::from(was_open);
        let pause = refusals.checked_sub(1).map_or(Duration::ZERO, backoff).max(asked);
        self.place.not_before = Some(Instant::now() + pause);
        if !self.place.was_in_fault {
            tracing::warn!(sink = %self.name(), "the sink is down: {}", fault.reason);
            self.place.was_in_fault = true;
        }
        self.condition(SinkCondition::Down(fault.reason.clone()));
        self.place.is_broken = false;
        self.note_trouble(&Trouble::Down(fault.reason.clone()))?;
        let nobody_waits = since.elapsed() + asked >= self.orders.patience && (refusals > 0 || !asked.is_zero());
        if self.orders.until_empty && nobody_waits {
            self.place.is_given_up = true;
            return Err(Error::message(
                Kind::Unreachable,
                format!("sink `{}` is down: {}", self.name(), fault.reason),
            )
            .hint("nothing is lost: what is not delivered stays in the log"));
        }
        Ok(())
    }
}
