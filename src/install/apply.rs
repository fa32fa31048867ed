//! Looks at the database and carries a plan out: the one part of `install` that is not pure.
//!
//! All of it happens in one transaction under an advisory lock, but for steps that have one of their own before it (`portions`). Locks on the
//! application's tables are taken together, late, and within the lock time-out; when they cannot be had, the whole transaction is taken back and
//! tried again until the wait is over. A Ctrl-C takes it back too.

use std::time::Duration;

use postgres::error::SqlState;
use postgres::{GenericClient, IsolationLevel, Transaction};
use postgres_protocol::escape::escape_identifier;

use super::plan::{ONE_AT_A_TIME, REVIEW, Statement, settings};
use super::{Plan, room};
use crate::catalog::{self, Catalog};
use crate::errors::{Error, Kind, Result, UNCHANGED};
use crate::journal::{self, Journal, UnfinishedRollback};
use crate::manifest::{KeepMarks, Manifest};
use crate::pg::{self, Interrupt, Locking, Lossy, Session, Span};
use crate::words::count_are;

/// Reads catalogue and registry in one snapshot.
///
/// # Errors
/// Whatever the server answers; an interval of the manifest that PostgreSQL does not understand.
pub fn look(session: &mut Session, manifest: &Manifest) -> Result<(Catalog, Option<Journal>)> {
    pg::read_again(|| one_look(session, manifest))
}

fn one_look(session: &mut Session, manifest: &Manifest) -> Result<(Catalog, Option<Journal>)> {
    let mut transaction = session
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()?;
    transaction.batch_execute(&settings(Duration::from_secs(5)))?;
    let found = read(&mut transaction, manifest)?;
    transaction.rollback()?;
    Ok(found)
}

fn read(client: &mut Transaction<'_>, manifest: &Manifest) -> Result<(Catalog, Option<Journal>)> {
    act_as_owner(client, &manifest.schema)?;
    let roles: Vec<&str> = manifest.roles.names().collect();
    let mut catalog = catalog::read(client, &manifest.schema, &roles)?;
    let mut journal = if catalog.server.schema_extension.is_some() {
        None
    } else {
        journal::read(client, &manifest.schema).map_err(|error| match catalog.server.owns_schema {
            false if error.kind() == Kind::Denied => error.hint(format!(
                "who owns emaj's schema may do this: {}",
                catalog.server.as_owner()
            )),
            _ => error,
        })?
    };
    let written = manifest
        .groups
        .iter()
        .flat_map(|group| {
            let time = match &group.keep_marks {
                Some(KeepMarks::Time(time)) => Some(time),
                _ => None,
            };
            group.retention.iter().chain(time)
        })
        .chain(&manifest.history.retention)
        .chain(manifest.sinks.iter().filter_map(|sink| sink.max_lag.as_ref()));
    for text in written {
        let interval = client
            .query_one(
                &format!(
                    "select {} from (select $1::text::interval) as read(i)",
                    Span::columns("i")
                ),
                &[&text.value],
            )
            .map_err(|error| {
                let place = &text.place;
                Error::from(error).context(format!(
                    "{}:{}:{}: this is no interval",
                    place.file().display(),
                    place.line(),
                    place.column()
                ))
            })?;
        catalog
            .intervals
            .extend(Span::get(&interval, 0).map(|interval| (text.value.clone(), interval)));
    }
    catalog.functions = catalog::functions(client, &manifest.called())?;
    catalog.unreadable_settings = catalog::unreadable_settings(client, &manifest.settings())?;
    let queries: Vec<String> = manifest.queries().filter_map(|query| query.value.statement()).collect();
    catalog.refused_queries = catalog::refused_queries(client, &queries)?;
    if let Some(journal) = &mut journal {
        note_expiring(client, manifest, journal)?;
    }
    Ok((catalog, journal))
}

/// Counts of each group the marks that go when it keeps what the manifest says: those that `_trim` would take.
fn note_expiring(client: &mut impl GenericClient, manifest: &Manifest, journal: &mut Journal) -> Result<()> {
    let query = format!(
        "select count(*) from (
           select mark_id, mark_datetime, mark_protected, row_number() over (order by mark_id desc) as place,
                  max(mark_id) filter (where mark_state = 'ACTIVE') over () as last_active
             from {s}.emaj_mark where mark_group = $1) as m
          where mark_id < last_active and not mark_protected
            and (place > $2::integer or mark_datetime < clock_timestamp() - $3::text::interval)",
        s = escape_identifier(&manifest.schema)
    );
    for group in &manifest.groups {
        let name = &group.name.value;
        let (Some(kept), Some(known)) = (&group.keep_marks, journal.groups.get_mut(name)) else {
            continue;
        };
        let (number, time) = match kept {
            KeepMarks::Number(number) => (Some(*number), None),
            KeepMarks::Time(time) => (None, Some(&time.value)),
        };
        known.expiring = client.query_one(&query, &[name, &number, &time])?.get(0);
    }
    Ok(())
}

/// Goes on as the owner of the installation, where the connected role may: what is made then belongs to one role.
pub(super) fn act_as_owner(client: &mut impl GenericClient, schema: &str) -> Result<()> {
    let query = format!(
        "select nspowner::regrole::text from pg_catalog.pg_namespace
          where nspname = $1 and nspowner <> (select oid from pg_catalog.pg_roles where rolname = current_user) and pg_has_role(nspowner, {})",
        catalog::TO_ACT_AS
    );
    let owner = client.query_opt(&query, &[&schema])?;
    if let Some(owner) = owner {
        // regrole prints a quoted name.
        client.batch_execute(&format!("set local role {}", Lossy::get(&owner, 0)))?;
    }
    Ok(())
}

/// Makes a plan under the advisory lock, lets the caller agree to it, and carries it out; tries again while locks are missing, or
/// when groups, what they capture or the marks that are lost have become others before it had them.
///
/// `make` is called anew for each try; `agree` once for each plan that differs from the one before, and may refuse. `done` is called
/// after each statement. A step that has a transaction of its own is followed by a plan of what is left.
///
/// # Errors
/// [`Kind::Locked`] with the blocker's name when the wait is over, [`Kind::Refused`] when the plan was outdated then; [`Kind::Interrupted`]; whatever `make` and `agree` refuse; whatever
/// the server answers. Nothing was changed then, but for steps that had a transaction of their own.
pub fn apply(
    session: &mut Session,
    manifest: &Manifest,
    locking: Locking,
    make: &dyn Fn(&Catalog, Option<&Journal>) -> Result<Plan>,
    agree: &mut dyn FnMut(&Plan) -> Result<()>,
    done: &dyn Fn(),
) -> Result<Plan> {
    let interrupt = Interrupt::listen(session)?;
    let mut agreed = String::new();
    let mut taken = 0;
    loop {
        let mut agree_once = |plan: &Plan| {
            if plan.fingerprint != agreed {
                agree(plan)?;
                agreed.clone_from(&plan.fingerprint);
            }
            Ok(())
        };
        let make = |catalog: &Catalog, journal: Option<&Journal>| Ok(make(catalog, journal)?.after(taken));
        let mut outdated = false;
        let attempted = pg::retry_locked(session, locking, &mut |session| {
            interrupt.check()?;
            attempt(
                session,
                manifest,
                locking,
                &interrupt,
                &make,
                &mut agree_once,
                done,
                &mut outdated,
            )
        });
        // Nobody is in the way any more.
        let attempted = attempted.map_err(|error| match error.kind() {
            Kind::Locked if outdated => error.with_kind(Kind::Refused).hint_instead(REVIEW),
            _ => error,
        });
        let plan = attempted.map_err(|error| match taken {
            0 => interrupt.cause(error),
            _ => went_on(interrupt.cause_saying(error, STEP_UNCHANGED), taken),
        })?;
        match plan.rest() {
            None => return Ok(plan),
            Some(rest) => agreed = rest,
        }
        taken += 1;
    }
}

/// What is said of a step that failed, where others before it were committed.
const STEP_UNCHANGED: &str = "this step changed nothing";

/// Says of an error what steps before it, in transactions of their own, have done.
fn went_on(error: Error, taken: usize) -> Error {
    error
        .with_hints(|hint| hint.replace(UNCHANGED, STEP_UNCHANGED))
        .hint(format!(
            "{} done already and stay so: the same command goes on from there",
            count_are(taken, "step")
        ))
}

/// Makes a plan and carries out its first transaction. Says whether it was `outdated` when the locks were had.
#[expect(clippy::too_many_arguments, reason = "one road, told in one place")]
fn attempt(
    session: &mut Session,
    manifest: &Manifest,
    locking: Locking,
    interrupt: &Interrupt,
    make: &dyn Fn(&Catalog, Option<&Journal>) -> Result<Plan>,
    agree: &mut dyn FnMut(&Plan) -> Result<()>,
    done: &dyn Fn(),
    outdated: &mut bool,
) -> Result<Plan> {
    *outdated = false;
    let mut transaction = session
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()?;
    transaction.batch_execute(&settings(locking.timeout))?;
    transaction
        .execute(ONE_AT_A_TIME, &[])
        .map_err(|error| pg::classify(error, "wait for another `emaj install` in this database"))?;
    let (catalog, journal) = read(&mut transaction, manifest)?;
    check_rollbacks(journal.as_ref())?;
    let plan = make(&catalog, journal.as_ref())?;
    agree(&plan)?;
    let check_made = |transaction: &mut Transaction<'_>| match &journal {
        None => journal::check_made(transaction, &manifest.schema).map_err(|error| altered(error, &catalog)),
        Some(_) => Ok(()),
    };
    for statement in plan.transactions().swap_remove(0) {
        // Before anything is written there by names.
        if matches!(statement, Statement::Lock(_)) {
            check_made(&mut transaction)?;
        }
        for (doing, sql) in statement.parts() {
            transaction.batch_execute(sql).map_err(|error| {
                match (&statement, failed(error, &doing, sql, &catalog, &plan)) {
                    // It was changed while the locks were waited for: what is to be done now is for a new plan to say.
                    (Statement::Registry(_), error) if error.kind() == Kind::Refused => {
                        *outdated = true;
                        error.with_kind(Kind::Locked)
                    }
                    (_, error) => error,
                }
            })?;
        }
        done();
    }
    check_made(&mut transaction)?;
    interrupt.check()?;
    transaction.commit().map_err(|error| pg::classify(error, "commit"))?;
    Ok(plan)
}

/// Refuses while a rollback is half done. Not a matter of the plan: what it would do to that nobody can say. One that was copied or restored together
/// with the installation is nobody's any more.
fn check_rollbacks(journal: Option<&Journal>) -> Result<()> {
    let at_home = journal.filter(|journal| journal.astray.is_none());
    let mut rollbacks = at_home.into_iter().flat_map(|journal| &journal.rollbacks);
    match rollbacks.find_map(UnfinishedRollback::trouble) {
        Some((sentence, next)) => Err(Error::message(Kind::Refused, sentence).hint(next)),
        None => Ok(()),
    }
}

/// What a statement of the plan failed with, and what to do about it. A lock that is missing is no failure yet: it is tried again.
fn failed(error: postgres::Error, doing: &str, sql: &str, catalog: &Catalog, plan: &Plan) -> Error {
    let forbidden = forbidden(&error, catalog).or_else(|| full(&error, catalog, plan));
    let blocked = error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST);
    let failed = pg::classify_in(error, doing, sql);
    match failed.kind() {
        // What `drop … cascade`, the server's own advice, would take away is somebody's work.
        _ if blocked => failed.hint_instead(format!(
            "{UNCHANGED}; drop what depends on it, try again, and make it anew"
        )),
        Kind::Failed | Kind::Denied => {
            let failed = forbidden.into_iter().fold(failed, Error::hint);
            failed.hint(format!(
                "{UNCHANGED}; with `--dry-run -o sql` it shows every statement, in its place"
            ))
        }
        _ => failed,
    }
}

/// What a registry was refused for that is another than the one that was written: nothing but an event trigger alters it meanwhile.
fn altered(error: Error, catalog: &Catalog) -> Error {
    let triggers: Vec<&str> = catalog
        .event_triggers
        .iter()
        .map(|trigger| trigger.name.as_str())
        .collect();
    match error.kind() {
        Kind::Refused if !triggers.is_empty() => error.hint(format!(
            "an event trigger alters new tables ({}): have it leave emaj's schema alone, or switch it off meanwhile, `alter event trigger … disable`; \
             {UNCHANGED}",
            triggers.join(", ")
        )),
        _ => error,
    }
}

/// Returns what to do when the server's lock table is full.
fn full(error: &postgres::Error, catalog: &Catalog, plan: &Plan) -> Option<String> {
    // (The name of the setting stands in the server's own hint, in every language.)
    let said = error.as_db_error()?.hint()?;
    said.contains("max_locks_per_transaction")
        .then(|| room::advice(&catalog.server, plan.locks(), plan.with_fewer()))
}

/// Returns what to do about an event trigger whose function the error comes from.
fn forbidden(error: &postgres::Error, catalog: &Catalog) -> Option<String> {
    let context = error.as_db_error()?.where_()?;
    let trigger = catalog
        .event_triggers
        .iter()
        .find(|trigger| context.contains(&trigger.function))?;
    Some(format!(
        "event trigger {} of role {} forbids it (function {}): have it let {} pass, or switch it off meanwhile, `alter event trigger {0} disable`",
        trigger.name, trigger.owner, trigger.function, catalog.server.definer
    ))
}
