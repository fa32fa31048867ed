//! Ctrl-C, a kill or a lost terminal while the server works: the running statement is cancelled, so that its transaction is taken back at once.
//!
//! Without this the program would be gone and the server would go on, or wait for its locks. Held by `transact`, and by
//! commands that read for a long time. After it is dropped, and at a second signal, the program ends as usual, unless it heeds the signals by
//! other means ([`heeded`]). SIGHUP stays ignored where the program was started so (`nohup`).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

use super::session::{Canceller, Session};
use crate::errors::{Error, Kind, Result, UNCHANGED};

/// How often the watcher looks, and how often it repeats the cancel: one that comes between two statements is lost.
const PACE: Duration = Duration::from_millis(50);

/// The signals, and as what each ends the program.
const SIGNALS: [(i32, Kind); 3] = [
    (SIGINT, Kind::Interrupted),
    (SIGTERM, Kind::Terminated),
    (SIGHUP, Kind::Terminated),
];

/// How many listen.
static LISTENERS: AtomicUsize = AtomicUsize::new(0);
/// Of each signal: whether the program heeds it by other means.
static HEEDED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];
/// Of each signal: whether it ends the program. A signal that was listened to once does nothing by itself any more.
static ENDS: LazyLock<[Arc<AtomicBool>; 3]> = LazyLock::new(Default::default);

/// Says that a signal stopped the work, and `what` has become of it.
pub fn stopped(terminated: bool, what: &str) -> Error {
    let (kind, word) = match terminated {
        true => (Kind::Terminated, "terminated"),
        false => (Kind::Interrupted, "interrupted"),
    };
    Error::message(kind, format!("{word}; {what}"))
}

/// Says that the program heeds `signals` by other means: they end it no more when nobody listens here.
pub fn heeded(signals: &[i32]) {
    for ((signal, _), heeded) in SIGNALS.iter().zip(&HEEDED) {
        heeded.fetch_or(signals.contains(signal), Ordering::SeqCst);
    }
    decide();
}

/// Decides which signals end the program now.
fn decide() {
    let nobody = LISTENERS.load(Ordering::SeqCst) == 0;
    for (ends, heeded) in ENDS.iter().zip(&HEEDED) {
        ends.store(nobody && !heeded.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// Returns whether SIGHUP was ignored when the program was started, as `nohup` does; looked at before anything listens to it. (Only Linux
/// tells it; the others are caught whatever a shell does with them for its jobs in the background, as libpq's programs do.)
pub fn hangup_is_ignored() -> bool {
    static IGNORED: LazyLock<bool> = LazyLock::new(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
    });
    *IGNORED
}

/// Returns the signals that are listened to, with their place in [`SIGNALS`].
fn listened() -> impl Iterator<Item = (usize, i32, Kind)> {
    let signals = SIGNALS.into_iter().enumerate();
    signals
        .map(|(at, (signal, kind))| (at, signal, kind))
        .filter(|(_, signal, _)| *signal != SIGHUP || !hangup_is_ignored())
}

/// Has each signal end the program while nobody heeds it.
fn prepare() -> std::io::Result<()> {
    static PREPARED: AtomicBool = AtomicBool::new(false);
    if !PREPARED.swap(true, Ordering::SeqCst) {
        for (at, signal, kind) in listened() {
            flag::register_conditional_shutdown(signal, i32::from(kind.exit_code()), Arc::clone(&ENDS[at]))?;
        }
    }
    Ok(())
}

/// While it lives, SIGINT, SIGTERM and SIGHUP cancel what the session does instead of ending the program.
#[derive(Debug)]
pub struct Interrupt {
    came: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
    actions: Vec<SigId>,
}

impl Interrupt {
    /// Begins to listen for the signals on behalf of `session`.
    ///
    /// # Errors
    /// The system does not let the program handle the signals.
    pub fn listen(session: &Session) -> Result<Interrupt> {
        Interrupt::listen_among(vec![session.canceller()])
    }

    /// Begins to listen for the signals on behalf of several sessions.
    ///
    /// # Errors
    /// As [`Interrupt::listen`].
    pub fn listen_among(cancellers: Vec<Canceller>) -> Result<Interrupt> {
        let came = Arc::new(AtomicBool::new(false));
        let over = Arc::new(AtomicBool::new(false));
        let terminated = Arc::new(AtomicBool::new(false));
        let mut actions = Vec::new();
        prepare()?;
        for (_, signal, kind) in listened() {
            let code = i32::from(kind.exit_code());
            // In this order: the second signal finds the flag of the first.
            actions.push(flag::register_conditional_shutdown(signal, code, Arc::clone(&came))?);
            if kind == Kind::Terminated {
                actions.push(flag::register(signal, Arc::clone(&terminated))?);
            }
            actions.push(flag::register(signal, Arc::clone(&came))?);
        }
        LISTENERS.fetch_add(1, Ordering::SeqCst);
        decide();
        let watcher = std::thread::spawn({
            let (came, over) = (Arc::clone(&came), Arc::clone(&over));
            move || watch(&came, &over, &cancellers)
        });
        Ok(Interrupt {
            came,
            terminated,
            over,
            watcher: Some(watcher),
            actions,
        })
    }

    /// Fails when a signal has come.
    ///
    /// # Errors
    /// [`Kind::Interrupted`] or [`Kind::Terminated`]; the caller ends its transaction without a commit.
    pub fn check(&self) -> Result<()> {
        self.check_saying(UNCHANGED)
    }

    /// As [`Interrupt::check`], for work that is not one transaction: `what` has become of it.
    ///
    /// # Errors
    /// As [`Interrupt::check`].
    pub fn check_saying(&self, what: &str) -> Result<()> {
        match self.came.load(Ordering::Relaxed) {
            true => Err(stopped(self.terminated.load(Ordering::Relaxed), what)),
            false => Ok(()),
        }
    }

    /// Returns what a transaction failed with: the signal, if one came, since the server may tell of its cancelled statement in any language. A
    /// connection that was lost is told as such: whether the transaction was committed is not known then.
    pub fn cause(&self, error: Error) -> Error {
        self.cause_saying(error, UNCHANGED)
    }

    /// As [`Interrupt::cause`], for work that is not one transaction: `what` has become of it.
    pub fn cause_saying(&self, error: Error, what: &str) -> Error {
        match self.check_saying(what) {
            Err(interrupted) if error.kind() != Kind::Unreachable => interrupted,
            _ => error,
        }
    }
}

fn watch(came: &AtomicBool, over: &AtomicBool, cancellers: &[Canceller]) {
    while !over.load(Ordering::Relaxed) {
        if came.load(Ordering::Relaxed) {
            // When the server cannot be reached, its answer will not come either, and the statement fails by itself.
            for canceller in cancellers {
                let _ = canceller.cancel();
            }
        }
        std::thread::park_timeout(PACE);
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            watcher.thread().unpark();
            // The watcher holds nothing that its panic could have left half done.
            let _ = watcher.join();
        }
        LISTENERS.fetch_sub(1, Ordering::SeqCst);
        decide();
        for action in self.actions.drain(..) {
            low_level::unregister(action);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_told_whatever_the_server_says_of_it() {
        LISTENERS.fetch_add(1, Ordering::SeqCst);
        let interrupt = Interrupt {
            came: Arc::new(AtomicBool::new(true)),
            terminated: Arc::default(),
            over: Arc::default(),
            watcher: None,
            actions: Vec::new(),
        };
        let told = |kind, words: &str| interrupt.cause(Error::message(kind, words)).to_string();
        let german = "storniere Anfrage wegen Benutzeraufforderung";
        assert_eq!(told(Kind::Failed, german), "interrupted; nothing was changed");
        let said = interrupt.cause_saying(Error::message(Kind::Failed, german), "this step changed nothing");
        assert_eq!(said.to_string(), "interrupted; this step changed nothing");
        // It may have been committed.
        assert_eq!(told(Kind::Unreachable, "failed to commit"), "failed to commit");
        interrupt.came.store(false, Ordering::Relaxed);
        assert_eq!(told(Kind::Failed, german), german);
    }
}
