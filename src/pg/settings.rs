//! The decided settings of a connection: where to, as whom, and how.
//!
//! Made by `resolve`, a value like any other: it can be cloned, pointed at another database, shown without its secrets
//! and handed to a child process. `session` opens the connection.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postgres::config::{ChannelBinding, LoadBalanceHosts};
use secrecy::{ExposeSecret, SecretString};

use crate::errors::{Error, Kind, Result};

use super::environment::Environment;
use super::keywords::Words;
use super::passfile::{self, Wanted};
use super::resolve::wrong;
use super::target::{self, Target};
use super::tls::TlsSettings;
use super::values::{self, BadValue, SessionAttrs};

/// Everything that decides a connection.
#[derive(Clone)]
pub struct Settings {
    pub(super) targets: Vec<Target>,
    pub(super) user: String,
    pub(super) dbname: String,
    /// Given outright, or typed; a password file is asked for each target.
    pub(super) password: Option<SecretString>,
    pub(super) passfile: Option<PathBuf>,
    passfile_text: Option<SecretString>,
    pub(super) tls: TlsSettings,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) options: String,
    pub(super) application_name: String,
    pub(super) session_attrs: SessionAttrs,
    pub(super) shuffle: bool,
    pub(super) channel_binding: ChannelBinding,
    pub(super) keepalive: Keepalive,
    socket_dir: Option<PathBuf>,
    warnings: Vec<String>,
    words: Words,
}

/// How a silent TCP connection is kept alive, and when it is given up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keepalive {
    pub(super) on: bool,
    pub(super) idle: Option<u32>,
    pub(super) interval: Option<u32>,
    pub(super) count: Option<u32>,
    pub(super) user_timeout_ms: Option<u32>,
}

impl Settings {
    /// Reads the words; the error says which place a wrong value came from.
    pub(super) fn new(words: Words, env: &Environment) -> Result<Settings> {
        let user = words.filled("user").or(env.os_user.as_deref()).ok_or_else(|| {
            Error::message(Kind::Usage, "no user name is given, and the operating system has none")
                .hint("give one with `--user`, `EMAJ_USER` or `PGUSER`")
        })?;
        let list = |keyword| words.get(keyword).unwrap_or_default();
        let targets = target::targets(list("host"), list("hostaddr"), list("port"), env)
            .map_err(|(keyword, bad)| bad_value(&words, keyword, bad))?;
        let number = |keyword| parsed(&words, keyword, values::positive).map(Option::flatten);
        let passfile = words.filled("passfile").map(PathBuf::from);
        let mut settings = Settings {
            targets,
            user: user.to_owned(),
            dbname: words.filled("dbname").unwrap_or(user).to_owned(),
            password: words.filled("password").map(SecretString::from),
            passfile: passfile.or_else(|| env.home.as_ref().map(|home| home.join(".pgpass"))),
            passfile_text: None,
            tls: TlsSettings::new(&words, env)?,
            connect_timeout: parsed_if_filled(&words, "connect_timeout", values::timeout)?.flatten(),
            options: options(&words, env),
            application_name: ["application_name", "fallback_application_name"]
                .into_iter()
                .find_map(|keyword| words.filled(keyword))
                .unwrap_or("emaj")
                .to_owned(),
            session_attrs: parsed(&words, "target_session_attrs", values::session_attrs)?.unwrap_or(SessionAttrs::Any),
            shuffle: parsed(&words, "load_balance_hosts", load_balance)? == Some(LoadBalanceHosts::Random),
            channel_binding: parsed(&words, "channel_binding", channel_binding)?.unwrap_or(ChannelBinding::Prefer),
            keepalive: Keepalive {
                on: parsed(&words, "keepalives", values::integer)?.is_none_or(|on| on != 0),
                idle: number("keepalives_idle")?,
                interval: number("keepalives_interval")?,
                count: number("keepalives_count")?,
                user_timeout_ms: number("tcp_user_timeout")?,
            },
            socket_dir: env.socket_dir.clone(),
            warnings: Vec::new(),
            words,
        };
        settings.read_passfile();
        Ok(settings)
    }

    fn read_passfile(&mut self) {
        let Some(file) = self.passfile.as_deref().filter(|_| self.password.is_none()) else {
            return;
        };
        match passfile::read(file) {
            Ok(text) => self.passfile_text = text,
            Err(warning) => self.warnings.push(warning),
        }
    }

    /// Returns the password for one target, and the file it is from if it is from one.
    pub(super) fn password_for(&self, target: &Target) -> (Option<SecretString>, Option<&Path>) {
        if self.password.is_some() {
            return (self.password.clone(), None);
        }
        let host = target.passfile_name(self.socket_dir.as_deref());
        let wanted = Wanted {
            host: &host,
            port: target.port,
            dbname: &self.dbname,
            user: &self.user,
        };
        let found = self
            .passfile_text
            .as_ref()
            .and_then(|text| passfile::find(text.expose_secret(), wanted));
        match found.filter(|password| !password.expose_secret().is_empty()) {
            Some(password) => (Some(password), self.passfile.as_deref()),
            None => (None, None),
        }
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    pub fn application_name(&self) -> &str {
        &self.application_name
    }

    /// Returns what the user should be told though it stops nothing, such as a password file that others may read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns where these settings lead, `user@host:port/dbname`, without secrets.
    pub fn describe(&self) -> String {
        format!("{}@{}", self.user, self.place())
    }

    /// Returns which database this is, whoever logs in.
    pub fn place(&self) -> String {
        let targets = self.targets.iter().map(Target::to_string).collect::<Vec<_>>().join(",");
        format!("{targets}/{}", self.dbname)
    }

    /// Returns the same settings, narrowed to one server.
    pub(super) fn at(&self, target: Target) -> Settings {
        Settings {
            targets: vec![target],
            ..self.clone()
        }
    }

    /// Returns the same settings with a password.
    pub fn with_password(&self, password: SecretString) -> Settings {
        Settings {
            password: Some(password),
            ..self.clone()
        }
    }

    /// Returns the same settings under another application name.
    pub fn with_application_name(&self, name: &str) -> Settings {
        Settings {
            application_name: name.to_owned(),
            ..self.clone()
        }
    }
}

/// The options, and behind them what libpq sends for `PGDATESTYLE`, `PGTZ` and `PGGEQO`.
fn options(words: &Words, env: &Environment) -> String {
    let mut options = words.get("options").unwrap_or_default().to_owned();
    for (variable, parameter) in [("PGDATESTYLE", "datestyle"), ("PGTZ", "timezone"), ("PGGEQO", "geqo")] {
        // libpq takes the word `default` as not set.
        if let Some(value) = env.get(variable).filter(|value| !value.eq_ignore_ascii_case("default")) {
            let escaped: String = value
                .chars()
                .flat_map(|c| matches!(c, ' ' | '\\').then_some('\\').into_iter().chain([c]))
                .collect();
            options = format!("{options} -c {parameter}={escaped}");
        }
    }
    options.trim_start().to_owned()
}

fn load_balance(text: &str) -> Result<LoadBalanceHosts, BadValue> {
    values::choice(
        text,
        &[
            ("disable", LoadBalanceHosts::Disable),
            ("random", LoadBalanceHosts::Random),
        ],
    )
}

fn channel_binding(text: &str) -> Result<ChannelBinding, BadValue> {
    let list = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    values::choice(text, &list)
}

/// Reads the value of a keyword, if it is given.
pub(super) fn parsed<T>(words: &Words, keyword: &str, read: fn(&str) -> Result<T, BadValue>) -> Result<Option<T>> {
    words
        .get(keyword)
        .map(|text| read(text).map_err(|bad| bad_value(words, keyword, bad)))
        .transpose()
}

/// Reads the value of a keyword, if it is given and not empty.
pub(super) fn parsed_if_filled<T>(
    words: &Words,
    keyword: &str,
    read: fn(&str) -> Result<T, BadValue>,
) -> Result<Option<T>> {
    words.filled(keyword).map_or(Ok(None), |_| parsed(words, keyword, read))
}

pub(super) fn bad_value(words: &Words, keyword: &str, bad: impl fmt::Display) -> Error {
    match words.origin(keyword) {
        Some(origin) => wrong(origin, anyhow::anyhow!("`{keyword}` is {bad}")),
        None => Error::message(Kind::Usage, format!("`{keyword}` is {bad}")),
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("to", &self.describe())
            .field("words", &self.words)
            .finish()
    }
}
