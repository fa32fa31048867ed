//! Finds a server that answers: target after target, in the order and as often as libpq would.
//!
//! Called by `session`; a single target is tried by `attempt`. What failed on the way is put together here into the one
//! error that a user sees.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;

use postgres::error::SqlState;
use postgres::{Client, SimpleQueryMessage};

use crate::errors::{Error, Kind, Result};

use super::attempt::{self, Cause, Failure, NoticeHandler, Opened};
use super::prompt::{self, Prompt, WAYS};
use super::settings::Settings;
use super::target::Target;
use super::values::SessionAttrs;

/// What to do where the server has no room for one connection more.
const NO_ROOM: &str = "`max_connections`, or the `connection limit` of the role or the database, allows more; a rollback needs the fewest with `--jobs 1`";

/// Opens a connection, and asks for a password if it must. Also returns the settings with that password.
pub(super) fn connect(settings: &Settings, prompt: Prompt, notices: &NoticeHandler) -> Result<(Settings, Opened)> {
    let mut settings = match prompt {
        Prompt::Always => settings.with_password(prompt::ask(settings.user())?),
        Prompt::WhenWanted | Prompt::Never => settings.clone(),
    };
    let mut failures = match search(&settings, notices) {
        Ok(opened) => return Ok((settings, opened)),
        Err(failures) => failures,
    };
    let lacks_password = failures.last().is_some_and(|last| last.cause.lacks_password());
    if lacks_password && prompt == Prompt::WhenWanted && prompt::has_terminal() {
        settings = settings.with_password(prompt::ask(settings.user())?);
        failures = match search(&settings, notices) {
            Ok(opened) => return Ok((settings, opened)),
            Err(failures) => failures,
        };
    }
    Err(failed(&settings, failures))
}

/// Tries the targets in turn, and with `prefer-standby` a second time without that wish.
fn search(settings: &Settings, notices: &NoticeHandler) -> Result<Opened, Vec<Failure>> {
    let rounds: &[SessionAttrs] = match settings.session_attrs {
        SessionAttrs::PreferStandby => &[SessionAttrs::Standby, SessionAttrs::Any],
        ref attrs => std::slice::from_ref(attrs),
    };
    let mut targets: Vec<&Target> = settings.targets.iter().collect();
    if settings.shuffle {
        shuffle(&mut targets);
    }
    let mut failures = Vec::new();
    for attrs in rounds {
        failures.clear();
        for target in &targets {
            let found = attempt::open(settings, target, notices).and_then(|mut opened| {
                let wrong = |cause| {
                    vec![Failure {
                        at: target.to_string(),
                        cause,
                    }]
                };
                check_kind(&mut opened.client, *attrs).map_err(wrong)?;
                Ok(opened)
            });
            match found {
                Ok(opened) => return Ok(opened),
                Err(more) => failures.extend(more),
            }
            if failures.last().is_some_and(|last| !last.cause.leads_on()) {
                return Err(failures);
            }
        }
    }
    Err(failures)
}

/// Checks that the server is of the kind that is wanted.
fn check_kind(client: &mut Client, attrs: SessionAttrs) -> Result<(), Cause> {
    if attrs == SessionAttrs::Any {
        return Ok(());
    }
    let question = "select pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only') operator(pg_catalog.=) 'on'";
    let answers = client.simple_query(question).map_err(Cause::Server)?;
    let row = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let is_true = |column| row.and_then(|row| row.get(column)) == Some("t");
    let (standby, read_only) = (is_true(0), is_true(0) || is_true(1));
    let problem = match attrs {
        SessionAttrs::ReadWrite if read_only => "the session is read-only",
        SessionAttrs::ReadOnly if !read_only => "the session is not read-only",
        SessionAttrs::Primary if standby => "the server is in hot standby mode",
        SessionAttrs::Standby if !standby => "the server is not in hot standby mode",
        _ => return Ok(()),
    };
    Err(Cause::WrongKind(problem))
}

/// Brings a list into random order, by the randomness that hash maps are seeded with.
pub(super) fn shuffle<T>(list: &mut [T]) {
    for end in (1..list.len()).rev() {
        let random = RandomState::new().hash_one(end) as usize;
        list.swap(end, random % (end + 1));
    }
}

/// What was tried, and why each try failed.
#[derive(Debug, thiserror::Error)]
struct NoConnection {
    to: String,
    failures: Vec<Failure>,
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to connect to `{}`", self.to)?;
        match self.failures.as_slice() {
            [only] => write!(f, ": {}", only.cause),
            several => several
                .iter()
                .try_for_each(|failure| write!(f, "\n  {}: {}", failure.at, failure.cause)),
        }
    }
}

fn failed(settings: &Settings, failures: Vec<Failure>) -> Error {
    let Some(last) = failures.last() else {
        return Error::message(
            Kind::Unreachable,
            format!("failed to connect to `{}`: it has no address", settings.describe()),
        );
    };
    let hint = hint(settings, &last.cause);
    let error = Error::new(
        last.cause.kind(),
        NoConnection {
            to: settings.describe(),
            failures,
        },
    );
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn hint(settings: &Settings, cause: &Cause) -> Option<String> {
    let Cause::Server(error) = cause else { return None };
    if cause.lacks_password() {
        return Some(WAYS.to_owned());
    }
    match error.as_db_error() {
        Some(server) if server.code().code() == "28P01" => {
            // With several targets it is not known here which one's password was refused.
            let [target] = settings.targets.as_slice() else {
                return None;
            };
            settings
                .password_for(target)
                .1
                .map(|file| format!("the password is from `{}`", file.display()))
        }
        Some(server) => match *server.code() {
            SqlState::TOO_MANY_CONNECTIONS => Some(NO_ROOM.to_owned()),
            _ => server.hint().map(str::to_owned),
        },
        None if error.to_string() == "error connecting to server" => {
            Some("is the server running there, and does it accept connections?".to_owned())
        }
        None => None,
    }
}
