//! One act, one transaction: with a lock time-out, tried again until the wait is over, taken back at Ctrl-C.
//!
//! Called by every command that changes something by emaj's SQL functions.

use postgres::{IsolationLevel, Transaction};

use super::error::classify;
use super::interrupt::Interrupt;
use super::locking::{Locking, limits, retry_locked};
use super::session::Session;
use crate::errors::{Kind, Result};

/// Runs `work` in a transaction (read committed) and commits it. What `work` returns was read inside: after the commit nothing is
/// asked any more, so that a Ctrl-C either takes all back or comes too late.
///
/// # Errors
/// [`Kind::Locked`] with the blocker's name, [`Kind::Interrupted`], and what `work` fails with; nothing was changed then.
pub fn transact<T>(
    session: &mut Session,
    locking: Locking,
    work: &mut dyn FnMut(&mut Transaction<'_>) -> Result<T>,
) -> Result<T> {
    let interrupt = Interrupt::listen(session)?;
    let done = retry_locked(session, locking, &mut |session| {
        interrupt.check()?;
        attempt(session, locking, &interrupt, work)
    });
    done.map_err(|error| interrupt.cause(error))
}

fn attempt<T>(
    session: &mut Session,
    locking: Locking,
    interrupt: &Interrupt,
    work: &mut dyn FnMut(&mut Transaction<'_>) -> Result<T>,
) -> Result<T> {
    let mut transaction = session
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()?;
    transaction.batch_execute(&limits(locking.timeout))?;
    let done = work(&mut transaction)?;
    interrupt.check()?;
    transaction.commit().map_err(|error| {
        let error = classify(error, "commit");
        if error.kind() == Kind::Unreachable {
            error.hint("whether it was done is not known: look with `emaj history`")
        } else {
            error
        }
    })?;
    Ok(done)
}
