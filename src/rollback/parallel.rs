//! Carries a rollback out in several sessions at once, by two-phase commit.
//!
//! One session decides, the others are lanes: each locks its tables, puts them back and prepares. When all have prepared, the first one
//! writes sequences, marks and the registry in a transaction whose commit is the decision; then the lanes are committed (`recover`).
//! Nobody reads a log before all locks are held, so that no writer's transaction is seen by halves.
//! What breaks off is ended by `recover`: before the decision all is taken back, after it all is committed.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::lanes::{Lanes, Work};
use super::run::{Report, comment, report};
use super::{Wanted, recover, work};
use crate::errors::{Error, Kind, Result};
use crate::fail_at;
use crate::pg::{self, Doing as _, Interrupt, Locking, Session, classify, retry_locked_among};

/// How often the lanes are looked at, and a cancel is repeated: one that comes between two statements is lost.
const PACE: Duration = Duration::from_millis(50);

/// How it went.
#[derive(Debug)]
pub enum Parallel {
    Done(Report),
    /// Nothing was changed, and one session may do it: a session waited for a lock of another's, or could not prepare (no room, a temporary table).
    NotInSeveral(Error),
}

/// One session, and what it does.
struct Lane {
    session: Session,
    rels: Vec<i64>,
}

/// A rollback that has begun.
struct Begun {
    id: i64,
    key: i64,
    names: Vec<String>,
}

/// What a lane did.
struct Share {
    txid: i64,
    changed: i32,
    strategy: Option<String>,
}

/// Why it was not decided, and whether that is for the reason that there are several sessions.
struct Failure {
    error: Error,
    several: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, several: false }
    }
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Self {
        Error::from(error).into()
    }
}

impl Failure {
    /// When all tables are locked: whom a session waits for now may be one of the others.
    fn under_locks(mut self) -> Self {
        self.several |= self.error.kind() == Kind::Locked;
        self
    }

    /// What a session was cancelled for by a signal is no matter of several sessions.
    fn unless_interrupted(self, interrupt: &Interrupt) -> Self {
        Failure {
            several: self.several && interrupt.check().is_ok(),
            error: interrupt.cause(self.error),
        }
    }
}

/// Rolls back in the sessions of `lanes`; the server tells its progress by notices, as in one session.
///
/// # Errors
/// [`Kind::Refused`], [`Kind::Locked`], [`Kind::Interrupted`], whatever the server answers: nothing was changed then.
/// [`Kind::PartlyDone`] when it was decided and some lane could not be committed.
pub fn run_parallel(
    session: &mut Session,
    schema: &str,
    wanted: &Wanted,
    lanes: &Lanes,
    locking: Locking,
) -> Result<Parallel> {
    let mut open = Vec::with_capacity(lanes.lanes.len());
    let mut pids = Vec::with_capacity(lanes.lanes.len());
    for (at, lane) in lanes.lanes.iter().enumerate() {
        let mut session = session.sibling()?;
        prepare_session(&mut session)?;
        session
            .batch_execute(&format!("set emaj.progress = '{}'", at + 1))
            .doing("prepare a session of the rollback")?;
        pids.push(
            session
                .query_one("select pg_catalog.pg_backend_pid()", &[])
                .doing("prepare a session of the rollback")?
                .get(0),
        );
        open.push(Lane {
            session,
            rels: lane.rels.clone(),
        });
    }
    prepare_session(session)?;
    let interrupt = Interrupt::listen_among(open.iter().map(|lane| lane.session.canceller()).collect())?;
    retry_locked_among(session, &pids, locking, &mut |session| {
        interrupt.check()?;
        attempt(session, schema, wanted, lanes, &mut open, locking.timeout, &interrupt)
    })
}

/// Lets the session be idle while others work, and has it end soon after the program.
fn prepare_session(session: &mut Session) -> Result<()> {
    session
        .batch_execute("set idle_in_transaction_session_timeout = 0; set client_min_messages = notice")
        .doing("prepare a session of the rollback")?;
    // Not to be had on every system.
    let _ = session.batch_execute("set client_connection_check_interval = '1s'");
    Ok(())
}

fn attempt(
    session: &mut Session,
    schema: &str,
    wanted: &Wanted,
    lanes: &Lanes,
    open: &mut [Lane],
    timeout: Duration,
    interrupt: &Interrupt,
) -> Result<Parallel> {
    let s = escape_identifier(schema);
    let begun = begin(session, &s, wanted, open.len(), timeout).inspect_err(|_| {
        // Its key may be held already.
        let _ = session.batch_execute("rollback; select pg_catalog.pg_advisory_unlock_all()");
    })?;
    fail_at::passing("rollback.begun");
    let decided = carry_out(session, schema, wanted, lanes, open, timeout, interrupt, &begun);
    for lane in &mut *open {
        // What is not prepared is taken back; one whose session is gone has been already.
        let _ = lane
            .session
            .batch_execute("rollback; select pg_catalog.pg_advisory_unlock_all()");
    }
    let failure = decided.err().map(|failure| failure.unless_interrupted(interrupt));
    if failure.is_some() {
        let _ = session.batch_execute("rollback");
    }
    // Whatever the program believes, the registry says whether it was decided: an answer to the commit may have been lost.
    let ended = match recover::end(session, schema, begun.id, false) {
        // This session is gone, and perhaps nobody had told us yet.
        Err(error) if error.kind() == Kind::Unreachable => session
            .reconnect()
            .and_then(|()| recover::end(session, schema, begun.id, false)),
        ended => ended,
    };
    match (failure, ended) {
        (_, Ok((Some(state), _))) if state == "DONE" => Ok(Parallel::Done(report(
            &mut **session,
            &s,
            wanted,
            begun.id,
            open.len(),
        )?)),
        (_, Ok((Some(state), _))) if state == "BROKEN" => Err(recover::torn(session, schema, begun.id)?),
        (Some(failure), Ok(_)) if failure.several => Ok(Parallel::NotInSeveral(failure.error)),
        (Some(failure), Ok(_)) => Err(failure.error),
        (None, Ok(_)) => Err(Error::message(Kind::Failed, "it was decided, and is not on record")),
        (failure, Err(error)) => {
            let hint = match error.kind() {
                Kind::Unreachable => "when the server is there again: `emaj rollback --recover`",
                _ => "`emaj rollback --recover` ends it",
            };
            match failure {
                Some(failure) => Err(failure.error.hint(hint)),
                None => Err(Error::message(
                    Kind::PartlyDone,
                    format!(
                        "rollback {} is decided, but not committed in all its sessions: {error}",
                        begun.id
                    ),
                )
                .hint(hint)),
            }
        }
    }
}

/// Notes in the registry that it begins, so that what is prepared can be told from other people's.
fn begin(session: &mut Session, s: &str, wanted: &Wanted, lanes: usize, timeout: Duration) -> Result<Begun> {
    session.batch_execute(&begin_with(timeout))?;
    let row = session.query_one(
        &format!("select par_id, par_key, par_names from {s}.emaj_parallel_begin($1, $2, $3, $4, $5)"),
        &[
            &wanted.groups,
            &wanted.mark,
            &wanted.logged,
            &i32::try_from(lanes).unwrap_or(i32::MAX),
            &wanted.partial,
        ],
    )?;
    session.batch_execute("commit").doing("note that the rollback begins")?;
    Ok(Begun {
        id: row.get(0),
        key: row.get(1),
        names: row.get(2),
    })
}

/// Goes all the way to the decision.
#[expect(clippy::too_many_arguments, reason = "one road, told in one place")]
fn carry_out(
    session: &mut Session,
    schema: &str,
    wanted: &Wanted,
    lanes: &Lanes,
    open: &mut [Lane],
    timeout: Duration,
    interrupt: &Interrupt,
    begun: &Begun,
) -> Result<(), Failure> {
    let s = escape_identifier(schema);
    let now = work::read(&mut **session, schema, &wanted.groups, &[])?;
    lock(open, &s, wanted, &now, timeout, begun)?;
    fail_at::passing("rollback.locked");
    (|| {
        session.batch_execute(&begin_with(timeout))?;
        // Under the locks: nobody can tie two of the tables together any more, or bring another one in.
        if !lanes.fit(&work::read(&mut **session, schema, &wanted.groups, &[])?) {
            return Err(Error::message(
                Kind::Refused,
                "a group, or a foreign key between the tables, was changed while the rollback waited for its locks",
            )
            .hint("run it again")
            .into());
        }
        let rels: Vec<i64> = now.tables.iter().map(|table| table.rel).collect();
        let start = session.query_one(
            &format!("select start_around, start_left from {s}.emaj_parallel_start($1, $2)"),
            &[&begun.id, &rels],
        )?;
        let (around, left): (Option<String>, Vec<i64>) = (start.get(0), start.get(1));
        let shares = all(open, &s, wanted, begun, &left, interrupt)?;
        let txids: Vec<i64> = shares.iter().map(|share| share.txid).collect();
        let changed: i32 = shares.iter().map(|share| share.changed).sum();
        let mut strategies: Vec<&str> = shares.iter().filter_map(|share| share.strategy.as_deref()).collect();
        strategies.sort_unstable();
        strategies.dedup();
        let strategy = (!strategies.is_empty()).then(|| strategies.join(", "));
        session.execute(
            &format!("select {s}.emaj_parallel_end($1, $2, $3, $4, $5, $6)"),
            &[&begun.id, &around, &changed, &strategy, &txids, &wanted.stop],
        )?;
        comment(&mut **session, &s, wanted, begun.id)?;
        interrupt.check()?;
        fail_at::passing("rollback.undecided");
        session.batch_execute("commit").doing("commit the decision")?;
        fail_at::passing("rollback.decided");
        Ok(())
    })()
    .map_err(Failure::under_locks)
}

/// Has the lanes lock their tables, one lane after the other, all within the time of one try. While some are held the next is waited for less
/// than half of the time after which the server looks for a deadlock: then all lanes let go, and begin with that one (as `_lock` does in one session).
/// The application may lock them in any other order, and would wait for a session that waits for it.
fn lock(open: &mut [Lane], s: &str, wanted: &Wanted, work: &Work, timeout: Duration, begun: &Begun) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let patience = patience(&mut open[0].session)?;
    for lane in &mut *open {
        lane.session
            .execute("select pg_catalog.pg_advisory_lock_shared($1)", &[&begun.key])
            .doing("take the lock of the rollback")?;
    }
    let mut turns = turns(open, work);
    loop {
        for lane in &mut *open {
            lane.session.batch_execute(&begin_with(timeout))?;
        }
        match lock_in_turn(open, s, wanted, &turns, deadline, patience) {
            Ok(()) => break,
            Err((at, error)) if at > 0 && error.kind() == Kind::Locked && Instant::now() < deadline => {
                turns[..=at].rotate_right(1);
                for lane in &mut *open {
                    lane.session.batch_execute("rollback").doing("let go of the locks")?;
                }
            }
            Err((_, error)) => return Err(error),
        }
    }
    for lane in &mut *open {
        lane.session
            .batch_execute(&pg::limits(timeout))
            .doing("set the limits of a session")?;
    }
    Ok(())
}

/// Returns which lane is to lock which tables: each its own at once, so that one that is long at it has the others wait for it alone.
fn turns(open: &[Lane], work: &Work) -> Vec<(usize, Vec<i64>)> {
    let own = |lane: &Lane| {
        let tables = work.tables.iter().map(|table| table.rel);
        // (Of a new table that no lane has, the plan will be found not to fit.)
        tables.filter(|rel| lane.rels.contains(rel)).collect::<Vec<_>>()
    };
    open.iter().map(own).enumerate().collect()
}

/// Takes the locks of all turns; the error comes with the turn that could not have its own.
fn lock_in_turn(
    open: &mut [Lane],
    s: &str,
    wanted: &Wanted,
    turns: &[(usize, Vec<i64>)],
    deadline: Instant,
    patience: Duration,
) -> Result<(), (usize, Error)> {
    let mut held = None;
    for (at, (lane, rels)) in turns.iter().enumerate() {
        let until = held.map_or(deadline, |held: Instant| deadline.min(held + patience));
        let session = &mut open[*lane].session;
        let locked = session
            .batch_execute(&pg::limits(until.saturating_duration_since(Instant::now())))
            .and_then(|()| {
                session.execute(
                    &format!("select {s}.emaj_parallel_lock($1, $2)"),
                    &[&wanted.groups, &rels],
                )
            });
        locked.map_err(|error| (at, error.into()))?;
        held.get_or_insert_with(Instant::now);
    }
    Ok(())
}

/// Returns how long a session waits for a lock while another one of the rollback holds some.
fn patience(session: &mut Session) -> Result<Duration> {
    let row = session
        .query_one(
            "select setting::bigint * 2 / 5 from pg_catalog.pg_settings where name = 'deadlock_timeout'",
            &[],
        )
        .doing("read deadlock_timeout")?;
    Ok(Duration::from_millis(row.get::<_, i64>(0).unsigned_abs()))
}

/// Has all lanes do their tables and prepare, at the same time; returns what each did, in their order. The first that fails has the others cancelled.
fn all(
    open: &mut [Lane],
    s: &str,
    wanted: &Wanted,
    begun: &Begun,
    left: &[i64],
    interrupt: &Interrupt,
) -> Result<Vec<Share>, Failure> {
    let cancellers: Vec<_> = open.iter().map(|lane| lane.session.canceller()).collect();
    let mut busy = vec![true; open.len()];
    let mut shares = Vec::with_capacity(open.len());
    let mut failed: Option<Failure> = None;
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        for (at, lane) in open.iter_mut().enumerate() {
            let sender = sender.clone();
            scope.spawn(move || {
                let done = one(lane, s, wanted, begun.id, left, &begun.names[at]);
                // Nobody listens only when the other side has panicked.
                let _ = sender.send((at, done));
            });
        }
        drop(sender);
        loop {
            match receiver.recv_timeout(PACE) {
                Ok((at, done)) => {
                    busy[at] = false;
                    match done {
                        Ok(share) => shares.push((at, share)),
                        Err(error) => drop(failed.get_or_insert(error)),
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let (None, Err(error)) = (&failed, interrupt.check()) {
                failed = Some(error.into());
            }
            if failed.is_some() {
                for (canceller, _) in cancellers.iter().zip(&busy).filter(|(_, busy)| **busy) {
                    let _ = canceller.cancel();
                }
            }
        }
    });
    match failed {
        Some(error) => Err(error),
        None => {
            shares.sort_by_key(|(at, _)| *at);
            Ok(shares.into_iter().map(|(_, share)| share).collect())
        }
    }
}

fn one(lane: &mut Lane, s: &str, wanted: &Wanted, id: i64, left: &[i64], name: &str) -> Result<Share, Failure> {
    let row = lane.session.query_one(
        &format!("select lane_txid, lane_changed, lane_strategy from {s}.emaj_parallel_lane($1, $2, $3, $4)"),
        &[&id, &lane.rels, &wanted.stop, &left],
    )?;
    fail_at::passing("rollback.worked");
    lane.session
        .batch_execute(&format!("prepare transaction {}", escape_literal(name)))
        .map_err(|error| {
            // (By its state: the words are those of the server's language.)
            let cancelled = error.code() == Some(&SqlState::QUERY_CANCELED);
            let error = classify(error, "prepare the transaction of a session");
            let several = !cancelled && error.kind() != Kind::Unreachable;
            Failure { error, several }
        })?;
    fail_at::passing("rollback.prepared");
    Ok(Share {
        txid: row.get(0),
        changed: row.get(1),
        strategy: row.get(2),
    })
}

fn begin_with(timeout: Duration) -> String {
    format!("begin isolation level read committed; {}", pg::limits(timeout))
}
