//! Carries to one sink what it is owed: reads windows, delivers them, keeps the cursor, sets aside what is refused.
//!
//! One courier at a time delivers to a sink, whatever the number of workers: it holds an advisory lock on the session that moves the
//! cursor, so that a worker that has lost its session can move nothing any more. A window is on record before anything of it is
//! delivered, and a chunk's offset after all of it has arrived or is set aside: after a crash the last chunk comes again,
//! with the same ids.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::ask::{Asker, columns_of, settle};
use super::binding::Bound;
use super::init::Init;
use super::lanes::{Fate, Keyed, Lanes};
use super::render::render;
use super::set_aside::{merged, read, record, state_after};
use super::sources::{Sources, load};
use super::status::{SinkCondition, Status};
use super::stop::Stop;
use super::stream::{Placed, Stream, Window, summarise, window_of};
use crate::errors::{Error, Kind, Result};
use crate::fail_at::passing;
use crate::journal::{self, Cursor, FailureFilter, FailureState, Position, SetAside, SinkRecord, SinkState, Snapshot};
use crate::manifest::{self, Limit};
use crate::names::QualifiedName;
use crate::pg::{Prompt, Session, Settings, classify};
use crate::render::Renderer;
use crate::sink::{Action, Fault, Offset, Opener, Outcome, Verdict};

/// How often a sink is looked after when there is something to do, and when there has been nothing for a while.
const POLL: Duration = Duration::from_millis(20);
const IDLE_POLL: Duration = Duration::from_millis(100);
const IDLE_AFTER: Duration = Duration::from_secs(5);
/// A look that found nothing is followed by a pause this many times as long: looking costs 2% at most.
const REST: u32 = 50;
/// How often the cursor is put on record while there is nothing to deliver: the log behind it can go then.
const KEEP: Duration = Duration::from_secs(10);
/// How often a place is reached for while there is nothing to deliver: a place that is down is known before a change meets it.
const REACH: Duration = Duration::from_secs(10);
/// The pauses between tries to reach a place that is down, and the database.
const PAUSES: [u64; 5] = [200, 500, 1_000, 2_000, 5_000];
/// How many changes in a chunk make it worth reading the next one at the same time.
const WORTH_A_THREAD: usize = 500;
/// How many delivered rows make it worth having the ends of the logs summarised.
const SUMMARISE_AFTER: usize = 20_000;

/// What a courier is made of.
#[derive(Clone)]
pub(super) struct Orders {
    pub schema: String,
    pub settings: Settings,
    pub renderer: Arc<Renderer>,
    pub sink: manifest::Sink,
    pub bindings: Vec<manifest::Binding>,
    pub opener: Arc<dyn Opener>,
    /// The CloudEvents source.
    pub source: String,
    /// End when the log is delivered to its end.
    pub until_empty: bool,
    /// With `until_empty`: how long a place may be out of reach.
    pub patience: Duration,
    /// The bindings whose rows are to be sent, by this courier.
    pub init: Vec<String>,
    pub status: Status,
    pub stop: Stop,
    /// Set when the manifest is not the one that is installed: it may have been edited.
    pub outdated: Arc<AtomicBool>,
}

/// Why a courier came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was told to.
    Stopped,
    /// Everything is delivered, or set aside.
    Empty,
}

/// Runs a courier until it is told to stop, or until all is delivered.
///
/// # Errors
/// Only with `until_empty`, or for `init`: what stands in the way. Otherwise it goes on trying.
pub(super) fn run(orders: &Orders) -> Result<Ended> {
    let name = &orders.sink.name.value;
    orders
        .status
        .update(name, |status| status.kind = orders.sink.kind.word().to_owned());
    let mut failures = 0;
    let began = Instant::now();
    loop {
        orders.status.beat(name, false);
        let tried = Instant::now();
        match serve(orders) {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) => continue,
            Err(error) => {
                if orders.stop.is_set() {
                    return Ok(Ended::Stopped);
                }
                if orders.until_empty && (error.kind() != Kind::Unreachable || began.elapsed() > orders.patience) {
                    return Err(error);
                }
                if error.kind() == Kind::Refused {
                    orders.outdated.store(true, Ordering::Relaxed);
                }
                let reason = format!("{error}");
                tracing::error!(sink = %name, "{reason}");
                orders
                    .status
                    .update(name, |status| status.condition = SinkCondition::Broken(reason));
            }
        }
        failures = if tried.elapsed() > Duration::from_secs(30) {
            0
        } else {
            failures + 1
        };
        if orders.stop.wait(backoff(failures)) {
            return Ok(Ended::Stopped);
        }
    }
}

fn backoff(failures: usize) -> Duration {
    Duration::from_millis(PAUSES[failures.min(PAUSES.len() - 1)])
}

/// One life of the sessions: ends with an error when one of them is lost, with nothing when the sink was paused or is wanted by
/// another process.
fn serve(orders: &Orders) -> Result<Option<Ended>> {
    let name = &orders.sink.name.value;
    let settings = orders.settings.with_application_name(&format!("emaj {name}"));
    let mut keeper = settings.connect(Prompt::Never)?;
    keeper.only_builtins()?;
    let Some(sink) = take(orders, &mut keeper)? else {
        return Ok(Some(Ended::Stopped));
    };
    let stream = Stream::new(
        settings.connect(Prompt::Never)?,
        &orders.schema,
        Arc::clone(&orders.renderer),
    )?;
    let mut asker = settings.connect(Prompt::Never)?;
    settle(&mut asker)?;
    tracing::info!(sink = %name, "delivering to {}", orders.opener.describe());
    let mut courier = Courier {
        orders,
        cursor: Cursor::new(&orders.schema, sink.id),
        window: sink.window,
        from: sink.from.clone(),
        unfinished: unfinished(&sink)?,
        deletes_allowed: sink.reason.as_deref() == Some(DELETES_ALLOWED),
        keeper,
        stream: Arc::new(Mutex::new(stream)),
        asker,
        structure: String::new(),
        sources: Arc::default(),
        bound: Vec::new(),
        parked: HashMap::new(),
        parked_mark: String::new(),
        place: None,
        faults: 0,
        down_since: None,
        not_before: None,
        resume: None,
        kept: Instant::now(),
        reached: Instant::now(),
        busy: Instant::now(),
        pause: Duration::ZERO,
        since_summary: 0,
        window_deletes: Vec::new(),
        was_in_fault: sink.fault.is_some(),
        is_hastened: false,
    };
    courier.load()?;
    courier.go()
}

fn unfinished(sink: &SinkRecord) -> Result<Option<(Window, Option<Offset>)>> {
    let Some(until) = &sink.until else { return Ok(None) };
    let until: Snapshot = until.parse().map_err(|error| Error::new(Kind::Failed, error))?;
    let window = Window {
        number: sink.window,
        from: sink.from.clone(),
        until,
    };
    Ok(Some((window, sink.offset.clone().map(Offset))))
}

/// The reason of an active sink whose guard was overruled for the window that it stopped at.
pub const DELETES_ALLOWED: &str = "deletes allowed";

/// Waits until this courier may deliver; `None`: told to stop.
fn take(orders: &Orders, keeper: &mut Session) -> Result<Option<SinkRecord>> {
    let name = &orders.sink.name.value;
    loop {
        orders.status.beat(name, false);
        let sink = journal::sink_named(&mut **keeper, &orders.schema, name)?.ok_or_else(|| not_installed(name))?;
        let (courier, claim) = journal::sink_locks(&orders.schema, sink.id);
        let free: bool = match sink.state {
            SinkState::Active if orders.init.is_empty() => keeper
                .query_one("select pg_try_advisory_xact_lock_shared($1)", &[&claim])?
                .get(0),
            SinkState::Active => {
                // Whoever delivers now sees this and lets go.
                keeper.query_one("select pg_advisory_lock($1)", &[&claim])?;
                true
            }
            state => {
                let reason = sink.reason.clone().unwrap_or_else(|| state.word().to_owned());
                orders.status.update(name, |status| {
                    status.condition = match state {
                        SinkState::Paused => SinkCondition::Paused(reason.clone()),
                        _ => SinkCondition::Stopped(reason.clone()),
                    }
                });
                if orders.until_empty {
                    return Err(
                        Error::message(Kind::Refused, format!("sink `{name}` is {}: {reason}", state.word()))
                            .hint(format!("`emaj sink resume {name}` lets it go on")),
                    );
                }
                false
            }
        };
        if free {
            let taken: bool = keeper.query_one("select pg_try_advisory_lock($1)", &[&courier])?.get(0);
            if taken {
                // Anew: the one before may have moved the cursor.
                let sink =
                    journal::sink_named(&mut **keeper, &orders.schema, name)?.ok_or_else(|| not_installed(name))?;
                let worker = format!("{}@{}", std::process::id(), whoami::hostname().unwrap_or_default());
                Cursor::new(&orders.schema, sink.id).taken_by(&mut **keeper, &worker)?;
                return Ok(Some(sink));
            }
            orders
                .status
                .update(name, |status| status.condition = SinkCondition::Standby);
        }
        if orders.stop.wait(Duration::from_millis(200)) {
            return Ok(None);
        }
    }
}

fn not_installed(sink: &str) -> Error {
    Error::message(
        Kind::NotInstalled,
        format!("sink `{sink}` is not installed in this database"),
    )
    .hint("`emaj install` with this manifest installs it")
}

struct Courier<'a> {
    orders: &'a Orders,
    cursor: Cursor,
    window: i64,
    from: Position,
    unfinished: Option<(Window, Option<Offset>)>,
    deletes_allowed: bool,
    keeper: Session,
    stream: Arc<Mutex<Stream>>,
    asker: Session,
    structure: String,
    sources: Arc<Sources>,
    bound: Vec<Bound>,
    /// Binding and key of what is set aside, with the key under which that stands: of several when one was changed.
    parked: HashMap<(String, String), String>,
    parked_mark: String,
    place: Option<Lanes>,
    /// How often the place was down since something arrived there last, since when, and when it is tried again.
    faults: usize,
    down_since: Option<Instant>,
    not_before: Option<Instant>,
    /// What the place itself knows to have.
    resume: Option<Offset>,
    kept: Instant,
    /// When the place was known to be there.
    reached: Instant,
    busy: Instant,
    pause: Duration,
    since_summary: usize,
    /// Deletes of the window so far, by binding.
    window_deletes: Vec<u64>,
    was_in_fault: bool,
    /// With `until_empty`: what has to be tried again was tried once more at the end.
    is_hastened: bool,
}

/// A delivery, with the numbers of its change in the chunk and of its binding.
type Work = (usize, usize, Keyed);

/// What the database says at a look.
struct Look {
    snapshot: String,
    parked: String,
    is_due: bool,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Something was delivered.
    Busy,
    /// There was nothing.
    Idle,
    /// Told to stop, or to let go.
    Interrupted,
}

impl Courier<'_> {
    fn name(&self) -> &str {
        &self.orders.sink.name.value
    }

    fn stream(&self) -> MutexGuard<'_, Stream> {
        // A reader that broke down has left it as a lost connection would.
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers a chunk, and reads the next one meanwhile where there is much to read. `None`: told to stop before.
    fn deliver_and_read(&mut self, chunk: &[Placed]) -> Result<Option<Vec<Placed>>> {
        if chunk.len() < WORTH_A_THREAD {
            if !self.deliver(chunk)? {
                return Ok(None);
            }
            return self.stream().next(&self.sources).map(Some);
        }
        let reader = std::thread::spawn({
            let (stream, sources) = (Arc::clone(&self.stream), Arc::clone(&self.sources));
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

    fn condition(&self, condition: SinkCondition) {
        self.orders
            .status
            .update(self.name(), |status| status.condition = condition);
    }

    fn go(&mut self) -> Result<Option<Ended>> {
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
            self.reload_parked(&look.parked)?;
            if look.is_due && self.retry_due()? {
                continue;
            }
            if look.snapshot == seen && self.unfinished.is_none() && init.is_empty() {
                if self.orders.until_empty {
                    if self.hasten()? {
                        continue;
                    }
                    self.keep()?;
                    return Ok(Some(Ended::Empty));
                }
                self.reach()?;
                self.rest();
                continue;
            }
            let looked = Instant::now();
            match self.window(&mut init)? {
                Step::Busy => {
                    self.busy = Instant::now();
                    self.pause = Duration::ZERO;
                    seen.clear();
                }
                Step::Idle => {
                    if self.place.is_some() && !self.was_in_fault {
                        self.is_up()?;
                    }
                    self.reach()?;
                    self.pause = looked.elapsed() * REST;
                    self.orders.status.update(self.name(), |status| {
                        status.caught_up = Some(Timestamp::now());
                    });
                    if self.orders.until_empty && init.is_empty() {
                        if self.hasten()? {
                            continue;
                        }
                        self.keep()?;
                        return Ok(Some(Ended::Empty));
                    }
                    seen = look.snapshot;
                    if self.kept.elapsed() > KEEP {
                        self.keep()?;
                    }
                    self.rest();
                }
                // What was set aside in a chunk that comes again is not on record.
                Step::Interrupted => self.parked_mark.clear(),
            }
        }
    }

    /// Looks now and then whether the place is still there, while nothing goes to it; at once when it was not: opening alone proves
    /// nothing where there is no connection (a web service).
    fn reach(&mut self) -> Result<()> {
        if self.place.is_none() || !self.was_in_fault && self.reached.elapsed() < REACH {
            return Ok(());
        }
        let name = self.name().to_owned();
        self.orders.status.beat(&name, true);
        let reached = self.orders.opener.open().and_then(|mut place| place.reach());
        self.orders.status.beat(&name, false);
        self.reached = Instant::now();
        match reached {
            Ok(()) => self.is_up(),
            Err(fault) => self.is_down(&fault, false),
        }
    }

    /// Has what waits for something else tried once more, at the end: it may have come meanwhile. Returns whether there is any.
    fn hasten(&mut self) -> Result<bool> {
        if std::mem::replace(&mut self.is_hastened, true) {
            return Ok(false);
        }
        let name = self.orders.sink.name.value.as_str();
        Ok(journal::hasten(&mut *self.keeper, &self.orders.schema, name)? > 0)
    }

    fn rest(&self) {
        let poll = if self.busy.elapsed() > IDLE_AFTER {
            IDLE_POLL
        } else {
            POLL
        };
        self.orders.stop.wait(poll.max(self.pause.min(Duration::from_secs(2))));
    }

    /// One cheap question: has anything happened, is anything due, may this courier go on? `None`: it may not.
    fn look(&mut self) -> Result<Option<Look>> {
        self.orders.status.beat(self.name(), false);
        let s = postgres_protocol::escape::escape_identifier(&self.orders.schema);
        let (_, claim) = journal::sink_locks(&self.orders.schema, self.cursor.sink());
        let row = self
            .keeper
            .query_opt(
                &format!(
                    "select pg_current_snapshot()::text, sink_state,
                            (select concat(count(*), ':', sum(fail_id)) from {s}.emaj_failure where fail_sink = sink_name),
                            exists (select from {s}.emaj_failure where fail_sink = sink_name and fail_retry <= clock_timestamp()),
                            $2 or pg_try_advisory_xact_lock_shared($3)
                       from {s}.emaj_sink where sink_id = $1"
                ),
                &[&self.cursor.sink(), &!self.orders.init.is_empty(), &claim],
            )
            .map_err(|error| classify(error, "look after the sink"))?
            .ok_or_else(|| not_installed(self.name()))?;
        let may_go_on = row.get::<_, &str>(1) == "ACTIVE" && row.get::<_, bool>(4);
        Ok(may_go_on.then(|| Look {
            snapshot: row.get(0),
            parked: row.get(2),
            is_due: row.get(3),
        }))
    }

    /// Reads what the sink is fed by.
    fn load(&mut self) -> Result<()> {
        let fed = load(
            &mut self.keeper,
            &self.orders.schema,
            &self.orders.sink.name.value,
            &self.orders.bindings,
        )?;
        self.structure = fed.structure;
        self.sources = Arc::new(fed.sources);
        self.bound = fed.bound;
        self.window_deletes = vec![0; self.bound.len()];
        self.stream().sources_changed();
        Ok(())
    }

    /// Puts the cursor on record where it is.
    fn keep(&mut self) -> Result<()> {
        if self.unfinished.is_none() {
            self.cursor.end(&mut *self.keeper, self.window, &self.from)?;
            self.kept = Instant::now();
        }
        Ok(())
    }

    /// Delivers one window: the one that was left unfinished, or what has come since.
    fn window(&mut self, init: &mut Vec<String>) -> Result<Step> {
        let snapshot = self.stream().hold()?;
        let name = self.name().to_owned();
        if self.stream().structure(&name)? != self.structure {
            self.stream().release()?;
            self.load()?;
            return Ok(Step::Interrupted);
        }
        let (window, offset) = match self.unfinished.take() {
            Some(unfinished) => unfinished,
            None => {
                let found = !self.stream().probe(&self.sources, &self.from)?.is_empty();
                if !found && init.is_empty() {
                    self.from = snapshot.into();
                    self.stream().release()?;
                    return Ok(Step::Idle);
                }
                let window = Window {
                    number: self.window + 1,
                    from: self.from.clone(),
                    until: snapshot.clone(),
                };
                self.cursor
                    .begin(&mut *self.keeper, window.number, &window.from, &window.until)?;
                passing("window.begun");
                self.window = window.number;
                (window, None)
            }
        };
        self.unfinished = Some((window.clone(), offset.clone()));
        self.window_deletes.iter_mut().for_each(|deletes| *deletes = 0);
        let same_snapshot = window.until == snapshot;
        self.stream().read(window.clone(), offset);
        let began = Instant::now();
        let mut chunk = self.stream().next(&self.sources)?;
        while let Some(last) = chunk.last().map(|placed| placed.offset.clone()) {
            passing("chunk.fetched");
            self.orders.status.beat(&name, false);
            let Some(next) = self.deliver_and_read(&chunk)? else {
                self.stream().release()?;
                return Ok(Step::Interrupted);
            };
            chunk = next;
            self.unfinished = Some((window.clone(), Some(last)));
            // Somebody may want it while a long window is delivered.
            if began.elapsed() > Duration::from_secs(1) && (self.orders.stop.is_set() || self.look()?.is_none()) {
                self.stream().release()?;
                return Ok(Step::Interrupted);
            }
        }
        // Rows that were there before are read in the very snapshot that ends the window: none is older than what was delivered,
        // and none comes again.
        let sent = match init.first().cloned() {
            Some(binding) if same_snapshot && self.stream().is_held() => {
                match self.send_rows(&window, &binding)? {
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
            _ => false,
        };
        self.stream().release()?;
        self.from = window.until.clone().into();
        self.unfinished = None;
        passing("window.delivered");
        if !sent {
            self.cursor.end(&mut *self.keeper, self.window, &self.from)?;
        }
        passing("window.ended");
        self.kept = Instant::now();
        if std::mem::take(&mut self.deletes_allowed) {
            self.keeper.execute(
                &format!(
                    "update {}.emaj_sink set sink_reason = null where sink_id = $1",
                    postgres_protocol::escape::escape_identifier(&self.orders.schema)
                ),
                &[&self.cursor.sink()],
            )?;
        }
        if self.since_summary > SUMMARISE_AFTER {
            self.since_summary = 0;
            summarise(&mut self.keeper, &self.orders.schema, &self.sources);
        }
        Ok(Step::Busy)
    }

    /// Sends the next rows that were there before, for one binding, and ends the window with them.
    fn send_rows(&mut self, window: &Window, binding: &str) -> Result<Init> {
        let Some(at) = self.bound.iter().position(|bound| &*bound.name == binding) else {
            return Err(Error::message(
                Kind::Refused,
                format!("binding `{binding}` is not installed"),
            ));
        };
        let progress = super::init::progress(&mut self.keeper, &self.orders.schema, binding)?;
        let table = self.bound[at].table;
        let rows = super::init::rows(
            self.stream().session(),
            &self.orders.renderer,
            &self.sources.tables[table],
            window.number,
            &progress,
            table,
        )?;
        let (sent, last) = (rows.len(), rows.last().map(|placed| placed.change.key.to_string()));
        let made = self.make(&rows, Some(at))?;
        if !self.hand_over(made, &rows, None)? {
            return Ok(Init::Interrupted);
        }
        passing("init.delivered");
        let over = sent < super::init::CHUNK;
        let from: Position = window.until.clone().into();
        let mut transaction = self.keeper.transaction()?;
        super::init::note(
            &mut transaction,
            &self.orders.schema,
            binding,
            last.as_deref(),
            sent as i64,
            over,
        )?;
        self.cursor.end(&mut transaction, window.number, &from)?;
        transaction.commit()?;
        passing("init.noted");
        self.orders
            .status
            .update(self.name(), |status| status.sent += sent as u64);
        Ok(if over { Init::Over } else { Init::Some })
    }

    /// Delivers a chunk; all of it has arrived or is set aside then. `false`: told to stop before.
    fn deliver(&mut self, chunk: &[Placed]) -> Result<bool> {
        self.since_summary += chunk.len();
        let made = self.make(chunk, None)?;
        if let Some(reason) = self.too_many_deletes()? {
            self.cursor.stop(&mut *self.keeper, &reason)?;
            self.condition(SinkCondition::Stopped(reason.clone()));
            if self.orders.until_empty {
                return Err(
                    Error::message(Kind::Refused, format!("sink `{}` is stopped: {reason}", self.name())).hint(
                        format!(
                            "look at what was deleted; `emaj sink resume {}` delivers it all the same",
                            self.name()
                        ),
                    ),
                );
            }
            return Ok(false);
        }
        let last = chunk.last().map(|placed| placed.offset.clone());
        self.hand_over(made, chunk, last.as_ref())
    }

    /// Renders what each binding makes of each change, for all bindings or only one; what cannot be rendered is set aside, and what
    /// waits behind it too.
    fn make(&mut self, chunk: &[Placed], only: Option<usize>) -> Result<Made> {
        let (mut keyed, mut aside) = (Vec::with_capacity(chunk.len()), Vec::new());
        let parked = self.parked.clone();
        let mut turn = 0;
        for (number, placed) in chunk.iter().enumerate() {
            // Several changes may have one offset; a delivery has one of its own.
            turn = match number.checked_sub(1).map(|before| &chunk[before].offset) {
                Some(before) if *before == placed.offset => turn + 1,
                _ => 0,
            };
            for at in 0..self.bound.len() {
                let bound = &self.bound[at];
                if bound.table != placed.change.table
                    || only.is_some_and(|only| only != at)
                    || !placed.change.is_init && !bound.since.is_before(placed.change.txid, placed.change.lsn)
                {
                    continue;
                }
                let binding = Arc::clone(&bound.name);
                if let Some(front) = self.front(at, placed) {
                    aside.push((number, at, None));
                    self.park(at, placed, front);
                    continue;
                }
                match self.render(at, placed) {
                    Ok(Some(mut made)) => {
                        made.delivery.offset = own_offset(&placed.offset, turn, &binding);
                        let is_delete = placed.change.new.is_none() || deletes(&made.delivery.action);
                        self.window_deletes[at] += u64::from(is_delete);
                        keyed.push((number, at, made));
                    }
                    Ok(None) => {}
                    Err(fault) if fault.verdict == Verdict::Down => {
                        return Err(Error::message(Kind::Unreachable, fault.reason));
                    }
                    Err(fault) => {
                        tracing::warn!(sink = %self.name(), %binding, "a change is set aside: {:?}", fault.verdict);
                        aside.push((number, at, Some(fault)));
                        self.park(at, placed, placed.change.key.to_string());
                    }
                }
            }
        }
        Ok(Made { keyed, aside, parked })
    }

    fn render(&mut self, at: usize, placed: &Placed) -> Result<Option<Keyed>, Fault> {
        let mut asker = Asker {
            session: &mut self.asker,
            renderer: &self.orders.renderer,
            sources: &self.sources,
        };
        render(&self.bound[at], placed, &self.orders.source, &mut asker)
    }

    /// The key under which that stands what a change has to wait for, if there is anything.
    fn front(&self, at: usize, placed: &Placed) -> Option<String> {
        let bound = &self.bound[at];
        let keys = bound.keys_of(&placed.change).into_iter().rev();
        keys.filter_map(|key| self.parked.get(&(bound.name.to_string(), key)))
            .next()
            .cloned()
    }

    /// Remembers that later changes of the same row have to wait.
    fn park(&mut self, at: usize, placed: &Placed, front: String) {
        let bound = &self.bound[at];
        for key in bound.keys_of(&placed.change) {
            self.parked.insert((bound.name.to_string(), key), front.clone());
        }
    }

    /// Sets a change aside: in front, or behind one of the same row that was refused in the same batch.
    fn set_aside(&mut self, at: usize, placed: &Placed, fault: Option<Fault>) -> SetAside {
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

    /// The reason to stop, when a binding would delete more in this window than its `max_deletes`.
    fn too_many_deletes(&mut self) -> Result<Option<String>> {
        if self.deletes_allowed {
            return Ok(None);
        }
        for (at, bound) in self.bound.iter().enumerate() {
            let (Some(limit), deletes @ 1..) = (bound.manifest.max_deletes, self.window_deletes[at]) else {
                continue;
            };
            let most = match limit {
                Limit::Rows(rows) => rows,
                Limit::Percent(share) => {
                    let source = &self.sources.tables[bound.table];
                    // By its present name: it may be another one than at the last install.
                    let present = columns_of(&mut self.asker, source.oid, &source.columns)
                        .map_err(|fault| Error::message(Kind::Failed, fault.reason))?;
                    let table = QualifiedName::new(present.table.schema, present.table.name);
                    let sql = format!("select count(*) from {table}");
                    let rows: i64 = self.asker.query_one(&sql, &[])?.get(0);
                    (u64::try_from(rows).unwrap_or(0) + deletes) * u64::from(share) / 100
                }
            };
            if deletes > most {
                return Ok(Some(format!(
                    "binding `{}` would delete {deletes} or more at once, and its `max_deletes` allows {most}",
                    bound.name
                )));
            }
        }
        Ok(None)
    }

    /// Hands deliveries to the place until all have arrived or are set aside, and puts that on record. `false`: told to stop before.
    fn hand_over(&mut self, made: Made, chunk: &[Placed], offset: Option<&Offset>) -> Result<bool> {
        let Made {
            keyed: mut work,
            mut aside,
            mut parked,
        } = made;
        if self.place.is_none() && !work.is_empty() && !self.open()? {
            return Ok(false);
        }
        // What the place knows to have is not sent again.
        if let Some(resume) = self
            .resume
            .clone()
            .filter(|resume| window_of(resume) == Some(self.window))
        {
            work.retain(|(_, _, keyed)| keyed.delivery.offset > resume);
        }
        while !work.is_empty() {
            let Some(place) = &mut self.place else {
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
            self.reached = Instant::now();
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
    fn settle(
        &mut self,
        mut aside: Vec<(usize, usize, Option<Fault>)>,
        parked: &mut HashMap<(String, String), String>,
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
    fn note(&mut self, aside: &[SetAside], offset: Option<&Offset>) -> Result<()> {
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

    /// Reaches the place, however long it takes. `false`: told to stop before.
    fn open(&mut self) -> Result<bool> {
        // A snapshot is not held while nothing can be delivered.
        self.stream().release()?;
        loop {
            while let Some(left) = self.not_before.and_then(|at| at.checked_duration_since(Instant::now())) {
                if self.orders.stop.wait(left.min(Duration::from_secs(1))) || self.look()?.is_none() {
                    return Ok(false);
                }
            }
            self.orders.status.beat(self.name(), true);
            let opened = self.try_open();
            self.orders.status.beat(self.name(), false);
            match opened {
                Ok(lanes) => {
                    self.place = Some(lanes);
                    self.reached = Instant::now();
                    // Some places can be opened without being asked: a fault is over when something has arrived.
                    if !self.was_in_fault {
                        self.condition(SinkCondition::Up);
                    }
                    return Ok(true);
                }
                Err(fault) => self.is_down(&fault, false)?,
            }
        }
    }

    fn try_open(&mut self) -> Result<Lanes, Fault> {
        let (mut lanes, mut first) = Lanes::open(&*self.orders.opener)?;
        passing("sink.opened");
        self.resume = first.resume()?;
        lanes.add(first);
        while lanes.len() < self.orders.opener.lanes() {
            lanes.add(self.orders.opener.open()?);
        }
        Ok(lanes)
    }

    /// Notes that something arrived, or that nothing is left to be delivered to a place that was opened.
    fn is_up(&mut self) -> Result<()> {
        self.faults = 0;
        self.down_since = None;
        if std::mem::take(&mut self.was_in_fault) {
            tracing::info!(sink = %self.name(), "the sink is up again");
            self.cursor.fault(&mut *self.keeper, None)?;
        }
        self.condition(SinkCondition::Up);
        Ok(())
    }

    /// Notes that the place is down, and when it is tried again. An error when nobody wants to wait for it any longer.
    fn is_down(&mut self, fault: &Fault, was_open: bool) -> Result<()> {
        self.place = None;
        self.faults += 1;
        let since = *self.down_since.get_or_insert_with(Instant::now);
        let asked = fault.pause.unwrap_or_default();
        // A connection that was lost is made anew at once; whoever refuses again gets time.
        let refusals = self.faults - usize::from(was_open);
        let pause = refusals.checked_sub(1).map_or(Duration::ZERO, backoff).max(asked);
        self.not_before = Some(Instant::now() + pause);
        if !self.was_in_fault {
            tracing::warn!(sink = %self.name(), "the sink is down: {}", fault.reason);
            self.was_in_fault = true;
        }
        self.condition(SinkCondition::Down(fault.reason.clone()));
        self.cursor.fault(&mut *self.keeper, Some(&fault.reason))?;
        let nobody_waits = since.elapsed() + asked >= self.orders.patience && (refusals > 0 || !asked.is_zero());
        if self.orders.until_empty && nobody_waits {
            return Err(Error::message(
                Kind::Unreachable,
                format!("sink `{}` is down: {}", self.name(), fault.reason),
            )
            .hint("nothing is lost: what is not delivered stays in the log"));
        }
        Ok(())
    }

    fn reload_parked(&mut self, mark: &str) -> Result<()> {
        if self.place.is_none() {
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
    fn read_parked(&mut self) -> Result<()> {
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

    /// Tries again what is due, each key in its order. `false`: there was nothing.
    fn retry_due(&mut self) -> Result<bool> {
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
            let Some(place) = &mut self.place else {
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

/// What bindings made of a chunk: deliveries, and what is set aside (each with the places of its change and its binding).
struct Made {
    keyed: Vec<Work>,
    aside: Vec<(usize, usize, Option<Fault>)>,
    /// What was set aside before this chunk.
    parked: HashMap<(String, String), String>,
}

/// What became of a change that was tried again.
enum Tried {
    /// It arrived, or there is nothing to be done about it any more.
    Arrived,
    Refused(Fault),
    /// The place is down, and this courier was told to stop.
    Interrupted,
}

/// Whether an action takes something away that a person would miss.
fn deletes(action: &Action) -> bool {
    match action {
        Action::Entry(entry) => entry.new.is_none(),
        Action::Row(row) => row.upsert.is_none(),
        _ => false,
    }
}

/// The place of one delivery among those of its group: behind those of earlier changes and of bindings that come before.
fn own_offset(group: &Offset, turn: usize, binding: &str) -> Offset {
    Offset(format!("{}/{turn:08x}/{binding}", group.0))
}
