//! Carries to one sink what it is owed: reads windows, delivers them, keeps the cursor, sets aside what is refused.
//!
//! One courier at a time delivers to a sink, whatever the number of workers: it holds an advisory lock on the session that moves the
//! cursor, so that a worker that has lost its session can move the cursor no more; what it still has for the place is
//! stopped there (`sink::Lease`, the position of a database). A window is on record before anything of it is
//! delivered, and a chunk's offset after all of it has arrived or is set aside: after a crash the last chunk comes again,
//! with the same ids.
//!
//! Its parts: `anew` tells rows anew whose values went with an entry, `claim` asks whether it may deliver (`standby`: while another worker does), `rounds` is its day, `window` takes a window of the
//! log to its end, `rows` sends rows that were there before, `guard` counts what it deletes, `chunk` makes deliveries of changes, `hand_over` gives them to the place and puts
//! on record what became of them, `place` reaches the place, `parked` knows what waits, `rekeyed` what became of its keys, `one_key` which keys are one, `retry` tries that again, `replay` knows what was
//! delivered before. They share the state of one [`Courier`]; this file makes it, and makes it anew when a session is lost.

mod anew;
mod chunk;
mod claim;
mod guard;
mod hand_over;
mod one_key;
mod parked;
mod place;
mod rekeyed;
mod replay;
mod retry;
mod rounds;
mod rows;
mod standby;
mod window;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::claim::{Turn, snapshot, take, unfinished};
use self::guard::Guard;
use self::parked::{Mark, Parked, Settled};
use self::place::Place;
use super::ask::{Passed, settle};
use super::sources::Fed;
use super::status::{SinkCondition, Status};
use super::stop::Stop;
use super::stream::{Stream, Window};
use super::worker::{Source, check_installed};
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, Cursor, Position, Trouble};
use crate::manifest;
use crate::pg::{Prompt, Session, Settings};
use crate::render::Renderer;
use crate::sink::{Offset, Opener};

/// The pauses between tries to reach a place that is down, and the database.
const PAUSES: [u64; 5] = [200, 500, 1_000, 2_000, 5_000];

/// Returns how a place is reached, as far as the settings of its sink lead somewhere now.
pub(super) type LookUp = dyn Fn() -> Result<Box<dyn Opener>> + Send + Sync;

/// What a courier is made of.
#[derive(Clone)]
pub(super) struct Orders {
    pub schema: String,
    pub settings: Settings,
    pub renderer: Arc<Renderer>,
    pub sink: manifest::Sink,
    pub bindings: Vec<manifest::Binding>,
    /// All sinks of the manifest that a binding goes to, this one among them.
    pub beside: Arc<BTreeSet<String>>,
    /// Looks the references of its settings up: a secret may come later.
    pub look_up: Arc<LookUp>,
    pub source: Source,
    /// End when the log is delivered to its end.
    pub until_empty: bool,
    /// With `until_empty`: how long a place may be out of reach.
    pub patience: Duration,
    /// The bindings whose rows are to be sent, by this courier.
    pub init: Vec<String>,
    pub status: Status,
    pub stop: Stop,
    /// Set when another manifest may be installed: this one may have been edited.
    pub outdated: Arc<AtomicBool>,
}

impl Orders {
    /// Tells whether the rows of all bindings are to be sent, by this courier.
    fn sends_all(&self) -> bool {
        let is_sent = |binding: &manifest::Binding| self.init.contains(&binding.name.value);
        !self.init.is_empty() && self.bindings.iter().all(is_sent)
    }
}

/// Why a courier came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was told to.
    Stopped,
    /// Everything is delivered, or set aside.
    Empty,
}

/// How a life of a courier's sessions came to its end.
enum Life {
    Over(Result<Ended>),
    /// The sink was paused, or is wanted by another process.
    Again,
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
        // Whatever is lost of its state is in the database: a life that ends by a mistake in the program is followed by another one.
        let served = catch_unwind(AssertUnwindSafe(|| serve(orders))).unwrap_or_else(|_| Err(broke_down(name)));
        match served {
            Ok(Life::Over(ended)) => return ended,
            Ok(Life::Again) => continue,
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
                let reason = on_one_line(&error);
                tracing::error!(sink = %name, "{reason}");
                let condition = match error.kind() {
                    Kind::Manifest => SinkCondition::Down(reason),
                    _ => SinkCondition::Broken(reason),
                };
                orders.status.update(name, |status| status.condition = condition);
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

/// What is said of a panic: its text may hold what is in a row, so the log has its place only.
fn broke_down(sink: &str) -> Error {
    Error::message(
        Kind::Failed,
        format!("the courier of sink `{sink}` broke down: a mistake in emaj, not in the manifest or at the sink"),
    )
    .hint("the log names the place in the program: please report it; nothing is lost, what is not delivered stays in the log")
}

/// Returns what is wrong as a log and a list show it.
fn on_one_line(error: &Error) -> String {
    match error.cause() {
        Some(manifest::Diagnostics(problems)) => {
            let problems: Vec<String> = problems.iter().map(|problem| format!("{problem:#}")).collect();
            problems.join("; ")
        }
        None => error.to_string(),
    }
}

fn backoff(failures: usize) -> Duration {
    Duration::from_millis(PAUSES[failures.min(PAUSES.len() - 1)])
}

/// One life of the sessions: ends with an error when one of them is lost.
fn serve(orders: &Orders) -> Result<Life> {
    let name = &orders.sink.name.value;
    let settings = orders.settings.with_application_name(&format!("emaj {name}"));
    let mut keeper = settings.connect(Prompt::Never)?;
    keeper.without_limits()?;
    check_installed(&mut keeper, &orders.schema)?;
    let sink = match take(orders, &mut keeper)? {
        Turn::Ours(sink) => sink,
        Turn::Over(ended) => return Ok(Life::Over(Ok(ended))),
    };
    let cursor = Cursor::new(&orders.schema, sink.id);
    let opener = (orders.look_up)().inspect_err(|error| {
        // (Whoever looks at the sink sees no worker's log.)
        let trouble = Trouble::Down(on_one_line(error));
        if let Err(error) = cursor.fault(&mut *keeper, Some(&trouble.to_string())) {
            tracing::warn!(sink = %name, "what is wrong could not be put on record: {error}");
        }
    })?;
    let stream = Stream::new(
        settings.connect(Prompt::Never)?,
        &orders.schema,
        Arc::clone(&orders.renderer),
    )?;
    let mut asker = settings.connect(Prompt::Never)?;
    settle(&mut asker, &orders.renderer)?;
    tracing::info!(sink = %name, "delivering to {}", opener.describe());
    let mut courier = Courier {
        orders,
        opener,
        sessions: Sessions {
            keeper,
            stream: Arc::new(Mutex::new(stream)),
            asker,
        },
        progress: Progress {
            cursor,
            window_number: sink.window,
            from: sink.from.clone(),
            unfinished: unfinished(&sink)?,
            replay: sink.replay.as_deref().map(snapshot).transpose()?.map(Position::from),
        },
        fed: Fed::default(),
        guard: Guard::new(sink.allows_deletes()),
        parked: Parked::default(),
        parked_mark: None,
        deferred: None,
        begun_here: BTreeSet::new(),
        place: Place::new(&sink, &orders.sink.kind),
        pace: Pace {
            kept: Instant::now(),
            busy: Instant::now(),
            asked: Instant::now(),
            pause: Duration::ZERO,
        },
        since_summary: 0,
        is_hastened: false,
    };
    let served = courier.load().and_then(|()| courier.go());
    if let Err(error) = &served {
        courier.is_broken(error);
    }
    match served {
        // (The place has said when it is to be asked again, or was waited for.)
        Err(error) if courier.place.is_given_up && !orders.stop.is_set() => Ok(Life::Over(Err(error))),
        served => Ok(served?.map_or(Life::Again, |ended| Life::Over(Ok(ended)))),
    }
}

/// What the parts share.
struct Courier<'a> {
    orders: &'a Orders,
    opener: Box<dyn Opener>,
    sessions: Sessions,
    progress: Progress,
    fed: Fed,
    guard: Guard,
    parked: Parked,
    /// It is read anew when that has changed on record; `None`: in any case.
    parked_mark: Option<Mark>,
    /// What is put on record together with what rows are told anew, in the end.
    deferred: Option<Settled>,
    /// Changes of which this courier put on record that they are being tried: nobody before it left them so.
    begun_here: BTreeSet<i64>,
    place: Place,
    pace: Pace,
    /// Rows delivered since the ends of the logs were summarised.
    since_summary: usize,
    /// With `until_empty`: what has to be tried again was tried once more at the end.
    is_hastened: bool,
}

/// The connections to the database that is read.
struct Sessions {
    /// Holds the lock, moves the cursor, sets aside.
    keeper: Session,
    /// Reads the logs, in a thread of its own where there is much to read.
    stream: Arc<Mutex<Stream>>,
    /// Asks what bindings ask.
    asker: Session,
}

/// How far the sink has come.
struct Progress {
    cursor: Cursor,
    /// That of the last window that was begun.
    window_number: i64,
    /// Everything before is delivered.
    from: Position,
    /// The window that is under way, and how far it is delivered.
    unfinished: Option<(Window, Option<Offset>)>,
    /// Everything before was delivered, and is delivered again.
    replay: Option<Position>,
}

impl Progress {
    /// Returns the place in the WAL before which the window that is under way is delivered.
    fn place(&self) -> u64 {
        let offset = self.unfinished.as_ref().and_then(|(_, offset)| offset.as_ref());
        offset.and_then(|offset| journal::place_of(&offset.0)).unwrap_or(0)
    }

    /// Returns how far the sink has come, or had come before it was set back.
    fn passed(&self) -> Passed<'_> {
        match &self.replay {
            Some(replay) => Passed {
                from: replay,
                place: None,
            },
            None => Passed {
                from: &self.from,
                place: Some(self.place()),
            },
        }
    }
}

/// When the cursor was put on record last, when something was delivered last, when it was asked what the sink is fed by, and how long to rest.
struct Pace {
    kept: Instant,
    busy: Instant,
    asked: Instant,
    pause: Duration,
}

impl Courier<'_> {
    fn name(&self) -> &str {
        &self.orders.sink.name.value
    }

    fn stream(&self) -> MutexGuard<'_, Stream> {
        // A reader that broke down has left it as a lost connection would.
        self.sessions.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn condition(&self, condition: SinkCondition) {
        self.orders
            .status
            .update(self.name(), |status| status.condition = condition);
    }
}
