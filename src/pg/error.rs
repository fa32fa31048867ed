//! Turns what the server or the connection says into [`Error`]: the SQLSTATE decides the kind.
//!
//! Called wherever a statement may fail: `….doing("set the mark")?`, or a bare `?` where the database says a sentence of its own. The server's
//! own hint becomes ours. The errors of opening a connection are put together in `search`.

use std::fmt;

use postgres::error::{DbError, ErrorPosition, SqlState};

use crate::errors::{Error, Kind};

/// What the server said, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The five characters of the SQLSTATE.
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// The call stack of PL/pgSQL, innermost first.
    pub context: Option<String>,
    /// The character of the statement the error is about, counted from 1.
    pub position: Option<u32>,
    /// The statement a function ran, and the character in it, when the error is there.
    pub inner_statement: Option<(u32, String)>,
}

impl ServerError {
    /// Returns what the server said, if it was the server that failed.
    pub fn of(error: &postgres::Error) -> Option<ServerError> {
        error.as_db_error().map(ServerError::from)
    }

    /// Returns whether the detail is the content of a row, which nobody is to read here: a null where none may be, a check
    /// constraint, a view's check option.
    fn tells_a_row(&self) -> bool {
        ["23502", "23514", "44000"].contains(&self.code.as_str())
    }
}

impl From<&DbError> for ServerError {
    fn from(error: &DbError) -> Self {
        let (position, inner_statement) = match error.position() {
            Some(ErrorPosition::Original(at)) => (Some(*at), None),
            Some(ErrorPosition::Internal { position, query }) => (None, Some((*position, query.clone()))),
            None => (None, None),
        };
        let own = |text: Option<&str>| text.map(str::to_owned);
        ServerError {
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: own(error.detail()),
            hint: own(error.hint()),
            context: own(error.where_()),
            position,
            inner_statement,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(detail) = self.detail.as_ref().filter(|_| !self.tells_a_row()) {
            write!(f, " ({detail})")?;
        }
        // (Whose right is missing stands in the message; the statement may be none that the user knows.)
        if let Some(at) = self.position.filter(|_| self.code != "42501") {
            write!(f, " at character {at}")?;
        }
        if let Some((at, statement)) = &self.inner_statement {
            write!(f, " {}", place(statement, *at))?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

/// Makes an [`Error`] out of a failed call; `doing` completes "failed to …".
pub fn classify(error: postgres::Error, doing: &str) -> Error {
    Error::from(error).context(format!("failed to {doing}"))
}

/// Like [`classify`], and points into the statement `sql` that failed.
pub fn classify_in(error: postgres::Error, doing: &str, sql: &str) -> Error {
    let Some((mut server, at)) = ServerError::of(&error).and_then(|server| server.position.map(|at| (server, at)))
    else {
        return classify(error, doing);
    };
    // The place replaces the bare number.
    server.position = None;
    server.message = format!("{server} {}", place(sql, at));
    (server.detail, server.inner_statement) = (None, None);
    let hint = server.hint.clone();
    let made = Error::new(kind(&error), server).context(format!("failed to {doing}"));
    with_hint(made, hint)
}

/// Names what a call attempted, should it fail.
pub trait Doing<T> {
    /// See [`classify`].
    ///
    /// # Errors
    /// That of the call.
    fn doing(self, what: &str) -> Result<T, Error>;

    /// See [`classify_in`]: for a statement that was rendered.
    ///
    /// # Errors
    /// That of the call.
    fn doing_in(self, what: &str, sql: &str) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, postgres::Error> {
    fn doing(self, what: &str) -> Result<T, Error> {
        self.map_err(|error| classify(error, what))
    }

    fn doing_in(self, what: &str, sql: &str) -> Result<T, Error> {
        self.map_err(|error| classify_in(error, what, sql))
    }
}

/// Returns where a character of a statement is: "at line 2, column 8: `from nowhere`".
fn place(sql: &str, at: u32) -> String {
    let at = usize::try_from(at).unwrap_or(usize::MAX).saturating_sub(1);
    let before: String = sql.chars().take(at).collect();
    let line = before.matches('\n').count();
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let text = sql.lines().nth(line).unwrap_or_default().trim();
    format!("at line {}, column {column}: `{text}`", line + 1)
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Self {
        let kind = kind(&error);
        match ServerError::of(&error) {
            Some(server) => {
                let hint = server.hint.clone().or_else(|| own_hint(&server).map(str::to_owned));
                with_hint(Error::new(kind, server), hint)
            }
            None => Error::new(kind, error),
        }
    }
}

const NOT_WRITABLE: &str = "this server is a standby, or the session is read-only: connect to the primary (`target_session_attrs=read-write`), \
                            and look at `default_transaction_read_only`";

/// Makes an [`Error`] of the failed beginning of a transaction that writes: the only thing a server does not support in that is to write on a standby.
pub fn not_begun(error: postgres::Error) -> Error {
    let standby = error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED);
    let error = classify(error, "begin a transaction that writes");
    with_hint(error, standby.then(|| NOT_WRITABLE.to_owned()))
}

fn with_hint(error: Error, hint: Option<String>) -> Error {
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Tells whether rows were being put back: by a rollback, or a revert.
fn is_of_a_rollback(context: Option<&str>) -> bool {
    context.is_some_and(|context| {
        ["._rollback", "._revert"]
            .iter()
            .any(|function| context.contains(function))
    })
}

/// Returns what to do where the server has no hint of its own.
fn own_hint(server: &ServerError) -> Option<&'static str> {
    match server.code.as_str() {
        "25006" => Some(NOT_WRITABLE),
        "23001" | "23503" => Some(
            "rows of a table outside the group stand in the way: take that table into the group, or deal with its rows first; where the foreign key came \
             after the mark, take that out first, or choose a later mark; nothing was changed",
        ),
        // (Of the catalogue too.)
        "23505" | "23P01" if !is_of_a_rollback(server.context.as_deref()) => None,
        "23502" | "23505" | "23514" | "23P01" => Some(
            "a row that is to be written does not fit; where it was there before the constraint, take that out first, or choose a later mark; \
             nothing was changed",
        ),
        // (Only the words, which are in the server's language, tell the two apart.)
        "57014" => Some(
            "somebody cancelled it, or `statement_timeout` of the role, the database or PGOPTIONS ended it (`PGOPTIONS='-c statement_timeout=0'` lifts it for one command); \
             nothing of the statement was done",
        ),
        "25P04" => Some(
            "`transaction_timeout` of the role, the database or PGOPTIONS ended it; nothing of the transaction was done",
        ),
        _ => None,
    }
}

/// Returns the kind of a failure.
pub(super) fn kind(error: &postgres::Error) -> Kind {
    match error.as_db_error() {
        // A constraint that holds what is put back; nothing was changed.
        Some(server) if server.code().code().starts_with("23") && is_of_a_rollback(server.where_()) => Kind::Refused,
        Some(server) => kind_of_state(server.code()),
        None if error.is_closed() => Kind::Unreachable,
        // The crate keeps its own kinds private; its texts are all there is to tell them apart.
        None => match error.to_string().as_str() {
            "error communicating with the server" | "error connecting to server" => Kind::Unreachable,
            "error performing TLS handshake" | "timeout waiting for server" => Kind::Unreachable,
            "authentication error" => Kind::Denied,
            _ if lacks_password(error) => Kind::Denied,
            _ => Kind::Failed,
        },
    }
}

/// Returns whether the server wanted a password and there was none.
pub(super) fn lacks_password(error: &postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.to_string() == "password missing")
}

fn kind_of_state(state: &SqlState) -> Kind {
    match state.code() {
        code if code.starts_with("28") => Kind::Denied,
        "42501" => Kind::Denied,
        // Raised by emaj's own functions when they refuse; nothing was changed.
        "EJ001" => Kind::Refused,
        // Lock not available, deadlock.
        "55P03" | "40P01" => Kind::Locked,
        code if code.starts_with("08") => Kind::Unreachable,
        // The server stops, starts, crashed; the database is gone; the session was idle for too long.
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => Kind::Unreachable,
        // No such database, too many connections.
        "3D000" | "53300" => Kind::Unreachable,
        _ => Kind::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_decides_the_kind() {
        for (state, expected) in [
            ("28P01", Kind::Denied),
            ("28000", Kind::Denied),
            ("42501", Kind::Denied),
            ("55P03", Kind::Locked),
            ("40P01", Kind::Locked),
            ("57014", Kind::Failed),
            ("57P01", Kind::Unreachable),
            ("57P03", Kind::Unreachable),
            ("08006", Kind::Unreachable),
            ("3D000", Kind::Unreachable),
            ("53300", Kind::Unreachable),
            ("P0001", Kind::Failed),
            ("23505", Kind::Failed),
        ] {
            assert_eq!(kind_of_state(&SqlState::from_code(state)), expected, "{state}");
        }
    }

    #[test]
    fn the_content_of_a_row_is_not_told() {
        let said = |code: &str| {
            let error = ServerError {
                code: code.to_owned(),
                message: "the message".to_owned(),
                detail: Some("Failing row contains (1, S3cr3t).".to_owned()),
                hint: None,
                context: None,
                position: None,
                inner_statement: None,
            };
            error.to_string()
        };
        for code in ["23502", "23514", "44000"] {
            assert_eq!(said(code), "the message");
        }
        assert!(
            said("23505").contains("S3cr3t"),
            "which key is there twice has to be told"
        );
    }

    #[test]
    fn a_place_is_a_line_and_a_column() {
        let sql = "select é,\n       x\nfrom nowhere;";
        assert_eq!(place(sql, 8), "at line 1, column 8: `select é,`");
        assert_eq!(place(sql, 18), "at line 2, column 8: `x`");
        assert_eq!(place(sql, 25), "at line 3, column 6: `from nowhere;`");
        assert_eq!(place(sql, 4000), "at line 3, column 14: `from nowhere;`");
    }
}
