//! Ctrl-C, a kill or a lost terminal while the server works: the running statement is cancelled, so that its transaction is taken back at once.
//!
//! Without this the program would be gone and the server would go on, or wait for its locks. Held by `transact`, and by
//! commands that read for a long time. After it is dropped, and at a second signal, the program ends as usual.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::session::{Canceller, Session};
use crate::errors::{Error, Kind, Result};

/// How often the watcher looks, and how often it repeats the cancel: one that comes between two statements is lost.
const PACE: Duration = Duration::from_millis(50);

/// While it lives, SIGINT, SIGTERM and SIGHUP cancel what the session does instead of ending the program.
#[derive(Debug)]
pub struct Interrupt {
    came: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
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
        let kinds = [
            (SIGINT, Kind::Interrupted),
            (SIGTERM, Kind::Terminated),
            (SIGHUP, Kind::Terminated),
        ];
        for (signal, kind) in kinds {
            let code = i32::from(kind.exit_code());
            // In this order: the second signal finds the flag of the first.
            flag::register_conditional_shutdown(signal, code, Arc::clone(&over))?;
            flag::register_conditional_shutdown(signal, code, Arc::clone(&came))?;
            if kind == Kind::Terminated {
                flag::register(signal, Arc::clone(&terminated))?;
            }
            flag::register(signal, Arc::clone(&came))?;
        }
        let watcher = std::thread::spawn({
            let (came, over) = (Arc::clone(&came), Arc::clone(&over));
            move || watch(&came, &over, &cancellers)
        });
        Ok(Interrupt {
            came,
            terminated,
            over,
            watcher: Some(watcher),
        })
    }

    /// Fails when a signal has come.
    ///
    /// # Errors
    /// [`Kind::Interrupted`] or [`Kind::Terminated`]; the caller ends its transaction without a commit.
    pub fn check(&self) -> Result<()> {
        if self.came.load(Ordering::Relaxed) {
            let (kind, word) = if self.terminated.load(Ordering::Relaxed) {
                (Kind::Terminated, "terminated")
            } else {
                (Kind::Interrupted, "interrupted")
            };
            return Err(Error::message(kind, format!("{word}; nothing was changed")));
        }
        Ok(())
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
    }
}
