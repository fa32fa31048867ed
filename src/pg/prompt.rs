//! Asks for a password, on a terminal only.

use std::io::IsTerminal;

use secrecy::SecretString;

use crate::errors::{Error, Kind, Result};

/// When a password may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prompt {
    /// When the server wants one and none was found (the default).
    #[default]
    WhenWanted,
    /// Never: `--no-password`.
    Never,
    /// Before the first try, whatever was found: `--password`.
    Always,
}

/// The ways to give a password without typing it.
pub(super) const WAYS: &str = "give the password in `EMAJ_PASSWORD` or `PGPASSWORD`, in `~/.pgpass` \
                               (or the file that `PGPASSFILE` names), or in a service of `~/.pg_service.conf`";

/// Returns whether there is somebody to ask.
pub(super) fn has_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for the password of `user`, without echo.
pub(super) fn ask(user: &str) -> Result<SecretString> {
    if !has_terminal() {
        return Err(Error::message(Kind::Denied, "cannot ask for a password: there is no terminal").hint(WAYS));
    }
    let typed = rpassword::prompt_password(format!("Password for user {user}: "));
    typed
        .map(SecretString::from)
        .map_err(|error| Error::new(Kind::Denied, error).context("failed to read the password"))
}
