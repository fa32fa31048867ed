//! Waiting for locks: each try within a time-out, whole tries again until the wait is over, then the blocker is named.
//!
//! Called by `install` with a try of its own, and by `transact` for everything that is one transaction.

use std::time::{Duration, Instant};

use super::blocker::Watch;
use super::session::Session;
use crate::errors::{Kind, Result, UNCHANGED};

/// How long to wait for locks.
#[derive(Debug, Clone, Copy)]
pub struct Locking {
    /// How long one try may keep the application waiting.
    pub timeout: Duration,
    /// How long to go on trying.
    pub wait: Duration,
}

/// With these a transaction has no limit of time. Those of a role or a database are meant for the application. (One for transactions there is
/// from 17 on.)
pub const NO_LIMITS: &str = "set local statement_timeout = 0;
set local idle_in_transaction_session_timeout = 0;
select pg_catalog.set_config('transaction_timeout', '0', true) where pg_catalog.current_setting('transaction_timeout', true) is not null;";

/// Returns the settings under which a transaction that changes something runs, a line each: how long it may wait for a lock, and no other
/// limit of time.
pub fn limits(lock_timeout: Duration) -> String {
    format!(
        "set local lock_timeout = '{}ms';\n{NO_LIMITS}",
        lock_timeout.as_millis().clamp(1, i32::MAX as u128)
    )
}

/// The pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Calls `attempt` until it has its locks or the wait is over; `attempt` is one whole transaction, with its own lock time-out.
///
/// # Errors
/// [`Kind::Locked`] with the blocker's name when the wait is over; every other error of `attempt` at once.
pub fn retry_locked<T>(
    session: &mut Session,
    locking: Locking,
    attempt: &mut dyn FnMut(&mut Session) -> Result<T>,
) -> Result<T> {
    retry_locked_among(session, &[], locking, attempt)
}

/// Like [`retry_locked`], for an attempt in which the processes `others` wait for locks too.
pub fn retry_locked_among<T>(
    session: &mut Session,
    others: &[i32],
    locking: Locking,
    attempt: &mut dyn FnMut(&mut Session) -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + locking.wait;
    loop {
        let watch = Watch::begin(session, others);
        let tried = attempt(session);
        let blocker = watch.end();
        match tried {
            Err(error) if error.kind() == Kind::Locked => {
                if Instant::now() + PAUSE > deadline {
                    let error = error.hint(format!(
                        "wait longer with `--wait`, or end the transaction that is in the way; {UNCHANGED}"
                    ));
                    return Err(match blocker {
                        Some(blocker) => error.hint(format!("in the way: {blocker}")),
                        None => error,
                    });
                }
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}
