//! An open connection that knows how it was opened.
//!
//! [`Settings::connect`] tries the servers in turn and asks for a password when it must. A [`Session`] is used like the
//! `postgres::Client` it holds; it can open a sibling to the same server, open itself anew, and cancel its statement.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use postgres::error::DbError;
use postgres::{CancelToken, Client, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::errors::{Error, Kind, Result};

use super::attempt::{self, Cause, Failure, NoticeHandler, Opened};
use super::error::classify;
use super::prompt::{self, Prompt, WAYS};
use super::settings::Settings;
use super::target::Target;
use super::values::SessionAttrs;

/// A message of the server that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// `NOTICE`, `WARNING`, `INFO`, …, in the server's language.
    pub severity: String,
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl From<DbError> for Notice {
    fn from(notice: DbError) -> Self {
        Notice {
            severity: notice.severity().to_owned(),
            code: notice.code().code().to_owned(),
            message: notice.message().to_owned(),
            detail: notice.detail().map(str::to_owned),
            hint: notice.hint().map(str::to_owned),
        }
    }
}

/// An open connection.
pub struct Session {
    client: Client,
    /// As decided, with the password that was typed, if one was.
    wanted: Settings,
    /// Narrowed to the server that answered.
    here: Settings,
    tls: Option<MakeRustlsConnect>,
    notices: NoticeHandler,
}

impl Settings {
    /// Opens a connection; notices of the server are dropped.
    ///
    /// Fails with [`Kind::Unreachable`] when no server answers, [`Kind::Denied`] when the server refuses the login or wants
    /// a password nobody gave, [`Kind::Usage`] when a file for TLS is not fit. Must not be called inside an async runtime.
    pub fn connect(&self, prompt: Prompt) -> Result<Session> {
        self.connect_with_notices(prompt, |_| {})
    }

    /// Opens a connection like [`Settings::connect`]; `handle` is called with each notice of the server.
    pub fn connect_with_notices(
        &self,
        prompt: Prompt,
        handle: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Result<Session> {
        connect(
            self,
            prompt,
            Arc::new(move |notice: DbError| handle(Notice::from(notice))),
        )
    }
}

fn connect(settings: &Settings, prompt: Prompt, notices: NoticeHandler) -> Result<Session> {
    let mut settings = match prompt {
        Prompt::Always => settings.with_password(prompt::ask(settings.user())?),
        Prompt::WhenWanted | Prompt::Never => settings.clone(),
    };
    let mut failures = match search(&settings, &notices) {
        Ok(opened) => return Ok(Session::new(settings, opened, notices)),
        Err(failures) => failures,
    };
    let lacks_password = failures.last().is_some_and(|last| last.cause.lacks_password());
    if lacks_password && prompt == Prompt::WhenWanted && prompt::has_terminal() {
        settings = settings.with_password(prompt::ask(settings.user())?);
        failures = match search(&settings, &notices) {
            Ok(opened) => return Ok(Session::new(settings, opened, notices)),
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
    let question =
        "select pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only') = 'on'";
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
        Some(server) => server.hint().map(str::to_owned),
        None if error.to_string() == "error connecting to server" => {
            Some("is the server running there, and does it accept connections?".to_owned())
        }
        None => None,
    }
}

impl Session {
    fn new(wanted: Settings, opened: Opened, notices: NoticeHandler) -> Session {
        let here = wanted.at(opened.target);
        Session {
            client: opened.client,
            wanted,
            here,
            tls: opened.tls,
            notices,
        }
    }

    /// Returns the settings that lead to this very server, whatever list they were found by.
    pub fn settings(&self) -> &Settings {
        &self.here
    }

    /// Returns whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Opens a second connection to the same server and database; no password is asked for again.
    pub fn sibling(&self) -> Result<Session> {
        connect(&self.here, Prompt::Never, self.notices.clone())
    }

    /// Opens a second connection to another database of the same server.
    pub fn sibling_in(&self, dbname: &str) -> Result<Session> {
        connect(&self.here.with_dbname(dbname), Prompt::Never, self.notices.clone())
    }

    /// Opens the connection anew, on whichever server of the list answers now. On an error the old one stays.
    pub fn reconnect(&mut self) -> Result<()> {
        *self = connect(&self.wanted, Prompt::Never, self.notices.clone())?;
        Ok(())
    }

    /// Returns what cancels the running statement of this session, from any thread.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            token: self.client.cancel_token(),
            tls: self.tls.clone(),
        }
    }

    /// Ends the connection and waits until the server knows.
    pub fn close(self) -> Result<()> {
        self.client
            .close()
            .map_err(|error| classify(error, "close the connection"))
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("to", &self.here.describe())
            .field("encrypted", &self.is_encrypted())
            .finish()
    }
}

/// Cancels the running statement of a session.
#[derive(Clone)]
pub struct Canceller {
    token: CancelToken,
    tls: Option<MakeRustlsConnect>,
}

impl Canceller {
    /// Asks the server to cancel; whether there was something to cancel, the server does not say.
    pub fn cancel(&self) -> Result<()> {
        let asked = match self.tls.clone() {
            Some(tls) => self.token.cancel_query(tls),
            None => self.token.cancel_query(NoTls),
        };
        asked.map_err(|error| classify(error, "cancel the running statement"))
    }
}
