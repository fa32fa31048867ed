//! An open connection that knows how it was opened.
//!
//! [`Settings::connect`] tries the servers in turn and asks for a password when it must. A [`Session`] is used like the
//! `postgres::Client` it holds; it can open a sibling to the same server, open itself anew, and cancel its statement.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use postgres::error::DbError;
use postgres::{CancelToken, Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::errors::Result;

use super::attempt::NoticeHandler;
use super::error::classify;
use super::pooler;
use super::prompt::Prompt;
use super::search;
use super::settings::Settings;

/// Names that are not qualified are PostgreSQL's own.
pub(crate) const OWN_PATH: &str = "set search_path = pg_catalog, pg_temp; set quote_all_identifiers = off";

/// Names that are not qualified go by the path of the role, for what others have written.
pub(crate) const PATH_OF_ROLE: &str = "reset search_path; reset quote_all_identifiers";

/// A message of the server that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The five characters of the SQLSTATE.
    pub code: String,
    pub message: String,
}

impl From<DbError> for Notice {
    fn from(notice: DbError) -> Self {
        Notice {
            code: notice.code().code().to_owned(),
            message: notice.message().to_owned(),
        }
    }
}

/// An open connection. Every name that is not qualified means PostgreSQL's own: nobody's function or operator that fits better is taken instead. And
/// types are called what they are called everywhere. It commits for good, also where the database does not wait for the disk.
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
    /// Fails with [`Kind::Unreachable`](crate::errors::Kind::Unreachable) when no server answers, `Kind::Denied` when the server refuses the login or wants
    /// a password nobody gave, `Kind::Usage` when a file for TLS is not fit. Must not be called inside an async runtime.
    pub fn connect(&self, prompt: Prompt) -> Result<Session> {
        self.connect_with_notices(prompt, |_| {})
    }

    /// Opens a connection like [`Settings::connect`]; `handle` is called with each notice of the server.
    pub fn connect_with_notices(
        &self,
        prompt: Prompt,
        handle: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Result<Session> {
        Session::open(
            self,
            prompt,
            Arc::new(move |notice: DbError| handle(Notice::from(notice))),
        )
    }
}

impl Session {
    fn open(settings: &Settings, prompt: Prompt, notices: NoticeHandler) -> Result<Session> {
        let (wanted, opened) = search::connect(settings, prompt, &notices)?;
        let here = wanted.at(opened.target);
        let mut session = Session {
            client: opened.client,
            wanted,
            here,
            tls: opened.tls,
            notices,
        };
        session.settle()?;
        Ok(session)
    }

    /// Sets what every session needs; refuses a connection that is not one session's alone.
    fn settle(&mut self) -> Result<()> {
        let failed = |error| classify(error, "settle the connection");
        if pooler::settle_if_direct(&mut self.client).map_err(failed)? {
            return Ok(());
        }
        let (_, mut beside) = search::connect(&self.here, Prompt::Never, &self.notices)?;
        let shared = pooler::is_shared(&mut self.client, &mut beside.client).map_err(|error| {
            classify(error, "find out for how long the pooler lends a connection")
                .hint("in session mode its pool must have room for one connection more")
        })?;
        if shared {
            return Err(pooler::shared(&self.here.describe()));
        }
        pooler::settle(&mut self.client).map_err(failed)
    }

    /// Returns the settings that lead to this very server, whatever list they were found by.
    pub fn settings(&self) -> &Settings {
        &self.here
    }

    /// Returns the settings as they were given, with the password that was typed: they lead to whichever server answers.
    pub fn wanted(&self) -> &Settings {
        &self.wanted
    }

    /// Returns whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Has names that are not qualified go by the path of the role again, for what others have written.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub fn by_path_of_role(&mut self) -> Result<()> {
        self.batch_execute(PATH_OF_ROLE)
            .map_err(|error| classify(error, "reset the search path"))
    }

    /// Has nothing end the session, or a statement of it, for the time it takes: limits of a role or a database are meant for the application. (One for transactions
    /// there is from 17 on.)
    ///
    /// # Errors
    /// Whatever the server answers.
    pub fn without_limits(&mut self) -> Result<()> {
        self.batch_execute(
            "set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0;
             select pg_catalog.set_config('transaction_timeout', '0', false)
              where pg_catalog.current_setting('transaction_timeout', true) is not null",
        )
        .map_err(|error| classify(error, "take limits of time off the session"))
    }

    /// Opens a second connection to the same server and database; no password is asked for again.
    pub fn sibling(&self) -> Result<Session> {
        Session::open(&self.here, Prompt::Never, self.notices.clone())
    }

    /// Opens the connection anew, on whichever server of the list answers now. On an error the old one stays.
    pub fn reconnect(&mut self) -> Result<()> {
        *self = Session::open(&self.wanted, Prompt::Never, self.notices.clone())?;
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
