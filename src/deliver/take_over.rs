//! Takes a sink over from its worker for a while: `emaj init` sends rows and takes away, `emaj replay` moves the cursor.
//!
//! Two advisory locks: the claim, which every worker looks at and lets go, and the one of whoever delivers. They are the session's and go
//! with it. A worker that looks holds the claim for a moment; who keeps it longer is another `init` or `replay`.

use std::time::Duration;

use postgres::Transaction;

use super::stop::Stop;
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, SinkRecord};
use crate::pg::{Locking, Session, limits, retry_locked, transact};

/// How long one try waits.
const TRY: Duration = Duration::from_secs(1);
/// How long a worker may take to let go, at least: it ends what is under way.
const LET_GO: Duration = Duration::from_secs(60);

/// Claims a sink: its worker lets go when it sees that. `false`: told to stop before.
///
/// # Errors
/// [`Kind::Locked`] with the name of the other one, when he keeps it longer than `wait`; whatever the server answers.
pub(super) fn claim(
    session: &mut Session,
    schema: &str,
    sink: &SinkRecord,
    wait: Duration,
    stop: &Stop,
) -> Result<bool> {
    let (_, claim) = journal::sink_locks(schema, sink.id);
    lock(session, claim, wait, stop, &|error| claimed(error, sink))
}

/// Claims a sink and waits until its worker has let go. `false`: told to stop before.
///
/// # Errors
/// As [`claim`]; a worker that does not let go is waited for a minute at least.
pub fn take_over(session: &mut Session, schema: &str, sink: &SinkRecord, wait: Duration, stop: &Stop) -> Result<bool> {
    let (courier, _) = journal::sink_locks(schema, sink.id);
    let keeps = |error: Error| {
        let what = format!("the worker that delivers to sink `{}` does not let go of it", sink.name);
        told(error, what)
    };
    Ok(claim(session, schema, sink, wait, stop)? && lock(session, courier, wait.max(LET_GO), stop, &keeps)?)
}

/// Runs `work` in a transaction that has the claims of all `sinks`: not beside an `init` or a `replay` of one of them.
///
/// # Errors
/// As [`claim`], and what `work` fails with.
pub(super) fn beside_nobody<T>(
    session: &mut Session,
    schema: &str,
    sinks: &[SinkRecord],
    wait: Duration,
    work: &mut dyn FnMut(&mut Transaction<'_>) -> Result<T>,
) -> Result<T> {
    transact(session, Locking { timeout: TRY, wait }, &mut |transaction| {
        for sink in sinks {
            let (_, claim) = journal::sink_locks(schema, sink.id);
            transaction
                .execute("select pg_catalog.pg_advisory_xact_lock($1)", &[&claim])
                .map_err(|error| claimed(error.into(), sink))?;
        }
        work(transaction)
    })
}

fn lock(session: &mut Session, key: i64, wait: Duration, stop: &Stop, tell: &dyn Fn(Error) -> Error) -> Result<bool> {
    retry_locked(session, Locking { timeout: TRY, wait }, &mut |session| {
        if stop.is_set() {
            return Ok(false);
        }
        let mut transaction = session.transaction()?;
        transaction.batch_execute(&limits(TRY))?;
        // (Not the transaction's lock, but the session's.)
        transaction
            .execute("select pg_catalog.pg_advisory_lock($1)", &[&key])
            .map_err(|error| tell(error.into()))?;
        transaction.commit()?;
        Ok(true)
    })
}

fn claimed(error: Error, sink: &SinkRecord) -> Error {
    told(
        error,
        format!(
            "another `emaj init` or `emaj replay` has taken over sink `{}`",
            sink.name
        ),
    )
}

fn told(error: Error, what: String) -> Error {
    match error.kind() {
        Kind::Locked => Error::message(Kind::Locked, what),
        _ => error,
    }
}
