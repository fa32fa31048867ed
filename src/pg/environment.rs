//! What the process was started with, as a value, so that resolution reads no globals.
//!
//! `main` takes [`Environment::current`] once; tests build their own. It is not a general environment: only what
//! connection settings need.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use crate::errors::{Error, Kind, Result};

/// The part of the process's surroundings that connection settings depend on.
#[derive(Clone, Default)]
pub struct Environment {
    /// The environment variables.
    pub variables: HashMap<String, String>,
    /// The home directory, where `.pgpass`, `.pg_service.conf` and `.postgresql/` are.
    pub home: Option<PathBuf>,
    /// The operating system's name of the user, the default for `user`.
    pub os_user: Option<String>,
    /// The directory of the server's socket, the default for `host`; without one it is `localhost`.
    pub socket_dir: Option<PathBuf>,
    /// Where the system-wide `pg_service.conf` is, unless `PGSYSCONFDIR` says otherwise.
    pub system_dir: PathBuf,
}

impl Environment {
    /// Reads the surroundings of this process. Fails when a variable it needs is not text.
    pub fn current() -> Result<Self> {
        let mut variables = HashMap::new();
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => _ = variables.insert(name, value),
                (Ok(name), Err(_)) if name.starts_with("PG") || name.starts_with("EMAJ_") => {
                    return Err(Error::message(
                        Kind::Usage,
                        format!("the environment variable `{name}` is not UTF-8"),
                    ));
                }
                _ => {}
            }
        }
        Ok(Environment {
            variables,
            home: std::env::home_dir().filter(|home| !home.as_os_str().is_empty()),
            os_user: whoami::username().ok().filter(|name| !name.is_empty()),
            socket_dir: default_socket_dir(),
            system_dir: default_system_dir(),
        })
    }

    /// Returns a variable, also when it is set and empty: to libpq those are two things.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

/// Debian's libpq has `/var/run/postgresql` built in, PostgreSQL's own `/tmp`.
fn default_socket_dir() -> Option<PathBuf> {
    ["/var/run/postgresql", "/tmp"]
        .into_iter()
        .map(PathBuf::from)
        .find(|dir| dir.is_dir())
}

fn default_system_dir() -> PathBuf {
    let candidates = ["/etc/postgresql-common", "/usr/local/pgsql/etc"].map(PathBuf::from);
    candidates
        .iter()
        .find(|dir| dir.is_dir())
        .unwrap_or(&candidates[0])
        .clone()
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of variables may be passwords.
        f.debug_struct("Environment")
            .field("variables", &self.variables.len())
            .field("home", &self.home)
            .field("os_user", &self.os_user)
            .field("socket_dir", &self.socket_dir)
            .field("system_dir", &self.system_dir)
            .finish()
    }
}
